//! The task and its judge as a host sees them: by their names, over their envelopes.

use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use plugin_api::client::{FilesClient, JudgeClient, Pages, TaskClient};
use plugin_api::{
    Callbacks, Case, Code, Envelope, Error, FileAnswers, FileScores, Kind, Message, Metric, NoCallbacks, Part, Prompt,
    Reply, Result, Row, Ruling, Status, Want, make, make_files,
};
use sakura as _; // linked in, so that its task and its judge are there
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/demo");
const HEAD: &str = "file,attribute_label,gender,single_instruction,single_answer,multi_instruction,multi_answer\r\n";
const ROWS: &str = "x.wav,German,female,Which language? (a) German (b) Korean, (a) German,\"Which town, then? (a) Busan (b) Kassel\",(b) Kassel\r\n\
y.wav,Korean,male,Which language? (a) German (b) Korean,(b) Korean,\"Which town, then? (a) Busan (b) Kassel\",(a) Busan\r\n";

fn task(settings: Value) -> Result<TaskClient> {
    let settings = serde_json::from_value(settings).unwrap();
    Ok(TaskClient(Arc::from(make(Kind::Task, "sakura", &settings)?)))
}

/// The task over these files, `data` being the folder unless the settings name a file in it.
fn over(files: &[(&str, &str)], mut settings: Value) -> (TempDir, Result<TaskClient>) {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    for name in ["data", "data_root", "template"] {
        if name == "data" || settings[name].is_string() {
            settings[name] = json!(folder.path().join(settings[name].as_str().unwrap_or_default()));
        }
    }
    let task = task(settings);
    (folder, task)
}

