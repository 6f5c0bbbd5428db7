//! A JSON file: a list of rows, an object whose every field is a row, or an object that holds one of these.

use crate::bytes::{MOST_TEXT, read_text};
use crate::lines::{Lines, json_reason};
use crate::python;
use crate::row::{Place, Row, short};
use crate::source::Source;
use plugin_api::{Code, Error, Result};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::sync::Arc;

struct Items {
    path: Arc<PathBuf>,
    items: Vec<Value>,
}

/// The field that gets the name of a row, if the file is an object of rows.
const KEY: &str = "key";

/// Field names of the list of rows, for an object with several lists.
const USUAL_NAMES: [&str; 6] = ["data", "rows", "examples", "samples", "questions", "items"];

pub(crate) fn open(path: &Path, packed: bool) -> Result<Box<dyn Source>> {
    let text = read_text(path, packed, MOST_TEXT)?;
    let failed = |why: serde_json::Error| {
        let message = format!("`{}` is not JSON: {}", path.display(), json_reason(&why, false));
        Error::new(Code::DATA, message)
    };
    let items = match python::parse(&text) {
        Ok(Value::Array(items)) => items,
        Ok(Value::Object(fields)) if is_named_rows(&fields) => named(fields),
        Ok(Value::Object(fields)) => list_in(fields, path)?,
        Ok(_) => {
            let message = format!("`{}` holds a single value, expected a list of rows", path.display());
            return Err(Error::new(Code::DATA, message));
        }
        // Many files called `.json` are JSON lines.
        Err(why) => match first_line_is_a_row(&text) {
            true => return Ok(Box::new(Lines::of_text(path, text)?)),
            false => return Err(failed(why)),
        },
    };
    Ok(Box::new(Items {
        path: Arc::new(path.to_owned()),
        items,
    }))
}

fn is_named_rows(fields: &Map<String, Value>) -> bool {
    !fields.is_empty() && fields.values().all(Value::is_object)
}

/// The rows of an object of rows, in order. Each gets its name as `key`, unless it has a field `key`.
fn named(fields: Map<String, Value>) -> Vec<Value> {
    let rows = fields.into_iter().map(|(name, mut row)| {
        if let Some(row) = row.as_object_mut().filter(|row| !row.contains_key(KEY)) {
            row.insert(KEY.to_owned(), name.into());
        }
        row
    });
    rows.collect()
}

fn first_line_is_a_row(text: &[u8]) -> bool {
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    line.len() < text.len() && python::parse(line).is_ok_and(|row| row.is_object())
}

fn list_in(mut fields: Map<String, Value>, path: &Path) -> Result<Vec<Value>> {
    let lists: Vec<String> = fields
        .iter()
        .filter(|(_, value)| value.as_array().is_some_and(|items| items.iter().all(Value::is_object)))
        .map(|(name, _)| name.clone())
        .collect();
    let usual = USUAL_NAMES.iter().find(|name| lists.iter().any(|list| list == *name));
    let chosen = match (lists.as_slice(), usual) {
        ([only], _) => only.as_str(),
        (_, Some(usual)) => usual,
        ([], None) => {
            let mut objects = fields
                .values()
                .filter_map(Value::as_object)
                .filter(|object| is_named_rows(object));
            if let (Some(rows), None) = (objects.next(), objects.next()) {
                return Ok(named(rows.clone()));
            }
            let message = format!("`{}` holds an object without a list of rows", path.display());
            return Err(Error::new(Code::DATA, message).help("store the rows as a list of objects"));
        }
        (several, None) => {
            let names: Vec<_> = several.iter().map(|name| format!("`{}`", short(name))).collect();
            let message = format!("`{}` holds several lists: {}", path.display(), names.join(", "));
            return Err(Error::new(Code::DATA, message).help("keep one of them, or rename it to `data`"));
        }
    };
    match fields.swap_remove(chosen) {
        Some(Value::Array(items)) => Ok(items),
        _ => Ok(Vec::new()),
    }
}

impl Source for Items {
    fn len(&self) -> usize {
        self.items.len()
    }

    fn get(&self, index: usize) -> Result<Row> {
        Ok(Row::new(
            self.items[index].clone(),
            Place::Item(index + 1, self.path.clone()),
        ))
    }
}
