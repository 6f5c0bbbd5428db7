//! Checks without running anything: the file, its note, and how it was built.

use super::report::{Finding, Report, failed, fine, warning};
use crate::failure::Failure;
use crate::plugin::elf::{self, Look};
use crate::plugin::note::{Note, check_build};
use std::fs::File;
use std::path::Path;

const OF: &str = "file";

/// Inspects the file. None if it makes no sense to load it.
pub(super) fn check(report: &mut Report, path: &Path) -> Option<Note> {
    let mut look = Look::default();
    let mut found = None;
    let mut sound = report.check(OF, "it is a shared library for this machine", || {
        let file = File::open(path).map_err(|why| failed(format!("it can't be opened: {why}")))?;
        look = elf::look(&file, path).map_err(from_failure)?;
        fine()
    });
    sound = sound
        && report.check(OF, "it carries a note", || {
            let note = Note::of(&look, path).map_err(from_failure)?;
            let remark = format!("{} {}, built by {}", note.name, note.version, note.rustc);
            found = Some(note);
            Ok(remark)
        });
    let note = found.filter(|_| sound)?;
    sound &= report.check(OF, "it speaks this host's plugin-api", || {
        note.check_api().map_err(from_failure)?;
        Ok(note.api.clone())
    });
    sound &= report.check(OF, "its exports and libraries", || {
        check_build(&look, path).map_err(from_failure)?;
        let newest = look.glibc.iter().max_by_key(|name| version(name));
        Ok(newest.map(|name| format!("needs {name}")).unwrap_or_default())
    });
    sound &= report.check(OF, "its version", || match semver::Version::parse(&note.version) {
        Ok(version) => Ok(version.to_string()),
        Err(why) => Err(failed(format!("`{}` is not a version: {why}", note.version))),
    });
    sound &= report.check(OF, "its panics unwind", || match note.panic.as_str() {
        "unwind" => fine(),
        other => Err(failed(format!("it was built with `panic = \"{other}\"`"))
            .hint("set `panic = \"unwind\"` in the profile it is built with")),
    });
    report.check(OF, "it is a release build", || match note.debug {
        false => fine(),
        true => Err(warning("no, a debug build").hint("ship the result of `cargo build --release`")),
    });
    report.check(OF, "it holds adapters", || match note.adapters.len() {
        0 => Err(failed("it holds none")
            .hint("a `register_*!` in a dependency is dropped by the linker unless the plugin names that crate")),
        _ => {
            let names: Vec<_> = note
                .adapters
                .iter()
                .map(|it| format!("{} `{}`", it.kind, it.name))
                .collect();
            Ok(names.join(", "))
        }
    });
    sound.then_some(note)
}

pub(super) fn from_failure(failure: Failure) -> Finding {
    let text = failure.error.to_string();
    match failure.error.help {
        Some(help) => failed(text).hint(help),
        None => failed(text),
    }
}

/// `GLIBC_2.9` comes before `GLIBC_2.34`.
fn version(name: &str) -> Vec<u32> {
    let numbers = name.trim_start_matches("GLIBC_").split('.');
    numbers.map_while(|number| number.parse().ok()).collect()
}
