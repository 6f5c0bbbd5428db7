//! What crosses between a plugin and its host: envelopes, and the one binary layer that carries them.

pub(crate) mod abi;
mod adapter;
mod callbacks;
mod envelope;
mod samples;

pub(crate) use adapter::unknown_method;
pub use adapter::Adapter;
pub(crate) use callbacks::named;
#[cfg(feature = "host")]
pub(crate) use callbacks::verb;
pub use callbacks::{Callbacks, NoCallbacks};
pub(crate) use envelope::{packed, Packed};
pub use envelope::{Clip, Envelope};

/// The method that every adapter answers by panicking, so that a host can prove that a plugin's panics are caught:
/// whether they are depends on how its author built it. Like any panic it poisons the adapter.
pub const PANIC_ON_PURPOSE: &str = "panic-on-purpose";
