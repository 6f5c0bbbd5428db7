//! The position of a run: everything that resuming needs besides weights and optimiser states.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The position of a run, with its logs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    pub step: u64,
    /// What was logged, as the reference's `log_history` has it.
    pub history: Vec<Map<String, Value>>,
    pub best: Option<Best>,
    /// Evaluations in a row without improvement.
    pub no_better: u64,
    pub running: Running,
    /// The epoch of an evaluation that could not be made, and is due at this step.
    pub evaluation_due: Option<f64>,
    /// The epoch of an evaluation whose generations were interrupted, and are due at this step.
    pub generations_due: Option<f64>,
}

/// The best model so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Best {
    pub metric: f64,
    pub step: u64,
}

/// Sums for the next log line.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Running {
    /// The sum of the steps' losses since the last log, and the number of steps.
    pub loss: f64,
    pub steps: u64,
    pub learnt: u64,
    /// The same since the start.
    pub total_loss: f64,
    pub total_steps: u64,
    pub total_learnt: u64,
    pub tokens: u64,
    pub flos: f64,
    /// Seconds of the earlier runs that this one resumes.
    pub seconds: f64,
}

/// Settings of a run that `trainer_state.json` repeats.
pub struct Facts {
    pub total: u64,
    pub epochs: u64,
    pub epoch: f64,
    pub batch_size: u32,
    pub logging: u64,
    pub eval: u64,
    pub save: u64,
}

impl State {
    /// `trainer_state.json`: the reference's keys, and ours under `host`.
    pub fn to_json(&self, facts: &Facts, best_folder: Option<String>) -> Value {
        json!({
            "best_global_step": self.best.as_ref().map(|best| best.step),
            "best_metric": self.best.as_ref().map(|best| best.metric),
            "best_model_checkpoint": best_folder,
            "epoch": facts.epoch,
            "eval_steps": facts.eval,
            "global_step": self.step,
            "is_hyper_param_search": false,
            "is_local_process_zero": true,
            "is_world_process_zero": true,
            "log_history": self.history,
            "logging_steps": facts.logging,
            "max_steps": facts.total,
            "num_input_tokens_seen": self.running.tokens,
            "num_train_epochs": facts.epochs,
            "save_steps": facts.save,
            "stateful_callbacks": {},
            "total_flos": self.running.flos,
            "train_batch_size": facts.batch_size,
            "trial_name": null,
            "trial_params": null,
            "host": {
                "no_better": self.no_better, "running": self.running, "generations_due": self.generations_due,
                "evaluation_due": self.evaluation_due,
            },
        })
    }

    /// The state that such a file holds.
    pub fn from_json(value: &Value) -> Option<State> {
        let history = value["log_history"].as_array()?;
        let history: Option<Vec<_>> = history.iter().map(|entry| entry.as_object().cloned()).collect();
        let best = value["best_metric"].as_f64().zip(value["best_global_step"].as_u64());
        Some(State {
            step: value["global_step"].as_u64()?,
            history: history?,
            best: best.map(|(metric, step)| Best { metric, step }),
            no_better: value["host"]["no_better"].as_u64()?,
            running: Running::deserialize(&value["host"]["running"]).ok()?,
            evaluation_due: value["host"]["evaluation_due"].as_f64(),
            generations_due: value["host"]["generations_due"].as_f64(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_comes_back_to_the_bit() {
        let mut state = State {
            step: 7,
            best: Some(Best {
                metric: 0.1 + 0.2,
                step: 4,
            }),
            no_better: 1,
            evaluation_due: Some(2.0 / 3.0),
            generations_due: Some(1.0 / 3.0),
            ..State::default()
        };
        state.running.loss = 1.0 / 3.0;
        state
            .history
            .push(json!({ "loss": 1e-17, "step": 5 }).as_object().unwrap().clone());
        let facts = Facts {
            total: 9,
            epochs: 1,
            epoch: 0.5,
            batch_size: 2,
            logging: 1,
            eval: 2,
            save: 2,
        };
        let text = state.to_json(&facts, None).to_string();
        assert_eq!(State::from_json(&serde_json::from_str(&text).unwrap()), Some(state));
    }
}
