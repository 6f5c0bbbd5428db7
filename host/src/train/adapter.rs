//! The LoRA that training starts from: its folder's settings, and the flags that must agree with them.

use super::Options;
use crate::failure::{Failure, Result};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::path::Path;

/// Settings that come from the folder.
const OWN: [&str; 4] = ["r", "lora_alpha", "target_modules", "use_rslora"];

/// Refuses a flag that contradicts the folder. Returns a note if the folder names another base than the model's
/// weights.
pub fn check(options: &Options) -> Result<Option<String>> {
    let Some(folder) = options.given.text("adapter") else {
        return Ok(None);
    };
    let path = Path::new(&folder).join("adapter_config.json");
    // A missing or malformed file is refused by the plugin.
    let Some(config) = std::fs::read(&path)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
    else {
        return Ok(None);
    };
    let config: Map<String, Value> = config;
    for name in OWN {
        let (Some(wanted), Some(own)) = (options.given.get(name), config.get(name)) else {
            continue;
        };
        if !same(wanted, own) {
            let message = format!("`{name}` is {wanted}, and {own} in the LoRA `{folder}` that learning starts from");
            return Err(Failure::usage(message).help("leave it out: a LoRA keeps its own rank, alpha and targets"));
        }
    }
    let weights = options.model.as_deref().and_then(|model| {
        let settings = options.model_flags.of(model);
        Some(settings.get("weights")?.value.as_str()?.to_owned())
    });
    let base = config.get("base_model_name_or_path").and_then(Value::as_str);
    Ok(match (base, weights) {
        (Some(base), Some(weights)) if !base.is_empty() && last(base) != last(&weights) => Some(format!(
            "the LoRA `{folder}` was learnt over `{base}`, and now goes on over `{weights}`"
        )),
        _ => None,
    })
}

/// The name of a model: its folder's, or its repository's without the owner.
fn last(name: &str) -> &str {
    name.trim_end_matches('/').rsplit('/').next().unwrap_or(name)
}

/// Equal as numbers, or as lists in any order; one name is a list of one.
fn same(a: &Value, b: &Value) -> bool {
    fn names(value: &Value) -> BTreeSet<String> {
        match value {
            Value::Array(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            Value::String(name) => [name.clone()].into(),
            _ => BTreeSet::new(),
        }
    }
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ if a.is_array() || b.is_array() => names(a) == names(b),
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The note for a LoRA with these settings, given these flags.
    fn checked(config: Value, flags: &[(&str, Value)]) -> Result<Option<String>> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("adapter_config.json"), config.to_string()).unwrap();
        let mut options = Options::default();
        let adapter = folder.path().display().to_string();
        options.given.map.insert("adapter".to_owned(), adapter.into());
        for (name, value) in flags {
            options.given.put(name, value).unwrap();
        }
        check(&options)
    }

    #[test]
    fn a_flag_that_contradicts_the_lora_is_named() {
        let config = || json!({ "r": 8, "lora_alpha": 16, "target_modules": ["v_proj", "q_proj"] });
        assert_eq!(checked(config(), &[]).unwrap(), None);
        let same = [("lora_r", json!(8)), ("lora_target_modules", json!("q_proj,v_proj"))];
        assert_eq!(checked(config(), &same).unwrap(), None);
        let error = checked(config(), &[("lora_r", json!(4))]).unwrap_err().error.message;
        assert!(error.starts_with("`r` is 4, and 8 in the LoRA"), "{error}");
        assert!(checked(config(), &[("lora_target_modules", json!("q_proj"))]).is_err());
    }

    #[test]
    fn a_model_is_known_by_its_last_name() {
        assert_eq!(
            (last("Qwen/Qwen3-0.6B"), last("/models/Qwen3-0.6B/")),
            ("Qwen3-0.6B", "Qwen3-0.6B")
        );
    }
}
