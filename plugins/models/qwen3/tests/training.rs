//! Training is the reference's, step by step: recorded by `make_training.py`, as `golden/training/README.md` says.

// Linked for the model that it registers.
use qwen3 as _;

#[test]
fn runs_are_those_that_were_recorded() {
    testkit::training::check_given("qwen3", "QWEN3_TRAINING");
}
