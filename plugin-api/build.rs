//! Gives the crate its versions: of the vocabulary, of the wire, and of the compiler, for the note that every plugin
//! carries.

use std::process::Command;

/// Changes when a plugin and a host of before and after could not talk to each other: the layouts of `wire/abi.rs`, the
/// exact version of `abi_stable`, or the meaning of what is carried. 1 was the wire before it had a version of its own.
const WIRE: u32 = 2;

fn main() {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = Command::new(rustc).arg("--version").output();
    let version = version.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned());
    let known = version.ok().filter(|line| !line.is_empty() && !line.contains('"'));
    println!(
        "cargo::rustc-env=PLUGIN_API_RUSTC={}",
        known.as_deref().unwrap_or("unknown")
    );
    let ours = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    println!("cargo::rustc-env=PLUGIN_API_VERSION={ours}");
    println!("cargo::rustc-env=PLUGIN_API_WIRE={WIRE}");
    // `abi_stable` writes this into every layout and refuses another one; of 0.x it takes each minor for a break. What
    // must agree between the two sides is the wire, so the layouts carry its version.
    println!("cargo::rustc-env=CARGO_PKG_VERSION={WIRE}.0.0");
    println!("cargo::rerun-if-changed=build.rs");
}
