//! Which rows are meant: settings, and what a file's name says where they are silent.

use data::{Part, Rows};
use plugin_api::{Code, Error, Result, Settings};
use std::path::Path;

/// The parts of the data, each with the names that its files go by.
const SPLITS: [&[&str]; 4] = [
    &["test"],
    &["dev", "validation", "valid"],
    &["train"],
    &["private_test"],
];

/// The rows that the settings name, and the part of the data that they are.
pub(crate) fn rows(settings: &Settings) -> Result<(Rows, Option<String>)> {
    let data = settings.path("data")?;
    let given: Option<String> = settings.get("split")?;
    let given = given.map(|word| {
        let known = SPLITS.into_iter().find(|names| names.contains(&word.as_str()));
        known.ok_or_else(|| unknown("split", &word, &SPLITS.map(|names| names[0])))
    });
    let given = given.transpose()?;
    let (rows, split) = match data.is_file() {
        true => (Rows::open(&data)?, agreed(given, &data)?),
        false => {
            let split = given.unwrap_or(SPLITS[0]);
            let part = Part { subset: None, split };
            let files = data::find(&data, part).map_err(|error| match error.help {
                None if error.code == Code::MISSING => {
                    error.help("give one of the authors' files, or their folder, with `-T data=PATH`")
                }
                _ => error,
            })?;
            (Rows::open_all(files)?, Some(split))
        }
    };
    if rows.is_empty() {
        return Err(Error::new(Code::DATA, format!("`{}` holds no rows", data.display())));
    }
    Ok((rows, split.map(|names| names[0].to_owned())))
}

/// The split that is given or that the file is named after. The two must not contradict each other: results under the
/// wrong name would look like any others.
fn agreed(given: Option<&'static [&'static str]>, file: &Path) -> Result<Option<&'static [&'static str]>> {
    let name = file.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let words: Vec<&str> = name.split(|letter: char| !letter.is_alphanumeric()).collect();
    let named = match words.contains(&"private") {
        true => Some(SPLITS[3]),
        false => SPLITS
            .into_iter()
            .find(|names| names.iter().any(|name| words.contains(name))),
    };
    match (given, named) {
        (Some(given), Some(named)) if given != named => {
            let message = format!(
                "setting `split` contradicts the name of `{}`, which says `{}`",
                file.display(),
                named[0]
            );
            Err(Error::new(Code::SETTINGS, message).help("leave `split` out, or name another file"))
        }
        (given, named) => Ok(given.or(named)),
    }
}

/// The rows of a file, or of a folder's train part.
pub(crate) fn train(path: &Path) -> Result<Rows> {
    let split = SPLITS[2];
    Rows::open_all(data::find(path, Part { subset: None, split })?)
}

/// An error that lists what a setting may be.
pub(crate) fn unknown(setting: &str, given: &str, known: &[&str]) -> Error {
    let known: Vec<_> = known.iter().map(|word| format!("`{word}`")).collect();
    let message = format!("setting `{setting}` is `{given}`, expected one of {}", known.join(", "));
    Error::new(Code::SETTINGS, message)
}
