//! Lessons by their numbers, wherever they come from.

use plugin_api::{Lesson, Result, Split};

/// Lessons that can be read in any order, from several threads.
pub trait Source: Send + Sync {
    /// How many there are.
    fn len(&self) -> usize;

    /// What a lesson is called in messages.
    fn name(&self, index: usize) -> String;

    /// One of them, with its sound.
    fn lesson(&self, index: usize) -> Result<Lesson>;

    /// The same without its sound, and how many clips it has.
    fn glance(&self, index: usize) -> Result<(Lesson, usize)>;

    /// One word that changes when a lesson does.
    fn hash(&self) -> String;
}

/// No lessons at all.
pub struct Empty;

impl Source for Empty {
    fn len(&self) -> usize {
        0
    }

    fn name(&self, index: usize) -> String {
        format!("row {index}")
    }

    fn lesson(&self, index: usize) -> Result<Lesson> {
        Err(plugin_api::Error::msg(format!("there is no lesson {index}")))
    }

    fn glance(&self, index: usize) -> Result<(Lesson, usize)> {
        self.lesson(index).map(|lesson| (lesson, 0))
    }

    fn hash(&self) -> String {
        String::new()
    }
}

/// The lessons of a run.
pub struct Lessons {
    pub train: Box<dyn Source>,
    pub held_out: Box<dyn Source>,
}

impl Lessons {
    pub fn of(&self, split: Split) -> &dyn Source {
        match split {
            Split::Train => self.train.as_ref(),
            Split::HeldOut => self.held_out.as_ref(),
        }
    }
}
