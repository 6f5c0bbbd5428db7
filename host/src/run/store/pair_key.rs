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
    /// The key of a sample's first record, for tests.
    #[cfg(test)]
    pub fn named(sample: &str) -> Key {
        Key {
            sample: sample.to_owned(),
            variant: String::new(),
            chain: 0,
        }
    }

    pub fn of(record: &Record) -> Key {
        Key {
            sample: record.sample_id.clone(),
            variant: record.variant.clone().unwrap_or_default(),
            chain: record.chain,
        }
    }
}
