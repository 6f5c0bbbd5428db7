//! How far raters agree beyond what chance would give.

use std::collections::{BTreeMap, BTreeSet};

/// The share of equal pairs and, for each category, how often each side chose it.
fn shares<T: Ord>(pairs: &[(T, T)]) -> (f64, Vec<(f64, f64)>) {
    let n = pairs.len() as f64;
    let categories: BTreeSet<&T> = pairs.iter().flat_map(|(a, b)| [a, b]).collect();
    let equal = pairs.iter().filter(|(a, b)| a == b).count() as f64 / n;
    let marginals = categories.into_iter().map(|category| {
        let of = |side: fn(&(T, T)) -> &T| pairs.iter().filter(|pair| side(pair) == category).count() as f64 / n;
        (of(|pair| &pair.0), of(|pair| &pair.1))
    });
    (equal, marginals.collect())
}

/// Cohen's κ of two raters; none without pairs, or where chance alone would agree always.
pub fn cohen_kappa<T: Ord>(pairs: &[(T, T)]) -> Option<f64> {
    let (equal, marginals) = shares(pairs);
    let chance: f64 = marginals.iter().map(|(a, b)| a * b).sum();
    (!pairs.is_empty() && chance < 1.0).then(|| (equal - chance) / (1.0 - chance))
}

/// Gwet's AC1, which stays sensible where nearly all cases are of one kind. None below two categories.
pub fn gwet_ac1<T: Ord>(pairs: &[(T, T)]) -> Option<f64> {
    let (equal, marginals) = shares(pairs);
    if marginals.len() < 2 {
        return None;
    }
    let spread: f64 = marginals
        .iter()
        .map(|(a, b)| {
            let share = (a + b) / 2.0;
            share * (1.0 - share)
        })
        .sum();
    let chance = spread / (marginals.len() as f64 - 1.0);
    Some((equal - chance) / (1.0 - chance))
}

/// Krippendorff's α for nominal data with gaps: one row a rater, one column a case. None where nothing can be paired
/// or only one category was ever used.
pub fn krippendorff_alpha<T: Ord>(raters: &[Vec<Option<T>>]) -> Option<f64> {
    let cases = raters.iter().map(Vec::len).max()?;
    let ratings = |case: usize| raters.iter().filter_map(move |rater| rater.get(case)?.as_ref());
    krippendorff_alpha_of((0..cases).map(|case| (ratings(case), 1)))
}

/// The same from the ratings of each case and how many cases were rated so: very many cases have few patterns.
pub fn krippendorff_alpha_of<'a, T: Ord + 'a, R: Iterator<Item = &'a T>>(
    cases: impl Iterator<Item = (R, u64)>,
) -> Option<f64> {
    let (mut disagreement, mut total) = (0.0, 0.0);
    let mut all: BTreeMap<&T, f64> = BTreeMap::new();
    for (ratings, times) in cases {
        let times = times as f64;
        let mut counts: BTreeMap<&T, f64> = BTreeMap::new();
        for value in ratings {
            *counts.entry(value).or_default() += 1.0;
        }
        let rated: f64 = counts.values().sum();
        if rated < 2.0 {
            continue;
        }
        total += times * rated;
        for (value, count) in counts {
            disagreement += times * count * (rated - count) / (rated - 1.0);
            *all.entry(value).or_default() += times * count;
        }
    }
    let expected: f64 = all.values().map(|count| count * (total - count)).sum::<f64>() / (total - 1.0);
    (total > 1.0 && expected > 0.0).then(|| 1.0 - disagreement / expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(a: &str, b: &str) -> Vec<(char, char)> {
        a.chars().zip(b.chars()).collect()
    }

    #[track_caller]
    fn near(got: Option<f64>, expected: f64) {
        let got = got.expect("a number");
        assert!((got - expected).abs() < 1e-7, "got {got}, expected {expected}");
    }

    #[test]
    fn kappa_with_and_without_the_unscored() {
        let all = pairs("rrwwrrwurwrr", "rwwwrrrurwrw");
        near(cohen_kappa(&all), 0.555_555_6);
        let scored: Vec<_> = all.into_iter().filter(|(a, b)| *a != 'u' && *b != 'u').collect();
        assert_eq!(scored.len(), 11);
        near(cohen_kappa(&scored), 0.440_678_0);
        near(gwet_ac1(&scored), 0.472);
    }

    #[test]
    fn kappa_fails_where_one_kind_rules_and_ac1_does_not() {
        let mut lopsided = pairs(&"r".repeat(92), &"r".repeat(92));
        lopsided.extend(pairs("rrr", "www"));
        lopsided.extend(pairs("wwwww", "rrrrr"));
        near(cohen_kappa(&lopsided), -0.038_961_0);
        near(gwet_ac1(&lopsided), 0.913_344_9);
        assert_eq!(cohen_kappa(&pairs("rrr", "rrr")), None);
        assert_eq!(cohen_kappa::<char>(&[]), None);
    }

    #[test]
    fn alpha_counts_what_is_there() {
        let row = |text: &str| text.chars().map(|c| (c != '-').then_some(c)).collect::<Vec<_>>();
        near(
            krippendorff_alpha(&[row("1011-010"), row("100110-0"), row("11111-10")]),
            0.615_384_6,
        );
        let patterns = [(vec!['a', 'b'], 3), (vec!['a', 'a'], 2), (vec!['b', 'b', 'b'], 1)];
        let counted = krippendorff_alpha_of(patterns.iter().map(|(ratings, times)| (ratings.iter(), *times)));
        near(
            counted,
            krippendorff_alpha(&[row("aaaaab"), row("bbbaab"), row("-----b")]).expect("a number"),
        );
        assert_eq!(krippendorff_alpha(&[row("111"), row("111")]), None);
        assert_eq!(krippendorff_alpha(&[row("1--"), row("-1-")]), None);
    }
}
