//! The host as a plugin sees it outside of any call: the receiver of its log messages.

use crate::log::from_plugin;
use plugin_api::{Callbacks, Envelope, Error, LogNote};

/// The host as a plugin sees it outside of any call.
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
    fn ask(&self, what: &str, _input: Envelope) -> plugin_api::Result<Envelope> {
        Err(Error::unsupported(format!(
            "outside of a call the host doesn't answer `{what}`"
        )))
    }

    fn emit(&self, what: &str, note: Envelope) -> bool {
        if let ("log", Ok(note)) = (what, note.read::<LogNote>()) {
            from_plugin(&self.plugin, note.level, &note.message);
        }
        true
    }

    fn stop_asked(&self) -> bool {
        false
    }
}
