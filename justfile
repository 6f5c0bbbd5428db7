# Recipes; `just` lists them. Everything here can be typed by hand as well.

default:
    @just --list

# Build everything and run the demo.
demo:
    cargo build --release
    ./target/release/host run --demo --model qwen3 --task arc

# All tests.
test:
    cargo test --workspace

# Form and lints, as the gate checks them.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# The gate.
ci:
    .ci/run

# Archive and wheel, into dist/.
dist:
    cargo build --release
    python3 host/dist/build.py

# Try both in a clean Debian.
try-dist:
    host/dist/try.sh

# The book.
docs:
    mdbook build docs

# Licences, advisories, duplicate versions and sources.
deny:
    cargo deny check

# Kernels under the address sanitiser: loads and stores out of bounds. Needs the nightly toolchain.
asan:
    RUSTFLAGS="-Zsanitizer=address" RUST_TEST_THREADS=2 cargo +nightly test -p kernels --lib \
        --target x86_64-unknown-linux-gnu --target-dir target/asan

# Portable loops, quantisers and packing under Miri: undefined behaviour. Needs nightly with the component miri.
miri:
    HOST_KERNELS=portable MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-permissive-provenance" \
        cargo +nightly miri test -p kernels --lib --target-dir target/miri -- portable lines layout

# 64-bit Arm compiles. Needs `rustup target add aarch64-unknown-linux-gnu` and Debian's gcc-aarch64-linux-gnu and libc6-dev-arm64-cross.
arm:
    RUSTFLAGS="-D warnings" cargo check --workspace --target aarch64-unknown-linux-gnu

# Fuzz whatever reads files of strangers, so many seconds a target.
fuzz seconds="60":
    tests/fuzz/run {{seconds}}
