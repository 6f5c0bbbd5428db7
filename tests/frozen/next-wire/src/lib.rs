//! A model built against a plugin-api whose wire today's host doesn't speak.

use plugin_api::{export_plugin, register_model, Call, Model, ModelCard, Prompt, Reply, Result};

struct FromTheFuture;

impl Model for FromTheFuture {
    fn card(&self) -> ModelCard {
        ModelCard::text("from-the-future")
    }

    fn reply(&mut self, prompt: &Prompt, _call: &mut Call) -> Result<Reply> {
        Ok(Reply::text(prompt.last_user_text()))
    }
}

register_model!("from-the-future", "Repeats the last user message", |_settings| Ok(
    FromTheFuture
));
export_plugin!();
