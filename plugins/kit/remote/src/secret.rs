//! Keys: where they come from, and how they are kept out of all output.

use plugin_api::{Code, Error, Result};
use regex::Regex;
use std::path::Path;
use std::sync::LazyLock;

/// Replaces a key in messages.
const HIDDEN: &str = "[key]";

/// Patterns of unknown keys: a server may repeat a key that another program sent.
static SHAPES: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    let shape = |pattern: &str, with| Regex::new(pattern).ok().map(|found| (found, with));
    let shapes = [
        shape(r"(?i)\b(bearer)\s+[A-Za-z0-9._~+/=-]{6,}", "$1 [key]"),
        shape(r"\bAIza[0-9A-Za-z_-]{20,}", HIDDEN),
        shape(r"\bAQ\.[0-9A-Za-z_-]{10,}", HIDDEN),
        shape(r"\bsk-[0-9A-Za-z_-]{8,}", HIDDEN),
        shape(r"(?i)\b((?:api_?)?key=)[^&\s]{6,}", "$1[key]"),
    ];
    shapes.into_iter().flatten().collect()
});

/// A key, which can be sent but not displayed.
#[derive(Clone)]
pub struct Secret {
    value: String,
    /// The name of its variable or file.
    pub source: String,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret(from `{}`)", self.source)
    }
}

impl Secret {
    /// A key from its text. Blanks around it are removed; a line break inside is an error.
    pub fn new(value: &str, source: &str) -> Result<Secret> {
        let value = value.trim();
        if value.is_empty() {
            let error = Error::new(Code::MISSING, format!("the key of `{source}` is empty"));
            return Err(error);
        }
        if value.chars().any(|letter| letter.is_control() || !letter.is_ascii()) {
            let error = Error::new(
                Code::SETTINGS,
                format!("the key of `{source}` holds a line break or another character that keys do not have"),
            );
            return Err(error.help("give the key alone, on one line"));
        }
        plugin_api::hide(value);
        Ok(Secret {
            value: value.to_owned(),
            source: source.to_owned(),
        })
    }

    /// The key in an environment variable, if it is set and not empty.
    pub fn from_env(name: &str) -> Result<Option<Secret>> {
        match std::env::var(name) {
            Ok(value) if value.trim().is_empty() => Ok(None),
            Ok(value) => Secret::new(&value, name).map(Some),
            Err(_) => Ok(None),
        }
    }

    /// The key in a file, which other users must not be able to read.
    pub fn from_file(path: &Path) -> Result<Secret> {
        use std::os::unix::fs::PermissionsExt;
        let shown = path.display().to_string();
        let missing = |why: std::io::Error| {
            Error::new(Code::MISSING, format!("cannot read the key file `{shown}`")).cause(why.to_string())
        };
        let mode = std::fs::metadata(path).map_err(missing)?.permissions().mode();
        if mode & 0o077 != 0 {
            let error = Error::new(
                Code::SETTINGS,
                format!("other users can read the key file `{shown}` (mode {:o})", mode & 0o777),
            );
            return Err(error.help(format!("run `chmod 600 {shown}`")));
        }
        Secret::new(&std::fs::read_to_string(path).map_err(missing)?, &shown)
    }

    pub(crate) fn expose(&self) -> &str {
        &self.value
    }
}

/// Removes all known keys and everything that looks like a key, for messages.
pub fn redact(text: &str) -> String {
    let mut text = redact_keys(text);
    for (shape, with) in SHAPES.iter() {
        if shape.is_match(&text) {
            text = shape.replace_all(&text, *with).into_owned();
        }
    }
    text
}

/// Removes all known keys, for answers, which may talk about things that look like keys.
pub fn redact_keys(text: &str) -> String {
    plugin_api::redacted(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_was_read_is_hidden_wherever_it_turns_up() {
        let secret = Secret::new(" planted-value-1 \n", "SOME_KEY").unwrap();
        assert_eq!(secret.expose(), "planted-value-1");
        assert_eq!(redact("a planted-value-1 b"), "a [key] b");
        assert_eq!(redact_keys("sk-abcdefghijk planted-value-1"), "sk-abcdefghijk [key]");
        assert_eq!(format!("{secret:?}"), "Secret(from `SOME_KEY`)");
    }

    #[test]
    fn what_looks_like_a_key_is_hidden_in_messages() {
        for text in [
            "AIzaSyA1234567890123456789012345",
            "AQ.Ab8RN6Jabcdefghij",
            "sk-proj-abcdefgh",
            "Authorization: Bearer abcdefg.hij",
            "https://x/y?key=abcdefgh&alt=sse",
        ] {
            let hidden = redact(text);
            assert!(
                hidden.contains("[key]") && !hidden.contains("abcdefg") && !hidden.contains("12345"),
                "{hidden}"
            );
        }
        assert_eq!(redact("the monkey=7"), "the monkey=7");
    }

    #[test]
    fn a_key_with_a_line_break_is_refused_and_not_shown() {
        let error = Secret::new("abc\ndef", "K").unwrap_err();
        assert!(!error.to_string().contains("abc") && error.to_string().contains("`K`"));
    }
}
