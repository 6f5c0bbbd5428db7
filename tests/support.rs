//! What the end-to-end tests share: where the fixtures' libraries are, and registry entries for them.

use host::plugin::OpenAdapter;
use host::registry::spec::{Isolation, PluginSpec};
use plugin_api::client::ModelClient;
use plugin_api::{Kind, Message, Prompt, Reply, Result, Settings, Silent};
use std::path::PathBuf;

/// Both places where an adapter can live.
pub const BOTH: [Isolation; 2] = [Isolation::InProcess, Isolation::Process];

/// The shared library of a fixture: built because the host's tests depend on the fixture, and put beside them.
pub fn plugin_file(krate: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own file");
    let name = format!("lib{}.so", krate.replace('-', "_"));
    let path = test.with_file_name(&name);
    assert!(path.is_file(), "`{name}` was not built beside `{}`", test.display());
    path
}

/// The real program. From then on workers are started from it, since a test's own doesn't know how to be one.
pub fn host_program() -> PathBuf {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_host"));
    host::worker::set_program(&program);
    program
}

/// A registry entry for a fixture, running here or in a worker.
pub fn spec(krate: &str, isolation: Isolation) -> PluginSpec {
    host_program();
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

/// An adapter of a fixture.
pub fn adapter(spec: &PluginSpec, kind: Kind, name: &str, json: &str) -> OpenAdapter {
    let plugin = host::plugin::open(spec).unwrap_or_else(|failure| panic!("{}", failure.render()));
    let made = plugin.make(kind, name, &settings(json));
    made.unwrap_or_else(|failure| panic!("{}", failure.render()))
}

/// Asks a model something.
pub fn ask(adapter: &OpenAdapter, text: &str) -> Result<Reply> {
    ModelClient(adapter.adapter.clone()).reply(&Prompt::new([Message::user(text)]), &Silent)
}
