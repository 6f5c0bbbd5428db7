//! `host`: runs any model on any task, each of them in a plugin.
//!
//! It knows no model and no task by name, and no tensor. The README's map says which folder holds what.

pub mod audio;
pub mod conformance;
pub mod failure;
pub mod hub;
pub mod plugin;
pub mod registry;
pub mod scaffold;
pub mod worker;
