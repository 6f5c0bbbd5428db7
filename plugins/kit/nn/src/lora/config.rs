//! `adapter_config.json`, as PEFT writes it: the layers of a LoRA and its scale in each.

use super::refused;
use crate::{Error, Result};
use fancy_regex::Regex;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// The settings of a LoRA, with all defaults filled in.
pub(super) struct Config {
    path: PathBuf,
    rank: usize,
    alpha: f64,
    /// Patterns of module names with their own rank or alpha; the first match counts.
    rank_pattern: Vec<(Regex, String)>,
    ranks: Map<String, Value>,
    alpha_pattern: Vec<(Regex, String)>,
    alphas: Map<String, Value>,
    rank_stabilised: bool,
    targets: Targets,
    excluded: Targets,
    layers: Option<Vec<u64>>,
    layer_patterns: Vec<Regex>,
}

/// The target modules.
enum Targets {
    None,
    /// All linear layers but the head.
    AllLinear,
    /// Names that match as a whole.
    Pattern(Box<Regex>),
    /// Names, or their last parts.
    Names(Vec<String>),
}

#[derive(Deserialize)]
struct Published {
    peft_type: Option<String>,
    r: Option<usize>,
    lora_alpha: Option<f64>,
    rank_pattern: Option<Map<String, Value>>,
    alpha_pattern: Option<Map<String, Value>>,
    use_rslora: Option<bool>,
    target_modules: Option<OneOrMany<String>>,
    exclude_modules: Option<OneOrMany<String>>,
    layers_to_transform: Option<OneOrMany<u64>>,
    layers_pattern: Option<OneOrMany<String>>,
    init_lora_weights: Option<Value>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    fn list(self) -> Vec<T> {
        match self {
            OneOrMany::One(one) => vec![one],
            OneOrMany::Many(many) => many,
        }
    }
}

/// Settings that change what a LoRA computes and are not supported. An ordinary LoRA has none of them.
const UNKNOWN: [&str; 13] = [
    "use_dora",
    "lora_bias",
    "use_qalora",
    "use_bdlora",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "layer_replication",
    "trainable_token_indices",
    "target_parameters",
    "modules_to_save",
    "bias",
];

/// Initialisations that also change the base: such a LoRA fits only the changed base.
const OTHER_BASE: [&str; 5] = ["pissa", "olora", "corda", "loftq", "lora_ga"];

/// The largest rank that is accepted, far beyond any LoRA.
const MOST_RANK: usize = 65_536;

impl Config {
    pub fn read(path: &Path) -> Result<Config> {
        let published: Published = crate::read_json(path)?;
        published.settle(path)
    }

    /// The rank that a module's factors must have.
    pub fn rank(&self, module: &str) -> Result<usize> {
        let own = own(&self.rank_pattern, &self.ranks, module);
        let rank = own.map_or(Some(self.rank as u64), Value::as_u64);
        let fits = |rank: &usize| (1..=MOST_RANK).contains(rank);
        let rank = rank.and_then(|rank| usize::try_from(rank).ok()).filter(fits);
        let shown = || own.map_or(self.rank.to_string(), Value::to_string);
        rank.ok_or_else(|| {
            self.malformed(format!(
                "the rank of `{module}` is {}, expected 1 to {MOST_RANK}",
                shown()
            ))
        })
    }

    /// The factor of the product of a module's factors.
    pub fn scale(&self, module: &str) -> Result<f64> {
        let own = own(&self.alpha_pattern, &self.alphas, module);
        let alpha = own.map_or(Some(self.alpha), Value::as_f64);
        let Some(alpha) = alpha.filter(|alpha| alpha.is_finite()) else {
            return Err(self.malformed(format!("the alpha of `{module}` is not a number")));
        };
        let rank = self.rank(module)? as f64;
        Ok(alpha / if self.rank_stabilised { rank.sqrt() } else { rank })
    }

    /// Whether the LoRA is for a module of this name.
    pub fn is_for(&self, module: &str) -> bool {
        if self.excluded.has(module) || !self.targets.has(module) {
            return false;
        }
        let Some(layers) = &self.layers else {
            return true;
        };
        let number = match self.layer_patterns.is_empty() {
            true => first_number(module),
            false => self.layer_patterns.iter().find_map(|pattern| captured(pattern, module)),
        };
        number.is_some_and(|number| layers.contains(&number))
    }

    fn malformed(&self, reason: String) -> Error {
        Error::Malformed {
            path: self.path.clone(),
            reason,
        }
    }
}

