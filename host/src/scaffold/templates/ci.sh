#!/bin/sh
# Builds the plugin and checks everything that the host relies on. Needs `host` in PATH, or its path in HOST.
set -eu
cd "$(dirname "$0")"
target="${CARGO_TARGET_DIR:-target}"
cargo test
cargo build --release
"${HOST:-host}" plugins check "$target/release/lib@CRATE@.so"
