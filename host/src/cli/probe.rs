//! `host ls models --probe`: what the servers behind the registry's models can do, found by effect.

use super::{Common, print, stop_on_signals};
use crate::catalog::Catalog;
use crate::failure::{Exit, Result};
use crate::registry::Given;
use plugin_api::{AdapterNote, Kind};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// How many seconds to wait for a server that does not answer.
const WAIT: u32 = 2;

/// Makes every model that knows the setting `probe`, with it switched on, and shows what its card says of its engine.
pub(super) fn probe(common: &Common) -> Result<Exit> {
    let stop = stop_on_signals();
    common.with_catalog(false, &stop, |catalog| {
        let mut found = Vec::new();
        for name in catalog.registry.names(Kind::Model) {
            let note = catalog.plugin_note(catalog.registry.adapter(Kind::Model, &name)?);
            let Some(note) = note.ok().filter(|note| has(note, "probe")) else {
                continue;
            };
            let mut line = json!({ "name": name });
            match engine(catalog, &note, &name) {
                Ok(engine) => line["engine"] = engine,
                Err(failure) => line["error"] = json!(failure.error),
            }
            if !common.json {
                print(&text(&line));
            }
            found.push(line);
        }
        if common.json {
            print(&(serde_json::to_string_pretty(&found).unwrap_or_default() + "\n"));
        }
        Ok(Exit::Ok)
    })
}

fn has(note: &AdapterNote, name: &str) -> bool {
    note.options.iter().any(|option| option.name == name)
}

fn engine(catalog: &Catalog, note: &AdapterNote, name: &str) -> Result<Value> {
    let mut given = BTreeMap::new();
    for (option, value) in [("probe", json!("on")), ("wait_for_engine", json!(WAIT))] {
        let value = Given {
            value,
            base: PathBuf::new(),
            place: "`--probe`".to_owned(),
        };
        if has(note, option) {
            given.insert(option.to_owned(), value);
        }
    }
    let (client, _made) = catalog.resolve(Kind::Model, name, &given)?.model()?;
    Ok(client.card()?.other.remove("engine").unwrap_or_default())
}

/// A server for people: who it is, how options are scored, and what each probe saw.
fn text(line: &Value) -> String {
    let word = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        other => other.to_string(),
    };
    let name = word(&line["name"]);
    if let Some(error) = line.get("error") {
        let causes = error["causes"].as_array().into_iter().flatten().map(word);
        let all: Vec<String> = [word(&error["message"])].into_iter().chain(causes).collect();
        return format!("{name}\n  {}\n", all.join(": "));
    }
    let engine = &line["engine"];
    let version = engine["version"].as_str().unwrap_or("of no known version");
    let mut text = format!(
        "{name}\n  {} {version}, model `{}`\n",
        word(&engine["kind"]),
        word(&engine["model"])
    );
    text += &format!("  options: {}\n", word(&engine["choices"]));
    for (probe, seen) in engine["capabilities"]["seen"].as_object().into_iter().flatten() {
        text += &format!("  {probe}: {}\n", word(seen));
    }
    if let Some(repeatable) = engine["capabilities"]["repeatable"].as_str() {
        text += &format!("  repeatable: {repeatable}\n");
    }
    text
}
