//! An accuracy that a judge found, corrected by what people's labels say of the judge.

use crate::{Estimate, mean_and_error};

/// Rogan and Gladen's correction of a judged accuracy.
///
/// The judge called `right` of `judged` answers right. Against labels it called `sensitive.0` of `sensitive.1` truly
/// right ones right, and `specific.0` of `specific.1` truly wrong ones wrong. None when sensitivity and specificity
/// together are at most 1.2: such a judge says too little to be corrected.
pub fn corrected_accuracy(
    (right, judged): (u64, u64),
    sensitive: (u64, u64),
    specific: (u64, u64),
) -> Option<Estimate> {
    if judged == 0 || sensitive.1 == 0 || specific.1 == 0 {
        return None;
    }
    let share = |(part, all): (u64, u64)| part as f64 / all as f64;
    let (p, se, sp) = (share((right, judged)), share(sensitive), share(specific));
    let gain = se + sp - 1.0;
    if se + sp <= 1.2 {
        return None;
    }
    let value = ((p + sp - 1.0) / gain).clamp(0.0, 1.0);
    let variance = p * (1.0 - p) / judged as f64
        + (1.0 - value).powi(2) * sp * (1.0 - sp) / specific.1 as f64
        + value.powi(2) * se * (1.0 - se) / sensitive.1 as f64;
    Some(Estimate {
        value,
        stderr: variance.sqrt() / gain,
    })
}

/// The prediction-powered mean: the judge's mean over many answers, moved by the mean difference between people and
/// the judge on the few that both rated.
pub fn prediction_powered_mean(judge: &[f64], both: &[(f64, f64)]) -> Option<Estimate> {
    let many = mean_and_error(judge)?;
    let differences: Vec<f64> = both.iter().map(|(human, judge)| human - judge).collect();
    let few = mean_and_error(&differences)?;
    Some(Estimate {
        value: many.value + few.value,
        stderr: many.stderr.hypot(few.stderr),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn near(got: Option<Estimate>, value: f64, stderr: f64) {
        let got = got.expect("an estimate");
        assert!(
            (got.value - value).abs() < 1e-7 && (got.stderr - stderr).abs() < 1e-7,
            "{got:?}"
        );
    }

    #[test]
    fn an_accuracy_is_corrected_for_the_judges_errors() {
        near(corrected_accuracy((124, 200), (45, 50), (36, 40)), 0.65, 0.058_818_1);
        assert_eq!(corrected_accuracy((124, 200), (30, 50), (24, 40)), None);
        assert_eq!(corrected_accuracy((0, 0), (45, 50), (36, 40)), None);
    }

    #[test]
    fn a_few_labels_move_the_judges_mean() {
        let judge: Vec<f64> = (0..100).map(|i| f64::from(i < 61)).collect();
        let digit = |c: char| f64::from(c == '1');
        let both: Vec<_> = "1101011010"
            .chars()
            .map(digit)
            .zip("1111010011".chars().map(digit))
            .collect();
        near(prediction_powered_mean(&judge, &both), 0.51, 0.186_078_6);
    }
}
