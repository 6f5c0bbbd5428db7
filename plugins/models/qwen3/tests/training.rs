//! Training is the reference's, step by step; `plugins/kit/train/golden/README.md` says how the runs were recorded.
//! `QWEN3_TRAINING=DIR:DIR cargo test -p qwen3 --test training` tries others too.

// Linked because it registers the model.
use qwen3 as _;
use std::path::Path;

#[test]
fn runs_are_those_that_were_recorded() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kit/train/golden/qwen3");
    testkit::training::check("qwen3", &golden);
    testkit::training::check_given("qwen3", "QWEN3_TRAINING");
}
