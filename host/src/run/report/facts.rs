//! The facts of a run: the model, its weights, the task, the input, the seed.

use crate::dates::Moment;
use crate::page::table;
use crate::run::recorded::Recorded;
use serde_json::Value;

/// A table of what the run depends on.
pub fn of(results: &Value, recorded: &Recorded, unfinished: bool) -> String {
    let host = &results["host"];
    let identity = &host["identity"];
    let config = &results["config"];
    let mut rows: Vec<(&str, String)> = Vec::new();
    let model = &identity["model"];
    rows.push(("model", words([&results["model_name"], &model["name"]])));
    rows.push(("plugin", plugin(model)));
    for (name, source) in model["sources"].as_object().into_iter().flatten() {
        rows.push(("weights", format!("{name} {}", flat(source))));
    }
    rows.push(("lora", flat(&identity["lora"])));
    rows.push(("model settings", flat(&model["settings"])));
    let device = [&config["device"], &config["model_dtype"], &config["kernels"]].map(flat);
    rows.push((
        "device",
        device
            .into_iter()
            .filter(|text| !text.is_empty())
            .collect::<Vec<_>>()
            .join(", "),
    ));
    rows.push(("engine", engine(recorded)));
    let task = &identity["task"];
    let version = results["versions"].as_object().and_then(|map| map.iter().next());
    rows.push((
        "task",
        match version {
            Some((name, version)) => format!("{name}, version {}", flat(version)),
            None => recorded.task().unwrap_or_default().to_owned(),
        },
    ));
    rows.push(("task plugin", plugin(task)));
    rows.push(("task settings", flat(&task["settings"])));
    for key in ["sources", "files", "data", "resources"] {
        for (name, source) in task[key].as_object().into_iter().flatten() {
            rows.push(("data", format!("{name} {}", flat(source))));
        }
    }
    rows.push(("judges", judges(host)));
    rows.push(("input", flat(&host["input"])));
    rows.push(("transcriber", flat(&identity["transcriber"]["model"]["name"])));
    rows.push(("hearing test", flat(&host["hearing_test"])));
    rows.push(("seed", flat(&identity["seed"])));
    rows.push(("chains", flat(&host["chains"])));
    rows.push(("limit", flat(&config["limit"])));
    rows.push((
        "shots",
        results["n-shot"]
            .as_object()
            .and_then(|map| map.values().next())
            .map(flat)
            .unwrap_or_default(),
    ));
    rows.push((
        "samples",
        results["n-samples"]
            .as_object()
            .and_then(|map| map.values().next())
            .map(flat)
            .unwrap_or_default(),
    ));
    rows.push(("host version", flat(&host["version"])));
    rows.push(("date", results["date"].as_f64().map(utc).unwrap_or_default()));
    let run = recorded.path().display();
    let verb = if unfinished { "go on" } else { "repeat" };
    if recorded.path().join("run.toml").exists() {
        rows.push((verb, format!("host run --config {run}/run.toml")));
    }
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(name, text)| vec![name.to_owned(), text])
        .collect();
    format!("<h2>Who and what</h2>\n{}", table(&["", ""], &rows, 2))
}

fn words(candidates: [&Value; 2]) -> String {
    candidates
        .into_iter()
        .map(flat)
        .find(|text| !text.is_empty())
        .unwrap_or_default()
}

fn plugin(part: &Value) -> String {
    let hash = flat(&part["plugin_sha256"]);
    let hash = if hash.is_empty() {
        hash
    } else {
        format!("sha256 {hash}")
    };
    let parts = [flat(&part["plugin"]), flat(&part["plugin_version"]), hash];
    parts
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

fn engine(recorded: &Recorded) -> String {
    let engine = recorded.settings().get("engine").cloned();
    engine
        .and_then(|value| serde_json::to_value(value).ok())
        .map(|value| flat(&value))
        .unwrap_or_default()
}

fn judges(host: &Value) -> String {
    let judges = host["judges"].as_object().into_iter().flatten();
    judges.map(|(name, _)| name.clone()).collect::<Vec<_>>().join(", ")
}

/// JSON as words: `name value, name value`.
fn flat(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Object(map) => {
            let part = |(name, value): (&String, &Value)| match flat(value) {
                text if text.is_empty() => None,
                text => Some(format!("{name} {text}")),
            };
            map.iter().filter_map(part).collect::<Vec<_>>().join(", ")
        }
        Value::Array(items) => items.iter().map(flat).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// Seconds since 1970 as a date that people read.
fn utc(seconds: f64) -> String {
    let date = Moment::of(seconds).iso(':').replace('T', " ");
    format!("{} UTC", &date[..date.len() - 3]) // without seconds
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_date_is_told_to_the_minute() {
        assert_eq!(utc(1_795_936_207.9), "2026-11-29 07:10 UTC");
    }

    #[test]
    fn settings_read_as_words() {
        let settings = json!({ "quant": "none", "lora": null, "shots": 0, "names": ["a", "b"] });
        assert_eq!(flat(&settings), "quant none, shots 0, names a, b");
    }
}
