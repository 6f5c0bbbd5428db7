//! SLURP's official measures, on one utterance at a time and summed over many.
//!
//! It is independent of files, models and hosts. The measures keep three sums for each label: right, too many, missed.
//! Entity measures with a distance count a near miss as right and add the distance to both others, so the sums are not
//! integers. `slu_f1` combines both distances.
//!
//! The decision a newcomer would question: predicted fillers are compared exactly, including capitals and blanks. The
//! official script does so, and figures must be comparable.

use score::edit_distance;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// An entity: its type and the words that fill it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entity {
    /// One of the entity types.
    pub kind: String,
    /// The words.
    pub filler: String,
    /// True if it has further keys: then it equals no entity of the data.
    pub has_more: bool,
}

impl Entity {
    /// An entity without further keys.
    pub fn new(kind: impl Into<String>, filler: impl Into<String>) -> Self {
        Entity {
            kind: kind.into(),
            filler: filler.into(),
            has_more: false,
        }
    }
}

/// The labels of an utterance, from the data or from a model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Labels {
    /// One of the scenarios.
    pub scenario: String,
    /// One of the actions.
    pub action: String,
    /// The entities, in order.
    pub entities: Vec<Entity>,
}

impl Labels {
    /// The scenario and the action as one label.
    pub fn intent(&self) -> String {
        format!("{}_{}", self.scenario, self.action)
    }

    /// In the form of a prediction file, without its key.
    pub fn to_json(&self) -> Value {
        let entities = self.entities.iter();
        let entities = entities.map(|entity| json!({ "type": entity.kind, "filler": entity.filler }));
        json!({ "scenario": self.scenario, "action": self.action, "entities": entities.collect::<Value>() })
    }

    /// What [`Labels::to_json`] wrote; none when it is something else.
    pub fn from_json(value: &Map<String, Value>) -> Option<Labels> {
        let text = |value: &Value, name: &str| Some(value.get(name)?.as_str()?.to_owned());
        let entities = value.get("entities")?.as_array()?.iter();
        let entity = |value| Some(Entity::new(text(value, "type")?, text(value, "filler")?));
        Some(Labels {
            scenario: value.get("scenario")?.as_str()?.to_owned(),
            action: value.get("action")?.as_str()?.to_owned(),
            entities: entities.map(entity).collect::<Option<_>>()?,
        })
    }
}

/// The sums of one label.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Counts {
    /// True positives.
    pub right: f64,
    /// False positives, and the distances of near misses.
    pub too_many: f64,
    /// False negatives, and the distances of near misses.
    pub missed: f64,
}

impl Counts {
    fn add(&mut self, right: f64, too_many: f64, missed: f64) {
        self.right += right;
        self.too_many += too_many;
        self.missed += missed;
    }

    /// Precision, recall and F1.
    pub fn figures(&self) -> Figures {
        let share = |of: f64| if of == 0.0 { 0.0 } else { self.right / of };
        let precision = share(self.right + self.too_many);
        let recall = share(self.right + self.missed);
        let both = precision + recall;
        let f1 = if both == 0.0 {
            0.0
        } else {
            2.0 * precision * recall / both
        };
        Figures { precision, recall, f1 }
    }
}

/// Precision, recall and F1.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Figures {
    /// The share of what was predicted that is right.
    pub precision: f64,
    /// The share of what is there that was predicted.
    pub recall: f64,
    /// Their harmonic mean.
    pub f1: f64,
}

/// The counts of one measure, by label.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table(pub BTreeMap<String, Counts>);

impl Table {
    fn add(&mut self, label: &str, right: f64, too_many: f64, missed: f64) {
        match self.0.get_mut(label) {
            Some(counts) => counts.add(right, too_many, missed),
            None => {
                let counts = Counts {
                    right,
                    too_many,
                    missed,
                };
                self.0.insert(label.to_owned(), counts);
            }
        }
    }

    fn add_all(&mut self, other: &Table) {
        for (label, counts) in &other.0 {
            self.add(label, counts.right, counts.too_many, counts.missed);
        }
    }

