//! The host's side of layer 1: the check of a library's layout, its adapters, and the host's callbacks behind a guard.
#![allow(unsafe_code)]

pub use crate::model::ESTIMATE;
pub use crate::task::FILES;
use crate::wire::abi::{crossed, AbiEnvelope, AbiError, AbiHost, AbiHost_TO, AdapterBox, PluginModRef};
pub use crate::wire::PANIC_ON_PURPOSE;
use crate::wire::{Adapter, Callbacks, Envelope};
use crate::{Code, Error, Kind, Result, Settings};
use abi_stable::abi_stability::abi_checking::{
    check_layout_compatibility_with_globals, AbiInstability, AbiInstabilityErrors, CheckingGlobals,
};
pub use abi_stable::library::{AbiHeaderRef, LibHeader};
use abi_stable::sabi_trait::TD_Opaque;
use abi_stable::sabi_types::RRef;
use abi_stable::std_types::{RResult, RStr};
use abi_stable::type_layout::{TLFieldOrFunction, TypeLayout};
use abi_stable::StableAbi;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

/// The symbol that a plugin exports, as `abi_stable` names it.
pub const ROOT_SYMBOL: &str = "_1as_0lib_1header_0root_bmodule_bloader";

/// A loaded plugin whose layout was found to fit.
#[derive(Clone, Copy)]
pub struct Plugin(PluginModRef);

/// Why a library can't be used as a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It was built with another layout of the boundary. Each string is a path to a difference.
    Layout {
        /// The version of the wire that it speaks.
        theirs: String,
        /// Where the two differ.
        differences: Vec<String>,
    },
    /// It can't be opened at all.
    Unusable(String),
}

impl Plugin {
    /// Checks a library's layout against this host's and opens it.
    ///
    /// The check is one-directional: it accepts a newer minor version as the implementation of an older interface, and
    /// refuses the opposite. So both directions are checked, and one is enough: missing suffix fields of an older
    /// plugin read as `None`.
    pub fn open(header: &'static LibHeader) -> std::result::Result<Plugin, Refusal> {
        let Some(theirs) = header.layout() else {
            return Err(Refusal::Unusable("it carries no description of its layout".to_owned()));
        };
        if let Err(errors) = either_way(<PluginModRef as StableAbi>::LAYOUT, theirs) {
            return Err(Refusal::Layout {
                theirs: header.version_strings().version.to_string(),
                differences: differences(&errors),
            });
        }
        // SAFETY: the layouts were found to be compatible just above.
        let module = unsafe { header.unchecked_layout::<PluginModRef>() };
        module.map(Plugin).map_err(|why| Refusal::Unusable(why.to_string()))
    }

    /// Connects the plugin's log to the host. To be called once in each process.
    pub fn init(self, host: Box<dyn Callbacks>) -> Result<()> {
        crossed(self.0.init()(AbiHost_TO::from_value(
            HostSide {
                host,
                panicked: &IGNORED,
            },
            TD_Opaque,
        )))
    }

    /// The notes of its adapters, as JSON.
    pub fn about(self) -> String {
        self.0.about()().into()
    }

    /// Makes an adapter.
    pub fn make(self, kind: Kind, name: &str, settings: &Settings) -> Result<Arc<dyn Adapter>> {
        self.make_by_word(kind.word(), name, settings)
    }

    /// Makes what this word calls: that of a [`Kind`], [`crate::loading::FILES`] for a task's files, or
    /// [`crate::loading::ESTIMATE`] for what a model would take.
    pub fn make_by_word(self, word: &str, name: &str, settings: &Settings) -> Result<Arc<dyn Adapter>> {
        let settings = Envelope::of(settings)?.json;
        let made = self.0.make()(RStr::from_str(word), RStr::from_str(name), RStr::from_str(&settings));
        crossed(made).map(|adapter: AdapterBox| Arc::new(Remote(adapter)) as Arc<dyn Adapter>)
    }
}

/// Whether one layout is compatible with the other. Each check gets fresh globals: the checker's own ones live as long
/// as the process, and remember plugins in a way that would make it refuse the next one.
fn either_way(ours: &'static TypeLayout, theirs: &'static TypeLayout) -> std::result::Result<(), AbiInstabilityErrors> {
    let check = |a, b| check_layout_compatibility_with_globals(a, b, &CheckingGlobals::new());
    check(ours, theirs).or_else(|errors| check(theirs, ours).map_err(|_| errors))
}

