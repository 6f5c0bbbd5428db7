//! A model of a third party: bytes that follow bytes, counted in a small text and kept in tensors of candle 0.9.
//!
//! The repository's own models stand on another candle, of a version that Cargo can't merge with this one. Both live
//! in one process, since no tensor crosses the boundary and each plugin brings its own copy of everything.

use candle_core::{Device, Tensor, D};
use plugin_api::{export_plugin, register_model, Call, Error, Finish, Model, ModelCard};
use plugin_api::{OptionScore, Part, Prompt, Reply, Result, Settings, Want};

struct Bigram {
    log_probs: Tensor, // (256 bytes before, 256 bytes after)
}

register_model!("third-party", "Byte bigrams of a text, on candle 0.9", Bigram::count, {
    text: text = "the model says what the text says, and then it says it again. ", "what the bytes are counted in";
    smoothing: number = 0.01, "added to every count, so that nothing is impossible";
});
export_plugin!();

impl Bigram {
    fn count(settings: &Settings) -> Result<Bigram> {
        let text = settings.need::<String>("text")?.into_bytes();
        let pairs = text
            .windows(2)
            .map(|pair| u32::from(pair[0]) * 256 + u32::from(pair[1]));
        let pairs = Tensor::from_iter(pairs, &Device::Cpu)?;
        let smoothing = settings.need::<f64>("smoothing")?.max(1e-6);
        let counts = Tensor::full(smoothing as f32, 256 * 256, &Device::Cpu)?;
        let counts = counts
            .index_add(&pairs, &pairs.ones_like()?.to_dtype(counts.dtype())?, 0)?
            .reshape((256, 256))?;
        let log_probs = counts.broadcast_div(&counts.sum_keepdim(D::Minus1)?)?.log()?;
        Ok(Bigram { log_probs })
    }

    fn log_likelihood(&self, before: u8, text: &[u8]) -> Result<OptionScore> {
        let mut score = OptionScore {
            bytes: text.len() as u32,
            tokens: text.len() as u32,
            ..OptionScore::default()
        };
        if !text.is_empty() {
            let previous: Vec<u32> = [before]
                .iter()
                .chain(text)
                .map(|byte| u32::from(*byte))
                .take(text.len())
                .collect();
            let next: Vec<u32> = text.iter().map(|byte| u32::from(*byte)).collect();
            let rows = self.log_probs.index_select(&Tensor::new(previous, &Device::Cpu)?, 0)?; // (bytes, 256)
            let next = Tensor::new(next, &Device::Cpu)?;
            score.greedy = rows.argmax(D::Minus1)?.to_vec1::<u32>()? == next.to_vec1::<u32>()?;
            score.loglik = f64::from(rows.gather(&next.unsqueeze(1)?, 1)?.sum_all()?.to_scalar::<f32>()?);
        }
        Ok(score)
    }

    fn continue_from(&self, mut last: u8, most: u32, stop: &[String], call: &mut Call) -> Result<Reply> {
        let mut reply = Reply {
            finish: Finish::Length,
            ..Reply::default()
        };
        while reply.usage.generated_tokens < most {
            call.check()?;
            last = self.log_probs.get(usize::from(last))?.argmax(0)?.to_scalar::<u32>()? as u8;
            let piece = char::from(last).to_string();
            reply.usage.generated_tokens += 1;
            reply.text.push_str(&piece);
            if let Some(end) = stop.iter().filter_map(|stop| reply.text.find(stop.as_str())).min() {
                reply.text.truncate(end);
                reply.finish = Finish::Stop;
                break;
            }
        }
        call.token(&reply.text);
        Ok(reply)
    }
}

impl Model for Bigram {
    fn card(&self) -> ModelCard {
        ModelCard::text("third-party").with_choices()
    }

    fn reply(&mut self, prompt: &Prompt, call: &mut Call) -> Result<Reply> {
        let parts = || prompt.messages.iter().flat_map(|message| &message.parts);
        if parts().any(|part| !matches!(part, Part::Text { .. })) {
            return Err(Error::unsupported("this model reads nothing but text"));
        }
        let text: String = prompt.messages.iter().map(|message| message.joined_text()).collect();
        let last = text.bytes().last().unwrap_or(b' ');
        let mut reply = match &prompt.want {
            Want::Choice { options } => {
                let score = |option: &String| self.log_likelihood(last, option.as_bytes());
                Reply::scored(options.iter().map(score).collect::<Result<_>>()?)
            }
            Want::Text { sampling } => {
                self.continue_from(last, sampling.max_tokens.unwrap_or(64), &sampling.stop, call)?
            }
            _ => {
                return Err(Error::unsupported(
                    "this model answers in text or scores options, nothing else",
                ))
            }
        };
        reply.usage.prompt_tokens = text.len() as u32;
        Ok(reply)
    }
}
