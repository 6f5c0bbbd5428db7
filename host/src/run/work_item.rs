//! What travels from the threads that build prompts to the model's pool.

use super::store::record::Record;
use plugin_api::{Prompt, Sample};

/// A prompt to ask, its sample, and the record that is being filled.
#[derive(Debug, Default)]
pub struct WorkItem {
    pub record: Record,
    pub sample: Sample,
    pub prompt: Prompt,
}
