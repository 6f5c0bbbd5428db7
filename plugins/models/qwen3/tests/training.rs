//! Training is the reference's, step by step; `plugins/kit/train/golden/README.md` says how the runs were recorded.
//! `QWEN3_TRAINING=DIR:DIR cargo test -p qwen3 --test training` tries others too.

// Linked because it registers the model.
use qwen3 as _;
use std::path::Path;

#[test]
fn runs_are_those_that_were_recorded() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kit/train/golden");
    testkit::training::check("qwen3", &golden.join("qwen3"));
    testkit::training::check_given("qwen3", "QWEN3_TRAINING");
    let others = std::fs::read_dir(golden.join("others")).expect("the other classes");
    let others: Vec<_> = others.map(|one| one.expect("a folder").path()).collect();
    assert_eq!(others.len(), 8);
    others.iter().for_each(|one| testkit::training::check("qwen3", one));
}
