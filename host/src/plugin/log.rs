//! Where plugins' words go: their log messages, and what a worker prints.

use plugin_api::{Callbacks, Error, Level, LogNote, Parcel};
use std::sync::OnceLock;

/// Takes a message: the plugin's name, how much it matters, the words.
pub type LogSink = Box<dyn Fn(&str, Level, &str) + Send + Sync>;

static SINK: OnceLock<LogSink> = OnceLock::new();

/// Says where plugins' messages go. The first call counts; until then they go nowhere.
pub fn set_log_sink(sink: LogSink) {
    let _ = SINK.set(sink);
}

/// Passes a message of a plugin on.
pub(crate) fn log(plugin: &str, level: Level, message: &str) {
    if let Some(sink) = SINK.get() {
        sink(plugin, level, message);
    }
}

/// The host as a plugin knows it outside of any call.
pub(crate) struct PluginLog {
    plugin: String,
}

impl PluginLog {
    pub(crate) fn new(plugin: &str) -> Self {
        PluginLog {
            plugin: plugin.to_owned(),
        }
    }
}

impl Callbacks for PluginLog {
    fn ask(&self, what: &str, _input: Parcel) -> plugin_api::Result<Parcel> {
        Err(Error::unsupported(format!(
            "outside of a call this host doesn't answer `{what}`"
        )))
    }

    fn emit(&self, what: &str, note: Parcel) -> bool {
        if let ("log", Ok(note)) = (what, note.read::<LogNote>()) {
            log(&self.plugin, note.level, &note.message);
        }
        true
    }

    fn stop_asked(&self) -> bool {
        false
    }
}
