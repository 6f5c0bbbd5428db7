//! `results.json` and `timing.json`, and the rows of the table. Keys that lm-eval has mean here what they mean there.

use super::statistics::Estimate;
use super::store::hash::hash_json;
use super::tally::Tally;
use crate::ask::audio_check::AudioCheck;
use crate::table::{Align, Table};
use plugin_api::{Metric, TaskCard};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The results of a run.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    pub model: String,
    pub task: String,
    pub version: String,
    pub filter: String,
    pub shots: u32,
    pub metrics: Vec<Metric>,
    pub suspicions: Vec<String>,
    /// Judges whose figures should not be trusted; a mark says why.
    pub suspect_judges: Vec<String>,
    /// Notes for the numbers that do not make them suspect: `blind`, `demo`, `incomplete`.
    pub marks: Vec<String>,
}

impl Summary {
    fn suspects(&self, metric: &Metric) -> bool {
        metric.filter == "judge" && self.suspect_judges.contains(&metric.name)
    }
}

/// The metrics of a run: the task's own if it has some, else the means of all named numbers, main ones first.
pub fn metrics(card: &TaskCard, tally: &Tally, own: Option<Vec<Metric>>) -> Vec<Metric> {
    let filter = card.filter.clone().unwrap_or_else(|| "none".to_owned());
    if let Some(mut own) = own {
        for metric in &mut own {
            if metric.filter.is_empty() {
                metric.filter.clone_from(&filter);
            }
        }
        return own;
    }
    let place = |name: &str| {
        card.metrics
            .iter()
            .position(|known| known.name == name)
            .unwrap_or(usize::MAX)
    };
    let mut metrics: Vec<Metric> = tally
        .estimates()
        .map(|(name, group, estimate)| metric_of(name, &filter, group, estimate))
        .collect();
    metrics.sort_by_key(|metric| {
        (
            metric.group.is_some(),
            place(&metric.name),
            metric.name.clone(),
            metric.group.clone(),
        )
    });
    metrics
}

/// An estimate under a name.
pub fn metric_of(name: &str, filter: &str, group: Option<&str>, estimate: Estimate) -> Metric {
    Metric {
        name: name.to_owned(),
        filter: filter.to_owned(),
        value: estimate.value,
        stderr: estimate.stderr,
        interval: estimate.interval,
        count: estimate.count,
        group: group.map(str::to_owned),
    }
}

/// Everything in `results.json` that isn't a number over samples.
pub struct Setting<'a> {
    pub card: &'a TaskCard,
    pub identity: &'a Value,
    pub samples: usize,
    pub selected: usize,
    /// Answers to each question.
    pub chains: u32,
    pub batch_size: String,
    pub limit: Option<String>,
    pub seed: u64,
    pub device: Option<&'a str>,
    pub precision: Option<&'a str>,
    /// The class of a processor's kernels, within which numbers are the same to the bit.
    pub kernels: Option<&'a Value>,
    pub seconds: f64,
    /// None if there are no clips, or the model can't hear.
    pub hearing: Option<&'a AudioCheck>,
}

