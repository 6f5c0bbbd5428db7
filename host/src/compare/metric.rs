//! The test of one metric over paired records.

use super::bounds::Bounds;
use super::pairing::{Pair, Pairs, Places, Sides};
use super::side::Part;
use serde::Serialize;
use statistics::Counts;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Draws of a bootstrap, and the seed they start from: the same runs give the same interval.
const DRAWS: usize = 10_000;
const SEED: u64 = 42;

/// With fewer differing pairs than this, no test can find a difference: 0 of 5 gives p = 0.0625.
const FEWEST_DISCORDANT: u64 = 6;

/// What a metric's values are, which decides its test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Right or wrong.
    Binary,
    /// A number for each sample.
    Graded,
    /// A ratio of sums over all samples.
    Corpus,
}

/// The conclusion from the interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// The interval lies wholly on the better side of 0.
    Better,
    /// The interval lies wholly on the worse side of 0.
    Worse,
    /// The interval holds 0.
    Unclear,
    /// Too few pairs differ for any test.
    TooFew,
}

/// One metric, over all pairs or a group.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    pub metric: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    pub kind: Kind,
    pub higher_is_better: bool,
    pub n: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clusters: Option<u64>,
    pub first: f64,
    pub second: f64,
    /// Second less first.
    pub difference: f64,
    #[serde(rename = "difference_ci95")]
    pub interval: Option<(f64, f64)>,
    /// The test that decides, and its p.
    pub test: &'static str,
    pub p: Option<f64>,
    /// After Holm's adjustment within the table.
    pub p_holm: Option<f64>,
    /// Right on the first side alone, and on the second alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub b: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub c: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p_mcnemar: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p_mid: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p_paired_t: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p_clustered: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p_sign_flip: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newcombe_ci95: Option<(f64, f64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bootstrap_ci95: Option<(f64, f64)>,
    pub decision: Decision,
    /// Pairs with which McNemar's test would find a difference of this size four times in five.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pairs_for_80_percent_power: Option<u64>,
    /// How far unscored answers could move the figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bounds: Option<Bounds>,
}

/// Some of the pairs of two runs.
#[derive(Clone, Copy)]
struct Members<'a> {
    sides: &'a Sides,
    places: &'a [Places],
}

impl<'a> Members<'a> {
    fn iter(self) -> impl Iterator<Item = Pair<'a>> {
        self.places.iter().map(move |places| self.sides.at(*places))
    }
}

/// All metrics of two runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    pub rows: Vec<Row>,
    pub groups: Vec<Row>,
}

impl Comparison {
    /// Tests every metric over all pairs, and again within each group. Holm's adjustment is made over all metrics of
    /// the table, and over all groups of one breakdown.
    pub fn of(pairs: &Pairs) -> Comparison {
        let sides = &pairs.sides;
        let of = |places| Members { sides, places };
        let unscored: Vec<Places> = pairs.unscored().collect();
        let all = of(&pairs.scored);
        let metrics = metric_names(all);
        let better = |name: &str| sides.first.higher_is_better.get(name).copied().unwrap_or(true);
        let mut rows: Vec<Row> = metrics
            .iter()
            .filter_map(|name| test(name, None, better(name), all))
            .collect();
        adjust(&mut rows);
        bound(&mut rows, all, of(&unscored));
        let breakdown = by_group(all);
        let unscored = by_group(of(&unscored));
        let mut groups = Vec::new();
        for (group, members) in &breakdown {
            for name in &metrics {
                let mut family = Vec::new();
                for (member, places) in members {
                    let Some(row) = test(name, Some(format!("{group}={member}")), better(name), of(places)) else {
                        continue;
                    };
                    let unscored = unscored.get(group).and_then(|members| members.get(member));
                    family.push(row);
                    let last = family.len() - 1;
                    bound(&mut family[last..], of(places), of(unscored.map_or(&[], Vec::as_slice)));
                }
                adjust(&mut family);
                groups.append(&mut family);
            }
        }
        Comparison { rows, groups }
    }
}

