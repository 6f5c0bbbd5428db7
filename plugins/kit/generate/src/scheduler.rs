//! Plans the passes through the model over all work in progress.

mod audio;

use super::Generator;
use super::admit::Work;
use super::choice::{Choice, Likelihood};
use super::clip_cache::ClipCache;
use super::lane::Lane;
use super::pass::{Found, pass};
use super::prefixes::{Prefixes, Reading};
use super::row::{Row, Ticket};
use super::sampler::NAN_LOGITS;
use super::search::{Search, State};
use super::tree;
use nn::{Decoder, Input};
use plugin_api::{Call, Code, Error, Finish, Level, Prompt, Reply, Result};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

/// The number of concurrent answers before the cache size of a token is known.
const UNMEASURED: usize = 8;
/// How many choices that begin with a copy of a cache go into one pass.
const CACHES_AT_ONCE: usize = 8;
/// The fraction, 1 / this, of the memory for shared prefixes that goes to clips.
const OF_CLIPS: usize = 8;
/// Passes are not made smaller than this when memory runs out.
const SMALLEST_STEP: usize = 16;

pub(super) struct Scheduler<'g, 'c, D> {
    generator: &'g Generator<D>,
    tickets: BTreeMap<u64, Ticket<'c>>,
    /// Work that arrived since the last pass or has not begun; of work that arrived together, shorter prompts come
    /// first.
    arrived: Vec<Work>,
    waiting: VecDeque<Work>,
    rows: Vec<Row>,
    searches: Vec<Search>,
    choices: VecDeque<Choice>,
    prefixes: Prefixes,
    clips: ClipCache,
    done: Vec<(u64, Result<Reply>)>,
    learnt: Learnt,
    /// Set once memory ran out: the other rows wait, without caches.
    most_rows: usize,
}

/// What earlier work has shown, for the next time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Learnt {
    pub peak_bytes: u64,
    /// Bytes of one token in a cache.
    pub token_bytes: usize,
    pub rows: usize,
    pub step_tokens: usize,
}

/// What goes through the model together.
struct Plan {
    /// How many tokens of each lane, in the order of [`lanes`].
    lanes: Vec<usize>,
    /// How many tokens of the first choice's context, if only a part of it is read.
    ahead: usize,
    choices: Vec<Choice>,
}

impl<'g, 'c, D: Decoder> Scheduler<'g, 'c, D> {
    pub fn new(generator: &'g Generator<D>) -> Self {
        let prefix_bytes = generator.limits.prefix_bytes;
        let of_clips = generator.decoder.placeholder().map_or(0, |_| prefix_bytes / OF_CLIPS);
        Scheduler {
            generator,
            tickets: BTreeMap::new(),
            arrived: Vec::new(),
            waiting: VecDeque::new(),
            rows: Vec::new(),
            searches: Vec::new(),
            choices: VecDeque::new(),
            prefixes: Prefixes::new(prefix_bytes - of_clips),
            clips: ClipCache::new(of_clips),
            done: Vec::new(),
            learnt: Learnt {
                peak_bytes: generator.weight_bytes,
                token_bytes: generator.token_bytes,
                rows: generator.limits.rows,
                step_tokens: generator.limits.step_tokens,
            },
            most_rows: usize::MAX,
        }
    }

    /// Takes a prompt. If it is invalid, its answer is the error.
    pub fn admit(&mut self, job: u64, prompt: &Prompt, call: Call<'c>) {
        let (ticket, work) = match self.generator.prepare(job, prompt, call) {
            Ok(prepared) => prepared,
            Err(error) => return self.done.push((job, Err(error))),
        };
        self.tickets.insert(job, ticket);
        match work {
            Work::Row(row) if row.room == 0 => self.finish(*row, Finish::Length),
            Work::Search(search) if search.room() == 0 => self.conclude(search),
            mut work => {
                self.prefixes.share_clips(work.lane_mut());
                self.prefixes.note(work.lane());
                self.arrived.push(work);
            }
        }
    }

    pub fn has_room(&self) -> bool {
        let scored: usize = self.choices.iter().map(Choice::tokens).sum();
        let begun = self.rows.len() + self.searches.iter().map(Search::rows).sum::<usize>();
        // At least as many choices as rows; of long contexts, much may be shared.
        let choices = self.choices.len() < self.learnt.rows || scored < self.learnt.step_tokens;
        begun + self.waiting.len() + self.arrived.len() < self.learnt.rows && choices
    }

