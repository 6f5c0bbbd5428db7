//! Keeps what probes found about a server for a day, so that a continued run does not send, and pay for, the same
//! probes again.

use crate::engine::Engine;
use crate::probe::{Capabilities, Probe};
use plugin_api::{Level, log};
use remote::{Client, sha256_hex};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const KEPT: Duration = Duration::from_secs(24 * 3600);

#[derive(Serialize, Deserialize)]
struct Kept {
    at: u64,
    heard: bool,
    found: Capabilities,
}

/// The capabilities of this server: those found within the last day, unless `afresh`.
pub fn found(client: &Client, engine: &Engine, hear: bool, afresh: bool) -> Capabilities {
    let file = file(client, engine);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let kept = file
        .as_deref()
        .and_then(|file| serde_json::from_slice::<Kept>(&std::fs::read(file).ok()?).ok());
    if let Some(kept) =
        kept.filter(|kept| !afresh && now.saturating_sub(kept.at) < KEPT.as_secs() && (kept.heard || !hear))
    {
        return kept.found;
    }
    let found = Probe::new(client, engine).run(hear);
    if found.truncates_silently {
        log(
            Level::Warning,
            "the server cuts prompts that are too long without a word",
        );
    }
    // Incomplete findings are not kept.
    if let Some(file) = file.filter(|_| !found.seen.contains_key("time")) {
        let kept = Kept {
            at: now,
            heard: hear,
            found: found.clone(),
        };
        // If nothing can be kept, the next run probes again.
        let _ = file.parent().map(std::fs::create_dir_all);
        let _ = serde_json::to_vec(&kept).map(|text| std::fs::write(&file, text));
    }
    found
}

/// One file for each server, model and version.
fn file(client: &Client, engine: &Engine) -> Option<PathBuf> {
    let folder = match std::env::var_os("XDG_CACHE_HOME").filter(|folder| !folder.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(std::env::var_os("HOME")?).join(".cache"),
    };
    let bases: Vec<&str> = client
        .pool()
        .addresses()
        .iter()
        .map(|address| address.base.as_str())
        .collect();
    let mut entry = engine.entry.clone();
    // Some servers put the time of the request into the entry.
    entry
        .as_object_mut()
        .into_iter()
        .for_each(|entry| drop(entry.remove("created")));
    entry
        .as_object_mut()
        .into_iter()
        .for_each(|entry| drop(entry.remove("permission")));
    let name = sha256_hex(
        json!([
            1,
            bases,
            engine.model,
            engine.kind,
            engine.version,
            engine.context,
            entry
        ])
        .to_string()
        .as_bytes(),
    );
    Some(
        folder
            .join("host")
            .join("engines")
            .join(format!("{}.json", &name[..32])),
    )
}
