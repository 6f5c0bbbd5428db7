//! `host bench model`: how fast a model reads, hears, answers and scores options here, asked through the boundary as a
//! run would.
//!
//! Prompts are made of random words, no two alike, so that nothing computed for one serves another. How many words make
//! how many tokens is asked of the model itself, and every figure is counted in the tokens that its replies report.
//! On a shared machine wall-clock time grows and processor time does not: so each figure has both.

use crate::failure::{Failure, Result};
use crate::plugin::OpenAdapter;
use plugin_api::client::{Given, ModelClient, Serving};
use plugin_api::{Clip, ModelCard, NoCallbacks, Part, Prompt, Reply, Sampling};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How much of each kind of work is measured.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// Tokens of the prompt that is read.
    pub prompt: usize,
    /// Tokens of one answer.
    pub answer: u32,
    /// Answers written at a time, each half as long.
    pub batch: usize,
    /// Choices scored, and the tokens of each.
    pub choices: usize,
    pub choice_prompt: usize,
    /// Seconds of the clip to hear, if the model takes clips of that length.
    pub clip: f64,
    /// How many times are measured; the median is reported.
    pub times: usize,
}

impl Default for Work {
    fn default() -> Self {
        Work {
            prompt: 512,
            answer: 64,
            batch: 8,
            choices: 16,
            choice_prompt: 80,
            clip: 30.0,
            times: 3,
        }
    }
}

/// Work done, and the time it took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rate {
    /// Tokens, prompts or seconds of sound.
    pub count: f64,
    pub wall: Duration,
    /// Of all the processor's cores together.
    pub processor: Duration,
}

impl Rate {
    pub fn per_second(&self) -> f64 {
        self.count / self.wall.as_secs_f64()
    }

    pub fn processor_ms_each(&self) -> f64 {
        self.processor.as_secs_f64() * 1e3 / self.count
    }
}

/// Everything that was measured of a model.
#[derive(Debug, Clone)]
pub struct ModelFigures {
    pub card: ModelCard,
    pub work: Work,
    pub load: Rate,
    /// Tokens of a prompt read.
    pub read: Rate,
    /// Tokens of one answer written, and of several at once.
    pub write: Rate,
    pub write_batch: Rate,
    /// Prompts whose options were scored; none when the model scores no options.
    pub choose: Option<Rate>,
    /// A clip heard and read, and the tokens that it became; none when the model doesn't hear.
    pub hear: Option<(Rate, u32)>,
    /// The most memory that the model's process held.
    pub peak_bytes: Option<u64>,
}

/// Measures a model that was just made; making it took `load`.
pub fn measure(made: &OpenAdapter, load: Rate, work: Work, say: &dyn Fn(&str)) -> Result<ModelFigures> {
    let bench = Bench {
        client: ModelClient(made.adapter.clone()),
        process: Process::of(made),
        words: Mutex::new(Words(0x9e37_79b9_7f4a_7c15)),
        work,
    };
    say("counting tokens");
    let sizes = bench.sizes()?;
    say("reading a prompt");
    let read = bench.read(&sizes)?;
    let card = bench.client.card()?;
    let hear = match card.hears() {
        true => {
            say("hearing a clip");
            Some(bench.hear(&sizes, &card)?)
        }
        false => None,
    };
    say("writing an answer");
    let write = bench.write(&sizes, 1, work.answer)?;
    say("writing several answers at once");
    let write_batch = bench.write(&sizes, work.batch, (work.answer / 2).max(2))?;
    say("scoring options");
    let choose = card.scores_choices.then(|| bench.choose(&sizes)).transpose()?;
    Ok(ModelFigures {
        card,
        work,
        load,
        read,
        write,
        write_batch,
        choose,
        hear,
        peak_bytes: bench.process.peak_bytes(made),
    })
}

/// Does something and measures it.
pub fn timed<T>(process: Process, work: impl FnOnce() -> Result<T>) -> Result<(T, Rate)> {
    let (began, processor) = (Instant::now(), process.time());
    let value = work()?;
    let rate = Rate {
        count: 1.0,
        wall: began.elapsed(),
        processor: process.time().saturating_sub(processor),
    };
    Ok((value, rate))
}

struct Bench {
    client: ModelClient,
    process: Process,
    words: Mutex<Words>,
    work: Work,
}

/// Tokens that a prompt has apart from its words, and those that a word has.
struct Sizes {
    fixed: f64,
    word: f64,
}

impl Bench {
    fn prompt(&self, words: usize) -> Prompt {
        let mut all = self.words.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        Prompt::plain(all.text(words))
    }

