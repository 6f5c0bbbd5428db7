//! Tasks: samples, a prompt for each, and a scorer.

mod card;
mod files;
mod rows;
mod sample;

pub use card::{MetricCard, TaskCard};
pub use files::WORD as FILES;
pub use files::{make_files, FileAnswers, FileKind, FileScores, FilesCard, FilesRegistration, OfficialFiles, Output};
#[cfg(feature = "host")]
pub(crate) use files::{Piece, WriteRequest};
pub use rows::Rows;
pub use sample::{ClipSource, Metric, Row, Sample, Score, Status};

use crate::training::Lesson;
use crate::wire::{unknown_method, Adapter, Callbacks, Envelope, Packed};
use crate::{Call, Error, Message, Prompt, Reply, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A task holds samples, asks about each, and scores the replies.
///
/// Samples are read by index, not as a stream, so that a run can begin anywhere and need not hold them in memory. All
/// methods may be called from several threads at once.
///
/// ```
/// use plugin_api::{register_task, Message, Prompt, Reply, Result, Sample, Score, Task, TaskCard};
///
/// struct Sums;
///
/// impl Task for Sums {
///     fn card(&self) -> TaskCard {
///         TaskCard::new("sums", "1")
///     }
///
///     fn len(&self) -> usize {
///         10
///     }
///
///     fn sample(&self, index: usize) -> Result<Sample> {
///         Ok(Sample {
///             id: format!("sum-{index}"),
///             doc: format!("{index} + {index}").into(),
///             target: (index + index).into(),
///             ..Sample::default()
///         })
///     }
///
///     fn prompt(&self, sample: &Sample) -> Result<Prompt> {
///         Ok(Prompt::new([Message::user(format!("What is {}?", sample.doc))]))
///     }
///
///     fn score(&self, sample: &Sample, reply: &Reply) -> Result<Score> {
///         Ok(match reply.text.trim().parse::<u64>() {
///             Ok(number) => Score::graded(sample.target == number).with_answer(number.to_string()),
///             Err(_) => Score::no_answer(),
///         })
///     }
/// }
///
/// register_task!("sums", "Adds small numbers", |_settings| Ok(Sums));
/// # fn main() {}
/// ```
pub trait Task: Send + Sync {
    /// What it says of itself.
    fn card(&self) -> TaskCard;

    /// How many samples it has.
    fn len(&self) -> usize;

    /// True when it has none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One sample. An error concerns this sample only: the run records it and continues.
    fn sample(&self, index: usize) -> Result<Sample>;

    /// What a model is asked about a sample. [`crate::Part::Clip`] points into the sample's clips.
    fn prompt(&self, sample: &Sample) -> Result<Prompt>;

    /// One sample with its prompt: a task that creates both from one row reads the row once.
    fn ask(&self, index: usize) -> Result<(Sample, Prompt)> {
        let sample = self.sample(index)?;
        let prompt = self.prompt(&sample)?;
        Ok((sample, prompt))
    }

    /// The next step in the conversation about a sample: `said` holds the messages after the first prompt, including
    /// the model's own. The default asks [`Task::prompt`] once.
    fn next(&self, sample: &Sample, said: &[Message]) -> Result<Next> {
        match said {
            [] => self.prompt(sample).map(|prompt| Next::Ask(Box::new(prompt))),
            _ => Ok(Next::Done),
        }
    }

    /// The score of a reply.
    fn score(&self, sample: &Sample, reply: &Reply) -> Result<Score>;

    /// Sums up many scores. By default the host does: it takes the mean of every named number.
    fn metrics(&self, _rows: &mut Rows) -> Result<Vec<Metric>> {
        Err(Error::not_implemented("this task leaves its sums to the host"))
    }

    /// The lesson that a model can learn from a sample.
    fn lesson(&self, _sample: &Sample) -> Result<Lesson> {
        Err(Error::not_implemented("this task has no lessons"))
    }

    /// A training row for other tools, which `host data prepare` writes. By default the host writes the texts of
    /// [`Task::lesson`].
    fn prepared(&self, _sample: &Sample) -> Result<Value> {
        Err(Error::not_implemented(
            "this task's lessons say all that its prepared rows do",
        ))
    }

    /// Scores a reply with the help of the host, for instance of another model. The default is [`Task::score`].
    fn score_with(&self, sample: &Sample, reply: &Reply, _call: &mut Call) -> Result<Score> {
        self.score(sample, reply)
    }
}

/// The next step in a conversation about a sample.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// The model is asked this.
    Ask(Box<Prompt>),
    /// Nothing: the last reply is the one to score.
    Done,
}

/// The answer of `ask`; encoded audio and clips travel beside it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Asked {
    pub sample: Sample,
    pub prompt: Prompt,
}

