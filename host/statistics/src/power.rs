//! How many samples a comparison needs.

use crate::normal_quantile;

/// The pairs with which McNemar's test finds a difference with the given power: a share `first` of pairs is right on
/// the first side alone, `second` on the second alone. None when both are equal: nothing would be there to find.
pub fn pairs_for_power(first: f64, second: f64, alpha: f64, power: f64) -> Option<u64> {
    let difference = (first - second).powi(2);
    if difference == 0.0 {
        return None;
    }
    let (z_alpha, z_beta) = (normal_quantile(1.0 - alpha / 2.0), normal_quantile(power));
    let root = z_alpha * (first + second).sqrt() + z_beta * (first + second - difference).sqrt();
    Some((root * root / difference).ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_points_against_twelve_need_391_pairs() {
        assert_eq!(pairs_for_power(0.06, 0.12, 0.05, 0.8), Some(391));
        assert_eq!(pairs_for_power(0.1, 0.1, 0.05, 0.8), None);
    }
}
