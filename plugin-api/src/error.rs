//! What goes wrong, as plain data that crosses the boundary.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// The result of everything a plugin author writes.
pub type Result<T> = std::result::Result<T, Error>;

/// What kind of failure an [`Error`] is, as a number that never changes its meaning.
///
/// A number and not an enum, so that a code from a newer side still arrives.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Code(pub u32);

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal $word:literal),* $(,)?) => {
        impl Code {
            $($(#[$doc])* pub const $name: Code = Code($number);)*

            /// The code as one word for logs and records, or `other`.
            pub fn word(self) -> &'static str {
                match self.0 { $($number => $word,)* _ => "other" }
            }
        }
    };
}

codes! {
    /// Anything that has no better code.
    OTHER = 0 "other",
    /// The plugin panicked; the adapter is poisoned and must be created again.
    PANIC = 1 "panic",
    /// This adapter can't do what was asked, for example a part or setting of the prompt that it doesn't support.
    UNSUPPORTED = 2 "unsupported",
    /// A setting is unknown, missing or of the wrong type.
    SETTINGS = 3 "settings",
    /// Weights, data, a key or a program is missing.
    MISSING = 4 "missing",
    /// Data that was read is malformed: file, row and field are in the message.
    DATA = 5 "data",
    /// Stopped because the host asked for it.
    CANCELLED = 6 "cancelled",
    /// The time allowed for the call is over.
    DEADLINE = 7 "deadline",
    /// Out of memory, on the host or on a device.
    MEMORY = 8 "memory",
    /// The prompt doesn't fit into the model's context.
    TOO_LONG = 9 "too-long",
    /// The adapter panicked before and was not created again.
    POISONED = 10 "poisoned",
    /// The plugin's process died.
    DIED = 11 "died",
    /// A clip can't be read or is not what it says it is.
    CLIP = 12 "clip",
    /// An envelope could not be decoded: plugin and host disagree about the vocabulary.
    ENVELOPE = 13 "envelope",
    /// A remote service refused or failed.
    SERVICE = 14 "service",
    /// A service limits the rate of requests; [`Error::retry_after_ms`] says how long to wait, if known.
    RATE_LIMITED = 15 "rate-limited",
    /// The author did not write this method, or the plugin is older than the method. A method that exists but can't do
    /// what was asked answers [`Code::UNSUPPORTED`].
    NOT_IMPLEMENTED = 16 "not-implemented",
    /// A file or folder can't be written: the disk is full, say.
    UNWRITABLE = 17 "unwritable",
}

impl Code {
    /// True for [`Code::UNSUPPORTED`] and [`Code::NOT_IMPLEMENTED`].
    pub fn is_inability(self) -> bool {
        [Code::UNSUPPORTED, Code::NOT_IMPLEMENTED].contains(&self)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.word(), self.0)
    }
}

/// A failure: what failed on which thing, its causes, and a hint.
///
/// Every `std::error::Error` becomes one through `?`, its sources becoming the causes.
///
/// ```
/// use plugin_api::{Code, Context, Error, Result};
///
/// fn rows(path: &str) -> Result<String> {
///     std::fs::read_to_string(path).context(format!("cannot read `{path}`"))
/// }
///
/// let error = rows("/nowhere.jsonl").unwrap_err().help("give the file with `-T data=FILE`");
/// assert_eq!(error.message, "cannot read `/nowhere.jsonl`");
/// assert!(error.causes[0].contains("No such file"));
/// let refused = Error::new(Code::UNSUPPORTED, "this model reads no audio");
/// assert_eq!(refused.to_string(), "this model reads no audio");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Error {
    /// What kind of failure this is.
    #[serde(skip)]
    pub code: Code,
    /// What failed, on which thing, expected and got; no full stop.
    pub message: String,
    /// Why, outermost first.
    pub causes: Vec<String>,
    /// A hint for people on how to solve it.
    pub help: Option<String>,
    /// When to try again, in milliseconds from now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl Default for Error {
    fn default() -> Self {
        Error::new(Code::OTHER, String::new())
    }
}

impl Error {
    /// A failure of this kind.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Error {
            code,
            message: message.into(),
            causes: Vec::new(),
            help: None,
            retry_after_ms: None,
        }
    }

    /// A failure that has no better code than [`Code::OTHER`].
    pub fn msg(message: impl Into<String>) -> Self {
        Error::new(Code::OTHER, message)
    }

    /// Says that this adapter can't do `what`.
    pub fn unsupported(what: impl Into<String>) -> Self {
        Error::new(Code::UNSUPPORTED, what)
    }

    /// A method of the contract that the author did not write.
    pub fn not_implemented(what: impl Into<String>) -> Self {
        Error::new(Code::NOT_IMPLEMENTED, what)
    }

    /// Says how long to wait before trying again.
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after_ms = Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Adds a hint.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Changes the kind of failure.
    pub fn code(mut self, code: Code) -> Self {
        self.code = code;
        self
    }

    /// Adds a cause after the existing ones.
    pub fn cause(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// The same without keys that this plugin has read: see [`crate::redact::redacted`].
    pub fn redacted(mut self) -> Self {
        if crate::redact::any() {
            self.message = crate::redact::redacted(&self.message);
            self.causes
                .iter_mut()
                .for_each(|cause| *cause = crate::redact::redacted(cause));
            self.help = self.help.map(|help| crate::redact::redacted(&help));
        }
        self
    }

    /// Puts what was being done in front; the former message becomes the first cause.
    pub fn context(mut self, message: impl Into<String>) -> Self {
        let inner = std::mem::replace(&mut self.message, message.into());
        self.causes.insert(0, inner);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for cause in &self.causes {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

// `Error` does not implement `std::error::Error`: that makes this conversion possible.
impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        let mut causes = Vec::new();
        let mut source = error.source();
        while let Some(inner) = source {
            causes.push(inner.to_string());
            source = inner.source();
        }
        Error {
            causes,
            ..Error::msg(error.to_string())
        }
    }
}

/// Says what was being done when something failed.
pub trait Context<T> {
    /// Puts a message in front of the failure.
    fn context(self, message: impl Into<String>) -> Result<T>;

    /// The same, with the message computed only when needed.
    fn with_context<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, message: impl Into<String>) -> Result<T> {
        self.map_err(|error| error.into().context(message))
    }

    fn with_context<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T> {
        self.map_err(|error| error.into().context(message()))
    }
}

impl<T> Context<T> for Option<T> {
    fn context(self, message: impl Into<String>) -> Result<T> {
        self.ok_or_else(|| Error::msg(message))
    }

    fn with_context<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T> {
        self.ok_or_else(|| Error::msg(message()))
    }
}
