//! Keys of services: read from the environment, and kept out of every text that leaves the plugin.

use crate::redact::hide;
use crate::{Code, Error, Level, Result};
use std::fmt;

/// A key, as [`crate::Settings::secret`] reads it. It shows its variable's name and never its value.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    variable: String,
    value: String,
}

impl Secret {
    /// The environment variable that holds it.
    pub fn variable(&self) -> &str {
        &self.variable
    }

    /// The key itself, for the header of a request and nothing else.
    pub fn expose(&self) -> &str {
        &self.value
    }

    /// The key in the first of these variables that holds one.
    pub(crate) fn read(
        setting: &str,
        names: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Secret>> {
        let mut found: Option<Secret> = None;
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            if !is_variable_name(name) {
                // The setting may contain a key that someone typed, so the message doesn't repeat it.
                return Err(Error::new(
                    Code::SETTINGS,
                    format!("setting `{setting}` does not name an environment variable"),
                )
                .help(format!(
                    "put the key into a variable and give its name: `{setting}=NAME`"
                )));
            }
            let Some(value) = variable(name).map(|value| value.trim().to_owned()) else {
                continue;
            };
            if value.is_empty() {
                continue;
            }
            hide(&value);
            if value.chars().any(|c| c.is_control()) {
                return Err(Error::new(
                    Code::SETTINGS,
                    format!("the key in the environment variable `{name}` contains a line break"),
                ));
            }
            match &found {
                None => {
                    found = Some(Secret {
                        variable: name.to_owned(),
                        value,
                    });
                }
                Some(first) if first.value != value => {
                    let used = &first.variable;
                    crate::log(
                        Level::Warning,
                        &format!("`{used}` and `{name}` hold different keys; `{used}` is used"),
                    );
                }
                Some(_) => {}
            }
        }
        Ok(found)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret(${})", self.variable)
    }
}

/// Whether a text names an environment variable: capital letters, digits and underscores. Small letters are legal in
/// such names, but are refused: they reveal that a key was typed instead of a name.
pub fn is_variable_name(text: &str) -> bool {
    let fits = |letter: char| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_';
    !text.is_empty() && !text.starts_with(|first: char| first.is_ascii_digit()) && text.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::redacted;

    fn variables(name: &str) -> Option<String> {
        let value = match name {
            "FIRST_KEY" => " planted-key-1\n",
            "SECOND_KEY" => "planted-key-2",
            "EMPTY_KEY" => " ",
            "BROKEN_KEY" => "planted\nkey-3",
            _ => return None,
        };
        Some(value.to_owned())
    }

    #[track_caller]
    fn check(names: &str, expected: Option<(&str, &str)>) {
        let found = Secret::read("key_env", names, variables).unwrap();
        let found = found.as_ref().map(|key| (key.variable(), key.expose()));
        assert_eq!(found, expected, "{names}");
    }

    #[test]
    fn the_first_variable_that_holds_a_key_counts() {
        check("FIRST_KEY,SECOND_KEY", Some(("FIRST_KEY", "planted-key-1")));
        check("NO_KEY, EMPTY_KEY ,SECOND_KEY", Some(("SECOND_KEY", "planted-key-2")));
        check("NO_KEY", None);
        check("", None);
    }

    #[test]
    fn a_key_in_place_of_a_name_is_refused_and_not_repeated() {
        for typed in ["sk-live-123456", "AIzaSy0123456789", "1KEY"] {
            let error = Secret::read("key_env", typed, variables).unwrap_err();
            assert_eq!(error.code, Code::SETTINGS);
            assert!(!format!("{error:?}").contains(typed), "{error:?}");
        }
    }

    #[test]
    fn a_key_with_a_line_break_is_refused_and_not_repeated() {
        let error = Secret::read("key_env", "BROKEN_KEY", variables).unwrap_err();
        assert!(
            error.message.contains("BROKEN_KEY") && !error.message.contains("planted"),
            "{error}"
        );
    }

    #[test]
    fn a_key_that_was_read_is_hidden_everywhere() {
        let key = Secret::read("key_env", "SECOND_KEY", variables).unwrap().unwrap();
        assert_eq!(format!("{key:?}"), "Secret($SECOND_KEY)");
        assert_eq!(redacted("401 for planted-key-2, sorry"), "401 for [key], sorry");
        hide("planted-key-2-and-more");
        assert_eq!(redacted("planted-key-2-and-more planted-key-2"), "[key] [key]");
        hide("short");
        assert_eq!(redacted("a short key"), "a short key");
    }
}