/// The input of `next`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NextRequest {
    pub sample: Sample,
    #[serde(default)]
    pub said: Vec<Message>,
}

/// The answer of `next`: a prompt, or none at the end.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct NextAnswer {
    pub prompt: Option<Prompt>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct IndexRequest {
    pub index: usize,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ScoreRequest {
    pub sample: Sample,
    pub reply: Reply,
}

/// The methods of a task by their names on the wire.
pub(crate) struct TaskAdapter(pub Box<dyn Task>);

impl Adapter for TaskAdapter {
    fn call(&self, method: &str, input: Envelope, host: &dyn Callbacks) -> Result<Envelope> {
        let task = &self.0;
        match method {
            "card" => Envelope::of(&task.card()),
            "len" => Envelope::of(&task.len()),
            "sample" => task.sample(input.read::<IndexRequest>()?.index)?.pack(),
            "ask" => {
                let (sample, prompt) = task.ask(input.read::<IndexRequest>()?.index)?;
                Asked { sample, prompt }.pack()
            }
            "next" => {
                let request: NextRequest = input.read()?;
                let prompt = match task.next(&request.sample, &request.said)? {
                    Next::Ask(prompt) => Some(*prompt),
                    Next::Done => None,
                };
                NextAnswer { prompt }.pack()
            }
            "prompt" => task.prompt(&Sample::unpack(input)?)?.pack(),
            "score" => {
                let request: ScoreRequest = input.read()?;
                let mut call = Call::new(host);
                Envelope::of(&task.score_with(&request.sample, &request.reply, &mut call)?)
            }
            "metrics" => Envelope::of(&task.metrics(&mut Rows::new(host))?),
            "prepared" => Envelope::of(&task.prepared(&Sample::unpack(input)?)?),
            "lesson" => task.lesson(&Sample::unpack(input)?)?.pack(),
            _ => Err(unknown_method("task", method)),
        }
    }
}

crate::wire::packed!(
    Asked,
    |asked, envelope| {
        envelope.clips = std::mem::take(&mut asked.prompt.clips);
        envelope.blobs = std::mem::take(&mut asked.sample.blobs);
    },
    |asked, envelope| {
        asked.prompt.clips = envelope.clips;
        asked.sample.blobs = envelope.blobs;
    }
);

crate::wire::packed!(
    NextAnswer,
    |answer, envelope| {
        let prompt = answer.prompt.as_mut();
        envelope.clips = prompt.map(|it| std::mem::take(&mut it.clips)).unwrap_or_default();
    },
    |answer, envelope| {
        if let Some(prompt) = &mut answer.prompt {
            prompt.clips = envelope.clips;
        }
    }
);

#[cfg(all(test, feature = "host"))]
mod tests {
    use super::*;
    use crate::client::TaskClient;
    use crate::Clip;
    use std::sync::Arc;

    struct Two;

    impl Task for Two {
        fn card(&self) -> TaskCard {
            TaskCard::new("two", "1")
        }

        fn len(&self) -> usize {
            2
        }

        fn sample(&self, index: usize) -> Result<Sample> {
            Ok(Sample {
                id: format!("s{index}"),
                blobs: vec![vec![7; index + 1]],
                ..Sample::default()
            })
        }

        fn prompt(&self, sample: &Sample) -> Result<Prompt> {
            let clips = vec![Clip::new(16_000, vec![0.5; 4])];
            Ok(Prompt {
                clips,
                ..Prompt::new([Message::user(&sample.id)])
            })
        }

        fn score(&self, _sample: &Sample, _reply: &Reply) -> Result<Score> {
            Ok(Score::unscored())
        }
    }

    #[test]
    fn a_sample_and_its_prompt_come_in_one_answer() {
        let task = TaskClient(Arc::new(TaskAdapter(Box::new(Two))));
        let (sample, prompt) = task.ask(1).unwrap();
        assert_eq!(
            (sample.id.as_str(), sample.blobs[0].as_slice()),
            ("s1", [7, 7].as_slice())
        );
        assert_eq!((prompt.last_user_text().as_str(), prompt.clips.len()), ("s1", 1));
        assert_eq!(
            (task.sample(1).unwrap(), task.prompt(&sample).unwrap()),
            (sample, prompt)
        );
    }

    #[test]
    fn by_default_a_task_asks_once() {
        let task = TaskClient(Arc::new(TaskAdapter(Box::new(Two))));
        let sample = task.sample(0).unwrap();
        let first = task.prompt(&sample).unwrap();
        assert_eq!(task.next(&sample, &[]).unwrap(), Next::Ask(Box::new(first)));
        assert_eq!(task.next(&sample, &[Message::assistant("yes")]).unwrap(), Next::Done);
    }
}
