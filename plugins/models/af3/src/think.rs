//! The think variant, which lies in the checkpoint's folder `think`: a LoRA, weights that take the place of the
//! checkpoint's own, and words that ask for reasoning.
//!
//! The weights can't be exchanged between two prompts. So a model has all of it or none, and a prompt that is not to be
//! reasoned about only does without the words, by which the training told the two apart.

use plugin_api::{Code, Error, Result, Settings};
use std::path::{Path, PathBuf};

/// The name of the LoRA.
pub const NAME: &str = "think";
/// The end of each question, as the publisher asks for it.
pub const WORDS: &str = "Please think and reason about the input audio before you respond.";

const FOLDER: &str = "think";
const LORA: &str = "adapter_config.json";
const WEIGHTS: &str = "non_lora_trainables.bin";

/// The paths of the variant's parts.
pub struct Think {
    pub lora: PathBuf,
    pub weights: PathBuf,
}

/// The variant, if settings ask for it.
pub fn wanted(settings: &Settings, checkpoint: &Path) -> Result<Option<Think>> {
    if !settings.or("thinking", false)? {
        return Ok(None);
    }
    let lora = checkpoint.join(FOLDER);
    let weights = lora.join(WEIGHTS);
    if let Some(missing) = [lora.join(LORA), weights.clone()]
        .into_iter()
        .find(|file| !file.is_file())
    {
        let message = format!("setting `thinking` is on, but there is no `{}`", missing.display());
        return Err(Error::new(Code::MISSING, message).help(
            "audio-flamingo-3-hf brings the variant that thinks in its folder `think`: fetch that too, or leave `thinking` out",
        ));
    }
    Ok(Some(Think { lora, weights }))
}

/// The error about learning all weights of the variant.
pub fn not_all_learnt() -> Error {
    let message = "all weights of the variant that thinks cannot be learnt: its LoRA lies in a folder of its own";
    Error::new(Code::SETTINGS, message)
        .help("train a LoRA beside it (`--method lora`), or all weights without `thinking`")
}
