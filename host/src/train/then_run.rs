//! `--then-run` and `--baseline`: the task's test split with the trained and with the original model.
//!
//! Each is a separate `host run`: a model in training and one that answers do not always fit into memory together, and
//! records, resuming and exports are the same as if people had started it themselves.

use super::names::Given;
use super::options::{Options, Output};
use super::record::{whole, write_json};
use super::tasks::{Part, TaskSet};
use crate::failure::{Exit, Failure, Result};
use crate::registry::Given as Setting;
use plugin_api::{Learnt, named_folders};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

/// What was trained, and how it is tested.
pub struct Trained<'a> {
    pub options: &'a Options,
    pub given: &'a Given,
    pub model: &'a str,
    pub model_settings: &'a BTreeMap<String, Setting>,
    pub tasks: &'a TaskSet,
    pub method: &'a str,
    pub learnt: &'a Learnt,
    pub out: &'a Path,
    pub output: &'a Output<'a>,
    pub stop: &'a AtomicBool,
}

/// A finished run.
struct Made {
    folder: PathBuf,
    results: Value,
}

/// Runs the test, writes the scripts' files about it, and returns the results for the table.
pub fn then_run(trained: &Trained) -> Result<Value> {
    let Trained { options, out, .. } = trained;
    let after = run(trained, "test", true)?;
    let before = match options.baseline || options.demo {
        true => Some(run(trained, "baseline", false)?),
        false => None,
    };
    export(trained, &after)?;
    let records = records(&after.folder)?;
    let latencies: Vec<f64> = records
        .iter()
        .filter_map(|record| record["latency_ms"].as_f64())
        .collect();
    let seconds = latencies.iter().sum::<f64>() / 1000.0;
    let lines: String = records
        .iter()
        .filter(|record| record["latency_ms"].is_number())
        .map(|record| {
            format!(
                "{}\n",
                json!({ "id": record["sample_id"], "latency_ms": record["latency_ms"] })
            )
        })
        .collect();
    let file = out.join("test_inference_latencies.jsonl");
    whole(&file, lines.as_bytes()).map_err(|why| Failure::unwritable(&file, why))?;
    write_json(
        &out.join("test_metrics.json"),
        &test_metrics(trained, &after, &latencies, records.len()),
    )?;
    let (main, paired) = match &before {
        Some(before) => {
            let main = main_metric(&after.results);
            let paired = main
                .as_deref()
                .map(|main| difference(main, &records, &self::records(&before.folder)?))
                .transpose();
            (main, paired?)
        }
        None => (main_metric(&after.results), None),
    };
    Ok(json!({
        "after": metrics(&after.results), "before": before.as_ref().map(|made| metrics(&made.results)),
        "main": main, "paired": paired, "seconds": seconds,
        "runs": { "after": after.folder, "before": before.as_ref().map(|made| made.folder.clone()) },
    }))
}

/// A `host run` with a file of all its settings.
fn run(trained: &Trained, name: &str, with_learnt: bool) -> Result<Made> {
    let Trained { options, given, .. } = trained;
    let mut model_settings = plain(trained.model_settings);
    let (learnt, adapter) = (trained.learnt, given.text("adapter").map(PathBuf::from));
    let lora = match (with_learnt, trained.method) {
        (true, "full") => {
            let setting = learnt.setting.as_deref().unwrap_or("weights");
            model_settings.insert(setting.to_owned(), json!(learnt.path));
            None
        }
        (true, _) => Some(&learnt.path),
        (false, _) => adapter.as_ref(),
    };
    if let Some(loras) = loras(trained, lora)? {
        model_settings.insert("lora".to_owned(), loras);
    }
    let task_settings = trained
        .tasks
        .settings(Part::Test)
        .map(|settings| plain(&settings))
        .ok_or_else(|| {
            let failure = Failure::usage("there is nothing to test with");
            failure.help("give `--test-file FILE`, or leave out `--then-run`")
        })?;
    let folder = trained.out.join(name);
    std::fs::create_dir_all(&folder).map_err(|why| Failure::unwritable(&folder, why))?;
    let mut config = Map::new();
    config.insert("model".to_owned(), json!(trained.model));
    config.insert("task".to_owned(), json!(trained.tasks.name));
    config.insert("out".to_owned(), json!(folder));
    config.insert("seed".to_owned(), json!(given.whole("seed").unwrap_or(42)));
    config.insert("skip-hearing-test".to_owned(), json!(true));
    config.insert("demo".to_owned(), json!(options.demo));
    config.insert("offline".to_owned(), json!(trained.output.offline));
    let most = [given.whole("max_test_samples"), given.whole("max_samples")];
    if let Some(most) = most.into_iter().flatten().filter(|most| *most > 0).min() {
        config.insert("limit".to_owned(), json!(most));
    }
    config.insert("model-settings".to_owned(), Value::Object(model_settings));
    config.insert("task-settings".to_owned(), Value::Object(task_settings));
    let path = folder.join("host-run.toml");
    let text = toml::to_string(&config).map_err(|why| Failure::usage("cannot write the test's settings").cause(why))?;
    whole(&path, text.as_bytes()).map_err(|why| Failure::unwritable(&path, why))?;
    let answer = host(trained, &["run", "--config", &path.display().to_string(), "--json"])?;
    let results = answer["runs"][0].clone();
    let directory = results["host"]["directory"].as_str().map(PathBuf::from);
    let folder = directory.ok_or_else(|| Failure::refused(format!("the {name} run told no results")))?;
    Ok(Made { folder, results })
}

