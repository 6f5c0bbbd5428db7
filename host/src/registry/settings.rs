//! Settings checked against the options that an adapter declares, and paths made absolute.

use super::{Given, nearest_hint};
use crate::failure::{Failure, Result};
use plugin_api::{AdapterNote, OptionSpec, OptionType, Settings, is_variable_name, named_folders};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Something that a setting names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file or folder of this machine.
    Local(PathBuf),
    /// A model or data set of the hub: `org/name`, with `@revision` if given.
    Hub(String),
}

/// Checked settings. Sources have yet to be turned into folders.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Checked {
    /// The values, defaults filled in.
    pub settings: Settings,
    /// Which of them name files, folders or hub ids. Data may be several, since some benchmarks have a repository per
    /// part.
    pub sources: BTreeMap<String, (OptionType, Vec<Source>)>,
}

/// Checks settings against the adapter's options.
pub fn check(given: &BTreeMap<String, Given>, note: &AdapterNote) -> Result<Checked> {
    let mut checked = Checked::default();
    let open = note.options.iter().any(|option| option.kind == OptionType::Open);
    for (name, given) in given {
        let declared = |option: &&OptionSpec| option.name == *name && option.kind != OptionType::Open;
        let Some(option) = note.options.iter().find(declared) else {
            if open {
                checked.settings.0.insert(name.clone(), given.value.clone());
                continue;
            }
            let message = format!(
                "{} `{}` has no setting `{name}` ({})",
                note.kind, note.name, given.place
            );
            let known = note.options.iter().map(|option| option.name.as_str());
            return Err(Failure::usage(message).help(nearest_hint(name, known)));
        };
        let value = typed(option, &given.value).map_err(|why| {
            let message = format!(
                "setting `{name}` of {} `{}` can't be used ({})",
                note.kind, note.name, given.place
            );
            Failure::usage(message).cause(why).help(describe(option))
        })?;
        checked.put(option, value, &given.base);
    }
    for option in &note.options {
        if checked.settings.0.contains_key(&option.name) || option.default.is_null() {
            continue;
        }
        checked.put(option, option.default.clone(), Path::new(""));
    }
    Ok(checked)
}

/// An error if a required setting is missing.
pub fn check_complete(settings: &Settings, note: &AdapterNote) -> Result<()> {
    let missing = |option: &&OptionSpec| option.required && settings.0.get(&option.name).is_none_or(Value::is_null);
    let Some(option) = note.options.iter().find(missing) else {
        return Ok(());
    };
    let flag = note.kind.word()[..1].to_uppercase();
    let message = format!(
        "{} `{}` needs the setting `{}`: {}",
        note.kind, note.name, option.name, option.help
    );
    let hint = format!(
        "give it with `-{flag} {}=…` or in the registry, or try `--demo`, which needs nothing",
        option.name
    );
    Err(Failure::missing(message).help(hint))
}

impl Checked {
    fn put(&mut self, option: &OptionSpec, value: Value, base: &Path) {
        let value = match (&value, option.kind) {
            (Value::String(text), OptionType::Path | OptionType::Weights | OptionType::Data) if !text.is_empty() => {
                let sources = sources(text, base, option.kind);
                let shown: Vec<Value> = sources.iter().map(|source| source.to_string().into()).collect();
                self.sources.insert(option.name.clone(), (option.kind, sources));
                match <[Value; 1]>::try_from(shown) {
                    Ok([one]) => one,
                    Err(several) => several.into(),
                }
            }
            (Value::Object(folders), OptionType::Folders) => {
                let name_of = |text: &Value| source(text.as_str().unwrap_or_default(), base, OptionType::Weights);
                let sources: Vec<Source> = folders.values().map(name_of).collect();
                let shown = sources.iter().map(|source| source.to_string().into());
                let named = folders.keys().cloned().zip(shown).collect();
                self.sources.insert(option.name.clone(), (option.kind, sources));
                Value::Object(named)
            }
            _ => value,
        };
        self.settings.0.insert(option.name.clone(), value);
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Local(path) => path.display().fmt(f),
            Source::Hub(id) => f.write_str(id),
        }
    }
}

/// What a text names. A text for data may name several things, separated by commas, unless there is a file of that
/// name.
fn sources(text: &str, base: &Path, kind: OptionType) -> Vec<Source> {
    let one = || vec![source(text, base, kind)];
    if kind != OptionType::Data || !text.contains(',') || base.join(text).exists() {
        return one();
    }
    let pieces = text.split(',').map(str::trim).filter(|piece| !piece.is_empty());
    let several: Vec<Source> = pieces.map(|piece| source(piece, base, kind)).collect();
    if several.is_empty() { one() } else { several }
}

