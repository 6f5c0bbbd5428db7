//! All families, and which of them a checkpoint is of.
//!
//! Left out: what the kit's dense decoder reads (`qwen3`, `gemma`), RWKV, whose checkpoints have no `tokenizer.json`,
//! and MPT, of which candle knows one published shape alone.

mod attention;
mod experts;
mod scans;

use crate::family::Entry;
use crate::fields::Fields;
use nn::{Error, Result, read_config};
use plugin_api::serde_json::{Map, Value};
use std::path::Path;

static ALL: [Entry; 15] = [
    Entry::of::<attention::Gemma>(),
    Entry::of::<attention::Gemma2>(),
    Entry::of::<attention::StableLm>(),
    Entry::of::<attention::Starcoder2>(),
    Entry::of::<attention::BigCode>(),
    Entry::of::<attention::Phi>(),
    Entry::of::<attention::Olmo>(),
    Entry::of::<attention::Helium>(),
    Entry::of::<attention::Falcon>(),
    Entry::of::<experts::Mixtral>(),
    Entry::of::<experts::Qwen2Moe>(),
    Entry::of::<experts::Qwen3Moe>(),
    Entry::of::<experts::DeepSeek2>(),
    Entry::of::<scans::Mamba>(),
    Entry::of::<scans::Mamba2>(),
];

/// The family of a folder according to its config.json, and that file's fields.
pub fn find(folder: &Path) -> Result<(&'static Entry, Fields)> {
    let known: Vec<&str> = ALL.iter().map(|entry| entry.name).collect();
    let given: Map<String, Value> = read_config(folder, &known)?;
    let path = folder.join("config.json");
    let found = ALL
        .iter()
        .find(|entry| given.get("model_type").is_some_and(|name| name == entry.name));
    let Some(entry) = found else {
        return Err(Error::Architecture {
            path,
            got: "none named".to_owned(),
            known: known.join(", "),
        });
    };
    // The same layers with another head are another model.
    let class = given
        .get("architectures")
        .and_then(|classes| classes.get(0))
        .and_then(Value::as_str);
    if let Some(other) = class.filter(|class| *class != entry.class) {
        return Err(Error::Architecture {
            path,
            got: other.to_owned(),
            known: ALL.iter().map(|entry| entry.class).collect::<Vec<_>>().join(", "),
        });
    }
    let mut fields = Fields::of(path, entry.name, given, (entry.defaults)())?;
    (entry.settle)(&mut fields)?;
    Ok((entry, fields))
}
