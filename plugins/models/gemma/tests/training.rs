//! Training is the reference's, step by step; `plugins/kit/train/golden/README.md` says how the runs were recorded.
//! `GEMMA_TRAINING=DIR:DIR cargo test -p gemma --test training` tries others too.

// Linked because it registers the model.
use gemma as _;
use std::path::Path;

#[test]
fn runs_are_those_that_were_recorded() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kit/train/golden/gemma3");
    testkit::training::check("gemma", &golden);
    testkit::training::check_given("gemma", "GEMMA_TRAINING");
}
