//! Checkpoints and prompts that are refused, and unusual checkpoints that are not.

extern crate gemma as _; // or its registration would not be linked in

use plugin_api::client::ModelClient;
use plugin_api::serde_json::{self, Value, json};
use plugin_api::{Code, Kind, Message, NoCallbacks, Part, Prompt, Result, Settings, make};
use std::path::{Path, PathBuf};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn open(folder: &Path, dtype: &str) -> Result<ModelClient> {
    let mut settings = Settings::default();
    settings.0.insert("weights".into(), json!(folder));
    settings.0.insert("dtype".into(), json!(dtype));
    Ok(ModelClient(make(Kind::Model, "gemma", &settings)?.into()))
}

/// A copy of the text checkpoint whose config was changed.
#[track_caller]
fn check(change: impl FnOnce(&mut Value), expected: &str) {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder("golden/text")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    let file = copy.path().join("config.json");
    let mut config = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    change(&mut config);
    std::fs::write(&file, config.to_string()).unwrap();
    let error = open(copy.path(), "fp32").map(|_| ()).unwrap_err();
    let told = format!("{error:?}");
    assert!(told.contains(expected), "{told}, expected {expected}");
}

#[test]
fn a_config_that_cannot_be_is_refused() {
    check(|c| c["model_type"] = json!("gemma2"), "gemma3_text, gemma3");
    check(|c| c["head_dim"] = json!(15), "head_dim modulo 2");
    check(|c| c["num_hidden_layers"] = json!(1_u64 << 40), "num_hidden_layers");
    check(|c| c["num_hidden_layers"] = json!(4), "model.layers.3.");
    check(|c| c["sliding_window_pattern"] = json!(0), "sliding_window_pattern");
    check(|c| c["query_pre_attn_scalar"] = json!(0), "query_pre_attn_scalar");
    check(
        |c| c["use_bidirectional_attention"] = json!(true),
        "use_bidirectional_attention",
    );
    check(|c| c["rope_scaling"] = json!({ "rope_type": "spiral" }), "spiral");
    check(|c| c["vocab_size"] = json!(300), "300 rows");
    check(
        |c| c["hidden_activation"] = json!("relu"),
        "`hidden_activation` in config.json is `relu`, expected silu, gelu or gelu_pytorch_tanh",
    );
    check(|c| c["rope_local_base_freq"] = json!(0), "rope_local_base_freq");
    check(|c| c["rms_norm_eps"] = json!(-1e-6), "rms_norm_eps");
    // A checkpoint that was saved again has both names of one field, and the older name wins.
    check(
        |c| {
            c["_sliding_window_pattern"] = json!(6);
            c["sliding_window_pattern"] = json!(2000);
        },
        "`sliding_window_pattern` in config.json is 2000",
    );
    // A multimodal config whose text part is missing.
    check(|c| *c = json!({ "model_type": "gemma3" }), "malformed");
}

#[test]
fn a_prompt_that_cannot_be_read_is_refused_and_the_next_one_answered() {
    let model = open(&folder("golden/text"), "fp32").unwrap();
    let refused = |prompt: Prompt| model.reply(&prompt, &NoCallbacks).unwrap_err();
    let mut picture = Message::user("What is it?");
    picture.parts.push(Part::Unknown);
    assert_eq!(refused(Prompt::new([picture])).code, Code::UNSUPPORTED);
    // The tokenizer also serves the larger models and has their picture token; the table here has no row for it.
    let soft = refused(Prompt::new([Message::user("a <image_soft_token> b")]));
    assert_eq!(soft.code, Code::UNSUPPORTED);
    assert!(soft.to_string().contains("<image_soft_token>"), "{soft}");
    model.reply(&Prompt::new([Message::user("a b")]), &NoCallbacks).unwrap();
}

#[test]
fn a_text_begins_once() {
    let model = open(&folder("golden/text"), "fp32").unwrap();
    let tokens = model.tokens(&Prompt::new([Message::user("Hi")])).unwrap();
    assert!(
        tokens.text.starts_with("<bos><start_of_turn>user\nHi<end_of_turn>"),
        "{}",
        tokens.text
    );
    assert_eq!(tokens.ids[0], 2);
    assert!(!tokens.ids[1..].contains(&2), "{:?}", tokens.ids);
}

#[test]
fn bf16_answers_nearly_as_fp32() {
    let options = ["A", "B", "C", "D"];
    let ask = || Prompt::new([Message::user("Which of these is the best conductor?")]).choose(options);
    let likelihoods = |dtype: &str| {
        let reply = open(&folder("demo"), dtype)
            .unwrap()
            .reply(&ask(), &NoCallbacks)
            .unwrap();
        reply.options.iter().map(|option| option.loglik).collect::<Vec<_>>()
    };
    let (exact, rounded) = (likelihoods("fp32"), likelihoods("bf16"));
    assert_eq!(exact.len(), 4);
    for (exact, rounded) in exact.iter().zip(&rounded) {
        assert!((exact - rounded).abs() < 0.1, "{exact} and {rounded}");
    }
}
