//! Scores options in the best way that this server has for a prompt.

use crate::chat;
use crate::choices::{self, Way};
use crate::engine::Kind;
use crate::forced::{self, Before};
use crate::model::{Inner, Outcome};
use crate::tokens::{Cutter, Server};
use plugin_api::{Error, Finish, OptionScore, Prompt, Reply, Role, Sampling, Usage};
use remote::{Answer, Stop, Watch};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

/// This many choices are also scored in a second way, if there is one.
const TWICE: u32 = 12;

/// Sends a request: path, whether it is outside `/v1`, body, and the most tokens to generate.
type Ask<'a> = dyn FnMut(&str, bool, Value, u32) -> Outcome<Answer> + 'a;

impl Inner {
    /// Scores options in the best possible way for this prompt.
    pub(crate) fn choice(&self, prompt: &Prompt, options: &[String], watch: &mut Watch<'_>) -> Outcome<Reply> {
        let fits = |way: &&Way| match way {
            Way::Tokens => {
                // A text is cut by whoever knows how a conversation becomes one.
                let shown = self.engine.kind != Kind::LlamaCppPython || !matches!(self.cutter, Cutter::Server);
                prompt.clips.is_empty() && (prompt.plain || shown)
            }
            Way::Continue => !prompt.plain && !prompt.messages.last().is_some_and(|last| last.role == Role::Assistant),
            Way::FirstToken => true,
            Way::Off => false,
        };
        let ways: Vec<Way> = self.ways.iter().filter(fits).copied().collect();
        let Some(first) = ways.first() else {
            return Err(Error::unsupported("this server scores no options of such a prompt").into());
        };
        let mut reply = self.scored_by(*first, prompt, options, watch)?;
        reply.other.insert("choices".to_owned(), first.word().into());
        // A second exact way, if there is one, must give the same result for the first dozen choices.
        if let Some(second) = ways.get(1).filter(|way| **way == Way::Continue)
            && self.twice.fetch_add(1, Ordering::Relaxed) < TWICE
        {
            match self.scored_by(*second, prompt, options, watch) {
                Ok(other) => {
                    let pairs = reply.options.iter().zip(&other.options);
                    let largest = pairs.map(|(a, b)| (a.loglik - b.loglik).abs()).fold(0.0, f64::max);
                    reply.other.insert(
                        "other_way".to_owned(),
                        json!({ "choices": second.word(), "largest_difference": largest }),
                    );
                }
                Err(stop) if stop.ends => return Err(stop),
                Err(stop) => drop(reply.other.insert(
                    "other_way".to_owned(),
                    json!({ "choices": second.word(), "error": stop.error.message }),
                )),
            }
        }
        Ok(reply)
    }

    fn scored_by(&self, way: Way, prompt: &Prompt, options: &[String], watch: &mut Watch<'_>) -> Outcome<Reply> {
        let (model, more) = self.served(&prompt.lora)?;
        let with = |mut body: Value| {
            if let (Some(body), Value::Object(more)) = (body.as_object_mut(), &more) {
                body.extend(more.clone());
            }
            body
        };
        let mut asked = Vec::new();
        let mut ask = |path: &str, root: bool, body: Value, written: u32| {
            let question = self.question(path, root, with(body), &model, prompt, written);
            let answer = self.client.ask(&question, watch)?;
            asked.push((question, answer.clone()));
            Ok(answer)
        };
        let mut unseen = 0;
        let scores: Vec<OptionScore> = match way {
            Way::Tokens => {
                let cut = self
                    .cutter
                    .choices(&self.client, &model, &self.manner, prompt, options)?;
                let mut scores = Vec::with_capacity(options.len());
                for (number, option) in options.iter().enumerate() {
                    let (ids, own) = (choices::whole(&cut, number), cut.options[number].len());
                    scores.push(self.by_tokens(&model, option, &ids, own, &mut ask)?);
                }
                scores
            }
            Way::Continue => {
                let mut replies = Vec::with_capacity(options.len());
                for option in options {
                    let mut prompt = prompt.clone();
                    prompt.messages.push(plugin_api::Message::assistant(option));
                    let sampling = Sampling {
                        seed: Some(0),
                        ..Sampling::greedy(1)
                    };
                    let mut body = chat::chat(&prompt, &sampling, &model, &self.manner)?.json;
                    body["prompt_logprobs"] = 1.into();
                    body["return_token_ids"] = true.into();
                    replies.push(ask("/chat/completions", false, body, 1)?.reply);
                }
                choices::read_continued(&replies, options)?
            }
            Way::FirstToken => {
                if options.iter().all(|option| option.trim().contains(char::is_whitespace)) {
                    return Err(several_tokens(options));
                }
                let sampling = Sampling {
                    seed: Some(0),
                    top_logprobs: Some(20),
                    ..Sampling::greedy(1)
                };
                let (path, body, ..) = self.body(prompt, &sampling, &model, &self.manner)?;
                let answer = ask(path, false, body.json, 1)?;
                let (scores, missing) = choices::read_first(&answer.reply, options)?;
                unseen = missing;
                scores
            }
            Way::Off => return Err(Error::unsupported("options are not scored").into()),
        };
        let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        let mut reply = Reply {
            finish: Finish::Stop,
            usage: Usage {
                prompt_tokens: small(asked.iter().map(|(_, answer)| answer.tokens.prompt).sum()),
                dollars: asked.iter().map(|(_, answer)| answer.dollars).sum(),
                ..Usage::default()
            },
            ..Reply::scored(scores)
        };
        reply.timing.total_ms = asked.iter().map(|(_, answer)| answer.latency.as_secs_f64() * 1e3).sum();
        if reply.options.iter().any(|option| option.loglik.is_nan()) {
            reply.flags.push("nan-logits".to_owned());
        }
        if unseen > 0 {
            reply.flags.push("option-not-seen".to_owned());
        }
        if let Some((question, answer)) = asked.first() {
            reply.model_version.clone_from(&answer.model_version);
            self.note(question, answer, prompt, &mut reply);
        }
        reply.other.insert(
            "calls".to_owned(),
            asked
                .iter()
                .map(|(_, answer)| Value::from(answer.call.clone()))
                .collect(),
        );
        Ok(reply)
    }

