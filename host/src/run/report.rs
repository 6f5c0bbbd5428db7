//! `report.html`: a run on one page that needs nothing else, to be looked at and mailed.

use super::results::{Groups, Summary, table};
use super::store::directory::{RunDirectory, read_if_there};
use crate::failure::Result;
use serde_json::Value;

/// Writes `results.json` and the page.
pub fn write(run: &RunDirectory, summary: &Summary, results: &Value, timing: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(results).unwrap_or_default() + "\n";
    run.write_file("results.json", text.as_bytes())?;
    run.write_file("report.html", html(summary, results, timing).as_bytes())
}

/// `timing.json` of a run.
pub fn timing_of(run: &RunDirectory) -> Value {
    let text = read_if_there(&run.path.join("timing.json"));
    text.and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default()
}

/// The page.
pub fn html(summary: &Summary, results: &Value, timing: &Value) -> String {
    let title = escape(&format!("{} on {}", summary.model, summary.task));
    let mut notes = String::new();
    for why in &summary.suspicions {
        notes += &format!("<p class=\"bad\">suspect: {}</p>\n", escape(why));
    }
    for mark in &summary.marks {
        notes += &format!("<p>{}</p>\n", escape(mark));
    }
    for words in super::graded::in_words(results) {
        notes += &format!("<p>graded: {}</p>\n", escape(&words));
    }
    let numbers = escape(&table(std::slice::from_ref(summary), Groups::All));
    let details = |name: &str, value: &Value| {
        let text = escape(&serde_json::to_string_pretty(value).unwrap_or_default());
        format!("<details><summary>{name}</summary><pre>{text}</pre></details>\n")
    };
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\n\
         <style>body{{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}}\
         pre{{overflow:auto;background:#8881;padding:1rem}}.bad{{color:#b00;font-weight:600}}\
         @media(prefers-color-scheme:dark){{body{{background:#111;color:#ddd}}.bad{{color:#f77}}}}</style>\n\
         <h1>{title}</h1>\n{notes}<pre>{numbers}</pre>\n{}{}</html>\n",
        details("timing", timing),
        details("results", results),
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_model_said_can_not_become_markup() {
        let summary = Summary {
            suspicions: vec!["<script>alert(1)</script>".to_owned()],
            ..Summary::default()
        };
        let page = html(&summary, &Value::Null, &Value::Null);
        assert!(!page.contains("<script>") && page.contains("&lt;script&gt;"));
    }
}
