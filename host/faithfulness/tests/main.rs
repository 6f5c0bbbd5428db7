//! The worked examples of the published experiments and of the figures, to the digit.

mod figures;
mod files;
mod masks;
mod splitting;
mod verifying;
