//! The task as a host sees it: by its name, over its envelopes.

use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use plugin_api::client::{FilesClient, Pages, TaskClient};
use plugin_api::{
    Code, FileAnswers, Kind, Message, Metric, NoCallbacks, Part, Reply, Result, Role, Row, Settings, Status, make,
    make_files,
};
use serde_json::{Value, json};
use slurp as _; // its registration comes along only when the crate is named
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::{fs, mem};
use tempfile::TempDir;

#[path = "slurp/files.rs"]
mod files; // prediction files of others

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/demo");
const ROW: &str = r#"{"slurp_id": 7, "sentence": "wake me at Ten am", "scenario": "alarm", "action": "set", "intent": "alarm_set",
    "tokens": [{"surface": "wake"}, {"surface": "me"}, {"surface": "at"}, {"surface": "Ten"}, {"surface": "am"}],
    "entities": [{"span": [3, 4], "type": "time"}], "recordings": [{"file": "audio-1.flac"}, {"file": "audio-2-headset.flac"}]}"#;
const RIGHT: &str = r#"{"scenario": "alarm", "action": "set", "entities": [{"type": "time", "filler": "ten am"}]}"#;

fn task(settings: Value) -> Result<TaskClient> {
    let settings = serde_json::from_value(settings).unwrap();
    Ok(TaskClient(Arc::from(make(Kind::Task, "slurp", &settings)?)))
}

fn demo(mut settings: Value) -> TaskClient {
    settings["data"] = json!(DEMO);
    task(settings).unwrap()
}

