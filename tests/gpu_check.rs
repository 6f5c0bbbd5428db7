//! `examples/gpu/check.py` without a GPU: its findings, and its report of what is missing.

use crate::building::repository;
use crate::pairs;
use crate::support::host_program;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

/// The folder that `pack.py` would make, without its archive.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let pack = fs::read_to_string(repository().join("examples/gpu/pack.py")).expect("a script");
    let beside = pack.split("BESIDE = [").nth(1).and_then(|rest| rest.split(']').next());
    for file in beside.expect("a list").split('"').filter(|part| part.ends_with(".py")) {
        let from = repository().join(file);
        let to = folder.path().join(from.file_name().expect("a name"));
        fs::copy(&from, to).unwrap_or_else(|why| panic!("`{}`: {why}", from.display()));
    }
    folder
}

/// Its findings and its tables.
fn check(folder: &Path, arguments: &[&str]) -> (Value, String) {
    let output = Command::new("python3")
        .arg(folder.join("check.py"))
        .args(arguments)
        .args(["--device", "cpu", "--out", "found"])
        .current_dir(folder)
        .output()
        .expect("python3 starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let read = |name: &str| fs::read_to_string(folder.join("found").join(name)).expect("a file");
    (serde_json::from_str(&read("gpu.json")).expect("JSON"), read("gpu.md"))
}

#[test]
fn whole_runs_are_held_beside_the_processors() {
    let folder = folder();
    let payload = folder.path().join("payload");
    fs::create_dir(&payload).expect("a folder");
    let registry = pairs::registry(folder.path());
    let host = payload.join("host");
    let program = host_program();
    let script = format!("#!/bin/sh\nexec {program:?} \"$@\" --registry {registry:?}\n");
    fs::write(&host, script).expect("a script");
    fs::set_permissions(&host, fs::Permissions::from_mode(0o755)).expect("a program");
    symlink(repository().join("plugins"), payload.join("plugins")).expect("a link");
    fs::write(payload.join("packed.json"), r#"{"build": "of a test"}"#).expect("a file");

    let (found, tables) = check(folder.path(), &["--only", "runs"]);
    for setting in ["dtype=fp32", "dtype=bf16", "quant=q8_0", "quant=q6_k", "quant=q4_k"] {
        let row = &found["runs"][setting];
        assert_eq!(row["ok"], true, "{setting}: {row}");
        // The same program twice gives the same bits.
        assert_eq!((&row["options"], &row["apart"]), (&40.into(), &0.0.into()), "{setting}");
        let rounding = row["rounding"].as_f64().expect("a number");
        assert_eq!(rounding > 0.0, setting != "dtype=fp32", "{setting}: {rounding}");
        assert!(
            tables.contains(&format!("| a run of ARC, {setting} | yes | 40 |")),
            "{tables}"
        );
    }
    assert!(tables.contains("of a test"), "{tables}");
}

#[test]
fn what_fails_is_a_line_and_no_end() {
    let folder = folder();
    let (found, _) = check(folder.path(), &[]);
    let said = found["card"]["packed"]["failed"].as_str().expect("a reason");
    assert!(said.contains("payload.tar.xz"), "{said}");

    // An archive in which nothing works.
    let payload = folder.path().join("payload");
    fs::create_dir(&payload).expect("a folder");
    fs::write(payload.join("packed.json"), "{}").expect("a file");
    let (found, tables) = check(folder.path(), &["--only", "equal", "speed"]);
    let rows = found["equal"].as_object().expect("rows");
    assert!(rows.len() > 25, "{rows:?}");
    for (name, row) in rows {
        assert!(row["failed"].is_string(), "{name}: {row}");
        assert!(tables.contains(&format!("| {name} | failed |")), "{tables}");
    }
    assert!(found["speed"]["nano bf16"]["failed"].is_string(), "{found}");
}

#[test]
fn every_script_says_how_it_is_called() {
    for script in ["gpu/check.py", "gpu/pack.py"] {
        let output = Command::new("python3")
            .arg("-B")
            .arg(repository().join("examples").join(script))
            .arg("--help")
            .output()
            .expect("python3 starts");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("--out"), "{script}: {said}");
    }
}
