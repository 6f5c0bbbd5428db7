//! How a plugin announces its adapters: to itself through `inventory`, to the host through a note in the file.
//!
//! The note is an ELF section of JSON lines. A host lists plugins and compares versions by reading the file, and runs
//! none of its code before it has decided to load it.

use crate::judge::JudgeAdapter;
use crate::model::ModelAdapter;
use crate::settings::{without_nulls, OptionSpec, OptionType};
use crate::task::TaskAdapter;
use crate::wire::Adapter;
use crate::{Code, Error, Judge, Kind, Model, Result, Settings, Task};
use serde::{Deserialize, Serialize};

/// The ELF section that holds the note.
pub const NOTE_SECTION: &str = "host_plugin";

/// One line of a plugin's note.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum NoteRecord {
    /// What [`crate::export_plugin!`] says of the plugin.
    Plugin {
        /// The crate's name.
        name: String,
        /// The crate's version.
        version: String,
        /// The version of `plugin-api` it was built against.
        api: String,
        /// The version of the wire it speaks, which says whether a host can load it: [`crate::WIRE`]. Plugins from
        /// before the wire had a version of its own don't say one.
        #[serde(default)]
        wire: String,
        /// The compiler it was built with.
        rustc: String,
        /// `unwind` or `abort`.
        panic: String,
        /// True for a build with debug assertions.
        debug: bool,
    },
    /// What a `register_*!` macro says of one adapter.
    Adapter(AdapterNote),
    /// What [`crate::register_files!`] says of a task's files.
    Files(FilesNote),
    /// What [`crate::register_estimate!`] says of a model.
    Estimate(EstimateNote),
    /// A record that this version doesn't know.
    #[serde(other)]
    Unknown,
}

/// What a `register_*!` macro says of one adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdapterNote {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// What it is, in a line.
    pub about: String,
    /// The options it is made with.
    #[serde(deserialize_with = "without_nulls")]
    pub options: Vec<OptionSpec>,
}

/// What [`crate::register_files!`] says of a task's files.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FilesNote {
    /// The task's name.
    pub task: String,
    /// What they are, in a line.
    pub about: String,
}

/// What [`crate::register_estimate!`] says of a model.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EstimateNote {
    /// The model's name.
    pub model: String,
}

/// Makes an adapter from settings.
pub type Make = fn(&Settings) -> Result<Box<dyn Adapter>>;

/// One announced adapter, as `inventory` keeps it.
pub struct Registration {
    #[doc(hidden)]
    pub kind: Kind,
    #[doc(hidden)]
    pub name: &'static str,
    #[doc(hidden)]
    pub note: &'static str,
    #[doc(hidden)]
    pub make: Make,
}

inventory::collect!(Registration);

/// The adapters announced in this library, sorted by kind and name: `inventory`'s own order changes from build to
/// build.
pub fn registrations() -> Vec<&'static Registration> {
    let mut all: Vec<_> = inventory::iter::<Registration>.into_iter().collect();
    all.sort_by_key(|registration| (registration.kind, registration.name));
    all
}

/// Makes one of this library's adapters. The host does this through layer 1; a plugin's own tests do it directly.
///
/// The settings are checked as the host checks them: one that is not declared is an error, defaults are filled in.
pub fn make(kind: Kind, name: &str, settings: &Settings) -> Result<Box<dyn Adapter>> {
    let (found, settings) = find(kind, name, settings)?;
    (found.make)(&settings)
}

/// The settings with which one of this library's adapters would be created.
pub(crate) fn settled(kind: Kind, name: &str, settings: &Settings) -> Result<Settings> {
    find(kind, name, settings).map(|(_, settings)| settings)
}

fn find(kind: Kind, name: &str, settings: &Settings) -> Result<(&'static Registration, Settings)> {
    let all = registrations();
    let Some(found) = all.iter().find(|it| it.kind == kind && it.name == name) else {
        let names: Vec<_> = all.iter().map(|it| format!("{} `{}`", it.kind, it.name)).collect();
        let message = format!("this plugin holds no {kind} `{name}`");
        return Err(Error::new(Code::MISSING, message).help(format!("it holds {}", names.join(", "))));
    };
    let note: AdapterNote = serde_json::from_str(found.note)
        .map_err(|why| Error::new(Code::ENVELOPE, format!("the note of {kind} `{name}` is broken: {why}")))?;
    Ok((found, with_defaults(settings, &note)?))
}

