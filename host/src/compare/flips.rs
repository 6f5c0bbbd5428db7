//! Samples whose score changed from one side to the other, with what both sides said.

use super::pairing::Pairs;
use super::side::{Entry, Part};
use serde::Serialize;
use serde_json::Value;

/// One sample that one side got right and the other wrong, or scored differently.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Flip {
    pub sample_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
    #[serde(skip_serializing_if = "is_first")]
    pub chain: u32,
    /// `gain` when the second side is better, `loss` when the first is.
    pub flip: &'static str,
    pub metric: String,
    pub first: f64,
    pub second: f64,
    pub target: Value,
    pub first_answer: Option<String>,
    pub second_answer: Option<String>,
    pub first_text: String,
    pub second_text: String,
}

fn is_first(chain: &u32) -> bool {
    *chain == 0
}

/// The flips of one metric, losses first: they are what people look for.
pub fn flips(pairs: &Pairs, metric: &str) -> Vec<Flip> {
    let higher_is_better = pairs.first.higher_is_better.get(metric).copied().unwrap_or(true);
    let mut flips: Vec<Flip> = pairs
        .pairs
        .iter()
        .filter_map(|(key, mine, theirs)| {
            let (first, second) = (value(mine, metric)?, value(theirs, metric)?);
            if first == second {
                return None;
            }
            Some(Flip {
                sample_id: key.sample.clone(),
                variant: key.variant.clone(),
                chain: key.chain,
                flip: if (second > first) == higher_is_better {
                    "gain"
                } else {
                    "loss"
                },
                metric: metric.to_owned(),
                first,
                second,
                target: mine.target.clone(),
                first_answer: mine.answer.as_deref().map(str::to_owned),
                second_answer: theirs.answer.as_deref().map(str::to_owned),
                first_text: mine.text.to_string(),
                second_text: theirs.text.to_string(),
            })
        })
        .collect();
    flips.sort_by_key(|flip| flip.flip == "gain");
    flips
}

fn value(entry: &Entry, metric: &str) -> Option<f64> {
    match entry.values.get(metric)? {
        Part::Mean(value) => Some(*value),
        Part::Ratio(above, below) if *below > 0.0 => Some(above / below),
        Part::Ratio(..) => None,
    }
}

/// How much of a text a terminal shows; `--json` has all of it.
const SHOWN: usize = 160;

/// The first `most` flips for reading.
pub(super) fn text(flips: &[Flip], most: usize) -> String {
    let mut text = String::new();
    for flip in flips.iter().take(most) {
        let chain = if flip.chain > 0 {
            format!(" chain {}", flip.chain)
        } else {
            String::new()
        };
        text += &format!("\n{} {}{chain}, target {}\n", flip.flip, flip.sample_id, flip.target);
        for (side, said, answer) in [
            ("first", &flip.first_text, &flip.first_answer),
            ("second", &flip.second_text, &flip.second_answer),
        ] {
            let read = answer.as_ref().filter(|answer| *answer != said);
            let read = read
                .map(|answer| format!(" [read as {}]", plain(answer)))
                .unwrap_or_default();
            text += &format!("  {side:<6} {}{read}\n", plain(said));
        }
    }
    if flips.len() > most && most > 0 {
        text += &format!(
            "\n{} more; `--flips N` lists more of them, `--json` all\n",
            flips.len() - most
        );
    }
    text
}

/// One line without control characters, so that a model's words can't move the cursor or colour the terminal.
fn plain(text: &str) -> String {
    let mut line: String = text
        .chars()
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        .filter(|c| !c.is_control())
        .take(SHOWN)
        .collect();
    if text.chars().count() > SHOWN {
        line.push('…');
    }
    line
}
