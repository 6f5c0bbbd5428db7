//! Which modules have factors, by PEFT's rules.

use crate::LoraSettings;
use fancy_regex::Regex;
use plugin_api::{Code, Error, Result};
use serde_json::Value;
use std::collections::BTreeMap;

/// The parsed settings of a LoRA.
pub(crate) struct Targets {
    wanted: Modules,
    excluded: Modules,
    layers: Option<Vec<u64>>,
    layer_patterns: Vec<Regex>,
    ranks: Vec<(Regex, usize)>,
    alphas: Vec<(Regex, f64)>,
    rank: usize,
    alpha: f64,
    rank_stabilised: bool,
    /// Modules that are learnt themselves.
    whole: Vec<String>,
}

enum Modules {
    None,
    AllLinear,
    Pattern(Box<Regex>),
    Names(Vec<String>),
}

fn refused(what: &str, got: impl std::fmt::Display) -> Error {
    Error::new(Code::SETTINGS, format!("setting `{what}` is {got}"))
}

fn pattern(what: &str, text: &str) -> Result<Regex> {
    Regex::new(text)
        .map_err(|why| refused(what, format!("`{text}`, which is not a regular expression")).cause(why.to_string()))
}

impl Modules {
    fn read(what: &str, value: &Value) -> Result<Modules> {
        let names = |text: &str| -> Vec<String> { text.split(',').map(|name| name.trim().to_owned()).collect() };
        match value {
            Value::Null => Ok(Modules::None),
            Value::String(text) if text.is_empty() => Ok(Modules::None),
            Value::String(text) if text.eq_ignore_ascii_case("all-linear") => Ok(Modules::AllLinear),
            // A list, in the spelling of the command line.
            Value::String(text) if plain_list(text) => Ok(Modules::Names(names(text))),
            Value::String(text) => Ok(Modules::Pattern(Box::new(pattern(what, &format!("^(?:{text})$"))?))),
            Value::Array(list) => {
                let name = |name: &Value| name.as_str().map(str::to_owned);
                let names: Option<Vec<String>> = list.iter().map(name).collect();
                let names = names.ok_or_else(|| refused(what, "a list with something other than names"))?;
                match names.is_empty() {
                    true => Ok(Modules::None),
                    false => Ok(Modules::Names(names)),
                }
            }
            other => Err(refused(what, format!("{other}, expected names or a pattern"))),
        }
    }

    fn has(&self, module: &str) -> bool {
        match self {
            Modules::None => false,
            Modules::AllLinear => true,
            Modules::Pattern(pattern) => pattern.is_match(module).unwrap_or(false),
            Modules::Names(names) => names.iter().any(|name| is_named(module, name)),
        }
    }
}

/// Whether the text is names separated by commas, not a pattern.
fn plain_list(text: &str) -> bool {
    text.contains(',') && text.chars().all(|c| c.is_alphanumeric() || "_.,- ".contains(c))
}

/// Whether a module has this name, or ends in a dot and this name.
fn is_named(module: &str, name: &str) -> bool {
    module == name || module.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'))
}

