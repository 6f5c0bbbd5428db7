//! `host bench score`: how many replies a second each task scores, through the boundary and on one thread.
//!
//! The replies are of the kinds that models give: the right one where the task has lessons, one that says nothing, and
//! one that rambles. They alternate, since a scorer that gives up early on all of them would look quick.

use super::report::{machine, machine_line, time};
use super::{Spread, repeat};
use crate::failure::{Doing, Exit, Failure, Result};
use crate::table::{Align, Table};
use plugin_api::client::{Pages, TaskClient};
use plugin_api::{Code, NoCallbacks, OptionScore, Reply, Role, Row, Sample, Want};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The most samples; they are scored over and over.
const MOST_SAMPLES: usize = 64;
const LEAST_CALLS: usize = 100;
const MOST_CALLS: usize = 50_000;
const TIME: Duration = Duration::from_secs(1);
/// The rows for a task that computes its own metrics.
const ROWS: usize = 1_000;
const PAGE: usize = 256;

/// One task's scorer.
#[derive(Debug, Clone)]
pub struct Scorer {
    pub task: String,
    pub samples: usize,
    pub per_second: f64,
    pub times: Spread,
    /// Rows a second of the task's own metrics; none if it leaves them to the host.
    pub summed_per_second: Option<f64>,
}

/// Measures one task's scorer on the samples that it holds.
pub fn scorer(name: &str, task: &TaskClient) -> Result<Scorer> {
    let cases = cases(task)?;
    if cases.is_empty() {
        return Err(Failure::missing(format!(
            "task `{name}` has no sample that can be read"
        )));
    }
    let mut rows = Vec::new();
    let mut next = cases.iter().cycle();
    let began = Instant::now();
    let times = repeat(LEAST_CALLS, MOST_CALLS, TIME, || {
        let Some((sample, reply)) = next.next() else {
            return Ok(());
        };
        let score = task
            .score(sample, reply, &NoCallbacks)
            .or_fail(Exit::Refused, || format!("task `{name}` can't score `{}`", sample.id))?;
        if rows.len() < ROWS {
            rows.push(Row {
                sample: sample.clone(),
                score,
                ..Row::default()
            });
        }
        Ok(())
    })?;
    let per_second = times.count as f64 / began.elapsed().as_secs_f64();
    Ok(Scorer {
        task: name.to_owned(),
        samples: cases.len(),
        per_second,
        times,
        summed_per_second: summed(task, &rows)?,
    })
}

/// Samples with replies to them.
fn cases(task: &TaskClient) -> Result<Vec<(Sample, Reply)>> {
    let mut cases = Vec::new();
    for index in 0..task.count()?.min(MOST_SAMPLES) {
        let Ok(mut sample) = task.sample(index) else { continue };
        let Ok(prompt) = task.prompt(&sample) else { continue };
        let reply = match &prompt.want {
            Want::Choice { options } => {
                let score = |(place, option): (usize, &String)| OptionScore {
                    loglik: -((place + index) as f64 % options.len() as f64),
                    tokens: 1,
                    bytes: u32::try_from(option.len()).unwrap_or(u32::MAX),
                    greedy: false,
                };
                Reply::scored(options.iter().enumerate().map(score).collect())
            }
            _ => Reply::text(match index % 4 {
                2 => "I am not sure.".to_owned(),
                3 => format!("{} So it may be this, or (B), or 12.5% of that. ", right(task, &sample)).repeat(8),
                _ => right(task, &sample),
            }),
        };
        sample.blobs.clear();
        cases.push((sample, reply));
    }
    Ok(cases)
}

/// What a model is to learn to say, or the target.
fn right(task: &TaskClient, sample: &Sample) -> String {
    let learnt = task.lesson(sample).ok().and_then(|lesson| {
        let said = lesson
            .turns
            .iter()
            .rev()
            .find(|turn| turn.message.role == Role::Assistant)?;
        Some(said.message.joined_text())
    });
    learnt.unwrap_or_else(|| match &sample.target {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    })
}

fn summed(task: &TaskClient, rows: &[Row]) -> Result<Option<f64>> {
    struct All<'a>(&'a [Row], AtomicUsize);
    impl Pages for All<'_> {
        fn page(&self) -> plugin_api::Result<Vec<Row>> {
            let from = self.1.fetch_add(PAGE, Ordering::Relaxed).min(self.0.len());
            Ok(self.0[from..self.0.len().min(from + PAGE)].to_vec())
        }
    }
    let began = Instant::now();
    match task.metrics(&All(rows, AtomicUsize::new(0))) {
        Ok(_) => Ok(Some(rows.len() as f64 / began.elapsed().as_secs_f64())),
        Err(error) if error.code == Code::NOT_IMPLEMENTED => Ok(None),
        Err(error) => Err(Failure::from(error.context("the task can't sum up"))),
    }
}

/// The table, in Markdown.
pub fn score_table(scorers: &[Scorer]) -> String {
    let mut table = Table::new(&[
        ("Task", Align::Left),
        ("Replies a second", Align::Right),
        ("Median", Align::Right),
        ("p99", Align::Right),
        ("Scored", Align::Right),
        ("Rows summed a second", Align::Right),
    ]);
    for scorer in scorers {
        table.row([
            scorer.task.clone(),
            format!("{:.0}", scorer.per_second),
            time(scorer.times.median),
            time(scorer.times.p99),
            scorer.times.count.to_string(),
            scorer
                .summed_per_second
                .map_or_else(|| "by the host".to_owned(), |rate| format!("{rate:.0}")),
        ]);
    }
    format!("{}\n{}\n", table.render(), machine_line())
}

/// The same for machines.
pub fn score_as_json(scorers: &[Scorer]) -> Value {
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let one = |scorer: &Scorer| {
        json!({
            "task": scorer.task, "samples": scorer.samples, "scored": scorer.times.count,
            "per_second": scorer.per_second, "median_us": micros(scorer.times.median),
            "p99_us": micros(scorer.times.p99), "summed_per_second": scorer.summed_per_second,
        })
    };
    json!({ "scorers": scorers.iter().map(one).collect::<Vec<_>>(), "machine": machine() })
}
