//! Which rows to use: settings, and a file's name if settings are missing.

use data::{Part, Rows};
use plugin_api::{Result, Settings};
use std::path::{Path, PathBuf};
use task::{agreed, find_one, found_or, not_empty};

/// The names that files of a part go by, its own first.
type Names = &'static [&'static str];
const TEST: Names = &["test"];
const DEV: Names = &["dev", "validation", "valid"];
const TRAIN: Names = &["train"];
const PRIVATE: Names = &["private_test"];

const SPLITS: [(&str, Names); 7] = [
    ("test", TEST),
    ("dev", DEV),
    ("validation", DEV),
    ("valid", DEV),
    ("train", TRAIN),
    ("private_test", PRIVATE),
    ("private", PRIVATE),
];

/// The rows that the settings name, and the part of the data that they are.
pub(crate) fn rows(settings: &Settings) -> Result<(Rows, Option<String>)> {
    let data = settings.path("data")?;
    let given = find_one(settings, "split", &SPLITS)?.map(|(_, split)| split);
    let (rows, split) = match data.is_file() {
        true => (Rows::open(&data)?, agreed("split", given, &data, &SPLITS)?),
        false => {
            let split = given.unwrap_or(TEST);
            let part = Part { subset: None, split };
            let help = "give one of the authors' files, or their folder, with `-T data=PATH`";
            (Rows::open_all(found_or(data::find(&data, part), help)?)?, Some(split))
        }
    };
    Ok((not_empty(rows, &data)?, split.map(|names| names[0].to_owned())))
}

/// The files of a folder's train part.
pub(crate) fn train(path: &Path) -> Result<Vec<PathBuf>> {
    let part = Part {
        subset: None,
        split: TRAIN,
    };
    data::find(path, part)
}
