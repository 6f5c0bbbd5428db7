//! Errors of clustered means and bands of curves, in addition to the crate `statistics`.

use crate::random::Random;
use std::collections::BTreeMap;

/// The normal distribution's quantile of 97.5 %.
pub const Z: f64 = 1.959_963_984_540_054;

pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
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
    Some([
        statistics::percentile(&means, 0.025),
        statistics::percentile(&means, 0.975),
    ])
}
