//! Layer 1: the binary boundary. It never changes within a major version.
//!
//! Everything of `abi_stable` is fenced in here, and so is all `unsafe` of this crate: one line that exports the
//! root module, one that opens it, and the drop inside the guard. What crosses is one parcel type (a JSON text,
//! shared samples, bytes), one object type for adapters, one for the host's callbacks, and one error. If it must grow
//! after all: suffix fields and defaulted methods only.
//!
//! A panic never crosses. Each side guards what the other calls: the plugin its adapters, the host its callbacks.
#![allow(unsafe_code, non_local_definitions, missing_docs)]

use crate::adapter::Adapter;
use crate::call::Callbacks;
use crate::parcel::{Clip, Parcel};
use crate::{Code, Error, Kind, Result, Settings};
use abi_stable::abi_stability::abi_checking::{
    check_layout_compatibility_with_globals, AbiInstability, AbiInstabilityErrors, CheckingGlobals,
};
use abi_stable::library::RootModule;
pub use abi_stable::library::{AbiHeaderRef, LibHeader};
use abi_stable::package_version_strings;
use abi_stable::sabi_trait::TD_Opaque;
use abi_stable::sabi_types::{RRef, VersionStrings};
use abi_stable::std_types::{RArc, RBox, RErr, ROk, RResult, RStr, RString, RVec};
use abi_stable::type_layout::{TLFieldOrFunction, TypeLayout};
use abi_stable::{sabi_trait, StableAbi};
use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// The symbol that a plugin exports, as `abi_stable` names it.
pub const ROOT_SYMBOL: &str = "_1as_0lib_1header_0root_bmodule_bloader";

/// The method that every adapter answers by panicking, so that a host can prove that a plugin's panics are caught:
/// whether they are depends on how its author built it. Like any panic it poisons the adapter. Since 1.1.
pub const PANIC_ON_PURPOSE: &str = "panic-on-purpose";

/// Samples that several owners share without copying, also across the boundary.
#[derive(Clone)]
pub(crate) struct Samples(RArc<RVec<f32>>);

impl Samples {
    pub(crate) fn new(samples: Vec<f32>) -> Self {
        Samples(RArc::new(RVec::from(samples)))
    }

    pub(crate) fn as_slice(&self) -> &[f32] {
        self.0.as_slice()
    }
}

