//! What a record pairs with in another run.

use super::record::Record;

/// Which record of a sample: several chains of one question, or variants of a record, pair with their like.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub sample: String,
    pub variant: String,
    pub chain: u32,
}

impl Key {
    pub fn of(record: &Record) -> Key {
        Key {
            sample: record.sample_id.clone(),
            variant: record.variant.clone().unwrap_or_default(),
            chain: record.chain,
        }
    }
}
