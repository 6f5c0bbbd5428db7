//! Numbers that JSON has no word for.

use serde::{Deserialize, Deserializer};

/// Reads `null` as NaN, which is how `serde_json` writes it.
pub(crate) fn nan_when_null<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(from)?.unwrap_or(f64::NAN))
}