    /// Adds up one predicted label.
    fn classify(&mut self, gold: &str, predicted: &str) {
        if gold == predicted {
            self.add(gold, 1.0, 0.0, 0.0);
        } else {
            self.add(predicted, 0.0, 1.0, 0.0);
            self.add(gold, 0.0, 0.0, 1.0);
        }
    }

    /// The sums over all labels.
    pub fn total(&self) -> Counts {
        let mut total = Counts::default();
        for counts in self.0.values() {
            total.add(counts.right, counts.too_many, counts.missed);
        }
        total
    }

    /// The figures of the sums.
    pub fn micro(&self) -> Figures {
        self.total().figures()
    }

    /// The unweighted means over all labels that occur, also only in a prediction; 0 if there is none.
    pub fn macro_mean(&self) -> Figures {
        let mut mean = Figures::default();
        let count = self.0.len().max(1) as f64;
        for counts in self.0.values() {
            let figures = counts.figures();
            mean.precision += figures.precision / count;
            mean.recall += figures.recall / count;
            mean.f1 += figures.f1 / count;
        }
        mean
    }
}

/// The measures by the names under which they are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// The scenario.
    Scenario,
    /// The action.
    Action,
    /// Both.
    Intent,
    /// Entities whose type and filler are equal.
    Entities,
    /// Entities by the words of their fillers.
    Word,
    /// Entities by the characters of their fillers.
    Char,
    /// Words and characters together.
    SluF1,
}

impl Measure {
    /// All of them, in the order of the official report.
    pub const ALL: [Measure; 7] = [
        Measure::Scenario,
        Measure::Action,
        Measure::Intent,
        Measure::Entities,
        Measure::Word,
        Measure::Char,
        Measure::SluF1,
    ];

    /// The name in the official report.
    pub fn name(self) -> &'static str {
        match self {
            Measure::Scenario => "scenario",
            Measure::Action => "action",
            Measure::Intent => "intent",
            Measure::Entities => "entities",
            Measure::Word => "word",
            Measure::Char => "char",
            Measure::SluF1 => "slu_f1",
        }
    }
}

/// All counts, of one utterance or of many.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tables {
    scenario: Table,
    action: Table,
    intent: Table,
    entities: Table,
    word: Table,
    char: Table,
}

impl Tables {
    /// The counts of one utterance.
    pub fn of(gold: &Labels, predicted: &Labels) -> Tables {
        let mut tables = Tables::default();
        tables.scenario.classify(&gold.scenario, &predicted.scenario);
        tables.action.classify(&gold.action, &predicted.action);
        tables.intent.classify(&gold.intent(), &predicted.intent());
        exact(&mut tables.entities, gold, predicted);
        near(&mut tables.word, gold, predicted, word_distance);
        near(&mut tables.char, gold, predicted, char_distance);
        tables
    }

    /// Adds the counts of others.
    pub fn add(&mut self, other: &Tables) {
        for (mine, its) in self.kept_mut().into_iter().zip(other.kept()) {
            mine.add_all(its);
        }
    }

    /// The counts of one measure.
    pub fn table(&self, measure: Measure) -> Cow<'_, Table> {
        Cow::Borrowed(match measure {
            Measure::Scenario => &self.scenario,
            Measure::Action => &self.action,
            Measure::Intent => &self.intent,
            Measure::Entities => &self.entities,
            Measure::Word => &self.word,
            Measure::Char => &self.char,
            Measure::SluF1 => {
                let mut both = self.word.clone();
                both.add_all(&self.char);
                return Cow::Owned(both);
            }
        })
    }

    fn kept(&self) -> [&Table; 6] {
        [
            &self.scenario,
            &self.action,
            &self.intent,
            &self.entities,
            &self.word,
            &self.char,
        ]
    }

    fn kept_mut(&mut self) -> [&mut Table; 6] {
        [
            &mut self.scenario,
            &mut self.action,
            &mut self.intent,
            &mut self.entities,
            &mut self.word,
            &mut self.char,
        ]
    }

    /// As a record keeps them: measure, label, then right, too many and missed.
    pub fn to_json(&self) -> Value {
        let tables = Measure::ALL.iter().zip(self.kept());
        let of = |table: &Table| -> Value {
            let counts = table.0.iter();
            let counts =
                counts.map(|(label, counts)| (label.clone(), json!([counts.right, counts.too_many, counts.missed])));
            Value::Object(counts.collect())
        };
        tables
            .map(|(measure, table)| (measure.name().to_owned(), of(table)))
            .collect()
    }

    /// What [`Tables::to_json`] wrote; none when it is something else.
    pub fn from_json(value: &Value) -> Option<Tables> {
        let mut tables = Tables::default();
        for (measure, table) in Measure::ALL.iter().zip(tables.kept_mut()) {
            for (label, counts) in value.get(measure.name())?.as_object()? {
                let count = |index: usize| counts.get(index)?.as_f64();
                table.add(label, count(0)?, count(1)?, count(2)?);
            }
        }
        Some(tables)
    }
}

