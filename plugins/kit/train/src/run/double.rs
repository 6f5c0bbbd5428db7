//! A small engine that learns for real: the log-odds of each token given the one before, and nothing else.
//!
//! It replaces the model in tests of the loop. Its gradient is exact, its update is AdamW, and it draws random
//! numbers from its own state, so that tests notice a resume that forgets any of them.

use super::{Picker, Student};
use crate::{Engine, EngineSettings, Facts, Parameter, Row, StepReport, Sums};
use plugin_api::{Clip, Code, Error, Lesson, LessonTokens, Result};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub const VOCABULARY: usize = 13;
/// The token that ends an answer.
const END: u32 = 12;
const VALUES: usize = VOCABULARY * VOCABULARY;

pub struct Bigram {
    weights: Vec<f32>,
    gradient: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
    steps: u64,
    draws: u64,
    max_norm: f64,
    /// The fault of a learner that is to fail at this step.
    pub fault: Option<(u64, Fault)>,
    pub pause: Duration,
    /// Draws no random numbers.
    pub steady: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// The loss is not a number.
    NotANumber,
    /// Two rows together do not fit into memory.
    Memory,
    /// It fails.
    Broken,
    /// Its states do not fit onto the disk.
    DiskFull,
}

impl Bigram {
    pub fn new(settings: &EngineSettings) -> Bigram {
        Bigram {
            weights: vec![0.0; VALUES],
            gradient: vec![0.0; VALUES],
            first: vec![0.0; VALUES],
            second: vec![0.0; VALUES],
            steps: 0,
            draws: settings.seed,
            max_norm: settings.optim.max_grad_norm,
            fault: None,
            pause: Duration::ZERO,
            steady: false,
        }
    }

    fn draw(&mut self) -> f32 {
        self.draws = self
            .draws
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.draws >> 40) as f32 / (1 << 24) as f32
    }

    /// The loss of one row, and its gradient for each weight.
    fn pass(&self, row: &Row, mut each: impl FnMut(usize, f32)) -> Sums {
        let mut sums = Sums::default();
        for (pair, label) in row.ids.windows(2).zip(&row.labels[1..]) {
            let Some(label) = label else { continue };
            let from = pair[0] as usize * VOCABULARY;
            let odds: Vec<f64> = self.weights[from..from + VOCABULARY]
                .iter()
                .map(|weight| f64::from(*weight))
                .collect();
            let sum: f64 = odds.iter().map(|odd| odd.exp()).sum();
            sums.loss += sum.ln() - odds[*label as usize];
            sums.items += 1;
            for (token, odd) in odds.iter().enumerate() {
                let wanted = f64::from(u8::from(token == *label as usize));
                each(from + token, (odd.exp() / sum - wanted) as f32);
            }
        }
        sums
    }

    fn values(&self) -> [(&'static str, &Vec<f32>); 3] {
        [
            ("weights", &self.weights),
            ("first", &self.first),
            ("second", &self.second),
        ]
    }
}

impl Engine for Bigram {
    fn facts(&self) -> Facts {
        Facts {
            parameters: vec![Parameter {
                name: "odds".to_owned(),
                shape: vec![VOCABULARY, VOCABULARY],
                decayed: true,
            }],
            values: VALUES as u64,
            vocabulary: VOCABULARY,
            context: 4096,
            ..Facts::default()
        }
    }

    fn learn(&mut self, rows: &[Row], items: u64) -> Result<Sums> {
        std::thread::sleep(self.pause);
        let fault = self
            .fault
            .filter(|(step, _)| *step == self.steps)
            .map(|(_, fault)| fault);
        match fault {
            Some(Fault::Memory) if rows.len() > 1 => return Err(Error::new(Code::MEMORY, "out of memory")),
            Some(Fault::Broken) => return Err(Error::msg("the engine broke")),
            Some(Fault::NotANumber) => self.weights[0] = f32::NAN,
            _ => {}
        }
        let mut sums = Sums::default();
        for row in rows {
            let mut parts = Vec::new();
            sums += self.pass(row, |place, value| parts.push((place, value)));
            // As with dropout, a little of each row's gradient depends on a random number.
            let keep = if self.steady { 1.0 } else { 1.0 - 0.01 * self.draw() };
            for (place, value) in parts {
                self.gradient[place] += value * keep / items as f32;
            }
        }
        Ok(sums)
    }

    fn gradient(&mut self) -> &mut [f32] {
        &mut self.gradient
    }

