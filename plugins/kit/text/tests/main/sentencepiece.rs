//! `tokenizer.model` tokenises text as SentencePiece does; `golden/sentencepiece.py` recorded it.

use plugin_api::{Message, Prompt};
use serde_json::Value;
use std::path::{Path, PathBuf};
use text::{Chat, ChatTemplate, Pieces, Tokenizer};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)
}

#[track_caller]
fn check(name: &str) {
    check_tokenizer(&Tokenizer::from_folder(&golden(name)).unwrap(), name);
}

#[track_caller]
fn check_tokenizer(tokenizer: &Tokenizer, name: &str) {
    let recorded: Value = serde_json::from_slice(&std::fs::read(golden("ids.json")).unwrap()).unwrap();
    for case in recorded[name].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        let expected: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
        assert_eq!(tokenizer.encode(text).unwrap(), expected, "{name}: {text:?}");
        let decoded = tokenizer.decode(&expected).unwrap();
        // The unknown token is special, so decoding leaves it out.
        let expected = case["decoded"].as_str().unwrap().replace(" \u{2047} ", "");
        assert_eq!(decoded, expected, "{name}: {text:?}");
    }
}

#[test]
fn byte_pairs_are_merged_as_in_llama() {
    check("bpe");
}

#[test]
fn the_same_pieces_in_a_gguf_file_cut_text_alike() {
    // From `golden/gguf.py`; it contains its chat template.
    let chat = Chat::from_folder(&golden("bpe.gguf")).unwrap();
    check_tokenizer(chat.tokenizer(), "bpe");
    assert_eq!(chat.tokenizer().encode_bare("a").unwrap()[0], 1);
    let prompt = Prompt::new([Message::user("a")]);
    assert_eq!(chat.encode(&prompt).unwrap().text, "a</s>");
}

#[test]
fn the_likeliest_pieces_are_chosen_as_in_t5() {
    check("unigram");
}

#[test]
fn a_bare_text_begins_with_the_first_token_unless_the_checkpoint_says_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(
        golden("bpe").join("tokenizer.model"),
        folder.path().join("tokenizer.model"),
    )
    .unwrap();
    let bare = |folder: &Path| Tokenizer::from_folder(folder).unwrap().encode_bare("a").unwrap();
    let with = bare(folder.path());
    assert_eq!(with[0], 1);
    std::fs::write(
        folder.path().join("tokenizer_config.json"),
        r#"{"add_bos_token": false}"#,
    )
    .unwrap();
    assert_eq!(bare(folder.path()), with[1..]);
}

#[test]
fn a_spoilt_file_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.model");
    let whole = std::fs::read(golden("bpe").join("tokenizer.model")).unwrap();
    let refused = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let error = Tokenizer::from_folder(folder.path())
            .err()
            .map(|error| error.to_string());
        error.map(|error| error.split("is malformed: ").nth(1).unwrap_or(&error).to_owned())
    };
    let refused = |bytes: &[u8], why: &str| assert_eq!(refused(bytes).as_deref(), Some(why), "{bytes:?}");
    refused(b"", "it has no piece for unknown text");
    refused(b"hello", "it is truncated, or not a SentencePiece model");
    refused(
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        "it is truncated, or not a SentencePiece model",
    );
    refused(b"\x0a\x03\x0a\x01\xff", "a piece is not UTF-8");
    refused(b"\x0a\x02\x18\x02", "a piece is empty, or its score is not a number");
    refused(
        b"\x0a\x05\x0a\x01a\x18\x02\x0a\x03\x0a\x01a",
        "it has the piece `a` twice",
    );
    refused(
        b"\x0a\x05\x0a\x01a\x18\x02\x12\x02\x18\x04",
        "its models are of kind 4, known here: 1 (unigram) and 2 (BPE)",
    );
    let user_defined = b"\x0a\x05\x0a\x01a\x18\x02\x0a\x05\x0a\x01b\x18\x04";
    refused(
        user_defined,
        "its user-defined piece `b` is of a type that is not supported",
    );
    for length in 0..whole.len().min(600) {
        std::fs::write(&path, &whole[..length]).unwrap();
        let _ = Tokenizer::from_folder(folder.path()); // success or not, but without a panic
    }
}

#[test]
fn pieces_around_a_clip_are_cut_each_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(
        golden("bpe").join("tokenizer.model"),
        folder.path().join("tokenizer.model"),
    )
    .unwrap();
    let template = "{% for m in messages %}{{ m.content }}{% endfor %}".to_owned();
    let chat = Chat::from_folder(folder.path())
        .unwrap()
        .with_template(ChatTemplate::new(template, Default::default()).unwrap())
        .with_pieces(Pieces {
            mark: "<Clip>".to_owned(),
            clip: 9,
            first: 1,
        });
    let cut = |text: &str| chat.tokenizer().encode(text).unwrap();
    let whole = |text: &str, plain: bool| {
        let mut prompt = Prompt::new([Message::user(text)]);
        prompt.plain = plain;
        chat.encode(&prompt).unwrap().ids
    };
    for plain in [true, false] {
        assert_eq!(whole("a b", plain), [vec![1], cut("a b")].concat());
        assert_eq!(
            whole("a<Clip>b", plain),
            [vec![1], cut("a"), vec![9], cut("b")].concat()
        );
        assert_ne!(whole("a<Clip>b", plain), [vec![1], cut("ab")].concat());
        assert_eq!(whole("<Clip>", plain), [1, 9]);
        assert_eq!(whole("", plain), [1]);
    }
    let choices = chat
        .encode_choices(&Prompt::new([Message::user("a<Clip>b")]), &[" c".to_owned()])
        .unwrap();
    assert_eq!(choices.context, whole("a<Clip>b", false));
    assert_eq!(
        [choices.context, choices.options[0].clone()].concat(),
        whole("a<Clip>b c", false)
    );
}
