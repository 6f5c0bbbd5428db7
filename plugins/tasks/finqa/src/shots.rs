//! Worked examples before a question: the first ones of the train part, none of the question's own page.
//!
//! A page has several questions, and the answer to one often stands in the program of another.

use crate::choose;
use crate::example::Example;
use crate::page_of;
use data::Rows;
use plugin_api::{Code, Context, Error, Message, Result, Settings};
use std::path::{Path, PathBuf};

/// Each shot is a page and its program: more of them fit into no model's context.
const MOST_SHOTS: usize = 64;
/// No page of the data has more questions than this, and those of one page are left out together.
const SPARE: usize = 16;

#[derive(Default)]
pub(crate) struct Shots {
    pub count: usize,
    pool: Vec<Shot>,
}

struct Shot {
    page: String,
    asked: String,
    said: String,
}

impl Shots {
    /// Reads what the settings want. `words` makes a question and its answer of an example.
    pub fn load(settings: &Settings, words: impl Fn(&Example) -> Result<(String, String)>) -> Result<Shots> {
        let count: usize = settings.or("shots", 0)?;
        if count > MOST_SHOTS {
            let message = format!("setting `shots` is {count}, expected at most {MOST_SHOTS}");
            return Err(Error::new(Code::SETTINGS, message));
        }
        let mut shots = Shots {
            count,
            pool: Vec::new(),
        };
        if count == 0 {
            return Ok(shots);
        }
        for row in rows(settings)?.iter().take(count + SPARE) {
            let example = Example::read(&row?)?;
            let (asked, said) = words(&example)?;
            let page = page_of(&example.id).to_owned();
            shots.pool.push(Shot { page, asked, said });
        }
        if shots.pool.len() < count {
            let have = shots.pool.len();
            let message = format!("setting `shots` is {count}, but there are {have} worked examples");
            return Err(Error::new(Code::SETTINGS, message));
        }
        Ok(shots)
    }

    /// The messages that stand before a question.
    pub fn before(&self, example: &Example) -> Result<Vec<Message>> {
        let page = page_of(&example.id);
        let others = self.pool.iter().filter(|shot| shot.page != page).take(self.count);
        let messages: Vec<Message> = others
            .flat_map(|shot| [Message::user(&*shot.asked), Message::assistant(&*shot.said)])
            .collect();
        if messages.len() < 2 * self.count {
            let have = messages.len() / 2;
            let message = format!(
                "there are {have} worked examples besides those of the page of `{}`",
                example.id
            );
            return Err(Error::new(Code::DATA, message).help(format!("`shots` is {}, ask for fewer", self.count)));
        }
        Ok(messages)
    }
}

/// `shots_data`, or the train part beside the data.
fn rows(settings: &Settings) -> Result<Rows> {
    let given: Option<PathBuf> = settings.get("shots_data")?;
    let data = settings.path("data")?;
    let beside = match data.is_file() {
        true => data.parent().unwrap_or(Path::new("")),
        false => data.as_path(),
    };
    let beside = if beside.as_os_str().is_empty() {
        Path::new(".")
    } else {
        beside
    };
    let found = choose::train(given.as_deref().unwrap_or(beside));
    found
        .context("cannot find worked examples for `shots`")
        .map_err(|error| match &given {
            None => error.help("name a file or folder with `-T shots_data=PATH`, or leave `shots` at 0"),
            Some(_) => error,
        })
}