/// `results.json`.
pub fn results(summary: &Summary, tally: &Tally, setting: &Setting) -> Value {
    let task = summary.task.as_str();
    let mut numbers = Map::from_iter([("alias".to_owned(), json!(task))]);
    let mut breakdown: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for metric in &summary.metrics {
        let into = match &metric.group {
            Some(group) => breakdown.entry(group).or_default(),
            None => &mut numbers,
        };
        let key = |name: &str| format!("{}{name},{}", metric.name, metric.filter);
        into.insert(key(""), json!(metric.value));
        into.insert(
            key("_stderr"),
            metric.stderr.map_or(json!("N/A"), |stderr| json!(stderr)),
        );
        into.insert(key("_ci95"), json!(metric.interval));
        into.insert(key("_n"), json!(metric.count));
    }
    let higher: Map<String, Value> = setting
        .card
        .metrics
        .iter()
        .map(|metric| (metric.name.clone(), json!(metric.higher_is_better)))
        .collect();
    let answered = tally.finished - tally.failed;
    json!({
        "results": { task: numbers },
        "breakdown": { task: breakdown },
        "configs": { task: {
            "task": task, "num_fewshot": summary.shots, "metadata": { "version": summary.version },
            "split": setting.card.split, "settings": setting.identity["task"]["settings"],
            "card": setting.card.other,
        } },
        "versions": { task: summary.version },
        "n-shot": { task: summary.shots },
        "higher_is_better": { task: higher },
        "n-samples": { task: { "original": setting.samples, "effective": setting.selected } },
        "config": {
            "model": summary.model, "model_args": setting.identity["model"]["settings"], "batch_size": setting.batch_size,
            "device": setting.device, "model_dtype": setting.precision, "kernels": setting.kernels,
            "limit": setting.limit, "random_seed": setting.seed,
        },
        "model_name": summary.model,
        "model_source": setting.identity["model"]["plugin"],
        "date": unix_seconds(),
        "total_evaluation_time_seconds": setting.seconds,
        "host": {
            "version": env!("CARGO_PKG_VERSION"),
            "suspect": summary.suspicions,
            "marks": summary.marks,
            "input": tally.inputs,
            "hearing_test": setting.hearing,
            "counts": {
                "finished": tally.finished, "answered": answered, "failed": tally.failed,
                "no_answer": tally.no_answer, "unscored": tally.unscored, "pending": tally.pending,
            },
            "coverage": if tally.finished == 0 || tally.pending > 0 { Value::Null } else {
                json!((answered - tally.no_answer.min(answered)) as f64 / tally.finished as f64)
            },
            "errors": tally.errors.iter().map(|(code, (count, example))| (code.clone(), json!({ "count": count, "example": example }))).collect::<Map<_, _>>(),
            "chains": setting.chains,
            "scorers": { task: {
                "version": summary.version, "identity": hash_json(&setting.identity["task"]),
                "graders": tally.graded_by.as_json(),
            } },
            "identity": setting.identity,
        },
    })
}

/// Keeps what a model's card says about its numbers, for a later scorer that has only the records.
pub fn keep_marks(results: &mut Value, said: &Value) {
    if !said.is_null() {
        results["config"]["model_marks"] = said.clone();
    }
}

/// The texts of a list.
pub fn texts(value: &Value) -> Vec<String> {
    let all = value.as_array().into_iter().flatten();
    all.filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

/// `timing.json`.
pub fn timing(tally: &mut Tally, inference_seconds: f64, peaks: &Value) -> Value {
    let latency = tally.latency();
    let first = tally.first_token();
    let mut timing = Map::from_iter([("inference_total_seconds".to_owned(), json!(inference_seconds))]);
    for (prefix, latency) in [("inference_latency_ms", latency), ("ttft_ms", first)] {
        let Some(latency) = latency else { continue };
        for (name, value) in [
            ("avg", latency.avg),
            ("p50", latency.p50),
            ("p90", latency.p90),
            ("p95", latency.p95),
            ("p99", latency.p99),
        ] {
            timing.insert(format!("{prefix}_{name}"), json!(value));
        }
    }
    let answered = tally.finished - tally.failed;
    timing.insert("samples".to_owned(), json!(tally.finished));
    timing.insert("prompt_tokens".to_owned(), json!(tally.prompt_tokens));
    timing.insert("generated_tokens".to_owned(), json!(tally.generated_tokens));
    if inference_seconds > 0.0 && answered > 0 {
        timing.insert(
            "samples_per_second".to_owned(),
            json!(answered as f64 / inference_seconds),
        );
        timing.insert(
            "generated_tokens_per_second".to_owned(),
            json!(tally.generated_tokens as f64 / inference_seconds),
        );
    }
    timing.insert("peak_memory_bytes".to_owned(), peaks.clone());
    Value::Object(timing)
}

/// What `results.json` says about a run, to print it again.
pub fn summary_of(results: &Value) -> Summary {
    let task = results["versions"]
        .as_object()
        .and_then(|map| map.keys().next().cloned())
        .unwrap_or_default();
    let mut summary = Summary {
        model: results["model_name"].as_str().unwrap_or_default().to_owned(),
        version: results["versions"][&task].as_str().unwrap_or_default().to_owned(),
        shots: results["n-shot"][&task]
            .as_u64()
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(0),
        suspicions: texts(&results["host"]["suspect"]),
        marks: texts(&results["host"]["marks"]),
        ..Summary::default()
    };
    metrics_in(&results["results"][&task], None, &mut summary.metrics);
    for (group, numbers) in results["breakdown"][&task].as_object().into_iter().flatten() {
        metrics_in(numbers, Some(group), &mut summary.metrics);
    }
    summary.task = task;
    summary
}

/// The metrics that [`results`] wrote as keys of this object; a judge's are read separately.
fn metrics_in(numbers: &Value, group: Option<&String>, metrics: &mut Vec<Metric>) {
    for (key, value) in numbers.as_object().into_iter().flatten() {
        let Some((name, filter)) = key.split_once(',') else {
            continue;
        };
        let side = |suffix: &str| &numbers[format!("{name}_{suffix},{filter}")];
        if ["_stderr", "_ci95", "_n"].iter().any(|suffix| name.ends_with(suffix)) || filter == "judge" {
            continue;
        }
        metrics.push(Metric {
            name: name.to_owned(),
            filter: filter.to_owned(),
            value: value.as_f64().unwrap_or(f64::NAN),
            stderr: side("stderr").as_f64(),
            interval: serde_json::from_value(side("ci95").clone()).ok(),
            count: side("n").as_u64().unwrap_or(0),
            group: group.cloned(),
        });
    }
}

fn unix_seconds() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0.0, |time| time.as_secs_f64())
}

