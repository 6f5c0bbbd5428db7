//! From an index to a prompt that a model can be given: sample, prompt, key, clips.
//!
//! Several threads do this ahead of the model, a bounded number of prompts ahead of it.

use super::input::Inputs;
use super::record::{Record, hash_all, hash_json};
use plugin_api::client::TaskClient;
use plugin_api::{LoraUse, Prompt, Result, Sample};
use serde_json::{Value, json};

/// A sample with its prompt, ready for the model, and the record that is being filled.
#[derive(Debug, Default)]
pub struct Prepared {
    pub record: Record,
    pub sample: Sample,
    pub prompt: Prompt,
}

/// What every sample of a run is prepared with.
pub struct Preparing<'a> {
    pub task: &'a TaskClient,
    pub inputs: Inputs<'a>,
    /// The hash of everything that is the same for all samples: settings, plugins, weights, task version.
    pub identity: &'a str,
    pub plugin_hash: Option<&'a str>,
    /// Which words the task puts around its samples, when it says so.
    pub template_hash: Option<&'a str>,
    pub seed: u64,
    /// Which LoRAs answer, where the task does not say.
    pub lora: &'a LoraUse,
}

impl Preparing<'_> {
    /// The sample, its prompt and its key. Clips are not decoded yet, since the sample may be done already.
    pub fn begin(&self, index: usize) -> (Prepared, Result<()>) {
        let mut prepared = Prepared::default();
        let record = &mut prepared.record;
        record.doc_id = index as u64;
        record.plugin_hash = self.plugin_hash.map(str::to_owned);
        record.template_hash = self.template_hash.map(str::to_owned);
        // A sample that can't be read has no content to be known by; its place stands in.
        record.key = hash_json(&json!([self.identity, "unreadable", index]));
        record.sample_id = format!("#{index}");
        let outcome = self.task.sample(index).and_then(|sample| {
            record.of_sample(&sample);
            prepared.sample = sample;
            let sources = serde_json::to_value(&prepared.sample.clips).unwrap_or_default();
            record.key = hash_json(&json!([self.identity, record.sample_id, record.doc_hash, sources]));
            prepared.prompt = self.task.prompt(&prepared.sample)?;
            if prepared.prompt.lora == LoraUse::AsLoaded {
                prepared.prompt.lora = self.lora.clone();
            }
            self.seed_prompt(&mut prepared.prompt, &record.key);
            record.arguments = serde_json::to_value(&prepared.prompt)?;
            // Its words, and where its clips come from.
            record.prompt_hash = hash_all(&[&record.arguments, &sources]);
            record.key = hash_json(&json!([
                self.identity,
                record.sample_id,
                record.doc_hash,
                record.prompt_hash
            ]));
            Ok(())
        });
        (prepared, outcome)
    }

    /// Each sample draws from a seed of its own, so that an answer depends neither on its batch nor on what came before.
    fn seed_prompt(&self, prompt: &mut Prompt, key: &str) {
        let plugin_api::Want::Text { sampling } = &mut prompt.want else {
            return;
        };
        if sampling.seed.is_none() {
            let own = u64::from_str_radix(&key[..16], 16).unwrap_or(0);
            // 53 bits, so that every JSON reader keeps all of them.
            sampling.seed = Some((self.seed ^ own) & ((1 << 53) - 1));
        }
    }
}

/// The prompt of a record, for judges of a finished run.
pub fn recorded_prompt(arguments: &Value) -> Option<Prompt> {
    serde_json::from_value(arguments.clone()).ok()
}
