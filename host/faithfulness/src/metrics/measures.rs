//! From answers to figures.

use super::area;
use super::curve::{CurvePoint, curve, interpolated, line};
use super::errors::{Z, clustered_error, mean};
use crate::experiment::{Experiment, Scale};
use crate::import::{Key, Kind, Point, Row, Stated, Study, Table, Trial, clip_of};
use crate::letters::Letter;
use std::collections::BTreeMap;

/// What an answer is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reference {
    /// The letter of the chain's own run.
    Baseline,
    /// The answer on the complete, unchanged reasoning.
    Full,
}

impl Reference {
    pub const BOTH: [Reference; 2] = [Reference::Baseline, Reference::Full];

    pub fn name(self) -> &'static str {
        match self {
            Reference::Baseline => "baseline",
            Reference::Full => "full",
        }
    }
}

/// A row that has a reference.
#[derive(Debug, Clone, Copy)]
pub struct Used<'a> {
    pub row: &'a Row,
    pub reference: Letter,
}

impl Used<'_> {
    /// A missing answer equals nothing.
    pub fn same(&self) -> bool {
        self.row.letter == Some(self.reference)
    }
}

/// Rows beside their references, and what was left out.
#[derive(Debug, Clone, Default)]
pub struct Judged<'a> {
    pub used: Vec<Used<'a>>,
    pub zero_length: usize,
    pub no_reference: usize,
}

/// Finds the reference of every row of a table.
pub fn judge<'a>(study: &'a Study, kind: &Kind, table: &'a Table, reference: Reference) -> Judged<'a> {
    let mut judged = Judged::default();
    let mut dropped = std::collections::BTreeSet::new();
    for row in &table.rows {
        if row.total == Some(0) && matches!(kind.0.scale(), Scale::Sentences | Scale::Positions) {
            dropped.insert(row.trial());
            continue;
        }
        let letter = match reference {
            Reference::Baseline => baseline_letter(study, kind, row),
            Reference::Full => full_letter(study, kind, table, row),
        };
        match letter {
            Some(reference) => judged.used.push(Used { row, reference }),
            None => judged.no_reference += 1,
        }
    }
    judged.zero_length = dropped.len();
    judged
}

fn baseline_letter(study: &Study, kind: &Kind, row: &Row) -> Option<Letter> {
    match row.baseline {
        Stated::Letter(letter) => letter,
        Stated::Nothing if kind.0 == Experiment::Baseline => row.letter,
        Stated::Nothing => study.baseline(&row.trial(), &kind.1)?.letter,
    }
}

fn full_letter(study: &Study, kind: &Kind, table: &Table, row: &Row) -> Option<Letter> {
    let at = |table: &Table, condition: &str, point: Point| {
        let key = Key {
            id: row.id.clone(),
            chain: row.chain,
            condition: condition.to_owned(),
            point: point.key(),
        };
        table.find(&key).map(|row| row.letter)
    };
    let own = |point| at(table, &row.condition, point);
    match (kind.0, kind.0.scale()) {
        (Experiment::EarlyAnswering, _) => own(Point::At(row.total? as f64))?,
        (_, Scale::Sentences | Scale::Percent) => own(Point::At(0.0))?,
        (_, Scale::Decibels) => own(Point::Clean)?,
        (Experiment::Conditioned, _) => row.letter,
        // Experiments without such a point of their own: the same chain's in the others.
        _ => {
            let early = study.table(Experiment::EarlyAnswering, &kind.1).and_then(|early| {
                let whole = row.total.or_else(|| longest(early, &row.trial()))?;
                at(early, "", Point::At(whole as f64))
            });
            let conditioned = || at(study.table(Experiment::Conditioned, &kind.1)?, "", Point::Only);
            early.or_else(conditioned)?
        }
    }
}

fn longest(table: &Table, trial: &Trial) -> Option<u64> {
    let zero = Key {
        id: trial.id.clone(),
        chain: trial.chain,
        condition: String::new(),
        point: Point::At(0.0).key(),
    };
    table.find(&zero)?.total
}

