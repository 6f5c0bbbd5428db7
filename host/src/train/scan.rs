//! Tokenises all lessons before training: finds their lengths, and those with problems.

use super::source::Source;
use crate::data::in_order;
use crate::failure::{Failure, Result};
use plugin_api::client::ModelClient;
use plugin_api::{Code, LessonTokens, ModelCard};
use std::sync::atomic::AtomicBool;

/// What is known of the lessons of both splits, with notes about them.
pub struct Scans {
    pub train: Scan,
    pub held_out: Scan,
}

/// What is known of the lessons of a split.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scan {
    pub rows: u64,
    pub tokens: u64,
    pub learnt: u64,
    /// Tokens of each row, as it is trained.
    pub lengths: Vec<u64>,
    /// Trained tokens of each row.
    pub learnt_each: Vec<u64>,
    /// Seconds of audio of each row, as far as the model hears them.
    pub seconds_each: Vec<f64>,
    pub without_learnt: Vec<String>,
    pub too_long: Vec<String>,
    /// Whether a row with a clip is among those.
    pub heard_too_long: bool,
    /// How many tokens a row may have.
    pub limit: usize,
    pub shortened: u64,
    /// Rows that lost trained tokens when they were cut.
    pub lost_learnt: u64,
    pub broken: Vec<String>,
}

/// How long rows may be, and what happens to longer ones.
#[derive(Debug, Clone, Copy)]
pub struct Most<'a> {
    pub tokens: Option<u64>,
    pub context: Option<u64>,
    pub cut: &'a str,
}

/// How a model hears.
#[derive(Debug, Clone, Copy)]
pub struct Ears {
    /// Samples in a second.
    pub rate: f64,
    /// The seconds that it hears of a clip.
    pub longest: f64,
}

impl Ears {
    /// None for a model that does not hear.
    pub fn of(card: &ModelCard) -> Option<Ears> {
        card.hears().then(|| Ears {
            rate: f64::from(card.sample_rate.unwrap_or(16_000)),
            longest: card.longest_clip.unwrap_or(f64::INFINITY),
        })
    }

    fn seconds(&self, samples: &[u64]) -> f64 {
        let each = samples.iter().map(|count| *count as f64 / self.rate);
        each.map(|seconds| seconds.min(self.longest)).sum()
    }
}

/// The most names that are listed.
pub const SHOWN: usize = 5;

/// Scans all lessons. Of clips it reads the headers, since the length of a clip says how many tokens it becomes.
pub fn scan(
    client: &ModelClient,
    source: &dyn Source,
    most: Most,
    ears: Option<Ears>,
    stop: &AtomicBool,
) -> Result<Scan> {
    let mut scan = Scan::default();
    let indexes: Vec<usize> = (0..source.len()).collect();
    let look = |index: usize| {
        let seen = || -> plugin_api::Result<(LessonTokens, Option<f64>)> {
            let mut lesson = source.measured(index)?;
            let samples = Some(&lesson.clip_samples).filter(|samples| !samples.is_empty());
            let heard = samples.map(|samples| ears.map_or(0.0, |ears| ears.seconds(samples)));
            // Only a model that hears knows which token is the place of a clip.
            let tokens = match lesson.tokens.take_if(|_| heard.is_none() && ears.is_none()) {
                Some(tokens) => tokens,
                None => match (client.lesson_tokens(&lesson), lesson.tokens) {
                    // A model may learn from tokens without making any.
                    (Err(error), Some(tokens)) if error.code == Code::NOT_IMPLEMENTED => tokens,
                    (tokens, _) => tokens?,
                },
            };
            Ok((tokens, heard))
        };
        (index, seen())
    };
    in_order(&indexes, stop, look, |(index, seen)| {
        scan.rows += 1;
        match seen {
            Ok((tokens, heard)) => scan.take(index, source, tokens, heard, most),
            Err(error) if error.code.is_inability() => {
                let code = error.code;
                let named = error.context(format!("lesson `{}` cannot be learnt", source.name(index)));
                return Err(named.code(code).into());
            }
            Err(error) => {
                let name = format!("`{}`", source.name(index));
                scan.broken.push(match error.message.contains(&name) {
                    true => error.to_string(),
                    false => format!("{name}: {error}"),
                });
            }
        }
        Ok(())
    })?;
    Ok(scan)
}

impl Scan {
    fn take(&mut self, index: usize, source: &dyn Source, tokens: LessonTokens, heard: Option<f64>, most: Most) {
        let (mut length, mut learn) = (tokens.ids.len(), tokens.learn);
        let learnt = |learn: &[bool]| learn.iter().skip(1).filter(|learn| **learn).count() as u64;
        let whole = learnt(&learn);
        if whole == 0 {
            self.without_learnt.push(source.name(index));
        }
        let limit = most.tokens.into_iter().chain(most.context).min().unwrap_or(u64::MAX) as usize;
        self.limit = limit;
        if length > limit {
            // Cutting a row with a clip would leave vectors without places.
            if heard.is_some() || most.tokens.is_none() || most.cut == "refuse" {
                self.heard_too_long |= heard.is_some();
                self.too_long
                    .push(format!("`{}` ({length} tokens)", source.name(index)));
            } else {
                self.shortened += 1;
                learn = kept(learn, limit, most.cut);
                length = limit;
                self.lost_learnt += u64::from(learnt(&learn) < whole);
            }
        }
        self.tokens += length as u64;
        self.learnt += learnt(&learn);
        self.lengths.push(length as u64);
        self.learnt_each.push(learnt(&learn));
        self.seconds_each.push(heard.unwrap_or_default());
    }