/// Fills in defaults, and refuses settings that were not declared.
fn with_defaults(settings: &Settings, note: &AdapterNote) -> Result<Settings> {
    let mut filled = settings.clone();
    let open = note.options.iter().any(|option| option.kind == OptionType::Open);
    for name in settings.0.keys() {
        if !open && !note.options.iter().any(|option| option.name == *name) {
            let known: Vec<_> = note.options.iter().map(|option| format!("`{}`", option.name)).collect();
            let message = format!("{} `{}` has no setting `{name}`", note.kind, note.name);
            let help = match known.len() {
                0 => "it has no settings".to_owned(),
                _ => format!("it has {}", known.join(", ")),
            };
            return Err(Error::new(Code::SETTINGS, message).help(help));
        }
    }
    for option in &note.options {
        let given = settings.0.get(&option.name).is_some_and(|value| !value.is_null());
        if !given && option.required {
            let message = format!("{} `{}` needs the setting `{}`", note.kind, note.name, option.name);
            return Err(Error::new(Code::SETTINGS, message).help(option.help.clone()));
        }
        if !given && !option.default.is_null() {
            filled.0.insert(option.name.clone(), option.default.clone());
        }
    }
    Ok(filled)
}

#[doc(hidden)]
pub fn model<M: Model + 'static>(model: M) -> Box<dyn Adapter> {
    Box::new(ModelAdapter::new(Box::new(model)))
}

#[doc(hidden)]
pub fn task<T: Task + 'static>(task: T) -> Box<dyn Adapter> {
    Box::new(TaskAdapter(Box::new(task)))
}

#[doc(hidden)]
pub fn judge<J: Judge + 'static>(judge: J) -> Box<dyn Adapter> {
    Box::new(JudgeAdapter(Box::new(judge)))
}

#[doc(hidden)]
pub const fn note_len(parts: &[&str]) -> usize {
    let (mut total, mut part) = (0, 0);
    while part < parts.len() {
        total += parts[part].len();
        part += 1;
    }
    total
}

#[doc(hidden)]
pub const fn note_bytes<const N: usize>(parts: &[&str]) -> [u8; N] {
    let mut bytes = [0; N];
    let (mut at, mut part) = (0, 0);
    while part < parts.len() {
        let from = parts[part].as_bytes();
        let mut index = 0;
        while index < from.len() {
            bytes[at] = from[index];
            at += 1;
            index += 1;
        }
        part += 1;
    }
    bytes
}

/// The option types by the words in macros, so that a misspelt one doesn't compile.
#[doc(hidden)]
#[allow(non_upper_case_globals)]
pub mod option_types {
    use crate::OptionType;
    pub const text: OptionType = OptionType::Text;
    pub const integer: OptionType = OptionType::Integer;
    pub const number: OptionType = OptionType::Number;
    pub const flag: OptionType = OptionType::Flag;
    pub const path: OptionType = OptionType::Path;
    pub const weights: OptionType = OptionType::Weights;
    pub const data: OptionType = OptionType::Data;
    pub const folders: OptionType = OptionType::Folders;
    pub const secret: OptionType = OptionType::Secret;
    pub const open: OptionType = OptionType::Open;
}

/// The words that may follow an option's type.
#[doc(hidden)]
#[allow(non_upper_case_globals)]
pub mod option_words {
    pub const required: () = ();
    pub const neutral: () = ();
}

/// Announces a [`Model`]: its name, a line about it, a function from [`Settings`] to it, and its options.
///
/// An option is `name: type, "help";` with a type of `text`, `integer`, `number`, `flag`, `path`, `weights`,
/// `data`, `folders`, `secret` or `open`. After the type may stand its `[allowed, values]`, then `required` or
/// `neutral` ([`OptionSpec::neutral`](crate::OptionSpec)), and then `= default`. Strings are ordinary literals (`"…"`),
/// since they go into the note as they are written.
///
/// ```
/// use plugin_api::{register_model, Call, Model, ModelCard, Prompt, Reply, Result, Settings};
///
/// struct Parrot { times: usize }
///
/// impl Parrot {
///     fn load(settings: &Settings) -> Result<Parrot> {
///         Ok(Parrot { times: settings.need("times")? })
///     }
/// }
///
/// impl Model for Parrot {
///     fn card(&self) -> ModelCard {
///         ModelCard::text("parrot")
///     }
///     fn reply(&mut self, prompt: &Prompt, _call: &mut Call) -> Result<Reply> {
///         Ok(Reply::text(prompt.last_user_text().repeat(self.times)))
///     }
/// }
///
/// register_model!("parrot", "Repeats what was said", Parrot::load, {
///     times: integer = 2, "how often";
///     voice: text ["shrill", "low"] = "shrill", "how it sounds";
/// });
/// # fn main() {
/// let four = serde_json::from_str(r#"{"times": 4}"#).unwrap();
/// assert!(plugin_api::make(plugin_api::Kind::Model, "parrot", &four).is_ok());
/// let typo = serde_json::from_str(r#"{"tims": 4}"#).unwrap();
/// let error = plugin_api::make(plugin_api::Kind::Model, "parrot", &typo).err().unwrap();
/// assert_eq!(error.message, "model `parrot` has no setting `tims`");
/// # }
/// ```
#[macro_export]
macro_rules! register_model {
    ($($rest:tt)*) => { $crate::__register! { Model "model" model; $($rest)* } };
}