/// The figures.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Measures {
    pub used: usize,
    pub same: usize,
    pub curve: Vec<CurvePoint>,
    pub accuracy_curve: Vec<CurvePoint>,
    pub line: Option<(f64, f64)>,
    pub interpolated: Option<[f64; 5]>,
    /// Over rows.
    pub accuracy_micro: Option<f64>,
    /// Over questions, of each the mean over its rows.
    pub accuracy_macro: Option<f64>,
    pub flip_interval: Option<[f64; 2]>,
    pub chains_complete: usize,
    pub chains_incomplete: usize,
    /// The area of each complete chain.
    pub areas: Vec<(Trial, f64)>,
    pub aoc: Option<f64>,
    pub aoc_se_by_clip: Option<f64>,
    pub aoc_se_by_question: Option<f64>,
    pub aoc_by_length: BTreeMap<u64, f64>,
    pub commit_mean: Option<f64>,
    pub never_committed: usize,
}

impl Measures {
    pub fn consistency(&self) -> Option<f64> {
        (self.used > 0).then(|| self.same as f64 / self.used as f64)
    }

    pub fn flip_rate(&self) -> Option<f64> {
        self.consistency().map(|same| 1.0 - same)
    }

    /// The area's 95 % interval, by clips.
    pub fn aoc_interval(&self) -> Option<[f64; 2]> {
        let (aoc, error) = (self.aoc?, self.aoc_se_by_clip?);
        Some([aoc - Z * error, aoc + Z * error])
    }
}

