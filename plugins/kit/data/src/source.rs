//! The interface of all formats.

use crate::row::Row;
use plugin_api::Result;

/// The rows of one file, by index.
pub(crate) trait Source: Send + Sync {
    fn len(&self) -> usize;
    /// The row at `index`, which is below `len`.
    fn get(&self, index: usize) -> Result<Row>;
}
