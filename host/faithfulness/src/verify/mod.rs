//! Whether result files hold every row that they should, by key and not by count.

mod baseline;
mod expected;

pub use baseline::array_split;

use crate::experiment::Experiment;
use crate::import::{Import, Key, Kind, Name, Part, Row, UNKNOWN};
use crate::split::Splitter;
use baseline::Baseline;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

/// Expectations for files that don't say it themselves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Expectation {
    pub splitter: Splitter,
    /// Chains of a question, when not all that the baseline has.
    pub chains: Option<u64>,
    /// Parts that the questions are cut into, when the files' own numbers don't tell.
    pub parts: Option<usize>,
}

/// How a file stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    MissingBaselinePart,
    MalformedBaselineLines,
    MissingOutputPart,
    CountMismatch,
    CountsMatch,
    /// It exists, and its expected contents are unknown.
    Exists,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::MissingBaselinePart => "missing_baseline_part",
            State::MalformedBaselineLines => "malformed_baseline_lines",
            State::MissingOutputPart => "missing_output_part",
            State::CountMismatch => "count_mismatch",
            State::CountsMatch => "counts_match",
            State::Exists => "exists",
        }
    }

    pub fn is_bad(self) -> bool {
        !matches!(self, State::CountsMatch | State::Exists)
    }
}

/// What was found in a file.
#[derive(Debug, Clone)]
pub struct Finding {
    pub path: String,
    pub experiment: Option<Experiment>,
    pub state: State,
    pub expected: Option<usize>,
    pub found: usize,
    pub malformed: usize,
    /// Keys, as `id/chain/condition/point`.
    pub missing: Vec<String>,
    pub extra: Vec<String>,
    pub repeated: Vec<String>,
}

impl Finding {
    fn new(path: String, experiment: Option<Experiment>, state: State) -> Finding {
        Finding {
            path,
            experiment,
            state,
            expected: None,
            found: 0,
            malformed: 0,
            missing: Vec::new(),
            extra: Vec::new(),
            repeated: Vec::new(),
        }
    }

    pub fn json(&self) -> Value {
        json!({
            "path": self.path,
            "experiment": self.experiment.map(Experiment::name),
            "state": self.state.name(),
            "expected": self.expected,
            "found": self.found,
            "malformed": self.malformed,
            "missing": self.missing,
            "extra": self.extra,
            "repeated": self.repeated,
        })
    }
}

/// A file's rows, every one of them, in order.
pub(crate) struct File {
    path: PathBuf,
    name: Name,
    group: (String, String),
    kind: Option<Kind>,
    rows: Vec<Row>,
    malformed: usize,
}

/// Checks files against the baselines among them.
pub fn verify(paths: &[PathBuf], expectation: Expectation) -> io::Result<Vec<Finding>> {
    let files: Vec<File> = paths.iter().map(|path| read(path)).collect::<io::Result<_>>()?;
    let mut groups: BTreeMap<(&str, &str, &str), Vec<&File>> = BTreeMap::new();
    for file in &files {
        let (model, dataset) = &file.group;
        groups
            .entry((model, dataset, &file.name.variant))
            .or_default()
            .push(file);
    }
    let mut findings = Vec::new();
    for ((model, dataset, variant), members) in &groups {
        let baselines = |files: &[&'_ File]| -> Vec<usize> {
            let is_baseline = |file: &File| file.kind.as_ref().is_some_and(|kind| kind.0 == Experiment::Baseline);
            let all = files.iter().enumerate();
            all.filter(|(_, file)| is_baseline(file))
                .map(|(index, _)| index)
                .collect()
        };
        let empty = Vec::new();
        let plain = groups.get(&(*model, *dataset, "")).unwrap_or(&empty);
        let pool = if baselines(members).is_empty() { plain } else { members };
        let own: Vec<&File> = baselines(pool).into_iter().map(|index| pool[index]).collect();
        let baseline = Baseline::of(&own, variant.contains("-restricted"), expectation);
        check_group(members, &baseline, expectation, &mut findings);
    }
    findings.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(findings)
}

