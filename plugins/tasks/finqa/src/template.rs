//! The words around a sample, as a Jinja template that people can replace.
//!
//! A template may be a stranger's. It sees the example and nothing else, and its fuel is bounded, so that
//! an endless loop is an error.

use minijinja::value::{Serde, Value};
use minijinja::{Environment, Error as EngineError};
use plugin_api::{Code, Context, Error, Result, Settings};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

const BUILT_IN: &str = include_str!("prompt.jinja");
const NAME: &str = "prompt";
const FUEL: u64 = 2_000_000;
const LARGEST: u64 = 1 << 20;

/// A compiled template.
pub(crate) struct Template {
    engine: Environment<'static>,
    /// The sha256 of its text, which says what a run was asked with.
    pub hash: String,
}

impl Template {
    /// The template that the settings name, or the built-in one.
    pub fn load(settings: &Settings) -> Result<Template> {
        match settings.get::<PathBuf>("template")? {
            None => Template::new(BUILT_IN.to_owned(), None),
            Some(path) => Template::new(read(&path)?, Some(&path)),
        }
    }

    fn new(text: String, path: Option<&Path>) -> Result<Template> {
        let hash = Sha256::digest(text.as_bytes());
        let mut engine = Environment::new();
        engine.set_fuel(Some(FUEL));
        engine.add_template_owned(NAME, text).map_err(|why| {
            let of = path.map_or("built-in".to_owned(), |path| format!("`{}`", path.display()));
            failed(&format!("the template {of} can't be used"), &why)
        })?;
        Ok(Template {
            engine,
            hash: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }

    /// The text for these variables.
    pub fn render(&self, variables: impl Serialize) -> Result<String> {
        let template = self.engine.get_template(NAME);
        let rendered = template.and_then(|template| template.render(Value::from(Serde(variables))));
        rendered.map_err(|why| failed("the template can't be rendered", &why))
    }
}

fn read(path: &Path) -> Result<String> {
    let about = path
        .metadata()
        .with_context(|| format!("cannot open `{}`", path.display()));
    let about = about.map_err(|error| error.code(Code::MISSING))?;
    if !about.is_file() || about.len() > LARGEST {
        let message = format!("`{}` is no file of at most {LARGEST} bytes", path.display());
        return Err(Error::new(Code::SETTINGS, message));
    }
    std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))
}

fn failed(what: &str, why: &EngineError) -> Error {
    Error::new(Code::SETTINGS, what).cause(why.to_string())
}
