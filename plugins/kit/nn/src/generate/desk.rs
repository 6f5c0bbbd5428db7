//! The work in progress, and one pass through the model after another.

use super::Generator;
use super::choice::{Choice, Likelihood, Wanted, likelihoods};
use super::row::{Row, TRUNCATED, Ticket};
use super::sampler::{Knobs, Sampler};
use crate::{Decoder, Input, KvCache, Past, Segment, Step};
use candle_core::{DType, Tensor};
use plugin_api::{Call, Code, Error, Finish, LoraUse, Prompt, Reply, Result, Sampling, Want};
use rayon::prelude::*;
use std::collections::{BTreeMap, VecDeque};

/// Positions whose logits are computed at a time: with a large vocabulary each is half a megabyte.
const HEAD_BLOCK: usize = 64;

pub(super) struct Desk<'g, 'c, D> {
    generator: &'g Generator<D>,
    tickets: BTreeMap<u64, Ticket<'c>>,
    rows: Vec<Row>,
    choices: VecDeque<Choice>,
    done: Vec<(u64, Result<Reply>)>,
    peak_bytes: u64,
}

/// What goes through the model together.
struct Plan {
    /// Rows by index, with the tokens that each puts in.
    rows: Vec<(usize, usize)>,
    choices: Vec<Choice>,
}

impl<'g, 'c, D: Decoder> Desk<'g, 'c, D> {
    pub fn new(generator: &'g Generator<D>) -> Self {
        let (tickets, rows, choices, done) = (BTreeMap::new(), Vec::new(), VecDeque::new(), Vec::new());
        Desk {
            generator,
            tickets,
            rows,
            choices,
            done,
            peak_bytes: generator.weight_bytes,
        }
    }

    /// Takes a prompt. What is wrong with it becomes its answer.
    pub fn admit(&mut self, job: u64, prompt: &Prompt, call: Call<'c>) {
        if let Err(error) = self.try_admit(job, prompt, call) {
            self.tickets.remove(&job);
            self.done.push((job, Err(error)));
        }
    }

    pub fn has_room(&self) -> bool {
        let waiting: usize = self.choices.iter().map(Choice::tokens).sum();
        self.rows.len() < self.generator.limits.rows && waiting < self.generator.limits.step_tokens
    }

    pub fn is_idle(&self) -> bool {
        self.tickets.is_empty()
    }

    pub fn take_done(&mut self) -> Vec<(u64, Result<Reply>)> {
        std::mem::take(&mut self.done)
    }

    pub fn peak_bytes(&self) -> u64 {
        self.peak_bytes
    }

    /// One pass over as much as fits, if there is anything.
    pub fn advance(&mut self) {
        self.drop_stopped();
        let plan = self.plan();
        if plan.rows.is_empty() && plan.choices.is_empty() {
            return;
        }
        let mut jobs: Vec<u64> = plan.rows.iter().map(|&(row, _)| self.rows[row].job).collect();
        jobs.extend(plan.choices.iter().map(|choice| choice.job));
        if let Err(error) = self.pass(plan) {
            for job in jobs {
                self.fail(job, error.clone());
            }
        }
    }

    fn try_admit(&mut self, job: u64, prompt: &Prompt, call: Call<'c>) -> Result<()> {
        if let LoraUse::Only(names) = &prompt.lora
            && let Some(name) = names.first()
        {
            return Err(Error::unsupported(format!(
                "no LoRA `{name}` is loaded: this model holds none"
            )));
        }
        self.generator.decoder.check(prompt)?;
        match &prompt.want {
            Want::Text { sampling } => self.admit_row(job, prompt, sampling, call),
            Want::Choice { options } => self.admit_choice(job, prompt, options, call),
            _ => Err(Error::unsupported(
                "the prompt wants something that this model does not know",
            )),
        }
    }

