//! The versions of a plugin-api to come: see the frozen crate's own build script.

const WIRE: u32 = 3;

fn main() {
    println!("cargo::rustc-env=PLUGIN_API_RUSTC=unknown");
    let ours = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    println!("cargo::rustc-env=PLUGIN_API_VERSION={ours}");
    println!("cargo::rustc-env=PLUGIN_API_WIRE={WIRE}");
    println!("cargo::rustc-env=CARGO_PKG_VERSION={WIRE}.0.0");
    println!("cargo::rerun-if-changed=build.rs");
}
