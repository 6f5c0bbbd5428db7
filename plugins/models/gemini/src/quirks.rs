//! What single models of the service accept. It is data, so that a new model needs no new program.

use plugin_api::{Code, Error, Result};
use serde::Deserialize;
use std::path::Path;

const SHIPPED: &str = include_str!("../quirks.toml");

/// One model, or several whose names begin alike.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quirks {
    name: String,
    /// Levels of thinking, the lowest first, or `budget`.
    #[serde(default)]
    pub thinking: Vec<String>,
    #[serde(default)]
    pub least_budget: u32,
    #[serde(default)]
    ignores: Vec<String>,
    #[serde(default)]
    refuses: Vec<String>,
    #[serde(default)]
    pub prefill: bool,
}

impl Quirks {
    /// The entry of a model; the user's own entries come before the shipped ones.
    pub fn of(model: &str, own: Option<&Path>) -> Result<Quirks> {
        #[derive(Deserialize)]
        struct List {
            #[serde(default)]
            model: Vec<Quirks>,
        }
        let read = |text: &str, place: &str| -> Result<Vec<Quirks>> {
            let list = toml::from_str::<List>(text);
            list.map(|list| list.model).map_err(|why| {
                Error::new(Code::SETTINGS, format!("cannot read the quirks in `{place}`")).cause(why.to_string())
            })
        };
        let mut all = Vec::new();
        if let Some(path) = own {
            let place = path.display().to_string();
            let text = std::fs::read_to_string(path).map_err(|why| {
                Error::new(Code::SETTINGS, format!("cannot read the quirks in `{place}`")).cause(why.to_string())
            })?;
            all.extend(read(&text, &place)?);
        }
        all.extend(read(SHIPPED, "the program")?);
        let fits = |entry: &Quirks| match entry.name.strip_suffix('*') {
            Some(start) => model.starts_with(start),
            None => model == entry.name,
        };
        Ok(all.into_iter().find(fits).unwrap_or_default())
    }

    pub fn ignores(&self, setting: &str) -> bool {
        self.ignores.iter().any(|name| name == setting)
    }

    pub fn refuses(&self, setting: &str) -> bool {
        self.refuses.iter().any(|name| name == setting)
    }

    /// Whether thinking is set by a number of tokens.
    pub fn by_budget(&self) -> bool {
        self.thinking.iter().any(|level| level == "budget")
    }

    /// Whether reasoning can be switched off.
    pub fn can_rest(&self) -> bool {
        self.thinking.iter().any(|level| level == "MINIMAL") || (self.by_budget() && self.least_budget == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_found_by_their_names() {
        let of = |name| Quirks::of(name, None).unwrap();
        assert!(of("gemini-3.8-flash").ignores("temperature") && !of("gemini-3.8-flash").can_rest());
        assert!(of("gemini-3.5-flash-lite").can_rest());
        assert!(
            of("gemini-2.5-flash").by_budget() && of("gemini-2.5-flash").can_rest() && !of("gemini-2.5-pro").can_rest()
        );
        assert_eq!(of("gemma-9").thinking, Vec::<String>::new());
    }

    #[test]
    fn the_users_own_come_first() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("q.toml");
        std::fs::write(
            &file,
            "[[model]]\nname = \"gemini-3.8-flash\"\nthinking = [\"MINIMAL\"]\n",
        )
        .unwrap();
        assert!(Quirks::of("gemini-3.8-flash", Some(&file)).unwrap().can_rest());
        std::fs::write(&file, "[[model]]\nnmae = \"x\"\n").unwrap();
        assert!(Quirks::of("x", Some(&file)).unwrap_err().to_string().contains("nmae"));
    }
}
