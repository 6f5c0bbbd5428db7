//! The adapter under test, and how the checks call it.

use plugin_api::{Adapter, AdapterNote, Callbacks, Code, Envelope, Error, NoCallbacks, Prompt, Result, Settings};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Makes a new instance of the adapter under test.
pub(super) type Maker<'a> = dyn Fn(&Settings) -> Result<Arc<dyn Adapter>> + Sync + 'a;

/// The adapter under test.
pub(super) struct AdapterUnderTest<'a> {
    /// What its note says.
    pub note: &'a AdapterNote,
    /// The settings that the checks were given for it, and its defaults.
    pub settings: Settings,
    /// Makes it.
    pub make: &'a Maker<'a>,
    /// The instance that most checks share. It is made again after a panic.
    pub adapter: Arc<dyn Adapter>,
}

impl AdapterUnderTest<'_> {
    /// Its name in the report.
    pub fn title(&self) -> String {
        format!("{} {}", self.note.kind, self.note.name)
    }

    /// A second one of the same settings.
    pub fn another(&self) -> Result<Arc<dyn Adapter>> {
        (self.make)(&self.settings)
    }

    /// Calls it with raw JSON, which need not be valid for this version.
    pub fn raw(&self, method: &str, json: &Value) -> Result<Value> {
        let input = Envelope {
            json: json.to_string(),
            ..Envelope::default()
        };
        self.adapter.call(method, input, &NoCallbacks)?.read()
    }
}

/// A prompt as the host writes it, with a field that no version knows.
pub(super) fn with_unknown_field(prompt: &Prompt) -> Value {
    let mut json = serde_json::to_value(prompt).unwrap_or_default();
    json["invented_later"] = serde_json::json!({ "deep": [1, 2] });
    json
}

/// A host that keeps streamed text, and asks to stop after a number of pieces.
pub(super) struct Listener {
    pieces: Mutex<Vec<String>>,
    most: usize,
    stop: AtomicBool,
    asked_at: Mutex<Option<Instant>>,
}

impl Listener {
    /// Listens to the end.
    pub fn patient() -> Self {
        Listener::stopping_after(usize::MAX)
    }

    /// Asks to stop after this many pieces.
    pub fn stopping_after(most: usize) -> Self {
        Listener {
            pieces: Mutex::default(),
            most,
            stop: AtomicBool::new(false),
            asked_at: Mutex::default(),
        }
    }

    /// What was streamed.
    pub fn text(&self) -> String {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner).concat()
    }

    /// Asks to stop, from now on.
    pub fn stop_now(&self) {
        let mut asked_at = self.asked_at.lock().unwrap_or_else(PoisonError::into_inner);
        asked_at.get_or_insert_with(Instant::now);
        self.stop.store(true, Ordering::Release);
    }

    /// The time since it began to ask, if it did.
    pub fn asked_for(&self) -> Option<Duration> {
        let asked_at = self.asked_at.lock().unwrap_or_else(PoisonError::into_inner);
        asked_at.map(|at| at.elapsed())
    }
}

impl Callbacks for Listener {
    fn ask(&self, what: &str, input: Envelope) -> Result<Envelope> {
        NoCallbacks.ask(what, input)
    }

    fn emit(&self, what: &str, note: Envelope) -> bool {
        if what == "token" {
            let text = note
                .read::<Value>()
                .ok()
                .and_then(|note| Some(note["text"].as_str()?.to_owned()));
            let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
            pieces.extend(text);
            if pieces.len() >= self.most {
                self.stop_now();
            }
        }
        !self.stop_asked()
    }

    fn stop_asked(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

/// A host whose other models always give the same answer.
pub(super) struct Answering(pub &'static str);

impl Callbacks for Answering {
    fn ask(&self, what: &str, _input: Envelope) -> Result<Envelope> {
        match what.starts_with("generate:") {
            true => Envelope::of(&plugin_api::Reply::text(self.0)),
            false => Err(Error::new(
                Code::UNSUPPORTED,
                format!("this host doesn't answer `{what}`"),
            )),
        }
    }

    fn emit(&self, _what: &str, _note: Envelope) -> bool {
        true
    }

    fn stop_asked(&self) -> bool {
        false
    }
}
