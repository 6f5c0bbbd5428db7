//! The end of a run: sums up its records, and writes the result files.

use super::context::RunContext;
use super::results::{self, Setting, Summary};
use super::store::directory::RunDirectory;
use super::store::places;
use super::store::record::Input;
use super::store::{Records, Scores};
use super::tally::Tally;
use super::{Outcome, Task, ledger, report};
use crate::ask::audio_check::AudioCheck;
use crate::ask::pool::kernels_of;
use crate::ask::transcriber::Transcriber;
use crate::catalog::Resolved;
use crate::failure::{Failure, Result};
use plugin_api::client::{Pages, TaskClient};
use plugin_api::{Code, Metric, Row, Sample, TaskCard};
use serde_json::{Value, json};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Rows for a task that computes its own metrics, read back a page at a time.
struct RowPages<'a> {
    places: &'a [u64],
    next: AtomicUsize,
    reader: Mutex<Records<'a>>,
    chains: u32,
}

impl Pages for RowPages<'_> {
    fn page(&self) -> plugin_api::Result<Vec<Row>> {
        const PAGE: usize = 256;
        let mut reader = self.reader.lock().unwrap_or_else(|poison| poison.into_inner());
        let mut rows = Vec::new();
        while rows.len() < PAGE {
            let Some(place) = self.places.get(self.next.fetch_add(1, Ordering::Relaxed)) else {
                break;
            };
            let record = reader.read_at(*place).map_err(|failure| failure.error)?;
            if record.failure().is_none() && !record.pending() {
                rows.push(Row {
                    sample: Sample {
                        cluster: record.cluster_among(self.chains).map(str::to_owned),
                        ..record.sample()
                    },
                    score: record.score(),
                    ..Row::default()
                });
            }
        }
        Ok(rows)
    }
}

/// A scorer, and the scores that it gave after the records were written.
pub struct View<'a> {
    pub client: &'a TaskClient,
    pub card: &'a TaskCard,
    pub scores: &'a Scores,
    /// Answers to each question.
    pub chains: u32,
}

impl View<'_> {
    /// Sums up these records, by the task if it does so, else by the host.
    pub fn summary(&self, run: &RunDirectory, tally: &Tally, places: &[u64]) -> Result<Summary> {
        let scored = tally.finished > tally.failed + tally.pending;
        let own = if scored { self.own_metrics(run, places)? } else { None };
        let mut metrics = results::metrics(self.card, tally, own);
        metrics.retain(|metric| metric.count > 0 || !metric.value.is_nan());
        Ok(Summary {
            task: self.card.name.clone(),
            version: self.card.version.clone(),
            filter: self.card.filter.clone().unwrap_or_else(|| "none".to_owned()),
            shots: self.card.shots,
            metrics,
            ..Summary::default()
        })
    }

    /// A task's own metrics over the records at these places, if it has some.
    fn own_metrics(&self, run: &RunDirectory, places: &[u64]) -> Result<Option<Vec<Metric>>> {
        let pages = RowPages {
            places,
            next: AtomicUsize::new(0),
            reader: Mutex::new(Records::open(run, self.scores)?),
            chains: self.chains,
        };
        match self.client.metrics(&pages) {
            Ok(metrics) => Ok(Some(metrics)),
            Err(error) if error.code == Code::NOT_IMPLEMENTED => Ok(None),
            Err(error) => Err(Failure::from(error.context("the task can't sum up"))),
        }
    }
}

/// Why a run's numbers should not be trusted.
pub fn suspicions(tally: &Tally, hearing: Option<&AudioCheck>) -> Vec<String> {
    let deaf = hearing.and_then(AudioCheck::suspicion);
    tally.suspicions().into_iter().chain(deaf).collect()
}

/// What a session of work left behind.
pub struct Totals {
    pub tally: Tally,
    /// Scores that came after their records.
    pub scores: Scores,
    pub audio_check: Option<AudioCheck>,
    /// Why the run is incomplete, if it is.
    pub cut_short: Option<Failure>,
    /// The most memory that each worker held.
    pub workers: Vec<u64>,
}