/// What the table does with numbers by group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Groups {
    /// Leaves them out.
    None,
    /// Leaves them out, and says where they are.
    Hint,
    /// Has a row for each.
    All,
}

/// The table that a command prints, and the notes below it. With several runs, each first has one row with its main
/// metric; a second table has the others.
pub fn table(summaries: &[Summary], groups: Groups) -> String {
    let wanted = |metric: &&Metric| metric.group.is_none() || groups == Groups::All;
    let rest = |summary: &Summary, skip: usize| -> Vec<Metric> {
        summary.metrics.iter().filter(wanted).skip(skip).cloned().collect()
    };
    let mut text = match summaries {
        [_, _, ..] => {
            let main = summaries
                .iter()
                .map(|summary| (summary, rest(summary, 0).into_iter().take(1).collect()));
            let others = summaries.iter().map(|summary| (summary, rest(summary, 1)));
            let tables = [rows(main), rows(others)];
            tables.into_iter().flatten().collect::<Vec<_>>().join("\n")
        }
        _ => rows(summaries.iter().map(|summary| (summary, rest(summary, 0)))).unwrap_or_default(),
    };
    let mut notes = notes(summaries);
    let by_group = |summary: &Summary| summary.metrics.iter().filter(|metric| metric.group.is_some()).count();
    let hidden: usize = summaries.iter().map(by_group).sum();
    if hidden > 0 && groups == Groups::Hint {
        notes.push(format!(
            "note: {hidden} numbers by group are in results.json; `--groups` prints them"
        ));
    }
    if !notes.is_empty() {
        text += &format!("\n{}\n", notes.join("\n"));
    }
    text
}

