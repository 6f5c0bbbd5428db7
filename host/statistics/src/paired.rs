//! Two sides answer the same samples: tests of whether one is better.

use crate::distributions::{binomial_cdf, binomial_pmf, student_quantile, student_two_sided};
use crate::proportion::binomial_two_sided;
use crate::resample::Random;
use crate::variance;
use std::collections::BTreeMap;

/// McNemar's exact test: `first` pairs were right on the first side alone, `second` on the second alone.
pub fn mcnemar(first: u64, second: u64) -> f64 {
    binomial_two_sided(first, first + second)
}

/// McNemar's test by the mid-p value, which is less cautious than the exact one.
pub fn mcnemar_mid_p(first: u64, second: u64) -> f64 {
    let (k, n) = (first.min(second), first + second);
    if n == 0 {
        return 1.0;
    }
    (2.0 * (binomial_cdf(k as i64 - 1, n, 0.5) + 0.5 * binomial_pmf(k, n, 0.5))).min(1.0)
}

/// A mean difference with its test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MeanDifference {
    pub mean: f64,
    pub stderr: f64,
    /// Infinite when every difference is the same and not zero, and 0 when all are zero.
    pub t: f64,
    pub p: f64,
    /// 95%, by Student's distribution.
    pub interval: (f64, f64),
    /// What the degrees of freedom are counted in: pairs, or clusters of them.
    pub units: u64,
}

fn by_student(mean: f64, stderr: f64, units: usize) -> MeanDifference {
    let df = units as f64 - 1.0;
    let t = if mean == 0.0 { 0.0 } else { mean / stderr };
    let half = student_quantile(0.975, df) * stderr;
    MeanDifference {
        mean,
        stderr,
        t,
        p: student_two_sided(t, df),
        interval: (mean - half, mean + half),
        units: units as u64,
    }
}

/// The paired t-test of differences; none below two of them.
pub fn paired_t(differences: &[f64]) -> Option<MeanDifference> {
    if differences.len() < 2 {
        return None;
    }
    let n = differences.len() as f64;
    let mean = differences.iter().sum::<f64>() / n;
    Some(by_student(mean, (variance(differences) / n).sqrt(), differences.len()))
}

/// The same where samples share something: differences are summed within each cluster first, and clusters are what is
/// counted. None below two clusters.
pub fn clustered_t<C: Ord>(differences: &[f64], clusters: &[C]) -> Option<MeanDifference> {
    let n = differences.len() as f64;
    let mean = differences.iter().sum::<f64>() / n;
    let mut sums: BTreeMap<&C, f64> = BTreeMap::new();
    for (difference, cluster) in differences.iter().zip(clusters) {
        *sums.entry(cluster).or_default() += difference - mean;
    }
    if sums.len() < 2 {
        return None;
    }
    let count = sums.len() as f64;
    let squares: f64 = sums.values().map(|sum| sum * sum).sum();
    Some(by_student(
        mean,
        (count / (count - 1.0) * squares).sqrt() / n,
        sums.len(),
    ))
}

/// The share of sign patterns whose sum is at least as far from zero: all of them up to 20 differences, else 100,000
/// seeded draws.
pub fn sign_flip(differences: &[f64], seed: u64) -> f64 {
    // Rounding must not turn an equal sum into a smaller one.
    let observed = differences.iter().sum::<f64>().abs() * (1.0 - 1e-12);
    let extreme = |mut signs: u64, bits: &mut dyn FnMut() -> u64| {
        let mut sum = 0.0;
        for (place, difference) in differences.iter().enumerate() {
            if place > 0 && place % 64 == 0 {
                signs = bits();
            }
            sum += if signs >> (place % 64) & 1 == 1 {
                -difference
            } else {
                *difference
            };
        }
        sum.abs() >= observed
    };
    let n = differences.len();
    if n <= 20 {
        let patterns = 1u64 << n;
        let hits = (0..patterns).filter(|signs| extreme(*signs, &mut || 0)).count();
        return hits as f64 / patterns as f64;
    }
    const DRAWS: u32 = 100_000;
    let mut random = Random::new(seed);
    let hits = (0..DRAWS)
        .filter(|_| {
            let first = random.next();
            extreme(first, &mut || random.next())
        })
        .count();
    (hits as f64 + 1.0) / f64::from(DRAWS + 1)
}

