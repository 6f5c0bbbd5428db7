//! Lessons from the host to a model in training, and events back.

#[cfg(feature = "host")]
use crate::wire::NoCallbacks;
use crate::wire::{Callbacks, Envelope};
use crate::{LearnEvent, Lesson, Result};
use serde::{Deserialize, Serialize};

/// Which lessons are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Those to learn.
    #[default]
    Train,
    /// Those kept back to evaluate on.
    HeldOut,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
struct LessonRequest {
    split: Split,
    index: u64,
    /// True if the audio is not needed.
    glance: bool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct LessonAnswer {
    lesson: Option<Lesson>,
    clips: usize,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct CountAnswer {
    lessons: u64,
}

/// Lessons, which a model in training pulls.
///
/// Lessons have numbers, so that a model can choose their order, distribute them to several processes, and resume in
/// the middle of a pass.
///
/// ```
/// use plugin_api::{Lessons, Result};
///
/// fn pass(lessons: &mut Lessons) -> Result<u64> {
///     let mut learnt = 0;
///     lessons.skip_to(lessons.len()? / 2); // the first half was learnt before
///     while let Some(lesson) = lessons.next()? {
///         learnt += lesson.turns.iter().filter(|turn| turn.learn).count() as u64;
///     }
///     Ok(learnt)
/// }
/// # let _ = pass;
/// ```
pub struct Lessons<'a> {
    host: &'a dyn Callbacks,
    place: u64,
    held_out_place: u64,
}

impl<'a> Lessons<'a> {
    /// The lessons of this host.
    pub fn new(host: &'a dyn Callbacks) -> Self {
        Lessons {
            host,
            place: 0,
            held_out_place: 0,
        }
    }

    /// How many there are to learn.
    pub fn len(&self) -> Result<u64> {
        self.count(Split::Train)
    }

    /// Whether there are none to learn.
    pub fn is_empty(&self) -> Result<bool> {
        self.len().map(|len| len == 0)
    }

    /// How many there are of a split.
    pub fn count(&self, split: Split) -> Result<u64> {
        let request = LessonRequest {
            split,
            ..LessonRequest::default()
        };
        let answer: CountAnswer = self.host.ask("lessons", Envelope::of(&request)?)?.read()?;
        Ok(answer.lessons)
    }

    /// One lesson by its number; none behind the last.
    pub fn at(&self, split: Split, index: u64) -> Result<Option<Lesson>> {
        let request = LessonRequest {
            split,
            index,
            glance: false,
        };
        let envelope = self.host.ask("lesson", Envelope::of(&request)?)?;
        let answer: LessonAnswer = envelope.read()?;
        Ok(answer.lesson.map(|mut lesson| {
            lesson.clips = envelope.clips;
            lesson
        }))
    }

    /// The same without audio, with the number of its clips: enough to know what kind of lesson it is.
    pub fn glance(&self, split: Split, index: u64) -> Result<Option<(Lesson, usize)>> {
        let request = LessonRequest {
            split,
            index,
            glance: true,
        };
        let answer: LessonAnswer = self.host.ask("lesson", Envelope::of(&request)?)?.read()?;
        Ok(answer.lesson.map(|lesson| (lesson, answer.clips)))
    }

    /// The next lesson to learn; none at the end of the pass. The call after that begins the next pass.
    #[allow(clippy::should_implement_trait)] // fails, and an iterator of results would not know a pass's end from the data's
    pub fn next(&mut self) -> Result<Option<Lesson>> {
        let lesson = self.at(Split::Train, self.place)?;
        self.place = if lesson.is_some() { self.place + 1 } else { 0 };
        Ok(lesson)
    }

    /// Makes this lesson the next one.
    pub fn skip_to(&mut self, index: u64) {
        self.place = index;
    }

    /// The next lesson to evaluate on; none at the end of the pass. The call after that begins the next pass.
    pub fn held_out(&mut self) -> Result<Option<Lesson>> {
        let lesson = self.at(Split::HeldOut, self.held_out_place)?;
        self.held_out_place = if lesson.is_some() { self.held_out_place + 1 } else { 0 };
        Ok(lesson)
    }

    /// Passes on what happened. False when the host asks to stop.
    pub fn event(&self, event: &LearnEvent) -> bool {
        Envelope::of(event).is_ok_and(|envelope| self.host.emit("learn", envelope))
    }

    /// True when the host asked to stop.
    pub fn stop_asked(&self) -> bool {
        self.host.stop_asked()
    }
}

#[cfg(feature = "host")]
/// A host that hands out lessons and receives events.
pub trait Teacher: Send + Sync {
    /// How many lessons of a split there are.
    fn count(&self, split: Split) -> Result<u64>;

