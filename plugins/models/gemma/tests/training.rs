//! Training is the reference's, step by step: recorded by `make_training.py`, as `golden/training/README.md` says.

// Linked for the model that it registers.
use gemma as _;

#[test]
fn runs_are_those_that_were_recorded() {
    testkit::training::check_given("gemma", "GEMMA_TRAINING");
}