/// Turns the structured errors of the checker, whose stock text has hundreds of kilobytes, into a line each.
fn differences(errors: &AbiInstabilityErrors) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for error in errors.errors.iter() {
        let mut path: Vec<String> = Vec::new();
        for place in error.stack_trace.iter() {
            path.push(match &place.expected {
                TLFieldOrFunction::Field(field) => field.name().to_owned(),
                TLFieldOrFunction::Function(function) => function.name.to_string(),
            });
        }
        for why in error.errs.iter() {
            let what = match why {
                AbiInstability::Name(pair) => {
                    format!("host `{}`, plugin `{}`", pair.expected.name(), pair.found.name())
                }
                AbiInstability::Size(pair) => format!("host {} bytes, plugin {}", pair.expected, pair.found),
                AbiInstability::FieldCountMismatch(pair) => {
                    format!("host {} fields, plugin {}", pair.expected, pair.found)
                }
                // The kind of difference is the first word; what follows it are pages of types.
                other => {
                    let text = format!("{other:?}");
                    text.split(['(', '{', ' ']).next().unwrap_or_default().to_owned()
                }
            };
            let line = if path.is_empty() {
                what
            } else {
                format!("{}: {what}", path.join(" > "))
            };
            if !lines.contains(&line) && lines.len() < 8 {
                lines.push(line);
            }
        }
    }
    lines
}

/// An adapter in a library, as the host sees it.
struct Remote(AdapterBox);

impl Adapter for Remote {
    fn call(&self, method: &str, input: Envelope, host: &dyn Callbacks) -> Result<Envelope> {
        let panicked = AtomicBool::new(false);
        let side = HostSide {
            host,
            panicked: &panicked,
        };
        let host = AbiHost_TO::from_ptr(RRef::new(&side), TD_Opaque);
        let outcome = crossed(self.0.call(RStr::from_str(method), input.into(), &host));
        if panicked.load(Ordering::Acquire) {
            return Err(Error::new(
                Code::OTHER,
                format!("the host's own side panicked during `{method}`"),
            ));
        }
        outcome
    }
}

static IGNORED: AtomicBool = AtomicBool::new(false);

/// The host's callbacks behind their own guard: a panic in them would abort the process in the plugin's frames.
struct HostSide<'a, H> {
    host: H,
    panicked: &'a AtomicBool,
}

/// Both a borrowed and an owned host are callbacks.
trait AsCallbacks: Send + Sync {
    fn callbacks(&self) -> &dyn Callbacks;
}

impl AsCallbacks for &dyn Callbacks {
    fn callbacks(&self) -> &dyn Callbacks {
        *self
    }
}

impl AsCallbacks for Box<dyn Callbacks> {
    fn callbacks(&self) -> &dyn Callbacks {
        self.as_ref()
    }
}

impl<H: AsCallbacks> HostSide<'_, H> {
    fn guarded<T>(&self, otherwise: T, work: impl FnOnce(&dyn Callbacks) -> T) -> T {
        match catch_unwind(AssertUnwindSafe(|| work(self.host.callbacks()))) {
            Ok(value) => value,
            Err(payload) => {
                std::mem::forget(payload);
                self.panicked.store(true, Ordering::Release);
                otherwise
            }
        }
    }
}

impl<H: AsCallbacks> AbiHost for HostSide<'_, H> {
    fn ask(&self, what: RStr<'_>, input: AbiEnvelope) -> RResult<AbiEnvelope, AbiError> {
        let failed = || {
            Error::new(
                Code::OTHER,
                format!("the host panicked while it was asked for `{what}`"),
            )
        };
        let answer = self.guarded(None, |host| Some(host.ask(what.as_str(), input.into())));
        answer
            .unwrap_or_else(|| Err(failed()))
            .map(AbiEnvelope::from)
            .map_err(AbiError::from)
            .into()
    }

    fn emit(&self, what: RStr<'_>, note: AbiEnvelope) -> bool {
        self.guarded(false, |host| host.emit(what.as_str(), note.into()))
    }

    fn stop_asked(&self) -> bool {
        self.guarded(true, |host| host.stop_asked())
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
