//! `--dry-run`: what a run would need, computed before any training.

use super::options::Output;
use super::scan::{Scan, Scans};
use crate::catalog::Resolved;
use crate::failure::{Exit, Failure, Result};
use crate::process::in_words;
use plugin_api::{Plan, TrainingEstimate, Workload};
use serde_json::{Value, json};

/// Prints steps, tokens and memory. A run that cannot fit is refused.
pub fn dry_run(plan: &Plan, scans: &Scans, model: &Resolved, output: &Output) -> Result<Exit> {
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
    let work = largest_batch(train, size as usize);
    let estimate = model
        .plugin
        .training_estimate(&model.spec.adapter, &model.settings, plan, &work)?;
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
            let available = in_words(estimate.available_bytes.unwrap_or_default());
            let message = format!(
                "this run takes {} of memory, and {available} are free",
                in_words(estimate.bytes())
            );
            let hint = "take a smaller `per_device_train_batch_size` with more `gradient_accumulation_steps`, \
                        `--gradient-checkpointing`, `--method qlora`, or `--optim adamw_8bit`";
            return Err(Failure::missing(message).help(hint));
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

/// The batch of the longest rows, which no other can exceed, whatever the order.
fn largest_batch(scan: &Scan, size: usize) -> Workload {
    let mut rows: Vec<(u64, u64)> = scan
        .lengths
        .iter()
        .copied()
        .zip(scan.learnt_each.iter().copied())
        .collect();
    rows.sort_unstable_by_key(|row| std::cmp::Reverse(*row));
    let largest = &rows[..rows.len().min(size)];
    Workload {
        tokens: largest.iter().map(|(tokens, _)| tokens).sum(),
        learnt: largest.iter().map(|(_, learnt)| learnt).sum(),
        longest: rows.first().map_or(0, |(tokens, _)| *tokens),
        seconds: 0.0,
    }
}

fn as_json(estimate: &TrainingEstimate) -> Value {
    let mut value = json!(estimate);
    value["bytes"] = estimate.bytes().into();
    value["fits"] = estimate.fits().into();
    value
}

/// `1.2 GB: weights 1.1 GB, 10092544 learnt parameters 161 MB, activations 20 MB, logits 3 MB; 12 GB are free`.
fn in_a_line(estimate: &TrainingEstimate) -> String {
    let mut line = format!(
        "{}: weights {}, {} learnt parameters {}, activations {}, logits {}",
        in_words(estimate.bytes()),
        in_words(estimate.frozen_bytes),
        estimate.parameters,
        in_words(estimate.learnt_bytes),
        in_words(estimate.activation_bytes),
        in_words(estimate.logits_bytes),
    );
    if let Some(available) = estimate.available_bytes {
        line += &format!("; {} are free", in_words(available));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_rows_make_the_largest_batch() {
        let scan = Scan {
            lengths: vec![3, 9, 5],
            learnt_each: vec![1, 2, 4],
            ..Scan::default()
        };
        let work = largest_batch(&scan, 2);
        assert_eq!((work.tokens, work.learnt, work.longest), (14, 6, 9));
        assert_eq!(largest_batch(&Scan::default(), 2), Workload::default());
    }
}
