//! Means, standard errors, intervals and percentiles.
//!
//! Sums are kept in fixed point, so that the same records give the same digits in whatever order they were written.

use std::collections::HashMap;

/// A sum that doesn't depend on the order of its terms: 64 bits before the point, 64 behind it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct OrderlessSum(i128);

const POINT: f64 = 18_446_744_073_709_551_616.0; // 2^64

impl OrderlessSum {
    fn add(&mut self, value: f64) {
        // The cast saturates, so an absurd term gives an absurd sum and not a panic.
        self.0 = self.0.saturating_add((value * POINT) as i128);
    }

    fn value(self) -> f64 {
        self.0 as f64 / POINT
    }
}

/// A running mean.
#[derive(Debug, Clone, Default)]
pub struct Mean {
    sum: OrderlessSum,
    squares: OrderlessSum,
    count: u64,
    not_finite: u64,
    /// True once a value is neither 0 nor 1.
    graded: bool,
    clusters: HashMap<String, (OrderlessSum, u64)>,
    /// The values without a cluster: each is a cluster by itself.
    loose: (OrderlessSum, OrderlessSum, u64),
}

/// A finished mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    pub value: f64,
    pub stderr: Option<f64>,
    pub interval: Option<(f64, f64)>,
    pub count: u64,
}

/// The 97.5% quantile of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