impl PartialEq for Samples {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

#[repr(C)]
#[derive(StableAbi)]
pub struct AbiClip {
    rate: u32,
    channels: u32,
    samples: RArc<RVec<f32>>,
}

#[repr(C)]
#[derive(StableAbi)]
pub struct AbiParcel {
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

/// The other side's way to be asked and told: for one call, or for the life of a plugin.
#[sabi_trait]
pub trait AbiHost: Send + Sync {
    fn ask(&self, what: RStr<'_>, input: AbiParcel) -> RResult<AbiParcel, AbiError>;
    fn emit(&self, what: RStr<'_>, note: AbiParcel) -> bool;
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
        input: AbiParcel,
        host: &AbiHost_TO<'_, RRef<'_, ()>>,
    ) -> RResult<AbiParcel, AbiError>;
}

type AdapterBox = AbiAdapter_TO<'static, RBox<()>>;
type HostBox = AbiHost_TO<'static, RBox<()>>;

/// The root module: what a plugin's one symbol leads to.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = PluginModRef)))]
#[sabi(missing_field(option))]
pub struct PluginMod {
    /// Called once in the life of a process, before any adapter is made.
    init: extern "C" fn(host: HostBox) -> RResult<(), AbiError>,
    /// The adapters, as a JSON list of notes.
    about: extern "C" fn() -> RString,
    /// Makes an adapter: kind, name, settings.
    #[sabi(last_prefix_field)]
    make: extern "C" fn(RStr<'_>, RStr<'_>, RStr<'_>) -> RResult<AdapterBox, AbiError>,
}

impl RootModule for PluginModRef {
    abi_stable::declare_root_module_statics! {PluginModRef}
    const BASE_NAME: &'static str = "plugin";
    const NAME: &'static str = "plugin";
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}

// --- values, one way and the other -------------------------------------------------------------------------------

impl From<Parcel> for AbiParcel {
    fn from(parcel: Parcel) -> Self {
        let clip = |clip: Clip| AbiClip {
            rate: clip.rate,
            channels: clip.channels,
            samples: clip.samples.0,
        };
        AbiParcel {
            json: parcel.json.into(),
            clips: parcel.clips.into_iter().map(clip).collect(),
            blobs: parcel.blobs.into_iter().map(RVec::from).collect(),
        }
    }
}

impl From<AbiParcel> for Parcel {
    fn from(parcel: AbiParcel) -> Self {
        let clip = |clip: AbiClip| Clip {
            rate: clip.rate,
            channels: clip.channels,
            samples: Samples(clip.samples),
        };
        Parcel {
            json: parcel.json.into(),
            clips: parcel.clips.into_iter().map(clip).collect(),
            blobs: parcel.blobs.into_iter().map(Vec::from).collect(),
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

fn crossed<T, U: From<T>>(result: RResult<T, AbiError>) -> Result<U> {
    match result {
        ROk(value) => Ok(value.into()),
        RErr(error) => Err(error.into()),
    }
}

// --- panics ------------------------------------------------------------------------------------------------------

thread_local! {
    /// How many guards the thread is inside of, and what the last panic in them said.
    static GUARDS: RefCell<(usize, Option<String>)> = const { RefCell::new((0, None)) };
}

/// Runs what the other side called. A panic becomes an error value with the text and the place of the panic.
pub(crate) fn guard<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    caught(what, work).unwrap_or_else(Err)
}

/// The same, with the error of a panic of its own apart from the errors that the work passes on.
pub(crate) fn caught<T>(what: &str, work: impl FnOnce() -> Result<T>) -> std::result::Result<Result<T>, Error> {
    GUARDS.with_borrow_mut(|guards| guards.0 += 1);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    let said = GUARDS.with_borrow_mut(|guards| {
        guards.0 -= 1;
        guards.1.take()
    });
    outcome.map_err(|payload| {
        let text = said.unwrap_or_else(|| payload_text(payload.as_ref()));
        std::mem::forget(payload); // its `Drop` may panic too, outside of any guard
        Error::new(Code::PANIC, format!("panicked in `{what}`: {text}"))
    })
}

fn payload_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "(a payload that is no text)".to_owned())
}

/// Keeps the text of panics inside guards and sends those outside, on a plugin's own threads, to the host's log.
fn install_panic_hook() {
    let former = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let place = info
            .location()
            .map(|at| format!(" at {}:{}", at.file(), at.line()))
            .unwrap_or_default();
        let text = format!("{}{place}", payload_text(info.payload()));
        let guarded = GUARDS.try_with(|guards| {
            guards.try_borrow_mut().map(|mut guards| {
                let inside = guards.0 > 0;
                if inside {
                    guards.1 = Some(text.clone());
                }
                inside
            })
        });
        if !matches!(guarded, Ok(Ok(true))) && !crate::log(crate::Level::Error, &format!("a thread panicked: {text}")) {
            former(info);
        }
    }));
}

// --- the plugin's side -------------------------------------------------------------------------------------------

static HOST: OnceLock<HostBox> = OnceLock::new();

/// The host that this plugin was introduced to, if it was.
pub(crate) fn host() -> Option<&'static dyn Callbacks> {
    HOST.get().map(|host| host as &dyn Callbacks)
}

