//! What judges say of themselves.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a judge says of itself.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct JudgeCard {
    /// What it is called; its metric bears this name.
    pub name: String,
    /// Changes when a verdict could.
    pub version: String,
    /// How many cases it may be shown at a time.
    pub batch: u32,
    /// The roles that it asks models in: `["judge"]`. Empty when it needs no model.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub asks: Vec<String>,
    /// True when it compares two answers: its cases have [`crate::Case::other`].
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub compares: bool,
    /// Fields that this version doesn't know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl JudgeCard {
    /// A judge of this name.
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Self {
        JudgeCard {
            name: name.into(),
            version: version.into(),
            ..JudgeCard::default()
        }
    }
}
