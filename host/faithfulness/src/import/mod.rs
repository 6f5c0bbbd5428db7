//! Reads result files of the published experiments, in any mix, into tables of answers.
//!
//! Letters are upper-cased, and letters that are not options count as missing. Of rows with the same key the last
//! counts. A line that can't be read is skipped and counted.

mod name;
mod read;
mod row;

pub use name::{Name, Part, clip_of};
pub(crate) use row::label;
pub use row::{Key, Orientation, Point, Row, Stated, Trial};

use crate::experiment::{Experiment, Scale};
use crate::letters::Letter;
use crate::split::Splitter;
use read::Line;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, BufRead};
use std::path::Path;

/// All answers of one experiment over one data set by one model.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// Well-formed rows, repeated ones included.
    pub rows_read: usize,
    /// Lines that are not a row.
    pub malformed: usize,
    /// Rows that a later one with the same key replaced.
    pub repeated: usize,
    pub rows: Vec<Row>,
    places: HashMap<Key, usize>,
    /// Rows of questions whose options were not yet known when they were read.
    unsettled: Vec<usize>,
}

impl Table {
    /// Adds a row, or replaces the one with the same key. Returns its place.
    pub fn add(&mut self, row: Row) -> usize {
        match self.places.get(&row.key()) {
            Some(place) => {
                self.repeated += 1;
                self.rows[*place] = row;
                *place
            }
            None => {
                self.places.insert(row.key(), self.rows.len());
                self.rows.push(row);
                self.rows.len() - 1
            }
        }
    }

    /// The row with this key.
    pub fn find(&self, key: &Key) -> Option<&Row> {
        self.places.get(key).map(|place| &self.rows[*place])
    }
}

/// An experiment, and which variant of it: `-restricted`, `-lorem`, `-mistral`.
pub type Kind = (Experiment, String);

/// The name that results have for an experiment's variant.
pub fn kind_name((experiment, variant): &Kind) -> String {
    format!("{}{variant}", experiment.name())
}

/// Everything about one model and data set.
#[derive(Debug, Clone, Default)]
pub struct Study {
    pub tables: BTreeMap<Kind, Table>,
}

impl Study {
    pub fn table(&self, experiment: Experiment, variant: &str) -> Option<&Table> {
        let own = self.tables.get(&(experiment, variant.to_owned()));
        own.or_else(|| self.tables.get(&(experiment, String::new())))
    }

    /// The letter of a chain's baseline, if there is such a row.
    pub fn baseline(&self, trial: &Trial, variant: &str) -> Option<&Row> {
        let table = self.table(Experiment::Baseline, variant)?;
        table.find(&Key {
            id: trial.id.clone(),
            chain: trial.chain,
            condition: String::new(),
            point: Point::Only.key(),
        })
    }
}

/// Result files, read.
#[derive(Debug, Clone, Default)]
pub struct Import {
    /// By model and data set.
    pub studies: BTreeMap<(String, String), Study>,
    /// Files without a row of a known layout, each with what it held.
    pub unread: Vec<(String, String)>,
    /// Files without a row of a known layout, each with a description of its contents.
    pub inputs: Vec<String>,
    questions: HashMap<String, Vec<char>>,
    settled: bool,
}

/// The name that takes the place of a model or data set that a file doesn't name.
pub const UNKNOWN: &str = "unknown";

impl Import {
    /// Reads a file. `model` and `dataset` take precedence over what path and rows say.
    pub fn add_file(&mut self, path: &Path, model: Option<&str>, dataset: Option<&str>) -> io::Result<()> {
        let file = io::BufReader::with_capacity(1 << 20, std::fs::File::open(path)?);
        let name = Name::of(path);
        self.add_lines(file, &name, &path.display().to_string(), model, dataset)
    }

