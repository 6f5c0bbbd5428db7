//! Checks of a task's files: a correct card, and an error for any file of another kind.

use super::report::{Finding, Outcome, Report, failed, fine, is_orderly};
use crate::plugin::OpenPlugin;
use plugin_api::client::Pages;
use plugin_api::{FileAnswers, FileKind, Row};
use std::collections::BTreeSet;
use std::path::PathBuf;

pub(super) fn check(report: &mut Report, plugin: &OpenPlugin, task: &str) {
    let of = format!("files of task `{task}`");
    let mut made = None;
    report.check(&of, "they can be made", || {
        made = Some(plugin.files(task).map_err(|failure| failure.error)?);
        fine()
    });
    let Some(files) = made else { return };
    let mut kinds = Vec::new();
    report.check(&of, "their card answers", || {
        let card = files.card()?;
        kinds = vec![card.scores, card.exports, card.conversions];
        kinds.iter().try_for_each(|kinds| names(kinds))?;
        let all: Vec<&str> = kinds.iter().flatten().map(|kind| kind.name.as_str()).collect();
        match all.is_empty() {
            true => Err(failed("nothing can be read or written").hint("leave `register_files!` out")),
            false => Ok(all.join(", ")),
        }
    });
    let [scores, exports, conversions] = kinds.as_slice() else {
        return;
    };
    report.check(&of, "a file that is not there is an error", || {
        let none = || PathBuf::from("/no/such/folder/answers.jsonl");
        for kind in scores {
            let answers = FileAnswers {
                kind: kind.name.clone(),
                file: none(),
                gold: if kind.needs_gold { vec![none()] } else { Vec::new() },
                rows: true,
            };
            refused(files.score(&answers).map(drop), &kind.name)?;
        }
        let write = |_: &str, _: &str| true;
        for kind in conversions {
            refused(files.convert(&kind.name, &[none()], &write), &kind.name)?;
        }
        fine()
    });
    report.check(&of, "a run without answers is written or refused", || {
        for kind in exports {
            sound(files.export(&kind.name, &NoRows, &|_, _| true), &kind.name)?;
        }
        fine()
    });
    report.check(&of, "a format that they don't know is an error", || {
        refused(files.export("invented-later", &NoRows, &|_, _| true), "invented-later")
    });
}

struct NoRows;

impl Pages for NoRows {
    fn page(&self) -> plugin_api::Result<Vec<Row>> {
        Ok(Vec::new())
    }
}

fn names(kinds: &[FileKind]) -> Result<(), Finding> {
    let mut seen = BTreeSet::new();
    for kind in kinds {
        if kind.name.trim().is_empty() || kind.about.trim().is_empty() {
            return Err(failed("a kind of file lacks its name or what it is"));
        }
        if !seen.insert(&kind.name) {
            return Err(failed(format!("`{}` is there twice", kind.name)));
        }
    }
    Ok(())
}

/// An outcome after which the plugin still works.
fn sound(outcome: plugin_api::Result<()>, what: &str) -> Outcome {
    match outcome {
        Err(error) if !is_orderly(&error) => Err(failed(format!("`{what}`: {error}"))),
        _ => fine(),
    }
}

/// An ordinary error.
fn refused(outcome: plugin_api::Result<()>, what: &str) -> Outcome {
    match outcome {
        Ok(()) => Err(failed(format!("`{what}`: it was accepted"))),
        error => sound(error, what),
    }
}
