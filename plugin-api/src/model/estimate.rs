//! Estimates a model's memory before any of it is allocated.

use crate::wire::{unknown_method, Adapter, Callbacks, Envelope};
use crate::{Code, Error, Kind, Plan, Result, Settings};
use serde::{Deserialize, Serialize};

/// The memory of a model with certain settings. Unknown bytes are 0, unknown words are empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Estimate {
    /// The weights, as the settings store them.
    pub weights_bytes: u64,
    /// The type of most of them: `bf16`, `q4_k`.
    pub stored_as: String,
    /// Further memory for each answer of [`Estimate::planned_tokens`], while it is in progress.
    pub answer_bytes: u64,
    /// Tokens of prompt and answer that [`Estimate::answer_bytes`] is for.
    pub planned_tokens: u32,
    /// Answers at a time, if there is memory for them.
    pub batch: u32,
    /// The device: `cpu`, `cuda`.
    pub device: String,
    /// The memory that this process may still use there.
    pub available_bytes: Option<u64>,
}

impl Estimate {
    /// Whether the weights and one answer fit. True if the available memory is unknown.
    pub fn fits(&self) -> bool {
        let least = self.weights_bytes.saturating_add(self.answer_bytes);
        !matches!(self.available_bytes, Some(available) if least > available)
    }
}

/// The largest batch of a training run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Workload {
    /// Tokens of all its rows.
    pub tokens: u64,
    /// Learnt tokens.
    pub learnt: u64,
    /// Tokens of the longest row.
    pub longest: u64,
    /// Seconds of audio.
    pub seconds: f64,
}

/// The memory of training a model with certain settings. Unknown bytes are 0.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TrainingEstimate {
    /// Frozen weights, as they are stored.
    pub frozen_bytes: u64,
    /// The number of learnt parameters.
    pub parameters: u64,
    /// Learnt parameters with their gradients and optimiser states.
    pub learnt_bytes: u64,
    /// Activations of the largest batch that are kept for the backward pass.
    pub activation_bytes: u64,
    /// Its logits.
    pub logits_bytes: u64,
    /// The device: `cpu`, `cuda`.
    pub device: String,
    /// The memory that this process may still use there.
    pub available_bytes: Option<u64>,
}

impl TrainingEstimate {
    /// The sum.
    pub fn bytes(&self) -> u64 {
        let parts = [
            self.frozen_bytes,
            self.learnt_bytes,
            self.activation_bytes,
            self.logits_bytes,
        ];
        parts.into_iter().fold(0, u64::saturating_add)
    }

    /// Whether it fits. True if the available memory is unknown.
    pub fn fits(&self) -> bool {
        !matches!(self.available_bytes, Some(available) if self.bytes() > available)
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TrainingRequest {
    pub plan: Plan,
    pub work: Workload,
}

/// The word under which layer 1 creates estimates. It is not a [`Kind`]; see [`crate::loading::FILES`].
pub const WORD: &str = "estimate";

/// Estimates the memory of a model with these settings.
pub type MakeEstimate = fn(&Settings) -> Result<Estimate>;

/// Estimates the memory of training a model with these settings.
pub type MakeTrainingEstimate = fn(&Settings, &Plan, &Workload) -> Result<TrainingEstimate>;

/// A registered estimate, as `inventory` stores it.
pub struct EstimateRegistration {
    #[doc(hidden)]
    pub model: &'static str,
    #[doc(hidden)]
    pub estimate: MakeEstimate,
    #[doc(hidden)]
    pub training: Option<MakeTrainingEstimate>,
}

inventory::collect!(EstimateRegistration);

/// The memory estimate of one of this library's models. The host creates it through layer 1; a plugin's own tests
/// directly. The settings are checked as a model's are.
pub fn make_estimate(model: &str, settings: &Settings) -> Result<Box<dyn Adapter>> {
    let mut all = inventory::iter::<EstimateRegistration>.into_iter();
    match all.find(|found| found.model == model) {
        Some(found) => Ok(Box::new(EstimateAdapter {
            estimate: found.estimate,
            training: found.training,
            settings: crate::register::settled(Kind::Model, model, settings)?,
        })),
        None => Err(Error::new(
            Code::MISSING,
            format!("this plugin estimates no memory of a model `{model}`"),
        )),
    }
}

struct EstimateAdapter {
    estimate: MakeEstimate,
    training: Option<MakeTrainingEstimate>,
    settings: Settings,
}

impl Adapter for EstimateAdapter {
    fn call(&self, method: &str, input: Envelope, _host: &dyn Callbacks) -> Result<Envelope> {
        match method {
            "estimate" => Envelope::of(&(self.estimate)(&self.settings)?),
            "training" => {
                let TrainingRequest { plan, work } = input.read()?;
                match self.training {
                    Some(training) => Envelope::of(&training(&self.settings, &plan, &work)?),
                    None => Err(Error::not_implemented(
                        "this model does not estimate the memory of training",
                    )),
                }
            }
            _ => Err(unknown_method("estimate", method)),
        }
    }
}

/// Announces an estimate of a model's memory: the model's name, and a function from the [`Settings`] it would be made
/// with to an [`Estimate`]. It reads headers, not weights. A second function, `training: …`, estimates the memory of
/// training: it takes the settings, the [`Plan`] and the [`Workload`], and gives a [`TrainingEstimate`].
///
/// ```
/// use plugin_api::{Estimate, Result, Settings};
///
/// fn estimate(settings: &Settings) -> Result<Estimate> {
///     let file = std::fs::metadata(settings.path("weights")?)?;
///     Ok(Estimate { weights_bytes: file.len(), ..Estimate::default() })
/// }
///
/// plugin_api::register_estimate!("parrot", estimate);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! register_estimate {
    ($model:literal, $estimate:expr $(, training: $training:expr)? $(,)?) => {
        const _: () = {
            // A name that no function of the author has, since the expression `$estimate` can see it, too.
            fn __register_estimate(settings: &$crate::Settings) -> $crate::Result<$crate::Estimate> {
                $estimate(settings)
            }
            #[allow(unused_assignments, unused_mut)]
            const fn __register_training() -> ::std::option::Option<$crate::MakeTrainingEstimate> {
                let mut training: ::std::option::Option<$crate::MakeTrainingEstimate> = ::std::option::Option::None;
                $(training = ::std::option::Option::Some($training);)?
                training
            }
            $crate::__private::inventory::submit! {
                $crate::__private::EstimateRegistration {
                    model: $model,
                    estimate: __register_estimate,
                    training: __register_training(),
                }
            }
            $crate::__note!("{\"record\":\"estimate\",\"model\":", stringify!($model), "}");
        };
    };
}

#[cfg(all(test, feature = "host"))]
mod tests {
    use super::*;
    use crate::client::EstimateClient;
    use crate::{Call, Model, ModelCard, Prompt, Reply};
    use std::sync::Arc;

