//! Intervals and tests that need no model of the data.

use crate::random::Random;
use std::collections::BTreeMap;

/// The normal distribution's quantile of 97.5 %.
pub const Z: f64 = 1.959_963_984_540_054;

pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Wilson's interval of a share.
pub fn wilson(count: usize, of: usize) -> Option<[f64; 2]> {
    if of == 0 {
        return None;
    }
    let (n, p) = (of as f64, count as f64 / of as f64);
    let square = Z * Z;
    let middle = p + square / (2.0 * n);
    let half = Z * (p * (1.0 - p) / n + square / (4.0 * n * n)).sqrt();
    let scale = 1.0 + square / n;
    Some([((middle - half) / scale).max(0.0), ((middle + half) / scale).min(1.0)])
}

/// The standard error of a mean whose values come in clusters; none for a single cluster.
pub fn clustered_error<'a>(values: impl IntoIterator<Item = (&'a str, f64)>) -> Option<f64> {
    let values: Vec<(&str, f64)> = values.into_iter().collect();
    let n = values.len() as f64;
    let mean = values.iter().map(|(_, value)| value).sum::<f64>() / n;
    let mut sums: BTreeMap<&str, f64> = BTreeMap::new();
    for (cluster, value) in &values {
        *sums.entry(cluster).or_default() += value - mean;
    }
    let clusters = sums.len() as f64;
    let squares: f64 = sums.values().map(|sum| sum * sum).sum();
    (sums.len() > 1).then(|| (clusters / (clusters - 1.0) * squares).sqrt() / n)
}

/// McNemar's exact test: the two-sided binomial probability of the pairs that differ.
pub fn mcnemar(only_first: usize, only_second: usize) -> f64 {
    let n = only_first + only_second;
    if n == 0 {
        return 1.0;
    }
    // Logarithms of factorials keep thousands of pairs in range.
    let log_factorial: Vec<f64> = std::iter::once(0.0)
        .chain((1..=n).scan(0.0, |sum, k| {
            *sum += (k as f64).ln();
            Some(*sum)
        }))
        .collect();
    let chance = |k: usize| {
        let ways = log_factorial[n] - log_factorial[k] - log_factorial[n - k];
        (ways - n as f64 * std::f64::consts::LN_2).exp()
    };
    let tail: f64 = (0..=only_first.min(only_second)).map(chance).sum();
    (2.0 * tail).min(1.0)
}

/// Holm's correction of a family of tests, in the order of the tests.
pub fn holm(tests: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..tests.len()).collect();
    order.sort_by(|a, b| tests[*a].total_cmp(&tests[*b]));
    let mut adjusted = vec![0.0; tests.len()];
    let mut least = 0.0_f64;
    for (rank, index) in order.into_iter().enumerate() {
        least = least.max((tests.len() - rank) as f64 * tests[index]).min(1.0);
        adjusted[index] = least;
    }
    adjusted
}

/// The percentile bootstrap's band of a mean of zeros and ones: 1,000 draws over rows, seeded.
pub fn bootstrap(hits: usize, of: usize, seed: &str) -> Option<[f64; 2]> {
    const DRAWS: usize = 1000;
    if of == 0 {
        return None;
    }
    let mut random = Random::seeded(seed);
    let mut means: Vec<f64> = (0..DRAWS)
        .map(|_| {
            let drawn = (0..of).filter(|_| random.below(of as u64) < hits as u64).count();
            drawn as f64 / of as f64
        })
        .collect();
    means.sort_by(f64::total_cmp);
    Some([percentile(&means, 2.5), percentile(&means, 97.5)])
}

/// A percentile of sorted values, linear between neighbours.
pub fn percentile(sorted: &[f64], percent: f64) -> f64 {
    let place = percent / 100.0 * (sorted.len().max(1) - 1) as f64;
    let (low, high) = (place.floor() as usize, place.ceil() as usize);
    match (sorted.get(low), sorted.get(high)) {
        (Some(below), Some(above)) => below + (above - below) * (place - low as f64),
        _ => f64::NAN,
    }
}
