//! Samples whose score changed from one side to the other, with what both sides said.

use super::pairing::{Pair, Pairs, Places, Sides};
use super::side::{Part, Seen, Side};
use crate::failure::{Failure, Result};
use crate::run::store::Records;
use serde::ser::{Error, Serialize, SerializeSeq, Serializer};
use serde_json::Value;

/// One sample that one side got right and the other wrong, or scored differently.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
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

/// The flips of one metric, losses first: they are what people look for. Where they lie is known, and what was said is
/// read for those that are shown.
pub struct Flips {
    sides: Sides,
    metric: String,
    places: Vec<Places>,
    /// The first of `places` are losses.
    pub losses: usize,
}

impl Flips {
    /// None if there is no metric.
    pub fn of(pairs: &Pairs, metric: Option<&str>) -> Flips {
        let (sides, metric) = (&pairs.sides, metric.unwrap_or_default());
        let higher_is_better = sides.first.higher_is_better.get(metric).copied().unwrap_or(true);
        let of = |gain: bool| {
            let flipped = move |places: &&Places| {
                values(sides.at(**places), metric)
                    .is_some_and(|(first, second)| first != second && ((second > first) == higher_is_better) == gain)
            };
            pairs.scored.iter().filter(flipped)
        };
        let mut places: Vec<Places> = of(false).copied().collect();
        let losses = places.len();
        places.extend(of(true));
        Flips {
            sides: sides.clone(),
            metric: metric.to_owned(),
            places,
            losses,
        }
    }

    pub fn count(&self) -> usize {
        self.places.len()
    }

    pub fn gains(&self) -> usize {
        self.places.len() - self.losses
    }

    /// Each of them, with what both sides said.
    pub fn read(&self) -> Result<impl Iterator<Item = Result<Flip>>> {
        let Sides { first, second } = &self.sides;
        let mut readers = match self.places.is_empty() {
            true => None,
            false => Some((reader(first)?, reader(second)?)),
        };
        let flip = move |(number, places): (usize, &Places)| {
            let (mine, theirs) = self.sides.at(*places);
            let (first, second) = values((mine, theirs), &self.metric).unwrap_or_default();
            let (one, other) = readers.as_mut().expect("there are readers where there are flips");
            let (one, other) = (one.read_at(mine.place())?, other.read_at(theirs.place())?);
            let (sample, variant, chain) = mine.key();
            Ok(Flip {
                sample_id: sample.to_owned(),
                variant: variant.to_owned(),
                chain,
                flip: if number < self.losses { "loss" } else { "gain" },
                metric: self.metric.clone(),
                first,
                second,
                first_answer: one.answer(),
                second_answer: other.answer(),
                first_text: one.said(),
                second_text: other.said(),
                target: one.target,
            })
        };
        Ok(self.places.iter().enumerate().map(flip))
    }

    /// The first ones.
    pub fn first(&self, most: usize) -> Result<Vec<Flip>> {
        self.read()?.take(most).collect()
    }
}

/// One after the other, since there may be millions.
impl Serialize for Flips {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let error = |failure: Failure| S::Error::custom(failure.error);
        let mut all = serializer.serialize_seq(Some(self.count()))?;
        for flip in self.read().map_err(error)? {
            all.serialize_element(&flip.map_err(error)?)?;
        }
        all.end()
    }
}

fn reader(side: &Side) -> Result<Records<'_>> {
    let run = side.run.as_ref();
    run.ok_or_else(|| Failure::missing(format!("`{}` has no records", side.path)))?
        .scattered()
}

fn values((mine, theirs): Pair, metric: &str) -> Option<(f64, f64)> {
    Some((value(mine, metric)?, value(theirs, metric)?))
}

fn value(seen: Seen, metric: &str) -> Option<f64> {
    match seen.value(metric)? {
        Part::Mean(value) => Some(value),
        Part::Ratio(above, below) if below > 0.0 => Some(above / below),
        Part::Ratio(..) => None,
    }
}

/// How much of a text a terminal shows; `--json` has all of it.
const SHOWN: usize = 160;

/// The first `most` flips for reading.
pub(super) fn text(flips: &Flips, most: usize) -> Result<String> {
    let mut text = String::new();
    for flip in flips.first(most)? {
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
    if flips.count() > most && most > 0 {
        text += &format!(
            "\n{} more; `--flips N` lists more of them, `--json` all\n",
            flips.count() - most
        );
    }
    Ok(text)
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
