//! What the end-to-end tests share: where the fixtures' libraries are, and registry entries for them.

use host::registry::spec::{Isolation, PluginSpec};
use plugin_api::{Kind, Settings};
use std::path::PathBuf;
use std::sync::Arc;

/// The shared library of a fixture. Cargo builds it because the host's tests depend on the fixture, and puts it beside them.
pub fn plugin_file(krate: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own file");
    let name = format!("lib{}.so", krate.replace('-', "_"));
    let path = test.with_file_name(&name);
    assert!(path.is_file(), "`{name}` was not built beside `{}`", test.display());
    path
}

/// A registry entry for a fixture, running here or in a worker.
pub fn spec(krate: &str, isolation: Isolation) -> PluginSpec {
    PluginSpec {
        name: krate.trim_start_matches("fixture-").to_owned(),
        path: plugin_file(krate),
        isolation,
        named_in: "registry.toml".into(),
        ..PluginSpec::default()
    }
}

/// Settings, written as JSON.
pub fn settings(json: &str) -> Settings {
    serde_json::from_str(json).expect("settings are written as JSON")
}

/// An adapter of the well-behaved fixture.
pub fn echo(isolation: Isolation, kind: Kind, name: &str, json: &str) -> Arc<dyn plugin_api::Adapter> {
    let plugin = host::plugin::open(&spec("fixture-echo", isolation)).expect("the echo opens");
    plugin
        .make(kind, name, &settings(json))
        .expect("it can be made")
        .adapter
}