    /// Notes for people before they wait for hours.
    pub fn notes(&self, what: &str) -> Vec<String> {
        let (mut notes, rows) = (Vec::new(), self.rows);
        let names = |all: &[String]| {
            let shown = all.iter().take(SHOWN).map(|name| format!("`{name}`"));
            let more = if all.len() > SHOWN { " and others" } else { "" };
            format!("{}{more}", shown.collect::<Vec<_>>().join(", "))
        };
        if !self.without_learnt.is_empty() {
            let count = self.without_learnt.len();
            notes.push(format!(
                "{count} of {rows} {what} without a learnt token: {}",
                names(&self.without_learnt)
            ));
        }
        if self.shortened > 0 {
            let (count, lost) = (self.shortened, self.lost_learnt);
            notes.push(format!(
                "{count} of {rows} {what} shortened, {lost} of them by learnt tokens"
            ));
        }
        notes
    }

    /// Refuses a run that would train nothing.
    pub fn check(&self, what: &str) -> Result<()> {
        if !self.too_long.is_empty() {
            let names = self.too_long.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
            let (count, rows) = (self.too_long.len(), self.rows);
            let (limit, more) = (self.limit, if self.too_long.len() > SHOWN { " and others" } else { "" });
            let message = format!("{count} of {rows} {what} too long: {names}{more}; at most {limit} tokens fit");
            let failure = Failure::usage(message);
            let hint = match self.heard_too_long {
                true => {
                    "rows with a clip are not shortened: leave them out, use shorter clips, or raise `--max-length` if it is the limit"
                }
                false => {
                    "give `--max-length N`, and say with `--truncation right|left|prompt` what goes, or leave them out"
                }
            };
            return Err(self.broken.iter().take(SHOWN).fold(failure.help(hint), Failure::cause));
        }
        if !self.broken.is_empty() {
            let (count, rows) = (self.broken.len(), self.rows);
            let failure = Failure::missing(format!("{count} of {rows} {what} cannot be learnt"));
            return Err(self.broken.iter().take(SHOWN).fold(failure, Failure::cause));
        }
        if self.rows > 0 && self.learnt == 0 {
            let failure = Failure::missing(format!("none of the {} {what} has a learnt token", self.rows));
            return Err(failure.help("`--show 3` prints lessons with what is learnt of them"));
        }
        Ok(())
    }
}

/// The mark of a cut row, by the end that is removed.
fn kept(learn: Vec<bool>, limit: usize, cut: &str) -> Vec<bool> {
    let over = learn.len() - limit;
    match cut {
        "left" => learn[over..].to_vec(),
        "prompt" => {
            let prompt = learn.iter().position(|learn| *learn).unwrap_or(learn.len());
            match prompt >= over {
                true => [&learn[..prompt - over], &learn[prompt..]].concat(),
                false => learn[over..].to_vec(),
            }
        }
        _ => learn[..limit].to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::source::Empty;

    fn scanned(rows: &[(usize, usize)], most: Most) -> Scan {
        let mut scan = Scan::default();
        for (index, (length, learnt)) in rows.iter().enumerate() {
            let tokens = LessonTokens {
                ids: vec![1; *length],
                learn: (0..*length).map(|place| place >= length - learnt).collect(),
                ..LessonTokens::default()
            };
            scan.rows += 1;
            scan.take(index, &Empty, tokens, None, most);
        }
        scan
    }

    #[test]
    fn lengths_and_troubles_are_counted() {
        let most = Most {
            tokens: Some(6),
            context: None,
            cut: "right",
        };
        let scan = scanned(&[(5, 2), (8, 1), (8, 4), (3, 0), (2, 2)], most);
        assert_eq!((scan.tokens, scan.learnt), (5 + 6 + 6 + 3 + 2, 2 + 2 + 1));
        assert_eq!((scan.shortened, scan.lost_learnt), (2, 2));
        assert_eq!(scan.without_learnt, ["row 3"]);
        assert!(scan.check("rows").is_ok());
        let left = scanned(&[(8, 4)], Most { cut: "left", ..most });
        assert_eq!((left.learnt, left.lost_learnt), (4, 0));
    }

    #[test]
    fn what_cannot_be_learnt_is_refused() {
        let most = Most {
            tokens: None,
            context: Some(4),
            cut: "right",
        };
        assert!(
            scanned(&[(5, 1)], most)
                .check("rows")
                .unwrap_err()
                .error
                .message
                .contains("`row 0` (5 tokens)")
        );
        assert!(
            scanned(&[(3, 0)], most)
                .check("rows")
                .unwrap_err()
                .error
                .message
                .contains("has a learnt token")
        );
    }
}
