//! Equal to what the reference recorded. `golden/make.py` makes the folders, and any number of others:
//! `GEMMA_GOLDEN=DIR:DIR cargo test -p gemma --test parity` tries those too.

extern crate gemma as _; // or its registration would not be linked in

use plugin_api::Prompt;
use plugin_api::client::ModelClient;
use plugin_api::serde_json::json;
use std::path::{Path, PathBuf};
use testkit::parity::{check_narrow, check_text, checkpoints, given};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

#[test]
fn recorded_checkpoints_are_reproduced() {
    let recorded = checkpoints(&golden());
    assert_eq!(recorded.len(), 2);
    for folder in recorded.into_iter().chain(given("GEMMA_GOLDEN")) {
        check_text("gemma", &folder, &folder.join("golden"));
    }
}

#[test]
fn the_way_of_a_gpu_leads_to_the_same() {
    let _elsewhere = nn::device::elsewhere();
    for folder in checkpoints(&golden()) {
        check_text("gemma", &folder, &folder.join("golden"));
        check_narrow("gemma", &folder);
    }
}

/// Made of those folders by nn's `golden/make_gguf.py`: config, names, tokenizer and template are all the file's own.
#[test]
fn a_gguf_file_is_the_checkpoint_that_it_was_made_of() {
    let golden = golden();
    check_text("gemma", &golden.join("gguf/text.gguf"), &golden.join("text/golden"));
    let open = |weights: PathBuf| testkit::open("gemma", &weights, json!({})).unwrap();
    let (folder, file) = (open(golden.join("text")), open(golden.join("gguf/text.gguf")));
    for text in [
        "",
        "  two  blanks ",
        "a1b22 \n\n\tx",
        "naïve 🦀 e\u{301}",
        "<bos><start_of_turn>user\nHi<end_of_turn>",
        "▁x",
    ] {
        let ids = |model: &ModelClient| model.tokens(&Prompt::plain(text)).unwrap().ids;
        assert_eq!(ids(&file), ids(&folder), "{text:?}");
    }
}
