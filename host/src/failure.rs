//! A failure of the program: what went wrong, and the exit code that says which kind it was.

use plugin_api::{Code, Error};
use std::fmt;
use std::path::Path;

/// What the process ends with. Scripts rely on these numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// Finished, but a threshold was not met.
    Threshold = 1,
    /// The command line or a configuration file is wrong.
    Usage = 2,
    /// A plugin, data, weights or a key is missing, or can't be read.
    Missing = 3,
    /// A plugin was refused or failed its self-test.
    Refused = 4,
    /// A budget or a time limit is used up.
    Budget = 5,
    /// A file can't be written, for the disk is full, say. What is finished is kept.
    Unwritable = 6,
    /// Interrupted; the same command goes on from here.
    Interrupted = 130,
}

/// Why a command could not do what it was asked to.
#[derive(Clone, PartialEq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What went wrong, with causes and the way out.
    pub error: Error,
}

/// The result of everything that can end a command.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// A failure with this exit code.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Failure {
            exit,
            error: Error::msg(message),
        }
    }

    /// The command line or a configuration file is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Failure::new(Exit::Usage, message)
    }

    /// Something that has to be there is missing.
    pub fn missing(message: impl Into<String>) -> Self {
        Failure::new(Exit::Missing, message)
    }

    /// A file or folder can't be written.
    pub fn unwritable(path: &Path, why: impl fmt::Display) -> Self {
        Failure::new(Exit::Unwritable, format!("cannot write `{}`", path.display())).cause(why)
    }

    /// A plugin is refused.
    pub fn refused(message: impl Into<String>) -> Self {
        Failure::new(Exit::Refused, message)
    }

    /// Adds the way out.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.error = self.error.help(help);
        self
    }

    /// Adds a cause.
    pub fn cause(mut self, cause: impl fmt::Display) -> Self {
        self.error = self.error.cause(cause.to_string());
        self
    }

    /// Puts what was being done in front.
    pub fn context(mut self, message: impl Into<String>) -> Self {
        self.error = self.error.context(message);
        self
    }

    /// The same failure with another exit code.
    pub fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// The text for people: the error, its causes, the hint.
    pub fn render(&self) -> String {
        let mut text = format!("error: {}", self.error.message);
        for cause in &self.error.causes {
            text.push_str(&format!("\n  Caused by: {cause}"));
        }
        if let Some(help) = &self.error.help {
            text.push_str(&format!("\n\nhint: {help}"));
        }
        text
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (exit {})", self.render(), self.exit as u8)
    }
}

/// An error of an adapter ends a command only when the adapter can't even be made, so the code decides.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match error.code {
            Code::SETTINGS => Exit::Usage,
            // Weights of an architecture that a plugin doesn't know are as good as none.
            Code::MISSING | Code::DATA | Code::UNSUPPORTED | Code::NOT_IMPLEMENTED => Exit::Missing,
            Code::CANCELLED => Exit::Interrupted,
            Code::DEADLINE | Code::RATE_LIMITED => Exit::Budget,
            Code::UNWRITABLE => Exit::Unwritable,
            _ => Exit::Refused,
        };
        Failure { exit, error }
    }
}

/// Says what was being done when something failed.
pub trait Doing<T> {
    /// Puts a message in front of the failure and gives it this exit code.
    fn or_fail(self, exit: Exit, message: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: fmt::Display> Doing<T> for std::result::Result<T, E> {
    fn or_fail(self, exit: Exit, message: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|why| Failure::new(exit, message()).cause(why))
    }
}

impl From<hub::HubError> for Failure {
    fn from(error: hub::HubError) -> Self {
        let exit = match &error.fault {
            hub::HubFault::Stopped => Exit::Interrupted,
            hub::HubFault::Disk { .. } => Exit::Unwritable,
            _ => Exit::Missing,
        };
        let failure = Failure::new(exit, error.to_string());
        match error.hint() {
            Some(hint) => failure.help(hint),
            None => failure,
        }
    }
}

/// A fault on its own, before any repository is asked for: a setting or an id that is none.
impl From<hub::HubFault> for Failure {
    fn from(fault: hub::HubFault) -> Self {
        Failure::usage(fault.to_string())
    }
}
