//! The prompt around a sample, a Jinja template that `-T template=FILE` replaces.
//!
//! Templates are not trusted: they see only the task's variables, and have limited fuel, so that an endless loop is an
//! error. The decision a newcomer would question: this is not part of `text`, which renders the chat templates of
//! models; otherwise every task would be built with a tokenizer.
//!
//! ```
//! use template::Template;
//!
//! let template = Template::load(&plugin_api::Settings::default(), "How many {{ what }}?").unwrap();
//! assert_eq!(template.render(serde_json::json!({"what": "wrens"})).unwrap(), "How many wrens?");
//! ```

mod clip;

pub use clip::{CLIP, unmarked, with_clip};

use minijinja::value::{Serde, Value};
use minijinja::{Environment, Error as EngineError};
use plugin_api::{Code, Context, Error, Result, Settings};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

const NAME: &str = "prompt";
const FUEL: u64 = 2_000_000;
const LARGEST: u64 = 1 << 20;

/// A compiled template.
pub struct Template {
    engine: Environment<'static>,
    /// The sha256 of its text, which records what a run was asked with.
    pub hash: String,
}

impl Template {
    /// The template of the setting `template`, or the built-in one.
    pub fn load(settings: &Settings, built_in: &str) -> Result<Template> {
        match settings.get::<PathBuf>("template")? {
            None => Template::new(built_in.to_owned(), None),
            Some(path) => Template::new(read(&path)?, Some(&path)),
        }
    }

    fn new(text: String, path: Option<&Path>) -> Result<Template> {
        let hash = Sha256::digest(text.as_bytes());
        let mut engine = Environment::new();
        engine.set_fuel(Some(FUEL));
        engine.add_template_owned(NAME, text).map_err(|why| {
            let of = path.map_or("built-in".to_owned(), |path| format!("`{}`", path.display()));
            failed(&format!("cannot use the template {of}"), &why)
        })?;
        Ok(Template {
            engine,
            hash: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }

    /// The rendered text.
    pub fn render(&self, variables: impl Serialize) -> Result<String> {
        let template = self.engine.get_template(NAME);
        let rendered = template.and_then(|template| template.render(Value::from(Serde(variables))));
        rendered.map_err(|why| failed("cannot render the template", &why))
    }
}

fn read(path: &Path) -> Result<String> {
    let about = path
        .metadata()
        .with_context(|| format!("cannot open `{}`", path.display()));
    let about = about.map_err(|error| error.code(Code::MISSING))?;
    if !about.is_file() || about.len() > LARGEST {
        let message = format!("`{}` is not a file of at most {LARGEST} bytes", path.display());
        return Err(Error::new(Code::SETTINGS, message));
    }
    std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))
}

fn failed(what: &str, why: &EngineError) -> Error {
    Error::new(Code::SETTINGS, what).cause(why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn load(text: &str) -> Result<Template> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own.jinja");
        std::fs::write(&path, text).unwrap();
        Template::load(
            &serde_json::from_value(json!({ "template": path })).unwrap(),
            "built in",
        )
    }

    #[track_caller]
    fn check(text: &str, expected: std::result::Result<&str, &str>) {
        let rendered = load(text).and_then(|template| template.render(json!({"a": "x"})));
        match (rendered, expected) {
            (Ok(text), Ok(expected)) => assert_eq!(text, expected),
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
            (found, _) => panic!("{text}: {found:?}"),
        }
    }

    #[test]
    fn a_file_replaces_the_built_in_words_and_may_be_wrong() {
        check("{{ a }}{{ unknown }}", Ok("x"));
        check("{% if %}", Err("cannot use"));
        check("{{ a | no_such_filter }}", Err("cannot"));
        check(
            "{% for a in range(9999) %}{% for b in range(9999) %}.{% endfor %}{% endfor %}",
            Err("cannot render"),
        );
        check(&"x".repeat(LARGEST as usize + 1), Err("is not a file of at most"));
    }

    #[test]
    fn the_hash_is_that_of_the_text() {
        let hash = |text| load(text).unwrap().hash;
        assert_eq!(
            hash("a"),
            "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
        );
        assert_ne!(hash("a"), hash("b"));
    }
}
