//! The worked examples of the published experiments and of the figures, to the digit.

mod figures;
mod files;
mod invented;
mod masks;
mod plots;
mod splitting;
mod verifying;
