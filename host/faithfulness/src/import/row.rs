//! One answer of an experiment, however its file spells it.

use crate::experiment::Experiment;
use crate::letters::Letter;
use std::fmt;

/// Which of an experiment's points a row belongs to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Point {
    /// The experiment has one answer a chain and condition.
    Only,
    /// Sentences, a position, a percentage or decibels.
    At(f64),
    /// The clip without noise.
    Clean,
}

impl Point {
    /// Equal exactly for equal points.
    pub fn key(self) -> (u8, u64) {
        match self {
            Point::Only => (0, 0),
            // Adding zero turns -0 into 0.
            Point::At(value) => (1, (value + 0.0).to_bits()),
            Point::Clean => (2, 0),
        }
    }

    pub fn number(self) -> Option<f64> {
        match self {
            Point::At(value) => Some(value),
            Point::Only | Point::Clean => None,
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Point::Only => f.write_str("-"),
            Point::At(value) => write!(f, "{value}"),
            Point::Clean => f.write_str("clean"),
        }
    }
}

/// What the row itself says about the baseline's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stated {
    /// Its file has no such column.
    #[default]
    Nothing,
    /// The column holds this; `None` is a null, or a letter that is no option.
    Letter(Option<Letter>),
}

/// What a judge found an open answer to describe: the sounds, the speech, both or neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orientation {
    Audio,
    Speech,
    /// Both of them.
    Good,
    Neither,
}

impl Orientation {
    /// The word behind `Orientation:` in a judge's reply, or a column's word.
    pub fn read(text: &str) -> Option<Orientation> {
        let lower = text.to_lowercase();
        let said = lower
            .rsplit_once("orientation")
            .map_or(lower.as_str(), |(_, rest)| rest);
        let word = said
            .split(|char: char| !char.is_alphabetic())
            .find(|word| !word.is_empty())?;
        match word {
            "audio" => Some(Orientation::Audio),
            "speech" => Some(Orientation::Speech),
            "good" | "both" => Some(Orientation::Good),
            "neither" => Some(Orientation::Neither),
            _ => None,
        }
    }
}

/// One answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub id: String,
    pub chain: u64,
    /// What distinguishes rows of one point: `silence_random`, `overlay_wrong`.
    pub condition: String,
    pub point: Point,
    /// The chain's number of sentences.
    pub total: Option<u64>,
    pub letter: Option<Letter>,
    pub correct: Option<Letter>,
    /// Whether the row says that it is correct; used if the row names no correct letter.
    pub said_correct: Option<bool>,
    pub baseline: Stated,
    pub audio: Option<String>,
    /// A judge's score, where answers are no letters.
    pub score: Option<f64>,
    /// What the judge found the answer to describe.
    pub orientation: Option<Orientation>,
    /// The reasoning behind the answer, of baselines.
    pub reasoning: Option<String>,
    pub sanitized: Option<String>,
    /// Probabilities of the options, in order.
    pub options: Vec<f64>,
}

impl Row {
    pub fn new(id: String, chain: u64) -> Row {
        Row {
            id,
            chain,
            condition: String::new(),
            point: Point::Only,
            total: None,
            letter: None,
            correct: None,
            said_correct: None,
            baseline: Stated::Nothing,
            audio: None,
            score: None,
            orientation: None,
            reasoning: None,
            sanitized: None,
            options: Vec::new(),
        }
    }

    /// Whether the answer is right; a missing answer is wrong.
    pub fn right(&self) -> bool {
        match self.correct {
            Some(correct) => self.letter == Some(correct),
            None => self.said_correct == Some(true),
        }
    }

    pub fn key(&self) -> Key {
        Key {
            id: self.id.clone(),
            chain: self.chain,
            condition: self.condition.clone(),
            point: self.point.key(),
        }
    }

    pub fn trial(&self) -> Trial {
        Trial {
            id: self.id.clone(),
            chain: self.chain,
        }
    }

    /// The key for people: id, chain, condition if there is one, point if there is one.
    pub fn label(&self) -> String {
        label(&self.id, self.chain, &self.condition, self.point)
    }

    /// Where the point lies on the x axis, in percent (or decibels).
    pub fn x(&self, experiment: Experiment) -> Option<f64> {
        use crate::experiment::Scale;
        let at = self.point.number()?;
        let part = |of: f64| {
            self.total
                .filter(|total| *total > 0)
                .map(|total| of / total as f64 * 100.0)
        };
        match experiment.scale() {
            Scale::Sentences => part(at),
            Scale::Positions => part(at - 1.0),
            Scale::Percent | Scale::Decibels => Some(at),
            Scale::None => None,
        }
    }
}

pub(crate) fn label(id: &str, chain: u64, condition: &str, point: Point) -> String {
    let mut label = format!("{id}/{chain}");
    if !condition.is_empty() {
        label += &format!("/{condition}");
    }
    if point != Point::Only {
        label += &format!("/{point}");
    }
    label
}

/// One chain of one question.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Trial {
    pub id: String,
    pub chain: u64,
}

/// The key of a row within an experiment.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub id: String,
    pub chain: u64,
    pub condition: String,
    pub point: (u8, u64),
}