    /// Whether a pass over the arrived work would only score options and has room for more.
    pub fn only_scores(&self) -> bool {
        // A prefix that two choices share is read once.
        let scored = |(number, work): (usize, &Work)| match work {
            Work::Choice(choice) if choice.context.input.embedded.is_none() => {
                let common = |other: &Work| choice.context.input.common(&other.lane().input);
                let shared = self.arrived[..number].iter().map(common).max().unwrap_or(0);
                Some(choice.tokens() - shared)
            }
            _ => None,
        };
        let arrived: Option<usize> = self.arrived.iter().enumerate().map(scored).sum();
        let waiting: usize = self.choices.iter().map(Choice::tokens).sum();
        let alone = self.rows.is_empty() && self.searches.is_empty() && self.waiting.is_empty();
        alone && arrived.is_some_and(|arrived| arrived + waiting < self.learnt.step_tokens)
    }

    /// Whether there is nothing to compute or hand over: a host may wait for results before it sends more.
    pub fn is_idle(&self) -> bool {
        self.tickets.is_empty() && self.done.is_empty()
    }

    pub fn take_done(&mut self) -> Vec<(u64, Result<Reply>)> {
        std::mem::take(&mut self.done)
    }

    pub fn learnt(&self) -> Learnt {
        self.learnt
    }

    /// Runs one pass over as much work as fits, if there is any.
    pub fn advance(&mut self) {
        self.drop_stopped();
        self.start();
        self.begin();
        self.encode_audio();
        let mut plan = self.plan();
        let mut jobs: Vec<u64> = self
            .lane_jobs()
            .zip(&plan.lanes)
            .filter(|(_, tokens)| **tokens > 0)
            .map(|(job, _)| job)
            .collect();
        jobs.extend(plan.choices.iter().map(|choice| choice.job));
        let mut all: Vec<(&mut Lane, usize)> = lanes(&mut self.rows, &mut self.searches).zip(plan.lanes).collect();
        if let (Some(choice), 1..) = (self.choices.front_mut(), plan.ahead) {
            jobs.push(choice.job);
            all.push((&mut choice.context, plan.ahead));
        }
        if jobs.is_empty() {
            return;
        }
        let found = pass(
            &self.generator.decoder,
            &self.generator.loras,
            &mut all,
            &mut plan.choices,
        );
        match found {
            Ok(found) => {
                // A prefix without memory for its copy is not kept; nothing else is lost.
                all.iter_mut().for_each(|(lane, _)| drop(self.prefixes.keep(lane)));
                self.take(found, plan.choices);
            }
            Err(error) if is_out_of_memory(&error) => {
                // If nothing can be made smaller any more, one of the jobs is too large.
                let least = self.learnt.step_tokens <= SMALLEST_STEP && (jobs.len() == 1 || self.most_rows == 1);
                self.choices.extend(plan.choices);
                match jobs.last().filter(|_| least) {
                    Some(&job) => self.fail(job, Error::from(error).code(Code::MEMORY)),
                    None => self.shrink(jobs.len()),
                }
            }
            Err(error) => {
                let error = Error::from(error);
                for job in jobs {
                    self.fail(job, error.clone());
                }
            }
        }
    }

    /// Begins as much waiting work as fits.
    fn start(&mut self) {
        let mut arrived = std::mem::take(&mut self.arrived);
        arrived.sort_by_key(|work| work.lane().waiting());
        for work in arrived {
            match work {
                Work::Choice(choice) => self.choices.push_back(choice),
                other => self.waiting.push_back(other),
            }
        }
        while let Some(next) = self.waiting.front() {
            let rows = |work: &Work| match work {
                Work::Row(row) => self.answers(row),
                Work::Search(search) => search.rows(),
                Work::Choice(_) => 0,
            };
            let begun: usize = self.rows.iter().map(|row| self.answers(row)).sum();
            let begun = begun + self.searches.iter().map(Search::rows).sum::<usize>();
            let most = match self.learnt.token_bytes {
                0 => self.learnt.rows.min(UNMEASURED),
                _ => self.learnt.rows,
            };
            // At its maximum length, since an answer may use all of it.
            let of_rows = self.rows.iter().map(|row| row.tokens() * self.answers(row));
            let of_searches = self.searches.iter().map(|search| search.tokens() * search.rows());
            let own = match next {
                Work::Row(row) => row.tokens() * self.answers(row),
                Work::Search(search) => search.tokens() * search.rows(),
                Work::Choice(_) => 0,
            };
            let tokens = of_rows.chain(of_searches).sum::<usize>() + own;
            let fits = tokens.saturating_mul(self.learnt.token_bytes) <= self.generator.limits.cache_bytes;
            if begun > 0 && (begun + rows(next) > most || !fits) {
                break;
            }
            match self.waiting.pop_front() {
                Some(Work::Row(row)) => self.rows.push(*row),
                Some(Work::Search(search)) => self.searches.push(search),
                Some(Work::Choice(choice)) => self.choices.push_back(choice),
                None => {}
            }
        }
    }

