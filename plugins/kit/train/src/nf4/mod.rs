//! Quantisation to bitsandbytes' four-bit format, which [`checkpoint::nf4`] reads, and to its eight-bit one.

mod quantise;
mod table;

pub(crate) use quantise::quantise;
pub(crate) use table::{bounds, bytes_table, nearest_byte};