/// Pairs by group and by member of it.
fn by_group(pairs: Members<'_>) -> BTreeMap<&str, BTreeMap<&str, Vec<Places>>> {
    let mut breakdown: BTreeMap<&str, BTreeMap<&str, Vec<Places>>> = BTreeMap::new();
    for places in pairs.places {
        for (group, member) in pairs.sides.at(*places).0.groups() {
            let members = breakdown.entry(group).or_default();
            members.entry(member).or_default().push(*places);
        }
    }
    breakdown
}

/// Says how far unscored answers could move each row. Of the task's own metrics, those of right and wrong have bounds;
/// a judge's number always lies between 0 and 1.
fn bound(rows: &mut [Row], scored: Members, unscored: Members) {
    for row in rows {
        let pairs = || scored.iter().chain(unscored.iter());
        let judged = || pairs().any(|(first, second)| [first, second].iter().any(|side| side.judge_left(&row.metric)));
        if row.kind == Kind::Binary || judged() {
            row.bounds = Bounds::of(&row.metric, pairs());
        }
    }
}

/// Metrics that both sides have, in the task's order.
fn metric_names(all: Members) -> Vec<String> {
    let mut names: BTreeSet<&str> = BTreeSet::new();
    for (first, second) in all.iter() {
        names.extend(first.names().filter(|name| second.value(name).is_some()));
    }
    let order = &all.sides.first.order;
    let place = |name: &String| order.iter().position(|known| known == name).unwrap_or(usize::MAX);
    let mut names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    names.sort_by_key(|name| (place(name), name.clone()));
    names
}

/// Makes Holm's adjustment over all of these rows.
pub fn adjust<'a>(rows: impl IntoIterator<Item = &'a mut Row>) {
    let mut rows: Vec<&mut Row> = rows.into_iter().filter(|row| row.p.is_some()).collect();
    let p_values: Vec<f64> = rows.iter().filter_map(|row| row.p).collect();
    for (row, p) in rows.iter_mut().zip(statistics::holm(&p_values)) {
        row.p_holm = Some(p);
    }
}

/// The cluster of a pair. A sample without one is a cluster by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cluster<'a> {
    Alone(usize),
    Of(&'a str),
}

/// Seeded draws and the last digits of sums depend on the order, so numbers stand in the order of names, too.
impl Ord for Cluster<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Cluster::Alone(a), Cluster::Alone(b)) => a.to_string().cmp(&b.to_string()),
            (Cluster::Of(a), Cluster::Of(b)) => a.cmp(b),
            (Cluster::Alone(_), Cluster::Of(_)) => Ordering::Less,
            (Cluster::Of(_), Cluster::Alone(_)) => Ordering::Greater,
        }
    }
}

impl PartialOrd for Cluster<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// One metric on both sides of each pair that has it.
struct Paired<'a> {
    name: &'a str,
    pairs: Members<'a>,
}