/// Announces a [`Task`]. The form is that of [`register_model!`].
#[macro_export]
macro_rules! register_task {
    ($($rest:tt)*) => { $crate::__register! { Task "task" task; $($rest)* } };
}

/// Announces a [`Judge`]. The form is that of [`register_model!`].
#[macro_export]
macro_rules! register_judge {
    ($($rest:tt)*) => { $crate::__register! { Judge "judge" judge; $($rest)* } };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __register {
    ($kind:ident $word:literal $wrap:ident; $name:literal, $about:literal, $make:expr $(, { $(
        $option:ident : $type:ident $([$($allowed:literal),* $(,)?])? $($mark:ident)* $(= $default:literal)?, $help:literal
    );* $(;)? })? $(,)?) => {
        const _: () = {
            $($(const _: $crate::OptionType = $crate::__private::option_types::$type;)*)?
            $($($(const _: () = $crate::__private::option_words::$mark;)*)*)?
            // `stringify!` of a literal is the literal as it was written, which for ordinary strings is also JSON.
            const NOTE: &str = concat!(
                "{\"record\":\"adapter\",\"kind\":\"", $word, "\",\"name\":", stringify!($name),
                ",\"about\":", stringify!($about), ",\"options\":[",
                $($(
                    "{\"name\":\"", stringify!($option), "\",\"type\":\"", stringify!($type), "\"",
                    $(",\"", stringify!($mark), "\":true",)*
                    $(",\"default\":", stringify!($default),)?
                    $(",\"allowed\":[", $(stringify!($allowed), ",",)* "null]",)?
                    ",\"help\":", stringify!($help), "},",
                )*)?
                "null]}"
            );
            fn make(settings: &$crate::Settings) -> $crate::Result<::std::boxed::Box<dyn $crate::Adapter>> {
                fn given<T, F: Fn(&$crate::Settings) -> $crate::Result<T>>(make: F) -> F { make }
                given($make)(settings).map($crate::__private::$wrap)
            }
            $crate::__private::inventory::submit! {
                $crate::__private::Registration { kind: $crate::Kind::$kind, name: $name, note: NOTE, make }
            }
            $crate::__note!(NOTE);
        };
    };
}

/// Makes the crate a plugin: call it once, in the crate that becomes the shared library.
#[macro_export]
macro_rules! export_plugin {
    () => {
        const _: () = {
            const PANIC: &str = if cfg!(panic = "abort") { "abort" } else { "unwind" };
            const DEBUG: &str = if cfg!(debug_assertions) { "true" } else { "false" };
            $crate::__note!(
                "{\"record\":\"plugin\",\"name\":\"",
                env!("CARGO_PKG_NAME"),
                "\",\"version\":\"",
                env!("CARGO_PKG_VERSION"),
                "\",\"api\":\"",
                $crate::VERSION,
                "\",\"wire\":\"",
                $crate::WIRE,
                "\",\"rustc\":\"",
                $crate::RUSTC,
                "\",\"panic\":\"",
                PANIC,
                "\",\"debug\":",
                DEBUG,
                "}"
            );
        };
        $crate::__root!();
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __note {
    ($($part:expr),* $(,)?) => {
        const _: () = {
            const PARTS: &[&str] = &[$($part,)* "\n"];
            // The attributes place bytes into a section of the file; no code is involved.
            #[allow(unsafe_code)]
            #[used]
            #[link_section = "host_plugin"]
            static RECORD: [u8; $crate::__private::note_len(PARTS)] = $crate::__private::note_bytes(PARTS);
        };
    };
}
