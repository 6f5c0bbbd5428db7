//! Beam search: looks for the most likely answers as a whole, not for the most likely token each time.
//!
//! Its answers equal those of transformers, token by token. The repetition penalty applies to log-probabilities, which
//! are not normalised again, nor are they where a stop token is still forbidden. Finished answers compete by `sum /
//! tokens ^ length_penalty`, the stop token counted. The search ends when there are as many finished answers as beams
//! and no beam, if it ended now, would beat the worst of them.

use super::defaults::EarlyStop;
use super::lane::Lane;
use super::sampler::{argmax, ban, log_sum, penalise};
use plugin_api::{Finish, Result};
use std::collections::HashSet;
use text::Reader;

/// The settings of a search.
#[derive(Debug, Clone, PartialEq)]
pub struct Breadth {
    pub beams: usize,
    pub length_penalty: f32,
    pub early_stop: EarlyStop,
    pub repetition_penalty: f32,
    /// The maximum length in tokens, and the minimum before an end token counts.
    pub room: usize,
    pub least: usize,
}

/// The search for the answers to one prompt.
pub struct Search {
    pub job: u64,
    breadth: Breadth,
    /// Beams that still grow, most likely first. While the prompt is read, one.
    pub beams: Vec<Beam>,
    /// Finished answers, best first.
    ended: Vec<Ended>,
    prompt: HashSet<u32>,
}

/// An answer that grows.
pub struct Beam {
    pub lane: Lane,
    reader: Reader,
    log_probability: f32,
}

/// A finished answer.
pub struct Ended {
    pub tokens: Vec<u32>,
    pub score: f32,
    pub reader: Reader,
    pub finish: Finish,
}

/// A beam and its next token.
struct Candidate {
    beam: usize,
    token: u32,
    log_probability: f32,
}

/// The state of the search after the last tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Growing,
    Done,
    /// The logits are not numbers.
    Broken,
}

impl Search {
    pub fn new(job: u64, lane: Lane, reader: Reader, breadth: Breadth) -> Search {
        let prompt = lane.input.tokens.iter().copied().collect();
        let first = Beam {
            lane,
            reader,
            log_probability: 0.0,
        };
        Search {
            job,
            breadth,
            beams: vec![first],
            ended: Vec::new(),
            prompt,
        }
    }

    /// The number of rows that it takes.
    pub fn rows(&self) -> usize {
        self.breadth.beams
    }

    /// The maximum length of a beam in tokens, prompt and answer.
    pub fn tokens(&self) -> usize {
        let prompt = self.beams.first().map_or(0, |beam| beam.lane.input.tokens.len());
        prompt + self.breadth.room
    }

    /// The maximum length of an answer in tokens.
    pub fn room(&self) -> usize {
        self.breadth.room
    }

    /// Takes the logits after each beam's last token.
    pub fn advance(&mut self, logits: Vec<Vec<f32>>, stop: &[u32]) -> Result<State> {
        // Enough to continue with, even if all stop tokens of all beams are among them.
        let kept = (1 + stop.len()).max(2) * self.breadth.beams;
        let Some(candidates) = self.candidates(logits, stop, kept) else {
            return Ok(State::Broken);
        };
        let mut growing: Vec<(Candidate, Reader)> = Vec::new();
        for (rank, candidate) in candidates.into_iter().enumerate() {
            let Beam { lane, reader, .. } = &self.beams[candidate.beam];
            let mut reader = reader.clone();
            let length = lane.spoken.len() + 1;
            let finish = match stop.contains(&candidate.token) {
                true => Some(Finish::Stop),
                false => {
                    reader.push(candidate.token)?;
                    let full = (length >= self.breadth.room).then_some(Finish::Length);
                    if reader.stopped() { Some(Finish::Stop) } else { full }
                }
            };
            match finish {
                // Further down, a candidate that ends is dropped.
                Some(finish) if rank < self.breadth.beams => {
                    let mut tokens = lane.spoken.clone();
                    tokens.push(candidate.token);
                    let score = self.score(candidate.log_probability, length);
                    self.ended.push(Ended {
                        tokens,
                        score,
                        reader,
                        finish,
                    });
                }
                None if growing.len() < self.breadth.beams => growing.push((candidate, reader)),
                _ => {}
            }
        }
        self.ended.sort_by(|a, b| b.score.total_cmp(&a.score));
        self.ended.truncate(self.breadth.beams);
        self.grow(growing)?;
        Ok(if self.is_over() { State::Done } else { State::Growing })
    }