impl<'a> Paired<'a> {
    /// The place among all pairs, the pair, and its parts.
    fn found(&self) -> impl Iterator<Item = (usize, Pair<'a>, (Part, Part))> {
        let name = self.name;
        let found =
            move |(place, pair): (usize, Pair<'a>)| Some((place, pair, (pair.0.value(name)?, pair.1.value(name)?)));
        self.pairs.iter().enumerate().filter_map(found)
    }

    fn parts(&self) -> impl Iterator<Item = (Part, Part)> {
        self.found().map(|(.., parts)| parts)
    }

    fn kind(&self) -> Kind {
        let mut kind = Kind::Binary;
        for part in self.parts().flat_map(|(first, second)| [first, second]) {
            match part {
                Part::Ratio(..) => return Kind::Corpus,
                Part::Mean(value) if value != 0.0 && value != 1.0 => kind = Kind::Graded,
                Part::Mean(_) => {}
            }
        }
        kind
    }

    fn clusters(&self) -> Vec<Cluster<'a>> {
        let cluster =
            |(place, pair, _): (usize, Pair<'a>, _)| pair.0.cluster().map_or(Cluster::Alone(place), Cluster::Of);
        self.found().map(cluster).collect()
    }

    /// Whether at least two pairs share a cluster.
    fn shares_clusters(&self) -> bool {
        let mut seen = HashSet::new();
        self.found()
            .any(|(_, pair, _)| pair.0.cluster().is_some_and(|cluster| !seen.insert(cluster)))
    }

    fn differences(&self) -> Vec<f64> {
        let value = |part: Part| match part {
            Part::Mean(value) => value,
            Part::Ratio(above, below) => above / below,
        };
        self.parts().map(|(a, b)| value(b) - value(a)).collect()
    }
}

fn figure(parts: impl Iterator<Item = Part>) -> f64 {
    let (mut above, mut below) = (0.0, 0.0);
    for part in parts {
        let (more, whole) = match part {
            Part::Mean(value) => (value, 1.0),
            Part::Ratio(above, below) => (above, below),
        };
        above += more;
        below += whole;
    }
    above / below
}

fn test(name: &str, group: Option<String>, higher_is_better: bool, pairs: Members) -> Option<Row> {
    let paired = Paired { name, pairs };
    let n = paired.parts().count() as u64;
    if n == 0 {
        return None;
    }
    let kind = paired.kind();
    let first = figure(paired.parts().map(|parts| parts.0));
    let second = figure(paired.parts().map(|parts| parts.1));
    let mut row = Row {
        metric: name.to_owned(),
        group,
        kind,
        higher_is_better,
        n,
        clusters: None,
        first,
        second,
        difference: second - first,
        interval: None,
        test: "none",
        p: None,
        p_holm: None,
        b: None,
        c: None,
        p_mcnemar: None,
        p_mid: None,
        p_paired_t: None,
        p_clustered: None,
        p_sign_flip: None,
        newcombe_ci95: None,
        bootstrap_ci95: None,
        decision: Decision::TooFew,
        pairs_for_80_percent_power: None,
        bounds: None,
    };
    match kind {
        Kind::Binary => binary(&mut row, &paired),
        Kind::Graded => graded(&mut row, &paired),
        Kind::Corpus => corpus(&mut row, &paired),
    }
    if kind != Kind::Corpus && paired.shares_clusters() {
        clustered(&mut row, &paired);
    }
    row.decision = decide(&row, &paired);
    Some(row)
}

fn binary(row: &mut Row, paired: &Paired) {
    let mut counts = Counts::default();
    for (a, b) in paired.parts() {
        counts.add(a == Part::Mean(1.0), b == Part::Mean(1.0));
    }
    let n = counts.pairs() as f64;
    let interval = statistics::newcombe(&counts);
    let p = statistics::mcnemar(counts.first, counts.second);
    (row.b, row.c) = (Some(counts.first), Some(counts.second));
    row.p_mcnemar = Some(p);
    row.p_mid = Some(statistics::mcnemar_mid_p(counts.first, counts.second));
    row.newcombe_ci95 = Some(interval);
    row.pairs_for_80_percent_power =
        statistics::pairs_for_power(counts.first as f64 / n, counts.second as f64 / n, 0.05, 0.8);
    (row.test, row.p, row.interval) = ("mcnemar_exact", Some(p), Some(interval));
}

fn graded(row: &mut Row, paired: &Paired) {
    let differences = paired.differences();
    row.p_sign_flip = Some(statistics::sign_flip(&differences, SEED));
    if let Some(t) = statistics::paired_t(&differences) {
        row.p_paired_t = Some(t.p);
        (row.test, row.p, row.interval) = ("paired_t", Some(t.p), Some(t.interval));
    }
}

/// Samples that share a passage or a clip are not independent, so then this test decides.
fn clustered(row: &mut Row, paired: &Paired) {
    if let Some(t) = statistics::clustered_t(&paired.differences(), &paired.clusters()) {
        row.clusters = Some(t.units);
        row.p_clustered = Some(t.p);
        (row.test, row.p, row.interval) = ("clustered_t", Some(t.p), Some(t.interval));
    }
}

/// A ratio of sums has no value per sample: whole clusters are drawn, and their sums are summed again.
fn corpus(row: &mut Row, paired: &Paired) {
    let parts: Vec<(Part, Part)> = paired.parts().collect();
    let mut members: BTreeMap<Cluster, Vec<usize>> = BTreeMap::new();
    for (place, cluster) in paired.clusters().into_iter().enumerate() {
        members.entry(cluster).or_default().push(place);
    }
    let members: Vec<Vec<usize>> = members.into_values().collect();
    let (mut at_most, mut at_least, mut draws) = (0u64, 0u64, 0u64);
    let interval = statistics::cluster_bootstrap(members.len(), DRAWS, SEED, |drawn| {
        let drawn = || {
            drawn
                .iter()
                .flat_map(|cluster| &members[*cluster])
                .map(|place| parts[*place])
        };
        let difference = figure(drawn().map(|parts| parts.1)) - figure(drawn().map(|parts| parts.0));
        if difference.is_finite() {
            draws += 1;
            at_most += u64::from(difference <= 0.0);
            at_least += u64::from(difference >= 0.0);
        }
        difference
    });
    row.clusters = Some(members.len() as u64);
    row.bootstrap_ci95 = interval;
    let p = 2.0 * (at_most.min(at_least) as f64 + 1.0) / (draws as f64 + 1.0);
    (row.test, row.p, row.interval) = ("cluster_bootstrap", Some(p.min(1.0)), interval);
}

fn decide(row: &Row, paired: &Paired) -> Decision {
    let differing = paired.parts().filter(|(a, b)| a != b).count() as u64;
    let Some((low, high)) = row.interval else {
        return Decision::TooFew;
    };
    if differing == 0 {
        return Decision::Unclear;
    }
    if differing < FEWEST_DISCORDANT {
        return Decision::TooFew;
    }
    let (low, high) = match row.higher_is_better {
        true => (low, high),
        false => (-high, -low),
    };
    match (low > 0.0, high < 0.0) {
        (true, _) => Decision::Better,
        (_, true) => Decision::Worse,
        _ => Decision::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use super::super::pairing::{Across, pair};
    use super::super::side::{Figures, Key, Side};
    use super::*;
    use std::rc::Rc;

    const BASE: &str = "10010100100110001010";
    const TUNED: &str = "11011101010111011001";
    const CLUSTERS: &str = "aabbbcddeefffghhijjk";

    fn side(name: &str, values: impl IntoIterator<Item = Part>, clusters: &str) -> Rc<Side> {
        let mut side = Side {
            name: name.to_owned(),
            finished: true,
            ..Side::default()
        };
        for (place, value) in values.into_iter().enumerate() {
            let cluster = clusters.chars().nth(place).map(|letter| letter.to_string());
            side.entries.add(key(place), figures(Some(value), cluster));
        }
        Rc::new(side)
    }

    fn key(place: usize) -> Key {
        Key::named(&format!("s{place:02}"))
    }

    fn figures(acc: Option<Part>, cluster: Option<String>) -> Figures {
        Figures {
            values: acc.map(|acc| ("acc".to_owned(), acc)).into_iter().collect(),
            cluster,
            ..Figures::default()
        }
    }

    fn binary(name: &str, text: &str, clusters: &str) -> Rc<Side> {
        let parts: Vec<Part> = text.chars().map(|c| Part::Mean(f64::from(c == '1'))).collect();
        side(name, parts, clusters)
    }

    fn row(first: &Rc<Side>, second: &Rc<Side>) -> Row {
        let pairs = pair(first, second, &Across::default()).expect("comparable sides");
        Comparison::of(&pairs).rows.remove(0)
    }

    #[track_caller]
    fn near(got: (f64, f64), expected: (f64, f64)) {
        let close = |a: f64, b: f64| (a - b).abs() < 1e-6;
        assert!(
            close(got.0, expected.0) && close(got.1, expected.1),
            "got {got:?}, expected {expected:?}"
        );
    }

    #[test]
    fn independent_answers_are_tested_by_mcnemar() {
        let row = row(&binary("base", BASE, ""), &binary("tuned", TUNED, ""));
        assert_eq!(
            (row.kind, row.test, row.b, row.c),
            (Kind::Binary, "mcnemar_exact", Some(2), Some(7))
        );
        near((row.first, row.second), (0.40, 0.65));
        near((row.difference, row.p.unwrap()), (0.25, 0.179_687_5));
        near(row.interval.unwrap(), (-0.044_533_3, 0.489_583_5));
        assert_eq!(row.decision, Decision::Unclear);
    }

    #[test]
    fn where_samples_share_a_passage_the_clustered_test_rules() {
        let row = row(&binary("base", BASE, CLUSTERS), &binary("tuned", TUNED, CLUSTERS));
        assert_eq!((row.test, row.clusters), ("clustered_t", Some(11)));
        near((row.p.unwrap(), row.p_mcnemar.unwrap()), (0.061_470_1, 0.179_687_5));
        near(row.interval.unwrap(), (-0.014_518_2, 0.514_518_2));
    }

    #[test]
    fn a_run_against_itself_differs_in_nothing() {
        for clusters in ["", CLUSTERS] {
            let same = binary("base", BASE, clusters);
            let row = row(&same, &same);
            assert_eq!(
                (row.difference, row.p, row.b, row.c),
                (0.0, Some(1.0), Some(0), Some(0))
            );
            assert_eq!(row.decision, Decision::Unclear);
        }
    }

    #[test]
    fn five_flips_to_one_side_are_too_few_to_tell() {
        let row = row(
            &binary("base", &"0".repeat(20), ""),
            &binary("tuned", "11111000000000000000", ""),
        );
        near((row.p.unwrap(), 0.0), (0.062_5, 0.0));
        assert_eq!(row.decision, Decision::TooFew);
    }

    #[test]
    fn graded_scores_have_a_paired_t_and_a_sign_flip_test() {
        let part = |values: &[f64]| values.iter().map(|value| Part::Mean(*value)).collect::<Vec<_>>();
        let first = side("b", part(&[0.25, 0.5, 0.5, 0.0, 0.25, 0.25]), "");
        let second = side("a", part(&[0.5, 0.25, 1.0, 0.0, 0.75, 0.5]), "");
        let row = row(&first, &second);
        assert_eq!((row.kind, row.test), (Kind::Graded, "paired_t"));
        near((row.p.unwrap(), row.p_sign_flip.unwrap()), (0.141_234_8, 0.25));
    }

    #[test]
    fn a_ratio_of_sums_is_summed_again_in_each_draw() {
        let ratios = |right: f64| (0..12).map(move |i| Part::Ratio(right, 2.0 + f64::from(i % 3)));
        let row = row(&side("base", ratios(1.0), ""), &side("tuned", ratios(2.0), ""));
        assert_eq!((row.kind, row.test), (Kind::Corpus, "cluster_bootstrap"));
        near((row.first, row.second), (1.0 / 3.0, 2.0 / 3.0));
        assert_eq!(row.decision, Decision::Better);
        let (low, high) = row.interval.unwrap();
        assert!(low > 0.28 && high < 0.41, "{low} to {high}");
    }

    #[test]
    fn what_is_not_on_both_sides_is_listed() {
        let first = binary("base", BASE, "");
        let mut second = Side {
            name: "tuned".to_owned(),
            finished: true,
            ..Side::default()
        };
        for place in 1..20 {
            let missing = (place == 1).then_some("failed");
            let acc = missing.is_none().then_some(Part::Mean(1.0));
            second.entries.add(
                key(place),
                Figures {
                    missing,
                    ..figures(acc, None)
                },
            );
        }
        let pairs = pair(&first, &Rc::new(second), &Across::default()).unwrap();
        assert_eq!((pairs.scored.len(), &pairs.missing.only_first), (18, &vec![0]));
        let missing = serde_json::to_value(&pairs.missing).unwrap();
        assert_eq!(missing["only_first"], serde_json::json!(["s00"]));
        assert_eq!(
            missing["without_score"],
            serde_json::json!([["s01", "failed in tuned"]])
        );
    }

    #[test]
    fn sides_that_differ_in_what_matters_are_refused_by_name() {
        let (mut first, mut second) = (binary("a", BASE, ""), binary("b", TUNED, ""));
        for (side, version) in [(&mut first, "1"), (&mut second, "2")] {
            let facts = &mut Rc::get_mut(side).unwrap().facts;
            facts.insert("task-version".to_owned(), version.to_owned());
        }
        let refused = |first: &Rc<Side>, second: &Rc<Side>| match pair(first, second, &Across::default()) {
            Ok(_) => panic!("they were paired"),
            Err(failure) => failure.render(),
        };
        let words = refused(&first, &second);
        assert!(words.contains("`a` has `1`, `b` has `2`"), "{words}");
        assert!(words.contains("--across task-version"), "{words}");
        assert!(pair(&first, &second, &Across::parse(&["task-version".to_owned()]).unwrap()).is_ok());
        Rc::get_mut(&mut second).unwrap().finished = false;
        assert!(refused(&first, &second).contains("not finished"));
    }
}
