//! From a place in the data to prompts for a model: sample, prompt, chains, variants, key, clips.
//!
//! Several threads build prompts ahead of the model, a bounded number of them.

use super::clips::ClipResolver;
use super::store::Scores;
use super::store::directory::RunDirectory;
use super::store::hash::{hash_all, hash_json};
use super::store::record::Record;
use super::store::scores::Records;
pub use super::work_item::WorkItem;
use plugin_api::client::TaskClient;
use plugin_api::{LoraUse, Prompt, Result, Sample, Want};
use serde_json::{Value, json};
use std::sync::{Mutex, PoisonError};

/// An item, and why it can't be asked, if so.
pub type Built = (WorkItem, Result<()>);

/// Where a run's prompts come from: a selection of samples, or variants of finished records.
pub trait Prompts: Sync {
    /// The items at this place; none after the last place. Clips are not decoded yet, since an item may already be
    /// done.
    fn at(&self, place: usize) -> Option<Vec<Built>>;

    /// Gives an item's prompt its clips or their replacements.
    fn resolve(&self, item: &mut WorkItem) -> Result<()>;
}

/// What every prompt of a run is built with.
pub struct PromptBuilder<'a> {
    pub task: &'a TaskClient,
    /// The task's name in records.
    pub task_name: &'a str,
    pub clips: ClipResolver<'a>,
    /// The hash of everything that is the same for all samples: settings, plugins, weights, task version.
    pub identity: &'a str,
    pub plugin_hash: Option<&'a str>,
    /// The hash of the words that the task puts around its samples, if it gives one.
    pub template_hash: Option<&'a str>,
    pub seed: u64,
    /// Answers to each question.
    pub chains: u32,
    /// Which LoRAs answer, where the task does not say.
    pub lora: &'a LoraUse,
}

/// A prompt that differs from the task's own in a way that has a name.
#[derive(Debug, Clone, Default)]
pub struct Variant {
    /// How it differs, in a stable form: `early_answering:3`.
    pub name: String,
    /// The prompt as a task writes it: its clips are places in the sample's clips.
    pub prompt: Prompt,
}

impl PromptBuilder<'_> {
    /// The task's prompt about a sample, once for each chain.
    pub fn chains_of(&self, index: usize) -> Vec<Built> {
        let (sample, prompt, outcome) = match self.task.ask(index) {
            Ok((sample, prompt)) => (sample, prompt, Ok(())),
            // A sample without a prompt still has a record that says which one it is.
            Err(error) => match self.task.sample(index) {
                Ok(sample) => (sample, Prompt::default(), Err(error)),
                Err(error) => {
                    let unreadable = |chain| (self.unreadable(index, chain), Err(error.clone()));
                    return (0..self.chains.max(1)).map(unreadable).collect();
                }
            },
        };
        let chain = |chain| {
            let record = Record {
                doc_id: index as u64,
                chain,
                ..Record::default()
            };
            let (item, built) = self.build(record, sample.clone(), prompt.clone());
            (item, outcome.clone().and(built))
        };
        (0..self.chains.max(1)).map(chain).collect()
    }

    /// A variant of a finished record's prompt as a separate item. `sample` is the record's, with its clips.
    pub fn variant_of(&self, parent: &Record, sample: Sample, variant: Variant) -> Built {
        let record = Record {
            doc_id: parent.doc_id,
            chain: parent.chain,
            variant: Some(variant.name),
            parent: Some(parent.key.clone()),
            ..Record::default()
        };
        self.build(record, sample, variant.prompt)
    }

    /// A sample that can't be read has no content to be identified by; its place is used instead.
    fn unreadable(&self, index: usize, chain: u32) -> WorkItem {
        let mut key = json!([self.identity, "unreadable", index]);
        if let (Some(parts), 1..) = (key.as_array_mut(), chain) {
            parts.push(json!({ "chain": chain }));
        }
        let record = Record {
            key: hash_json(&key),
            doc_id: index as u64,
            sample_id: format!("#{index}"),
            chain,
            ..Record::default()
        };
        let (sample, prompt) = Default::default();
        WorkItem {
            record: self.stamped(record),
            sample,
            prompt,
        }
    }

    fn stamped(&self, record: Record) -> Record {
        Record {
            task: self.task_name.to_owned(),
            plugin_hash: self.plugin_hash.map(str::to_owned),
            template_hash: self.template_hash.map(str::to_owned),
            ..record
        }
    }

    fn build(&self, record: Record, sample: Sample, prompt: Prompt) -> Built {
        let mut item = WorkItem {
            record: self.stamped(record),
            sample,
            prompt,
        };
        let record = &mut item.record;
        record.of_sample(&item.sample);
        let sources = serde_json::to_value(&item.sample.clips).unwrap_or_default();
        let place = match (record.chain, &record.variant) {
            (0, None) => None,
            (chain, variant) => Some(json!({ "chain": chain, "variant": variant, "parent": record.parent })),
        };
        let key = |last: &Value| {
            let mut parts = vec![
                json!(self.identity),
                json!(record.sample_id),
                json!(record.doc_hash),
                last.clone(),
            ];
            parts.extend(place.clone());
            hash_json(&Value::Array(parts))
        };
        if item.prompt.lora == LoraUse::AsLoaded {
            item.prompt.lora = self.lora.clone();
        }
        self.seed_prompt(&mut item.prompt, &key(&sources), record.chain);
        let arguments = serde_json::to_value(&item.prompt);
        // Its words, and where its clips come from.
        let prompt_hash = arguments
            .as_ref()
            .map(|words| hash_all(&[words, &sources]))
            .unwrap_or_default();
        record.key = key(&json!(prompt_hash));
        record.prompt_hash = prompt_hash;
        match arguments {
            Ok(arguments) => {
                record.arguments = arguments;
                (item, Ok(()))
            }
            Err(why) => (item, Err(why.into())),
        }
    }

    /// Each prompt has its own seed, so that an answer depends neither on its batch nor on earlier prompts.
    fn seed_prompt(&self, prompt: &mut Prompt, key: &str, chain: u32) {
        let Want::Text { sampling } = &mut prompt.want else {
            return;
        };
        let own = key
            .get(..16)
            .and_then(|digits| u64::from_str_radix(digits, 16).ok())
            .unwrap_or(0);
        let from = match sampling.seed {
            None => self.seed,
            Some(given) if chain > 0 => given,
            Some(_) => return, // the task wants this one
        };
        // 53 bits, so that every JSON reader keeps all of them.
        sampling.seed = Some((from ^ own) & ((1 << 53) - 1));
    }
}