    /// How many rows a row is or will become.
    fn answers(&self, row: &Row) -> usize {
        match row.lane.spoken.is_empty() {
            true => self.tickets.get(&row.job).map_or(1, |ticket| ticket.answers),
            false => 1,
        }
    }

    /// Halves the limits after a pass of this many jobs ran out of memory.
    fn shrink(&mut self, jobs: usize) {
        self.prefixes.clear();
        self.clips.clear();
        self.most_rows = (jobs / 2).clamp(1, self.most_rows);
        self.learnt.rows = self.learnt.rows.min(self.most_rows);
        self.learnt.step_tokens = (self.learnt.step_tokens / 2).max(SMALLEST_STEP);
        self.choices.iter_mut().for_each(|choice| choice.context.forget());
        let mut rows = 0;
        for row in &mut self.rows {
            rows += 1;
            if rows > self.most_rows {
                row.lane.forget();
            }
        }
        for search in &mut self.searches {
            rows += search.beams.len();
            if rows > self.most_rows {
                search.beams.iter_mut().for_each(|beam| beam.lane.forget());
            }
        }
        let (rows, tokens) = (self.most_rows, self.learnt.step_tokens);
        let told = format!("out of memory: continuing with at most {rows} answers and {tokens} tokens at a time");
        plugin_api::log(Level::Warning, &told);
    }

