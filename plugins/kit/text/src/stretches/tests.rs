use super::*;
use crate::cuts;
use std::cell::Cell;

/// A text of many stretches, made of words and of things that make words hard to tokenise.
fn text(seed: u64) -> String {
    const PARTS: [&str; 40] = [
        "the",
        "cat",
        "sat",
        "on",
        "a",
        "mat",
        "It",
        "doesn't",
        "we'll",
        "I'M",
        "naïve",
        "e\u{301}tude",
        "grüße",
        "狗叫",
        "x1y2",
        "12345",
        "3.14",
        "A.",
        "(B)",
        "end.\n",
        "\n\n",
        "\r\n",
        "\t",
        "  ",
        "   ",
        "-",
        "--",
        "...",
        "?!",
        "'s",
        "s'",
        "<|im_start|>",
        "<|im_end|>\n",
        "<s>",
        "\u{a0}",
        "\u{3000}",
        "ı",
        "ſ",
        "🐕",
        "▁",
    ];
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut draw = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % below
    };
    let parts = 1 + draw(60);
    (0..parts).fold(String::new(), |text, _| {
        let words = if draw(3) > 0 { 7 } else { PARTS.len() };
        let glue = if draw(5) > 0 { " " } else { "" };
        text + glue + PARTS[draw(words)]
    })
}

/// Texts have the same tokens as without the cache, both new texts and those with cached stretches.
#[track_caller]
fn check(file: &Json, blank: Option<SeamBlank>) {
    let tokenizer = Tokenizer::from_bytes(file.to_string()).unwrap();
    let stretches = Stretches::of(&tokenizer);
    assert_eq!(stretches.as_ref().map(|stretches| stretches.blank), blank);
    let Some(stretches) = stretches else { return };
    let whole = |text: &str| tokenizer.encode_fast(text, false).unwrap().get_ids().to_vec();
    let cuts = Cell::new(0);
    let cut = |text: &str| {
        cuts.set(cuts.get() + 1);
        Ok(whole(text))
    };
    let mut seams = 0;
    for seed in 0..2000 {
        let text = text(seed);
        seams += stretches.apart(&text).len() - 1;
        let expected = whole(&text);
        for _ in 0..2 {
            assert_eq!(stretches.encode(&text, cut).unwrap(), expected, "{text:?}");
        }
    }
    assert!(seams > 4000, "{seams}");
    assert!(cuts.get() < seams + 2000, "{} of {seams}", cuts.get());
}

/// The tokenizer recorded for GGUF files, with this pre-tokenizer and some added tokens.
fn bytes(name: &str) -> Json {
    let recorded: Json = serde_json::from_str(include_str!("../../golden/cuts.json")).unwrap();
    let tokens = recorded["tokens"].as_array().unwrap().iter().enumerate();
    let vocabulary: serde_json::Map<String, Json> = tokens
        .map(|(id, token)| (token.as_str().unwrap().to_owned(), id.into()))
        .collect();
    let own = |id: usize, content: &str| {
        json!({ "id": id, "content": content, "special": true, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false })
    };
    let first = vocabulary.len();
    let cut = cuts::named(name).unwrap();
    json!({
        "version": "1.0", "normalizer": cut.normalizer(), "pre_tokenizer": cut.pre_tokenizer(),
        "added_tokens": [own(first, "<|im_start|>"), own(first + 1, "<|im_end|>")],
        "model": { "type": "BPE", "vocab": vocabulary, "merges": recorded["merges"], "ignore_merges": cut.ignore_merges },
    })
}

/// Bytes and some merges, with a blank before every text, as in tokenizers of Llama 2.
fn as_llama(merges: &[&str]) -> Json {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "▁"].map(String::from).into();
    tokens.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    tokens.extend((' '..='~').map(String::from).chain(["ü", "ß", "狗"].map(String::from)));
    tokens.extend(merges.iter().map(|pair| pair.replace(' ', "")));
    let vocabulary: serde_json::Map<String, Json> =
        (0..).zip(tokens).map(|(id, token)| (token, Json::from(id))).collect();
    json!({
        "version": "1.0",
        "added_tokens": [{ "id": 1, "content": "<s>", "special": true, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false }],
        "normalizer": { "type": "Sequence", "normalizers": [
            { "type": "Prepend", "prepend": "▁" },
            { "type": "Replace", "pattern": { "String": " " }, "content": "▁" },
        ] },
        "pre_tokenizer": null,
        "model": { "type": "BPE", "vocab": vocabulary, "merges": merges, "unk_token": "<unk>", "fuse_unk": true,
            "byte_fallback": true, "ignore_merges": false },
    })
}

const MERGES: [&str; 12] = [
    "▁ t", "h e", "▁t he", "▁ a", "c a", "▁ ca", "▁ca t", "▁ ▁", "o n", "▁ on", "a t", "m at",
];

#[test]
fn words_of_bytes_have_their_own_tokens() {
    for name in ["gpt-2", "smollm", "llama-bpe", "qwen2"] {
        check(&bytes(name), Some(SeamBlank::Kept));
    }
}

#[test]
fn what_has_a_blank_in_front_falls_apart_without_it() {
    check(&as_llama(&MERGES), Some(SeamBlank::Dropped));
}

#[test]
fn what_can_not_be_shown_to_fall_apart_stays_whole() {
    // Another pattern; one that ignores words; merges across blanks.
    check(&bytes("gpt-4o"), None);
    let mut digits = bytes("gpt-2");
    digits["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = DIGIT.into();
    check(&digits, None);
    check(&as_llama(&[&MERGES[..], &["at ▁"]].concat()), None);
    // A blank before every text, although words have their own.
    let mut prefixed = bytes("gpt-2");
    prefixed["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = true.into();
    check(&prefixed, None);
    // Added tokens that contain a blank, are a word, or consume the blanks beside them.
    for (field, value) in [
        ("content", json!("a b")),
        ("content", json!("cat")),
        ("rstrip", json!(true)),
    ] {
        let mut file = bytes("gpt-2");
        file["added_tokens"][0][field] = value;
        check(&file, None);
    }
    let mut lowered = bytes("gpt-2");
    lowered["normalizer"] = json!({ "type": "Lowercase" });
    check(&lowered, None);
}
