//! Equal to what the reference recorded. `golden/make.py` makes the folders, and any number of others:
//! `QWEN3_GOLDEN=DIR:DIR cargo test -p qwen3 --test parity` tries those too.

extern crate qwen3 as _; // or its registration would not be linked in

use plugin_api::Code;
use plugin_api::serde_json::json;
use std::path::{Path, PathBuf};
use testkit::parity::{check_narrow, check_text, checkpoints, given};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

#[test]
fn recorded_checkpoints_are_reproduced() {
    let recorded = checkpoints(&golden());
    assert_eq!(recorded.len(), 4);
    for folder in recorded.into_iter().chain(given("QWEN3_GOLDEN")) {
        check_text("qwen3", &folder, &folder.join("golden"));
    }
}

#[test]
fn the_way_of_a_gpu_leads_to_the_same() {
    let _elsewhere = nn::device::elsewhere();
    for folder in checkpoints(&golden()) {
        check_text("qwen3", &folder, &folder.join("golden"));
        check_narrow("qwen3", &folder);
    }
    check_text(
        "qwen3",
        &golden().join("gguf/qwen2.gguf"),
        &golden().join("qwen2/golden"),
    );
}

#[test]
fn a_search_with_a_prompt_beyond_the_context_is_not_the_fault_of_its_file() {
    let folder = testkit::copy(&golden().join("tied"));
    testkit::edit(folder.path(), "config.json", |config| {
        config["max_position_embeddings"] = 52.into()
    });
    let model = testkit::open("qwen3", folder.path(), json!({})).unwrap();
    let recorded = json!({ "golden": golden().join("tied/golden") });
    let error = model.replay(&recorded).unwrap_err();
    assert_eq!(
        error.message,
        "the prompt of search `talk0: 2 beams, length_penalty 1.0` has 52 tokens, the model's context leaves room for 51"
    );
    assert_eq!(error.code, Code::TOO_LONG);
}

/// Made of those folders by nn's `golden/make_gguf.py`: config, names, tokenizer and template are all the file's own.
#[test]
fn a_gguf_file_is_the_checkpoint_that_it_was_made_of() {
    let golden = golden();
    for name in ["tied", "qwen2", "llama"] {
        check_text(
            "qwen3",
            &golden.join("gguf").join(name).with_extension("gguf"),
            &golden.join(name).join("golden"),
        );
    }
}