    /// Reads the lines of a file that `name` describes.
    pub fn add_lines(
        &mut self,
        mut lines: impl BufRead,
        name: &Name,
        path: &str,
        model: Option<&str>,
        dataset: Option<&str>,
    ) -> io::Result<()> {
        self.settled = false;
        let mut bytes = Vec::new();
        let mut malformed = 0;
        let mut inputs = 0;
        let mut at: Option<(String, String, Kind)> = None;
        while lines.read_until(b'\n', &mut bytes)? > 0 {
            let line = String::from_utf8_lossy(&bytes);
            let line = line.trim().trim_start_matches('\u{feff}');
            if line.is_empty() {
                bytes.clear();
                continue;
            }
            match read::read(line, name) {
                Line::Malformed => malformed += 1,
                Line::Written => inputs += 1,
                Line::Question(id, letters) => {
                    self.questions.insert(id, letters);
                    inputs += 1;
                }
                Line::Answers(experiment, rows, offered) => {
                    let column = |text: &str| {
                        let row: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
                        row[text].as_str().map(str::to_owned)
                    };
                    let id = rows.first().map_or("", |row| row.id.as_str());
                    let (model, dataset, _) = at.get_or_insert_with(|| {
                        let model = model.map(str::to_owned).or_else(|| name.model.clone());
                        let dataset = dataset.map(str::to_owned).or_else(|| name.dataset.clone());
                        (
                            model.or_else(|| column("model")).unwrap_or_else(|| UNKNOWN.to_owned()),
                            dataset
                                .or_else(|| name::dataset_of_id(id))
                                .unwrap_or_else(|| UNKNOWN.to_owned()),
                            (experiment, name.variant.clone()),
                        )
                    });
                    if let Some(offered) = &offered
                        && !self.questions.contains_key(id)
                    {
                        self.questions.insert(id.to_owned(), offered.clone());
                    }
                    let study = self.studies.entry((model.clone(), dataset.clone())).or_default();
                    let table = study.tables.entry((experiment, name.variant.clone())).or_default();
                    table.rows_read += 1;
                    for row in rows {
                        let place = table.add(row);
                        if offered.is_none() {
                            table.unsettled.push(place);
                        }
                    }
                }
            }
            bytes.clear();
        }
        match at {
            Some((model, dataset, kind)) => {
                let study = self.studies.entry((model, dataset)).or_default();
                study.tables.entry(kind).or_default().malformed += malformed;
            }
            None if inputs > 0 => self.inputs.push(path.to_owned()),
            None => {
                let held = match malformed {
                    0 => "is empty".to_owned(),
                    count => format!("has {count} lines, none of a layout that is known"),
                };
                self.unread.push((path.to_owned(), held));
            }
        }
        Ok(())
    }

    /// Of each model and data set, the chains that are missing from the baseline beside them, if there are any.
    pub fn not_in_baseline(&self) -> Vec<(&str, &str, usize)> {
        let count = |study: &Study| {
            let baseline: BTreeSet<Trial> = study
                .tables
                .iter()
                .filter(|(kind, _)| kind.0 == Experiment::Baseline)
                .flat_map(|(_, table)| table.rows.iter().map(Row::trial))
                .collect();
            let all: BTreeSet<Trial> = study
                .tables
                .values()
                .flat_map(|table| table.rows.iter().map(Row::trial))
                .collect();
            if baseline.is_empty() {
                0
            } else {
                all.difference(&baseline).count()
            }
        };
        let studies = self
            .studies
            .iter()
            .map(|((model, dataset), study)| (model.as_str(), dataset.as_str(), count(study)));
        studies.filter(|(.., count)| *count > 0).collect()
    }

    /// Fills in what follows only from the whole set of files: options of questions, lengths of chains.
    pub fn settle(&mut self, splitter: Splitter) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        for study in self.studies.values_mut() {
            for table in study.tables.values_mut() {
                for place in std::mem::take(&mut table.unsettled) {
                    let row = &mut table.rows[place];
                    if let Some(letters) = self.questions.get(&row.id) {
                        row.letter = only_offered(row.letter, letters);
                        if let Stated::Letter(letter) = row.baseline {
                            row.baseline = Stated::Letter(only_offered(letter, letters));
                        }
                    }
                }
            }
            fill_totals(study, splitter);
        }
    }
}

fn only_offered(letter: Option<Letter>, offered: &[char]) -> Option<Letter> {
    letter.filter(|letter| match letter {
        Letter::Option(letter) => offered.contains(letter),
        Letter::Refusal => true,
    })
}

/// Rows without their chain's length get it from the baseline; rows without it are dropped.
fn fill_totals(study: &mut Study, splitter: Splitter) {
    let lacking = |kind: &Kind| matches!(kind.0.scale(), Scale::Sentences | Scale::Positions);
    let kinds: Vec<Kind> = study.tables.keys().filter(|kind| lacking(kind)).cloned().collect();
    for kind in kinds {
        let Some(mut table) = study.tables.remove(&kind) else {
            continue;
        };
        for row in table.rows.iter_mut().filter(|row| row.total.is_none()) {
            let sanitized = study
                .baseline(&row.trial(), &kind.1)
                .and_then(|row| row.sanitized.as_deref());
            row.total = sanitized.map(|text| splitter.split(text).len() as u64);
        }
        let before = table.rows.len();
        table.rows.retain(|row| row.total.is_some());
        if table.rows.len() < before {
            table.rows_read -= before - table.rows.len();
            table.malformed += before - table.rows.len();
            table.places = table
                .rows
                .iter()
                .enumerate()
                .map(|(place, row)| (row.key(), place))
                .collect();
        }
        study.tables.insert(kind, table);
    }
}
