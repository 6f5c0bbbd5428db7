//! `--dry-run`: what a run would need, computed before any training.

use super::memory::{LESS, Memory};
use super::options::Output;
use super::scan::Scans;
use super::source::Lessons;
use crate::failure::{Exit, Failure, Result};
use crate::process::in_words;
use plugin_api::{Plan, TrainingEstimate};
use serde_json::{Value, json};

/// What this program takes for itself: the peak of a run whose model has 0.1 MB, in a release build on Linux.
const PROGRAM_BYTES: u64 = 23_000_000;

/// Prints steps, tokens and memory. A run that cannot fit is refused.
pub fn dry_run(memory: &Memory, scans: &Scans, lessons: &Lessons, output: &Output) -> Result<Exit> {
    let plan = memory.plan;
    let train = &scans.train;
    let (size, world) = (u64::from(plan.batch_size.max(1)), u64::from(plan.world.max(1)));
    let drop_last = plan.other.get("dataloader_drop_last") == Some(&Value::Bool(true));
    let batches = if drop_last {
        train.rows / size
    } else {
        train.rows.div_ceil(size)
    };
    let per_epoch = batches.div_ceil(u64::from(plan.accumulate.max(1)) * world);
    let steps = match plan.max_steps {
        0 => (plan.epochs * per_epoch as f64).ceil() as u64,
        steps => steps,
    };
    let epochs = if per_epoch == 0 {
        0.0
    } else {
        steps as f64 / per_epoch as f64
    };
    let over_all = |count: u64| (count as f64 * epochs).round() as u64;
    let (work, estimate) = memory.largest(train, size as usize)?;
    let report = json!({ "dry_run": {
        "method": plan.method, "rows": train.rows, "eval_rows": scans.held_out.rows, "batch_size": size,
        "gradient_accumulation_steps": plan.accumulate, "processes": world, "batches_per_epoch": batches,
        "steps_per_epoch": per_epoch, "epochs": epochs, "steps": steps,
        "tokens_per_epoch": train.tokens, "learnt_tokens_per_epoch": train.learnt,
        "tokens": over_all(train.tokens), "learnt_tokens": over_all(train.learnt),
        "longest": work.longest, "largest_batch_tokens": work.tokens, "largest_batch_learnt_tokens": work.learnt,
        "rows_without_learnt_token": train.without_learnt.len(), "rows_shortened": train.shortened,
        "rows_that_lose_learnt_tokens": train.lost_learnt,
        "memory": estimate.as_ref().map(as_json), "plan": plan_without_places(plan),
    } });
    (output.print)(&(serde_json::to_string_pretty(&report).unwrap_or_default() + "\n"));
    if let Some(estimate) = &estimate {
        output.say(&format!("memory: {}", in_a_line(estimate)));
        if !estimate.fits() {
            memory.check(train, lessons.train.as_ref())?;
            let available = in_words(estimate.available_bytes.unwrap_or_default());
            let message = format!(
                "this run takes {} of memory, and {available} are free",
                in_words(estimate.bytes())
            );
            return Err(Failure::missing(message).help(format!("take {LESS}")));
        }
    }
    output.say("nothing was learnt: this was a dry run");
    Ok(Exit::Ok)
}

fn plan_without_places(plan: &Plan) -> Value {
    let mut value = serde_json::to_value(plan).unwrap_or_default();
    if let Some(map) = value.as_object_mut() {
        ["resume", "processes", "model_identity", "hearing_cache"]
            .iter()
            .for_each(|key| drop(map.remove(*key)));
    }
    value
}

fn as_json(estimate: &TrainingEstimate) -> Value {
    let mut value = json!(estimate);
    value["program_bytes"] = PROGRAM_BYTES.into();
    value["bytes"] = (estimate.bytes() + PROGRAM_BYTES).into();
    value["fits"] = estimate.fits().into();
    value
}

/// `1.3 GB: weights 1.1 GB, 10092544 learnt parameters 161 MB, activations 20 MB, logits 3 MB, the program 23 MB; 12 GB
/// are free`.
fn in_a_line(estimate: &TrainingEstimate) -> String {
    let mut line = format!(
        "{}: weights {}, {} learnt parameters {}, activations {}, logits {}, the program {}",
        in_words(estimate.bytes() + PROGRAM_BYTES),
        in_words(estimate.frozen_bytes),
        estimate.parameters,
        in_words(estimate.learnt_bytes),
        in_words(estimate.activation_bytes),
        in_words(estimate.logits_bytes),
        in_words(PROGRAM_BYTES),
    );
    if let Some(available) = estimate.available_bytes {
        line += &format!("; {} are free", in_words(available));
    }
    line
}
