//! The identity of a judging, which comparable ones share: the prompt, the answer's schema, and the parser.

use crate::ask::Question;
use crate::{BATCH, ROLE};
use plugin_api::JudgeCard;
use sha2::{Digest, Sha256};

/// Increased if [`crate::read`] parses some answer differently. Stored answers are then parsed again, without asking a
/// service.
const READER: u32 = 1;

/// The card of a protocol. `empty` is its question about an empty case: the words that all questions share.
pub(crate) fn card(name: &str, version: &str, empty: &Question) -> JudgeCard {
    let mut card = JudgeCard {
        batch: BATCH,
        asks: vec![ROLE.to_owned()],
        ..JudgeCard::new(name, version)
    };
    let template = short_hash(&format!("{}\n{}", empty.system, empty.user));
    card.other.insert("template_sha256".to_owned(), template.into());
    card.other
        .insert("schema_sha256".to_owned(), short_hash(&empty.schema.to_string()).into());
    card.other.insert("reader".to_owned(), READER.into());
    card
}

/// The first 16 digits of a text's hash.
pub(crate) fn short_hash(text: &str) -> String {
    let hash = Sha256::digest(text.as_bytes());
    hash[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}