impl Targets {
    pub fn read(settings: &LoraSettings) -> Result<Targets> {
        if settings.r == 0 {
            return Err(refused("lora_r", "0, expected 1 or more"));
        }
        if !(0.0..1.0).contains(&settings.lora_dropout) {
            return Err(refused(
                "lora_dropout",
                format!("{}, expected 0 to below 1", settings.lora_dropout),
            ));
        }
        if let Some((name, _)) = settings.rank_pattern.iter().find(|(_, rank)| **rank == 0) {
            return Err(refused("rank_pattern", format!("0 for `{name}`, expected 1 or more")));
        }
        if !["none", "all", "lora_only"].contains(&settings.bias.as_str()) {
            return Err(refused(
                "lora_bias",
                format!("`{}`, expected none, all or lora_only", settings.bias),
            ));
        }
        let wanted = match Modules::read("lora_target_modules", &settings.target_modules)? {
            // The reference's default for all families that are supported here.
            Modules::None => Modules::Names(vec!["q_proj".to_owned(), "v_proj".to_owned()]),
            wanted => wanted,
        };
        let layers = match &settings.layers_to_transform {
            Value::Null => None,
            Value::Number(number) => number.as_u64().map(|number| vec![number]),
            Value::Array(list) if list.is_empty() => None,
            Value::Array(list) => list.iter().map(Value::as_u64).collect(),
            other => return Err(refused("layers_to_transform", format!("{other}, expected numbers"))),
        };
        // PEFT would not load the folder.
        if layers.is_some() && !matches!(wanted, Modules::Names(_)) {
            let got = format!(
                "{}, expected names beside `layers_to_transform`",
                settings.target_modules
            );
            return Err(refused("lora_target_modules", got));
        }
        let texts: Vec<String> = match &settings.layers_pattern {
            Value::Null => Vec::new(),
            Value::String(text) if text.is_empty() => Vec::new(),
            Value::String(text) => vec![text.clone()],
            Value::Array(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            other => return Err(refused("layers_pattern", format!("{other}, expected a name"))),
        };
        let layer_patterns = texts
            .iter()
            .map(|text| pattern("layers_pattern", &format!(r"^.*\.(?:{text})\.(\d+)\.")))
            .collect::<Result<_>>()?;
        Ok(Targets {
            wanted,
            excluded: Modules::read("exclude_modules", &settings.exclude_modules)?,
            layers,
            layer_patterns,
            ranks: keyed("rank_pattern", &settings.rank_pattern)?,
            alphas: keyed("alpha_pattern", &settings.alpha_pattern)?,
            rank: settings.r,
            alpha: settings.lora_alpha,
            rank_stabilised: settings.use_rslora,
            whole: settings.modules_to_save.clone().unwrap_or_default(),
        })
    }

    /// Whether a linear layer of this name has factors. The head has them only if it is named.
    pub fn has(&self, module: &str, is_head: bool) -> bool {
        if self.excluded.has(module) || !self.wanted.has(module) || self.is_whole(module) {
            return false;
        }
        if is_head && matches!(self.wanted, Modules::AllLinear) {
            return false;
        }
        let Some(layers) = &self.layers else { return true };
        let number = match self.layer_patterns.is_empty() {
            true => first_number(module),
            false => self.layer_patterns.iter().find_map(|pattern| captured(pattern, module)),
        };
        number.is_some_and(|number| layers.contains(&number))
    }

    /// The names of a list that match no module, or the pattern if there are no modules.
    pub fn without_a_layer(&self, hit: &[String]) -> Vec<String> {
        match &self.wanted {
            Modules::Names(names) => names
                .iter()
                .filter(|name| !hit.iter().any(|module| is_named(module, name)))
                .cloned()
                .collect(),
            Modules::Pattern(pattern) if hit.is_empty() => {
                let text = pattern.as_str();
                let own = text.strip_prefix("^(?:").and_then(|text| text.strip_suffix(")$"));
                vec![own.unwrap_or(text).to_owned()]
            }
            Modules::AllLinear if hit.is_empty() => vec!["all-linear".to_owned()],
            _ => Vec::new(),
        }
    }

    /// Whether a module of this name is learnt itself.
    pub fn is_whole(&self, module: &str) -> bool {
        self.whole.iter().any(|name| is_named(module, name))
    }

    /// The modules that are to be learnt whole and are none of these.
    pub fn whole_without(&self, modules: &[String]) -> Vec<String> {
        let there = |name: &&String| !modules.iter().any(|module| is_named(module, name));
        self.whole.iter().filter(there).cloned().collect()
    }

    pub fn rank(&self, module: &str) -> usize {
        own(&self.ranks, module).unwrap_or(self.rank)
    }

    pub fn scale(&self, module: &str) -> f64 {
        let alpha = own(&self.alphas, module).unwrap_or(self.alpha);
        let rank = self.rank(module) as f64;
        alpha / if self.rank_stabilised { rank.sqrt() } else { rank }
    }
}

fn keyed<T: Copy>(what: &str, values: &BTreeMap<String, T>) -> Result<Vec<(Regex, T)>> {
    let one = |(text, value): (&String, &T)| Ok((pattern(what, &format!(r"^(?:.*\.)?(?:{text})$"))?, *value));
    values.iter().map(one).collect()
}

fn own<T: Copy>(patterns: &[(Regex, T)], module: &str) -> Option<T> {
    let found = patterns
        .iter()
        .find(|(pattern, _)| pattern.is_match(module).unwrap_or(false));
    found.map(|(_, value)| *value)
}

fn captured(pattern: &Regex, module: &str) -> Option<u64> {
    let found = pattern.captures(module).ok().flatten()?;
    found.get(1)?.as_str().parse().ok()
}

/// The number of a module's layer: the last numeric part of its name after two other parts.
fn first_number(module: &str) -> Option<u64> {
    let parts: Vec<&str> = module.split('.').collect();
    let inner = parts.get(2..parts.len().checked_sub(1)?)?;
    inner.iter().rev().find_map(|part| part.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(settings: Value, module: &str, expected: bool) {
        let settings: LoraSettings = serde_json::from_value(settings).expect("settings");
        let targets = Targets::read(&settings).expect("targets");
        assert_eq!(targets.has(module, module.ends_with("lm_head")), expected, "{module}");
    }

    #[test]
    fn modules_are_chosen_as_peft_chooses_them() {
        let q = "model.layers.1.self_attn.q_proj";
        check(json!({ "target_modules": ["q_proj"] }), q, true);
        check(json!({ "target_modules": ["proj"] }), q, false);
        check(json!({ "target_modules": "q_proj,v_proj" }), q, true);
        check(json!({ "target_modules": ".*self_attn.*" }), q, true);
        check(json!({ "target_modules": "self_attn" }), q, false);
        check(json!({ "target_modules": "all-linear" }), q, true);
        check(json!({ "target_modules": "all-linear" }), "lm_head", false);
        check(json!({ "target_modules": ["lm_head"] }), "lm_head", true);
        check(
            json!({ "target_modules": ["q_proj"], "exclude_modules": "model.layers.1.*" }),
            q,
            false,
        );
        check(
            json!({ "target_modules": ["q_proj"], "layers_to_transform": 1 }),
            q,
            true,
        );
        check(
            json!({ "target_modules": ["q_proj"], "layers_to_transform": [0, 2] }),
            q,
            false,
        );
        check(
            json!({ "target_modules": ["q_proj"], "layers_to_transform": [1], "layers_pattern": "blocks" }),
            q,
            false,
        );
        check(json!({}), q, true);
        check(json!({}), "model.layers.1.self_attn.k_proj", false);
    }

    #[test]
    fn layers_are_chosen_by_number_among_names_only() {
        for targets in ["all-linear", ".*q_proj"] {
            let settings = json!({ "target_modules": targets, "layers_to_transform": [1] });
            let settings: LoraSettings = serde_json::from_value(settings).expect("settings");
            let error = Targets::read(&settings).err().expect("PEFT refuses it");
            assert!(error.message.contains(targets), "{error}");
        }
    }

    #[test]
    fn patterns_give_ranks_and_scales() {
        let settings = json!({
            "r": 16, "lora_alpha": 32, "rank_pattern": { "q_proj": 4 }, "alpha_pattern": { "layers.0.self_attn.q_proj": 2 },
        });
        let mut settings: LoraSettings = serde_json::from_value(settings).expect("settings");
        let targets = Targets::read(&settings).expect("targets");
        let name = |layer: usize, name: &str| format!("model.layers.{layer}.self_attn.{name}");
        assert_eq!(
            (targets.rank(&name(0, "q_proj")), targets.scale(&name(0, "q_proj"))),
            (4, 0.5)
        );
        assert_eq!(
            (targets.rank(&name(1, "q_proj")), targets.scale(&name(1, "q_proj"))),
            (4, 8.0)
        );
        assert_eq!(
            (targets.rank(&name(1, "v_proj")), targets.scale(&name(1, "v_proj"))),
            (16, 2.0)
        );
        settings.use_rslora = true;
        let targets = Targets::read(&settings).expect("targets");
        assert_eq!(targets.scale(&name(1, "v_proj")), 8.0);
    }
}