    fn admit_row(&mut self, job: u64, prompt: &Prompt, sampling: &Sampling, call: Call<'c>) -> Result<()> {
        let Generator {
            decoder,
            chat,
            defaults,
            limits,
            ..
        } = self.generator;
        let knobs = Knobs::settle(sampling, defaults)?;
        if sampling.beams.is_some_and(|beams| beams > 1) {
            return Err(Error::unsupported("this model does not search with beams")
                .help("leave `beams` out, or use `n_best` with a temperature"));
        }
        let answers = sampling.n_best.unwrap_or(1).max(1) as usize;
        if answers > 1 && knobs.temperature == 0.0 {
            let error = Error::new(
                Code::SETTINGS,
                format!("sampling setting `n_best` is {answers}, but greedy answers would all be the same"),
            );
            return Err(error.help("set a temperature above 0"));
        }
        let encoded = chat.encode(prompt)?;
        let mut input = decoder.input(prompt, encoded.ids)?;
        let wanted = sampling
            .max_tokens
            .or(defaults.max_new_tokens)
            .unwrap_or(limits.max_tokens) as usize;
        let context = decoder.context();
        let truncated = fit(&mut input, context - wanted.min(context / 2), context, prompt.truncate)?;
        let mut ticket = Ticket::new(call, &input, answers);
        if truncated {
            ticket.flags.push(TRUNCATED.to_owned());
        }
        let row = Row {
            job,
            which: 0,
            cache: KvCache::default(),
            sampler: Sampler::new(knobs, 0, &input.tokens),
            reader: chat.reader(prompt, &encoded.text, sampling),
            next: None,
            generated: 0,
            room: wanted.min(context - input.tokens.len()),
            thinking_budget: sampling.thinking_budget.map(|budget| budget as usize),
            forced: VecDeque::new(),
            log_probability: 0.0,
            input,
        };
        self.tickets.insert(job, ticket);
        if row.room == 0 {
            return self.finish(row, Finish::Length);
        }
        self.rows.push(row);
        Ok(())
    }

    fn admit_choice(&mut self, job: u64, prompt: &Prompt, options: &[String], call: Call<'c>) -> Result<()> {
        if options.is_empty() || options.iter().any(String::is_empty) {
            return Err(Error::new(
                Code::DATA,
                format!("a choice needs options that are not empty, got {options:?}"),
            ));
        }
        let Generator { decoder, chat, .. } = self.generator;
        let choices = chat.encode_choices(prompt, options)?;
        let mut context = decoder.input(prompt, choices.context)?;
        let longest = choices.options.iter().map(Vec::len).max().unwrap_or(0);
        let most = (decoder.context() + 1).saturating_sub(longest);
        let truncated = fit(&mut context, most, most + 1, prompt.truncate)?;
        let mut ticket = Ticket::new(call, &context, 1);
        if truncated {
            ticket.flags.push(TRUNCATED.to_owned());
        }
        self.tickets.insert(job, ticket);
        let bytes = options.iter().map(String::len).collect();
        self.choices.push_back(Choice {
            job,
            context,
            options: choices.options,
            bytes,
        });
        Ok(())
    }

    /// Ends the jobs whose host or deadline says so.
    fn drop_stopped(&mut self) {
        let stopped: Vec<_> = self
            .tickets
            .iter()
            .filter_map(|(&job, t)| Some((job, t.call.check().err()?)))
            .collect();
        for (job, error) in stopped {
            self.fail(job, error);
        }
    }

    fn fail(&mut self, job: u64, error: Error) {
        self.rows.retain(|row| row.job != job);
        self.choices.retain(|choice| choice.job != job);
        if self.tickets.remove(&job).is_some() {
            self.done.push((job, Err(error)));
        }
    }

    fn plan(&mut self) -> Plan {
        let mut budget = self.generator.limits.step_tokens;
        let mut rows = Vec::new();
        // Answers in progress go first, each with one token; prompts share what is left.
        for answering in [true, false] {
            for (index, row) in self.rows.iter().enumerate() {
                if row.next.is_some() == answering && (budget > 0 || rows.is_empty()) {
                    let tokens = row.waiting().min(budget.max(1));
                    budget = budget.saturating_sub(tokens);
                    rows.push((index, tokens));
                }
            }
        }
        rows.sort_unstable();
        let mut choices = Vec::new();
        while let Some(choice) = self.choices.front() {
            let alone = rows.is_empty() && choices.is_empty();
            if choice.tokens() > budget && !alone {
                break;
            }
            budget = budget.saturating_sub(choice.tokens());
            choices.extend(self.choices.pop_front());
        }
        Plan { rows, choices }
    }

