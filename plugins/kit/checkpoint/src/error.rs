use std::path::{Path, PathBuf};

/// What can go wrong from reading a checkpoint to answering with it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read `{path}`")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot write `{path}`")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("`{folder}` holds no weights (looked for model.safetensors, pytorch_model.bin, and the index of several)")]
    NoWeights { folder: PathBuf },
    #[error("`{path}` is malformed: {reason}")]
    Malformed { path: PathBuf, reason: String },
    #[error("`{index}` places `{tensor}` in `{file}`, {why}")]
    Index {
        index: PathBuf,
        tensor: String,
        file: String,
        why: &'static str,
    },
    #[error("`{folder}` has no tensor `{tensor}`")]
    MissingTensor { folder: PathBuf, tensor: String },
    #[error("tensor `{tensor}` in `{file}` has shape {got:?}, expected {expected:?}")]
    Shape {
        file: PathBuf,
        tensor: String,
        expected: Vec<usize>,
        got: Vec<usize>,
    },
    #[error("tensor `{tensor}` in `{file}` is stored as {got}, expected {expected}")]
    StoredAs {
        file: PathBuf,
        tensor: String,
        got: String,
        expected: &'static str,
    },
    #[error("`{path}` is of the architecture `{got}`, known here: {known}")]
    Architecture { path: PathBuf, got: String, known: String },
    #[error("the weights beside `{path}` are quantised with {method}, which is not supported")]
    Quantised { path: PathBuf, method: String },
    #[error("the four-bit tensor `{tensor}` in `{place}` {why}")]
    FourBits {
        place: PathBuf,
        tensor: String,
        why: String,
    },
    #[error("`{path}` is a file, expected a checkpoint's folder or a GGUF file")]
    NoFolder { path: PathBuf },
    #[error("tensor `{tensor}` in `{place}` has a value that is not finite, which blocks can't store")]
    NotFinite { place: PathBuf, tensor: String },
    #[error("rope scaling `{got}` is not known, known here: default, linear, yarn, llama3, longrope")]
    RopeScaling { got: String },
    #[error("{what} is {got}, expected {expected}")]
    Config {
        what: String,
        got: String,
        expected: String,
    },
    #[error("tensor `{tensor}` of the LoRA in `{file}` {why}")]
    LoraTensor { file: PathBuf, tensor: String, why: String },
    #[error("the LoRA in `{file}` changes nothing: in every layer a factor or its scale is zero")]
    LoraIdle { file: PathBuf },
    #[error("`{folder}` holds no LoRA (looked for {name})")]
    NoLora { folder: PathBuf, name: &'static str },
    #[error("merged into `{folder}`, the LoRA changes nothing: no stored value is different")]
    LoraRounded { folder: PathBuf },
    #[error("`{path}` sets `{setting}` to {got}, which is not supported")]
    LoraSetting {
        path: PathBuf,
        setting: String,
        got: String,
    },
    #[error("a LoRA cannot be called `{name}`: names are not empty, and no two are the same")]
    LoraName { name: String },
    #[error("`{folder}` holds several GGUF files: {names}")]
    SeveralFiles { folder: PathBuf, names: String },
    #[error("{what} has {got} tokens, the model's context leaves room for {room}")]
    TooLong { what: String, got: usize, room: usize },
    #[error("the weights in `{what}` would take {need}")]
    Memory { what: PathBuf, need: String },
    #[error("`{folder}` holds no safetensors files, and a LoRA can be merged into these only")]
    NoSafetensors { folder: PathBuf },
    #[error(
        "the LoRA changes the head of `{folder}`, which is tied to the table of tokens and has no weights of its own"
    )]
    TiedHead { folder: PathBuf },
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The same error for a GGUF file, which also stands in for config.json.
    pub fn about(self, weights: &Path) -> Error {
        match (self, crate::gguf::find(weights)) {
            (Error::Config { what, got, expected }, Ok(Some(file))) => Error::Config {
                what: what.replace("config.json", &format!("`{}`", file.display())),
                got,
                expected,
            },
            (other, _) => other,
        }
    }

    /// The error as it crosses the boundary, with a hint where there is one.
    pub fn into_plugin_error(self) -> plugin_api::Error {
        use plugin_api::Code;
        let (code, help) = match &self {
            Error::Read { .. } | Error::NoWeights { .. } => (
                Code::MISSING,
                "give the folder of a checkpoint in the Hugging Face layout as `weights`",
            ),
            Error::Malformed { .. } | Error::Index { .. } | Error::FourBits { .. } => {
                (Code::DATA, "the download may be incomplete: fetch the checkpoint again")
            }
            Error::MissingTensor { .. } | Error::Shape { .. } => (
                Code::DATA,
                "config.json and the weights must come from the same checkpoint",
            ),
            Error::StoredAs { .. } => (Code::UNSUPPORTED, "convert the checkpoint to one of these types"),
            Error::Quantised { .. } => (
                Code::UNSUPPORTED,
                "of quantised checkpoints, bitsandbytes' nf4 (`load_in_4bit`) and GGUF files are read; or use the original \
                 checkpoint, with `-M quant=q4_k` or `-M quant=q8_0`",
            ),
            Error::NoFolder { .. } => (Code::SETTINGS, "give its folder, which also holds config.json"),
            Error::NotFinite { .. } => (
                Code::DATA,
                "the file is damaged, or its training went wrong; without `quant` it is loaded as it is",
            ),
            Error::Architecture { .. } | Error::RopeScaling { .. } => {
                (Code::UNSUPPORTED, "choose the model plugin that reads this checkpoint")
            }
            Error::Config { .. } => (
                Code::DATA,
                "use the JSON files, or the GGUF file, from the original checkpoint",
            ),
            Error::LoraTensor { .. } => (
                Code::DATA,
                "it may be for another model: see `base_model_name_or_path` in its adapter_config.json",
            ),
            Error::LoraIdle { .. } => (Code::DATA, "give the folder of the finished training"),
            Error::NoLora { .. } => (
                Code::MISSING,
                "give a folder as PEFT writes it, with adapter_config.json and adapter_model.safetensors",
            ),
            Error::LoraRounded { .. } => (
                Code::DATA,
                "its changes are below the precision of the base's type: use it unmerged",
            ),
            Error::LoraSetting { .. } => (
                Code::UNSUPPORTED,
                "train without it, or merge the LoRA into its base with PEFT and give the merged checkpoint as `weights`",
            ),
            Error::LoraName { .. } => (Code::SETTINGS, "name each as `NAME=FOLDER`"),
            Error::SeveralFiles { .. } => (Code::SETTINGS, "give one of them as `weights`"),
            Error::Memory { .. } => (
                Code::MEMORY,
                "reduce it with `-M quant=q4_k`, `-M quant=q8_0` or `-M dtype=bf16`, use a smaller model, or free memory: \
                 limits by the registry's `memory` or a control group also count",
            ),
            Error::TooLong { .. } => (
                Code::TOO_LONG,
                "it may have been recorded from another checkpoint; `max_position_embeddings` in config.json is the context",
            ),
            Error::NoSafetensors { .. } => (
                Code::UNSUPPORTED,
                "give the checkpoint in the Hugging Face layout as `weights`",
            ),
            Error::TiedHead { .. } => (
                Code::UNSUPPORTED,
                "use the LoRA unmerged: merged, it would also change the token embeddings",
            ),
            Error::Write { .. } => (Code::OTHER, "check free space and write permission"),
            Error::Tensor(_) => (Code::OTHER, ""),
        };
        let told = plugin_api::Error::from(self).code(code);
        if help.is_empty() { told } else { told.help(help) }
    }
}