/// The LoRAs beside which the model was trained, and this one.
fn loras(trained: &Trained, added: Option<&PathBuf>) -> Result<Option<Value>> {
    let Some(given) = trained.model_settings.get("lora") else {
        return Ok(added.map(|folder| json!(folder)));
    };
    let beside = named_folders(&given.value);
    let beside = beside.map_err(|why| Failure::usage("cannot read the setting `lora`").cause(why))?;
    let mut all: BTreeMap<String, PathBuf> = BTreeMap::new();
    for (name, folder) in beside {
        let local = given.base.join(&folder);
        let path = match local.exists() {
            true => std::path::absolute(&local).unwrap_or(local),
            false => folder.into(), // of a hub
        };
        all.insert(name, path);
    }
    if let Some(folder) = added {
        let mut name = "trained".to_owned();
        while all.contains_key(&name) {
            name.push('_');
        }
        all.insert(name, folder.clone());
    }
    Ok(Some(json!(all)))
}

/// The settings as given, with absolute paths, because the file that will hold them is in another folder.
fn plain(settings: &BTreeMap<String, Setting>) -> Map<String, Value> {
    let value = |given: &Setting| match given.value.as_str() {
        Some(text) if !text.is_empty() && given.base.join(text).exists() => {
            let path = given.base.join(text);
            json!(std::path::absolute(&path).unwrap_or(path))
        }
        _ => given.value.clone(),
    };
    settings
        .iter()
        .map(|(key, given)| (key.clone(), value(given)))
        .collect()
}

/// Runs this program, and reads the JSON that it prints.
fn host(trained: &Trained, arguments: &[&str]) -> Result<Value> {
    let program = std::env::current_exe().map_err(|why| Failure::missing("cannot find this program").cause(why))?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    for registry in &trained.output.registries {
        command.arg("--registry").arg(registry);
    }
    if trained.output.quiet {
        command.arg("--quiet");
    }
    // The launcher's variables concern training only.
    for name in ["RANK", "WORLD_SIZE", "LOCAL_RANK"] {
        command.env_remove(name);
    }
    let what = || format!("`host {}`", arguments[0]);
    let output = command
        .output()
        .map_err(|why| Failure::missing(format!("{} cannot be started", what())).cause(why))?;
    if trained.stop.load(Ordering::Relaxed) {
        return Err(
            Failure::new(Exit::Interrupted, "interrupted during the test").help("the same command resumes from there")
        );
    }
    let said = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    match (output.status.code(), said) {
        // Failed samples are listed in the results.
        (Some(0 | 1), said) if !said.is_null() => Ok(said),
        (code, _) => {
            let words = String::from_utf8_lossy(&output.stderr);
            (trained.output.note)(words.trim_end());
            let exit = if code == Some(130) {
                Exit::Interrupted
            } else {
                Exit::Refused
            };
            Err(
                Failure::new(exit, format!("{} failed after the training was done", what()))
                    .help("the model is saved; the same command tries again"),
            )
        }
    }
}

/// Exports the run in the task's own formats, next to the logs.
fn export(trained: &Trained, made: &Made) -> Result<()> {
    for format in trained.tasks.exports() {
        let arguments = [
            "export",
            &made.folder.display().to_string(),
            "--format",
            &format,
            "--out",
            &trained.out.display().to_string(),
            "--json",
        ];
        host(trained, &arguments)?;
    }
    Ok(())
}

/// The records of a run.
fn records(folder: &Path) -> Result<Vec<Value>> {
    let path = folder.join("samples.jsonl");
    let text = std::fs::read_to_string(&path)
        .map_err(|why| Failure::missing(format!("cannot read `{}`", path.display())).cause(why))?;
    Ok(text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect())
}

/// The figures of a run, without groups and errors: `acc,none` becomes `acc`.
fn metrics(results: &Value) -> Map<String, Value> {
    let tables = results["results"].as_object();
    let numbers = tables
        .into_iter()
        .flat_map(|tables| tables.values())
        .filter_map(Value::as_object)
        .flatten();
    let mut metrics = Map::new();
    for (key, value) in numbers {
        let name = key.split(',').next().unwrap_or(key);
        if value.is_number() && !name.ends_with("_stderr") && !name.ends_with("_n") && !name.contains('/') {
            metrics.entry(name.to_owned()).or_insert(value.clone());
        }
    }
    metrics
}