/// What a text names: a path if it looks like one or exists, else a hub id.
fn source(text: &str, base: &Path, kind: OptionType) -> Source {
    if let Some(path) = expand_home(text) {
        return Source::Local(path);
    }
    let path = base.join(text);
    let plainly_a_path = kind == OptionType::Path || text.starts_with(['.', '/']) || path.exists();
    let id = text.split(['@', ':']).next().unwrap_or(text);
    let parts: Vec<&str> = id.split('/').collect();
    // A file inside a repository, unless it looks like a local file.
    let is_file = parts.len() > 2 && id.ends_with(".gguf") && !["models", "datasets"].contains(&parts[0]);
    let hub_like = (parts.len() == 2 || is_file) && parts.iter().all(|part| !part.is_empty());
    if plainly_a_path || !hub_like {
        return Source::Local(std::path::absolute(&path).unwrap_or(path));
    }
    Source::Hub(text.to_owned())
}

/// `~/…` as a path.
pub(super) fn expand_home(text: &str) -> Option<PathBuf> {
    let rest = text.strip_prefix("~/")?;
    Some(PathBuf::from(std::env::var_os("HOME")?).join(rest))
}

/// The value in the option's type. Text is parsed as that type, since flags are always text.
fn typed(option: &OptionSpec, value: &Value) -> std::result::Result<Value, String> {
    let expected = || format!("expected {}, got {value}", article(option.kind));
    let value = match (option.kind, value) {
        (OptionType::Unknown, value) => value.clone(),
        (OptionType::Integer, Value::Number(number)) if number.is_i64() || number.is_u64() => value.clone(),
        (OptionType::Integer, Value::String(text)) => {
            text.trim().parse::<i64>().map(Value::from).map_err(|_| expected())?
        }
        (OptionType::Number, Value::Number(_)) => value.clone(),
        (OptionType::Number, Value::String(text)) => {
            let number = text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
            number.map(Value::from).ok_or_else(expected)?
        }
        (OptionType::Flag, Value::Bool(_)) => value.clone(),
        (OptionType::Flag, Value::String(text)) => match text.trim() {
            "true" | "yes" | "on" | "1" => true.into(),
            "false" | "no" | "off" | "0" => false.into(),
            _ => return Err(expected()),
        },
        (OptionType::Folders, value) => {
            let named = named_folders(value)?.into_iter();
            Value::Object(named.map(|(name, folder)| (name, folder.into())).collect())
        }
        (OptionType::Weights | OptionType::Data, Value::String(text)) if text.trim().is_empty() => {
            return Err(expected());
        }
        // The message doesn't repeat the value: it may be the key itself.
        (OptionType::Secret, Value::String(text)) if text.split(',').all(|name| is_variable_name(name.trim())) => {
            value.clone()
        }
        (OptionType::Secret, _) => {
            return Err("expected the name of an environment variable that holds the key".to_owned());
        }
        (OptionType::Text | OptionType::Path | OptionType::Weights | OptionType::Data, Value::String(_)) => {
            value.clone()
        }
        _ => return Err(expected()),
    };
    if !option.allowed.is_empty() && !option.allowed.contains(&value) {
        let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let known: Vec<&str> = option.allowed.iter().filter_map(Value::as_str).collect();
        return Err(format!(
            "`{shown}` is not one of its values; {}",
            nearest_hint(&shown, known.into_iter())
        ));
    }
    Ok(value)
}

fn article(kind: OptionType) -> &'static str {
    match kind {
        OptionType::Integer => "a whole number",
        OptionType::Number => "a number",
        OptionType::Flag => "true or false",
        OptionType::Path => "a path",
        OptionType::Weights | OptionType::Data => "a path or a hub id",
        OptionType::Folders => "paths or hub ids by name",
        OptionType::Secret => "the name of an environment variable",
        OptionType::Open => "no value: it stands for settings of other names",
        OptionType::Text | OptionType::Unknown => "text",
    }
}

