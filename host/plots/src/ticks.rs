//! Where an axis has its ticks.

/// Round places between two ends, some five of them, both inside.
pub fn ticks(low: f64, high: f64) -> Vec<f64> {
    if !(low.is_finite() && high.is_finite()) || high <= low {
        return vec![low].into_iter().filter(|low| low.is_finite()).collect();
    }
    let rough = (high - low) / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = match rough / power {
        lead if lead < 1.5 => power,
        lead if lead < 3.5 => 2.0 * power,
        lead if lead < 7.5 => 5.0 * power,
        _ => 10.0 * power,
    };
    let first = (low / step - 1e-9).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    // By the number of decimals that the step has, so that 0.1 three times is 0.3.
    let decimals = usize::try_from(-(step.log10().floor() as i64)).unwrap_or(0).min(12);
    let round = |place: i64| {
        let value = place as f64 * step;
        format!("{value:.decimals$}").parse().unwrap_or(value)
    };
    (first..=last).map(round).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(ticks(0.0, 1.0), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
        assert_eq!(ticks(0.0, 0.3), [0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3]);
        assert_eq!(ticks(-25.0, 35.0), [-20.0, -10.0, 0.0, 10.0, 20.0, 30.0]);
        assert_eq!(ticks(3.0, 3.0), [3.0]);
        assert!(ticks(f64::NAN, 1.0).is_empty());
    }
}
