//! `host`: runs any model on any task, each of them in a plugin.
//!
//! It knows no model and no task by name, and no tensor. The README's map says which folder holds what. That it is a
//! library at all is for its tests and for `main.rs`; plugins depend on `plugin-api` alone.

pub mod ask;
pub mod audio;
pub mod bench;
pub mod catalog;
pub mod cli;
pub mod compare;
pub mod conformance;
pub mod data;
pub mod export;
pub mod failure;
pub mod faithfulness;
mod fingerprint;
pub mod log;
pub mod plugin;
pub mod registry;
pub mod run;
pub mod scaffold;
pub mod score;
pub mod table;
pub mod train;
pub mod worker;
