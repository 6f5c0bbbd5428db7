//! `host bench sweep`: what a truncation sweep over one chain costs, against its conditions asked separately and its
//! longest one alone.
//!
//! The three alternate, each time with another clip, question and reasoning, so that nothing computed for one serves
//! another. Separately means that nothing is shared at all: there are as many clips, questions and reasonings as
//! conditions.
//!
//! The kernel counts processor time in hundredths of a second, and a small model answers in less. So a turn asks each
//! of the three several times over, until the clock's steps no longer show.

use super::model::{Process, Rate, Words, timed};
use super::report::{machine, machine_line};
use crate::ask::pool::{Copy, Job, Limits, Pool};
use crate::failure::{Failure, Result};
use crate::plugin::OpenAdapter;
use crate::table::{Align, Table};
use faithfulness::family::Family;
use plugin_api::client::ModelClient;
use plugin_api::{Clip, Message, ModelCard, Part, Prompt, Reply, Sampling, Want};
use serde_json::{Value, json};
use std::sync::mpsc::channel;
use std::time::Duration;

/// How long the chain, its question and its clip are.
#[derive(Debug, Clone, Copy)]
pub struct SweepWork {
    /// Sentences in the chain; the sweep has one condition more.
    pub sentences: usize,
    /// Words of a sentence.
    pub words: usize,
    /// Words in the question.
    pub question: usize,
    /// Seconds of the clip, if the model hears.
    pub clip: f64,
    /// How many turns are measured; the median is reported.
    pub times: usize,
}

/// What some answers cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    pub answers: usize,
    pub prompt_tokens: u64,
    pub reused: u64,
    pub wall: Duration,
    /// Of all the processor's cores together.
    pub processor: Duration,
}

impl Cost {
    fn of(replies: &[Reply], rate: Rate) -> Cost {
        let reused = |reply: &Reply| reply.other.get("reused_tokens").and_then(Value::as_u64).unwrap_or(0);
        Cost {
            answers: replies.len(),
            prompt_tokens: replies.iter().map(|reply| u64::from(reply.usage.prompt_tokens)).sum(),
            reused: replies.iter().map(reused).sum(),
            wall: rate.wall,
            processor: rate.processor,
        }
    }

    pub fn read(&self) -> u64 {
        self.prompt_tokens.saturating_sub(self.reused)
    }
}

/// What was measured.
#[derive(Debug, Clone)]
pub struct SweepFigures {
    pub card: ModelCard,
    pub work: SweepWork,
    /// How often each was asked in a turn. The costs are those of all rounds together.
    pub rounds: usize,
    pub sweep: Cost,
    pub apart: Cost,
    pub longest: Cost,
}

impl SweepFigures {
    fn rows(&self) -> [(&'static str, &'static str, Cost); 3] {
        [
            ("longest", "the longest condition alone", self.longest),
            ("sweep", "the sweep", self.sweep),
            ("apart", "its conditions apart", self.apart),
        ]
    }

    /// The sweep's processor time divided by that of its longest condition, and that of the separate conditions divided
    /// by the sweep's.
    fn ratios(&self) -> (f64, f64) {
        let seconds = |cost: Cost| cost.processor.as_secs_f64();
        (
            seconds(self.sweep) / seconds(self.longest),
            seconds(self.apart) / seconds(self.sweep),
        )
    }

    /// The same in tokens read, which no load of the machine changes.
    fn token_ratios(&self) -> (f64, f64) {
        let read = |cost: Cost| cost.read() as f64;
        (
            read(self.sweep) / read(self.longest),
            read(self.apart) / read(self.sweep),
        )
    }
}

/// Measures a model that was just made.
pub fn measure(made: &OpenAdapter, work: SweepWork, say: &dyn Fn(&str)) -> Result<SweepFigures> {
    let client = ModelClient(made.adapter.clone());
    let card = client.card()?;
    let limits = Limits::of(&card, 1, None, None);
    let copy = Copy {
        client,
        control: made.control.clone(),
    };
    let mut bench = Bench {
        pool: Pool::start(&card.name, vec![copy], &limits, std::sync::Arc::default()),
        process: Process::of(made),
        words: Words::new(0x51ee_9bad),
        card,
        work,
    };
    let mut costs = [Vec::new(), Vec::new(), Vec::new()];
    say("a first turn, which does not count");
    bench.turn(1)?;
    let [longest, ..] = bench.turn(1)?;
    let rounds = rounds(longest.processor);
    for turn in 1..=work.times.max(1) {
        say(&format!("turn {turn} of {}", work.times.max(1)));
        for (costs, cost) in costs.iter_mut().zip(bench.turn(rounds)?) {
            costs.push(cost);
        }
    }
    let [longest, sweep, apart] = costs.map(|mut costs| {
        costs.sort_by_key(|cost| cost.processor);
        costs[costs.len() / 2]
    });
    Ok(SweepFigures {
        card: bench.card,
        work,
        rounds,
        sweep,
        apart,
        longest,
    })
}

/// How often to repeat work of this duration so that the clock's steps are a fiftieth of the whole at most.
fn rounds(once: Duration) -> usize {
    const ENOUGH: Duration = Duration::from_millis(500);
    const STEP: Duration = Duration::from_millis(10);
    ENOUGH.as_millis().div_ceil(once.max(STEP).as_millis()) as usize
}

struct Bench {
    pool: Pool,
    process: Process,
    words: Words,
    card: ModelCard,
    work: SweepWork,
}