/// The prompts of a selection of samples.
pub struct SelectedPrompts<'a> {
    pub builder: &'a PromptBuilder<'a>,
    pub selection: &'a [usize],
}

impl Prompts for SelectedPrompts<'_> {
    fn at(&self, place: usize) -> Option<Vec<Built>> {
        Some(self.builder.chains_of(*self.selection.get(place)?))
    }

    fn resolve(&self, item: &mut WorkItem) -> Result<()> {
        self.builder.clips.resolve(item)
    }
}

/// Makes variants of finished prompts: interventions on a reply's reasoning or on what the model heard.
pub trait Operator: Sync {
    /// The prompts to ask about this record. An error becomes a record with this parent and does not end the run.
    fn variants(&self, parent: &Record, sample: &Sample) -> Result<Vec<Variant>>;
}

/// The prompts that an operator makes from the records of a run, one place a record.
pub struct VariantPrompts<'a> {
    pub builder: &'a PromptBuilder<'a>,
    pub operator: &'a dyn Operator,
    /// Where the parents lie in their run's `samples.jsonl`.
    pub parents: &'a [u64],
    records: Mutex<Records<'a>>,
}

impl<'a> VariantPrompts<'a> {
    /// Variants of the records at these places of a run, which may be a different run from the one being made.
    pub fn new(
        builder: &'a PromptBuilder<'a>,
        operator: &'a dyn Operator,
        run: &RunDirectory,
        scores: &'a Scores,
        parents: &'a [u64],
    ) -> crate::failure::Result<Self> {
        Ok(VariantPrompts {
            builder,
            operator,
            parents,
            records: Mutex::new(Records::open(run, scores)?),
        })
    }
}

impl Prompts for VariantPrompts<'_> {
    fn at(&self, place: usize) -> Option<Vec<Built>> {
        let place = *self.parents.get(place)?;
        let read = self
            .records
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .read_at(place);
        let parent = match read {
            Ok(parent) => parent,
            Err(failure) => return Some(vec![(WorkItem::default(), Err(failure.error))]),
        };
        let made = usize::try_from(parent.doc_id)
            .map_err(plugin_api::Error::from)
            .and_then(|index| self.builder.task.sample(index))
            .and_then(|sample| Ok((self.operator.variants(&parent, &sample)?, sample)));
        Some(match made {
            Ok((variants, sample)) => {
                let build = |variant| self.builder.variant_of(&parent, sample.clone(), variant);
                variants.into_iter().map(build).collect()
            }
            Err(error) => {
                let none = Variant {
                    name: "none".to_owned(),
                    ..Variant::default()
                };
                let (item, _) = self.builder.variant_of(&parent, parent.sample(), none);
                vec![(item, Err(error))]
            }
        })
    }

    fn resolve(&self, item: &mut WorkItem) -> Result<()> {
        self.builder.clips.resolve(item)
    }
}
