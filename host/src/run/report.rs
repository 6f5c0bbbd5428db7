//! `report.html`: a run on one page that needs nothing else, to be looked at and mailed.

use super::results::{Summary, table};
use serde_json::Value;

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
    let numbers = escape(&table(std::slice::from_ref(summary), usize::MAX));
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
