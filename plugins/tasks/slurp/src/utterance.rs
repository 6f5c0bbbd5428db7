//! One row of the data: an utterance with its labels, its recordings and what else is known of it.

use crate::scorer::{Entity, Labels};
use data::Row;
use plugin_api::Result;
use serde_json::Value;

/// Field names under which a row's labels may be, besides the row itself.
const LABEL_FIELDS: [&str; 2] = ["final", "target_obj"];
const HYPOTHESES_FIELDS: [&str; 5] = ["hypotheses", "asr_hypotheses", "nbest", "n_best", "candidates"];
const WORDS_FIELDS: [&str; 5] = ["text", "transcript", "hypothesis", "value", "sentence"];
const FILLER_FIELDS: [&str; 3] = ["filler", "filter", "value"];
const FILE_FIELDS: [&str; 2] = ["file", "filename"];
const RATIONALE_FIELDS: [&str; 2] = ["rationale", "rationale_text"];

/// The id of an utterance; derived rows may have another name for it.
pub(crate) fn id(row: &Row) -> Result<String> {
    let field = match row.at("slurp_id") {
        None if row.at("id").is_some() => "id",
        _ => "slurp_id",
    };
    Ok(row.word(field)?.into_owned())
}

/// The id of a row, or that of its utterance.
pub(crate) fn row_id(row: &Row) -> Result<String> {
    match row.at("id") {
        Some(_) => Ok(row.word("id")?.into_owned()),
        None => id(row),
    }
}

/// The expected labels. Fillers are built from the tokens in lower case, as in the official scorer.
pub fn labels(row: &Row) -> Result<Labels> {
    let nested = LABEL_FIELDS
        .iter()
        .find(|field| row.at(field).is_some_and(Value::is_object));
    let path = |name: &str| match nested {
        Some(field) => format!("{field}.{name}"),
        None => name.to_owned(),
    };
    let label = |name: &str| -> Result<String> {
        let text = row.text(&path(name))?;
        match text.trim().is_empty() {
            true => Err(row.wrong(&path(name), "is empty")),
            false => Ok(text.to_owned()),
        }
    };
    // Labels outside of the row may be one word for both, `alarm_set`.
    let intent = path("intent");
    if nested.is_some() && row.at(&path("scenario")).is_none() && row.at(&intent).is_some() {
        let words = row.text(&intent)?;
        let Some((scenario, action)) = words.split_once('_') else {
            return Err(row.wrong(&intent, format!("is `{words}`, expected a scenario, `_` and an action")));
        };
        let list = path("entities");
        let count = if row.at(&list).is_some() {
            row.list(&list)?.len()
        } else {
            0
        };
        let entities = (0..count).map(|index| entity(row, &format!("{list}.{index}")));
        return Ok(Labels {
            scenario: scenario.to_owned(),
            action: action.to_owned(),
            entities: entities.collect::<Result<_>>()?,
        });
    }
    let list = path("entities");
    let entities = 0..row.list(&list)?.len();
    Ok(Labels {
        scenario: label("scenario")?,
        action: label("action")?,
        entities: entities
            .map(|index| entity(row, &format!("{list}.{index}")))
            .collect::<Result<_>>()?,
    })
}

fn entity(row: &Row, path: &str) -> Result<Entity> {
    let kind = row.text(&format!("{path}.type"))?;
    for name in FILLER_FIELDS {
        let filler_path = format!("{path}.{name}");
        if row.at(&filler_path).is_some() {
            return Ok(Entity::new(kind, row.text(&filler_path)?));
        }
    }
    let span_path = format!("{path}.span");
    let mut filler = String::new();
    for (place, token) in row.list(&span_path)?.iter().enumerate() {
        let surface = token.as_u64().map(|index| format!("tokens.{index}.surface"));
        let Some(surface) = surface.filter(|surface| row.at(surface).is_some()) else {
            let why = format!("is {token}, expected the index of a token");
            return Err(row.wrong(&format!("{span_path}.{place}"), why));
        };
        if place > 0 {
            filler.push(' ');
        }
        filler.push_str(&row.text(&surface)?.to_lowercase());
    }
    if filler.trim().is_empty() {
        // The official scorer divides by the number of its words.
        return Err(row.wrong(&span_path, "names no words"));
    }
    Ok(Entity::new(kind, filler))
}

/// The transcript.
pub(crate) fn transcript(row: &Row) -> Result<&str> {
    for name in ["transcript", "text"] {
        if row.at(name).is_some() {
            return row.text(name);
        }
    }
    row.text("sentence")
}

/// The row's rationale.
pub(crate) fn rationale(row: &Row) -> Option<&str> {
    let mut found = RATIONALE_FIELDS.iter().filter_map(|field| row.at(field)?.as_str());
    found.find(|words| !words.trim().is_empty())
}

/// A rationale that may be an object, which is shown as JSON.
pub(crate) fn rationale_text(row: &Row) -> Option<String> {
    let objects = || {
        let mut found = RATIONALE_FIELDS.iter().filter_map(|field| row.at(field));
        found.find(|value| value.is_object()).map(dumps)
    };
    rationale(row).map(str::to_owned).or_else(objects)
}

/// JSON with the spacing of Python's `json.dumps`.
fn dumps(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let members = map
                .iter()
                .map(|(key, value)| format!("{}: {}", Value::from(key.as_str()), dumps(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(dumps).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// The names of its recordings' files: those in `recordings`, or that of a row that is a recording.
pub(crate) fn files(row: &Row) -> Result<Vec<&str>> {
    if row.at("recordings").is_some() {
        let indices = 0..row.list("recordings")?.len();
        let files = indices.map(|index| row.text(&format!("recordings.{index}.file")));
        return files.collect();
    }
    Ok(own_file(row).into_iter().collect())
}

/// The file of a row that is itself a recording.
pub(crate) fn own_file(row: &Row) -> Option<&str> {
    let named = FILE_FIELDS.iter().find_map(|field| row.at(field)?.as_str());
    let named = named.or_else(|| row.at("meta.filename")?.as_str());
    named.or_else(|| row.at("audio.path")?.as_str())
}

/// Embedded audio, as its index in the row's blobs.
pub(crate) fn own_audio(row: &Row) -> Option<usize> {
    let blob = row.at("audio.bytes.blob").or_else(|| row.at("audio.blob"))?.as_u64()?;
    usize::try_from(blob).ok().filter(|blob| *blob < row.blobs.len())
}

/// The hypotheses of speech recognition, most likely first: the recording's own if it has some, else the row's.
pub(crate) fn hypotheses(row: &Row) -> Vec<String> {
    let own = row.at("recordings.0").and_then(hypotheses_in);
    own.or_else(|| hypotheses_in(&row.value)).unwrap_or_default()
}

fn hypotheses_in(value: &Value) -> Option<Vec<String>> {
    let words = |item: &Value| -> Option<String> {
        let text = match item {
            Value::String(text) => text,
            other => WORDS_FIELDS.iter().find_map(|field| other.get(field)?.as_str())?,
        };
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    let lists = HYPOTHESES_FIELDS
        .iter()
        .filter_map(|field| value.get(field)?.as_array());
    lists
        .map(|list| list.iter().filter_map(words).collect::<Vec<_>>())
        .find(|found| !found.is_empty())
}

/// A file's name without folder and extension, since recordings are converted.
pub(crate) fn stem(file: &str) -> &str {
    let name = file.rsplit(['/', '\\']).next().unwrap_or(file);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}