/// An option in a line: `rows (integer, default 4): help`.
pub fn describe(option: &OptionSpec) -> String {
    let mut kind = option.kind.word().to_owned();
    if !option.allowed.is_empty() {
        let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        kind = option.allowed.iter().map(shown).collect::<Vec<_>>().join("|");
    }
    let default = match &option.default {
        Value::Null if option.required => ", required".to_owned(),
        Value::Null => String::new(),
        Value::String(text) => format!(", default {text}"),
        other => format!(", default {other}"),
    };
    format!("{} ({kind}{default}): {}", option.name, option.help)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;
    use serde_json::json;

    fn note() -> AdapterNote {
        serde_json::from_value(json!({"kind": "model", "name": "m", "about": "", "options": [
            {"name": "rows", "type": "integer", "default": 4, "help": "rows together"},
            {"name": "dtype", "type": "text", "default": "auto", "allowed": ["auto", "fp32"], "help": "precision"},
            {"name": "warm", "type": "flag", "help": "warm up"},
            {"name": "share", "type": "number", "help": "a share"},
            {"name": "weights", "type": "weights", "required": true, "help": "a checkpoint"},
            {"name": "lora", "type": "folders", "help": "LoRAs by name"},
            {"name": "data", "type": "data", "help": "a data set"},
            {"name": "key_env", "type": "secret", "help": "the key"},
        ]}))
        .unwrap()
    }

    fn given(name: &str, value: Value) -> BTreeMap<String, Given> {
        let given = Given {
            value,
            base: "/base".into(),
            place: "-M".to_owned(),
        };
        BTreeMap::from([(name.to_owned(), given)])
    }

    #[track_caller]
    fn check_value(name: &str, text: &str, expected: Value) {
        let checked = check(&given(name, text.into()), &note()).unwrap();
        assert_eq!(checked.settings.0[name], expected);
    }

    #[track_caller]
    fn check_refused(name: &str, value: Value, words: &[&str]) {
        let failure = check(&given(name, value), &note()).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        for word in words {
            assert!(
                failure.render().contains(word),
                "`{word}` is not in: {}",
                failure.render()
            );
        }
    }

    #[test]
    fn text_from_flags_becomes_the_declared_type() {
        check_value("rows", "8", json!(8));
        check_value("warm", "yes", json!(true));
        check_value("share", "0.5", json!(0.5));
        check_value("dtype", "fp32", json!("fp32"));
        check_value("weights", "/models/x", json!("/models/x"));
        check_value("weights", "./x", json!("/base/x"));
        check_value("lora", "./x", json!({"x": "/base/x"}));
        check_value(
            "lora",
            "a=./x, b=/y,org/z",
            json!({"a": "/base/x", "b": "/y", "z": "org/z"}),
        );
    }

    #[test]
    fn an_org_and_a_name_are_a_hub_id_unless_such_a_folder_exists() {
        let checked = check(&given("weights", "Qwen/Qwen3-0.6B@main".into()), &note()).unwrap();
        assert_eq!(
            checked.sources["weights"].1,
            [Source::Hub("Qwen/Qwen3-0.6B@main".to_owned())]
        );
        for (text, hub) in [
            ("org/name:Q8_0", true),
            ("org/name@main:Q8_0", true),
            ("org/name/file.gguf", true),
            ("models/name/file.gguf", false),
            ("org/name/file", false),
        ] {
            let checked = check(&given("weights", text.into()), &note()).unwrap();
            let is_hub = checked.sources["weights"].1 == [Source::Hub(text.to_owned())];
            assert_eq!(is_hub, hub, "{text}");
        }
    }

    #[test]
    fn data_may_be_in_several_places_and_weights_in_one() {
        check_value(
            "data",
            "org/a, ./b,org/c@main",
            json!(["org/a", "/base/b", "org/c@main"]),
        );
        check_value("data", "org/a,", json!("org/a"));
        check_value("data", ",", json!("/base/,"));
        check_value("weights", "./a,b", json!("/base/a,b"));
    }

    #[test]
    fn named_folders_are_sources_each() {
        let table = json!({"a": "./x", "b": "org/name@main"});
        let checked = check(&given("lora", table), &note()).unwrap();
        let sources = [Source::Local("/base/x".into()), Source::Hub("org/name@main".to_owned())];
        assert_eq!(checked.sources["lora"], (OptionType::Folders, sources.to_vec()));
    }

    #[test]
    fn defaults_are_filled_in_and_what_is_missing_is_named() {
        let checked = check(&BTreeMap::new(), &note()).unwrap();
        assert_eq!(checked.settings.0["rows"], 4);
        let failure = check_complete(&checked.settings, &note()).unwrap_err();
        assert_eq!(failure.exit, Exit::Missing);
        assert!(failure.render().contains("`weights`: a checkpoint"));
        assert!(failure.render().contains("-M weights="));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_nearest_or_the_type() {
        check_refused("row", json!(1), &["has no setting `row`", "did you mean `rows`?"]);
        check_refused(
            "rows",
            json!("many"),
            &["`rows`", "expected a whole number", "rows (integer, default 4)"],
        );
        check_refused(
            "dtype",
            json!("fp23"),
            &["`fp23` is not one of its values", "did you mean `fp32`?"],
        );
        check_refused("warm", json!("perhaps"), &["true or false"]);
        check_value("key_env", "FIRST_KEY, SECOND_KEY", json!("FIRST_KEY, SECOND_KEY"));
        check_refused("key_env", json!("sk-planted"), &["the name of an environment variable"]);
        let failure = check(&given("key_env", "sk-planted".into()), &note()).unwrap_err();
        assert!(!failure.render().contains("planted"), "{}", failure.render());
        check_refused("weights", json!(7), &["a path or a hub id"]);
        check_refused("weights", json!(" "), &["a path or a hub id"]);
        check_refused("data", json!(""), &["a path or a hub id"]);
        check_refused("share", json!("NaN"), &["a number"]);
        check_refused("lora", json!("a=/x,a=/y"), &["the name `a` is taken"]);
        check_refused("lora", json!(7), &["NAME=PATH"]);
    }
}