    /// Ends the jobs that the host cancelled or whose deadline has passed.
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
        self.searches.retain(|search| search.job != job);
        self.choices.retain(|choice| choice.job != job);
        self.waiting.retain(|work| work.job() != job);
        self.arrived.retain(|work| work.job() != job);
        if self.tickets.remove(&job).is_some() {
            self.done.push((job, Err(error)));
        }
    }

    /// The job of each lane, in the order of [`lanes`].
    fn lane_jobs(&self) -> impl Iterator<Item = u64> {
        let searched = self.searches.iter().flat_map(|it| it.beams.iter().map(|_| it.job));
        self.rows.iter().map(|row| row.job).chain(searched)
    }

    /// The text of a job that has not been read yet.
    fn lane_of(&mut self, job: u64) -> Option<&mut Lane> {
        let rows = self.rows.iter_mut().map(|row| (row.job, &mut row.lane));
        let searched = self
            .searches
            .iter_mut()
            .filter_map(|it| Some((it.job, &mut it.beams.first_mut()?.lane)));
        let chosen = self.choices.iter_mut().map(|choice| (choice.job, &mut choice.context));
        let mut all = rows.chain(searched).chain(chosen);
        all.find(|(own, _)| *own == job).map(|(_, lane)| lane)
    }

    /// Lets prompts share prefixes with others.
    fn begin(&mut self) {
        let mut reading: Vec<Reading> = lanes(&mut self.rows, &mut self.searches)
            .filter_map(|lane| Reading::of(lane))
            .collect();
        for lane in lanes(&mut self.rows, &mut self.searches) {
            let new = lane.keep_at.is_none();
            lane.waits = !self.prefixes.begin(lane, &reading);
            reading.extend(Reading::of(lane).filter(|_| new));
        }
        // Only the first choices can go into the next pass. Later ones may be able to begin where these end.
        let (mut tokens, mut caches, mut open) = (0, 0, true);
        let mut going: Vec<Arc<Input>> = Vec::new();
        for choice in &mut self.choices {
            let context = &mut choice.context;
            if open && self.prefixes.goes_with(context, &going) {
                context.waits = true;
                going.push(context.input.clone());
                continue;
            }
            context.waits = !(open && self.prefixes.begin(context, &reading));
            open &= !context.waits;
            if open {
                reading.extend(Reading::of(context));
                going.push(context.input.clone());
                (tokens, caches) = (tokens + context.waiting(), caches + usize::from(context.reused > 0));
                open = tokens <= self.learnt.step_tokens.saturating_mul(2) && caches < CACHES_AT_ONCE;
            }
        }
    }

    fn plan(&mut self) -> Plan {
        let mut budget = self.learnt.step_tokens;
        // Answers in progress go first, each with one token; prompts share the rest. Beams of a search advance
        // together or not at all, since choosing among them takes all their logits.
        let rows = self
            .rows
            .iter()
            .map(|row| std::slice::from_ref(&row.lane).iter().collect());
        let searched = self
            .searches
            .iter()
            .map(|it| it.beams.iter().map(|beam| &beam.lane).collect());
        let groups: Vec<Vec<&Lane>> = rows.chain(searched).collect();
        let mut tokens: Vec<Vec<usize>> = groups.iter().map(|group| vec![0; group.len()]).collect();
        let mut rows = 0;
        let parked: Vec<bool> = groups
            .iter()
            .map(|group| {
                rows += group.len();
                rows > self.most_rows.max(group.len())
            })
            .collect();
        let mut nothing = true;
        for reading in [false, true] {
            for ((group, tokens), parked) in groups.iter().zip(&mut tokens).zip(&parked) {
                let (is_reading, waits) = group.first().map_or((false, true), |lane| {
                    (lane.is_reading(), lane.waits || lane.is_unheard())
                });
                if is_reading != reading || waits || *parked || (budget == 0 && !nothing) {
                    continue;
                }
                // Beams that are read again stop before their last tokens, to take these together.
                let all_but_last = group.len() > 1 && group.iter().any(|lane| lane.waiting() > 1);
                for (lane, tokens) in group.iter().zip(tokens) {
                    *tokens = (lane.next() - usize::from(all_but_last)).min(budget.max(1));
                    budget = budget.saturating_sub(*tokens);
                }
                nothing = false;
            }
        }
        let (mut ahead, mut choices) = (0, Vec::new());
        while let Some(choice) = self.choices.front_mut() {
            if choice.context.waits {
                // It joins the choices that it shares a prefix with, or waits.
                let Some(shared) = tree::joins(&choice.context, &choices) else {
                    break;
                };
                let tokens = choice.tokens() - shared;
                if tokens > budget {
                    break;
                }
                budget -= tokens;
                choices.extend(self.choices.pop_front());
                continue;
            }
            if choice.context.is_unheard() {
                break;
            }
            // A context that is too long for any pass is read in pieces.
            let rest = match choice.tokens() <= self.learnt.step_tokens {
                true => 0,
                false => choice.context.next().min(choice.context.waiting() - 1),
            };
            if rest > 0 {
                ahead = rest.min(budget.max(usize::from(nothing)));
                break;
            }
            if choice.tokens() > budget && !nothing {
                break;
            }
            budget = budget.saturating_sub(choice.tokens());
            nothing = false;
            choices.extend(self.choices.pop_front());
        }
        Plan {
            lanes: tokens.concat(),
            ahead,
            choices,
        }
    }

    fn take(&mut self, found: Found, choices: Vec<Choice>) {
        self.learnt.peak_bytes = self.learnt.peak_bytes.max(self.bytes());
        let measured = lanes(&mut self.rows, &mut self.searches)
            .map(|lane| lane.cache.bytes_of(1))
            .max();
        self.learnt.token_bytes = self.learnt.token_bytes.max(measured.unwrap_or(0));
        for (choice, found) in choices.into_iter().zip(&found.choices) {
            self.finish_choice(&choice, found);
            self.prefixes.keep_of(choice.context);
        }
        // A choice of which only a part is read yields nothing yet; it is last.
        let mut logits = found.lanes.into_iter();
        for row in std::mem::take(&mut self.rows) {
            match logits.next().flatten() {
                Some(logits) => self.take_row(row, logits),
                None => self.rows.push(row),
            }
        }
        for search in std::mem::take(&mut self.searches) {
            let of_beams: Vec<_> = logits.by_ref().take(search.beams.len()).flatten().collect();
            match of_beams.len() == search.beams.len() {
                true => self.take_search(search, of_beams),
                false => self.searches.push(search),
            }
        }
    }

    /// Gives a row the logits after its last token; if that ends the prompt, also to its other answers.
    fn take_row(&mut self, row: Row, logits: Vec<f32>) {
        let answers = self.tickets.get(&row.job).map_or(0, |ticket| ticket.answers);
        if row.lane.spoken.is_empty() {
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
        let Some(ticket) = self.tickets.get_mut(&row.job) else {
            return;
        };
        let Generator {
            chat, defaults, enough, ..
        } = self.generator;
        match row.take(&mut logits, ticket, chat.tokenizer(), &defaults.stop_tokens, enough) {
            Ok(None) => self.rows.push(row),
            Ok(Some(finish)) => self.finish(row, finish),
            Err(error) => self.fail(row.job, error),
        }
    }

    fn take_search(&mut self, mut search: Search, logits: Vec<Vec<f32>>) {
        let Some(ticket) = self.tickets.get_mut(&search.job) else {
            return;
        };
        ticket.read.get_or_insert_with(Instant::now);
        match search.advance(logits, &self.generator.defaults.stop_tokens) {
            Ok(State::Growing) => self.searches.push(search),
            Ok(State::Done) => self.conclude(search),
            Ok(State::Broken) => {
                ticket.flags.push(NAN_LOGITS.to_owned());
                self.conclude(search);
            }
            Err(error) => self.fail(search.job, error),
        }
    }

    /// Ends a row, and its job if it was the last.
    fn finish(&mut self, row: Row, finish: Finish) {
        let job = row.job;
        let Some(ticket) = self.tickets.get_mut(&job) else {
            return;
        };
        ticket.reused = row.lane.reused;
        match row.finish(finish, ticket) {
            Ok(()) if ticket.finished.len() == ticket.answers => {
                let reply = ticket.generated();
                self.complete(job, reply);
            }
            Ok(()) => {}
            Err(error) => self.fail(job, error),
        }
    }

    fn conclude(&mut self, search: Search) {
        let job = search.job;
        let Some(ticket) = self.tickets.get_mut(&job) else {
            return;
        };
        ticket.first_token.get_or_insert_with(Instant::now);
        let mut answers = search.finish(ticket.answers).into_iter().enumerate();
        let taken = answers.try_for_each(|(which, ended)| ticket.take(which, ended));
        let reply = ticket.generated();
        match taken {
            Ok(()) => self.complete(job, reply),
            Err(error) => self.fail(job, error),
        }
    }

    fn finish_choice(&mut self, choice: &Choice, found: &[Vec<Likelihood>]) {
        if let Some(ticket) = self.tickets.get_mut(&choice.job) {
            ticket.read = Some(Instant::now());
            ticket.reused = choice.context.reused;
        }
        self.complete(choice.job, choice.reply(found));
    }

    fn complete(&mut self, job: u64, reply: Reply) {
        let memory = self.generator.account(self.bytes(), self.learnt.peak_bytes);
        if let Some(ticket) = self.tickets.remove(&job) {
            self.done.push((job, Ok(ticket.complete(reply, memory))));
        }
    }

    /// The memory of weights and caches now.
    fn bytes(&self) -> u64 {
        let rows = self.rows.iter().map(|row| &row.lane);
        let searched = self
            .searches
            .iter()
            .flat_map(|it| it.beams.iter().map(|beam| &beam.lane));
        let cached: usize = rows.chain(searched).map(|lane| lane.cache.bytes()).sum();
        let contexts: usize = self.choices.iter().map(|choice| choice.context.cache.bytes()).sum();
        self.generator.weight_bytes + (cached + contexts + self.prefixes.bytes() + self.clips.bytes()) as u64
    }
}

/// Whether a device reports that it is out of memory. Main memory is checked beforehand, since running out of it ends
/// the process.
fn is_out_of_memory(error: &candle_core::Error) -> bool {
    let told = error.to_string().to_lowercase().replace('_', " ");
    told.contains("out of memory") || told.contains("memory allocation")
}

/// Every text in progress: rows first, then the beams of each search.
fn lanes<'a>(rows: &'a mut [Row], searches: &'a mut [Search]) -> impl Iterator<Item = &'a mut Lane> {
    let searched = searches
        .iter_mut()
        .flat_map(|it| it.beams.iter_mut().map(|beam| &mut beam.lane));
    rows.iter_mut().map(|row| &mut row.lane).chain(searched)
}
