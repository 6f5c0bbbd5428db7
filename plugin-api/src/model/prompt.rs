//! What a model is asked: messages with parts, and the kind of answer.

use crate::Clip;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Who speaks a [`Message`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Instructions before the conversation.
    System,
    /// The user.
    #[default]
    User,
    /// The model. A last message in this role is continued, not answered.
    Assistant,
    /// What a tool returned.
    Tool,
    /// A role that this version doesn't know.
    #[serde(other)]
    Unknown,
}

/// One piece of a [`Message`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "part", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Part {
    /// Words.
    Text {
        /// The words.
        text: String,
    },
    /// A clip of sound: an index into [`Prompt::clips`] or, before the host has decoded it, into
    /// [`crate::Sample::clips`].
    Clip {
        /// Which clip.
        clip: usize,
        /// Text that may replace it if the model can't take audio.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        words: Option<String>,
    },
    /// A part that this version doesn't know: a model answers [`crate::Code::UNSUPPORTED`].
    #[serde(other)]
    Unknown,
}

impl Part {
    /// A part of words.
    pub fn text(text: impl Into<String>) -> Self {
        Part::Text { text: text.into() }
    }

    /// A part of sound.
    pub fn clip(clip: usize) -> Self {
        Part::Clip { clip, words: None }
    }
}

/// What one side says in a conversation.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said, in order.
    pub parts: Vec<Part>,
    /// Reasoning that came before an assistant's words, kept apart from them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thinking: Option<String>,
    /// Calls of tools in the shape that chat templates read (`{"function": {"name", "arguments"}}`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<Value>,
    /// The tool that speaks, when the role is [`Role::Tool`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Message {
    /// A message of one text part.
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Message {
            role,
            parts: vec![Part::text(text)],
            ..Message::default()
        }
    }

    /// A user's message of one text part.
    pub fn user(text: impl Into<String>) -> Self {
        Message::text(Role::User, text)
    }

    /// An assistant's message of one text part.
    pub fn assistant(text: impl Into<String>) -> Self {
        Message::text(Role::Assistant, text)
    }

    /// A system message of one text part.
    pub fn system(text: impl Into<String>) -> Self {
        Message::text(Role::System, text)
    }

    /// All text parts in one string.
    pub fn joined_text(&self) -> String {
        let texts = self.parts.iter().filter_map(|part| match part {
            Part::Text { text } => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }
}

/// How the text of an answer is sampled. `None` is the model's published default.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Sampling {
    /// At most this many tokens are generated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// 0 is greedy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// Nucleus sampling: the smallest set of tokens with this much probability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    /// Only the this many most probable tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// Only tokens with at least this share of the best one's probability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f32>,
    /// Divides (or multiplies, if negative) the logits of tokens that occurred before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetition_penalty: Option<f32>,
    /// Beam search with this many beams; 0 and 1 mean none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beams: Option<u32>,
    /// The exponent of the length by which a beam's score is divided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length_penalty: Option<f32>,
    /// Generation ends before the first of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// The seed of random draws; the same seed gives the same answer, whatever the batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// This many answers to one prompt; 0 and 1 mean one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_best: Option<u32>,
    /// The most tokens of reasoning; after these, reasoning is ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thinking_budget: Option<u32>,
    /// The text must be JSON of this schema. A model whose card doesn't list it in `constrains` ignores it, so readers
    /// must cope with any text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json_schema: Option<Value>,
    /// The text must be one of these. Ignored like `json_schema` if the card doesn't list it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub one_of: Vec<String>,
    /// Log-probabilities of the generated tokens, with this many alternatives each: [`crate::Reply::tokens`]. 0 gives
    /// the tokens alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_logprobs: Option<u32>,
    /// Settings that this version doesn't know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Sampling {
    /// The most probable token each time, up to `max_tokens` of them.
    pub fn greedy(max_tokens: u32) -> Self {
        Sampling {
            max_tokens: Some(max_tokens),
            temperature: Some(0.0),
            ..Sampling::default()
        }
    }
}

