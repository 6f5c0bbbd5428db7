//! How a run is organised, by the reference's names, read from a [`Plan`].

use super::order::Order;
use crate::EngineSettings;
use plugin_api::{Code, Error, Every, Plan, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::PathBuf;

/// From which end a row that is too long is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cut {
    /// The first tokens stay.
    #[default]
    Right,
    /// The last tokens stay.
    Left,
    /// What stands before the first learnt token loses its end, so that what is learnt stays whole.
    Prompt,
    /// Such a row ends the run before it begins.
    Refuse,
}

/// All settings of a run but those of its engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunSettings {
    pub order: Order,
    pub data_seed: Option<u64>,
    /// Batches are of rows with clips alone or of rows without.
    pub batch_by_kind: bool,
    pub group_by_length: bool,
    pub dataloader_drop_last: bool,
    pub max_length: Option<usize>,
    pub truncation: Cut,
    pub lr_scheduler_type: String,
    pub lr_scheduler_kwargs: Map<String, Value>,
    pub warmup_steps: f64,
    pub warmup_ratio: f64,
    pub logging_steps: f64,
    pub logging_first_step: bool,
    /// `steps`, `epoch` or `no`.
    pub logging_strategy: String,
    pub per_device_eval_batch_size: usize,
    pub eval_on_start: bool,
    pub eval_delay: f64,
    /// After each evaluation the model answers so many of the first held-out lessons, in so many tokens at most.
    pub eval_generations: u64,
    pub eval_generation_tokens: usize,
    /// Save whenever the metric is the best so far, and at no other time.
    pub save_on_best: bool,
    pub save_total_limit: usize,
    pub load_best_model_at_end: bool,
    pub metric_for_best_model: Option<String>,
    pub greater_is_better: Option<bool>,
    pub early_stopping_patience: u64,
    pub early_stopping_threshold: f64,
    /// A folder for what a frozen tower heard, and how many bytes it may hold.
    pub hearing_cache: Option<PathBuf>,
    pub hearing_cache_bytes: u64,
    /// Says in one word what the rows are: their hash.
    pub rows_hash: String,
    /// Says what model learns: its registry name, settings and weights.
    pub model_identity: Value,
    /// Go on from a checkpoint whose settings or rows are others.
    pub resume_changed: bool,
    /// The processes that learn together.
    pub processes: collective::Settings,
}

impl Default for RunSettings {
    fn default() -> Self {
        RunSettings {
            order: Order::default(),
            data_seed: None,
            batch_by_kind: false,
            group_by_length: false,
            dataloader_drop_last: false,
            max_length: None,
            truncation: Cut::default(),
            lr_scheduler_type: "linear".to_owned(),
            lr_scheduler_kwargs: Map::new(),
            warmup_steps: 0.0,
            warmup_ratio: 0.0,
            logging_steps: 10.0,
            logging_first_step: false,
            logging_strategy: "steps".to_owned(),
            per_device_eval_batch_size: 8,
            eval_on_start: false,
            eval_delay: 0.0,
            eval_generations: 0,
            eval_generation_tokens: 128,
            save_on_best: false,
            save_total_limit: 0,
            load_best_model_at_end: false,
            metric_for_best_model: None,
            greater_is_better: None,
            early_stopping_patience: 0,
            early_stopping_threshold: 0.0,
            hearing_cache: None,
            hearing_cache_bytes: 10 << 30,
            rows_hash: String::new(),
            model_identity: Value::Null,
            resume_changed: false,
            processes: collective::Settings::default(),
        }
    }
}

/// What an evaluation measures that can say which model is best.
const METRICS: [&str; 2] = ["eval_loss", "eval_loss_by_batch"];

/// Reads settings; where one is wrong, the error names it.
fn read<T: serde::de::DeserializeOwned>(all: &Map<String, Value>) -> Result<T> {
    T::deserialize(Value::Object(all.clone())).map_err(|why| {
        let alone = |(name, value): (&String, &Value)| {
            let one = Map::from_iter([(name.clone(), value.clone())]);
            let why = T::deserialize(Value::Object(one)).err()?;
            Some(Error::new(Code::SETTINGS, format!("`{name}` is {value}")).cause(why.to_string()))
        };
        let found = all.iter().find_map(alone);
        found.unwrap_or_else(|| {
            Error::new(Code::SETTINGS, "a training setting has a wrong value").cause(why.to_string())
        })
    })
}

/// What says where a run is, who takes part and what is shown, and nothing of its numbers.
const PLACES: [&str; 8] = [
    "out",
    "resume",
    "rank",
    "hearing_cache",
    "hearing_cache_bytes",
    "resume_changed",
    "eval_generations",
    "eval_generation_tokens",
];

