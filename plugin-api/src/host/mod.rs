//! The host's half of the contract. Plugins need it in their tests alone.

pub mod client;
pub mod loading;
