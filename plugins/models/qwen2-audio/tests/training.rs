//! Training is the reference's, step by step: recorded by `make_training.py`, as `golden/training/README.md` says.

// Linked for the model that it registers.
use qwen2_audio as _;

#[test]
fn runs_are_those_that_were_recorded() {
    testkit::training::check_given("qwen2-audio", "QWEN2_AUDIO_TRAINING");
}