    /// The log-likelihood of the last `own` of these ids, given those before.
    fn by_tokens(&self, model: &str, option: &str, ids: &[u32], own: usize, ask: &mut Ask<'_>) -> Outcome<OptionScore> {
        if self.found.native {
            let answer = ask("/generate", true, choices::native_body(ids, own), 0)?;
            return Ok(choices::read_native(&answer.reply, option, ids, own)?);
        }
        if let Some(least) = self.found.echo {
            let answer = ask("/completions", false, choices::echo_body(model, ids, least), least)?;
            return Ok(choices::read_echo(&answer.reply, option, ids, own, least)?);
        }
        let mut token = |path: &str, root: bool, body: Value| Ok(ask(path, root, body, 1)?.reply);
        let tokens = self.forced(model, ids, own, &mut token)?;
        Ok(choices::sum(option, &tokens)?)
    }

    /// For each of the last `own` ids, given those before: its log-probability, and whether it is the most likely
    /// token.
    pub(crate) fn forced(
        &self,
        model: &str,
        ids: &[u32],
        own: usize,
        ask: &mut dyn FnMut(&str, bool, Value) -> Outcome<Value>,
    ) -> Outcome<Vec<(f64, bool)>> {
        let server = Server {
            client: &self.client,
            model,
            manner: &self.manner,
        };
        let mut tokens = Vec::with_capacity(own);
        for at in ids.len() - own..ids.len() {
            let text = match self.engine.kind {
                Kind::LlamaCppPython => Some(server.text_of(&ids[..at])?),
                _ => None,
            };
            let before = text.as_deref().map_or(Before::Ids(&ids[..at]), Before::Text);
            let (path, root, body) = forced::request(self.engine.kind, model, before, Some(ids[at]))
                .ok_or_else(|| Error::unsupported("this server forces no tokens"))?;
            let token = forced::read(&ask(path, root, body)?)?;
            if token.id.is_some_and(|id| id != ids[at]) {
                return Err(choices::fault("another token than the one that was forced").into());
            }
            tokens.push((token.logprob, token.greedy));
        }
        Ok(tokens)
    }
}

/// Every other prompt of such a task would fail as well, so the run ends.
fn several_tokens(options: &[String]) -> Stop {
    let error = Error::unsupported("this server scores options of one token alone");
    let shown: String = options
        .first()
        .into_iter()
        .flat_map(|option| option.chars().take(60))
        .collect();
    let error = error.cause(format!("the option `{shown}` is longer"));
    let help = "serve by an engine that shows log-probabilities of given tokens (vLLM, SGLang, llama.cpp), give `tokenizer` where it only lacks `/tokenize`, or let the model answer in words";
    Stop {
        error: error.help(help),
        ends: true,
    }
}