/// The kind of answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[allow(clippy::large_enum_variant)] // one for each prompt; a box would be in every author's way
#[non_exhaustive]
pub enum Want {
    /// Free text.
    Text {
        /// How it is sampled.
        #[serde(default)]
        sampling: Sampling,
    },
    /// The log-likelihood of each of these continuations of the prompt.
    Choice {
        /// The continuations, each with the space before it if it has one.
        options: Vec<String>,
    },
    /// Something that this version doesn't know: a model answers [`crate::Code::UNSUPPORTED`].
    #[serde(other)]
    Unknown,
}

impl Default for Want {
    fn default() -> Self {
        Want::Text {
            sampling: Sampling::default(),
        }
    }
}

/// Which LoRAs answer a prompt.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoraUse {
    /// All LoRAs that the model was loaded with.
    #[default]
    AsLoaded,
    /// None: the base model answers.
    Off,
    /// These, by the names given to [`crate::Model::add_lora`].
    Only(Vec<String>),
}

impl LoraUse {
    fn is_as_loaded(&self) -> bool {
        *self == LoraUse::AsLoaded
    }
}

/// What a model is asked.
///
/// ```
/// use plugin_api::{Message, Prompt, Want};
///
/// let prompt = Prompt::new([Message::system("Be brief."), Message::user("What is 2 + 2?")]);
/// assert_eq!(prompt.last_user_text(), "What is 2 + 2?");
/// let choice = Prompt::plain("The sky is").choose([" blue", " green"]);
/// assert!(matches!(choice.want, Want::Choice { ref options } if options.len() == 2));
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Prompt {
    /// The conversation so far.
    pub messages: Vec<Message>,
    /// The kind of answer.
    pub want: Want,
    /// True if the text is used unchanged, without the model's chat template.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub plain: bool,
    /// Whether the model should reason first; `None` leaves it to the model's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thinking: Option<bool>,
    /// The LoRAs to use.
    #[serde(skip_serializing_if = "LoraUse::is_as_loaded")]
    pub lora: LoraUse,
    /// Tools that the model may call, in the JSON schema shape that chat templates read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Value>,
    /// True when a prompt that is too long may lose its beginning instead of failing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncate: bool,
    /// The clips that [`Part::Clip`] refers to. They travel beside the JSON, never in it.
    #[serde(skip)]
    pub clips: Vec<Clip>,
}

impl Prompt {
    /// A conversation that is answered in free text.
    pub fn new(messages: impl IntoIterator<Item = Message>) -> Self {
        Prompt {
            messages: messages.into_iter().collect(),
            ..Prompt::default()
        }
    }

    /// A text to continue, without a chat template.
    pub fn plain(text: impl Into<String>) -> Self {
        Prompt {
            plain: true,
            ..Prompt::new([Message::user(text)])
        }
    }

    /// Asks for free text drawn in this way.
    pub fn sample(mut self, sampling: Sampling) -> Self {
        self.want = Want::Text { sampling };
        self
    }

    /// Asks for the log-likelihood of these continuations.
    pub fn choose<S: Into<String>>(mut self, options: impl IntoIterator<Item = S>) -> Self {
        let options = options.into_iter().map(Into::into).collect();
        self.want = Want::Choice { options };
        self
    }

    /// The words of the last message of the user, or nothing.
    pub fn last_user_text(&self) -> String {
        let mut from_the_end = self.messages.iter().rev();
        from_the_end
            .find(|message| message.role == Role::User)
            .map(Message::joined_text)
            .unwrap_or_default()
    }

    /// The sampling settings, when free text is wanted.
    pub fn sampling(&self) -> Option<&Sampling> {
        match &self.want {
            Want::Text { sampling } => Some(sampling),
            _ => None,
        }
    }
}

crate::wire::packed!(
    Prompt,
    |prompt, envelope| envelope.clips = std::mem::take(&mut prompt.clips),
    |prompt, envelope| prompt.clips = envelope.clips
);
