//! Worked examples before a question: the first ones of the train part, none of the question's own page.
//!
//! A page has several questions, and the program of one often contains the answer to another.

use crate::example::Example;
use crate::page_of;
use crate::splits;
use plugin_api::{Message, Result, Settings};

/// Each shot is a page and its program: more of them fit into no model's context.
const MOST_SHOTS: usize = 64;
/// No page has more questions than this; all questions of a page are left out together.
const SPARE: usize = 16;

#[derive(Default)]
pub(crate) struct Shots(task::Shots<Shot>);

struct Shot {
    page: String,
    asked: String,
    said: String,
}

impl Shots {
    /// Reads what the settings want. `words` makes a question and its answer of an example.
    pub fn load(settings: &Settings, words: impl Fn(&Example) -> Result<(String, String)>) -> Result<Shots> {
        let rows = || task::shots_data(settings, &settings.path("data")?, splits::train);
        let shots = task::Shots::load(settings, MOST_SHOTS, SPARE, rows, |row| {
            let example = Example::read(row)?;
            let (asked, said) = words(&example)?;
            let page = page_of(&example.id).to_owned();
            Ok(Shot { page, asked, said })
        });
        shots.map(Shots)
    }

    pub fn count(&self) -> u32 {
        self.0.count() as u32
    }

    /// The messages that stand before a question.
    pub fn before(&self, example: &Example) -> Result<Vec<Message>> {
        let page = page_of(&example.id);
        let shots = self
            .0
            .before(&example.id, "those of the page of", |shot| shot.page != page)?;
        let turns = shots
            .into_iter()
            .flat_map(|shot| [Message::user(&*shot.asked), Message::assistant(&*shot.said)]);
        Ok(turns.collect())
    }
}
