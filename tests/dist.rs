//! The installed program: below a prefix, by `cargo install`, and with the Python module.

use crate::building::repository;
use crate::pairs::registry;
use crate::support::{host_program, plugin_file};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A folder on the same disk as the build, so that the program can be hard-linked into it.
fn prefix() -> TempDir {
    let built = host_program();
    let target = built.parent().expect("a target folder");
    tempfile::Builder::new()
        .permissions(PermissionsExt::from_mode(0o755))
        .tempdir_in(target)
        .expect("a folder")
}

/// Puts a file into a folder under this name.
fn place(file: &Path, folder: PathBuf, name: &str) -> PathBuf {
    std::fs::create_dir_all(&folder).expect("a folder");
    let placed = folder.join(name);
    std::fs::hard_link(file, &placed).expect("a link");
    placed
}

#[track_caller]
fn check(program: &Path, folder: &Path, arguments: &str, exit: i32, words: &[&str]) {
    let output = Command::new(program)
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .env("XDG_CONFIG_HOME", folder.join("config"))
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .expect("the program starts");
    let both = format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(output.status.code(), Some(exit), "`{arguments}`: {both}");
    for words in words {
        assert!(
            both.contains(words),
            "`{words}` is not in what `{arguments}` said:\n{both}"
        );
    }
}

#[test]
fn a_program_below_a_prefix_finds_its_registry_and_plugins_wherever_it_is_moved() {
    let folder = prefix();
    let first = folder.path().join("first");
    place(&host_program(), first.join("bin"), "host");
    std::fs::create_dir_all(first.join("lib/host")).expect("a folder");
    let library = first.join("lib/host/libecho.so");
    std::fs::copy(plugin_file("fixture-echo"), &library).expect("a plugin");
    std::fs::create_dir_all(first.join("share/host")).expect("a folder");
    let text = "[plugins.echo]\npath = \"../../lib/host/libecho.so\"\n[models.echo]\nplugin = \"echo\"\n[tasks.count]\nplugin = \"echo\"\n";
    std::fs::write(first.join("share/host/registry.toml"), text).expect("a registry");
    let run = "run --model echo --task count --limit 2 --quiet";
    check(&first.join("bin/host"), folder.path(), run, 0, &["|count"]);
    let second = folder.path().join("second");
    std::fs::rename(&first, &second).expect("moved");
    std::os::unix::fs::symlink(second.join("bin/host"), folder.path().join("link")).expect("a link");
    check(&folder.path().join("link"), folder.path(), run, 0, &["|count"]);

    // The result of unpacking with a loose umask: one command repairs the whole installation.
    let library = second.join("lib/host/libecho.so");
    std::fs::set_permissions(&library, PermissionsExt::from_mode(0o664)).expect("rights");
    let command = format!("chmod -R go-w {}`", second.canonicalize().expect("a path").display());
    check(
        &second.join("bin/host"),
        folder.path(),
        run,
        4,
        &["others may write to", &command],
    );
}

#[test]
fn a_program_that_cargo_installed_says_what_it_lacks() {
    let folder = prefix();
    let program = place(&host_program(), folder.path().join("bin"), "host");
    std::fs::write(folder.path().join(".crates.toml"), "").expect("cargo's own list");
    let words = ["`cargo install` installs no plugins", "cargo build --release"];
    check(
        &program,
        folder.path(),
        "run --demo --model qwen3 --task arc",
        3,
        &words,
    );
}

/// The module's own tests, on runs of this build's program.
#[test]
fn the_python_module_reads_what_the_program_writes() {
    let known = Command::new("python3").args(["-c", "import tomllib"]).output();
    if !known.is_ok_and(|output| output.status.success()) {
        crate::support::skipped("there is no Python 3.11");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("config/host");
    std::fs::create_dir_all(&config).expect("a folder");
    std::fs::rename(registry(folder.path()), config.join("registry.toml")).expect("a registry of the user");
    let module = repository().join("host/dist/python");
    let output = Command::new("python3")
        .args(["-m", "unittest", "discover", "--start-directory"])
        .arg(module.join("tests"))
        .current_dir(folder.path())
        .env("PYTHONPATH", &module)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("HOST_PROGRAM", host_program())
        .env("XDG_CONFIG_HOME", folder.path().join("config"))
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .expect("Python starts");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && words.contains("OK"), "{words}");
}