impl Bench {
    /// How often each of the three is asked: the longest condition, the sweep, the separate conditions.
    fn turn(&mut self, rounds: usize) -> Result<[Cost; 3]> {
        let all = self.work.sentences;
        let longest = (0..rounds).map(|_| vec![self.chain().remove(all)]).collect();
        let longest = self.ask(longest)?;
        let sweep = (0..rounds).map(|_| self.chain()).collect();
        let sweep = self.ask(sweep)?;
        let conditions = (0..rounds).flat_map(|_| 0..=all);
        let apart = conditions.map(|kept| vec![self.chain().remove(kept)]).collect();
        Ok([longest, sweep, self.ask(apart)?])
    }

    /// The prompts of a new chain, after 0, 1, … of its sentences, as a sweep writes them.
    fn chain(&mut self) -> Vec<Prompt> {
        let work = self.work;
        let clip = self.card.sample_rate.filter(|_| self.card.hears()).map(|rate| {
            let samples = (work.clip * f64::from(rate)) as usize;
            Clip::new(rate, self.words.noise(samples))
        });
        let question = self.words.text(work.question);
        let sentences: Vec<String> = (0..work.sentences)
            .map(|_| format!("{}.", self.words.text(work.words)))
            .collect();
        let prompt = |kept: usize| {
            let mut parts = vec![Part::text(&question)];
            if clip.is_some() {
                parts.insert(0, Part::clip(0));
            }
            let asked = Message {
                parts,
                ..Message::default()
            };
            let begun = Message::assistant(Family::Prefill.prefill(&sentences[..kept].join(" ")));
            Prompt {
                clips: clip.iter().cloned().collect(),
                thinking: Some(false),
                want: match self.card.scores_choices {
                    true => Want::Choice {
                        options: ["A", "B", "C", "D"].map(str::to_owned).into(),
                    },
                    false => Want::Text {
                        sampling: Sampling::greedy(1),
                    },
                },
                ..Prompt::new([asked, begun])
            }
        };
        (0..=work.sentences).map(prompt).collect()
    }

    /// Asks one group after the other, the prompts of each at once.
    fn ask(&self, groups: Vec<Vec<Prompt>>) -> Result<Cost> {
        let (replies, rate) = timed(self.process, || {
            let mut replies = Vec::new();
            for prompts in groups {
                replies.extend(self.at_once(prompts)?);
            }
            Ok(replies)
        })?;
        Ok(Cost::of(&replies, rate))
    }

    fn at_once(&self, prompts: Vec<Prompt>) -> Result<Vec<Reply>> {
        let (sender, answers) = channel();
        let count = prompts.len();
        for prompt in prompts {
            let sender = sender.clone();
            let mut job = Job {
                prompt: Box::new(prompt),
                done: Box::new(move |answer| drop(sender.send(answer.outcome))),
            };
            while let Err(back) = self.pool.offer(job, Duration::from_secs(1)) {
                if let Some(why) = self.pool.failure() {
                    return Err(Failure::from(why));
                }
                job = back;
            }
        }
        drop(sender);
        let replies: Vec<Reply> = answers.into_iter().collect::<plugin_api::Result<_>>()?;
        match replies.len() == count {
            true => Ok(replies),
            false => Err(self.pool.failure().map_or_else(
                || Failure::refused(format!("the model answered {} of {count} prompts", replies.len())),
                Failure::from,
            )),
        }
    }
}

/// The table, in Markdown.
pub fn sweep_table(figures: &SweepFigures) -> String {
    let mut table = Table::new(&[
        ("What", Align::Left),
        ("Answers", Align::Right),
        ("Tokens read", Align::Right),
        ("Reused", Align::Right),
        ("Processor time", Align::Right),
    ]);
    for (_, what, cost) in figures.rows() {
        table.row([
            what.to_owned(),
            (cost.answers / figures.rounds).to_string(),
            (cost.read() / figures.rounds as u64).to_string(),
            (cost.reused / figures.rounds as u64).to_string(),
            format!("{:.3} s", cost.processor.as_secs_f64() / figures.rounds as f64),
        ]);
    }
    let ((time, saved), (tokens, fewer)) = (figures.ratios(), figures.token_ratios());
    let work = figures.work;
    let clip = match figures.card.hears() {
        true => format!("a clip of {} s, ", work.clip),
        false => String::new(),
    };
    format!(
        "{}\nThe sweep costs {time:.2} times its longest condition and {saved:.2} times less than its conditions apart \
         ({tokens:.2} and {fewer:.2} in tokens read).\n\
         {}: {clip}a question of {} words, {} sentences of {} words\n{}\n",
        table.render(),
        figures.card.name,
        work.question,
        work.sentences,
        work.words,
        machine_line()
    )
}

/// The same for machines.
pub fn sweep_as_json(figures: &SweepFigures) -> Value {
    let ((time, saved), (tokens, fewer)) = (figures.ratios(), figures.token_ratios());
    let work = figures.work;
    let mut all = json!({
        "model": figures.card.name, "precision": figures.card.precision, "device": figures.card.device,
        "sentences": work.sentences, "words_a_sentence": work.words, "question_words": work.question,
        "clip_seconds": figures.card.hears().then_some(work.clip), "rounds": figures.rounds,
        "sweep_by_longest": time, "apart_by_sweep": saved,
        "sweep_by_longest_in_tokens": tokens, "apart_by_sweep_in_tokens": fewer, "machine": machine(),
    });
    for (key, _, cost) in figures.rows() {
        all[key] = json!({
            "answers": cost.answers, "prompt_tokens": cost.prompt_tokens, "tokens_read": cost.read(),
            "tokens_reused": cost.reused, "processor_seconds": cost.processor.as_secs_f64(),
            "wall_seconds": cost.wall.as_secs_f64(),
        });
    }
    all
}
