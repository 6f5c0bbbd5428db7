//! Tasks: samples, a prompt for each, and a scorer.

use crate::adapter::{unknown_method, Adapter};
use crate::call::{Call, Callbacks, Rows};
use crate::parcel::{Packed, Parcel};
use crate::{Error, Lesson, Metric, Prompt, Reply, Result, Sample, Score, TaskCard};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A task: it holds samples, asks about each, and scores what comes back.
///
/// Samples are read by index and not as a stream, so that a run can begin anywhere and hold none of them
/// in memory. All methods may be called from several threads at once.
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

    /// One sample. An error is that sample's alone: the run records it and goes on.
    fn sample(&self, index: usize) -> Result<Sample>;

    /// What a model is asked about a sample. [`crate::Part::Clip`] points into the sample's clips.
    fn prompt(&self, sample: &Sample) -> Result<Prompt>;

    /// What a reply is worth.
    fn score(&self, sample: &Sample, reply: &Reply) -> Result<Score>;

    /// What many scores come to. The default leaves it to the host: the mean of every named number.
    fn metrics(&self, _rows: &mut Rows) -> Result<Vec<Metric>> {
        Err(Error::unsupported("this task leaves its sums to the host"))
    }

    /// What a model can learn from a sample.
    fn lesson(&self, _sample: &Sample) -> Result<Lesson> {
        Err(Error::unsupported("this task has no lessons"))
    }

    /// The row that people train on elsewhere, as `host data prepare` writes it. Since 1.2; the default leaves it to the
    /// host, which writes the words of [`Task::lesson`].
    fn prepared(&self, _sample: &Sample) -> Result<Value> {
        Err(Error::unsupported(
            "this task's lessons say all that its prepared rows do",
        ))
    }

    /// Scores a reply with the help of the host, for instance of another model. Since 1.1; the default is [`Task::score`].
    fn score_with(&self, sample: &Sample, reply: &Reply, _call: &mut Call) -> Result<Score> {
        self.score(sample, reply)
    }
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
    fn call(&self, method: &str, input: Parcel, host: &dyn Callbacks) -> Result<Parcel> {
        let task = &self.0;
        match method {
            "card" => Parcel::of(&task.card()),
            "len" => Parcel::of(&task.len()),
            "sample" => task.sample(input.read::<IndexRequest>()?.index)?.pack(),
            "prompt" => task.prompt(&Sample::unpack(input)?)?.pack(),
            "score" => {
                let request: ScoreRequest = input.read()?;
                let mut call = Call::new(host);
                Parcel::of(&task.score_with(&request.sample, &request.reply, &mut call)?)
            }
            "metrics" => Parcel::of(&task.metrics(&mut Rows::new(host))?),
            "prepared" => Parcel::of(&task.prepared(&Sample::unpack(input)?)?),
            "lesson" => task.lesson(&Sample::unpack(input)?)?.pack(),
            _ => Err(unknown_method("task", method)),
        }
    }
}
