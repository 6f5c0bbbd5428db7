//! What every format is read as.

use crate::row::Row;
use plugin_api::Result;

/// The rows of one file, by index.
pub(crate) trait Source: Send + Sync {
    fn len(&self) -> usize;
    /// The row; `index` is below `len`.
    fn get(&self, index: usize) -> Result<Row>;
}
