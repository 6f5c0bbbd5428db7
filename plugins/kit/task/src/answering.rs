use plugin_api::{Message, Prompt, Result, Sampling, Settings};

/// Whether a model may reason before it answers, and the maximum length in tokens: the settings `thinking` and
/// `max_tokens`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answering {
    pub thinking: bool,
    pub max_tokens: u32,
}

impl Answering {
    /// Reads the settings; `usual` and `with_thinking` are the defaults of `max_tokens`.
    pub fn load(settings: &Settings, usual: u32, with_thinking: u32) -> Result<Answering> {
        let thinking = settings.or("thinking", false)?;
        let max_tokens = settings.or("max_tokens", if thinking { with_thinking } else { usual })?;
        Ok(Answering { thinking, max_tokens })
    }

    /// A greedy prompt with these settings.
    pub fn prompt(self, messages: impl IntoIterator<Item = Message>) -> Prompt {
        Prompt {
            thinking: Some(self.thinking),
            ..Prompt::new(messages).sample(Sampling::greedy(self.max_tokens))
        }
    }
}
