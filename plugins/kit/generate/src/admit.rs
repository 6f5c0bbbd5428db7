//! Turns a prompt into work: an answer to draw, a beam search, or a choice.

use super::Generator;
use super::choice::Choice;
use super::lane::Lane;
use super::row::{Row, TRUNCATED, Ticket};
use super::sampler::{Knobs, Sampler};
use super::search::{Breadth, Search};
use nn::{Decoder, Input};
use plugin_api::{Call, Code, Error, Prompt, Result, Sampling, Want};
use std::collections::VecDeque;

/// A bound on beams, since each holds a cache.
pub(super) const MOST_BEAMS: u32 = 256;

pub(super) enum Work {
    Row(Box<Row>),
    Search(Search),
    Choice(Choice),
}

impl Work {
    pub fn job(&self) -> u64 {
        match self {
            Work::Row(row) => row.job,
            Work::Search(search) => search.job,
            Work::Choice(choice) => choice.job,
        }
    }

    /// Its text, which has not been read yet.
    pub fn lane(&self) -> &Lane {
        match self {
            Work::Row(row) => &row.lane,
            Work::Search(search) => &search.beams[0].lane,
            Work::Choice(choice) => &choice.context,
        }
    }

    pub fn lane_mut(&mut self) -> &mut Lane {
        match self {
            Work::Row(row) => &mut row.lane,
            Work::Search(search) => &mut search.beams[0].lane,
            Work::Choice(choice) => &mut choice.context,
        }
    }
}

impl<D: Decoder> Generator<D> {
    pub(super) fn prepare<'c>(&self, job: u64, prompt: &Prompt, call: Call<'c>) -> Result<(Ticket<'c>, Work)> {
        self.decoder.check(prompt)?;
        match &prompt.want {
            Want::Text { sampling } => self.prepare_text(job, prompt, sampling, call),
            Want::Choice { options } => self.prepare_choice(job, prompt, options, call),
            _ => Err(Error::unsupported(
                "the prompt asks for something that this model does not support",
            )),
        }
    }

    fn prepare_text<'c>(
        &self,
        job: u64,
        prompt: &Prompt,
        sampling: &Sampling,
        call: Call<'c>,
    ) -> Result<(Ticket<'c>, Work)> {
        let Generator {
            decoder,
            chat,
            defaults,
            limits,
            ..
        } = self;
        let knobs = Knobs::settle(sampling, defaults)?;
        let beams = self.beams(sampling)?;
        let answers = sampling.n_best.unwrap_or(1).max(1);
        match beams {
            1 if answers > 1 && knobs.temperature == 0.0 => {
                let what = format!("sampling setting `n_best` is {answers}, but greedy answers would all be the same");
                return Err(
                    Error::new(Code::SETTINGS, what).help("set a temperature above 0, or search with as many `beams`")
                );
            }
            2.. if answers > beams => {
                let what =
                    format!("sampling setting `n_best` is {answers}, expected at most {beams}, as many as `beams`");
                return Err(Error::new(Code::SETTINGS, what));
            }
            _ => {}
        }
        let encoded = chat.encode(prompt)?;
        let mut input = self.input(prompt, encoded.ids)?;
        let wanted = sampling
            .max_tokens
            .or(defaults.max_new_tokens)
            .unwrap_or(limits.max_tokens) as usize;
        let context = decoder.context();
        let truncated = fit(&mut input, context - wanted.min(context / 2), context, prompt.truncate)?;
        let mut ticket = Ticket::new(call, &input, answers as usize);
        if truncated {
            ticket.flags.push(TRUNCATED.to_owned());
        }
        let room = wanted.min(context - input.tokens.len());
        let least = defaults.least(input.tokens.len());
        let reader = chat.reader(prompt, &encoded.text, sampling);
        if beams > 1 {
            let breadth = Breadth {
                beams: beams as usize,
                length_penalty: sampling.length_penalty.or(defaults.length_penalty).unwrap_or(1.0),
                early_stop: defaults.early_stopping,
                repetition_penalty: knobs.repetition_penalty,
                room,
                least,
            };
            return Ok((
                ticket,
                Work::Search(Search::new(job, Lane::new(input), reader, breadth)),
            ));
        }
        let row = Row {
            job,
            which: 0,
            sampler: Sampler::new(knobs, 0, &input.tokens),
            lane: Lane::new(input),
            reader,
            room,
            least,
            thinking_budget: sampling.thinking_budget.map(|budget| budget as usize),
            forced: VecDeque::new(),
            log_probability: 0.0,
        };
        Ok((ticket, Work::Row(Box::new(row))))
    }

    /// How many beams to search with; 1 is no search. The publisher's default does not turn a prompt that asks to
    /// sample into a search.
    fn beams(&self, sampling: &Sampling) -> Result<u32> {
        let draws = sampling.temperature.is_some_and(|temperature| temperature > 0.0);
        let published = self
            .defaults
            .num_beams
            .filter(|_| !draws && sampling.thinking_budget.is_none());
        let beams = sampling.beams.or(published).unwrap_or(1).max(1);
        let refused = |why: String| {
            Err(Error::new(
                Code::SETTINGS,
                format!("sampling setting `beams` is {beams}, {why}"),
            ))
        };
        if beams > MOST_BEAMS {
            return refused(format!("expected at most {MOST_BEAMS}"));
        }
        if beams > 1 && draws {
            return refused("but a temperature above 0 samples answers instead of searching for them".to_owned());
        }
        if beams > 1 && sampling.thinking_budget.is_some() {
            return refused("but a search has no thinking budget".to_owned());
        }
        Ok(beams)
    }

    fn prepare_choice<'c>(
        &self,
        job: u64,
        prompt: &Prompt,
        options: &[String],
        call: Call<'c>,
    ) -> Result<(Ticket<'c>, Work)> {
        if options.is_empty() || options.iter().any(String::is_empty) {
            return Err(Error::new(
                Code::DATA,
                format!("a choice needs options that are not empty, got {options:?}"),
            ));
        }
        let choices = self.chat.encode_choices(prompt, options)?;
        let mut context = self.input(prompt, choices.context)?;
        let longest = choices.options.iter().map(Vec::len).max().unwrap_or(0);
        let most = (self.decoder.context() + 1).saturating_sub(longest);
        let truncated = fit(&mut context, most, most + 1, prompt.truncate)?;
        let mut ticket = Ticket::new(call, &context, 1);
        if truncated {
            ticket.flags.push(TRUNCATED.to_owned());
        }
        let choice = Choice {
            job,
            context: Lane::new(context),
            options: choices.options,
            bytes: options.iter().map(String::len).collect(),
        };
        Ok((ticket, Work::Choice(choice)))
    }
}

/// Shortens a prompt to fit `limit` tokens by cutting its beginning down to `target`, if that is allowed. True if it
/// was cut.
fn fit(input: &mut Input, target: usize, limit: usize, may_cut: bool) -> Result<bool> {
    let tokens = input.tokens.len();
    if tokens < limit {
        return Ok(false);
    }
    if !may_cut || input.has_clips() || target == 0 {
        let message = format!(
            "the prompt has {tokens} tokens, the model's context leaves room for {}",
            limit - 1
        );
        let error = Error::new(Code::TOO_LONG, message);
        return Err(error.help("shorten it, or allow cutting its beginning with the prompt's `truncate`"));
    }
    input.tokens.drain(..tokens - target);
    Ok(true)
}
