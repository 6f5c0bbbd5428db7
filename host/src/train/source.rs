//! Lessons by number, from any source.

use plugin_api::{Lesson, Result, Split};

/// Lessons that several threads can read in any order.
pub trait Source: Send + Sync {
    /// How many lessons there are.
    fn len(&self) -> usize;

    /// The name of a lesson in messages.
    fn name(&self, index: usize) -> String;

    /// A lesson, with its audio.
    fn lesson(&self, index: usize) -> Result<Lesson>;

    /// A lesson without its audio, and how many clips it has.
    fn glance(&self, index: usize) -> Result<(Lesson, usize)>;

    /// A lesson without its audio, but with the length of each clip.
    fn measured(&self, index: usize) -> Result<Lesson>;

    /// A fingerprint that changes with the lessons.
    fn hash(&self) -> String;
}

/// An empty source.
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

    fn measured(&self, index: usize) -> Result<Lesson> {
        self.lesson(index)
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