    /// The best answers, at most this many; the most likely beam as it is, if none has finished.
    pub fn finish(mut self, answers: usize) -> Vec<Ended> {
        if self.ended.is_empty()
            && let Some(beam) = self.beams.into_iter().next()
        {
            let full = beam.lane.spoken.len() >= self.breadth.room;
            self.ended.push(Ended {
                tokens: beam.lane.spoken,
                score: beam.log_probability,
                reader: beam.reader,
                finish: if full { Finish::Length } else { Finish::Stop },
            });
        }
        self.ended.truncate(answers.max(1));
        self.ended
    }

    /// The most likely continuations of all beams, most likely first. None if logits are not numbers.
    fn candidates(&self, logits: Vec<Vec<f32>>, stop: &[u32], kept: usize) -> Option<Vec<Candidate>> {
        let mut candidates = Vec::new();
        for (index, (beam, mut logits)) in self.beams.iter().zip(logits).enumerate() {
            argmax(&logits)?;
            let log_sum = log_sum(&logits);
            logits
                .iter_mut()
                .for_each(|logit| *logit = (f64::from(*logit) - log_sum) as f32);
            let penalty = self.breadth.repetition_penalty;
            if penalty != 1.0 {
                let seen: HashSet<u32> = beam.lane.spoken.iter().chain(&self.prompt).copied().collect();
                penalise(&mut logits, &seen, penalty);
            }
            if beam.lane.spoken.len() < self.breadth.least {
                ban(&mut logits, stop);
            }
            let mut tokens: Vec<u32> = (0..logits.len() as u32).collect();
            let better = |&a: &u32, &b: &u32| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b));
            if kept < tokens.len() {
                tokens.select_nth_unstable_by(kept - 1, better);
                tokens.truncate(kept);
            }
            tokens.sort_unstable_by(better);
            candidates.extend(tokens.into_iter().map(|token| Candidate {
                beam: index,
                token,
                log_probability: beam.log_probability + logits[token as usize],
            }));
        }
        candidates.sort_by(|a, b| b.log_probability.total_cmp(&a.log_probability));
        candidates.truncate(kept);
        Some(candidates)
    }

    /// Makes these the beams. A beam that continues in one way stays where it is. If it continues in several, they
    /// overwrite caches of dropped beams, which already hold the prompt.
    fn grow(&mut self, growing: Vec<(Candidate, Reader)>) -> Result<()> {
        let mut lanes: Vec<Option<Lane>> = self.beams.drain(..).map(|beam| Some(beam.lane)).collect();
        let goes_on = |index: usize| growing.iter().any(|(candidate, _)| candidate.beam == index);
        let mut spare: Vec<Lane> = (0..lanes.len())
            .filter(|&index| !goes_on(index))
            .filter_map(|index| lanes[index].take())
            .collect();
        let mut places: Vec<Option<Lane>> = growing.iter().map(|_| None).collect();
        let first = |place: usize| growing[..place].iter().all(|(it, _)| it.beam != growing[place].0.beam);
        for place in (0..growing.len()).filter(|&place| !first(place)) {
            let Some(parent) = &lanes[growing[place].0.beam] else {
                continue;
            };
            places[place] = Some(match spare.pop() {
                Some(mut lane) => {
                    lane.follow(parent)?;
                    lane
                }
                None => parent.fork()?,
            });
        }
        for (place, (candidate, reader)) in growing.into_iter().enumerate() {
            let Some(mut lane) = places[place].take().or_else(|| lanes[candidate.beam].take()) else {
                continue;
            };
            lane.spoken.push(candidate.token);
            self.beams.push(Beam {
                lane,
                reader,
                log_probability: candidate.log_probability,
            });
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        let Some(best) = self.beams.first() else {
            return true;
        };
        let (true, Some(worst)) = (self.ended.len() == self.breadth.beams, self.ended.last()) else {
            return false;
        };
        let length = match self.breadth.early_stop {
            EarlyStop::Yes => return true,
            EarlyStop::Never if self.breadth.length_penalty > 0.0 => self.breadth.room,
            EarlyStop::No | EarlyStop::Never => best.lane.spoken.len(),
        };
        self.score(best.log_probability, length) <= worst.score
    }

    fn score(&self, log_probability: f32, length: usize) -> f32 {
        let divisor = (length as f64).powf(f64::from(self.breadth.length_penalty));
        (f64::from(log_probability) / divisor) as f32
    }
}