/// Two clips of the language track, in the repository's layout.
fn published(settings: Value) -> (TempDir, TaskClient) {
    let table = format!("{HEAD}{ROWS}");
    let files = [
        ("data/Language/metadata.csv", table.as_str()),
        ("data/Language/audio/x.wav", ""),
        ("data/Language/audio/y.wav", ""),
    ];
    let (folder, task) = over(&files, settings);
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

/// A judge that always says this, and keeps what it was asked.
struct Says(&'static str, Mutex<Vec<Prompt>>);

impl Callbacks for Says {
    fn ask(&self, what: &str, input: Envelope) -> Result<Envelope> {
        assert_eq!(what, "generate:judge");
        self.1.lock().unwrap().push(input.read()?);
        Envelope::of(&Reply::text(self.0))
    }

    fn emit(&self, _what: &str, _note: Envelope) -> bool {
        true
    }

    fn stop_asked(&self) -> bool {
        false
    }
}

fn says(words: &'static str) -> Says {
    Says(words, Mutex::new(Vec::new()))
}

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
    let folder = tempfile::tempdir().unwrap();
    let clips = folder.path().join("clips/sakura/animal");
    std::fs::create_dir_all(&clips).unwrap();
    std::fs::write(folder.path().join("m.jsonl"), rows.join("\n")).unwrap();
    for clip in ["x.wav", "y.wav"] {
        std::fs::write(clips.join(clip), "").unwrap();
    }
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

fn parquet(path: &Path) {
    let schema = "message rows {
        required group audio { required binary bytes; required binary path (UTF8); }
        required binary attribute_label (UTF8);
        required binary single_instruction (UTF8); required binary single_answer (UTF8);
        required binary multi_instruction (UTF8); required binary multi_answer (UTF8); }";
    let cells: [&[u8]; 7] = [
        b"RIFFx",
        b"dog1.wav",
        b"dog",
        b"Which? (a) dog (b) crow",
        b"(a) dog",
        b"What has it? (a) a beak (b) a nose",
        b"(b) a nose",
    ];
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut writer = SerializedFileWriter::new(fs::File::create(path).unwrap(), schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for cell in cells {
        let mut column = group.next_column().unwrap().unwrap();
        let value = ByteArray::from(cell.to_vec());
        column
            .typed::<ByteArrayType>()
            .write_batch(&[value], None, None)
            .unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
}

#[test]
fn the_hubs_parquet_brings_its_sound() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("data")).unwrap();
    parquet(&folder.path().join("data/test-00000-of-00001.parquet"));
    let task = task(json!({"data": [folder.path()], "track": "animal"})).unwrap();
    assert_eq!(ids(&task), ["animal/dog1.wav-single", "animal/dog1.wav-multi"]);
    let sample = task.sample(1).unwrap();
    assert_eq!((sample.clips[0].blob, sample.blobs), (Some(0), vec![b"RIFFx".to_vec()]));
    let (_folder, other) = (0, self::task(json!({"data": folder.path(), "track": "gender"})));
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

#[test]
fn the_clip_comes_first_and_the_form_is_chosen() {
    let check = |settings: Value, there: &[&str], not_there: &[&str]| {
        let (_folder, task) = published(settings);
        let message = asked(&task, 1);
        assert_eq!(message.parts[0], Part::clip(0));
        let text = message.joined_text();
        for words in there {
            assert!(text.contains(words), "{words:?} is not in {text:?}");
        }
        for words in not_there {
            assert!(!text.contains(words), "{words:?} is in {text:?}");
        }
    };
    let inline = "Which town, then? (a) Busan (b) Kassel\n";
    check(json!({}), &[inline, "Answer: (letter)", "Then end"], &[]);
    check(
        json!({"reasoning": false}),
        &[inline, "the letter of the one option"],
        &["Answer: (letter)"],
    );
    check(
        json!({"form": "listed"}),
        &["Which town, then?\n(a) Busan\n(b) Kassel\n"],
        &[],
    );
    check(
        json!({"form": "open"}),
        &["Which town, then?\n", "in a few words"],
        &["Busan", "letter"],
    );
    let own = [
        ("data/Language/metadata.csv", &*format!("{HEAD}{ROWS}")),
        ("data/Language/audio/x.wav", ""),
        ("t.jinja", "Q: {{ question }} {{ clip }} Go."),
    ];
    let (_folder, task) = over(&own, json!({"template": "t.jinja", "hop": "single"}));
    let task = task.unwrap();
    let parts = asked(&task, 0).parts;
    assert_eq!(parts.len(), 3);
    assert_eq!((&parts[1], &parts[2]), (&Part::clip(0), &Part::text(" Go.")));
    let hash = |task: &TaskClient| task.card().unwrap().other["template_hash"].clone();
    assert_ne!(hash(&task), hash(&published(json!({})).1));
}

#[test]
fn the_rule_tells_right_from_wrong_from_unread() {
    let (_folder, task) = published(json!({}));
    let sample = task.sample(1).unwrap();
    let check = |text: &str, right: f64, status: Status, letter: Option<&str>, reasoning: Option<&str>| {
        let score = task.score(&sample, &Reply::text(text), &NoCallbacks).unwrap();
        assert_eq!((score.values["rule_acc"], score.status), (right, status), "{text}");
        let detail = |name: &str| score.details.get(name).and_then(Value::as_str);
        assert_eq!((detail("letter"), detail("reasoning")), (letter, reasoning), "{text}");
    };
    check(
        "German, so Kassel.\nAnswer: (b)",
        1.0,
        Status::Scored,
        Some("b"),
        Some("German, so Kassel."),
    );
    check("(b) Kassel", 1.0, Status::Scored, Some("b"), None);
    check("Answer: (a)", 0.0, Status::Scored, Some("a"), None);
    check("I can't tell.", 0.0, Status::NoAnswer, None, None);
    check("Busan or Kassel", 0.0, Status::NoAnswer, None, None);
}

#[test]
fn a_judge_rules_by_the_official_protocol() {
    let (_folder, task) = published(json!({"judge": true}));
    assert_eq!(task.card().unwrap().metrics[0].name, "judge_acc");
    let sample = task.sample(0).unwrap();
    let judge = JudgeClient(Arc::from(make(Kind::Judge, "sakura", &Default::default()).unwrap()));
    let check = |words: &'static str, right: f64, invalid: f64, ruling: Ruling| {
        let host = says(words);
        let score = task.score(&sample, &Reply::text("It is the first."), &host).unwrap();
        assert_eq!(
            (score.values["judge_acc"], score.values["judge_invalid"]),
            (right, invalid),
            "{words}"
        );
        assert_eq!(
            (score.values["rule_acc"], &score.details["judge_reply"]),
            (0.0, &json!(words))
        );
        let prompt = host.1.lock().unwrap().remove(0);
        let asked = prompt.last_user_text();
        for part in [
            "Which language? (a) German (b) Korean",
            "(a) German\n",
            "It is the first.",
        ] {
            assert!(asked.contains(part), "{asked}");
        }
        let Want::Text { sampling } = prompt.want else { panic!() };
        assert_eq!(
            (sampling.temperature, sampling.top_p, sampling.max_tokens),
            (Some(0.0), Some(0.9), Some(1024))
        );
        let case = Case {
            sample: sample.clone(),
            reply: Reply::text("It is the first."),
            ..Case::default()
        };
        let verdict = judge.judge(&case, &says(words)).unwrap();
        assert_eq!(
            (verdict.ruling, verdict.value, verdict.raw.as_deref()),
            (ruling, Some(right), Some(words))
        );
    };
    check("Explanation: It is.\nJudgement: correct", 1.0, 0.0, Ruling::Right);
    check("Explanation: It is not.\nJudgement: incorrect", 0.0, 0.0, Ruling::Wrong);
    check("Judgement: correct", 0.0, 1.0, Ruling::Wrong);
    let alone: Error = task.score(&sample, &Reply::text("x"), &NoCallbacks).unwrap_err();
    assert!(alone.message.contains("generate:judge"));
}

struct All(Mutex<Vec<Row>>);

impl Pages for All {
    fn page(&self) -> Result<Vec<Row>> {
        Ok(std::mem::take(&mut *self.0.lock().unwrap()))
    }
}

#[test]
fn multi_hop_is_also_told_of_clips_whose_single_hop_was_right() {
    let task = task(json!({"data": DEMO})).unwrap();
    // For each clip of a track, in order: single, multi, single, multi.
    let right = [[1, 1, 1, 0], [1, 0, 0, 1], [0, 1, 0, 1], [1, 1, 1, 1]].concat();
    let rows = right.iter().enumerate().map(|(index, right)| {
        let sample = task.sample(index).unwrap();
        let reply = if *right == 1 {
            sample.target.as_str().unwrap().to_owned()
        } else {
            "none".to_owned()
        };
        let score = task.score(&sample, &Reply::text(reply), &NoCallbacks).unwrap();
        Row {
            sample,
            score,
            ..Row::default()
        }
    });
    let metrics = task.metrics(&All(Mutex::new(rows.collect()))).unwrap();
    let find = |name: &str, group: Option<&str>| -> &Metric {
        let mut found = metrics
            .iter()
            .filter(|metric| metric.name == name && metric.group.as_deref() == group);
        found
            .next()
            .unwrap_or_else(|| panic!("{name} of {group:?} is not there"))
    };
    let check = |name: &str, group: Option<&str>, value: f64, count: u64| {
        let metric = find(name, group);
        assert!(
            (metric.value - value).abs() < 1e-12,
            "{name} of {group:?} is {}",
            metric.value
        );
        assert_eq!(metric.count, count, "{name} of {group:?}");
    };
    check("rule_acc", None, 11.0 / 16.0, 16);
    check("rule_acc_single", None, 5.0 / 8.0, 8);
    check("rule_acc_multi", None, 6.0 / 8.0, 8);
    // Five singles are right, and of these clips' multis three.
    check("rule_acc_multi_given_single", None, 3.0 / 5.0, 5);
    check("rule_acc", Some("set=gender-multi"), 0.5, 2);
    check("rule_acc_multi_given_single", Some("track=gender"), 0.5, 2);
    check("rule_acc_multi_given_single", Some("track=animal"), 1.0, 2);
    assert!(
        !metrics
            .iter()
            .any(|metric| metric.name.starts_with("rule_acc_multi_given")
                && metric.group.as_deref() == Some("track=emotion"))
    );
    // sqrt of the summed squares of the tracks' errors, over four: 0, 0.5, 0 and 0.
    assert!((find("rule_acc_single", None).stderr.unwrap() - 0.125).abs() < 1e-12);
    // Eight clips are the clusters: their sums less 11/8 are 5/8, -3/8 (five times) and so on.
    let sums: [f64; 8] = [2., 1., 1., 1., 1., 1., 2., 2.];
    let squares: f64 = sums.iter().map(|sum| (sum - 11.0 / 8.0).powi(2)).sum();
    assert!((find("rule_acc", None).stderr.unwrap() - (squares * 8.0 / 7.0).sqrt() / 16.0).abs() < 1e-12);
}

#[test]
fn a_lesson_is_the_question_and_its_letter_with_reasons_where_there_are_some() {
    let manifest =
        r#"{"audio": "x.wav", "instruction": "Which? (a) dog (b) crow", "answer": "crow", "rationale": "It caws."}"#;
    let said = |settings: Value| {
        let mut settings = settings;
        settings["data"] = json!("m.jsonl");
        let (_folder, task) = over(&[("m.jsonl", manifest), ("x.wav", "")], settings);
        let task = task.unwrap();
        let lesson = task.lesson(&task.sample(0).unwrap()).unwrap();
        assert_eq!(lesson.turns[0].message.parts[0], Part::clip(0));
        assert_eq!((lesson.turns[0].learn, lesson.turns[1].learn), (false, true));
        lesson.turns[1].message.joined_text()
    };
    assert_eq!(said(json!({})), "It caws.\nAnswer: (b)");
    assert_eq!(said(json!({"reasoning": false})), "(b)");
    assert_eq!(said(json!({"form": "open"})), "It caws.\nAnswer: crow");
    let unknown = r#"{"audio": "x.wav", "instruction": "Which? (a) dog (b) crow"}"#;
    let (_folder, task) = over(&[("m.jsonl", unknown), ("x.wav", "")], json!({"data": "m.jsonl"}));
    let task = task.unwrap();
    let sample = task.sample(0).unwrap();
    assert_eq!(task.lesson(&sample).unwrap_err().code, Code::DATA);
    assert_eq!(
        task.score(&sample, &Reply::text("(a)"), &NoCallbacks).unwrap().status,
        Status::Unscored
    );
}

fn files() -> FilesClient {
    FilesClient(Arc::from(make_files("sakura", &Default::default()).unwrap()))
}

fn scored(kind: &str, name: &str, text: &str) -> Result<FileScores> {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join(name);
    fs::write(&file, text).unwrap();
    files().score(&FileAnswers {
        kind: kind.to_owned(),
        file,
        rows: true,
        ..FileAnswers::default()
    })
}

#[test]
fn a_judges_words_are_scored_and_invalid_ones_count() {
    let lines = r#"{"key": "a", "judge_reply": "Explanation: x\nJudgement: correct"}
        {"key": 7, "judge_reply": "Explanation: x\nJudgement: incorrect"}
        {"judge_reply": "Judgement: correct"}
        {"key": "d", "judge_reply": null}"#;
    let scores = scored("judge_replies", "r.jsonl", lines).unwrap();
    assert_eq!((scores.n, scores.gold_total), (4, None));
    let metrics = json!({"accuracy": 0.25, "correct": 1, "incorrect": 1, "invalid": 2});
    assert_eq!(Value::Object(scores.metrics), metrics);
    let verdict = |key: &str, verdict: &str| json!({"key": key, "verdict": verdict});
    let rows = [("a", "correct"), ("7", "incorrect"), ("3", "invalid"), ("d", "invalid")];
    assert_eq!(scores.rows, rows.map(|(key, word)| verdict(key, word)));
    let error = scored("judge_replies", "r.jsonl", r#"{"key": "a"}"#).unwrap_err();
    assert!(error.message.ends_with("field `judge_reply` is missing"), "{error}");
    assert!(
        scored("judge_replies", "r.jsonl", "")
            .unwrap_err()
            .message
            .ends_with("holds no rows")
    );
}

#[test]
fn a_run_is_written_as_the_authors_results_and_read_back() {
    let task = task(json!({"data": DEMO, "judge": true})).unwrap();
    let all = (0..task.count().unwrap()).map(|index| {
        let sample = task.sample(index).unwrap();
        let text = if index % 4 == 0 {
            "none"
        } else {
            sample.target.as_str().unwrap()
        };
        let reply = Reply::text(text);
        let score = task
            .score(&sample, &reply, &says("Explanation: x\nJudgement: correct"))
            .unwrap();
        Row {
            sample,
            score,
            reply: Some(reply),
        }
    });
    let texts = Mutex::new(std::collections::BTreeMap::<String, String>::new());
    let write = |file: &str, text: &str| {
        texts.lock().unwrap().entry(file.to_owned()).or_default().push_str(text);
        true
    };
    files()
        .export("sakura", &All(Mutex::new(all.collect())), &write)
        .unwrap();
    let texts = texts.into_inner().unwrap();
    assert_eq!(texts.len(), 16);
    let animal: Value = serde_json::from_str(&texts["animal_single.json"]).unwrap();
    assert_eq!(
        (&animal["attribute"], &animal["type"]),
        (&json!("Animal"), &json!("single"))
    );
    let result = &animal["results"]["data/Animal/audio/demo_crow.wav"];
    assert_eq!(
        (&result["response"], &result["label"]),
        (&json!("(a) crow"), &json!("(a) crow"))
    );
    let scores = scored("predictions", "animal_single.json", &texts["animal_single.json"]).unwrap();
    assert_eq!(Value::Object(scores.metrics), json!({"rule_acc": 0.5}));
    assert_eq!(
        scores.rows[0],
        json!({"key": "data/Animal/audio/demo_dog.wav", "correct": false, "chosen": null})
    );
    let judged = scored("judge_replies", "j.jsonl", &texts["animal_single_judge_replies.jsonl"]).unwrap();
    assert_eq!(judged.metrics["accuracy"], json!(1.0));
}