/// A table with a row for each of these metrics; none if there are none.
fn rows<'a>(summaries: impl Iterator<Item = (&'a Summary, Vec<Metric>)>) -> Option<String> {
    let mut table = Table::new(&[
        ("Tasks", Align::Left),
        ("Version", Align::Right),
        ("Filter", Align::Left),
        ("n-shot", Align::Right),
        ("Metric", Align::Left),
        ("", Align::Left),
        ("Value", Align::Right),
        ("", Align::Left),
        ("Stderr", Align::Right),
        ("95% interval", Align::Left),
        ("n", Align::Right),
        ("Model", Align::Left),
    ]);
    for (summary, metrics) in summaries {
        let suspect = !summary.suspicions.is_empty();
        for metric in metrics {
            let name = match &metric.group {
                None => summary.task.clone(),
                Some(group) => format!(" - {group}"),
            };
            let number = |value: f64| match value.is_nan() {
                true => "NaN".to_owned(),
                false => format!("{value:.4}"),
            };
            table.row([
                name,
                summary.version.clone(),
                metric.filter.clone(),
                summary.shots.to_string(),
                metric.name.clone(),
                String::new(),
                number(metric.value)
                    + if suspect || summary.suspects(&metric) {
                        " (suspect)"
                    } else {
                        ""
                    },
                "±".to_owned(),
                metric.stderr.map_or_else(|| "N/A".to_owned(), number),
                metric
                    .interval
                    .map_or_else(|| "N/A".to_owned(), |(low, high)| format!("{low:.4} to {high:.4}")),
                metric.count.to_string(),
                summary.model.clone(),
            ]);
        }
    }
    (!table.is_empty()).then(|| table.render())
}

/// The notes below the table. A note that several runs share is one line.
fn notes(summaries: &[Summary]) -> Vec<String> {
    /// The most runs that a line names.
    const NAMED: usize = 3;
    let mut notes = Vec::new();
    let mut shared: Vec<(&String, Vec<String>)> = Vec::new();
    for summary in summaries {
        let pair = format!("{} on {}", summary.model, summary.task);
        notes.extend(summary.suspicions.iter().map(|why| format!("suspect: {pair}: {why}")));
        for mark in &summary.marks {
            match shared.iter_mut().find(|(known, _)| *known == mark) {
                Some((_, pairs)) => pairs.push(pair.clone()),
                None => shared.push((mark, vec![pair.clone()])),
            }
        }
    }
    let line = |(mark, pairs): (&String, Vec<String>)| {
        let more = pairs.len().saturating_sub(NAMED);
        let named = pairs[..pairs.len() - more].join(", ");
        match more {
            0 => format!("note: {named}: {mark}"),
            more => format!("note: {named} and {more} more: {mark}"),
        }
    };
    notes.extend(shared.into_iter().map(line));
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspect_number_is_never_printed_as_if_nothing_had_happened() {
        let metric = Metric {
            name: "acc".to_owned(),
            filter: "none".to_owned(),
            value: 0.25,
            count: 8,
            ..Metric::default()
        };
        let mut summary = Summary {
            model: "m".to_owned(),
            task: "t".to_owned(),
            metrics: vec![metric],
            ..Summary::default()
        };
        assert!(!table(&[summary.clone()], Groups::None).contains("suspect"));
        summary.suspicions = vec!["NaN logits in 3 of 8 replies".to_owned()];
        let text = table(&[summary], Groups::None);
        assert!(
            text.contains("0.2500 (suspect)") && text.contains("suspect: m on t: NaN logits in 3 of 8 replies"),
            "{text}"
        );
    }

    #[test]
    fn each_of_several_runs_has_one_row_first_and_a_note_they_share_is_one_line() {
        let metric = |name: &str, group: Option<&str>| Metric {
            name: name.to_owned(),
            value: 0.5,
            count: 4,
            group: group.map(str::to_owned),
            ..Metric::default()
        };
        let summary = |model: &str| Summary {
            model: model.to_owned(),
            task: "t".to_owned(),
            metrics: vec![metric("acc", None), metric("f1", None), metric("acc", Some("level=1"))],
            marks: vec!["DEMO".to_owned()],
            ..Summary::default()
        };
        let summaries = ["a", "b", "c", "d"].map(summary);
        let text = table(&summaries, Groups::Hint);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[2..6].iter().all(|line| line.contains("|acc")), "{text}");
        assert!(text.contains("|f1") && !text.contains("level=1"), "{text}");
        assert!(text.contains("note: a on t, b on t, c on t and 1 more: DEMO"), "{text}");
        assert!(text.contains("note: 4 numbers by group are in results.json"), "{text}");
        assert!(table(&summaries, Groups::All).contains(" - level=1"));
    }
}
