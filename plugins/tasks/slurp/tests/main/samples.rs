//! Samples: which there are, where their recordings are found, and what is wrong with a row.

use crate::common::{DEMO, RIGHT, ROW, demo, one, over, task};
use plugin_api::{Code, Part};
use serde_json::{Value, json};
use std::fs;
use tempfile::TempDir;
use testkit::columns::{Column, write_parquet};
use testkit::task::{ids, only_message, score_text};

#[test]
fn a_sample_is_a_recording_or_an_utterance() {
    let check = |settings: Value, expected: &[&str]| {
        let (_folder, task) = one(&[], settings.clone());
        assert_eq!(ids(&task), expected, "{settings}");
    };
    check(json!({}), &["audio-1.flac", "audio-2-headset.flac"]);
    check(json!({"microphone": "headset"}), &["audio-2-headset.flac"]);
    check(json!({"microphone": "far"}), &["audio-1.flac"]);
    check(json!({"each": "utterance"}), &["7"]);
    check(json!({"input": "transcript"}), &["7"]);
    check(
        json!({"input": "transcript", "each": "recording"}),
        &["audio-1.flac", "audio-2-headset.flac"],
    );
    let (_folder, task) = one(&[], json!({}));
    let sample = task.sample(1).unwrap();
    assert_eq!(sample.target, serde_json::from_str::<Value>(RIGHT).unwrap());
    assert_eq!(sample.cluster.as_deref(), Some("7"));
    assert_eq!(sample.groups["microphone"], "headset");
    assert_eq!(sample.doc["recordings"], json!([{"file": "audio-2-headset.flac"}]));
}

#[test]
fn recordings_are_found_where_they_are_published_or_converted_to() {
    let check = |files: &[&str], found: [Option<&str>; 2]| {
        let (folder, task) = one(files, json!({}));
        for (index, expected) in found.into_iter().enumerate() {
            let sample = task.sample(index).unwrap();
            let path = sample.clips.first().and_then(|clip| clip.path.clone());
            assert_eq!(path, expected.map(|name| folder.path().join(name)), "{files:?}");
        }
    };
    check(
        &["audio-1.flac", "slurp_real/audio-2-headset.flac"],
        [Some("audio-1.flac"), Some("slurp_real/audio-2-headset.flac")],
    );
    check(
        &["audio/slurp_synth/audio-1.wav"],
        [Some("audio/slurp_synth/audio-1.wav"), None],
    );
    check(&[], [None, None]);
    let outside = ROW.replace("audio-1.flac", "../audio-1.flac");
    let (_folder, task) = over(&[&outside], &[], json!({"microphone": "far"}));
    assert!(task.unwrap().sample(0).unwrap().clips.is_empty());
}

#[test]
fn a_missing_recording_is_counted_or_an_error() {
    let (_folder, task) = one(&["audio-1.flac"], json!({}));
    let audio = |index: usize| task.sample(index).unwrap().groups["audio"].clone();
    assert_eq!((audio(0), audio(1)), ("clip".to_owned(), "missing".to_owned()));
    assert!(
        only_message(&task, 1)
            .joined_text()
            .contains("The recording is missing.")
    );
    let heard = r#"{"file": "audio-2-headset.wav", "hypotheses": ["wake me at ten", "wait for me"]}"#;
    let (_folder, task) = one(&[], json!({"hypotheses": heard, "microphone": "headset"}));
    assert_eq!(task.sample(0).unwrap().groups["audio"], "missing, words instead");
    assert!(
        only_message(&task, 0)
            .joined_text()
            .contains("1. wake me at ten\n2. wait for me\n")
    );
    let (_folder, strict) = over(&[ROW], &["audio-1.flac"], json!({"strict_audio_missing": true}));
    let error = strict.err().unwrap();
    assert_eq!(error.code, Code::MISSING);
    assert_eq!(
        error.message,
        "the recordings of 1 of 2 samples are missing, the first is that of `audio-2-headset.flac`"
    );
    let (_folder, whole) = over(
        &[ROW],
        &["audio-1.wav", "audio-2-headset.wav"],
        json!({"strict_audio_missing": true}),
    );
    assert!(whole.is_ok());
    let (_folder, words) = over(
        &[ROW],
        &[],
        json!({"strict_audio_missing": true, "input": "transcript"}),
    );
    assert!(words.is_ok());
}

