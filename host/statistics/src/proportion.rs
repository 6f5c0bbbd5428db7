//! Shares of right answers: their intervals, and the interval of a difference between paired ones.

use crate::distributions::binomial_cdf;

/// The 97.5% quantile of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// Wilson's 95% interval of a share of n. It never leaves 0 to 1 and is right near both ends.
pub fn wilson(share: f64, n: f64) -> (f64, f64) {
    let z2 = Z * Z;
    let centre = (share + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z / (1.0 + z2 / n) * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    ((centre - half).max(0.0), (centre + half).min(1.0))
}

/// How pairs of right and wrong came out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Right on both sides.
    pub both: u64,
    /// Right on the first side alone.
    pub first: u64,
    /// Right on the second side alone.
    pub second: u64,
    /// Right on neither side.
    pub neither: u64,
}

impl Counts {
    /// Adds one pair.
    pub fn add(&mut self, first: bool, second: bool) {
        match (first, second) {
            (true, true) => self.both += 1,
            (true, false) => self.first += 1,
            (false, true) => self.second += 1,
            (false, false) => self.neither += 1,
        }
    }

    /// All pairs.
    pub fn pairs(&self) -> u64 {
        self.both + self.first + self.second + self.neither
    }

    /// The second side's share less the first's.
    pub fn difference(&self) -> f64 {
        (self.second as f64 - self.first as f64) / self.pairs() as f64
    }
}

/// Newcombe's 95% interval of a paired difference of shares, second less first: his method 10, by hybrid scores with
/// the continuity-corrected correlation.
pub fn newcombe(counts: &Counts) -> (f64, f64) {
    let n = counts.pairs() as f64;
    let (a, b, c, d) = (
        counts.both as f64,
        counts.first as f64,
        counts.second as f64,
        counts.neither as f64,
    );
    let (p1, p2) = ((a + c) / n, (a + b) / n);
    let ((l1, u1), (l2, u2)) = (wilson(p1, n), wilson(p2, n));
    let phi = correlation(a, b, c, d, n);
    let theta = p1 - p2;
    let reach = |x: f64, y: f64| (x * x - 2.0 * phi * x * y + y * y).max(0.0).sqrt();
    (theta - reach(p1 - l1, u2 - p2), theta + reach(u1 - p1, p2 - l2))
}

fn correlation(a: f64, b: f64, c: f64, d: f64, n: f64) -> f64 {
    let below = ((a + b) * (c + d) * (a + c) * (b + d)).sqrt();
    if below == 0.0 {
        return 0.0;
    }
    let cross = a * d - b * c;
    if cross > 0.0 {
        (cross - n / 2.0).max(0.0) / below
    } else {
        cross / below
    }
}

/// The exact two-sided test of k successes in n against even chances.
pub fn binomial_two_sided(k: u64, n: u64) -> f64 {
    let fewer = k.min(n - k) as i64;
    (2.0 * binomial_cdf(fewer, n, 0.5)).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn near((low, high): (f64, f64), expected: (f64, f64)) {
        assert!(
            (low - expected.0).abs() < 1e-7 && (high - expected.1).abs() < 1e-7,
            "got {low} to {high}, expected {expected:?}"
        );
    }

    #[test]
    fn wilsons_interval_is_statsmodels() {
        near(wilson(0.40, 20.0), (0.218_806_5, 0.613_418_4));
        near(wilson(0.65, 20.0), (0.432_854_3, 0.818_808_2));
        near(wilson(11.0 / 15.0, 15.0), (0.480_495_7, 0.891_025_5));
        near(wilson(31.0 / 48.0, 48.0), (0.504_390_6, 0.765_663_6));
    }

    #[test]
    fn newcombes_interval_counts_the_pairing() {
        let counts = Counts {
            both: 6,
            first: 2,
            second: 7,
            neither: 5,
        };
        assert!((correlation(6.0, 2.0, 7.0, 5.0, 20.0) - 0.064_194_1).abs() < 1e-7);
        near(newcombe(&counts), (-0.044_533_3, 0.489_583_5));
        let alike = Counts {
            both: 54,
            ..Counts::default()
        };
        near(newcombe(&alike), (-0.066_413_6, 0.066_413_6));
    }

    #[test]
    fn a_slot_that_wins_too_often_is_found() {
        assert!((binomial_two_sided(31, 48) - 0.059_463_4).abs() < 1e-7);
        assert_eq!(binomial_two_sided(0, 0), 1.0);
    }
}
