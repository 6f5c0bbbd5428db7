//! A model of a third party: bytes that follow bytes, counted in a small text and kept in tensors of candle 0.9.
//!
//! The repository's own models stand on another candle, of a version that Cargo can't merge with this one. Both live
//! in one process, since no tensor crosses the boundary and each plugin brings its own copy of everything.

mod bigram;

use bigram::Bigram;
use plugin_api::{
    export_plugin, register_model, Call, Error, Finish, Model, ModelCard, OptionScore, Prompt, Reply, Result, Want,
};

impl Model for Bigram {
    fn card(&self) -> ModelCard {
        ModelCard::text("third-party").with_choices()
    }

    fn reply(&mut self, prompt: &Prompt, call: &mut Call) -> Result<Reply> {
        let asked: String = prompt.messages.iter().map(|message| message.joined_text()).collect();
        let mut reply = Reply::default();
        reply.usage.prompt_tokens = asked.len() as u32;
        let mut last = asked.bytes().last().unwrap_or(b' ');
        match &prompt.want {
            Want::Choice { options } => {
                for option in options {
                    let (loglik, greedy) = self.log_likelihood(last, option.as_bytes())?;
                    let bytes = option.len() as u32;
                    reply.options.push(OptionScore {
                        loglik,
                        greedy,
                        bytes,
                        tokens: bytes,
                    });
                }
            }
            Want::Text { sampling } => {
                reply.finish = Finish::Length;
                while reply.usage.generated_tokens < sampling.max_tokens.unwrap_or(64) {
                    call.check()?; // an error when the host wants no more, or the time is over
                    last = self.likeliest_after(last)?;
                    reply.usage.generated_tokens += 1;
                    reply.text.push(char::from(last));
                    if let Some(stop) = sampling.stop.iter().find(|stop| reply.text.ends_with(stop.as_str())) {
                        reply.text.truncate(reply.text.len() - stop.len());
                        reply.finish = Finish::Stop;
                        break;
                    }
                }
                call.token(&reply.text); // all at once, since a later byte may make a stop string of earlier ones
            }
            _ => return Err(Error::unsupported("this model answers in text or scores options")),
        }
        Ok(reply)
    }
}

register_model!("third-party", "Byte bigrams of a text, on candle 0.9", Bigram::load, {
    text: text = "the answer is that the question was asked, and that it was answered then and there. ",
        "what the bytes are counted in";
    smoothing: number = 0.01, "added to every count, so that nothing is impossible";
});
export_plugin!();
