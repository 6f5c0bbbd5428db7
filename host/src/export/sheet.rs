//! A record a row, for spreadsheets. A first pass over the records finds the columns.

use super::{Folder, Recorded};
use crate::failure::Result;
use crate::run::record::Record;
use crate::run::store::score::ScoreStatus;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const FILE: &str = "records.csv";

/// What every record has, before its metrics and groups.
const FIRST: [&str; 7] = ["doc_id", "sample_id", "status", "input", "target", "answer", "response"];
const LAST: [&str; 7] = [
    "latency_ms",
    "prompt_tokens",
    "generated_tokens",
    "flags",
    "error",
    "chain",
    "variant",
];

pub(super) fn write(run: &Recorded, folder: &Folder) -> Result<()> {
    let (mut metrics, mut groups) = (BTreeSet::new(), BTreeSet::new());
    run.each(|record| {
        metrics.extend(record.metrics().map(|(name, _)| name.clone()));
        groups.extend(record.groups.into_keys());
        Ok(())
    })?;
    let heads = FIRST.iter().map(|name| (*name).to_owned());
    let heads = heads.chain(metrics.iter().cloned()).chain(groups.iter().cloned());
    let heads = heads.chain(LAST.iter().map(|name| (*name).to_owned()));
    folder.add(FILE, &line(heads))?;
    run.each(|record| folder.add(FILE, &line(cells(&record, &metrics, &groups))))
}

fn cells(record: &Record, metrics: &BTreeSet<String>, groups: &BTreeSet<String>) -> Vec<String> {
    let status = match (record.failure(), record.own()) {
        (Some(_), _) => json!(ScoreStatus::Failed),
        (None, Some(own)) => json!(own.status),
        (None, None) => json!(ScoreStatus::Unscored),
    };
    let said = record.reply.as_ref().map_or("", |reply| &reply.text);
    let mut cells = vec![
        record.doc_id.to_string(),
        record.sample_id.clone(),
        plain(&status),
        plain(&json!(record.input)),
        plain(&record.target),
        record.answer().unwrap_or_default(),
        said.to_owned(),
    ];
    let values: BTreeMap<&String, f64> = record.metrics().collect();
    cells.extend(
        metrics
            .iter()
            .map(|name| values.get(name).map(|value| plain(&json!(value))).unwrap_or_default()),
    );
    cells.extend(
        groups
            .iter()
            .map(|name| record.groups.get(name).cloned().unwrap_or_default()),
    );
    cells.extend([
        record.latency_ms.to_string(),
        record.prompt_tokens.to_string(),
        record.generated_tokens.to_string(),
        record.flags.join(" "),
        record.failure().map_or_else(String::new, |error| error.message.clone()),
        record.chain.to_string(),
        record.variant.clone().unwrap_or_default(),
    ]);
    cells
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A line as RFC 4180 has it.
fn line(cells: impl IntoIterator<Item = String>) -> String {
    let quoted = |cell: String| match cell.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell,
    };
    let cells: Vec<String> = cells.into_iter().map(quoted).collect();
    cells.join(",") + "\r\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::store::score::{RecordedError, ScoreEntry};

    #[test]
    fn cells_are_quoted_where_they_must_be() {
        let of = |cells: &[&str]| line(cells.iter().map(|cell| (*cell).to_owned()));
        assert_eq!(of(&["a", "", "b c"]), "a,,b c\r\n");
        assert_eq!(
            of(&["a,b", "say \"x\"", "1\n2"]),
            "\"a,b\",\"say \"\"x\"\"\",\"1\n2\"\r\n"
        );
    }

    #[test]
    fn what_a_record_lacks_is_an_empty_cell() {
        let mut record = Record {
            target: json!({"a": 1}),
            error: Some(RecordedError {
                message: "no".to_owned(),
                ..RecordedError::default()
            }),
            ..Record::default()
        };
        record.score_by_task(ScoreEntry::of_score(plugin_api::Score::value("acc", 0.5)));
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let cells = cells(&record, &names(&["acc", "other"]), &names(&["level"]));
        assert_eq!(cells[2..10].join("|"), "failed|text|{\"a\":1}|||0.5||");
        assert_eq!((cells.len(), cells[14].as_str()), (17, "no"));
    }
}
