//! Which rows to use: settings, and the names of files if settings are missing.

use data::{Part, Rows};
use plugin_api::{Result, Settings};
use std::path::{Path, PathBuf};
use task::{agreed, find_one, found_or, not_empty};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subset {
    Easy,
    Challenge,
}

impl Subset {
    pub fn word(self) -> &'static str {
        match self {
            Subset::Easy => "easy",
            Subset::Challenge => "challenge",
        }
    }

    fn published(self) -> &'static str {
        match self {
            Subset::Easy => "ARC-Easy",
            Subset::Challenge => "ARC-Challenge",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Split {
    Test,
    Validation,
    Train,
}

impl Split {
    pub fn word(self) -> &'static str {
        self.names()[0]
    }

    /// The names of its files: the authors call `dev` what the hub calls `validation`.
    fn names(self) -> &'static [&'static str] {
        match self {
            Split::Test => &["test"],
            Split::Validation => &["validation", "dev"],
            Split::Train => &["train"],
        }
    }
}

const SUBSETS: [(&str, Subset); 2] = [("easy", Subset::Easy), ("challenge", Subset::Challenge)];
const SPLITS: [(&str, Split); 4] = [
    ("test", Split::Test),
    ("validation", Split::Validation),
    ("dev", Split::Validation),
    ("train", Split::Train),
];

/// The rows that the settings name.
pub(crate) struct Chosen {
    pub subset: Subset,
    /// None if a single file was given whose name does not say.
    pub split: Option<Split>,
    pub rows: Rows,
    /// Where they came from.
    pub data: PathBuf,
}

pub(crate) fn rows(settings: &Settings) -> Result<Chosen> {
    let data = settings.path("data")?;
    let subset = find_one(settings, "subset", &SUBSETS)?.map(|(_, subset)| subset);
    let split = find_one(settings, "split", &SPLITS)?.map(|(_, split)| split);
    Ok(match data.is_file() {
        true => Chosen {
            subset: agreed("subset", subset, &data, &SUBSETS)?.unwrap_or(Subset::Easy),
            split: agreed("split", split, &data, &SPLITS)?,
            rows: not_empty(Rows::open(&data)?, &data)?,
            data,
        },
        false => {
            let (subset, split) = (subset.unwrap_or(Subset::Easy), split.unwrap_or(Split::Test));
            Chosen {
                rows: not_empty(Rows::open_all(files(&data, subset, split)?)?, &data)?,
                split: Some(split),
                subset,
                data,
            }
        }
    })
}

fn files(data: &Path, subset: Subset, split: Split) -> Result<Vec<PathBuf>> {
    let part = Part {
        subset: Some(subset.published()),
        split: split.names(),
    };
    found_or(
        data::find(data, part),
        "give a file or a folder with `-T data=PATH`, or fetch `allenai/ai2_arc` first",
    )
}

/// The rows for worked examples: `shots_data`, or the train part beside the data.
pub(crate) fn shot_rows(settings: &Settings, chosen: &Chosen) -> Result<Rows> {
    task::shots_data(settings, &chosen.data, |from| files(from, chosen.subset, Split::Train))
}