impl Targets {
    fn has(&self, module: &str) -> bool {
        match self {
            Targets::None => false,
            Targets::AllLinear => module != "lm_head" && !module.ends_with(".lm_head"),
            Targets::Pattern(pattern) => fits(pattern, module),
            Targets::Names(names) => names.iter().any(|name| {
                let before = module.strip_suffix(name.as_str());
                before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
            }),
        }
    }
}

impl Published {
    fn settle(self, path: &Path) -> Result<Config> {
        if let Some(kind) = self.peft_type.filter(|kind| kind != "LORA") {
            return Err(refused(path, "peft_type", kind));
        }
        for setting in UNKNOWN {
            let off = match self.others.get(setting) {
                None | Some(Value::Null | Value::Bool(false)) => true,
                Some(Value::String(word)) => word.is_empty() || word == "none",
                Some(Value::Array(list)) => list.is_empty(),
                Some(Value::Object(table)) => table.is_empty(),
                Some(_) => false,
            };
            if !off {
                return Err(refused(path, setting, &self.others[setting]));
            }
        }
        if let Some(Value::String(way)) = &self.init_lora_weights
            && OTHER_BASE.iter().any(|known| way.starts_with(known))
        {
            return Err(refused(path, "init_lora_weights", way));
        }
        let malformed = |reason: String| Error::Malformed {
            path: path.to_owned(),
            reason,
        };
        let pattern =
            |text: &str| Regex::new(text).map_err(|why| malformed(format!("cannot parse the pattern `{text}`: {why}")));
        let whole = |text: &str| pattern(&format!("^(?:{text})$"));
        let keyed = |table: &Map<String, Value>| {
            let key = |key: &String| Ok((pattern(&format!(r"^(?:.*\.)?(?:{key})$"))?, key.clone()));
            table.keys().map(key).collect::<Result<Vec<_>>>()
        };
        let targets = |given: Option<OneOrMany<String>>| {
            Ok::<_, Error>(match given {
                None => Targets::None,
                Some(OneOrMany::One(word)) if word.eq_ignore_ascii_case("all-linear") => Targets::AllLinear,
                Some(OneOrMany::One(text)) if text.is_empty() => Targets::None,
                Some(OneOrMany::One(text)) => Targets::Pattern(Box::new(whole(&text)?)),
                Some(OneOrMany::Many(names)) => Targets::Names(names),
            })
        };
        let (ranks, alphas) = (
            self.rank_pattern.unwrap_or_default(),
            self.alpha_pattern.unwrap_or_default(),
        );
        let layer_pattern = |text: String| pattern(&format!(r"^(?:.*?\.)?(?:{text})\.(\d+)\."));
        let layer_patterns = self.layers_pattern.map(OneOrMany::list).unwrap_or_default();
        let config = Config {
            path: path.to_owned(),
            rank: self.r.unwrap_or(8),
            alpha: self.lora_alpha.unwrap_or(8.0),
            rank_pattern: keyed(&ranks)?,
            ranks,
            alpha_pattern: keyed(&alphas)?,
            alphas,
            rank_stabilised: self.use_rslora.unwrap_or(false),
            targets: targets(self.target_modules)?,
            excluded: targets(self.exclude_modules)?,
            layers: self
                .layers_to_transform
                .map(OneOrMany::list)
                .filter(|list| !list.is_empty()),
            layer_patterns: layer_patterns
                .into_iter()
                .filter(|text| !text.is_empty())
                .map(layer_pattern)
                .collect::<Result<_>>()?,
        };
        match config.targets {
            Targets::None => Err(config.malformed("`target_modules` names no layer".to_owned())),
            _ => Ok(config),
        }
    }
}

/// The value of the first pattern that matches a module.
fn own<'a>(patterns: &[(Regex, String)], values: &'a Map<String, Value>, module: &str) -> Option<&'a Value> {
    let (_, key) = patterns.iter().find(|(pattern, _)| fits(pattern, module))?;
    values.get(key)
}

/// If matching takes too long, the pattern does not match.
fn fits(pattern: &Regex, module: &str) -> bool {
    pattern.is_match(module).unwrap_or(false)
}

fn captured(pattern: &Regex, module: &str) -> Option<u64> {
    let found = pattern.captures(module).ok().flatten()?;
    found.get(1)?.as_str().parse().ok()
}

/// The number of a module's layer: the first numeric part of its name after two other parts.
fn first_number(module: &str) -> Option<u64> {
    let parts: Vec<&str> = module.split('.').collect();
    let inner = parts.get(2..parts.len().checked_sub(1)?)?;
    inner.iter().find_map(|part| part.parse().ok())
}
