//! Questions and clips of every published layout, and what is wrong with them.

use crate::common::{DEMO, HEAD, ROWS, over, published, task};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::columns::{Column, write_parquet};
use testkit::task::{folder, ids};

#[test]
fn every_published_layout_is_read() {
    let csv = format!("{HEAD}{ROWS}");
    let object = r#"{"data/Language/audio/x.wav": {"attribute_label": "German", "gender": "female",
        "single_instruction": "Which language? (a) German (b) Korean", "single_answer": " (a) German",
        "multi_instruction": "Which town, then? (a) Busan (b) Kassel", "multi_answer": "(b) Kassel"}}"#;
    let manifest = "{\"id\": \"q1\", \"audio\": \"clips/x.wav\", \"instruction\": \"Which language? (a) German (b) Korean\", \"answer\": \"(a) German\", \"track\": \"language\", \"hop\": \"single\"}\n\
        {\"audio\": \"clips/y.wav\", \"instruction\": \"Who speaks?\"}\n";
    let both = [
        "language/x.wav-single",
        "language/x.wav-multi",
        "language/y.wav-single",
        "language/y.wav-multi",
    ];
    let check = |files: &[(&str, &str)], data: &str, expected: &[&str]| {
        let (_folder, task) = over(files, json!({"data": data}));
        assert_eq!(ids(&task.unwrap()), expected, "{data}");
    };
    let clips = [("data/Language/audio/x.wav", ""), ("data/Language/audio/y.wav", "")];
    let with = |name, text| [&clips[..], &[(name, text)]].concat();
    for data in ["", "data", "data/Language", "data/Language/metadata.csv"] {
        check(&with("data/Language/metadata.csv", &csv), data, &both);
    }
    for data in ["", "data", "data/Language", "data/Language/metadata.json"] {
        check(&with("data/Language/metadata.json", object), data, &both[..2]);
    }
    check(
        &[("manifest.jsonl", manifest), ("clips/x.wav", ""), ("clips/y.wav", "")],
        "manifest.jsonl",
        &["q1", "y.wav"],
    );
}

#[test]
fn a_manifest_names_its_clips_from_the_data_root() {
    let row = |id: &str, path: &str| {
        let instruction = "Which animal? (a) sheep (b) cat";
        json!({"id": id, "audio_path": path, "instruction": instruction, "answer": "(b) cat"}).to_string()
    };
    let rows = [
        row("sakura_animal_0_single", "{DATA_ROOT}/sakura/animal/x.wav"),
        row("sakura_animal_0_multi", "{DATA_ROOT}/sakura/animal/x.wav"),
        row("sakura_animal_1_single", "sakura/animal/y.wav"),
        row("sakura_animal_2_single", "{DATA_ROOT}/../m.jsonl"),
    ];
    let folder = folder(&[
        ("m.jsonl", &rows.join("\n")),
        ("clips/sakura/animal/x.wav", ""),
        ("clips/sakura/animal/y.wav", ""),
    ]);
    let clips = folder.path().join("clips/sakura/animal");
    let settings = json!({"data": folder.path().join("m.jsonl"), "data_root": folder.path().join("clips")});
    let check = |index: usize, clip: Option<&str>, set: &str| {
        let sample = task(settings.clone()).unwrap().sample(index).unwrap();
        let found = sample.clips.first().and_then(|clip| clip.path.clone());
        assert_eq!(found, clip.map(|clip| clips.join(clip)), "{}", sample.id);
        assert_eq!(sample.groups["set"], set, "{}", sample.id);
    };
    check(0, Some("x.wav"), "animal-single");
    check(1, Some("x.wav"), "animal-multi");
    check(2, Some("y.wav"), "animal-single");
    check(3, None, "animal-single");
}

#[test]
fn tracks_and_hops_are_chosen() {
    let check = |settings: Value, count: usize| {
        let mut settings = settings;
        settings["data"] = json!(DEMO);
        assert_eq!(task(settings.clone()).unwrap().count().unwrap(), count, "{settings}");
    };
    check(json!({}), 16);
    check(json!({"track": "animal"}), 4);
    check(json!({"hop": "multi"}), 8);
    check(json!({"track": "gender", "hop": "single"}), 2);
    let several = ["Gender", "Animal"].map(|track| format!("{DEMO}/data/{track}"));
    assert_eq!(task(json!({"data": several})).unwrap().count().unwrap(), 8);
    let (_folder, none) = over(&[("data/Language/metadata.csv", HEAD)], json!({}));
    assert!(none.err().unwrap().message.ends_with("holds no questions"));
}