fn read(path: &Path) -> io::Result<File> {
    let name = Name::of(path);
    let text = std::fs::read(path)?;
    let mut file = File {
        path: path.to_owned(),
        group: (
            name.model.clone().unwrap_or_else(|| UNKNOWN.to_owned()),
            name.dataset.clone().unwrap_or_else(|| UNKNOWN.to_owned()),
        ),
        kind: name.experiment.map(|experiment| (experiment, name.variant.clone())),
        name,
        rows: Vec::new(),
        malformed: 0,
    };
    // Line by line, so that rows with one key stay apart.
    for line in text
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.trim_ascii().is_empty())
    {
        let mut one = Import::default();
        one.add_lines(line, &file.name, "", None, None)?;
        let Some((group, study)) = one.studies.into_iter().next() else {
            file.malformed += usize::from(!one.unread.is_empty());
            continue;
        };
        for (kind, table) in study.tables {
            if file.rows.is_empty() {
                file.group = group.clone();
                file.kind = Some(kind);
            }
            file.rows.extend(table.rows);
        }
    }
    Ok(file)
}

fn check_group(files: &[&File], baseline: &Baseline, expectation: Expectation, findings: &mut Vec<Finding>) {
    // The parts of one result lie in one folder, under one condition.
    type Set<'a> = (Option<Kind>, &'a str, Option<&'a Path>);
    let mut sets: BTreeMap<Set<'_>, Vec<&File>> = BTreeMap::new();
    for file in files {
        let key = (file.kind.clone(), file.name.condition.as_str(), file.path.parent());
        sets.entry(key).or_default().push(file);
    }
    for ((kind, ..), members) in sets {
        let experiment = kind.map(|kind| kind.0);
        let is_baseline = experiment == Some(Experiment::Baseline);
        let numbers: BTreeSet<usize> = members
            .iter()
            .filter_map(|file| file.name.part.and_then(Part::number))
            .collect();
        let of_baseline = baseline.part_numbers();
        let parts = numbers
            .iter()
            .copied()
            .chain(of_baseline)
            .chain(expectation.parts)
            .max()
            .unwrap_or(1);
        for file in &members {
            let mut finding = check_file(file, baseline, parts);
            let lacks_baseline = !is_baseline && baseline.lacks(file.name.part);
            if lacks_baseline {
                finding.state = State::MissingBaselinePart;
            }
            findings.push(finding);
        }
        for number in (1..=parts).filter(|number| !numbers.is_empty() && !numbers.contains(number)) {
            let sample = members[0].path.display().to_string();
            let stem = sample.rfind(".part_").map_or(sample.as_str(), |at| &sample[..at]);
            let state = if is_baseline {
                State::MissingBaselinePart
            } else {
                State::MissingOutputPart
            };
            findings.push(Finding::new(format!("{stem}.part_{number}.jsonl"), experiment, state));
        }
    }
}

fn check_file(file: &File, baseline: &Baseline, parts: usize) -> Finding {
    let experiment = file.kind.as_ref().map(|kind| kind.0);
    let mut finding = Finding::new(file.path.display().to_string(), experiment, State::Exists);
    let mut seen: BTreeMap<Key, &Row> = BTreeMap::new();
    for row in &file.rows {
        if seen.insert(row.key(), row).is_some() && !finding.repeated.contains(&row.label()) {
            finding.repeated.push(row.label());
        }
    }
    finding.found = seen.len();
    finding.malformed = file.malformed;
    let damaged = !finding.repeated.is_empty() || file.malformed > 0;
    let Some(experiment) = experiment else {
        return finding;
    };
    if experiment == Experiment::Baseline {
        finding.state = match damaged {
            true if file.malformed > 0 => State::MalformedBaselineLines,
            true => State::CountMismatch,
            false => State::Exists,
        };
        return finding;
    }
    match expected::of(experiment, file, baseline, parts) {
        None if damaged => finding.state = State::CountMismatch,
        None => {}
        Some(keys) => {
            finding.missing = keys
                .needed
                .iter()
                .filter(|(key, _)| !seen.contains_key(*key))
                .map(|(_, name)| name.clone())
                .collect();
            let known = |key: &Key| keys.needed.contains_key(key) || keys.allowed.contains(key);
            finding.extra = seen
                .iter()
                .filter(|(key, _)| !known(key))
                .map(|(_, row)| row.label())
                .collect();
            finding.expected = Some(keys.needed.len());
            finding.state = match () {
                () if baseline.malformed() > 0 => State::MalformedBaselineLines,
                () if damaged || !finding.missing.is_empty() || !finding.extra.is_empty() => State::CountMismatch,
                () => State::CountsMatch,
            };
        }
    }
    finding
}