    fn pass(&mut self, plan: Plan) -> Result<()> {
        let decoder = &self.generator.decoder;
        let (mut segments, mut feed) = (Vec::new(), Feed::default());
        let mut ends = Vec::new(); // of the rows: (row, position of its last token)
        for (place, &(index, tokens)) in plan.rows.iter().enumerate() {
            let row = &self.rows[index];
            segments.push(Segment {
                tokens,
                past: Past::Row(place),
            });
            match row.next {
                Some(token) => feed.ids(&[token]),
                None => feed.input(&row.input, row.cache.len(), tokens)?,
            }
            if tokens == row.waiting() {
                ends.push((index, feed.count - 1));
            }
        }
        let mut wanted: Vec<Wanted> = ends
            .iter()
            .map(|&(_, position)| Wanted {
                position,
                tokens: Vec::new(),
            })
            .collect();
        let mut shares = Vec::new(); // of the choices: how many entries of `wanted`
        for choice in &plan.choices {
            let asks = choice.wanted(feed.count);
            feed.input(&choice.context, 0, choice.context.tokens.len())?;
            feed.ids(&choice.plan(&mut segments));
            shares.push(asks.len());
            wanted.extend(asks);
        }

        let planned = |index: &usize| plan.rows.iter().any(|(row, _)| row == index);
        let caches = self
            .rows
            .iter_mut()
            .enumerate()
            .filter(|(index, _)| planned(index))
            .map(|(_, row)| &mut row.cache);
        let mut step = Step::new(segments, caches.collect())?;
        let hidden = decoder.forward(&feed.embedded(decoder)?, &mut step)?;
        step.finish();
        let cached: usize = self.rows.iter().map(|row| row.cache.bytes()).sum();
        self.peak_bytes = self.peak_bytes.max(self.generator.weight_bytes + cached as u64);

        let (logits, found) = look(decoder, &hidden, &wanted, ends.len())?;
        let mut found = found.as_slice();
        for (choice, share) in plan.choices.into_iter().zip(shares) {
            let (mine, rest) = found.split_at(share);
            found = rest;
            self.finish_choice(&choice, mine);
        }
        let mut ended = ends.into_iter().zip(logits).peekable();
        for (index, row) in std::mem::take(&mut self.rows).into_iter().enumerate() {
            match ended.next_if(|((ended, _), _)| *ended == index) {
                Some((_, logits)) => self.take(row, logits),
                None => self.rows.push(row),
            }
        }
        Ok(())
    }

    /// Gives a row the logits behind its last token; behind a prompt, also to the other answers that begin there.
    fn take(&mut self, row: Row, logits: Vec<f32>) {
        let answers = self.tickets.get(&row.job).map_or(0, |ticket| ticket.answers);
        if row.next.is_none() {
            for which in 1..answers {
                match row.sibling(which) {
                    Ok(sibling) => self.draw(sibling, logits.clone()),
                    Err(error) => return self.fail(row.job, error.into()),
                }
            }
        }
        self.draw(row, logits);
    }

    fn draw(&mut self, mut row: Row, mut logits: Vec<f32>) {
        let job = row.job;
        let Some(ticket) = self.tickets.get_mut(&job) else {
            return;
        };
        let Generator { chat, defaults, .. } = self.generator;
        let drawn = match row.take(&mut logits, ticket, chat.tokenizer(), &defaults.stop_tokens) {
            Ok(None) => {
                self.rows.push(row);
                Ok(())
            }
            Ok(Some(finish)) => self.finish(row, finish),
            Err(error) => Err(error),
        };
        if let Err(error) = drawn {
            self.fail(job, error);
        }
    }

    /// Ends a row, and its job if that was the last.
    fn finish(&mut self, row: Row, finish: Finish) -> Result<()> {
        let job = row.job;
        let Some(ticket) = self.tickets.get_mut(&job) else {
            return Ok(());
        };
        row.finish(finish, ticket)?;
        if ticket.finished.len() == ticket.answers {
            let reply = ticket.generated();
            self.complete(job, reply);
        }
        Ok(())
    }

    fn finish_choice(&mut self, choice: &Choice, found: &[Vec<Likelihood>]) {
        if let Some(ticket) = self.tickets.get_mut(&choice.job) {
            ticket.read = Some(std::time::Instant::now());
        }
        self.complete(choice.job, choice.reply(found));
    }