    fn sizes(&self) -> Result<Sizes> {
        let count = |words| -> Result<f64> {
            let prompt = self.prompt(words);
            // A model need not give the tokens of a prompt, but its replies say how many there were.
            let tokens = match self.client.tokens(&prompt) {
                Ok(tokens) => tokens.ids.len(),
                Err(_) => self.ask(prompt.sample(Sampling::greedy(1)))?.usage.prompt_tokens as usize,
            };
            Ok(tokens as f64)
        };
        let (few, many) = (count(64)?, count(192)?);
        let word = (many - few) / 128.0;
        if word <= 0.0 {
            return Err(Failure::refused(format!(
                "the model counts {few} tokens in 64 words and {many} in 192"
            )));
        }
        Ok(Sizes {
            fixed: few - 64.0 * word,
            word,
        })
    }

    /// A prompt of about that many tokens.
    fn prompt_of(&self, sizes: &Sizes, tokens: usize) -> Prompt {
        let words = ((tokens as f64 - sizes.fixed) / sizes.word).round().max(1.0);
        self.prompt(words as usize)
    }

    fn ask(&self, prompt: Prompt) -> Result<Reply> {
        Ok(self.client.reply(&prompt, &NoCallbacks)?)
    }

    /// The median of several, after a first one that does not count.
    fn median(&self, mut once: impl FnMut() -> Result<Rate>) -> Result<Rate> {
        once()?;
        let mut rates = (0..self.work.times.max(1))
            .map(|_| once())
            .collect::<Result<Vec<_>>>()?;
        rates.sort_by(|a, b| a.per_second().total_cmp(&b.per_second()));
        Ok(rates[rates.len() / 2])
    }

    fn read(&self, sizes: &Sizes) -> Result<Rate> {
        self.median(|| {
            let prompt = self.prompt_of(sizes, self.work.prompt).sample(Sampling::greedy(1));
            let (reply, rate) = timed(self.process, || self.ask(prompt))?;
            let count = f64::from(reply.usage.prompt_tokens);
            Ok(Rate { count, ..rate })
        })
    }

    /// The time for a clip, less the cost of the words around it, and the clip's tokens.
    fn hear(&self, sizes: &Sizes, card: &ModelCard) -> Result<(Rate, u32)> {
        let rate = card.sample_rate.unwrap_or(16_000);
        let seconds = card.longest_clip.unwrap_or(f64::INFINITY).min(self.work.clip);
        let count = (seconds * f64::from(rate)) as usize;
        let ask = |clip: bool| {
            let mut prompt = self.prompt_of(sizes, 32).sample(Sampling::greedy(1));
            if clip && let Some(message) = prompt.messages.first_mut() {
                let mut all = self.words.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                prompt.clips = vec![Clip::new(rate, all.noise(count))];
                message.parts.insert(0, Part::clip(0));
            }
            timed(self.process, || self.ask(prompt))
        };
        let mut tokens = 0;
        let rate = self.median(|| {
            let ((_, without), (reply, with)) = (ask(false)?, ask(true)?);
            tokens = reply.usage.clip_tokens;
            Ok(Rate {
                count: reply.usage.clip_seconds,
                wall: with.wall.saturating_sub(without.wall),
                processor: with.processor.saturating_sub(without.processor),
            })
        })?;
        Ok((rate, tokens))
    }

    /// The time for answers of a number of tokens, less the cost of their first tokens.
    fn write(&self, sizes: &Sizes, answers: usize, tokens: u32) -> Result<Rate> {
        let serve = |tokens| {
            let prompts = (0..answers).map(|_| self.prompt_of(sizes, 32).sample(Sampling::greedy(tokens)));
            let prompts = prompts.collect();
            timed(self.process, || self.serve(prompts))
        };
        self.median(|| {
            let (first, without) = serve(1)?;
            let (all, with) = serve(tokens)?;
            let written = |replies: &[Reply]| -> u32 { replies.iter().map(|r| r.usage.generated_tokens).sum() };
            let count = written(&all).saturating_sub(written(&first));
            if count == 0 {
                return Err(Failure::refused(
                    "the model's answers to random words end with their first token",
                ));
            }
            Ok(Rate {
                count: f64::from(count),
                wall: with.wall.saturating_sub(without.wall),
                processor: with.processor.saturating_sub(without.processor),
            })
        })
    }

    fn choose(&self, sizes: &Sizes) -> Result<Rate> {
        self.median(|| {
            let prompt = || {
                self.prompt_of(sizes, self.work.choice_prompt)
                    .choose(["A", "B", "C", "D"])
            };
            let prompts = (0..self.work.choices).map(|_| prompt()).collect();
            let (replies, rate) = timed(self.process, || self.serve(prompts))?;
            let count = replies.len() as f64;
            Ok(Rate { count, ..rate })
        })
    }

