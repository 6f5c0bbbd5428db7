//! A ratio of two sums with its standard error, such as F1 or the share of some samples.
//!
//! Samples of one cluster are correlated, so their deviations are summed before they are squared.

use std::collections::{BTreeMap, HashMap};

/// The 97.5% quantile of the normal distribution, which makes a 95% interval.
pub const Z: f64 = 1.959_963_984_540_054;

/// A sum over a sum, by cluster.
///
/// ```
/// let mut share = score::Ratio::default();
/// for (clip, right) in [("a", 1.0), ("a", 1.0), ("b", 0.0), ("c", 1.0)] {
///     share.add(clip, right, 1.0);
/// }
/// assert_eq!(share.value(), Some(0.75));
/// assert!(share.stderr().is_some());
/// ```
#[derive(Debug, Clone, Default)]
pub struct Ratio {
    clusters: HashMap<String, (f64, f64)>,
}

impl Ratio {
    /// Adds a sample's contribution to both sums.
    pub fn add(&mut self, cluster: &str, above: f64, below: f64) {
        match self.clusters.get_mut(cluster) {
            Some(sums) => {
                sums.0 += above;
                sums.1 += below;
            }
            None => {
                self.clusters.insert(cluster.to_owned(), (above, below));
            }
        }
    }

    /// The clusters' sums in the order of names, so that rounding is the same every time.
    fn sums(&self) -> BTreeMap<&str, (f64, f64)> {
        let named = self.clusters.iter().map(|(name, sums)| (name.as_str(), *sums));
        named.collect()
    }

    fn totals(&self) -> (f64, f64) {
        let sums = self.sums();
        sums.values()
            .fold((0.0, 0.0), |all, one| (all.0 + one.0, all.1 + one.1))
    }

    /// The denominator.
    pub fn below(&self) -> f64 {
        self.totals().1
    }

    /// The ratio; none if the denominator is zero.
    pub fn value(&self) -> Option<f64> {
        let (above, below) = self.totals();
        (below != 0.0).then(|| above / below)
    }

    /// The standard error, by linearisation of the ratio.
    pub fn stderr(&self) -> Option<f64> {
        let (above, below) = self.totals();
        let sums = self.sums();
        let count = sums.len() as f64;
        if count < 2.0 || below == 0.0 {
            return None;
        }
        let ratio = above / below;
        let squares: f64 = sums
            .values()
            .map(|(above, below)| (above - ratio * below).powi(2))
            .sum();
        Some((squares * count / (count - 1.0)).sqrt() / below)
    }

    /// The 95% interval of a value with this standard error.
    ///
    /// If nothing varies, the normal interval has no width. For a proportion, Wilson's interval is used instead, with
    /// as many samples as there are clusters; for other figures there is none.
    pub fn interval(&self, value: f64, stderr: Option<f64>, proportion: bool) -> Option<(f64, f64)> {
        let stderr = stderr?;
        let independent = self.clusters.values().all(|(_, below)| *below <= 1.0);
        if proportion && (independent || stderr == 0.0) {
            return Some(wilson(value, self.clusters.len() as f64));
        }
        (stderr > 0.0).then(|| ((value - Z * stderr).max(0.0), (value + Z * stderr).min(1.0)))
    }
}

/// Wilson's 95% interval of a proportion, which stays within 0 to 1 and is accurate near both ends.
fn wilson(share: f64, n: f64) -> (f64, f64) {
    let z2 = Z * Z;
    let centre = (share + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z / (1.0 + z2 / n) * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    ((centre - half).max(0.0), (centre + half).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(parts: &[(&str, f64, f64)]) -> Ratio {
        let mut ratio = Ratio::default();
        parts
            .iter()
            .for_each(|(cluster, above, below)| ratio.add(cluster, *above, *below));
        ratio
    }

    #[track_caller]
    fn near(got: f64, expected: f64) {
        assert!((got - expected).abs() < 1e-12, "got {got}, expected {expected}");
    }

    #[test]
    fn of_independent_samples_it_is_the_error_of_a_mean() {
        let samples = ratio(&[("a", 1., 1.), ("b", 1., 1.), ("c", 0., 1.), ("d", 1., 1.)]);
        assert_eq!((samples.value(), samples.below()), (Some(0.75), 4.0));
        near(samples.stderr().unwrap(), (0.1875f64 / 3.0).sqrt()); // p (1 - p) / (n - 1)
        // Wilson's formula in Python's doubles, for 3 of 4.
        let (low, high) = samples.interval(0.75, samples.stderr(), true).unwrap();
        near(low, 0.300_641_842_582_401_84);
        near(high, 0.954_412_739_190_299_5);
    }

    #[test]
    fn clusters_count_as_one_each() {
        let doubled = ratio(&[("a", 1., 1.), ("a", 1., 1.), ("b", 0., 1.), ("b", 0., 1.)]);
        near(doubled.stderr().unwrap(), 0.5);
        let (low, high) = doubled.interval(0.5, Some(0.5), true).unwrap();
        assert_eq!((low, high), (0.0, 1.0));
        let unanimous = ratio(&[("a", 2., 2.), ("b", 2., 2.)]);
        assert!(unanimous.interval(1.0, unanimous.stderr(), true).unwrap().0 < 0.5);
        assert_eq!(unanimous.interval(1.0, unanimous.stderr(), false), None);
    }

    #[test]
    fn a_cluster_with_nothing_below_says_nothing_and_one_alone_has_no_error() {
        assert_eq!(ratio(&[]).value(), None);
        assert_eq!(ratio(&[("a", 0., 0.)]).value(), None);
        assert_eq!(ratio(&[("a", 1., 1.)]).stderr(), None);
    }
}