/// Everything that a run is told.
#[derive(Debug, Clone)]
pub struct Settings {
    pub plan: Plan,
    pub run: RunSettings,
    pub engine: EngineSettings,
}

impl Settings {
    /// Reads a plan and refuses what contradicts itself.
    pub fn read(plan: &Plan) -> Result<Settings> {
        let mut plan = plan.clone();
        plan.world = plan.world.max(1);
        let run = read(&plan.other)?;
        let mut engine = Map::clone(&plan.other);
        engine.insert("method".to_owned(), plan.method.as_str().into());
        engine.insert("seed".to_owned(), plan.seed.into());
        let engine = read(&engine)?;
        let settings = Settings { plan, run, engine };
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<()> {
        let refuse = |message: String, help: &str| Err(Error::new(Code::SETTINGS, message).help(help));
        let plan = &self.plan;
        if plan.epochs <= 0.0 && plan.max_steps == 0 {
            return refuse(
                format!("`num_train_epochs` is {}", plan.epochs),
                "give a number above 0, or `max_steps`",
            );
        }
        if !plan.learning_rate.is_finite() || plan.learning_rate < 0.0 {
            return refuse(
                format!("`learning_rate` is {}", plan.learning_rate),
                "give a number from 0 on",
            );
        }
        if plan.rank >= plan.world {
            return refuse(
                format!("this process is number {} of {}", plan.rank, plan.world),
                "ranks count from 0",
            );
        }
        for (name, count) in [
            ("per_device_train_batch_size", plan.batch_size),
            ("gradient_accumulation_steps", plan.accumulate),
        ] {
            if count == 0 {
                return refuse(format!("`{name}` is 0"), "give 1 or more");
            }
        }
        let (run, optim) = (&self.run, &self.engine.optim);
        // From the first on, and below the second.
        for (name, value, least, below) in [
            ("warmup_ratio", run.warmup_ratio, 0.0, 1.0),
            ("warmup_steps", run.warmup_steps, 0.0, f64::INFINITY),
            ("logging_steps", run.logging_steps, 0.0, f64::INFINITY),
            ("weight_decay", optim.weight_decay, 0.0, f64::INFINITY),
            ("adam_beta1", optim.adam_beta1, 0.0, 1.0),
            ("adam_beta2", optim.adam_beta2, 0.0, 1.0),
            ("adam_epsilon", optim.adam_epsilon, 0.0, f64::INFINITY),
            ("label_smoothing_factor", self.engine.label_smoothing_factor, 0.0, 1.0),
        ] {
            if !(least..below).contains(&value) {
                let end = if below.is_finite() {
                    format!(" to below {below}")
                } else {
                    " on".to_owned()
                };
                return refuse(
                    format!("`{name}` is {value}"),
                    &format!("give a number from {least}{end}"),
                );
            }
        }
        if !["steps", "epoch", "no"].contains(&run.logging_strategy.as_str()) {
            return refuse(
                format!("unknown `logging_strategy` `{}`", run.logging_strategy),
                "it is `no`, `steps` or `epoch`",
            );
        }
        let (metric, _) = self.metric();
        if plan.eval_every != Every::Never && !METRICS.contains(&metric.as_str()) {
            let known = METRICS.join("`, `");
            return refuse(
                format!("no evaluation has the metric `{metric}`"),
                &format!("`metric_for_best_model` is one of `{known}`"),
            );
        }
        if self.run.max_length == Some(0) {
            return refuse("`max_length` is 0".to_owned(), "leave it out to keep rows whole");
        }
        if self.run.eval_generations > 0 && self.run.eval_generation_tokens == 0 {
            return refuse(
                "`eval_generation_tokens` is 0".to_owned(),
                "give 1 or more, or leave out `eval_generations`",
            );
        }
        let needs_eval =
            self.run.load_best_model_at_end || self.run.save_on_best || self.run.early_stopping_patience > 0;
        if needs_eval && plan.eval_every == Every::Never {
            return refuse(
                "`load_best_model_at_end` is on, but evaluation is off".to_owned(),
                "give `eval_strategy` as `steps` or `epoch`",
            );
        }
        if self.run.load_best_model_at_end && !self.run.save_on_best {
            let fits = match (plan.eval_every, plan.save_every) {
                (Every::Steps(eval), Every::Steps(save)) => {
                    let rounds = save / eval;
                    rounds >= 1.0 && (rounds - rounds.round()).abs() < 1e-9
                }
                (Every::Epoch, Every::Epoch) => true,
                _ => false,
            };
            if !fits {
                return refuse(
                    "with `load_best_model_at_end` each checkpoint has to be evaluated when it is saved".to_owned(),
                    "give equal `eval_strategy` and `save_strategy`, and `save_steps` as a multiple of `eval_steps`",
                );
            }
        }
        Ok(())
    }

    pub fn alone(&self) -> bool {
        self.plan.world == 1
    }

    pub fn writes(&self) -> bool {
        self.plan.rank == 0
    }

    pub fn order_seed(&self) -> u64 {
        self.run.data_seed.unwrap_or(self.plan.seed)
    }

    /// The metric that says which model is best, and whether more of it is better.
    pub fn metric(&self) -> (String, bool) {
        let name = self.run.metric_for_best_model.as_deref().unwrap_or("loss");
        let name = match name.starts_with("eval_") {
            true => name.to_owned(),
            false => format!("eval_{name}"),
        };
        let greater = self.run.greater_is_better.unwrap_or(!name.ends_with("loss"));
        (name, greater)
    }

    /// What two runs have to have in common for one to go on from the other's checkpoint.
    pub fn identity(&self) -> Map<String, Value> {
        let told = serde_json::to_value(&self.plan).unwrap_or_default();
        let mut map = told.as_object().cloned().unwrap_or_default();
        PLACES.iter().for_each(|place| drop(map.remove(*place)));
        map.remove("processes");
        map.retain(|_, value| !value.is_null());
        map
    }
}

/// How many steps lie between two events, of so many in all; none for never.
pub fn interval(steps: f64, total: u64) -> Option<u64> {
    match steps {
        steps if steps <= 0.0 => None,
        steps if steps < 1.0 => Some(((steps * total as f64).ceil() as u64).max(1)),
        steps => Some(steps as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn plan(other: Value) -> Plan {
        Plan {
            method: "lora".to_owned(),
            epochs: 1.0,
            batch_size: 1,
            accumulate: 1,
            learning_rate: 1e-3,
            other: other.as_object().unwrap().clone(),
            ..Plan::default()
        }
    }

    #[test]
    fn the_names_of_the_reference_are_read() {
        let other = json!({ "lr_scheduler_type": "cosine", "warmup_ratio": 0.03, "lora_alpha": 12, "r": 4, "optim": "adamw_torch" });
        let settings = Settings::read(&plan(other)).unwrap();
        assert_eq!((settings.run.warmup_ratio, settings.engine.lora.r), (0.03, 4));
        assert_eq!(settings.metric(), ("eval_loss".to_owned(), false));
    }

    #[test]
    fn a_best_model_needs_evaluations_where_checkpoints_are() {
        let best = || plan(json!({ "load_best_model_at_end": true }));
        assert!(
            Settings::read(&best())
                .unwrap_err()
                .message
                .contains("evaluation is off")
        );
        let every = |eval_every, save_every| Plan {
            eval_every,
            save_every,
            ..best()
        };
        assert!(Settings::read(&every(Every::Steps(20.0), Every::Steps(50.0))).is_err());
        assert!(Settings::read(&every(Every::Steps(25.0), Every::Steps(50.0))).is_ok());
        assert!(Settings::read(&every(Every::Epoch, Every::Epoch)).is_ok());
    }

    #[track_caller]
    fn refused(other: Value, words: [&str; 2]) {
        let error = Settings::read(&Plan {
            eval_every: Every::Epoch,
            ..plan(other)
        });
        let error = error.expect_err("it is refused");
        let way = error.help.clone().unwrap_or_default() + &error.causes.concat();
        assert!(error.message.contains(words[0]) && way.contains(words[1]), "{error:?}");
    }

    #[test]
    fn a_wrong_value_is_named() {
        refused(
            json!({ "r": 4, "optim": "adamw_foo" }),
            ["`optim` is \"adamw_foo\"", "paged_adamw_8bit"],
        );
        refused(
            json!({ "truncation": "middle" }),
            ["`truncation` is \"middle\"", "prompt"],
        );
        refused(
            json!({ "rank_pattern": "q" }),
            ["`rank_pattern` is \"q\"", "expected a map"],
        );
        refused(json!({ "weight_decay": -1 }), ["`weight_decay` is -1", "from 0 on"]);
        refused(json!({ "adam_beta2": 1 }), ["`adam_beta2` is 1", "from 0 to below 1"]);
        refused(json!({ "logging_strategy": "often" }), ["`often`", "`epoch`"]);
        refused(
            json!({ "metric_for_best_model": "f1" }),
            ["`eval_f1`", "`eval_loss_by_batch`"],
        );
        let none = Plan {
            batch_size: 0,
            ..plan(json!({}))
        };
        let error = Settings::read(&none).unwrap_err();
        assert!(error.message.contains("`per_device_train_batch_size` is 0"), "{error}");
    }

    #[test]
    fn intervals_may_be_shares() {
        assert_eq!(interval(0.3, 8), Some(3));
        assert_eq!(interval(10.0, 8), Some(10));
        assert_eq!(interval(0.0, 8), None);
    }
}
