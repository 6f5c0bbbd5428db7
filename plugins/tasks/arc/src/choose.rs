//! Which rows are meant: settings, and what the names of files say where the settings are silent.

use data::{Part, Rows};
use plugin_api::{Code, Context, Error, Result, Settings};
use std::path::{Path, PathBuf};

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

    /// What its files are called: the authors say Dev where the hub says validation.
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
    /// None when a single file was named that says nothing of it.
    pub split: Option<Split>,
    pub rows: Rows,
    /// Where they came from.
    pub data: PathBuf,
}

pub(crate) fn rows(settings: &Settings) -> Result<Chosen> {
    let data = settings.path("data")?;
    let subset = word(settings, "subset", &SUBSETS)?;
    let split = word(settings, "split", &SPLITS)?;
    let chosen = match data.is_file() {
        true => Chosen {
            subset: agreed("subset", subset, &data, &SUBSETS)?.unwrap_or(Subset::Easy),
            split: agreed("split", split, &data, &SPLITS)?,
            rows: Rows::open(&data)?,
            data,
        },
        false => {
            let (subset, split) = (subset.unwrap_or(Subset::Easy), split.unwrap_or(Split::Test));
            Chosen {
                rows: Rows::open_all(files(&data, subset, split)?)?,
                split: Some(split),
                subset,
                data,
            }
        }
    };
    match chosen.rows.is_empty() {
        true => Err(Error::new(
            Code::DATA,
            format!("`{}` holds no rows", chosen.data.display()),
        )),
        false => Ok(chosen),
    }
}

fn files(data: &Path, subset: Subset, split: Split) -> Result<Vec<PathBuf>> {
    let part = Part {
        subset: Some(subset.published()),
        split: split.names(),
    };
    data::find(data, part).map_err(|error| match error.help {
        None if error.code == Code::MISSING => {
            error.help("give a file or a folder with `-T data=PATH`, or fetch `allenai/ai2_arc` first")
        }
        _ => error,
    })
}

/// The rows that worked examples are taken from: `shots_data`, or the train part beside the data.
pub(crate) fn shot_rows(settings: &Settings, chosen: &Chosen) -> Result<Rows> {
    let given: Option<PathBuf> = settings.get("shots_data")?;
    let beside = match chosen.data.is_file() {
        true => chosen.data.parent().unwrap_or(Path::new("")),
        false => &chosen.data,
    };
    let beside = if beside.as_os_str().is_empty() {
        Path::new(".")
    } else {
        beside
    };
    let from = given.as_deref().unwrap_or(beside);
    let files = files(from, chosen.subset, Split::Train)
        .context("cannot find worked examples for `shots`")
        .map_err(|error| match &given {
            None => error.help("name a file or folder with `-T shots_data=PATH`, or leave `shots` at 0"),
            Some(_) => error,
        })?;
    Rows::open_all(files)
}

/// A setting that is one of several words.
pub(crate) fn word<T: Copy>(settings: &Settings, name: &str, known: &[(&str, T)]) -> Result<Option<T>> {
    let Some(given) = settings.get::<String>(name)? else {
        return Ok(None);
    };
    match known.iter().find(|(word, _)| *word == given) {
        Some((_, value)) => Ok(Some(*value)),
        None => {
            let words: Vec<_> = known.iter().map(|(word, _)| format!("`{word}`")).collect();
            let message = format!("setting `{name}` is `{given}`, expected one of {}", words.join(", "));
            Err(Error::new(Code::SETTINGS, message))
        }
    }
}

/// What the setting says, or the file's name (or its folder's) where there is no setting. The two must not contradict
/// each other: results under the wrong name would look like any others.
fn agreed<T: Copy + PartialEq>(name: &str, given: Option<T>, file: &Path, known: &[(&str, T)]) -> Result<Option<T>> {
    let mut named = None;
    for component in file.iter().rev().take(2) {
        let spelled = component.to_string_lossy().to_lowercase();
        let words = spelled.split(|letter: char| !letter.is_alphanumeric());
        named = words
            .filter_map(|part| known.iter().find(|(word, _)| *word == part))
            .last();
        if named.is_some() {
            break;
        }
    }
    match (given, named) {
        (Some(given), Some((word, says))) if given != *says => {
            let file = file.display();
            let message = format!("setting `{name}` contradicts the name of `{file}`, which says `{word}`");
            Err(Error::new(Code::SETTINGS, message).help(format!("leave `{name}` out, or name another file")))
        }
        (given, named) => Ok(given.or(named.map(|(_, value)| *value))),
    }
}
