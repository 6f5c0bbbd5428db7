use std::path::PathBuf;

/// What can go wrong between text and tokens.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read `{path}`")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("`{path}` is malformed: {reason}")]
    Malformed { path: PathBuf, reason: String },
    #[error("`{path}` has the {what} `{got}`, known here: {known}")]
    Unknown {
        path: PathBuf,
        what: &'static str,
        got: String,
        known: String,
    },
    #[error(
        "`{place}` has no chat template (looked in {}chat_template.jinja, chat_template.json and tokenizer_config.json)",
        if place.extension().is_some_and(|end| end == "gguf") { "its header, and beside it in " } else { "" }
    )]
    NoTemplate { place: PathBuf },
    #[error("the chat template cannot render these messages: {reason}")]
    Render { reason: String },
    #[error("cannot tokenise the text: {reason}")]
    Encode { reason: String },
    #[error("cannot turn tokens into text: {reason}")]
    Decode { reason: String },
    #[error("the chat template did not keep the assistant's opening words `{opening}`")]
    OpeningLost { opening: String },
    #[error("`{tokenizer}` has token ids up to {highest}, but the model's embedding table has {rows} rows")]
    VocabularyTooLarge {
        tokenizer: PathBuf,
        highest: u32,
        rows: usize,
    },
    #[error("the text spells the token `{piece}`, for which the model has no row")]
    NoRow { piece: String },
    #[error(transparent)]
    Gguf(#[from] checkpoint::gguf::Error),
    #[error("the prompt is empty, and the tokenizer names no bos or eos token to begin with")]
    EmptyContext,
}

impl Error {
    /// The error as it crosses the boundary, with a hint where there is one.
    pub fn into_plugin_error(self) -> plugin_api::Error {
        use plugin_api::Code;
        let (code, help) = match &self {
            Error::Read { .. } => (
                Code::MISSING,
                "give the folder of a complete checkpoint in the Hugging Face layout",
            ),
            Error::Malformed { .. } => (Code::DATA, "the download may be incomplete: fetch the file again"),
            Error::Unknown { .. } => (
                Code::UNSUPPORTED,
                "give the checkpoint in the Hugging Face layout as `weights`: its tokenizer.json says all that a GGUF file only names",
            ),
            Error::VocabularyTooLarge { .. } => (
                Code::DATA,
                "tokenizer.json belongs to another checkpoint: take both from the same one",
            ),
            Error::NoTemplate { .. } => (
                Code::UNSUPPORTED,
                "base models have no template: give the prompt as plain text, or add a chat_template.jinja to the folder",
            ),
            Error::Gguf(checkpoint::gguf::Error::Several { .. }) => (Code::SETTINGS, "give one of them as `weights`"),
            Error::Gguf(checkpoint::gguf::Error::Read { .. }) => (Code::MISSING, "give a GGUF file as `weights`"),
            Error::Gguf(checkpoint::gguf::Error::Malformed { .. }) => {
                (Code::DATA, "the download may be incomplete: fetch the file again")
            }
            Error::NoRow { .. } => (Code::UNSUPPORTED, "remove it: only larger models of the family have it"),
            _ => (Code::OTHER, ""),
        };
        let told = plugin_api::Error::from(self).code(code);
        if help.is_empty() { told } else { told.help(help) }
    }
}

pub type Result<T> = std::result::Result<T, Error>;