/// The task over these rows, in a folder that also holds these recordings.
fn over(rows: &[&str], recordings: &[&str], mut settings: Value) -> (TempDir, Result<TaskClient>) {
    let folder = TempDir::new().unwrap();
    let lines: Vec<String> = rows.iter().map(|row| row.replace('\n', " ")).collect();
    fs::write(folder.path().join("test.jsonl"), lines.join("\n")).unwrap();
    for name in recordings {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    settings["data"] = json!(folder.path());
    for name in ["hypotheses", "template"] {
        if let Some(text) = settings[name].as_str() {
            let path = folder.path().join(format!("{name}.jsonl"));
            fs::write(&path, text).unwrap();
            settings[name] = json!(path);
        }
    }
    settings.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    let task = task(settings);
    (folder, task)
}

fn one(recordings: &[&str], settings: Value) -> (TempDir, TaskClient) {
    let (folder, task) = over(&[ROW], recordings, settings);
    (folder, task.unwrap())
}

fn ids(task: &TaskClient) -> Vec<String> {
    let all = 0..task.count().unwrap();
    all.map(|index| task.sample(index).unwrap().id).collect()
}

fn asked(task: &TaskClient, index: usize) -> Message {
    let prompt = task.prompt(&task.sample(index).unwrap()).unwrap();
    assert_eq!(prompt.messages.len(), 1);
    prompt.messages.into_iter().next().unwrap()
}

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
    assert!(asked(&task, 1).joined_text().contains("The recording is missing."));
    let heard = r#"{"file": "audio-2-headset.wav", "hypotheses": ["wake me at ten", "wait for me"]}"#;
    let (_folder, task) = one(&[], json!({"hypotheses": heard, "microphone": "headset"}));
    assert_eq!(task.sample(0).unwrap().groups["audio"], "missing, words instead");
    assert!(
        asked(&task, 0)
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
fn each_input_shows_what_it_says() {
    let heard = r#"{"slurp_id": 7, "asr_hypotheses": [{"text": "wake me at ten"}, {"text": "wait for me"}]}"#;
    let shown = |input: &str, settings: Value| {
        let mut settings = settings;
        settings["input"] = json!(input);
        settings["hypotheses"] = json!(heard);
        let (_folder, task) = one(&["audio-1.flac"], settings);
        let message = asked(&task, 0);
        let clips: Vec<_> = message
            .parts
            .iter()
            .filter(|part| matches!(part, Part::Clip { .. }))
            .cloned()
            .collect();
        let words = task
            .sample(0)
            .unwrap()
            .clips
            .first()
            .and_then(|clip| clip.words.clone());
        (message.joined_text(), clips, words)
    };
    let list = "1. wake me at ten\n2. wait for me\n";
    let (text, clips, words) = shown("audio", json!({}));
    assert_eq!(clips, [Part::clip(0)]);
    assert!(text.contains("Recording: \n") && !text.contains("wake me"), "{text}");
    assert!(words.unwrap().ends_with(list.trim_end()));
    let (text, clips, _) = shown("both", json!({}));
    assert!(clips.len() == 1 && text.contains(list), "{text}");
    let (text, clips, words) = shown("nbest", json!({"most_hypotheses": 1}));
    assert!(
        clips.is_empty() && words.is_none() && text.contains("1. wake me at ten\n") && !text.contains("2. "),
        "{text}"
    );
    let (text, clips, _) = shown("transcript", json!({}));
    assert!(
        clips.is_empty() && text.contains("Utterance: wake me at Ten am\n"),
        "{text}"
    );
    let (_folder, task) = one(&[], json!({"input": "nbest"}));
    let error = task.prompt(&task.sample(0).unwrap()).unwrap_err();
    assert_eq!(
        error.message,
        "sample `audio-1.flac` has no speech recognition hypotheses"
    );
}

#[test]
fn a_prompt_lists_every_label() {
    let text = asked(&demo(json!({"input": "transcript"})), 0).joined_text();
    for label in [
        "alarm, audio, calendar",
        "addcontact, audiobook",
        "- datetime: convert, query\n",
        "weather_descriptor\n",
    ] {
        assert!(text.contains(label), "{label}: {text}");
    }
    assert!(text.ends_with("Answer with the JSON object alone."), "{text}");
}

#[test]
fn a_template_can_be_replaced() {
    let settings = json!({"template": "{{ clip }} {{ entity_types | length }} {{ scenarios | first }}"});
    let (_folder, task) = one(&["audio-1.flac"], settings);
    assert_eq!(asked(&task, 0).parts, [Part::clip(0), Part::text(" 55 alarm")]);
    // Without a place for it the clip comes first; where it is missing, nothing stands for it.
    let (_folder, task) = one(&["audio-1.flac"], json!({"template": "What?"}));
    assert_eq!(asked(&task, 0).parts, [Part::clip(0), Part::text("What?")]);
    assert_eq!(asked(&task, 1).parts, [Part::text("What?")]);
    assert_ne!(
        task.card().unwrap().other["template_hash"],
        demo(json!({})).card().unwrap().other["template_hash"]
    );
    let error = |template: &str| over(&[ROW], &[], json!({"template": template})).1.err().unwrap();
    assert_eq!(error("{% if %}").code, Code::SETTINGS);
    let (_folder, endless) = one(
        &[],
        json!({"template": "{% for a in range(9999) %}{% for b in range(9999) %}.{% endfor %}{% endfor %}"}),
    );
    assert!(endless.prompt(&endless.sample(0).unwrap()).is_err());
}

#[test]
fn rationales_are_shown_or_asked_for() {
    let row = ROW.replace(
        "\"slurp_id\": 7",
        "\"slurp_id\": 7, \"rationale_text\": \"He says when.\"",
    );
    let of = |rationale: &str| over(&[&row], &[], json!({"input": "transcript", "rationale": rationale}));
    let (_folder, given) = of("given");
    let given = given.unwrap();
    assert!(asked(&given, 0).joined_text().contains("Rationale: He says when.\n"));
    let (_folder, written) = of("written");
    let written = written.unwrap();
    let text = asked(&written, 0).joined_text();
    assert!(text.contains("First say") && !text.contains("He says when."), "{text}");
    let sample = written.sample(0).unwrap();
    let score = written
        .score(&sample, &Reply::text(format!("When?\n{RIGHT}")), &NoCallbacks)
        .unwrap();
    assert_eq!(
        (score.values["json_strict"], &score.details["rationale"]),
        (1.0, &json!("When?"))
    );
    let said = |task: &TaskClient| {
        task.lesson(&task.sample(0).unwrap()).unwrap().turns[1]
            .message
            .joined_text()
    };
    assert_eq!(said(&written), format!("He says when.\n{RIGHT}"));
    assert_eq!(said(&given), RIGHT);
}

#[test]
fn a_lesson_teaches_the_answer_to_the_same_prompt() {
    let (_folder, task) = one(&["audio-1.flac"], json!({}));
    let lesson = task.lesson(&task.sample(0).unwrap()).unwrap();
    let turns: Vec<_> = lesson
        .turns
        .iter()
        .map(|turn| (turn.message.clone(), turn.learn))
        .collect();
    assert_eq!(
        turns,
        [(asked(&task, 0), false), (Message::text(Role::Assistant, RIGHT), true)]
    );
}

#[test]
fn worked_examples_come_from_other_rows() {
    let shots = format!("{DEMO}/train.jsonl");
    let text = asked(
        &demo(json!({"input": "transcript", "shots": 2, "shots_data": shots})),
        0,
    )
    .joined_text();
    let shown = "Utterance: switch off the alarm for seven\n{\"scenario\": \"alarm\", \"action\": \"remove\", \"entities\": [{\"type\": \"time\", \"filler\": \"seven\"}]}\n";
    assert!(
        text.contains(shown) && text.contains("harbour radio") && !text.contains("ephemeral"),
        "{text}"
    );
    let own = demo(json!({"split": "train", "input": "transcript", "shots": 2, "shots_data": shots}));
    let text = asked(&own, 0).joined_text();
    assert_eq!(text.matches("switch off the alarm").count(), 1, "{text}");
    let too_many = task(json!({"data": DEMO, "shots": 9, "shots_data": shots}))
        .err()
        .unwrap();
    assert!(too_many.message.ends_with("there are 4 worked examples"), "{too_many}");
    assert_eq!(
        task(json!({"data": DEMO, "shots": 1})).err().unwrap().code,
        Code::SETTINGS
    );
}

#[test]
fn a_reply_is_scored_by_what_it_says() {
    let (_folder, task) = one(&[], json!({}));
    let check = |reply: &str, [scenario, intent, strict]: [f64; 3], slu: f64, status: Status| {
        let score = task
            .score(&task.sample(0).unwrap(), &Reply::text(reply), &NoCallbacks)
            .unwrap();
        let values = ["scenario_acc", "intent_acc", "json_strict", "slu_f1"].map(|name| score.values[name]);
        assert_eq!(
            (values, score.status),
            ([scenario, intent, strict, slu], status),
            "{reply}"
        );
    };
    check(RIGHT, [1.0, 1.0, 1.0], 1.0, Status::Scored);
    check(&format!("```json\n{RIGHT}\n```"), [1.0, 1.0, 0.0], 1.0, Status::Scored);
    check(&RIGHT.replace("set", "query"), [1.0, 0.0, 1.0], 1.0, Status::Scored);
    check(&RIGHT.replace("time", "date"), [1.0, 1.0, 1.0], 0.0, Status::Scored);
    check("It is an alarm.", [0.0, 0.0, 0.0], 0.0, Status::NoAnswer);
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
    check("{", "is no JSON: EOF while parsing an object at column 1");
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
    let (folder, task) = over(&[prepared], &["slurp_real/audio-3.flac"], json!({}));
    let sample = task.unwrap().sample(0).unwrap();
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
        let settings = json!({"data": data, "split": split, "input": "transcript"});
        let found = task_of(settings);
        assert_eq!(
            (ids(&found), found.card().unwrap().split.as_deref()),
            (vec!["7".to_owned()], Some("devel"))
        );
    }
    let wrong = self::task(json!({"data": dev, "split": "test"})).err().unwrap();
    assert!(wrong.message.ends_with("which says `devel`"), "{wrong}");
    assert_eq!(
        self::task(json!({"data": folder.path(), "split": "train"}))
            .err()
            .unwrap()
            .code,
        Code::MISSING
    );
    assert_eq!(
        self::task(json!({"data": DEMO, "audio": "/none"})).err().unwrap().code,
        Code::MISSING
    );
    let needed = self::task(json!({})).err().unwrap();
    assert_eq!((needed.code, needed.message.contains("`data`")), (Code::SETTINGS, true));
}

fn task_of(mut settings: Value) -> TaskClient {
    settings.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    task(settings).unwrap()
}

/// Rows as a hub has them, with their sound inside.
fn write_parquet(path: &Path, files: &[&str]) {
    let schema = "message schema {
        optional binary slurp_id (UTF8);
        optional binary scenario (UTF8);
        optional binary action (UTF8);
        optional group entities (LIST) { repeated group list { optional group element { optional binary type (UTF8); } } }
        optional group audio { optional binary bytes; optional binary path (UTF8); }
    }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut writer = SerializedFileWriter::new(fs::File::create(path).unwrap(), schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let count = files.len();
    type Column<'a> = (Vec<&'a str>, i16, Option<Vec<i16>>);
    let columns: [Column; 6] = [
        (vec!["7"; count], 1, None),
        (vec!["alarm"; count], 1, None),
        (vec!["set"; count], 1, None),
        (Vec::new(), 1, Some(vec![0; count])), // empty lists
        (vec!["RIFF"; count], 2, None),
        (files.to_vec(), 2, None),
    ];
    for (values, definition, repetition) in columns {
        let values: Vec<ByteArray> = values.into_iter().map(ByteArray::from).collect();
        let mut column = group.next_column().unwrap().unwrap();
        let typed = column.typed::<ByteArrayType>();
        typed
            .write_batch(&values, Some(&vec![definition; count]), repetition.as_deref())
            .unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
}

#[test]
fn rows_that_hold_their_sound_are_recordings() {
    let folder = TempDir::new().unwrap();
    write_parquet(
        &folder.path().join("test-00000-of-00001.parquet"),
        &["audio-1.flac", "audio-1-headset.flac"],
    );
    let task = task(json!({"data": folder.path(), "strict_audio_missing": true})).unwrap();
    assert_eq!(ids(&task), ["audio-1.flac", "audio-1-headset.flac"]);
    let sample = task.sample(1).unwrap();
    assert_eq!((sample.clips[0].blob, sample.blobs), (Some(0), vec![b"RIFF".to_vec()]));
    assert_eq!(
        (sample.cluster.as_deref(), sample.target["entities"].clone()),
        (Some("7"), json!([]))
    );
    assert_eq!(asked(&task, 0).parts[1], Part::clip(0));
}

/// A host that hands out all rows at once.
struct OnePage(Mutex<Vec<Row>>);

impl Pages for OnePage {
    fn page(&self) -> Result<Vec<Row>> {
        Ok(mem::take(&mut *self.0.lock().unwrap()))
    }
}

/// Replies with slips of every kind, and what the task makes of them.
fn scored(task: &TaskClient) -> Vec<Row> {
    let rows = (0..task.count().unwrap()).map(|index| {
        let sample = task.sample(index).unwrap();
        let right = sample.target.to_string();
        let reply = match index % 5 {
            0 => right,
            1 => format!("Well: {}", right.replace("query", "set")),
            2 => right.replace("filler\":\"", "filler\":\"the "),
            3 => "no idea".to_owned(),
            _ => right.replace("\"type\"", "\"kind\""),
        };
        let score = task.score(&sample, &Reply::text(reply), &NoCallbacks).unwrap();
        Row {
            sample,
            score,
            ..Row::default()
        }
    });
    rows.collect()
}

fn metric<'a>(metrics: &'a [Metric], name: &str, filter: &str, group: Option<&str>) -> &'a Metric {
    let fits = |metric: &&Metric| metric.name == name && metric.filter == filter && metric.group.as_deref() == group;
    metrics
        .iter()
        .find(fits)
        .unwrap_or_else(|| panic!("no {name} {filter} {group:?}"))
}

