//! What a check found, as lines for people and as JSON for programs.

use plugin_api::{Code, Error};
use serde::Serialize;

/// The outcome of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Not wrong, but worth a look.
    Warning,
    /// Not possible here.
    Skipped,
    /// Wrong: the plugin can't be relied upon.
    Failed,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// Its subject: `file`, `load`, or an adapter such as `model echo`.
    pub of: String,
    /// What was checked.
    pub name: String,
    /// How it came out.
    pub verdict: Verdict,
    /// What was found.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub found: String,
    /// The way out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// All checks of one plugin.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Report {
    /// The file.
    pub file: String,
    /// The plugin's name and version, once its note could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// The checks in the order in which they were made.
    pub checks: Vec<Check>,
}

impl Report {
    /// The number of checks with this outcome.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.checks.iter().filter(|check| check.verdict == verdict).count()
    }

    /// True when nothing failed.
    pub fn passed(&self) -> bool {
        self.count(Verdict::Failed) == 0
    }

    /// The text for people: a line a check, then the sum.
    pub fn render(&self) -> String {
        let mut text = match &self.plugin {
            Some(plugin) => format!("{plugin} in `{}`\n", self.file),
            None => format!("`{}`\n", self.file),
        };
        let mut of = "";
        for check in &self.checks {
            if check.of != of {
                of = &check.of;
                text.push_str(&format!("\n{of}\n"));
            }
            let word = match check.verdict {
                Verdict::Ok => "ok",
                Verdict::Warning => "warning",
                Verdict::Skipped => "skipped",
                Verdict::Failed => "FAILED",
            };
            text.push_str(&format!("  {word:<8} {}", check.name));
            if !check.found.is_empty() {
                text.push_str(&format!(": {}", check.found));
            }
            text.push('\n');
            if let Some(hint) = &check.hint {
                text.push_str(&format!("           hint: {hint}\n"));
            }
        }
        let [ok, warnings, skipped, failed] =
            [Verdict::Ok, Verdict::Warning, Verdict::Skipped, Verdict::Failed].map(|verdict| self.count(verdict));
        let sum = if failed == 0 { "passed" } else { "FAILED" };
        text.push_str(&format!(
            "\n{sum}: {ok} ok, {warnings} warnings, {skipped} skipped, {failed} failed\n"
        ));
        text
    }

    /// The report for programs.
    pub fn to_json(&self) -> serde_json::Value {
        let mut json = serde_json::to_value(self).unwrap_or_default();
        json["passed"] = self.passed().into();
        json
    }

    /// Runs a check and keeps its findings. True if it found nothing wrong.
    pub(super) fn check(&mut self, of: &str, name: &str, make: impl FnOnce() -> Outcome) -> bool {
        let (verdict, found, hint) = match make() {
            Ok(found) => (Verdict::Ok, found, None),
            Err(finding) => (finding.verdict, finding.found, finding.hint),
        };
        self.checks.push(Check {
            of: of.to_owned(),
            name: name.to_owned(),
            verdict,
            found: shortened(found),
            hint,
        });
        verdict != Verdict::Failed
    }
}

/// The result of a check: a remark if all is well, or the fault.
pub(super) type Outcome = Result<String, Finding>;

/// A fault.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Finding {
    verdict: Verdict,
    found: String,
    hint: Option<String>,
}

impl Finding {
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

pub(super) fn failed(found: impl Into<String>) -> Finding {
    Finding {
        verdict: Verdict::Failed,
        found: found.into(),
        hint: None,
    }
}

pub(super) fn warning(found: impl Into<String>) -> Finding {
    Finding {
        verdict: Verdict::Warning,
        ..failed(found)
    }
}

pub(super) fn skipped(found: impl Into<String>) -> Finding {
    Finding {
        verdict: Verdict::Skipped,
        ..failed(found)
    }
}

/// Nothing to remark.
pub(super) fn fine() -> Outcome {
    Ok(String::new())
}

/// An unexpected error.
impl From<Error> for Finding {
    fn from(error: Error) -> Self {
        let word = error.code.word();
        let hint = error.help.clone();
        Finding {
            hint,
            ..failed(format!("{error} ({word})"))
        }
    }
}

/// Errors that a plugin may answer with, whatever it is asked; the others say that it broke.
pub(super) fn is_orderly(error: &Error) -> bool {
    ![Code::PANIC, Code::POISONED, Code::DIED, Code::DEADLINE, Code::ENVELOPE].contains(&error.code)
}

/// The error that should come, with this code.
pub(super) fn expect_error<T>(outcome: Result<T, Error>, code: Code, when: &str) -> Outcome {
    match outcome {
        Err(error) if error.code == code => fine(),
        Err(error) => Err(failed(format!(
            "{when}: expected the error `{}`, got {error} ({})",
            code.word(),
            error.code.word()
        ))),
        Ok(_) => Err(failed(format!(
            "{when}: expected the error `{}`, got an answer",
            code.word()
        ))),
    }
}

/// Shortens a text to fit into one line of a report.
fn shortened(text: String) -> String {
    const MOST: usize = 400;
    let text = text.replace('\n', " ");
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_a_check_with_the_hint_below_and_the_sum_at_the_end() {
        let mut report = Report {
            file: "libp.so".to_owned(),
            plugin: Some("p 0.1.0".to_owned()),
            ..Report::default()
        };
        assert!(report.check("file", "build", || Ok("release".to_owned())));
        assert!(report.check("model m", "streams", || Err(
            warning("it doesn't").hint("call `Call::token`")
        )));
        assert!(!report.check("model m", "card", || Err(Error::msg("no card").into())));
        assert!(!report.passed());
        assert_eq!(
            report.render(),
            "p 0.1.0 in `libp.so`\n\n\
             file\n  ok       build: release\n\n\
             model m\n  warning  streams: it doesn't\n           hint: call `Call::token`\n  FAILED   card: no card (other)\n\n\
             FAILED: 1 ok, 1 warnings, 0 skipped, 1 failed\n"
        );
        assert_eq!(report.to_json()["passed"], false);
        assert_eq!(report.to_json()["checks"][1]["verdict"], "warning");
    }
}
