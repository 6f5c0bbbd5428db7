//! A model and a task as their author wrote them against the frozen plugin-api, and never built again.

use plugin_api::{
    export_plugin, register_model, register_task, Call, Message, Model, ModelCard, Part, Prompt, Reply, Result, Role,
    Sample, Score, Settings, Task, TaskCard, Want,
};

struct OldEcho {
    times: usize,
}

impl OldEcho {
    fn load(settings: &Settings) -> Result<OldEcho> {
        Ok(OldEcho {
            times: settings.need("times")?,
        })
    }
}

impl Model for OldEcho {
    fn card(&self) -> ModelCard {
        ModelCard::text("old-echo")
    }

    fn reply(&mut self, prompt: &Prompt, call: &mut Call) -> Result<Reply> {
        if !matches!(prompt.want, Want::Text { .. }) {
            return Err(plugin_api::Error::unsupported("this model only answers in free text"));
        }
        let parts = prompt.messages.iter().flat_map(|message| &message.parts);
        if parts.clone().any(|part| !matches!(part, Part::Text { .. })) {
            return Err(plugin_api::Error::unsupported("this model only reads text"));
        }
        let mut text = String::new();
        for _ in 0..self.times {
            call.check()?;
            let said = prompt.last_user_text();
            call.token(&said);
            text.push_str(&said);
        }
        Ok(Reply::text(text))
    }
}

register_model!("old-echo", "Repeats the last user message", OldEcho::load, {
    times: integer = 1, "how often";
});

struct OldSums;

impl Task for OldSums {
    fn card(&self) -> TaskCard {
        TaskCard::new("old-sums", "1")
    }

    fn len(&self) -> usize {
        3
    }

    fn sample(&self, index: usize) -> Result<Sample> {
        if index >= self.len() {
            return Err(plugin_api::Error::msg(format!("there is no sample {index}")));
        }
        Ok(Sample {
            id: format!("sum-{index}"),
            doc: format!("{index} + {index}").into(),
            target: (index + index).into(),
            ..Sample::default()
        })
    }

    fn prompt(&self, sample: &Sample) -> Result<Prompt> {
        let question = sample.doc.as_str().unwrap_or_default();
        Ok(Prompt::new([Message::text(Role::User, format!("What is {question}?"))]))
    }

    fn score(&self, sample: &Sample, reply: &Reply) -> Result<Score> {
        Ok(match reply.text.trim().parse::<u64>() {
            Ok(number) => Score::graded(sample.target == number).with_answer(number.to_string()),
            Err(_) => Score::no_answer(),
        })
    }
}

register_task!("old-sums", "Adds small numbers", |_settings| Ok(OldSums));
export_plugin!();