    struct Heavy;

    impl Model for Heavy {
        fn card(&self) -> ModelCard {
            ModelCard::text("heavy")
        }

        fn reply(&mut self, _prompt: &Prompt, _call: &mut Call) -> Result<Reply> {
            Ok(Reply::default())
        }
    }

    fn estimate(settings: &Settings) -> Result<Estimate> {
        Ok(Estimate {
            weights_bytes: settings.need("bytes")?,
            answer_bytes: 8,
            ..Estimate::default()
        })
    }

    crate::register_model!("heavy", "Weighs what it is told", |_| Ok(Heavy), { bytes: integer = 7, "its weights"; });
    fn training(settings: &Settings, plan: &Plan, work: &Workload) -> Result<TrainingEstimate> {
        Ok(TrainingEstimate {
            frozen_bytes: settings.need("bytes")?,
            learnt_bytes: u64::from(plan.batch_size),
            logits_bytes: work.learnt,
            ..TrainingEstimate::default()
        })
    }

    crate::register_estimate!("heavy", estimate, training: training);

    fn ask(model: &str, settings: &str) -> Result<Estimate> {
        let settings = serde_json::from_str(settings).unwrap();
        EstimateClient(Arc::from(make_estimate(model, &settings)?)).estimate()
    }

    #[test]
    fn memory_is_estimated_with_the_settings_of_the_model() {
        assert_eq!(ask("heavy", "{}").unwrap().weights_bytes, 7);
        assert_eq!(ask("heavy", r#"{"bytes": 9}"#).unwrap().weights_bytes, 9);
        assert_eq!(ask("heavy", r#"{"byte": 9}"#).unwrap_err().code, Code::SETTINGS);
        assert_eq!(ask("light", "{}").unwrap_err().code, Code::MISSING);
    }

    #[test]
    fn memory_of_training_depends_on_plan_and_batches() {
        let settings = serde_json::from_str("{}").unwrap();
        let client = EstimateClient(Arc::from(make_estimate("heavy", &settings).unwrap()));
        let plan = Plan {
            batch_size: 2,
            ..Plan::default()
        };
        let work = Workload {
            learnt: 5,
            ..Workload::default()
        };
        let estimate = client.training(&plan, &work).unwrap();
        assert_eq!(estimate.bytes(), 14);
        let full = TrainingEstimate {
            available_bytes: Some(13),
            ..estimate
        };
        assert!(!full.fits());
    }

    #[test]
    fn what_fits_is_weights_and_one_answer() {
        let fits = |available_bytes| {
            let estimate = Estimate {
                weights_bytes: 100,
                answer_bytes: 10,
                available_bytes,
                ..Estimate::default()
            };
            estimate.fits()
        };
        assert!(fits(None) && fits(Some(110)) && !fits(Some(109)));
    }
}