#[test]
fn a_sample_says_what_it_counts_under() {
    let (folder, task) = published(json!({}));
    let sample = task.sample(1).unwrap();
    assert_eq!(
        (sample.target, sample.choices),
        (json!("(b) Kassel"), vec!["Busan".to_owned(), "Kassel".to_owned()])
    );
    assert_eq!(sample.cluster.as_deref(), Some("language/x.wav"));
    let groups = json!({"audio": "clip", "track": "language", "hop": "multi", "set": "language-multi", "label": "German", "gender": "female"});
    assert_eq!(serde_json::to_value(&sample.groups).unwrap(), groups);
    assert_eq!(
        sample.clips[0].path,
        Some(folder.path().join("data/Language/audio/x.wav"))
    );
    let doc = sample.doc.to_string();
    assert!(
        !doc.contains("Which language?"),
        "the other question gives it away: {doc}"
    );
}

#[test]
fn the_hubs_parquet_brings_its_sound() {
    let folder = TempDir::new().unwrap();
    let schema = "message rows {
        required group audio { required binary bytes; required binary path (UTF8); }
        required binary attribute_label (UTF8);
        required binary single_instruction (UTF8); required binary single_answer (UTF8);
        required binary multi_instruction (UTF8); required binary multi_answer (UTF8); }";
    let cells = [
        "RIFFx",
        "dog1.wav",
        "dog",
        "Which? (a) dog (b) crow",
        "(a) dog",
        "What has it? (a) a beak (b) a nose",
        "(b) a nose",
    ];
    let columns = cells.map(|cell| Column::new(&[cell], 0));
    write_parquet(
        &folder.path().join("data/test-00000-of-00001.parquet"),
        schema,
        &columns,
    );
    let task = task(json!({"data": [folder.path()], "track": "animal"})).unwrap();
    assert_eq!(ids(&task), ["animal/dog1.wav-single", "animal/dog1.wav-multi"]);
    let sample = task.sample(1).unwrap();
    assert_eq!((sample.clips[0].blob, sample.blobs), (Some(0), vec![b"RIFFx".to_vec()]));
    let other = crate::common::task(json!({"data": folder.path(), "track": "gender"}));
    assert!(
        other
            .err()
            .unwrap()
            .message
            .ends_with("holds no questions of track `gender`")
    );
}

#[test]
fn what_is_off_is_named() {
    let check = |files: &[(&str, &str)], settings: Value, expected: &str| {
        let (_folder, task) = over(files, settings);
        let error = match task {
            Ok(task) => task
                .sample(0)
                .and_then(|sample| task.prompt(&sample))
                .expect_err(expected),
            Err(error) => error,
        };
        assert!(error.to_string().contains(expected), "{error}");
    };
    let table = format!("{HEAD}{ROWS}");
    let csv = [("data/Language/metadata.csv", table.as_str())];
    check(
        &csv,
        json!({}),
        "the clip `x.wav` of sample `language/x.wav-single` is not there",
    );
    check(
        &csv,
        json!({"strict_audio_missing": true}),
        "the clips of 4 of 4 questions are missing, the first is that of line 2 of",
    );
    check(&csv, json!({"data_root": "none"}), "setting `data_root`");
    check(&[("a.txt", "")], json!({}), "holds no file for");
    let wrong = table.replace("(a) German,\"", "(a) Korean,\"");
    check(
        &[
            ("data/Language/metadata.csv", &wrong),
            ("data/Language/audio/x.wav", ""),
        ],
        json!({}),
        "line 2 of",
    );
    check(
        &[
            (
                "m.jsonl",
                "{\"instruction\": \"Which? (a) x (b) y\", \"answer\": \"c\", \"audio\": \"x.wav\"}",
            ),
            ("x.wav", ""),
        ],
        json!({"data": "m.jsonl"}),
        "field `answer` is `c`, which is none of the question's options",
    );
    let outside = "{\"instruction\": \"Which?\", \"audio\": \"../x.wav\"}";
    check(
        &[("in/m.jsonl", outside), ("y.wav", "")],
        json!({"data": "in/m.jsonl"}),
        "the clip `../x.wav` of sample `x.wav` is not there",
    );
}