impl Mean {
    /// Adds a value. Values of one cluster are not independent of each other.
    pub fn add(&mut self, value: f64, cluster: Option<&str>) {
        self.count += 1;
        if !value.is_finite() {
            self.not_finite += 1;
            return;
        }
        self.graded |= value != 0.0 && value != 1.0;
        self.sum.add(value);
        self.squares.add(value * value);
        match cluster {
            Some(name) => {
                let (sum, count) = self.clusters.entry(name.to_owned()).or_default();
                sum.add(value);
                *count += 1;
            }
            None => {
                self.loose.0.add(value);
                self.loose.1.add(value * value);
                self.loose.2 += 1;
            }
        }
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// The mean, its standard error (sample deviation over root n, as lm-eval's; clustered where samples share
    /// something) and a 95% interval: Wilson's for proportions of independent samples, else normal.
    pub fn estimate(&self) -> Estimate {
        let n = self.count as f64;
        if self.count == 0 || self.not_finite > 0 {
            return Estimate {
                value: f64::NAN,
                stderr: None,
                interval: None,
                count: self.count,
            };
        }
        let mean = self.sum.value() / n;
        let deviations = (self.squares.value() - n * mean * mean).max(0.0);
        let independent = self.clusters.values().all(|(_, count)| *count == 1);
        let stderr = match (self.count > 1, independent) {
            (false, _) => None,
            (true, true) => Some((deviations / (n - 1.0) / n).sqrt()),
            (true, false) => self.clustered_stderr(mean),
        };
        let interval = stderr.map(|stderr| {
            let unanimous = mean == 0.0 || mean == 1.0;
            if !self.graded && (independent || unanimous) {
                // All right or all wrong has no spread to estimate from, in clusters or not: then each cluster counts
                // as one sample.
                let clusters = self.clusters.len() as f64 + self.loose.2 as f64;
                wilson(mean, if independent { n } else { clusters })
            } else {
                let (low, high) = (mean - Z * stderr, mean + Z * stderr);
                // Shares of right answers lie between 0 and 1.
                if self.graded {
                    (low, high)
                } else {
                    (low.max(0.0), high.min(1.0))
                }
            }
        });
        Estimate {
            value: mean,
            stderr,
            interval,
            count: self.count,
        }
    }

    /// The deviations are summed within each cluster first, since they go the same way there.
    fn clustered_stderr(&self, mean: f64) -> Option<f64> {
        let (sum, squares, loose) = (self.loose.0.value(), self.loose.1.value(), self.loose.2 as f64);
        let clusters = self.clusters.len() as f64 + loose;
        if clusters < 2.0 {
            return None;
        }
        let mut squared = OrderlessSum::default();
        squared.add((squares - 2.0 * mean * sum + loose * mean * mean).max(0.0));
        for (sum, count) in self.clusters.values() {
            let deviation = sum.value() - *count as f64 * mean;
            squared.add(deviation * deviation);
        }
        Some((squared.value() * clusters / (clusters - 1.0)).sqrt() / self.count as f64)
    }
}

/// Wilson's 95% interval of a proportion. Unlike the normal one it never leaves 0 to 1 and is right near both ends.
fn wilson(share: f64, n: f64) -> (f64, f64) {
    let z2 = Z * Z;
    let centre = (share + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z / (1.0 + z2 / n) * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    ((centre - half).max(0.0), (centre + half).min(1.0))
}

/// Average and percentiles of times.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Latency {
    pub avg: f64,
    pub p50: f64,
    pub p90: f64,
    pub p95: f64,
    pub p99: f64,
}

impl Latency {
    /// None when there are no times. Percentiles are interpolated between neighbours, as numpy's default does.
    pub fn of(times: &mut [f64]) -> Option<Latency> {
        if times.is_empty() {
            return None;
        }
        times.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let place = share * (times.len() - 1) as f64;
            let below = place.floor() as usize;
            let above = (below + 1).min(times.len() - 1);
            times[below] + (times[above] - times[below]) * (place - below as f64)
        };
        let avg = times.iter().sum::<f64>() / times.len() as f64;
        Some(Latency {
            avg,
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean_of(values: &[f64]) -> Estimate {
        let mut mean = Mean::default();
        values.iter().for_each(|value| mean.add(*value, None));
        mean.estimate()
    }

    #[track_caller]
    fn near(got: f64, expected: f64) {
        assert!((got - expected).abs() < 1e-9, "got {got}, expected {expected}");
    }

    #[test]
    fn a_mean_has_the_standard_error_that_lm_eval_prints() {
        // numpy: x = [1]*7 + [0]*3; x.mean(), x.std(ddof=1) / sqrt(10)
        let estimate = mean_of(&[1., 1., 1., 1., 1., 1., 1., 0., 0., 0.]);
        near(estimate.value, 0.7);
        near(estimate.stderr.unwrap(), 0.152_752_523_165_194_67);
        // Wilson's formula in Python's doubles, for 7 of 10.
        let (low, high) = estimate.interval.unwrap();
        near(low, 0.396_778_147_461_145_37);
        near(high, 0.892_208_732_593_698_9);
    }

    #[test]
    fn a_proportion_of_all_keeps_an_interval_that_is_not_a_point() {
        let (low, high) = mean_of(&[1.0; 20]).interval.unwrap();
        assert!(low > 0.8 && low < 0.9 && high == 1.0, "{low} {high}");
    }

    #[test]
    fn the_order_of_values_changes_no_digit() {
        let values: Vec<f64> = (0..1000).map(|i| f64::from(i * 7919 % 1000) * 0.1 - 33.3).collect();
        let mut turned = values.clone();
        turned.reverse();
        turned.rotate_left(317);
        assert_eq!(mean_of(&values), mean_of(&turned));
    }

    #[test]
    fn samples_of_one_cluster_count_less_than_independent_ones() {
        let (mut clustered, mut independent) = (Mean::default(), Mean::default());
        for index in 0..40 {
            let value = f64::from((index / 4) % 2);
            clustered.add(value, Some(&format!("passage {}", index / 4)));
            independent.add(value, None);
        }
        let (clustered, independent) = (clustered.estimate(), independent.estimate());
        assert_eq!(clustered.value, independent.value);
        // Ten clusters, five all right and five all wrong: sqrt(10 * 4 / 9 * 10) / 40 = 1 / 6.
        near(clustered.stderr.unwrap(), 1.0 / 6.0);
        near(independent.stderr.unwrap(), (10.0f64 / 39.0 / 40.0).sqrt());
    }

    #[test]
    fn clusters_that_all_failed_do_not_make_a_certainty() {
        let (mut clustered, mut independent) = (Mean::default(), Mean::default());
        for index in 0..8 {
            clustered.add(0.0, Some(["a", "b", "c", "d"][index / 2]));
            independent.add(0.0, None);
        }
        let high = |mean: &Mean| mean.estimate().interval.unwrap().1;
        assert!(high(&clustered) > high(&independent) && high(&independent) > 0.3);
    }

    #[test]
    fn a_share_has_no_interval_beyond_nothing_and_all() {
        let (mut few, mut graded) = (Mean::default(), Mean::default());
        for (cluster, value) in [("a", 1.0), ("a", 1.0), ("b", 0.0), ("c", 0.0)] {
            few.add(value, Some(cluster));
            graded.add(value * 2.0, Some(cluster));
        }
        assert_eq!(few.estimate().interval, Some((0.0, 1.0)));
        assert!(graded.estimate().interval.unwrap().0 < 0.0);
    }

    #[test]
    fn one_value_has_no_error_and_a_nan_gives_no_number() {
        assert_eq!(mean_of(&[0.5]).stderr, None);
        assert!(mean_of(&[0.5, f64::NAN]).value.is_nan());
        assert!(mean_of(&[]).value.is_nan());
    }

    #[test]
    fn percentiles_are_numpys() {
        let mut times: Vec<f64> = (1..=10).map(f64::from).collect();
        let latency = Latency::of(&mut times).unwrap();
        for (got, expected) in [
            (latency.avg, 5.5),
            (latency.p50, 5.5),
            (latency.p90, 9.1),
            (latency.p99, 9.91),
        ] {
            near(got, expected);
        }
        assert_eq!(Latency::of(&mut []), None);
    }
}
