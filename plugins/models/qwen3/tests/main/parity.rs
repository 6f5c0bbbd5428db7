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
    assert_eq!(recorded.len(), 5); // `four_bits` is of `golden/make_four_bits.py`
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

/// The other classes that share the decoder: `golden/make_others.py` makes the folders, and others like them:
/// `QWEN3_OTHERS=DIR cargo test -p qwen3`.
#[test]
fn classes_that_share_the_decoder_are_reproduced() {
    let recorded = checkpoints(&golden().join("others"));
    assert_eq!(recorded.len(), 7);
    assert!(recorded.iter().all(|folder| folder.join("lora").is_dir()));
    let others = given("QWEN3_OTHERS");
    let others = others.iter().flat_map(|folder| checkpoints(folder));
    for folder in recorded.iter().cloned().chain(others) {
        check_text("qwen3", &folder, &folder.join("golden"));
    }
    let _elsewhere = nn::device::elsewhere();
    for folder in &recorded {
        check_text("qwen3", folder, &folder.join("golden"));
        check_narrow("qwen3", folder);
    }
}

/// A quantised checkpoint still answers well, and its answers do not depend on the batch.
#[test]
fn classes_that_share_the_decoder_are_quantised_and_batched() {
    let prompts = || {
        ["Which is heavier?", "Be brief: name a planet.", "1, 2, 3"]
            .map(|text| testkit::ask(text, plugin_api::Sampling::greedy(6)))
    };
    for folder in checkpoints(&golden().join("others")) {
        for quant in ["none", "q8_0"] {
            let open = || testkit::open("qwen3", &folder, json!({ "quant": quant, "step_tokens": 16 })).unwrap();
            let (alone, together) = (open(), open());
            let expected: Vec<String> = prompts()
                .iter()
                .map(|prompt| alone.reply(prompt, &plugin_api::NoCallbacks).unwrap().text)
                .collect();
            let replies = testkit::Host::new(prompts().to_vec()).serve(&together);
            let got: Vec<String> = replies
                .iter()
                .map(|reply| reply.as_ref().unwrap().text.clone())
                .collect();
            assert_eq!(got, expected, "{}, {quant}", folder.display());
        }
    }
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
