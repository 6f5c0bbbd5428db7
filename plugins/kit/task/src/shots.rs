//! Worked examples before a question; none may give the question's answer away.

use crate::Draws;
use data::{Row, Rows};
use plugin_api::{Code, Context, Error, Result, Settings};
use std::path::{Path, PathBuf};

/// Worked examples and their number: the settings `shots` and `shots_seed`.
#[derive(Debug)]
pub struct Shots<S> {
    count: usize,
    seed: Option<u64>,
    pool: Vec<S>,
}

impl<S> Default for Shots<S> {
    fn default() -> Self {
        Shots {
            count: 0,
            seed: None,
            pool: Vec::new(),
        }
    }
}

impl<S> Shots<S> {
    /// Reads the settings and, if needed, the examples: the first ones, or with `shots_seed` all of them, to draw
    /// from.
    ///
    /// `spare` bounds the number of examples that a question must not be shown; `most` is the largest number that fits
    /// into a model's context.
    pub fn load(
        settings: &Settings,
        most: usize,
        spare: usize,
        rows: impl FnOnce() -> Result<Rows>,
        read: impl Fn(&Row) -> Result<S>,
    ) -> Result<Shots<S>> {
        let count: usize = settings.or("shots", 0)?;
        let seed: Option<u64> = settings.get("shots_seed")?;
        let mut shots = Shots {
            count,
            seed,
            ..Shots::default()
        };
        let refused = |why: String| Error::new(Code::SETTINGS, format!("setting `shots` is {count}, {why}"));
        if count > most {
            return Err(refused(format!("expected at most {most}")));
        }
        if count > 0 {
            let rows = rows()?;
            let wanted = if seed.is_some() { rows.len() } else { count + spare };
            for row in rows.iter().take(wanted) {
                shots.pool.push(read(&row?)?);
            }
            if shots.pool.len() < count {
                return Err(refused(format!("but there are {} worked examples", shots.pool.len())));
            }
        }
        Ok(shots)
    }

    /// The number of examples before each question.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The examples before a question, from those that may be shown. `besides` names the others in an error.
    pub fn before(&self, id: &str, besides: &str, may_be_shown: impl Fn(&S) -> bool) -> Result<Vec<&S>> {
        if self.count == 0 {
            return Ok(Vec::new());
        }
        let mut others: Vec<&S> = self.pool.iter().filter(|shot| may_be_shown(shot)).collect();
        if others.len() < self.count {
            let message = format!("there are {} worked examples besides {besides} `{id}`", others.len());
            return Err(Error::new(Code::DATA, message).help(format!("`shots` is {}, choose fewer", self.count)));
        }
        if let Some(seed) = self.seed {
            return Ok(Draws::new(seed, id).some(others, self.count));
        }
        others.truncate(self.count);
        Ok(others)
    }
}

/// The rows of worked examples: from the setting `shots_data`, or the train split beside the data.
pub fn shots_data(
    settings: &Settings,
    data: &Path,
    train_files: impl Fn(&Path) -> Result<Vec<PathBuf>>,
) -> Result<Rows> {
    let given: Option<PathBuf> = settings.get("shots_data")?;
    let beside = match data.is_file() {
        true => data.parent().unwrap_or(Path::new("")),
        false => data,
    };
    let beside = if beside.as_os_str().is_empty() {
        Path::new(".")
    } else {
        beside
    };
    let files = train_files(given.as_deref().unwrap_or(beside))
        .context("cannot find worked examples for `shots`")
        .map_err(|error| match &given {
            None => error.help("name a file or folder with `-T shots_data=PATH`, or leave `shots` at 0"),
            Some(_) => error,
        })?;
    Rows::open_all(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shots(json: &str, rows: usize) -> Result<Shots<String>> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("train.jsonl");
        let lines: Vec<String> = (0..rows).map(|row| format!("{{\"id\": \"{row}\"}}")).collect();
        std::fs::write(&file, lines.join("\n")).unwrap();
        let settings: Settings = serde_json::from_str(json).unwrap();
        Shots::load(
            &settings,
            9,
            1,
            || Rows::open(&file),
            |row| Ok(row.text("id")?.to_owned()),
        )
    }

    #[test]
    fn the_first_ones_are_shown_and_never_the_question_itself() {
        let shots = shots(r#"{"shots": 2}"#, 5).unwrap();
        let before = |id: &str| shots.before(id, "sample", |shot| shot != id).unwrap();
        assert_eq!(before("9"), ["0", "1"]);
        assert_eq!(before("1"), ["0", "2"]);
    }

    #[test]
    fn a_seed_draws_from_all_of_them() {
        let shots = shots(r#"{"shots": 3, "shots_seed": 4}"#, 9).unwrap();
        let before = |id: &str| shots.before(id, "sample", |_| true).unwrap();
        assert_eq!(before("a"), before("a"));
        assert_ne!(before("a"), before("b"));
    }

    #[test]
    fn too_few_or_too_many_are_refused() {
        let message = |json: &str, rows| shots(json, rows).unwrap_err().message;
        assert_eq!(
            message(r#"{"shots": 10}"#, 1),
            "setting `shots` is 10, expected at most 9"
        );
        assert_eq!(
            message(r#"{"shots": 4}"#, 3),
            "setting `shots` is 4, but there are 3 worked examples"
        );
    }
}
