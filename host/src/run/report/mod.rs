//! `report.html` of a run: its numbers and its samples on one page that needs nothing else.

mod facts;
mod figures;
mod samples;
mod sweeps;

use super::recorded::Recorded;
use super::results::{Groups, Summary, metrics, summary_of, table};
use super::store::directory::{RunDirectory, read_if_there, unwritable};
use super::tally::Tally;
use crate::failure::Result;
use crate::page::{self, escape, folded};
use plugin_api::{Metric, TaskCard};
use samples::Gathering;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::path::Path;

/// Writes `results.json` and the page.
pub fn write(run: &RunDirectory, summary: &Summary, results: &Value, timing: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(results).unwrap_or_default() + "\n";
    run.write_file("results.json", text.as_bytes())?;
    let recorded = Recorded::look(&run.path)?;
    let told = Told {
        summary,
        results,
        timing,
        unfinished: false,
        refresh: None,
    };
    write_page(&recorded, &told, &run.path.join("report.html"))
}

/// `timing.json` of a run.
pub fn timing_of(run: &RunDirectory) -> Value {
    timing_in(&run.path)
}

fn timing_in(path: &Path) -> Value {
    let text = read_if_there(&path.join("timing.json"));
    text.and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default()
}

/// Writes the page of a run on disk: finished, interrupted or still going, of this version or an earlier one. Returns
/// the number of records.
pub fn page_of(path: &Path, out: &Path, refresh: Option<u64>) -> Result<(usize, Summary)> {
    let recorded = Recorded::look(path)?;
    let (summary, results, unfinished) = summed_up(&recorded)?;
    let timing = timing_in(path);
    let told = Told {
        summary: &summary,
        results: &results,
        timing: &timing,
        unfinished,
        refresh,
    };
    write_page(&recorded, &told, out)?;
    Ok((recorded.len(), summary))
}