macro_rules! callbacks_through_layer_1 {
    ($type:ty) => {
        impl Callbacks for $type {
            fn ask(&self, what: &str, input: Parcel) -> Result<Parcel> {
                crossed(AbiHost_TO::ask(self, RStr::from_str(what), input.into()))
            }

            fn emit(&self, what: &str, note: Parcel) -> bool {
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

/// An adapter behind the guard. After a panic its state can't be trusted, so it answers nothing more.
struct Guarded {
    adapter: ManuallyDrop<Box<dyn Adapter>>,
    poisoned: AtomicBool,
}

impl AbiAdapter for Guarded {
    fn call(
        &self,
        method: RStr<'_>,
        input: AbiParcel,
        host: &AbiHost_TO<'_, RRef<'_, ()>>,
    ) -> RResult<AbiParcel, AbiError> {
        if self.poisoned.load(Ordering::Acquire) {
            return RErr(Error::new(Code::POISONED, "this adapter panicked before and must be made anew").into());
        }
        let method = method.as_str();
        let outcome = caught(method, || match method {
            PANIC_ON_PURPOSE => panic!("on purpose, since the host asked for it"),
            _ => self.adapter.call(method, input.into(), host),
        });
        // Its own panic alone: an adapter may pass on another's, a judge its grader's, and be as sound as before.
        let outcome = outcome.unwrap_or_else(|panic| {
            self.poisoned.store(true, Ordering::Release);
            Err(panic)
        });
        outcome.map(AbiParcel::from).map_err(AbiError::from).into()
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
        if HOST.set(host).is_err() {
            return Err(Error::msg(
                "this plugin was introduced to a host before in this process",
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
            (crate::files::WORD, _) => crate::files::make_files(name.as_str(), &settings)?,
            (crate::estimate::WORD, _) => crate::estimate::make_estimate(name.as_str(), &settings)?,
            _ => return Err(Error::unsupported(format!("this plugin knows no kind `{kind}`"))),
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

/// Exports the root module under the name that [`ROOT_SYMBOL`] holds.
#[doc(hidden)]
#[macro_export]
macro_rules! __root {
    () => {
        // Naming a symbol counts as unsafe, since two of a name in one binary would clash.
        #[allow(unsafe_code, non_upper_case_globals)]
        #[no_mangle]
        pub static _1as_0lib_1header_0root_bmodule_bloader: $crate::__private::LibHeader =
            $crate::__private::lib_header();
    };
}

// --- the host's side ---------------------------------------------------------------------------------------------

/// A loaded plugin whose layout was found to fit.
#[derive(Clone, Copy)]
pub struct Plugin(PluginModRef);

/// Why a library can't be used as a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It was built with another layout of the boundary. Each string is a path to a difference.
    Layout {
        /// The version of `plugin-api` that it speaks.
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
    /// The check is one-directional: it accepts a newer minor version as the implementation of an older interface and
    /// refuses the opposite. So it is asked both ways, and one of them is enough: an older plugin lacks suffixes whose
    /// absence reads as `None`.
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

    /// Introduces the host: where the plugin's log goes. Once in the life of a process.
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
    /// [`crate::loading::ESTIMATE`] for what a model would take. Since 1.2.
    pub fn make_by_word(self, word: &str, name: &str, settings: &Settings) -> Result<Arc<dyn Adapter>> {
        let settings = Parcel::of(settings)?.json;
        let made = self.0.make()(RStr::from_str(word), RStr::from_str(name), RStr::from_str(&settings));
        crossed(made).map(|adapter: AdapterBox| Arc::new(Remote(adapter)) as Arc<dyn Adapter>)
    }
}

/// Whether one layout can stand for the other. Each check gets fresh globals: the checker's own live as long as the
/// process, and what it saw of one plugin would make it refuse the next.
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
    fn call(&self, method: &str, input: Parcel, host: &dyn Callbacks) -> Result<Parcel> {
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

/// The host's callbacks behind a guard of their own: a panic in them would abort the process in the plugin's frames.
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
    fn ask(&self, what: RStr<'_>, input: AbiParcel) -> RResult<AbiParcel, AbiError> {
        let failed = || {
            Error::new(
                Code::OTHER,
                format!("the host panicked while it was asked for `{what}`"),
            )
        };
        let answer = self.guarded(None, |host| Some(host.ask(what.as_str(), input.into())));
        answer
            .unwrap_or_else(|| Err(failed()))
            .map(AbiParcel::from)
            .map_err(AbiError::from)
            .into()
    }

    fn emit(&self, what: RStr<'_>, note: AbiParcel) -> bool {
        self.guarded(false, |host| host.emit(what.as_str(), note.into()))
    }

    fn stop_asked(&self) -> bool {
        self.guarded(true, |host| host.stop_asked())
    }
}

#[cfg(test)]
mod tests;
