//! The tools that may be called: a `tools.toml`, which prompts show and calls are checked against.
//!
//! ```toml
//! [tools.calculator]
//! description = "Works out an arithmetic expression"
//!
//! [tools.calculator.arguments.expression]
//! type = "string"                          # the default
//! description = "For instance 3 * (4 + 5)"
//! required = true                          # the default
//! ```

use plugin_api::{Code, Context, Error, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    tools: BTreeMap<String, Tool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tool {
    description: String,
    #[serde(default)]
    arguments: BTreeMap<String, Argument>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Argument {
    #[serde(rename = "type", default = "text")]
    kind: String,
    #[serde(default)]
    description: String,
    #[serde(default = "yes")]
    required: bool,
}

fn text() -> String {
    "string".to_owned()
}

fn yes() -> bool {
    true
}

/// No catalogue is larger than this.
const LARGEST: u64 = 4 << 20;

/// The tools of a `tools.toml`, in the JSON schema shape that chat templates read.
pub(crate) fn read(path: &Path) -> Result<Vec<Value>> {
    let about = path
        .metadata()
        .with_context(|| format!("cannot open `{}`", path.display()));
    let about = about.map_err(|error| error.code(Code::MISSING))?;
    if !about.is_file() || about.len() > LARGEST {
        let message = format!("`{}` is not a file of at most {LARGEST} bytes", path.display());
        return Err(Error::new(Code::SETTINGS, message));
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    parse(&text).map_err(|why| {
        let message = format!("`{}` is not a catalogue of tools", path.display());
        let error = Error::new(Code::SETTINGS, message).cause(why.trim().to_owned());
        error.help("each tool is a table `[tools.NAME]` with a `description` and `arguments`")
    })
}

fn parse(text: &str) -> std::result::Result<Vec<Value>, String> {
    let written: Written = toml::from_str(text).map_err(|why| why.to_string())?;
    let tools = written.tools.into_iter().map(|(name, tool)| {
        let required: Vec<&String> = tool.arguments.iter().filter(|(_, of)| of.required).map(|(name, _)| name).collect();
        let properties = tool.arguments.iter().map(|(name, of)| (name.clone(), json!({ "type": of.kind, "description": of.description })));
        let properties: serde_json::Map<String, Value> = properties.collect();
        let parameters = json!({ "type": "object", "properties": properties, "required": required });
        json!({ "type": "function", "function": { "name": name, "description": tool.description, "parameters": parameters } })
    });
    Ok(tools.collect())
}

/// The name of a tool in the JSON schema shape.
pub(crate) fn name(tool: &Value) -> Option<&str> {
    tool.get("function").unwrap_or(tool).get("name")?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_catalogue_becomes_what_chat_templates_read() {
        let tools = parse("[tools.add]\ndescription = \"Adds\"\n[tools.add.arguments.a]\ntype = \"number\"\n[tools.add.arguments.b]\nrequired = false\n").unwrap();
        let expected = json!([{"type": "function", "function": {"name": "add", "description": "Adds", "parameters": {
            "type": "object", "properties": {"a": {"type": "number", "description": ""}, "b": {"type": "string", "description": ""}},
            "required": ["a"]}}}]);
        assert_eq!(Value::from(tools.clone()), expected);
        assert_eq!(name(&tools[0]), Some("add"));
        assert_eq!(parse("[tools]").unwrap().len(), 0);
    }

    #[test]
    fn what_is_none_is_told() {
        assert!(parse("").unwrap_err().contains("tools"));
        assert!(parse("[tools.add]").unwrap_err().contains("description"));
        assert!(
            parse("[tools.add]\ndescription = \"x\"\nargs = 3")
                .unwrap_err()
                .contains("args")
        );
        assert_eq!(read(Path::new("/nowhere.toml")).unwrap_err().code, Code::MISSING);
    }
}