    fn complete(&mut self, job: u64, reply: Reply) {
        let cached: usize = self.rows.iter().map(|row| row.cache.bytes()).sum();
        let memory = self
            .generator
            .account(self.generator.weight_bytes + cached as u64, self.peak_bytes);
        if let Some(ticket) = self.tickets.remove(&job) {
            self.done.push((job, Ok(ticket.complete(reply, memory))));
        }
    }
}

/// Makes a prompt fit below `limit` tokens, cutting its beginning down to `target` if that is allowed. True if it was cut.
fn fit(input: &mut Input, target: usize, limit: usize, may_cut: bool) -> Result<bool> {
    let tokens = input.tokens.len();
    if tokens < limit {
        return Ok(false);
    }
    if !may_cut || input.embedded.is_some() || target == 0 {
        let message = format!(
            "the prompt has {tokens} tokens, the model's context leaves room for {}",
            limit - 1
        );
        let error = Error::new(Code::TOO_LONG, message);
        return Err(error.help("shorten it, or let it lose its beginning with the prompt's `truncate`"));
    }
    input.tokens.drain(..tokens - target);
    Ok(true)
}

/// The logits at the wanted positions: as they are for the first `raw`, as likelihoods for the rest.
type Looked = (Vec<Vec<f32>>, Vec<Vec<Likelihood>>);

fn look<D: Decoder>(decoder: &D, hidden: &Tensor, wanted: &[Wanted], raw: usize) -> candle_core::Result<Looked> {
    let mut all = Vec::with_capacity(raw);
    let mut found = Vec::with_capacity(wanted.len() - raw);
    for (block, asks) in wanted.chunks(HEAD_BLOCK).enumerate() {
        let positions: Vec<u32> = asks.iter().map(|ask| ask.position as u32).collect();
        let chosen = hidden.index_select(&Tensor::new(positions, hidden.device())?, 0)?;
        let logits = decoder.logits(&chosen)?.to_dtype(DType::F32)?;
        let vocabulary = logits.dim(1)?;
        let values = logits.flatten_all()?.to_vec1::<f32>()?;
        let raw_here = raw.saturating_sub(block * HEAD_BLOCK).min(asks.len());
        all.extend(values.chunks(vocabulary).take(raw_here).map(<[f32]>::to_vec));
        let rest = &values[raw_here * vocabulary..];
        let scored = rest.par_chunks(vocabulary).zip(&asks[raw_here..]);
        found.par_extend(scored.map(|(logits, ask)| likelihoods(logits, &ask.tokens)));
    }
    Ok((all, found))
}

/// The tokens of a pass as they are put together: ids that are embedded in one go, vectors as they come.
#[derive(Default)]
struct Feed {
    pieces: Vec<Piece>,
    count: usize,
}

enum Piece {
    Ids(Vec<u32>),
    Vectors(Tensor),
}

impl Feed {
    fn ids(&mut self, ids: &[u32]) {
        self.count += ids.len();
        match self.pieces.last_mut() {
            Some(Piece::Ids(last)) => last.extend_from_slice(ids),
            _ => self.pieces.push(Piece::Ids(ids.to_vec())),
        }
    }

    fn input(&mut self, input: &Input, start: usize, tokens: usize) -> candle_core::Result<()> {
        match &input.embedded {
            None => self.ids(&input.tokens[start..start + tokens]),
            Some(vectors) => {
                self.count += tokens;
                self.pieces.push(Piece::Vectors(vectors.narrow(0, start, tokens)?));
            }
        }
        Ok(())
    }

    fn embedded<D: Decoder>(self, decoder: &D) -> candle_core::Result<Tensor> {
        let vectors = |piece| match piece {
            Piece::Ids(ids) => decoder.embed(&Tensor::new(ids, decoder.device())?),
            Piece::Vectors(vectors) => Ok(vectors),
        };
        let mut all = self
            .pieces
            .into_iter()
            .map(vectors)
            .collect::<candle_core::Result<Vec<_>>>()?;
        if all.len() == 1 {
            Ok(all.remove(0))
        } else {
            Tensor::cat(&all, 0)
        }
    }
}
