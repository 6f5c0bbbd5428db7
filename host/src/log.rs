//! The log of a run: `log.jsonl`, one JSON object a line. What plugins say goes there under their names.

use crate::failure::{Failure, Result};
use plugin_api::Level;
use serde_json::json;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, OnceLock};

/// Takes a message of a plugin: its name, how much the message matters, the words.
pub type LogSink = Box<dyn Fn(&str, Level, &str) + Send + Sync>;

static SINK: OnceLock<LogSink> = OnceLock::new();
static FILE: Mutex<Option<File>> = Mutex::new(None);

/// Lets the log go to this file from now on, after what it holds already.
pub fn to_file(path: &Path) -> Result<()> {
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    let file = file.map_err(|why| Failure::unwritable(path, why))?;
    *FILE.lock().unwrap_or_else(|poison| poison.into_inner()) = Some(file);
    Ok(())
}

/// Writes one line. Before a file is named, and when it can't be written, the line is lost: a log ends no run.
pub fn write(from: &str, level: Level, message: &str) {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let line = json!({ "time": since.map_or(0.0, |time| time.as_secs_f64()), "level": level, "from": from, "message": message });
    let mut file = FILE.lock().unwrap_or_else(|poison| poison.into_inner());
    if let Some(file) = file.as_mut() {
        let _ = file.write_all(format!("{line}\n").as_bytes());
    }
}

/// Says where plugins' messages go. The first call counts; until then they go nowhere.
pub fn set_log_sink(sink: LogSink) {
    let _ = SINK.set(sink);
}

/// Passes a message of a plugin on: what it logs, and what its worker prints.
pub(crate) fn from_plugin(plugin: &str, level: Level, message: &str) {
    if let Some(sink) = SINK.get() {
        sink(plugin, level, message);
    }
}