fn main_metric(results: &Value) -> Option<String> {
    metrics(results)
        .into_iter()
        .map(|(name, _)| name)
        .find(|name| !["samples", "count", "n"].contains(&name.as_str()))
}

/// A figure of a record, of any scorer.
fn number_of(record: &Value, name: &str) -> Option<f64> {
    let scores = [&record["score"], &record["scores"]];
    let direct = scores.iter().find_map(|score| score["values"][name].as_f64());
    direct.or_else(|| {
        let all = record["scores"].as_object()?;
        all.values().find_map(|score| score["values"][name].as_f64())
    })
}

/// The difference of each sample's score after training.
fn difference(main: &str, after: &[Value], before: &[Value]) -> Result<Value> {
    let key = |record: &Value| record["sample_id"].as_str().map(str::to_owned);
    let former: BTreeMap<String, f64> = before
        .iter()
        .filter_map(|record| Some((key(record)?, number_of(record, main)?)))
        .collect();
    let pairs = after
        .iter()
        .filter_map(|record| Some((number_of(record, main)?, *former.get(&key(record)?)?)));
    let pairs: Vec<(f64, f64)> = pairs.collect();
    let differences: Vec<f64> = pairs.iter().map(|(after, before)| after - before).collect();
    let (won, lost) = pairs.iter().fold((0_u64, 0_u64), |(won, lost), (after, before)| {
        (won + u64::from(after > before), lost + u64::from(after < before))
    });
    let test = statistics::paired_t(&differences);
    Ok(json!({
        "metric": main, "pairs": pairs.len(), "better": won, "worse": lost,
        "difference": test.map(|test| test.mean), "interval": test.map(|test| [test.interval.0, test.interval.1]),
        "p": statistics::sign_test(won, lost),
    }))
}

/// The contents of `test_metrics.json`.
fn test_metrics(trained: &Trained, made: &Made, latencies: &[f64], total: usize) -> Value {
    let given = trained.given;
    let mut all = Map::new();
    all.insert("total".to_owned(), json!(total));
    for (name, value) in metrics(&made.results) {
        if let Some(script) = trained.tasks.script_metric(&name) {
            all.insert(script, value.clone());
        }
        all.insert(name, value);
    }
    let mut sorted = latencies.to_vec();
    sorted.sort_by(f64::total_cmp);
    all.insert(
        "inference_total_seconds".to_owned(),
        json!(latencies.iter().sum::<f64>() / 1000.0),
    );
    let average = latencies.iter().sum::<f64>() / latencies.len().max(1) as f64;
    all.insert("inference_latency_ms_avg".to_owned(), json!(average));
    for (name, share) in [("p50", 50.0), ("p90", 90.0), ("p95", 95.0), ("p99", 99.0)] {
        all.insert(
            format!("inference_latency_ms_{name}"),
            json!(percentile(&sorted, share)),
        );
    }
    all.insert(
        "latency_file".to_owned(),
        json!(trained.out.join("test_inference_latencies.jsonl")),
    );
    all.insert(
        "output_jsonl".to_owned(),
        json!(trained.out.join("test_predictions.jsonl")),
    );
    all.insert(
        "max_seq_length".to_owned(),
        given.get("max_length").cloned().unwrap_or_default(),
    );
    let generation = given.map.iter().filter(|(name, _)| name.starts_with("generation_"));
    all.extend(generation.map(|(name, value)| (name.clone(), value.clone())));
    all.extend(trained.tasks.script_settings());
    Value::Object(all)
}

/// Linear interpolation between order statistics, at position (n − 1) p / 100.
fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = last as f64 * share / 100.0;
    let (low, high) = (place.floor() as usize, place.ceil() as usize);
    Some(sorted[low] + (sorted[high] - sorted[low]) * (place - low as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_lie_between_order_statistics() {
        let sorted = [1.0, 2.0, 4.0, 8.0];
        assert_eq!(percentile(&sorted, 50.0), Some(3.0));
        assert!((percentile(&sorted, 90.0).unwrap() - (4.0 + 4.0 * 0.7)).abs() < 1e-12);
        assert_eq!(percentile(&[5.0], 99.0), Some(5.0));
        assert_eq!(percentile(&[], 50.0), None);
    }

    #[test]
    fn differences_are_paired_by_sample() {
        let record = |id: &str, acc: f64| json!({ "sample_id": id, "score": { "values": { "acc": acc } } });
        let keyed = |id: &str, acc: f64| json!({ "sample_id": id, "scores": { "arc": { "values": { "acc": acc } } } });
        let after = [record("a", 1.0), keyed("b", 1.0), record("c", 0.0), record("gone", 1.0)];
        let before = [keyed("a", 0.0), record("b", 1.0), record("c", 0.0)];
        let paired = difference("acc", &after, &before).unwrap();
        assert_eq!(
            (&paired["pairs"], &paired["better"], &paired["worse"]),
            (&json!(3), &json!(1), &json!(0))
        );
        assert!((paired["difference"].as_f64().unwrap() - 1.0 / 3.0).abs() < 1e-12);
    }
}
