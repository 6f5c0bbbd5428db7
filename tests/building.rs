//! Builds crates outside the workspace, as their owners would, into separate folders below `target`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// The repository.
pub fn repository() -> PathBuf {
    let host = Path::new(env!("CARGO_MANIFEST_DIR"));
    host.parent().expect("host lies in the repository").to_owned()
}

/// A folder of this name in the target folder that holds this test.
pub fn target(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own file");
    // …/target/debug/deps/e2e-…
    test.ancestors().nth(3).expect("a target folder").join(name)
}

/// Runs `cargo build` in a folder, once per process. Returns the folder of the results.
pub fn build(folder: &Path, target: &Path) -> PathBuf {
    static BUILT: Mutex<Option<HashMap<PathBuf, ()>>> = Mutex::new(None);
    // The lock is held while cargo runs, because two of them would wait for each other anyway.
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let built = built.get_or_insert_default();
    if !built.contains_key(folder) {
        cargo(folder, target, &["build"]);
        built.insert(folder.to_owned(), ());
    }
    target.join("debug")
}

/// Runs the cargo that runs this test.
#[track_caller]
pub fn cargo(folder: &Path, target: &Path, arguments: &[&str]) {
    let mut command = Command::new(env!("CARGO"));
    // Cargo sets variables about a test's package. Some dependencies have build scripts that look at them, which would
    // run again and have everything above them compiled again.
    let of_package = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(of_package) {
            command.env_remove(name);
        }
    }
    let output = command
        .args(arguments)
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", target)
        .output()
        .expect("cargo runs");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "`cargo {}` in `{}`:\n{words}",
        arguments.join(" "),
        folder.display()
    );
}
