//! The statistics behind every table: intervals, paired tests, resampling, agreement between raters.
//!
//! Pure functions of numbers; nothing here knows a run, a record or a file. Each formula names where it comes from and
//! is tested against figures of scipy, statsmodels, scikit-learn and krippendorff.
//!
//! ```
//! // 20 pairs: 2 were right only before, 7 only after.
//! let p = statistics::mcnemar(2, 7);
//! assert!((p - 0.1796875).abs() < 1e-12);
//! ```

mod agreement;
mod distributions;
mod judged;
mod paired;
mod power;
mod proportion;
mod resample;

pub use agreement::{cohen_kappa, gwet_ac1, krippendorff_alpha, krippendorff_alpha_of};
pub use distributions::{binomial_cdf, normal_cdf, normal_quantile, student_quantile, student_two_sided};
pub use judged::{corrected_accuracy, prediction_powered_mean};
pub use paired::{MeanDifference, clustered_t, holm, mcnemar, mcnemar_mid_p, paired_t, sign_flip, sign_test};
pub use power::pairs_for_power;
pub use proportion::{Counts, binomial_two_sided, newcombe, wilson};
pub use resample::{BinaryBootstrap, Random, cluster_bootstrap, percentile};

/// An estimate with its standard error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    pub value: f64,
    pub stderr: f64,
}

/// A mean with the standard error of independent values; none below two values.
pub fn mean_and_error(values: &[f64]) -> Option<Estimate> {
    let n = values.len() as f64;
    if values.len() < 2 {
        return None;
    }
    let value = values.iter().sum::<f64>() / n;
    Some(Estimate {
        value,
        stderr: (variance(values) / n).sqrt(),
    })
}

/// The sample variance, with n − 1 below the line.
pub(crate) fn variance(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0)
}