/// Walks the predicted entities in order and strikes out the equal ones.
fn exact(table: &mut Table, gold: &Labels, predicted: &Labels) {
    let mut left: Vec<&Entity> = gold.entities.iter().collect();
    for entity in &predicted.entities {
        match left.iter().position(|other| *other == entity) {
            Some(index) => {
                left.remove(index);
                table.add(&entity.kind, 1.0, 0.0, 0.0);
            }
            None => table.add(&entity.kind, 0.0, 1.0, 0.0),
        }
    }
    for entity in left {
        table.add(&entity.kind, 0.0, 0.0, 1.0);
    }
}

/// Walks the predicted entities in order and strikes out the nearest of the same type, the first of equally near ones.
///
/// Greedy, so the order of a prediction's entities matters.
fn near(table: &mut Table, gold: &Labels, predicted: &Labels, distance: fn(&str, &str) -> f64) {
    let mut left: Vec<&Entity> = gold.entities.iter().collect();
    for entity in &predicted.entities {
        let mut nearest: Option<(usize, f64)> = None;
        for (index, other) in left.iter().enumerate() {
            if other.kind == entity.kind {
                let distance = distance(&other.filler, &entity.filler);
                if nearest.is_none_or(|(_, least)| distance < least) {
                    nearest = Some((index, distance));
                }
            }
        }
        match nearest {
            Some((index, distance)) => {
                left.remove(index);
                table.add(&entity.kind, 1.0, distance, distance);
            }
            None => table.add(&entity.kind, 0.0, 1.0, 0.0),
        }
    }
    for entity in left {
        table.add(&entity.kind, 0.0, 0.0, 1.0);
    }
}

/// The word error rate of a prediction: above 1 if it has far too many words.
pub fn word_distance(gold: &str, predicted: &str) -> f64 {
    let (gold, predicted) = (plain_blanks(gold), plain_blanks(predicted));
    let (gold, predicted) = (words(&gold), words(&predicted));
    edit_distance(&gold, &predicted) as f64 / gold.len().max(1) as f64
}

/// The edit distance by characters as a share of the longer one.
pub fn char_distance(gold: &str, predicted: &str) -> f64 {
    let (gold, predicted): (Vec<char>, Vec<char>) = (gold.chars().collect(), predicted.chars().collect());
    let longer = gold.len().max(predicted.len()).max(1);
    edit_distance(&gold, &predicted) as f64 / longer as f64
}

/// Several consecutive blanks become one space; a single one is kept, even a tab.
fn plain_blanks(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.trim_matches(is_blank).chars().peekable();
    while let Some(letter) = letters.next() {
        let mut run = false;
        while is_blank(letter) && letters.next_if(|next| is_blank(*next)).is_some() {
            run = true;
        }
        plain.push(if run { ' ' } else { letter });
    }
    plain
}

fn words(text: &str) -> Vec<&str> {
    text.split(' ').filter(|word| !word.is_empty()).collect()
}

/// Unlike Unicode, Python counts four ASCII separators as blanks.
fn is_blank(letter: char) -> bool {
    letter.is_whitespace() || matches!(letter, '\u{1c}'..='\u{1f}')
}

#[cfg(test)]
mod tests;
