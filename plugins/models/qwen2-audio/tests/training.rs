//! Training is the reference's, step by step; `plugins/kit/train/golden/README.md` says how the runs were recorded.
//! `QWEN2_AUDIO_TRAINING=DIR:DIR cargo test -p qwen2-audio --test training` tries others too.

// Linked because it registers the model.
use qwen2_audio as _;
use std::path::Path;

#[test]
fn runs_are_those_that_were_recorded() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kit/train/golden/qwen2audio");
    testkit::training::check("qwen2-audio", &golden);
    testkit::training::check_given("qwen2-audio", "QWEN2_AUDIO_TRAINING");
}
