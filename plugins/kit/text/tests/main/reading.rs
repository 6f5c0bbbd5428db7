//! Reading answers while they are generated.

use std::path::Path;
use std::sync::Arc;
use text::{Answer, Detokenizer, Reader, Reading, Tokenizer};

fn tokenizer() -> Arc<Tokenizer> {
    Arc::new(Tokenizer::from_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/qwen3/demo")).unwrap())
}

#[test]
fn characters_are_never_split() {
    let tokenizer = tokenizer();
    for text in ["naïve café", "你好，世界", "🦀🦀", "a\u{301}", "x🏳️‍🌈y", " leading"] {
        let mut stream = Detokenizer::default();
        let ids = tokenizer.encode(text).unwrap();
        let pieces: Vec<String> = ids.iter().map(|id| stream.push(&tokenizer, *id).unwrap()).collect();
        assert!(pieces.iter().all(|piece| !piece.contains('\u{fffd}')), "{pieces:?}");
        assert_eq!(
            pieces.concat() + &stream.finish(&tokenizer).unwrap(),
            tokenizer.decode(&ids).unwrap()
        );
    }
}

#[test]
fn bytes_that_are_no_character_are_said_as_such() {
    let tokenizer = tokenizer();
    // Every byte alone, which is no valid text: invalid sequences at every place, and long runs of them.
    let bytes: Vec<u32> = (0..256)
        .filter(|id| tokenizer.decode(&[*id]).unwrap() == "\u{fffd}")
        .collect();
    assert!(bytes.len() > 100);
    let ids: Vec<u32> = (0..3000)
        .map(|n: usize| {
            if n.is_multiple_of(11) {
                40
            } else {
                bytes[n * 7919 % bytes.len()]
            }
        })
        .collect();
    let mut stream = Detokenizer::default();
    let said: String = ids.iter().map(|id| stream.push(&tokenizer, *id).unwrap()).collect();
    assert_eq!(
        said + &stream.finish(&tokenizer).unwrap(),
        tokenizer.decode(&ids).unwrap()
    );
}

/// Reads a text token by token, checks that the pieces together are the answer, and returns it.
fn read(text: &str, reading: Reading) -> (Answer, bool) {
    let tokenizer = tokenizer();
    let mut reader = Reader::new(tokenizer.clone(), reading);
    let mut said = String::new();
    for id in tokenizer.encode(text).unwrap() {
        said += &reader.push(id).unwrap();
        if reader.stopped() {
            break;
        }
    }
    let stopped = reader.stopped();
    let (piece, answer) = reader.finish().unwrap();
    assert_eq!(said + &piece, answer.text);
    (answer, stopped)
}

#[track_caller]
fn check(text: &str, opened: bool, answer: &str, thinking: Option<&str>) {
    let (got, _) = read(
        text,
        Reading {
            thinks: true,
            opened,
            stop: vec![],
        },
    );
    assert_eq!(
        (got.text.as_str(), got.thinking.as_deref()),
        (answer, thinking),
        "{text:?}"
    );
}

#[test]
fn reasoning_is_kept_apart() {
    check("<think>\nHm, so.\n</think>\n\nYes.", false, "Yes.", Some("Hm, so."));
    check("\n<think>Hm</think>Yes", false, "Yes", Some("Hm"));
    check("<think>\n\n</think>\n\nYes", false, "Yes", None);
    check("Hm\n</think>\n\nYes", true, "Yes", Some("Hm"));
    check("<think>\nnever ended", false, "", Some("never ended"));
    check("Yes <think>no</think>", false, "Yes <think>no</think>", None);
    check("<thin ice", false, "<thin ice", None);
    check("<thi", false, "<thi", None);
    check("a </thi", true, "", Some("a </thi"));
    check("  Yes", false, "  Yes", None);
}

#[test]
fn tags_may_be_spelt_letter_by_letter() {
    // As from a model that never learnt the tags: spelt in tokens of single letters.
    let tokenizer = tokenizer();
    let mut reader = Reader::new(
        tokenizer.clone(),
        Reading {
            thinks: true,
            ..Reading::default()
        },
    );
    let mut said = String::new();
    for letter in "<think>a<b</think>\nc".chars() {
        for id in tokenizer.encode(&letter.to_string()).unwrap() {
            said += &reader.push(id).unwrap();
        }
    }
    let (piece, answer) = reader.finish().unwrap();
    assert_eq!(
        (said + &piece, answer.thinking.as_deref()),
        ("c".to_owned(), Some("a<b"))
    );
}

#[test]
fn a_model_that_does_not_reason_may_speak_of_it() {
    let (answer, _) = read("<think>a</think>b", Reading::default());
    assert_eq!((answer.text.as_str(), answer.thinking), ("<think>a</think>b", None));
}

#[test]
fn stop_strings_end_the_answer_and_are_no_part_of_it() {
    let stop = |text: &str, stops: &[&str]| {
        let stop = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let (answer, stopped) = read(
            text,
            Reading {
                thinks: true,
                opened: false,
                stop,
            },
        );
        (answer.text, stopped)
    };
    assert_eq!(
        stop("One.\n\nQuestion: two", &["Question:"]),
        ("One.\n\n".to_owned(), true)
    );
    assert_eq!(stop("abcabd", &["abd", "x"]), ("abc".to_owned(), true));
    assert_eq!(
        stop("ends with Quest", &["Question:"]),
        ("ends with Quest".to_owned(), false)
    );
    assert_eq!(stop("né🦀e", &["🦀"]), ("né".to_owned(), true));
    assert_eq!(stop("none", &[""]), ("none".to_owned(), false));
    assert_eq!(stop("<think>\na\n\nb</think>c\n\nd", &["\n\n"]), ("c".to_owned(), true));
}

#[test]
fn tokens_of_reasoning_are_counted() {
    let (answer, _) = read(
        "<think>abc</think>Yes",
        Reading {
            thinks: true,
            ..Reading::default()
        },
    );
    let inside = tokenizer().encode("<think>abc</think>").unwrap().len();
    assert_eq!(answer.thinking_tokens, inside);
}