    fn serve(&self, prompts: Vec<Prompt>) -> Result<Vec<Reply>> {
        let count = prompts.len();
        let serving = Queue {
            waiting: Mutex::new(prompts.into_iter().enumerate().collect()),
            replies: Mutex::default(),
        };
        self.client.serve(&serving)?;
        let replies = serving.replies.into_inner().unwrap_or_default();
        if replies.len() != count {
            return Err(Failure::refused(format!(
                "the model answered {} of {count} prompts",
                replies.len()
            )));
        }
        Ok(replies.into_iter().collect::<plugin_api::Result<_>>()?)
    }
}

/// Prompts for a model to pull, and its replies.
struct Queue {
    waiting: Mutex<Vec<(usize, Prompt)>>,
    replies: Mutex<Vec<plugin_api::Result<Reply>>>,
}

impl Serving for Queue {
    fn give(&self, _wait: Duration) -> Given {
        match self.waiting.lock().ok().and_then(|mut waiting| waiting.pop()) {
            Some((id, prompt)) => Given::Job {
                id: id as u64,
                prompt: Box::new(prompt),
                deadline: None,
            },
            None => Given::End,
        }
    }

    fn take(&self, _job: u64, reply: plugin_api::Result<Reply>) -> bool {
        if let Ok(mut replies) = self.replies.lock() {
            replies.push(reply);
        }
        true
    }
}

/// Random words of four letters and random sound, the same on every machine.
pub(super) struct Words(u64);

impl Words {
    pub(super) fn new(seed: u64) -> Words {
        Words(seed)
    }

    pub(super) fn noise(&mut self, samples: usize) -> Vec<f32> {
        let mut sample = || {
            self.next();
            (self.0 >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        (0..samples).map(|_| sample()).collect()
    }

    fn next(&mut self) {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
    }

    pub(super) fn text(&mut self, words: usize) -> String {
        let mut text = String::with_capacity(5 * words);
        for word in 0..words {
            if word > 0 {
                text.push(' ');
            }
            for _ in 0..4 {
                self.next();
                text.push(char::from(b'a' + (self.0 % 26) as u8));
            }
        }
        text
    }
}

/// Where a model computes: here, or in a worker of its own.
#[derive(Debug, Clone, Copy)]
pub struct Process {
    worker: Option<u32>,
}

impl Process {
    pub fn of(made: &OpenAdapter) -> Process {
        Process {
            worker: made.control.as_ref().and_then(|control| control.pid()),
        }
    }

    pub fn here() -> Process {
        Process { worker: None }
    }

    pub fn is_worker(self) -> bool {
        self.worker.is_some()
    }

    fn file(self, name: &str) -> String {
        let process = self.worker.map_or("self".to_owned(), |pid| pid.to_string());
        std::fs::read_to_string(format!("/proc/{process}/{name}")).unwrap_or_default()
    }

    /// The processor's time so far, in user and kernel.
    pub fn time(self) -> Duration {
        let stat = self.file("stat");
        // The program's name, in parentheses, may hold blanks. User and kernel time are fields 14 and 15 of all.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks: u64 = fields
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        Duration::from_millis(ticks * 10) // a hundredth of a second is what the kernel counts in towards programs
    }

    fn peak_bytes(self, made: &OpenAdapter) -> Option<u64> {
        match &made.control {
            Some(control) => control.peak_memory_bytes(),
            None => {
                let status = self.file("status");
                let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
                line.trim()
                    .trim_end_matches(" kB")
                    .trim()
                    .parse::<u64>()
                    .ok()
                    .map(|kb| kb * 1024)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_texts_are_alike_and_all_have_as_many_words() {
        let mut words = Words(1);
        let (one, two) = (words.text(50), words.text(50));
        assert_ne!(one, two);
        assert_eq!([one, two].map(|text| text.split(' ').count()), [50, 50]);
    }

    #[test]
    fn a_rate_is_work_by_time() {
        let rate = Rate {
            count: 512.0,
            wall: Duration::from_secs(2),
            processor: Duration::from_secs(4),
        };
        assert_eq!((rate.per_second(), rate.processor_ms_each()), (256.0, 7.8125));
    }

    #[test]
    fn time_in_the_processor_grows_with_work() {
        let (sum, rate) = timed(Process::here(), || {
            let began = Instant::now();
            let mut sum = 0u64;
            while began.elapsed() < Duration::from_millis(80) {
                sum = sum.wrapping_mul(31).wrapping_add(7);
            }
            Ok(sum)
        })
        .unwrap();
        assert!(sum > 0 && rate.wall >= Duration::from_millis(80));
        assert!(rate.processor > Duration::ZERO, "{rate:?}");
    }
}