/// Sums up, and writes the result files.
pub fn finish(context: &RunContext, totals: Totals) -> Result<Outcome> {
    let RunContext {
        model,
        task,
        options,
        directory: run,
        selection,
        ..
    } = context;
    let Totals {
        mut tally,
        scores,
        audio_check,
        cut_short,
        workers,
    } = totals;
    let places = places::of_selection(run, selection, options.chains)?;
    let view = View {
        client: &task.client,
        card: &task.card,
        scores: &scores,
        chains: options.chains,
    };
    let transcriber = context.transcriber.map(Transcriber::name);
    let summary = Summary {
        model: model.name.clone(),
        suspicions: suspicions(&tally, audio_check.as_ref()),
        marks: marks(
            &tally,
            options
                .demo
                .then(|| demo_mark(&model.name, is_taught(&model.resolved, task))),
            transcriber,
            context.expected(),
        ),
        ..view.summary(run, &tally, &places)?
    };
    let mut summary = summary;
    let said = model.card.other.get("marks").unwrap_or(&Value::Null);
    summary.marks.extend(results::texts(said));
    if !context.changes.is_empty() {
        let words: Vec<String> = context.changes.iter().map(ToString::to_string).collect();
        summary
            .marks
            .push(format!("the clips were changed: {}", words.join(" ")));
    }
    if let Some(shard) = options.shard {
        let (part, all) = (selection.len(), context.selected);
        summary.marks.push(format!("shard {shard}: {part} of {all} samples"));
    }
    let kernels = kernels_of(&model.card);
    let setting = Setting {
        card: &task.card,
        identity: &context.identity,
        samples: task.client.count()?,
        selected: selection.len(),
        chains: options.chains,
        batch_size: options
            .batch_size
            .map_or_else(|| "auto".to_owned(), |size| size.to_string()),
        limit: options.limit_text.clone(),
        seed: options.seed,
        device: model.card.device.as_deref(),
        precision: model.card.precision.as_deref(),
        kernels: kernels.as_ref(),
        seconds: context.began.elapsed().as_secs_f64(),
        hearing: audio_check.as_ref(),
    };
    let mut results = results::results(&summary, &tally, &setting);
    results::keep_marks(&mut results, said);
    if let Some(shard) = options.shard {
        results["host"]["shard"] = json!({ "shard": shard.to_string(), "selected": context.selected });
    }
    ledger::note(&mut results, run);
    let seconds = tally.inference_seconds();
    // A model that was cut short may still hold its lock.
    let device = match cut_short {
        Some(_) => None,
        None => model.copies[0]
            .client
            .memory()
            .ok()
            .map(|memory| memory.device_peak_bytes),
    };
    let timing = results::timing(&mut tally, seconds, &peaks(workers, device));
    run.write_file("timing.json", pretty(&timing).as_bytes())?;
    report::write(run, &summary, &results, &timing)?;
    Ok(Outcome {
        summary,
        results,
        directory: run.path.clone(),
        finished: tally.finished,
        failed: tally.failed,
        selected: selection.len(),
        places,
        chains: options.chains,
        tracked: None,
        cut_short,
    })
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

/// What a demo's numbers mean, if they mean anything.
pub fn demo_mark(model: &str, taught: bool) -> String {
    if taught {
        return format!(
            "DEMO: a tiny model that `host train` taught such questions, which are hand-made; of `{model}` itself the numbers say nothing"
        );
    }
    "DEMO: tiny weights that were not taught this task, and hand-made samples; the numbers mean nothing".to_owned()
}

/// Whether a demo's model was taught the demo's task.
pub fn is_taught(model: &Resolved, task: &Task) -> bool {
    model.is_demo && task.resolved.is_demo && model.spec.taught.contains(&task.card.name)
}

/// Notes for a run's numbers that do not make them suspect; `demo` is the note of a demo.
pub fn marks(tally: &Tally, demo: Option<String>, transcriber: Option<&str>, selected: usize) -> Vec<String> {
    let mut marks: Vec<String> = demo.into_iter().collect();
    let ears = transcriber.unwrap_or("another model");
    for (input, what) in [
        (Input::Blind, "blind: a notice"),
        (Input::Words, "words: the data set's own words"),
        (Input::Ears, &format!("ears: what `{ears}` heard")),
    ] {
        if let Some(count) = tally.inputs.get(&input) {
            marks.push(format!("input: {what} stood in for the clips of {count} samples"));
        }
    }
    if let (count @ 1.., example) = &tally.damaged {
        marks.push(format!(
            "the clips of {count} samples are damaged and were heard as far as they go, e.g. {example}"
        ));
    }
    if let Some(count) = tally.flags.get("cut-clip") {
        marks.push(format!(
            "the clips of {count} samples are longer than the model takes; it heard their beginning"
        ));
    }
    if tally.failed > 0 {
        let example = tally
            .errors
            .values()
            .max_by_key(|(count, _)| *count)
            .map(|(_, example)| example.as_str());
        marks.push(format!(
            "{} of {} samples failed, e.g. {}",
            tally.failed,
            tally.finished,
            example.unwrap_or_default()
        ));
    }
    if tally.no_answer > 0 {
        marks.push(format!(
            "{} replies named no answer and count as wrong",
            tally.no_answer
        ));
    }
    if tally.unscored > 0 {
        marks.push(format!(
            "{} replies could not be scored and are left out",
            tally.unscored
        ));
    }
    if let Some(chains) = tally.alike_chains() {
        marks.push(format!(
            "all {chains} answers to each question are the same: nothing is drawn by chance; set a temperature of the task, or \
             leave out `--chains`"
        ));
    }
    if tally.pending > 0 {
        marks.push(format!("{} answers are not scored yet", tally.pending));
    }
    if tally.finished < selected as u64 {
        marks.push(format!("incomplete: {} of {selected} samples are done", tally.finished));
    }
    marks
}

/// Peak memory of this process, of the model's workers and of its device.
fn peaks(workers: Vec<u64>, device: Option<u64>) -> Value {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let host = line
        .and_then(|rest| rest.trim().trim_end_matches(" kB").trim().parse::<u64>().ok())
        .map(|kb| kb * 1024);
    json!({ "host": host, "workers": workers, "device": device.filter(|bytes| *bytes > 0) })
}

#[cfg(test)]
mod tests {
    use super::super::store::record::{ClipInfo, Record};
    use super::*;

    #[test]
    fn a_clip_that_was_not_heard_whole_is_told_beside_the_numbers() {
        let clip = |warnings: &[&str]| ClipInfo {
            seconds: 60.0,
            rate: 16_000,
            sha256: String::new(),
            warnings: warnings.iter().map(ToString::to_string).collect(),
            changes: Vec::new(),
            ears: None,
        };
        let mut tally = Tally::default();
        tally.add(&Record {
            sample_id: "a".to_owned(),
            audio: vec![clip(&[]), clip(&["its header promises 9 frames, it holds 5"])],
            ..Record::default()
        });
        tally.add(&Record {
            audio: vec![clip(&[])],
            flags: vec!["cut-clip".to_owned()],
            ..Record::default()
        });
        let damaged = "the clips of 1 samples are damaged and were heard as far as they go, \
                       e.g. a: its header promises 9 frames, it holds 5";
        let cut = "the clips of 1 samples are longer than the model takes; it heard their beginning";
        assert_eq!(marks(&tally, None, None, 2), [damaged, cut]);
    }
}