/// The exact sign test of wins against losses; ties are left out before.
pub fn sign_test(wins: u64, losses: u64) -> f64 {
    binomial_two_sided(wins, wins + losses)
}

/// Holm's adjustment of a family of p-values, in the order they came.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    let mut adjusted = vec![0.0; p_values.len()];
    let mut largest: f64 = 0.0;
    for (rank, place) in order.into_iter().enumerate() {
        largest = largest.max((p_values.len() - rank) as f64 * p_values[place]).min(1.0);
        adjusted[place] = largest;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "10010100100110001010";
    const TUNED: &str = "11011101010111011001";
    const CLUSTERS: &str = "aabbbcddeefffghhijjk";

    fn differences() -> Vec<f64> {
        let side = |text: &str| text.chars().map(|c| f64::from(c == '1')).collect::<Vec<_>>();
        side(TUNED).iter().zip(side(BASE)).map(|(t, b)| t - b).collect()
    }

    #[track_caller]
    fn near(got: f64, expected: f64) {
        assert!((got - expected).abs() < 1e-6, "got {got}, expected {expected}");
    }

    #[test]
    fn mcnemars_test_is_exact() {
        for ((first, second), p) in [
            ((2, 7), 0.179_687_5),
            ((0, 5), 0.062_5),
            ((2, 10), 0.038_574_2),
            ((1, 0), 1.0),
            ((0, 0), 1.0),
        ] {
            near(mcnemar(first, second), p);
        }
        near(mcnemar_mid_p(2, 7), 0.109_375);
        near(mcnemar_mid_p(0, 0), 1.0);
    }

    #[test]
    fn the_paired_t_test_is_scipys() {
        let test = paired_t(&differences()).unwrap();
        near(test.mean, 0.25);
        near(test.stderr, 0.142_810_1);
        near(test.t, 1.750_575_9);
        near(test.p, 0.096_149_7);
        near(test.interval.0, -0.048_905_1);
        near(test.interval.1, 0.548_905_1);
    }

    #[test]
    fn the_clustered_t_test_is_statsmodels() {
        let clusters: Vec<char> = CLUSTERS.chars().collect();
        let test = clustered_t(&differences(), &clusters).unwrap();
        assert_eq!(test.units, 11);
        near(test.stderr, 0.118_717_1);
        near(test.t, 2.105_846_6);
        near(test.p, 0.061_470_1);
        near(test.interval.0, -0.014_518_2);
        near(test.interval.1, 0.514_518_2);
    }

    #[test]
    fn a_side_against_itself_is_no_different() {
        let test = paired_t(&[0.0; 12]).unwrap();
        assert_eq!((test.mean, test.t, test.p, test.interval), (0.0, 0.0, 1.0, (0.0, 0.0)));
        assert_eq!(sign_flip(&[0.0; 12], 1), 1.0);
        assert_eq!(paired_t(&[1.0]), None);
        assert_eq!(clustered_t(&[1.0, 0.0], &["a", "a"]), None);
    }

    #[test]
    fn graded_scores_are_tested_by_flipping_signs() {
        let a = [0.5, 0.25, 1.0, 0.0, 0.75, 0.5];
        let b = [0.25, 0.5, 0.5, 0.0, 0.25, 0.25];
        let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
        near(sign_flip(&differences, 1), 0.25);
        near(paired_t(&differences).unwrap().p, 0.141_234_8);
        // Of 30 equal steps to one side, two patterns in 2^30 are as far; no draw finds one.
        near(sign_flip(&[1.0; 30], 7), 1.0 / 100_001.0);
    }

    #[test]
    fn wins_against_losses() {
        near(sign_test(11, 4), 0.118_469_2);
        near(sign_test(4, 2), 0.687_5);
    }

    #[test]
    fn holms_steps_never_fall() {
        for (given, expected) in [
            (vec![0.01, 0.04, 0.03, 0.005, 0.2], vec![0.04, 0.09, 0.09, 0.025, 0.2]),
            (vec![0.02, 0.02, 0.9], vec![0.06, 0.06, 0.9]),
        ] {
            holm(&given).iter().zip(expected).for_each(|(got, p)| near(*got, p));
        }
    }
}
