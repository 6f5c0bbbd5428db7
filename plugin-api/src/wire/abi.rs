//! Layer 1: the binary boundary, which changes with the wire's version alone.
//!
//! `abi_stable` is used only here, in `export.rs` (the plugin's end) and in `host/loading.rs` (the host's). What
//! crosses is one envelope type (a JSON text, shared samples, bytes), one object type for adapters, one for the host's
//! callbacks, and one error. It may grow only by suffix fields and defaulted methods.
//!
//! A panic never crosses. Each side guards what the other calls: the plugin its adapters, the host its callbacks.
#![allow(unsafe_code, non_local_definitions, missing_docs)]
#![cfg_attr(not(feature = "host"), allow(dead_code))] // the root module is read by hosts alone

use super::samples::Samples;
use super::{Callbacks, Clip, Envelope};
use crate::{Code, Error, Result};
use abi_stable::library::RootModule;
use abi_stable::package_version_strings;
use abi_stable::sabi_types::{RRef, VersionStrings};
use abi_stable::std_types::{RArc, RBox, RErr, ROk, RResult, RStr, RString, RVec};
use abi_stable::{sabi_trait, StableAbi};

/// The version of the wire: the layouts of this file and their meaning. Plugins and hosts with the same one work
/// together. The crate's own version is that of the vocabulary. `build.rs` gives the layouts this version instead of
/// the crate's, since `abi_stable` treats each 0.x as incompatible.
pub const WIRE: &str = env!("PLUGIN_API_WIRE");

#[repr(C)]
#[derive(StableAbi)]
pub struct AbiClip {
    rate: u32,
    channels: u32,
    samples: RArc<RVec<f32>>,
}

#[repr(C)]
#[derive(StableAbi)]
pub struct AbiEnvelope {
    json: RString,
    clips: RVec<AbiClip>,
    blobs: RVec<RVec<u8>>,
}

#[repr(C)]
#[derive(StableAbi)]
pub struct AbiError {
    code: u32,
    json: RString,
}

/// The host as a plugin calls it: for one call, or for the life of the plugin.
#[sabi_trait]
pub trait AbiHost: Send + Sync {
    fn ask(&self, what: RStr<'_>, input: AbiEnvelope) -> RResult<AbiEnvelope, AbiError>;
    fn emit(&self, what: RStr<'_>, note: AbiEnvelope) -> bool;
    #[sabi(last_prefix_field)]
    fn stop_asked(&self) -> bool;
}

/// One Model, Task or Judge.
#[sabi_trait]
pub trait AbiAdapter: Send + Sync {
    #[sabi(last_prefix_field)]
    fn call(
        &self,
        method: RStr<'_>,
        input: AbiEnvelope,
        host: &AbiHost_TO<'_, RRef<'_, ()>>,
    ) -> RResult<AbiEnvelope, AbiError>;
}

pub(crate) type AdapterBox = AbiAdapter_TO<'static, RBox<()>>;
pub(crate) type HostBox = AbiHost_TO<'static, RBox<()>>;

/// The root module, which a plugin's one symbol returns.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = PluginModRef)))]
#[sabi(missing_field(option))]
pub struct PluginMod {
    /// Called once in each process, before any adapter is created.
    pub(crate) init: extern "C" fn(host: HostBox) -> RResult<(), AbiError>,
    /// The adapters, as a JSON list of notes.
    pub(crate) about: extern "C" fn() -> RString,
    /// Creates an adapter: kind, name, settings.
    #[sabi(last_prefix_field)]
    pub(crate) make: extern "C" fn(RStr<'_>, RStr<'_>, RStr<'_>) -> RResult<AdapterBox, AbiError>,
}

impl RootModule for PluginModRef {
    abi_stable::declare_root_module_statics! {PluginModRef}
    const BASE_NAME: &'static str = "plugin";
    const NAME: &'static str = "plugin";
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}

impl From<Envelope> for AbiEnvelope {
    fn from(envelope: Envelope) -> Self {
        let clip = |clip: Clip| AbiClip {
            rate: clip.rate,
            channels: clip.channels,
            samples: clip.samples.0,
        };
        AbiEnvelope {
            json: envelope.json.into(),
            clips: envelope.clips.into_iter().map(clip).collect(),
            blobs: envelope.blobs.into_iter().map(RVec::from).collect(),
        }
    }
}

impl From<AbiEnvelope> for Envelope {
    fn from(envelope: AbiEnvelope) -> Self {
        let clip = |clip: AbiClip| Clip {
            rate: clip.rate,
            channels: clip.channels,
            samples: Samples(clip.samples),
        };
        Envelope {
            json: envelope.json.into(),
            clips: envelope.clips.into_iter().map(clip).collect(),
            blobs: envelope.blobs.into_iter().map(Vec::from).collect(),
        }
    }
}

impl From<Error> for AbiError {
    fn from(error: Error) -> Self {
        let error = error.redacted();
        let json = serde_json::to_string(&error).unwrap_or_else(|_| "{}".to_owned());
        AbiError {
            code: error.code.0,
            json: json.into(),
        }
    }
}

impl From<AbiError> for Error {
    fn from(error: AbiError) -> Self {
        let read = serde_json::from_str::<Error>(error.json.as_str());
        read.unwrap_or_else(|_| Error::msg(error.json.to_string()))
            .code(Code(error.code))
    }
}

pub(crate) fn crossed<T, U: From<T>>(result: RResult<T, AbiError>) -> Result<U> {
    match result {
        ROk(value) => Ok(value.into()),
        RErr(error) => Err(error.into()),
    }
}

macro_rules! callbacks_through_layer_1 {
    ($type:ty) => {
        impl Callbacks for $type {
            fn ask(&self, what: &str, input: Envelope) -> Result<Envelope> {
                crossed(AbiHost_TO::ask(self, RStr::from_str(what), input.into()))
            }

            fn emit(&self, what: &str, note: Envelope) -> bool {
                AbiHost_TO::emit(self, RStr::from_str(what), note.into())
            }

            fn stop_asked(&self) -> bool {
                AbiHost_TO::stop_asked(self)
            }
        }
    };
}

callbacks_through_layer_1!(AbiHost_TO<'_, RRef<'_, ()>>);
callbacks_through_layer_1!(HostBox);
