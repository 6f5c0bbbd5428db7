//! The plugin's side of layer 1: its root module, and its adapters behind a guard.
#![allow(unsafe_code, missing_docs)]

use crate::guard::{caught, guard, install_panic_hook};
use crate::wire::abi::{
    AbiAdapter, AbiAdapter_TO, AbiEnvelope, AbiError, AbiHost_TO, AdapterBox, HostBox, PluginMod, PluginModRef,
};
use crate::wire::{Adapter, PANIC_ON_PURPOSE};
use crate::{Code, Error, Kind, Settings};
pub use abi_stable::library::LibHeader;
use abi_stable::sabi_trait::TD_Opaque;
use abi_stable::sabi_types::RRef;
use abi_stable::std_types::{RErr, RResult, RStr, RString};
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, Ordering};

/// An adapter behind the guard. After a panic its state can't be trusted, so it refuses all further calls.
struct Guarded {
    adapter: ManuallyDrop<Box<dyn Adapter>>,
    poisoned: AtomicBool,
}

impl AbiAdapter for Guarded {
    fn call(
        &self,
        method: RStr<'_>,
        input: AbiEnvelope,
        host: &AbiHost_TO<'_, RRef<'_, ()>>,
    ) -> RResult<AbiEnvelope, AbiError> {
        if self.poisoned.load(Ordering::Acquire) {
            return RErr(Error::new(Code::POISONED, "this adapter panicked before and must be made again").into());
        }
        let method = method.as_str();
        let outcome = caught(method, || match method {
            PANIC_ON_PURPOSE => panic!("on purpose, since the host asked for it"),
            _ => self.adapter.call(method, input.into(), host),
        });
        // Only its own panic counts: an adapter may pass on another's, as a judge does its grader's, and stay usable.
        let outcome = outcome.unwrap_or_else(|panic| {
            self.poisoned.store(true, Ordering::Release);
            Err(panic)
        });
        outcome.map(AbiEnvelope::from).map_err(AbiError::from).into()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: this is the only place that drops it, and nothing reads it afterwards.
        let dropped = guard("drop", || {
            unsafe { ManuallyDrop::drop(&mut self.adapter) };
            Ok(())
        });
        if let Err(error) = dropped {
            crate::log(crate::Level::Error, &error.to_string());
        }
    }
}

extern "C" fn init(host: HostBox) -> RResult<(), AbiError> {
    let outcome = guard("init", || {
        if !crate::log::introduce(Box::new(host)) {
            return Err(Error::msg(
                "this plugin was already connected to a host in this process",
            ));
        }
        install_panic_hook();
        Ok(())
    });
    outcome.map_err(AbiError::from).into()
}

extern "C" fn about() -> RString {
    let notes: Vec<_> = crate::register::registrations().iter().map(|it| it.note).collect();
    format!("[{}]", notes.join(",")).into()
}

extern "C" fn make(kind: RStr<'_>, name: RStr<'_>, settings: RStr<'_>) -> RResult<AdapterBox, AbiError> {
    let outcome = guard("make", || {
        let settings: Settings = serde_json::from_str(settings.as_str())
            .map_err(|why| Error::new(Code::ENVELOPE, format!("cannot read the settings: {why}")))?;
        let adapter = match (kind.as_str(), Kind::from_word(kind.as_str())) {
            (_, Some(kind)) => crate::register::make(kind, name.as_str(), &settings)?,
            (crate::task::FILES, _) => crate::task::make_files(name.as_str(), &settings)?,
            (crate::model::ESTIMATE, _) => crate::model::make_estimate(name.as_str(), &settings)?,
            _ => {
                return Err(Error::unsupported(format!(
                    "this plugin does not know the kind `{kind}`"
                )))
            }
        };
        let guarded = Guarded {
            adapter: ManuallyDrop::new(adapter),
            poisoned: AtomicBool::new(false),
        };
        Ok(AbiAdapter_TO::from_value(guarded, TD_Opaque))
    });
    outcome.map_err(AbiError::from).into()
}

#[doc(hidden)]
pub extern "C" fn root_module() -> abi_stable::library::RootModuleResult {
    fn module() -> PluginModRef {
        use abi_stable::prefix_type::PrefixTypeTrait;
        PluginMod { init, about, make }.leak_into_prefix()
    }
    abi_stable::library::__call_root_module_loader(module)
}

#[doc(hidden)]
pub const fn lib_header() -> LibHeader {
    // SAFETY: `root_module` returns a `PluginModRef`, as `from_constructor` wants it.
    unsafe { LibHeader::from_constructor::<PluginModRef>(root_module, abi_stable::library::CheckTypeLayout::Yes) }
}

/// Exports the root module under the name that `loading::ROOT_SYMBOL` holds.
#[doc(hidden)]
#[macro_export]
macro_rules! __root {
    () => {
        // Rust counts setting a symbol's name as unsafe, since two equal names in one binary would clash.
        #[allow(unsafe_code, non_upper_case_globals)]
        #[no_mangle]
        pub static _1as_0lib_1header_0root_bmodule_bloader: $crate::__private::LibHeader =
            $crate::__private::lib_header();
    };
}
