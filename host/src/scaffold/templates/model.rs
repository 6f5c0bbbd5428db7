//! @NAME@: say here what the model is, and what a newcomer would question.

use plugin_api::{export_plugin, register_model, Call, Finish, Model, ModelCard, Prompt, Reply, Result};

struct Echo {
    before: String,
}

impl Model for Echo {
    fn card(&self) -> ModelCard {
        ModelCard::text("@NAME@")
    }

    fn reply(&mut self, prompt: &Prompt, call: &mut Call) -> Result<Reply> {
        let sampling = prompt.sampling().cloned().unwrap_or_default();
        let said = format!("{}{}", self.before, prompt.last_user_text());
        let stops = sampling.stop.iter().filter_map(|stop| said.find(stop));
        let mut reply = Reply::text("");
        for word in said[..stops.min().unwrap_or(said.len())].split_inclusive(' ') {
            call.check()?; // an error when the host wants no more, or the time is over
            if sampling.max_tokens == Some(reply.usage.generated_tokens) {
                reply.finish = Finish::Length;
                break;
            }
            call.token(word);
            reply.text.push_str(word);
            reply.usage.generated_tokens += 1;
        }
        Ok(reply)
    }
}

register_model!("@NAME@", "Repeats the last user message", |settings| Ok(Echo { before: settings.need("before")? }), {
    before: text = "", "what it says first";
});
export_plugin!();
