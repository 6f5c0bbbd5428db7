//! Settings from the command line: `-M key=value` for all adapters of a kind, `-M NAME:key=value` for one.

use crate::failure::{Failure, Result};
use crate::registry::Given;
use plugin_api::Kind;
use std::collections::BTreeMap;

/// `key=value` settings of a flag such as `-M`. `NAME:key=value` is for that adapter alone.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    all: BTreeMap<String, Given>,
    named: BTreeMap<String, BTreeMap<String, Given>>,
}

impl Flags {
    pub fn parse(flag: &str, texts: &[String]) -> Result<Flags> {
        let mut flags = Flags::default();
        let base = std::env::current_dir().unwrap_or_default();
        for text in texts {
            let Some((key, value)) = text.split_once('=') else {
                return Err(Failure::usage(format!("expected `{flag} KEY=VALUE`, got `{text}`")));
            };
            let given = Given {
                value: value.into(),
                base: base.clone(),
                place: flag.to_owned(),
            };
            match key.split_once(':') {
                Some((name, key)) => flags
                    .named
                    .entry(name.to_owned())
                    .or_default()
                    .insert(key.to_owned(), given),
                None => flags.all.insert(key.to_owned(), given),
            };
        }
        Ok(flags)
    }

    /// Lays these over settings from a configuration file.
    pub fn over(self, below: BTreeMap<String, Given>) -> Flags {
        let mut all = below;
        all.extend(self.all);
        Flags { all, ..self }
    }

    /// The settings for this adapter.
    pub fn of(&self, name: &str) -> BTreeMap<String, Given> {
        let mut given = self.all.clone();
        given.extend(self.named.get(name).cloned().unwrap_or_default());
        given
    }

    /// The settings given for this adapter by name, without those for all.
    pub fn for_name_alone(&self, name: &str) -> BTreeMap<String, Given> {
        self.named.get(name).cloned().unwrap_or_default()
    }

    /// The values of this key, as text.
    pub fn values_of(&self, key: &str) -> Vec<String> {
        let given = std::iter::once(&self.all).chain(self.named.values());
        let values = given.filter_map(|given| given.get(key)?.value.as_str().map(str::to_owned));
        values.collect()
    }

    /// An error if a setting is for an adapter that is not used.
    pub fn check_names(&self, kind: Kind, names: &[String]) -> Result<()> {
        match self.named.keys().find(|name| !names.contains(name)) {
            None => Ok(()),
            Some(name) => {
                let hint = crate::registry::nearest_hint(name, names.iter().map(String::as_str));
                Err(Failure::usage(format!(
                    "a setting is for the {kind} `{name}`, which this command does not use"
                ))
                .help(hint))
            }
        }
    }
}
