//! Which files to use, in the layouts of a download.

use data::Part;
use plugin_api::{Code, Result, Settings};
use std::path::{Path, PathBuf};
use task::found_or;

const SPLITS: [&str; 2] = ["validation", "test"];

/// The files of the benchmark, and the split that they are.
pub(crate) fn metadata(settings: &Settings, data: &Path) -> Result<(Vec<PathBuf>, Option<String>)> {
    let given: Option<String> = settings.get("split")?;
    if data.is_file() {
        return Ok((vec![data.to_owned()], given.or_else(|| named(data))));
    }
    if let Some(split) = given {
        return Ok((of_split(data, &split)?, Some(split)));
    }
    // A folder that is a single split has no other in it.
    let whole = Part {
        subset: None,
        split: &["metadata"],
    };
    let beside = ["jsonl", "json", "csv", "parquet"].map(|ending| data.join(format!("metadata.{ending}")));
    if beside.iter().any(|path| path.is_file()) {
        return Ok((without_levels(data::find(data, whole)?), named(&data.join("metadata"))));
    }
    let found = SPLITS
        .iter()
        .find_map(|split| Some((of_split(data, split).ok()?, (*split).to_owned())));
    match found {
        Some((files, split)) => Ok((files, Some(split))),
        None => Ok((of_split(data, SPLITS[0])?, Some(SPLITS[0].to_owned()))),
    }
}

/// The split in the name of a file or its folder.
fn named(file: &Path) -> Option<String> {
    let stem = file.file_name()?.to_string_lossy().to_lowercase();
    let folder = file
        .parent()
        .and_then(Path::file_name)
        .map(|name| name.to_string_lossy().to_lowercase());
    let is = |split: &&str| stem.split('.').next() == Some(*split) || folder.as_deref() == Some(*split);
    SPLITS.iter().find(|split| is(split)).map(|split| (*split).to_owned())
}

fn of_split(data: &Path, split: &str) -> Result<Vec<PathBuf>> {
    let folder = data::find(
        data,
        Part {
            subset: Some(split),
            split: &["metadata"],
        },
    );
    let found = folder.or_else(|error| match error.code {
        Code::MISSING => data::find(
            data,
            Part {
                subset: None,
                split: &[split],
            },
        )
        .map_err(|_| error),
        _ => Err(error),
    });
    found.map(without_levels).map_err(|error| match error.code {
        Code::MISSING => error.help(
            "GAIA is gated: ask for access where it is published, download it, and give its folder with `-T data=PATH`",
        ),
        _ => error,
    })
}

/// Newer copies have the questions of each level in a file of their own, beside one with all of them.
fn without_levels(files: Vec<PathBuf>) -> Vec<PathBuf> {
    let is_level = |file: &PathBuf| {
        file.file_name()
            .is_some_and(|name| name.to_string_lossy().contains(".level"))
    };
    match files.iter().all(is_level) {
        true => files,
        false => files.into_iter().filter(|file| !is_level(file)).collect(),
    }
}

/// The files of traces.
pub(crate) fn traces(data: &Path) -> Result<Vec<PathBuf>> {
    if data.is_file() {
        return Ok(vec![data.to_owned()]);
    }
    let part = Part {
        subset: None,
        split: &["traces", "test", "train"],
    };
    found_or(data::find(data, part), "name a file of traces with `-T data=FILE`")
}
