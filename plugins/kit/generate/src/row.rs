//! One answer in progress.

use super::lane::Lane;
use super::sampler::{NAN_LOGITS, Pick, Sampler, ban, log_sum};
use super::search::Ended;
use nn::Input;
use plugin_api::{Alternative, Call, Finish, Memory, Reply, Result, Timing, Usage};
use std::collections::VecDeque;
use std::time::Instant;
use text::{Answer, Reader, Tokenizer};

/// The flag of a reply whose prompt lost its beginning.
pub(super) const TRUNCATED: &str = "truncated-prompt";

/// A job that one or several rows answer.
pub(super) struct Ticket<'c> {
    pub call: Call<'c>,
    pub started: Instant,
    pub read: Option<Instant>,
    /// When the first token of the answer was known.
    pub first_token: Option<Instant>,
    pub usage: Usage,
    /// Tokens of the prompt that were not read because they were cached.
    pub reused: usize,
    pub flags: Vec<String>,
    /// How many answers the prompt asks for.
    pub answers: usize,
    pub finished: Vec<Finished>,
}

pub(super) struct Finished {
    which: usize,
    alternative: Alternative,
    finish: Finish,
}

impl<'c> Ticket<'c> {
    pub fn new(call: Call<'c>, input: &Input, answers: usize) -> Ticket<'c> {
        let usage = Usage {
            prompt_tokens: input.tokens.len() as u32,
            clip_tokens: input.clip_tokens as u32,
            clip_seconds: input.clip_seconds,
            ..Usage::default()
        };
        Ticket {
            call,
            started: Instant::now(),
            read: None,
            first_token: None,
            usage,
            reused: 0,
            flags: input.flags.clone(),
            answers,
            finished: Vec::new(),
        }
    }

    /// Fills in what every reply reports.
    pub fn complete(self, mut reply: Reply, memory: Memory) -> Reply {
        let since = |instant: Instant| (instant - self.started).as_secs_f64() * 1e3;
        reply.usage = self.usage;
        if self.reused > 0 {
            reply.other.insert("reused_tokens".to_owned(), self.reused.into());
        }
        reply.timing = Timing {
            prefill_ms: self.read.map_or(0.0, since),
            first_token_ms: self.first_token.map(since),
            total_ms: since(Instant::now()),
        };
        reply.memory = Some(memory);
        for flag in self.flags {
            if !reply.flags.contains(&flag) {
                reply.flags.push(flag);
            }
        }
        reply
    }

    /// Takes an answer that a search has found; `which` is its rank. Its text is sent in one piece, since it is known
    /// only now.
    pub fn take(&mut self, which: usize, ended: Ended) -> Result<()> {
        self.usage.generated_tokens += ended.tokens.len() as u32;
        let (_, answer) = ended.reader.finish()?;
        say(self, &answer.text);
        self.end(which, answer, f64::from(ended.score), ended.finish);
        Ok(())
    }

    fn end(&mut self, which: usize, answer: Answer, score: f64, finish: Finish) {
        self.usage.thinking_tokens += answer.thinking_tokens as u32;
        let alternative = Alternative {
            text: answer.text,
            thinking: answer.thinking,
            score: (self.answers > 1).then_some(score),
        };
        self.finished.push(Finished {
            which,
            alternative,
            finish,
        });
    }

    /// The reply of the finished rows: the most likely answer, and all answers if several were asked for.
    pub fn generated(&mut self) -> Reply {
        let score = |finished: &Finished| finished.alternative.score.unwrap_or(0.0);
        self.finished
            .sort_by(|a, b| score(b).total_cmp(&score(a)).then(a.which.cmp(&b.which)));
        let Some(best) = self.finished.first() else {
            return Reply::default();
        };
        let mut reply = Reply::text(best.alternative.text.clone());
        reply.thinking = best.alternative.thinking.clone();
        reply.finish = best.finish;
        if self.answers > 1 {
            reply.alternatives = self
                .finished
                .iter()
                .map(|finished| finished.alternative.clone())
                .collect();
        }
        reply
    }
}

/// One answer in progress, with its own cache, random state and reader.
pub(super) struct Row {
    pub job: u64,
    pub which: usize,
    pub lane: Lane,
    pub sampler: Sampler,
    pub reader: Reader,
    /// The maximum length in tokens, and the minimum before an end token counts.
    pub room: usize,
    pub least: usize,
    pub thinking_budget: Option<usize>,
    /// Tokens that are inserted whatever the model predicts.
    pub forced: VecDeque<u32>,
    pub log_probability: f64,
}

impl Row {
    /// Its maximum length in tokens, prompt and answer.
    pub fn tokens(&self) -> usize {
        self.lane.input.tokens.len() + self.room
    }

    /// A row for another answer to the same prompt, before its first token.
    pub fn sibling(&self, which: usize) -> candle_core::Result<Row> {
        Ok(Row {
            which,
            lane: self.lane.fork()?,
            sampler: self.sampler.sibling(which as u64),
            reader: self.reader.fresh(),
            forced: VecDeque::new(),
            ..*self
        })
    }

    /// Takes the logits after the last token, and returns how the answer ended, if it did. Reasoning that has used up
    /// its budget is ended with the words `enough`.
    pub fn take(
        &mut self,
        logits: &mut [f32],
        ticket: &mut Ticket,
        tokenizer: &Tokenizer,
        stop: &[u32],
        enough: &str,
    ) -> Result<Option<Finish>> {
        ticket.read.get_or_insert_with(Instant::now);
        if self.lane.spoken.len() < self.least {
            ban(logits, stop);
        }
        let forced = self.forced.pop_front();
        let token = match forced {
            Some(token) => {
                self.sampler.follow(token, logits);
                token
            }
            None => match self.sampler.pick(logits) {
                Pick::Token(token) => token,
                Pick::Broken => {
                    ticket.flags.push(NAN_LOGITS.to_owned());
                    return Ok(Some(Finish::Stop));
                }
            },
        };
        ticket.first_token.get_or_insert_with(Instant::now);
        self.lane.spoken.push(token);
        let generated = self.lane.spoken.len();
        ticket.usage.generated_tokens += 1;
        if ticket.answers > 1 {
            // The penalised logits, if there is a penalty: the answer is chosen by these.
            let logit = logits.get(token as usize).copied().map(f64::from);
            self.log_probability += logit.map_or(0.0, |logit| logit - log_sum(logits));
        }
        if forced.is_none() && stop.contains(&token) {
            return Ok(Some(Finish::Stop));
        }
        let piece = self.reader.push(token)?;
        if !say(ticket, &piece) {
            return Ok(Some(Finish::Cancelled));
        }
        if self.reader.stopped() {
            return Ok(Some(Finish::Stop));
        }
        if generated >= self.room {
            return Ok(Some(Finish::Length));
        }
        if self.reader.is_thinking() && self.thinking_budget.is_some_and(|budget| generated >= budget) {
            self.thinking_budget = None;
            self.forced.extend(tokenizer.encode(enough)?);
        }
        Ok(None)
    }

    /// Ends the answer and hands it to the ticket.
    pub fn finish(self, finish: Finish, ticket: &mut Ticket) -> Result<()> {
        let (piece, answer) = self.reader.finish()?;
        say(ticket, &piece);
        ticket.end(self.which, answer, self.log_probability, finish);
        Ok(())
    }
}

/// Sends a piece of text, unless there are several answers, whose pieces could not be told apart.
fn say(ticket: &mut Ticket, piece: &str) -> bool {
    piece.is_empty() || ticket.answers > 1 || ticket.call.token(piece)
}
