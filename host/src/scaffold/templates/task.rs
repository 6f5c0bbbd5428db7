//! @NAME@: say here what the task measures, and what a newcomer would question.

use plugin_api::{export_plugin, register_task, Error, Message, Prompt};
use plugin_api::{Reply, Result, Sample, Score, Task, TaskCard};

struct Sums(usize);

impl Task for Sums {
    fn card(&self) -> TaskCard {
        TaskCard::new("@NAME@", "1") // a change that can move a score is a new version
    }

    fn len(&self) -> usize {
        self.0
    }

    fn sample(&self, index: usize) -> Result<Sample> {
        if index >= self.0 {
            return Err(Error::msg(format!("there is no sample {index} of {}", self.0)));
        }
        let (id, doc) = (format!("sum-{index}"), format!("{index} + {index}").into());
        Ok(Sample { id, doc, target: (index + index).into(), ..Sample::default() })
    }

    fn prompt(&self, sample: &Sample) -> Result<Prompt> {
        Ok(Prompt::new([Message::user(format!("What is {}?", sample.doc.as_str().unwrap_or_default()))]))
    }

    fn score(&self, sample: &Sample, reply: &Reply) -> Result<Score> {
        Ok(match reply.text.trim().parse::<u64>() {
            Ok(number) => Score::graded(sample.target == number).with_answer(number.to_string()),
            Err(_) => Score::no_answer(),
        })
    }
}

register_task!("@NAME@", "Adds small numbers", |settings| Ok(Sums(settings.need("count")?)), {
    count: integer = 10, "how many sums there are";
});
export_plugin!();