    fn step(&mut self, rate: f64) -> Result<StepReport> {
        let norm = self
            .gradient
            .iter()
            .map(|value| f64::from(*value).powi(2))
            .sum::<f64>()
            .sqrt();
        let factor = (self.max_norm / (norm + 1e-6)).min(1.0);
        self.steps += 1;
        let corrected = |beta: f64| 1.0 - beta.powi(self.steps as i32);
        for place in 0..VALUES {
            let gradient = f64::from(self.gradient[place]) * factor;
            let first = 0.9 * f64::from(self.first[place]) + 0.1 * gradient;
            let second = 0.999 * f64::from(self.second[place]) + 0.001 * gradient * gradient;
            let update = first / corrected(0.9) / ((second / corrected(0.999)).sqrt() + 1e-8);
            self.first[place] = first as f32;
            self.second[place] = second as f32;
            self.weights[place] -= (rate * update) as f32;
            self.gradient[place] = 0.0;
        }
        Ok(StepReport {
            grad_norm: norm,
            factor,
        })
    }

    fn forget(&mut self) {
        self.gradient.fill(0.0);
        self.fault = None;
    }

    fn evaluate(&mut self, rows: &[Row]) -> Result<Vec<Sums>> {
        Ok(rows.iter().map(|row| self.pass(row, |_, _| {})).collect())
    }

    fn logits(&mut self, _row: &Row) -> Result<Vec<f32>> {
        Ok(self.weights.clone())
    }

    fn answer(
        &mut self,
        row: &Row,
        tokens: usize,
        next: &mut dyn FnMut(&mut [f32]) -> Result<Option<u32>>,
    ) -> Result<()> {
        let mut last = row.ids[tokens - 1];
        loop {
            std::thread::sleep(self.pause);
            let mut logits = self.weights[last as usize * VOCABULARY..][..VOCABULARY].to_vec();
            let Some(token) = next(&mut logits)? else { return Ok(()) };
            last = token;
        }
    }

    fn hear(&mut self, _clip: &Clip) -> Result<Option<Vec<f32>>> {
        Ok(None)
    }

    fn places(&self, _clip: &Clip) -> Result<usize> {
        Err(Error::unsupported("bigrams hear nothing"))
    }

    fn save(&self, folder: &Path) -> Result<Vec<String>> {
        let bytes: Vec<u8> = self.weights.iter().flat_map(|value| value.to_le_bytes()).collect();
        std::fs::write(folder.join("model.safetensors"), bytes)?;
        Ok(vec!["model.safetensors".to_owned()])
    }

    fn save_state(&self, file: &Path) -> Result<()> {
        // In pieces, so that a kill can happen between them.
        let mut bytes = Vec::new();
        for (_, values) in self.values() {
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            std::fs::write(file, &bytes)?;
            std::thread::sleep(self.pause);
        }
        if self.fault == Some((self.steps, Fault::DiskFull)) {
            return Err(std::io::Error::from_raw_os_error(28).into());
        }
        bytes.extend(self.steps.to_le_bytes());
        bytes.extend(self.draws.to_le_bytes());
        Ok(std::fs::write(file, bytes)?)
    }

    fn restore(&mut self, _folder: &Path, state: &Path) -> Result<()> {
        let bytes = std::fs::read(state)?;
        let words: Vec<f32> = bytes.as_chunks::<4>().0[..3 * VALUES]
            .iter()
            .map(|word| f32::from_le_bytes(*word))
            .collect();
        self.weights.copy_from_slice(&words[..VALUES]);
        self.first.copy_from_slice(&words[VALUES..2 * VALUES]);
        self.second.copy_from_slice(&words[2 * VALUES..]);
        let tail = bytes[12 * VALUES..].as_chunks::<8>().0;
        (self.steps, self.draws) = (u64::from_le_bytes(tail[0]), u64::from_le_bytes(tail[1]));
        Ok(())
    }

    fn steps_done(&self) -> u64 {
        self.steps
    }
}

/// A model of bigrams.
#[derive(Default)]
pub struct Pupil {
    pub fault: Option<(u64, Fault)>,
    pub pause: Duration,
    pub companions: Vec<PathBuf>,
    pub steady: bool,
    /// How it tokenises lessons of text.
    pub cut: Option<fn(&Lesson) -> LessonTokens>,
}

impl Student for Pupil {
    fn cut(&mut self, lesson: &Lesson) -> Result<LessonTokens> {
        lesson
            .tokens
            .clone()
            .ok_or_else(|| Error::unsupported("bigrams are learnt from tokens"))
    }

    fn engine(&mut self, settings: &EngineSettings) -> Result<Box<dyn Engine>> {
        Ok(Box::new(Bigram {
            fault: self.fault,
            pause: self.pause,
            steady: self.steady,
            ..Bigram::new(settings)
        }))
    }

    fn companions(&self) -> Vec<PathBuf> {
        self.companions.clone()
    }
    fn picker(&self, _prompt: &[u32]) -> Picker {
        Box::new(|logits| {
            let best = logits.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
            best.map(|(token, _)| token as u32).filter(|token| *token != END)
        })
    }

    fn ends(&self, token: u32) -> bool {
        token == END
    }

    fn text(&self, tokens: &[u32], _specials: bool) -> Result<String> {
        let words: Vec<String> = tokens.iter().map(u32::to_string).collect();
        Ok(words.join(" "))
    }
}
