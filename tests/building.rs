//! Builds crates that are not part of the workspace, as their owners would, into folders of their own under `target`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// The repository.
pub fn repository() -> PathBuf {
    let host = Path::new(env!("CARGO_MANIFEST_DIR"));
    host.parent().expect("host lies in the repository").to_owned()
}

/// A folder of this name in the target folder that holds the same test.
pub fn target(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own file");
    // …/target/debug/deps/e2e-…
    test.ancestors().nth(3).expect("a target folder").join(name)
}

/// `cargo build` in a folder, once in the life of this process. Returns the folder with what was built.
pub fn build(folder: &Path, target: &Path) -> PathBuf {
    static BUILT: Mutex<Option<HashMap<PathBuf, ()>>> = Mutex::new(None);
    // The lock is held while cargo runs: two of them would wait for each other's locks anyway.
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
    // Cargo tells a test of the package that it belongs to. Build scripts of dependencies that look at these variables
    // would run again, and all that stands on such a crate would be compiled again.
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