/// The contents of `results.json`. For a run that has never finished: the means of what is recorded, and true.
pub fn summed_up(recorded: &Recorded) -> Result<(Summary, Value, bool)> {
    if let Ok(results) = recorded.results() {
        let mut summary = summary_of(results);
        summary.metrics.extend(judged(results, &summary.task));
        return Ok((summary, results.clone(), false));
    }
    let text = |name: &str| {
        let value = recorded.settings().get(name).and_then(toml::Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    let chains = recorded.settings().get("chains").and_then(toml::Value::as_integer);
    let mut tally = Tally::of_chains(chains.and_then(|chains| u32::try_from(chains).ok()).unwrap_or(1));
    let mut name = String::new();
    recorded.each(|record| {
        if record.variant.is_none() {
            tally.add(&record);
        }
        if name.is_empty() {
            name.clone_from(&record.task);
        }
        Ok(())
    })?;
    let resolved = recorded.settings().get("resolved").cloned();
    let identity = resolved
        .and_then(|value| serde_json::to_value(value).ok())
        .unwrap_or_default();
    let summary = Summary {
        model: text("model"),
        task: if name.is_empty() { text("task") } else { name },
        filter: "none".to_owned(),
        metrics: metrics(&TaskCard::default(), &tally, None),
        suspicions: tally.suspicions(),
        marks: vec![format!(
            "not finished: {} samples are recorded so far; these are the means of their scores",
            tally.finished
        )],
        ..Summary::default()
    };
    let results = json!({ "host": { "input": tally.inputs, "identity": identity } });
    Ok((summary, results, true))
}

/// What judges said overall.
fn judged(results: &Value, task: &str) -> Vec<Metric> {
    let numbers = &results["results"][task];
    let one = |name: &String| Metric {
        name: name.clone(),
        filter: "judge".to_owned(),
        value: numbers[format!("{name},judge")].as_f64().unwrap_or(f64::NAN),
        stderr: numbers[format!("{name}_stderr,judge")].as_f64(),
        interval: serde_json::from_value(numbers[format!("{name}_ci95,judge")].clone()).ok(),
        count: numbers[format!("{name}_n,judge")].as_u64().unwrap_or(0),
        group: None,
    };
    let judges = results["host"]["judges"].as_object().into_iter().flatten();
    judges.map(|(name, _)| one(name)).collect()
}

/// What a page shows besides the records.
struct Told<'a> {
    summary: &'a Summary,
    results: &'a Value,
    timing: &'a Value,
    unfinished: bool,
    /// Seconds after which the page reloads itself.
    refresh: Option<u64>,
}

/// One pass over the records; the blocks for the page go through a file, so that memory doesn't grow with the run.
fn write_page(recorded: &Recorded, told: &Told, out: &Path) -> Result<()> {
    let failed = |why: io::Error| unwritable(out, why);
    let beside = |end: &str| {
        let mut name = out.file_name().unwrap_or_default().to_owned();
        name.push(end);
        out.with_file_name(name)
    };
    let (waiting, partial) = (beside(".blocks"), beside(".partial"));
    let blocks = File::options()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(&waiting);
    // From here on only the open file is needed.
    let blocks = blocks
        .inspect(|_| drop(std::fs::remove_file(&waiting)))
        .map_err(failed)?;
    let clips = recorded.path().join("audio");
    let mut gathering = Gathering::new(
        BufWriter::new(blocks),
        told.summary,
        told.results,
        recorded.len(),
        &clips,
    );
    recorded.each(|record| gathering.add(&record).map_err(failed))?;
    let (gathered, blocks) = gathering.finish().map_err(failed)?;
    let mut blocks = blocks.into_inner().map_err(|why| failed(why.into_error()))?;
    let mut write = || -> io::Result<()> {
        let mut page = BufWriter::new(File::create(&partial)?);
        let title = format!("{} on {}", told.summary.model, told.summary.task);
        page.write_all(page::head(&title, told.refresh).as_bytes())?;
        page.write_all(top(&title, told, recorded).as_bytes())?;
        page.write_all(figures::groups(told.summary).as_bytes())?;
        page.write_all(figures::distributions(&gathered.spread).as_bytes())?;
        page.write_all(figures::calibration(&gathered.calibration).as_bytes())?;
        page.write_all(sweeps::section(recorded.path()).as_bytes())?;
        page.write_all(samples::browser(&gathered).as_bytes())?;
        page.write_all(folded("timing.json", &pretty(told.timing)).as_bytes())?;
        page.write_all(folded("results.json", &pretty(told.results)).as_bytes())?;
        blocks.rewind()?;
        io::copy(&mut blocks, &mut page)?;
        page.write_all(page::TAIL.as_bytes())?;
        page.into_inner().map_err(io::IntoInnerError::into_error)?;
        std::fs::rename(&partial, out)
    };
    write().map_err(failed)
}

/// The top of the page: first why the number can't be trusted, if so, then the number, then the facts.
fn top(title: &str, told: &Told, recorded: &Recorded) -> String {
    let summary = told.summary;
    let mut out = format!("<h1>{}</h1>\n", escape(title));
    if !summary.suspicions.is_empty() {
        let reason = |why: &String| format!("<p class=\"bad\">suspect: {}</p>", escape(why));
        let reasons: String = summary.suspicions.iter().map(reason).collect();
        out += &format!("<div class=\"suspect\">{reasons}</div>\n");
    }
    out += &headline(summary);
    for mark in &summary.marks {
        out += &format!("<p>{}</p>\n", escape(mark));
    }
    for words in super::graded::in_words(told.results) {
        out += &format!("<p>graded: {}</p>\n", escape(&words));
    }
    let counted = told.results["host"]["counts"]["finished"].as_u64();
    if let Some(counted) = counted.filter(|counted| *counted != recorded.len() as u64) {
        let all = recorded.len();
        out += &format!("<p>The numbers are about {counted} records; the directory holds {all}.</p>\n");
    }
    out += &facts::of(told.results, recorded, told.unfinished);
    out += "<h2>Numbers</h2>\n";
    out + &numbers(summary)
}

fn headline(summary: &Summary) -> String {
    let Some(main) = main_metric(summary) else {
        return "<p>No sample has a score yet.</p>\n".to_owned();
    };
    let interval = main
        .interval
        .map(|(low, high)| format!("95% interval {low:.4} to {high:.4}"));
    let stderr = main.stderr.map(|stderr| format!("± {stderr:.4}"));
    let suspect = (!summary.suspicions.is_empty()).then(|| "<span class=\"bad\">suspect</span>".to_owned());
    let parts = [
        Some(format!(
            "<span>{}</span><b>{}</b>",
            escape(&main.name),
            four(main.value)
        )),
        interval.map(|text| format!("<span>{text}</span>")),
        stderr.map(|text| format!("<span class=\"pale\">{text}</span>")),
        Some(format!("<span class=\"pale\">n = {}</span>", main.count)),
        suspect,
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    format!("<div class=\"headline\">{}</div>\n", parts.join("\n"))
}

/// The main metric of the run: the first one over all samples.
fn main_metric(summary: &Summary) -> Option<&Metric> {
    summary.metrics.iter().find(|metric| metric.group.is_none())
}

fn numbers(summary: &Summary) -> String {
    let row = |metric: &Metric| {
        let interval = metric.interval.map(|(low, high)| format!("{low:.4} to {high:.4}"));
        vec![
            metric.name.clone(),
            metric.filter.clone(),
            four(metric.value),
            metric.stderr.map_or_else(|| "N/A".to_owned(), four),
            interval.unwrap_or_else(|| "N/A".to_owned()),
            metric.count.to_string(),
        ]
    };
    let whole = summary.metrics.iter().filter(|metric| metric.group.is_none());
    let rows: Vec<Vec<String>> = whole.map(row).collect();
    let heads = ["metric", "filter", "value", "stderr", "95% interval", "n"];
    let mut out = match rows.is_empty() {
        true => String::new(),
        false => page::table(&heads, &rows, 2),
    };
    if summary.metrics.iter().any(|metric| metric.group.is_some()) {
        out += &folded(
            "every number by group",
            &table(std::slice::from_ref(summary), Groups::All),
        );
    }
    out
}

fn four(value: f64) -> String {
    match value.is_nan() {
        true => "NaN".to_owned(),
        false => format!("{value:.4}"),
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_model_said_can_not_become_markup() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("samples.jsonl"), "").unwrap();
        let summary = Summary {
            suspicions: vec!["<script>alert(1)</script>".to_owned()],
            ..Summary::default()
        };
        let told = Told {
            summary: &summary,
            results: &Value::Null,
            timing: &Value::Null,
            unfinished: false,
            refresh: None,
        };
        let recorded = Recorded::look(folder.path()).unwrap();
        let text = top("t", &told, &recorded);
        assert!(!text.contains("<script>") && text.contains("&lt;script&gt;"), "{text}");
        let (suspect, number) = (
            text.find("suspect:").unwrap(),
            text.find("No sample has a score").unwrap(),
        );
        assert!(suspect < number, "what can't be trusted stands first");
    }
}