#[test]
fn a_run_comes_to_what_the_official_rules_make_of_its_prediction_file() {
    let task = demo(json!({"labels": true}));
    let rows = scored(&task);
    let folder = TempDir::new().unwrap();
    let write = |file: &str, text: &str| {
        let path = folder.path().join(file);
        let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).is_ok()
    };
    let files = FilesClient(Arc::from(make_files("slurp", &Settings::default()).unwrap()));
    files
        .export("slurp", &OnePage(Mutex::new(rows.clone())), &write)
        .unwrap();
    let official = files.score(&FileAnswers {
        file: folder.path().join("prediction_labels_only.jsonl"),
        gold: vec![Path::new(DEMO).join("test.jsonl")],
        rows: true,
        ..FileAnswers::default()
    });
    let official = official.unwrap();
    assert_eq!(
        (&official.other["not_predicted"], &official.other["unknown"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(
        (official.n, official.gold_total, official.rows.len()),
        (11, Some(11), 11)
    );
    let kept: Value =
        serde_json::from_slice(&fs::read(folder.path().join("metrics_label_only.json")).unwrap()).unwrap();
    let report = official.metrics;
    assert_eq!(kept["intent_acc"], report["micro"]["intent"]["f1"]);
    assert_eq!(kept["entity_recall"], report["micro"]["entities"]["recall"]);
    let metrics = task.metrics(&OnePage(Mutex::new(rows))).unwrap();
    let value = |name: &str| metric(&metrics, name, "", None).value;
    for (ours, theirs) in [
        ("scenario_acc", "scenario"),
        ("action_acc", "action"),
        ("intent_acc", "intent"),
    ] {
        assert_eq!(Some(value(ours)), report["micro"][theirs]["f1"].as_f64());
    }
    for (ours, theirs) in [
        ("entity", "entities"),
        ("word", "word"),
        ("char", "char"),
        ("slu", "slu_f1"),
    ] {
        for figure in ["precision", "recall", "f1"] {
            let near = |ours: f64, theirs: &Value| (ours - theirs.as_f64().unwrap()).abs() < 1e-12;
            assert!(
                near(value(&format!("{ours}_{figure}")), &report["micro"][theirs][figure]),
                "{ours} {figure}"
            );
            assert!(
                near(
                    value(&format!("macro_{ours}_{figure}")),
                    &report["macro"][theirs][figure]
                ),
                "{ours} {figure}"
            );
        }
    }
    let labels = &official.other["labels"];
    let of_date = metric(&metrics, "slu_f1", "", Some("entity=date")).value;
    assert!((of_date - labels["slu_f1"]["date"]["f1"].as_f64().unwrap()).abs() < 1e-12);
}

#[test]
fn what_was_no_json_and_what_was_not_heard_is_counted() {
    let task = demo(json!({"hypotheses": format!("{DEMO}/hypotheses.jsonl")}));
    let rows = scored(&task);
    let metrics = task.metrics(&OnePage(Mutex::new(rows))).unwrap();
    let value = |name: &str, filter: &str, group: Option<&str>| metric(&metrics, name, filter, group).value;
    // Of 11 samples the fourth and the ninth have no labels; the second and the seventh have words before them.
    assert_eq!(value("json_read", "", None), 9.0 / 11.0);
    assert!(value("json_strict", "", None) < value("json_read", "", None));
    assert!(value("intent_acc", "strict", None) < value("intent_acc", "", None));
    assert_eq!(value("audio_missing", "", None), 9.0 / 11.0);
    assert_eq!(metric(&metrics, "intent_acc", "", Some("audio=clip")).count, 2);
    assert_eq!(metric(&metrics, "intent_acc", "", Some("scenario=alarm")).count, 2);
    assert!(metrics.iter().all(|metric| metric.value.is_finite()));
}

#[test]
fn the_recordings_of_an_utterance_are_one_cluster() {
    // Two utterances of two recordings each, both of one right and of the other wrong: as sure as two samples.
    let other = ROW
        .replace("\"slurp_id\": 7", "\"slurp_id\": 8")
        .replace("audio-", "audio-9");
    let (_folder, task) = over(&[ROW, &other], &[], json!({}));
    let task = task.unwrap();
    let rows = (0..4).map(|index| {
        let sample = task.sample(index).unwrap();
        let reply = if index < 2 { RIGHT } else { "no idea" };
        let score = task.score(&sample, &Reply::text(reply), &NoCallbacks).unwrap();
        Row {
            sample,
            score,
            ..Row::default()
        }
    });
    let metrics = task.metrics(&OnePage(Mutex::new(rows.collect()))).unwrap();
    let intent = metric(&metrics, "intent_acc", "", None);
    assert_eq!((intent.value, intent.stderr, intent.count), (0.5, Some(0.5), 4));
    assert_eq!(intent.interval, Some((0.0, 1.0)));
    assert_eq!(
        metric(&metrics, "slu_f1", "", None).stderr.map(|stderr| stderr > 0.0),
        Some(true)
    );
}

#[test]
fn figures_that_do_not_vary_are_not_held_for_certain() {
    let task = demo(json!({"input": "transcript"}));
    let rows = (0..10).map(|index| {
        let sample = task.sample(index).unwrap();
        let score = task
            .score(&sample, &Reply::text(sample.target.to_string()), &NoCallbacks)
            .unwrap();
        Row {
            sample,
            score,
            ..Row::default()
        }
    });
    let metrics = task.metrics(&OnePage(Mutex::new(rows.collect()))).unwrap();
    let intent = metric(&metrics, "intent_acc", "", None);
    let (low, high) = intent.interval.unwrap(); // ten of ten: 72% to 100%
    assert!((low - 0.7225).abs() < 1e-4 && high > 0.999_999, "{low} to {high}");
    assert_eq!(metric(&metrics, "slu_f1", "", None).interval, None);
    assert!(!metrics.iter().any(|metric| {
        metric
            .group
            .as_deref()
            .is_some_and(|group| group.starts_with("microphone"))
    }));
}

#[test]
fn no_rows_come_to_no_nonsense() {
    let task = demo(json!({}));
    let metrics = task.metrics(&OnePage(Mutex::default())).unwrap();
    assert!(
        metrics
            .iter()
            .all(|metric| metric.count == 0 && metric.stderr.is_none())
    );
}

#[test]
fn any_string_is_scored() {
    const PIECES: [&str; 16] = [
        "{",
        "}",
        "[",
        "]",
        "\"scenario\":",
        "\"action\":",
        "\"entities\":",
        "\"type\":",
        "\"filler\":",
        "\"alarm\"",
        "\"ten am\"",
        "'time'",
        ",",
        "é ",
        "\\",
        "3",
    ];
    let (_folder, task) = one(&[], json!({}));
    let sample = task.sample(0).unwrap();
    let mut state = 7_u64;
    let mut draw = |bound: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    let mut read = 0;
    for _ in 0..2_000 {
        let text: String = (0..draw(30)).map(|_| PIECES[draw(PIECES.len())]).collect();
        let score = task
            .score(&sample, &Reply::text(format!("{{\"scenario\":{text}")), &NoCallbacks)
            .unwrap();
        assert!(
            score.values.values().all(|value| (0.0..=1.0).contains(value)),
            "{text}: {score:?}"
        );
        read += usize::from(score.status == Status::Scored);
    }
    assert!(
        (100..1_900).contains(&read),
        "{read} of 2000 were read: the strings are too easy or too hard"
    );
}

#[test]
fn the_demo_is_whole() {
    for split in ["test", "train"] {
        let task = demo(json!({"split": split}));
        for index in 0..task.count().unwrap() {
            let sample = task.sample(index).unwrap();
            let score = task
                .score(&sample, &Reply::text(sample.target.to_string()), &NoCallbacks)
                .unwrap();
            assert_eq!(
                (score.values["intent_acc"], score.values["json_strict"]),
                (1.0, 1.0),
                "{}",
                sample.id
            );
        }
    }
}