    /// One of them by its number; none behind the last.
    fn lesson(&self, split: Split, index: u64) -> Result<Option<Lesson>>;

    /// The same without audio, with the number of its clips.
    fn glance(&self, split: Split, index: u64) -> Result<Option<(Lesson, usize)>> {
        let lesson = self.lesson(split, index)?;
        Ok(lesson.map(|mut lesson| {
            let clips = std::mem::take(&mut lesson.clips).len();
            (lesson, clips)
        }))
    }

    /// Takes an event. False asks the model to stop.
    fn event(&self, event: LearnEvent) -> bool;

    /// True when the model should end.
    fn stop_asked(&self) -> bool {
        false
    }
}

#[cfg(feature = "host")]
pub(crate) struct TeacherCallbacks<'a>(pub &'a dyn Teacher);

#[cfg(feature = "host")]
impl Callbacks for TeacherCallbacks<'_> {
    fn ask(&self, what: &str, input: Envelope) -> Result<Envelope> {
        match what {
            "lessons" => {
                let request: LessonRequest = input.read()?;
                let lessons = self.0.count(request.split)?;
                Envelope::of(&CountAnswer { lessons })
            }
            "lesson" => {
                let request: LessonRequest = input.read()?;
                if request.glance {
                    let (lesson, clips) = self.0.glance(request.split, request.index)?.unzip();
                    let clips = clips.unwrap_or_default();
                    return Envelope::of(&LessonAnswer { lesson, clips });
                }
                let mut lesson = self.0.lesson(request.split, request.index)?;
                let clips = lesson.as_mut().map(|lesson| std::mem::take(&mut lesson.clips));
                let clips = clips.unwrap_or_default();
                let answer = LessonAnswer {
                    clips: clips.len(),
                    lesson,
                };
                Ok(Envelope {
                    clips,
                    ..Envelope::of(&answer)?
                })
            }
            _ => NoCallbacks.ask(what, input),
        }
    }

    fn emit(&self, what: &str, note: Envelope) -> bool {
        what != "learn" || note.read().is_ok_and(|event| self.0.event(event))
    }

    fn lasts(&self) -> bool {
        true
    }

    fn stop_asked(&self) -> bool {
        self.0.stop_asked()
    }
}

#[cfg(all(test, feature = "host"))]
mod tests {
    use super::*;
    use crate::{Clip, LessonTokens};
    use std::sync::Mutex;

    #[derive(Default)]
    struct Five(Mutex<Vec<LearnEvent>>);

    impl Teacher for Five {
        fn count(&self, split: Split) -> Result<u64> {
            Ok(if split == Split::Train { 5 } else { 1 })
        }

        fn lesson(&self, split: Split, index: u64) -> Result<Option<Lesson>> {
            let lesson = || Lesson {
                id: format!("{split:?} {index}"),
                tokens: Some(LessonTokens {
                    ids: vec![7, 8],
                    learn: vec![false, true],
                    ..LessonTokens::default()
                }),
                clips: vec![Clip::new(16_000, vec![0.5; 3])],
                ..Lesson::default()
            };
            Ok((index < self.count(split)?).then(lesson))
        }

        fn event(&self, event: LearnEvent) -> bool {
            self.0.lock().unwrap().push(event);
            true
        }
    }

    #[test]
    fn lessons_come_by_number_with_tokens_and_clips() {
        let (five, mut seen) = (Five::default(), Vec::new());
        let host = TeacherCallbacks(&five);
        let mut lessons = Lessons::new(&host);
        assert_eq!((lessons.len().unwrap(), lessons.count(Split::HeldOut).unwrap()), (5, 1));
        lessons.skip_to(3);
        while let Some(lesson) = lessons.next().unwrap() {
            assert_eq!((lesson.clips.len(), lesson.tokens.unwrap().ids), (1, vec![7, 8]));
            seen.push(lesson.id);
        }
        assert_eq!(seen, ["Train 3", "Train 4"]);
        assert_eq!(
            lessons.next().unwrap().unwrap().id,
            "Train 0",
            "a pass ended and the next begins"
        );
        assert_eq!(lessons.held_out().unwrap().unwrap().id, "HeldOut 0");
        assert!(lessons.held_out().unwrap().is_none());
        let (lesson, clips) = lessons.glance(Split::Train, 1).unwrap().unwrap();
        assert_eq!((lesson.clips.len(), clips), (0, 1));
    }

    #[test]
    fn events_reach_the_host() {
        let five = Five::default();
        let host = TeacherCallbacks(&five);
        let event = LearnEvent {
            split: "train".to_owned(),
            step: 3,
            loss: Some(0.1),
            ..LearnEvent::default()
        };
        assert!(Lessons::new(&host).event(&event));
        assert_eq!(*five.0.lock().unwrap(), [event]);
    }
}
