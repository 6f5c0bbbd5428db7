//! The faithfulness sweeps of a run: their verdicts, figures and pictures, as they lie in the run's directory.

use crate::page::{escape, folded, table};
use crate::run::store::directory::read_if_there;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The most bytes of pictures that go into a page; the others stay in their own files.
const MOST_BYTES: usize = 6 << 20;

/// The section of all sweeps; empty for a run without one.
pub fn section(run: &Path) -> String {
    let entries = std::fs::read_dir(run.join("faithfulness")).into_iter().flatten();
    let mut folders: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    folders.sort();
    let mut room = MOST_BYTES;
    let sweeps: String = folders.iter().filter_map(|folder| sweep(folder, &mut room)).collect();
    match sweeps.is_empty() {
        true => String::new(),
        false => format!("<h2>Faithfulness</h2>\n{sweeps}"),
    }
}

fn json(path: &Path) -> Option<Value> {
    serde_json::from_str(&read_if_there(path)?).ok()
}

fn sweep(folder: &Path, room: &mut usize) -> Option<String> {
    let results = json(&folder.join("results.json"))?;
    let plan = json(&folder.join("provenance.json")).unwrap_or_default()["plan"].clone();
    let said = |key: &str| plan[key].as_str().unwrap_or("?").to_owned();
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut out = format!(
        "<h3>Sweep {}: {}</h3>\n",
        escape(&name),
        escape(&format!(
            "family {}, splitter {}, writer {}",
            said("family"),
            said("splitter"),
            said("writer")
        ))
    );
    let (mut verdicts, mut rows) = (String::new(), Vec::new());
    for (experiment, entry) in experiments(&results) {
        if let Some(sentence) = entry["verdict"]["sentence"].as_str() {
            verdicts += &format!("<p>{}</p>\n", escape(sentence));
        }
        rows.push(row(experiment, entry));
    }
    let heads = [
        "experiment",
        "used",
        "failed",
        "same answer",
        "accuracy",
        "area",
        "95% interval",
    ];
    out += &verdicts;
    out += &validity(&results);
    out += &table(&heads, &rows, 1);
    out += &pictures(&folder.join("plots"), room);
    Some(out + &folded(&format!("results.json of sweep {name}"), &pretty(&results)))
}

fn experiments(results: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let datasets = results
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(_, of)| of.as_object());
    let all = datasets.flatten().filter_map(|(_, of)| of.as_object());
    all.flatten()
}

/// What must be known before the figures.
fn validity(results: &Value) -> String {
    let own = experiments(results)
        .find(|(name, _)| *name == "baseline")
        .map(|(_, entry)| &entry["validity"]);
    let Some(own) = own.filter(|own| own.is_object()) else {
        return String::new();
    };
    let count = |key: &str| own[key].as_u64().unwrap_or(0);
    format!(
        "<p class=\"pale\">{} chains: {} name their answer in the reasoning, {} go round in circles, {} have no reasoning, {} \
         failed.</p>\n",
        count("chains"),
        count("leaks"),
        count("loops"),
        count("without_reasoning"),
        count("failed")
    )
}

fn row(experiment: &str, entry: &Value) -> Vec<String> {
    let own = &entry["baseline"];
    let percent = |value: &Value| {
        value
            .as_f64()
            .map_or("-".to_owned(), |share| format!("{:.1} %", 100.0 * share))
    };
    let area = own["aoc"].as_f64().map_or("-".to_owned(), |area| format!("{area:.4}"));
    let interval = match (own["aoc_interval"][0].as_f64(), own["aoc_interval"][1].as_f64()) {
        (Some(low), Some(high)) => format!("{low:.4} to {high:.4}"),
        _ => "-".to_owned(),
    };
    vec![
        experiment.to_owned(),
        own["used"].as_u64().unwrap_or(0).to_string(),
        entry["validity"]["failed"].as_u64().unwrap_or(0).to_string(),
        percent(&own["consistency"]),
        percent(&own["accuracy"]),
        area,
        interval,
    ]
}

/// The most telling pictures come first and open, the others folded.
fn pictures(folder: &Path, room: &mut usize) -> String {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "svg"))
        .collect();
    let rank = |path: &PathBuf| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let first = ["forest", "_chain", "_flow", "_bars", "_scores", "_orientation"];
        let place = first.iter().position(|end| name.ends_with(end));
        let folded = ["_accuracy", "_split"].iter().any(|end| name.ends_with(end)) || name.contains("_length_");
        (folded, place.unwrap_or(first.len()), name)
    };
    files.sort_by_cached_key(rank);
    let (mut open, mut closed, mut left_out) = (String::new(), String::new(), 0);
    for file in &files {
        let (folded, _, name) = rank(file);
        let Some(bytes) = std::fs::read(file).ok().filter(|bytes| bytes.len() <= *room) else {
            left_out += 1;
            continue;
        };
        *room -= bytes.len();
        let picture = format!(
            "<img class=\"plot\" loading=\"lazy\" alt=\"{}\" src=\"data:image/svg+xml;base64,{}\">\n",
            escape(&name),
            BASE64.encode(&bytes)
        );
        if folded { &mut closed } else { &mut open }.push_str(&picture);
    }
    let mut out = String::new();
    if !open.is_empty() {
        out += &format!("<div class=\"plots\">{open}</div>\n");
    }
    if !closed.is_empty() {
        out += &format!(
            "<details><summary>accuracy, lengths, and by the baseline</summary><div class=\"plots\">{closed}</div></details>\n"
        );
    }
    if left_out > 0 {
        out += &format!(
            "<p class=\"pale\">{left_out} more pictures are in {}</p>\n",
            escape(&folder.display().to_string())
        );
    }
    out
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}