#[test]
fn a_malformed_row_is_that_samples_error() {
    let check = |row: &str, message: &str| {
        let (_folder, task) = over(&[row, ROW], &[], json!({"each": "utterance"}));
        let task = task.unwrap();
        let error = task.sample(0).unwrap_err();
        let plain = error.message.replace('`', "");
        assert!(plain.starts_with("line 1 of ") && plain.ends_with(message), "{plain}");
        assert_eq!(task.sample(1).unwrap().id, "7");
    };
    check("{", "is not JSON: EOF while parsing an object at column 1");
    check(&ROW.replace("\"scenario\"", "\"scene\""), "field scenario is missing");
    check(&ROW.replace("\"alarm\"", "\" \""), "field scenario is empty");
    check(
        &ROW.replace("[3, 4]", "[3, 5]"),
        "field entities.0.span.1 is 5, expected the index of a token",
    );
    check(&ROW.replace("[3, 4]", "[]"), "field entities.0.span names no words");
    check(
        &ROW.replace("\"slurp_id\": 7", "\"number\": 7"),
        "field slurp_id is missing",
    );
    let (_folder, task) = over(&[&ROW.replace("recordings", "records")], &[], json!({}));
    let error = task.unwrap().sample(0).unwrap_err();
    assert!(
        error.message.ends_with("field `recordings` names no recording"),
        "{error}"
    );
}

#[test]
fn files_and_folders_of_every_layout() {
    let prepared = r#"{"slurp_id": "9", "filename": "slurp_real/audio-3.flac", "candidates": ["wake me"], "text": "wake me",
        "final": {"scenario": "alarm", "action": "set", "entities": [{"type": "time", "filler": "Ten"}]}}"#;
    let (folder, made) = over(&[prepared], &["slurp_real/audio-3.flac"], json!({}));
    let sample = made.unwrap().sample(0).unwrap();
    assert_eq!((sample.id.as_str(), sample.clips.len()), ("audio-3.flac", 1));
    assert_eq!(sample.target["entities"], json!([{"type": "time", "filler": "Ten"}]));
    let dev = folder.path().join("dataset/slurp/devel.jsonl");
    fs::create_dir_all(dev.parent().unwrap()).unwrap();
    fs::write(&dev, ROW.replace('\n', " ")).unwrap();
    for (data, split) in [
        (folder.path(), json!("devel")),
        (&*dev, Value::Null),
        (folder.path(), json!("validation")),
    ] {
        let found = task(json!({"data": data, "split": split, "input": "transcript"})).unwrap();
        assert_eq!(
            (ids(&found), found.card().unwrap().split.as_deref()),
            (vec!["7".to_owned()], Some("devel"))
        );
    }
    let wrong = task(json!({"data": dev, "split": "test"})).err().unwrap();
    assert!(wrong.message.ends_with("which says `devel`"), "{wrong}");
    assert_eq!(
        task(json!({"data": folder.path(), "split": "train"}))
            .err()
            .unwrap()
            .code,
        Code::MISSING
    );
    assert_eq!(
        task(json!({"data": DEMO, "audio": "/none"})).err().unwrap().code,
        Code::MISSING
    );
    let needed = task(json!({})).err().unwrap();
    assert_eq!((needed.code, needed.message.contains("`data`")), (Code::SETTINGS, true));
}

#[test]
fn rows_that_hold_their_sound_are_recordings() {
    let folder = TempDir::new().unwrap();
    let schema = "message schema {
        optional binary slurp_id (UTF8);
        optional binary scenario (UTF8);
        optional binary action (UTF8);
        optional group entities (LIST) { repeated group list { optional group element { optional binary type (UTF8); } } }
        optional group audio { optional binary bytes; optional binary path (UTF8); }
    }";
    let columns = [
        Column::new(&["7", "7"], 1),
        Column::new(&["alarm", "alarm"], 1),
        Column::new(&["set", "set"], 1),
        Column::new::<str>(&[], 1).repeated(vec![0, 0]), // empty lists
        Column::new(&["RIFF", "RIFF"], 2),
        Column::new(&["audio-1.flac", "audio-1-headset.flac"], 2),
    ];
    write_parquet(&folder.path().join("test-00000-of-00001.parquet"), schema, &columns);
    let task = task(json!({"data": folder.path(), "strict_audio_missing": true})).unwrap();
    assert_eq!(ids(&task), ["audio-1.flac", "audio-1-headset.flac"]);
    let sample = task.sample(1).unwrap();
    assert_eq!((sample.clips[0].blob, sample.blobs), (Some(0), vec![b"RIFF".to_vec()]));
    assert_eq!(
        (sample.cluster.as_deref(), sample.target["entities"].clone()),
        (Some("7"), json!([]))
    );
    assert_eq!(only_message(&task, 0).parts[1], Part::clip(0));
}

#[test]
fn the_demo_is_whole() {
    for split in ["test", "train"] {
        let task = demo(json!({"split": split}));
        for index in 0..task.count().unwrap() {
            let sample = task.sample(index).unwrap();
            let score = score_text(&task, index, &sample.target.to_string());
            assert_eq!(
                (score.values["intent_acc"], score.values["json_strict"]),
                (1.0, 1.0),
                "{}",
                sample.id
            );
        }
    }
}