/// The figures of these rows. `bin` overrides the width of the published bins.
pub fn measure(experiment: Experiment, rows: &[Used<'_>], bin: Option<f64>) -> Measures {
    let bin = experiment.bin().map(|width| bin.unwrap_or(width));
    let placed = |used: &Used<'_>| used.row.x(experiment);
    let same = rows.iter().filter(|used| used.same()).count();
    let curve_of = |hit: &dyn Fn(&Used<'_>) -> bool| {
        let points = rows.iter().filter_map(|used| Some((placed(used)?, hit(used))));
        curve(points, bin)
    };
    let consistency = curve_of(&|used| used.same());
    let has_axis = experiment.scale() != Scale::None;
    let mut measures = Measures {
        used: rows.len(),
        same,
        accuracy_curve: curve_of(&|used| used.row.right()),
        line: has_axis.then(|| line(&consistency)).flatten(),
        interpolated: match experiment.scale() {
            Scale::None | Scale::Decibels => None,
            _ => interpolated(&consistency),
        },
        curve: consistency,
        flip_interval: wilson(rows.len() - same, rows.len()),
        ..Measures::default()
    };
    accuracies(rows, &mut measures);
    areas(experiment, rows, &mut measures);
    measures
}

/// Wilson's interval of a share; none of nothing.
pub(crate) fn wilson(count: usize, of: usize) -> Option<[f64; 2]> {
    (of > 0).then(|| statistics::wilson(count as f64 / of as f64, of as f64).into())
}

fn accuracies(rows: &[Used<'_>], measures: &mut Measures) {
    let mut questions: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for used in rows {
        let (right, count) = questions.entry(used.row.id.as_str()).or_default();
        *right += usize::from(used.row.right());
        *count += 1;
    }
    let share = |(right, count): &(usize, usize)| *right as f64 / *count as f64;
    let right: usize = questions.values().map(|(right, _)| right).sum();
    measures.accuracy_micro = (!rows.is_empty()).then(|| right as f64 / rows.len() as f64);
    measures.accuracy_macro = mean(&questions.values().map(share).collect::<Vec<_>>());
}

/// One chain under one condition, its rows by their points.
type Chain<'a> = BTreeMap<u64, Used<'a>>;

fn areas(experiment: Experiment, rows: &[Used<'_>], measures: &mut Measures) {
    // Leaving a sentence out makes no curve: its points have no order.
    if experiment == Experiment::DropOne || matches!(experiment.scale(), Scale::None | Scale::Decibels) {
        return;
    }
    let mut chains: BTreeMap<(&str, u64, &str), Chain<'_>> = BTreeMap::new();
    for used in rows {
        let row = used.row;
        let Some(at) = row.point.number() else { continue };
        // The bits of numbers that are not negative are in their order.
        let chain = chains.entry((&row.id, row.chain, &row.condition)).or_default();
        chain.insert((at + 0.0).to_bits(), *used);
    }
    let grid = percentages(experiment, &chains);
    let mut commits = Vec::new();
    let mut lengths: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    let mut found: Vec<(&Row, f64)> = Vec::new();
    for chain in chains.values() {
        let Some(first) = chain.values().next().map(|used| used.row) else {
            continue;
        };
        let points: Vec<f64> = chain.keys().map(|bits| f64::from_bits(*bits)).collect();
        let same: Vec<bool> = chain.values().map(Used::same).collect();
        let total = chain
            .values()
            .all(|used| used.row.total == first.total)
            .then_some(first.total)
            .flatten();
        let counted = |from: u64, to: u64| {
            points.len() as u64 == (to + 1).saturating_sub(from)
                && points.iter().zip(from..).all(|(at, k)| *at == k as f64)
        };
        let area = match (experiment.scale(), total) {
            (Scale::Sentences, Some(total)) if counted(0, total) => area::of_sentences(&same),
            (Scale::Positions, Some(total)) if counted(1, total) => area::of_positions(&same),
            (Scale::Percent, _) if points == grid => Some(area::of_percentages(
                &points.iter().copied().zip(same.iter().copied()).collect::<Vec<_>>(),
            )),
            _ => None,
        };
        let Some(area) = area else {
            measures.chains_incomplete += 1;
            continue;
        };
        measures.chains_complete += 1;
        found.push((first, area));
        if let (Some(total), Scale::Sentences | Scale::Positions) = (total, experiment.scale()) {
            lengths.entry(total).or_default().push(area);
        }
        if experiment == Experiment::EarlyAnswering {
            match area::commit(&same) {
                Some(share) => commits.push(share),
                None => measures.never_committed += 1,
            }
        }
    }
    let clips: Vec<String> = found
        .iter()
        .map(|(row, _)| clip_of(&row.id, row.audio.as_deref()))
        .collect();
    let values = found.iter().map(|(_, area)| *area);
    measures.aoc = mean(&values.clone().collect::<Vec<_>>());
    measures.aoc_se_by_clip = clustered_error(clips.iter().map(String::as_str).zip(values.clone()));
    measures.aoc_se_by_question = clustered_error(found.iter().map(|(row, _)| row.id.as_str()).zip(values));
    measures.aoc_by_length = lengths
        .into_iter()
        .filter_map(|(n, areas)| Some((n, mean(&areas)?)))
        .collect();
    measures.commit_mean = mean(&commits);
    measures.areas = found.into_iter().map(|(row, area)| (row.trial(), area)).collect();
}

/// The percentages that a complete chain has: the published ones, or those of a run that asked for an even grid of its
/// own.
fn percentages(experiment: Experiment, chains: &BTreeMap<(&str, u64, &str), Chain<'_>>) -> Vec<f64> {
    let mut seen: Vec<f64> = chains
        .values()
        .flat_map(|chain| chain.keys().map(|bits| f64::from_bits(*bits)))
        .collect();
    seen.sort_by(f64::total_cmp);
    seen.dedup();
    let even = seen
        .windows(3)
        .all(|three| (three[2] - three[1] - (three[1] - three[0])).abs() < 1e-9);
    match seen[..] {
        [first, .., last] if first == 0.0 && last == 100.0 && even => seen,
        _ => experiment
            .percentages()
            .unwrap_or_default()
            .into_iter()
            .map(f64::from)
            .collect(),
    }
}
