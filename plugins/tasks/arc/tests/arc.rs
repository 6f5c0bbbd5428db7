//! The task as a host sees it: by its name, over its envelopes.

use arc as _; // its registration comes along only when the crate is named
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use plugin_api::client::{FilesClient, Pages, TaskClient};
use plugin_api::{
    Code, Error, FileAnswers, FileScores, Kind, Message, NoCallbacks, OptionScore, Part, Prompt, Reply, Result, Row,
    Settings, Status, Want, make, make_files,
};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/demo");

const FLAT: &str = r#"{"id": "q1", "question": "What is hot?", "choices": {"text": ["ice", "the Sun", "a rock"], "label": ["A", "B", "C"]}, "answerKey": "B"}"#;
const NESTED: &str = r#"{"id": "q1", "question": {"stem": "What is hot?", "choices": [{"text": "ice", "label": "A"}, {"text": "the Sun", "label": "B"}, {"text": "a rock", "label": "C"}]}, "answerKey": "B"}"#;
const DIGITS: &str = r#"{"id": "q2", "question": "What is cold?", "choices": {"text": ["ice", "fire"], "label": ["1", "2"]}, "answerKey": "1"}"#;

fn task(settings: Value) -> Result<TaskClient> {
    let settings = serde_json::from_value(settings).unwrap();
    Ok(TaskClient(Arc::from(make(Kind::Task, "arc", &settings)?)))
}

/// A folder with these files, a line of text each per row.
fn folder(files: &[(&str, &[&str])]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, lines) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, lines.join("\n")).unwrap();
    }
    folder
}

/// The task over one file of these rows, which is kept on disk as long as the folder.
fn over(lines: &[&str], mut settings: Value) -> (TempDir, TaskClient) {
    let folder = folder(&[("rows.jsonl", lines)]);
    settings["data"] = json!(folder.path().join("rows.jsonl"));
    let task = task(settings).unwrap();
    (folder, task)
}

fn ids(task: &TaskClient) -> Vec<String> {
    let all = 0..task.count().unwrap();
    all.map(|index| task.sample(index).unwrap().id).collect()
}

fn options(prompt: &Prompt) -> &[String] {
    match &prompt.want {
        Want::Choice { options } => options,
        other => panic!("{other:?}"),
    }
}

fn scored(likelihoods: &[f64]) -> Reply {
    let one = |loglik: &f64| OptionScore {
        loglik: *loglik,
        ..OptionScore::default()
    };
    Reply::scored(likelihoods.iter().map(one).collect())
}

fn write_parquet(path: &Path, ids: &[&str]) {
    let schema = "message schema {
        optional binary id (UTF8);
        optional binary question (UTF8);
        optional group choices {
            optional group text (LIST) { repeated group list { optional binary element (UTF8); } }
            optional group label (LIST) { repeated group list { optional binary element (UTF8); } }
        }
        optional binary answerKey (UTF8);
    }";
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = fs::File::create(path).unwrap();
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut writer = SerializedFileWriter::new(file, schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let plain = vec![1; ids.len()];
    let (inner, starts) = (vec![4; 2 * ids.len()], [0, 1].repeat(ids.len()));
    type Column<'a> = (Vec<&'a str>, &'a [i16], Option<&'a [i16]>);
    let columns: [Column; 5] = [
        (ids.to_vec(), &plain, None),
        (vec!["What is hot?"; ids.len()], &plain, None),
        (["ice", "the Sun"].repeat(ids.len()), &inner, Some(&starts)),
        (["1", "2"].repeat(ids.len()), &inner, Some(&starts)),
        (vec!["2"; ids.len()], &plain, None),
    ];
    for (values, definition, repetition) in columns {
        let values: Vec<ByteArray> = values.into_iter().map(ByteArray::from).collect();
        let mut column = group.next_column().unwrap().unwrap();
        let typed = column.typed::<ByteArrayType>();
        typed.write_batch(&values, Some(definition), repetition).unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
}

#[test]
fn a_letter_prompt_has_the_published_shape() {
    let (_folder, task) = over(&[FLAT, DIGITS], json!({}));
    let prompt = task.prompt(&task.sample(0).unwrap()).unwrap();
    let expected = "Multiple Choice question: What is hot?\n- ice=A\n- the Sun=B\n- a rock=C\n\nRespond only with the letter of the correct answer.";
    assert_eq!(prompt.messages, [Message::user(expected)]);
    assert_eq!((prompt.plain, prompt.thinking), (false, Some(false)));
    assert_eq!(options(&prompt), ["A", "B", "C"]);
    // Digits in the data are letters in the prompt, since it asks for a letter.
    let digits = task.prompt(&task.sample(1).unwrap()).unwrap();
    assert!(digits.last_user_text().contains("- ice=A\n- fire=B\n"));
}

#[test]
fn a_loglikelihood_prompt_goes_on_with_the_option_texts() {
    let (_folder, task) = over(&[FLAT], json!({"mode": "loglikelihood"}));
    let prompt = task.prompt(&task.sample(0).unwrap()).unwrap();
    assert_eq!(prompt.last_user_text(), "Question: What is hot?\nAnswer:");
    assert!(prompt.plain);
    assert_eq!(options(&prompt), [" ice", " the Sun", " a rock"]);
}

#[test]
fn a_generated_answer_is_drawn_greedily() {
    let (_folder, plain) = over(&[FLAT], json!({"mode": "generate"}));
    let prompt = plain.prompt(&plain.sample(0).unwrap()).unwrap();
    let sampling = prompt.sampling().unwrap();
    assert_eq!(
        (sampling.temperature, sampling.max_tokens, prompt.thinking),
        (Some(0.0), Some(256), Some(false))
    );
    let (_folder, thinking) = over(&[FLAT], json!({"mode": "generate", "thinking": true}));
    let prompt = thinking.prompt(&thinking.sample(0).unwrap()).unwrap();
    assert_eq!(
        (prompt.sampling().unwrap().max_tokens, prompt.thinking),
        (Some(8192), Some(true))
    );
}

#[test]
fn flat_and_nested_rows_are_the_same_question() {
    let (_folder, task) = over(&[FLAT, NESTED, DIGITS], json!({}));
    let (flat, nested) = (task.sample(0).unwrap(), task.sample(1).unwrap());
    assert_eq!(
        (&flat.id, &flat.choices, &flat.target),
        (&nested.id, &nested.choices, &nested.target)
    );
    assert_eq!((flat.target, flat.choices.len()), (json!("B"), 3));
    assert_eq!(
        task.prompt(&nested).unwrap(),
        task.prompt(&task.sample(0).unwrap()).unwrap()
    );
    let digits = task.sample(2).unwrap();
    assert_eq!((digits.target, &digits.doc["answerKey"]), (json!("A"), &json!("1")));
}

#[test]
fn the_likeliest_letter_is_the_answer() {
    let (_folder, task) = over(&[FLAT], json!({}));
    let check = |likelihoods: [f64; 3], acc: f64, answer: &str| {
        let score = task
            .score(&task.sample(0).unwrap(), &scored(&likelihoods), &NoCallbacks)
            .unwrap();
        assert_eq!(
            (score.values["acc"], score.answer.as_deref()),
            (acc, Some(answer)),
            "{likelihoods:?}"
        );
    };
    check([-3.0, -1.0, -2.0], 1.0, "B");
    check([-1.0, -3.0, -2.0], 0.0, "A");
    check([-1.0, -1.0, -1.0], 0.0, "A"); // the first among equals
    check([-1.0, f64::NAN, -2.0], 1.0, "B"); // as numpy has it
}

#[test]
fn option_texts_are_compared_by_sum_character_and_byte() {
    let row = r#"{"id": "q", "question": "?", "choices": {"text": ["ab", "ééé", "abcd"], "label": ["A", "B", "C"]}, "answerKey": "C"}"#;
    let (_folder, task) = over(&[row], json!({"mode": "loglikelihood"}));
    let check = |likelihoods: [f64; 3], answer: &str, [acc, acc_norm, acc_bytes]: [f64; 3]| {
        let score = task
            .score(&task.sample(0).unwrap(), &scored(&likelihoods), &NoCallbacks)
            .unwrap();
        assert_eq!(score.answer.as_deref(), Some(answer));
        let values = ["acc", "acc_norm", "acc_bytes"].map(|name| score.values[name]);
        assert_eq!(values, [acc, acc_norm, acc_bytes], "{likelihoods:?}");
    };
    check([-2.0, -4.0, -3.0], "A", [0.0, 1.0, 0.0]); // by byte B: -4/6 beats -3/4
    check([-2.0, -3.0, -3.0], "A", [0.0, 1.0, 0.0]);
    check([-2.0, -9.0, -1.0], "C", [1.0, 1.0, 1.0]);
}

#[test]
fn letters_are_read_from_generated_text() {
    let (_folder, task) = over(&[FLAT, DIGITS], json!({"mode": "generate"}));
    let check = |index: usize, text: &str, acc: f64, answer: Option<&str>| {
        let score = task
            .score(&task.sample(index).unwrap(), &Reply::text(text), &NoCallbacks)
            .unwrap();
        assert_eq!(
            (score.values["acc"], score.answer.as_deref()),
            (acc, answer),
            "{text:?}"
        );
        let status = if answer.is_some() {
            Status::Scored
        } else {
            Status::NoAnswer
        };
        assert_eq!(score.status, status, "{text:?}");
    };
    check(0, "B", 1.0, Some("B"));
    check(0, "The answer is (C).", 0.0, Some("C"));
    check(0, "The Sun.", 1.0, Some("B"));
    check(0, "Answer: A rock", 0.0, Some("C")); // an article, and the words of the third option
    check(0, "A dog barks twice.", 0.0, None);
    check(0, "D", 0.0, None);
    check(0, "", 0.0, None);
    check(1, "A", 1.0, Some("A"));
    check(1, "1", 0.0, None); // a label that the prompt didn't show
}

#[test]
fn a_reply_of_the_wrong_kind_is_an_error() {
    let (_folder, task) = over(&[FLAT], json!({}));
    let score = |reply: &Reply| task.score(&task.sample(0).unwrap(), reply, &NoCallbacks).unwrap_err();
    let error = score(&Reply::text("B"));
    assert_eq!(
        (error.code, error.message.as_str()),
        (Code::UNSUPPORTED, "the reply to sample `q1` scores no options")
    );
    assert!(error.help.unwrap().contains("mode=generate"));
    assert_eq!(
        score(&scored(&[0.0])).message,
        "the reply to sample `q1` scores 1 options, expected 3"
    );
}

#[test]
fn a_lesson_teaches_the_letter_alone() {
    let (_folder, task) = over(&[FLAT], json!({}));
    let sample = task.sample(0).unwrap();
    let lesson = task.lesson(&sample).unwrap();
    assert_eq!(lesson.id, "q1");
    let turns: Vec<_> = lesson.turns.iter().map(|turn| (&turn.message, turn.learn)).collect();
    let asked = &task.prompt(&sample).unwrap().messages[0];
    assert_eq!(turns, [(asked, false), (&Message::assistant("B"), true)]);
}

#[test]
fn the_card_says_what_is_measured() {
    let check = |settings: Value, name: &str, metrics: &[&str], filter: Option<&str>| {
        let mut settings = settings;
        settings["data"] = json!(DEMO);
        let card = task(settings).unwrap().card().unwrap();
        let names: Vec<_> = card.metrics.iter().map(|metric| metric.name.as_str()).collect();
        assert_eq!(
            (card.name.as_str(), names.as_slice(), card.filter.as_deref()),
            (name, metrics, filter)
        );
        assert_eq!((card.split.as_deref(), card.version.as_str()), (Some("test"), "1"));
        assert_eq!(card.needs_choices, filter.is_none());
    };
    check(json!({}), "arc_easy", &["acc"], None);
    check(json!({"mode": "generate"}), "arc_easy", &["acc"], Some("letter"));
    check(
        json!({"mode": "loglikelihood"}),
        "arc_easy",
        &["acc", "acc_norm", "acc_bytes"],
        None,
    );
    let challenge = json!({"mode": "loglikelihood", "subset": "challenge"});
    check(challenge, "arc_challenge", &["acc_norm", "acc", "acc_bytes"], None);
}

#[test]
fn files_and_folders_of_every_published_layout() {
    let check = |root: &Path, settings: Value, expected: &[&str]| {
        let mut settings = settings;
        settings["data"] = json!(root);
        assert_eq!(ids(&task(settings).unwrap()), expected, "{}", root.display());
    };
    let flat = folder(&[("ARC-Easy-Test.jsonl", &[FLAT]), ("ARC-Challenge-Dev.jsonl", &[DIGITS])]);
    check(flat.path(), json!({}), &["q1"]);
    check(
        flat.path(),
        json!({"subset": "challenge", "split": "validation"}),
        &["q2"],
    );
    check(&flat.path().join("ARC-Challenge-Dev.jsonl"), json!({}), &["q2"]);
    let authors = folder(&[("ARC-V1/ARC-Challenge/ARC-Challenge-Test.jsonl", &[NESTED])]);
    check(authors.path(), json!({"subset": "challenge"}), &["q1"]);
    let hub = TempDir::new().unwrap();
    write_parquet(&hub.path().join("ARC-Easy/test-00000-of-00002.parquet"), &["p1", "p2"]);
    write_parquet(&hub.path().join("ARC-Easy/test-00001-of-00002.parquet"), &["p3"]);
    check(hub.path(), json!({}), &["p1", "p2", "p3"]);
    check(&hub.path().join("ARC-Easy"), json!({}), &["p1", "p2", "p3"]);
    let task = task(json!({"data": hub.path()})).unwrap();
    let sample = task.sample(2).unwrap();
    assert_eq!(
        (sample.target, sample.choices),
        (json!("B"), vec!["ice".to_owned(), "the Sun".to_owned()])
    );
}

#[test]
fn a_file_is_what_its_name_says() {
    let folder = folder(&[("ARC-Challenge-Dev.jsonl", &[FLAT]), ("rows.jsonl", &[FLAT])]);
    let named = folder.path().join("ARC-Challenge-Dev.jsonl");
    let card = task(json!({"data": named})).unwrap().card().unwrap();
    assert_eq!(
        (card.name.as_str(), card.split.as_deref()),
        ("arc_challenge", Some("validation"))
    );
    let card = task(json!({"data": folder.path().join("rows.jsonl")}))
        .unwrap()
        .card()
        .unwrap();
    assert_eq!((card.name.as_str(), card.split.as_deref()), ("arc_easy", None));
    let error = task(json!({"data": named, "subset": "easy"})).err().unwrap();
    assert_eq!(error.code, Code::SETTINGS);
    assert!(error.message.ends_with("which says `challenge`"), "{error}");
}

#[test]
fn a_malformed_row_is_that_samples_error() {
    let check = |row: &str, message: &str| {
        let (_folder, task) = over(&[FLAT, row, DIGITS], json!({}));
        let error = task.sample(1).unwrap_err();
        assert_eq!(error.code, Code::DATA);
        let plain = error.message.replace('`', "");
        assert!(plain.starts_with("line 2 of ") && plain.ends_with(message), "{plain}");
        assert_eq!((ids_of(&task, 0), ids_of(&task, 2)), ("q1".to_owned(), "q2".to_owned()));
    };
    fn ids_of(task: &TaskClient, index: usize) -> String {
        task.sample(index).unwrap().id
    }
    check("{\"id\": ", "is no JSON: EOF while parsing a value at column 7");
    check("[]", "is a list, expected an object");
    check(&FLAT.replace("question", "query"), "field question is missing");
    check(&FLAT.replace("\"What is hot?\"", "\" \""), "field question is empty");
    check(
        &FLAT.replace("\"What is hot?\"", "5"),
        "field question is the number 5, expected text",
    );
    check(&FLAT.replace("\"q1\"", "null"), "field id is missing");
    check(
        &FLAT.replace("\"B\"}", "\"E\"}"),
        "field answerKey is E, expected one of A, B, C",
    );
    check(
        &FLAT.replace("\"B\"}", "\"\"}"),
        "field answerKey is , expected one of A, B, C",
    );
    check(
        &FLAT.replace(", \"C\"]", "]"),
        "field choices.text has 3 texts, but there are 2 labels",
    );
    check(
        &FLAT.replace("\"the Sun\"", "\"\""),
        "field choices.text has no text for option B",
    );
    check(
        &FLAT.replace("\"the Sun\"", "{}"),
        "field choices.text.1 is an object, expected text",
    );
    check(
        &FLAT.replace("\"C\"]", "\"A\"]"),
        "field choices.text has the label A twice",
    );
    check(
        &NESTED.replace("\"label\": \"B\"", "\"l\": 1"),
        "field question.choices.1.label is missing",
    );
    check(&NESTED.replace("stem", "text"), "field question.stem is missing");
}

#[test]
fn data_that_is_not_there_says_what_to_do() {
    let error = |settings: Value| -> Error { task(settings).err().unwrap() };
    let missing = error(json!({}));
    assert_eq!(missing.code, Code::MISSING);
    assert!(missing.help.unwrap().contains("-T data=PATH"));
    let empty = folder(&[("README.md", &["nothing"]), ("ARC-Easy-Test.jsonl", &[])]);
    assert!(error(json!({"data": empty.path()})).message.ends_with("holds no rows"));
    let other = error(json!({"data": empty.path(), "subset": "challenge"}));
    assert!(
        other.message.ends_with("holds no file for ARC-Challenge, test"),
        "{other}"
    );
    let mode = error(json!({"data": DEMO, "mode": "letters"}));
    assert_eq!(
        mode.message,
        "setting `mode` is `letters`, expected one of `letter`, `loglikelihood`, `generate`"
    );
}

fn shown_shots(task: &TaskClient, index: usize) -> Vec<String> {
    let prompt = task.prompt(&task.sample(index).unwrap()).unwrap();
    let texts = prompt.messages.iter().map(Message::joined_text);
    texts
        .filter_map(|text| {
            Some(
                text.strip_prefix("Multiple Choice question: ")?
                    .lines()
                    .next()?
                    .to_owned(),
            )
        })
        .collect()
}

#[test]
fn worked_examples_come_from_the_train_part() {
    let row = |id: &str, text: &str| FLAT.replace("q1", id).replace("What is hot?", text);
    let train = [
        row("t1", "one?"),
        row("t2", "two?"),
        row("t3", "three?"),
        row("t4", "four?"),
    ];
    let train: Vec<&str> = train.iter().map(String::as_str).collect();
    let test = [row("x1", "X?"), row("x2", "two?")];
    let test: Vec<&str> = test.iter().map(String::as_str).collect();
    let folder = folder(&[("ARC-Easy-Train.jsonl", &train), ("ARC-Easy-Test.jsonl", &test)]);
    let over = |settings: Value| {
        let mut settings = settings;
        settings["data"] = json!(folder.path());
        task(settings)
    };
    let first = over(json!({"shots": 2})).unwrap();
    assert_eq!(shown_shots(&first, 0), ["one?", "two?", "X?"]);
    assert_eq!(shown_shots(&first, 1), ["one?", "three?", "two?"]); // its twin is left out
    assert_eq!(first.card().unwrap().shots, 2);
    let prompt = first.prompt(&first.sample(0).unwrap()).unwrap();
    assert_eq!(prompt.messages[1], Message::assistant("B"));

    let own = over(json!({"shots": 2, "split": "train"})).unwrap();
    assert_eq!(shown_shots(&own, 0), ["two?", "three?", "one?"]); // never itself

    let seeded = |seed: u64| over(json!({"shots": 3, "shots_seed": seed})).unwrap();
    assert_eq!(shown_shots(&seeded(1), 1), shown_shots(&seeded(1), 1));
    assert!((2..20).any(|seed| shown_shots(&seeded(seed), 0) != shown_shots(&seeded(1), 0)));
    let mut drawn = shown_shots(&seeded(1), 1);
    drawn.sort();
    assert_eq!(drawn, ["four?", "one?", "three?", "two?"]);

    let texts = over(json!({"shots": 1, "mode": "loglikelihood"})).unwrap();
    let prompt = texts.prompt(&texts.sample(0).unwrap()).unwrap();
    let expected = "Question: one?\nAnswer: the Sun\n\nQuestion: X?\nAnswer:";
    assert_eq!(prompt.messages[0].parts, [Part::text(expected)]);

    let file = folder.path().join("ARC-Easy-Test.jsonl");
    let beside = task(json!({"data": file, "shots": 1})).unwrap();
    assert_eq!(shown_shots(&beside, 0), ["one?", "X?"]);
    let named = task(json!({"data": file, "shots": 1, "shots_data": file})).unwrap();
    assert_eq!(shown_shots(&named, 0), ["two?", "X?"]);
    assert_eq!(over(json!({"shots": 5})).err().unwrap().code, Code::SETTINGS);
    let most = over(json!({"shots": 4})).unwrap();
    assert_eq!(most.prompt(&most.sample(1).unwrap()).unwrap_err().code, Code::DATA);
    let none = over(json!({"shots": 1, "subset": "challenge"})).err().unwrap();
    assert_eq!(none.code, Code::MISSING);
}

#[test]
fn the_demo_is_whole() {
    for (subset, count) in [("easy", 10), ("challenge", 8)] {
        let task = task(json!({"data": DEMO, "subset": subset, "shots": 1})).unwrap();
        assert_eq!(task.count().unwrap(), count);
        let answers: std::collections::BTreeSet<String> = (0..count)
            .map(|index| {
                let sample = task.sample(index).unwrap();
                task.prompt(&sample).unwrap();
                sample.target.to_string()
            })
            .collect();
        assert!(
            answers.len() >= 3,
            "one letter must not be right everywhere: {answers:?}"
        );
    }
}

#[test]
fn a_template_replaces_the_built_in_words() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("own.jinja");
    fs::write(
        &path,
        "{{ mode }} {{ id }}: {{ question }}{% for o in options %} {{ o.letter }}) {{ o.text }}{% endfor %}",
    )
    .unwrap();
    let check = |mode: &str, words: &str| {
        let (_rows, task) = over(&[FLAT], json!({"mode": mode, "template": path}));
        let prompt = task.prompt(&task.sample(0).unwrap()).unwrap();
        assert_eq!(prompt.last_user_text(), words);
    };
    check("letter", "letter q1: What is hot? A) ice B) the Sun C) a rock");
    check(
        "loglikelihood",
        "loglikelihood q1: What is hot? A) ice B) the Sun C) a rock",
    );
    let (_rows, own) = over(&[FLAT], json!({"template": path}));
    let lesson = own.lesson(&own.sample(0).unwrap()).unwrap();
    let asked = Message::user("letter q1: What is hot? A) ice B) the Sun C) a rock");
    assert_eq!(lesson.turns[0].message, asked);
    let (_rows, usual) = over(&[FLAT], json!({}));
    let hash = |task: &TaskClient| task.card().unwrap().other["template_hash"].clone();
    assert_ne!(hash(&own), hash(&usual));
}

/// What comes of a file of log-likelihoods, against the rows above.
fn of_file(lines: &[&str]) -> Result<FileScores> {
    let nested = NESTED.replace("q1", "q3");
    let rows = folder(&[
        ("ll.jsonl", lines),
        ("a.jsonl", &[FLAT, DIGITS]),
        ("b.jsonl", &[FLAT, &nested]),
    ]);
    let answers = FileAnswers {
        file: rows.path().join("ll.jsonl"),
        gold: vec![rows.path().join("a.jsonl"), rows.path().join("b.jsonl")],
        rows: true,
        ..FileAnswers::default()
    };
    files().score(&answers).map_err(|mut error| {
        error.message = error.message.replace(&format!("{}/", rows.path().display()), "");
        error
    })
}

fn files() -> FilesClient {
    FilesClient(Arc::from(make_files("arc", &Settings::default()).unwrap()))
}

#[test]
fn log_likelihoods_of_others_are_scored_as_harnesses_do() {
    let check = |likelihoods: &str, acc: f64, acc_norm: f64| {
        let scores = of_file(&[&format!(r#"{{"id": "q1", "loglikelihoods": {likelihoods}}}"#)]).unwrap();
        assert_eq!(
            scores.rows,
            [json!({"id": "q1", "acc": acc, "acc_norm": acc_norm})],
            "{likelihoods}"
        );
        assert_eq!((scores.n, scores.gold_total), (1, Some(3)));
    };
    // The options are `ice`, `the Sun` and `a rock`; the second is right.
    check("[-3, -1, -2]", 1.0, 1.0);
    check("[-3.5, -4, -9]", 0.0, 1.0);
    check("[-1, -1, -1]", 0.0, 1.0); // the first among equals; by character the longest
    check("[-3, -7, -6]", 0.0, 0.0);
    check("[-1, NaN, -2]", 1.0, 1.0); // the largest of all
    check("[NaN, NaN, -2]", 0.0, 0.0);
    check("[-1, null, -2]", 1.0, 1.0);
    check("[-Infinity, -1e400, -Infinity]", 0.0, 0.0);
    check("[-Infinity, -1e300, -1e308]", 1.0, 1.0);
}

#[test]
fn likelihood_files_are_counted_whole_or_refused_with_the_line() {
    let lines = [
        r#"{"id": "q3", "loglikelihoods": [-1, -2, -3]}"#,
        r#"{"id": "q2", "loglikelihoods": [-1, -2]}"#,
        r#"{"id": "q3", "loglikelihoods": [-2, -1, -3]}"#,
    ];
    let scores = of_file(&lines).unwrap();
    let ids: Vec<_> = scores.rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert_eq!(
        (ids, &scores.metrics["acc"]),
        (vec!["q3", "q2", "q3"], &json!(2.0 / 3.0))
    );
    assert_eq!((&scores.other["not_predicted"], scores.notes.len()), (&json!(1), 2));
    let check = |line: &str, words: &str| {
        let error = of_file(&[lines[0], line]).unwrap_err();
        assert!(
            error.message.contains(words) && error.message.contains("line 2 of `ll.jsonl`"),
            "{line}: {error}"
        );
    };
    check("{", "is no JSON");
    check(
        r#"{"id": "q9", "loglikelihoods": []}"#,
        "field `id` is `q9`, which the data doesn't have",
    );
    check(
        r#"{"id": "q2", "loglikelihoods": [-1]}"#,
        "has 1 numbers, but the question has 2 options",
    );
    check(
        r#"{"id": "q2", "loglikelihoods": [-1, "x"]}"#,
        "field `loglikelihoods.1` is the text `x`, expected a number",
    );
    check(r#"{"id": "q2"}"#, "field `loglikelihoods` is missing");
    check(r#"{"loglikelihoods": [-1, -2]}"#, "field `id` is missing");
    assert!(of_file(&[]).unwrap_err().message.contains("holds no log-likelihoods"));
}

/// A host that hands out all rows at once.
struct OnePage(Mutex<Vec<Row>>);

impl Pages for OnePage {
    fn page(&self) -> Result<Vec<Row>> {
        Ok(std::mem::take(&mut *self.0.lock().unwrap()))
    }
}

#[test]
fn a_run_comes_to_what_its_likelihood_file_does() {
    let export = |mode: &str| {
        let (_folder, task) = over(&[FLAT, DIGITS], json!({"mode": mode}));
        let rows = [scored(&[-9.0, f64::NAN, -1.25]), scored(&[-2.5, -0.1])]
            .into_iter()
            .enumerate();
        let rows = rows.map(|(index, reply)| {
            let sample = task.sample(index).unwrap();
            let score = task.score(&sample, &reply, &NoCallbacks).unwrap();
            Row {
                sample,
                score,
                reply: Some(reply),
            }
        });
        let (rows, text) = (rows.collect(), Mutex::new(String::new()));
        let write = |_file: &str, piece: &str| {
            text.lock().unwrap().push_str(piece);
            true
        };
        let written = files().export("arc", &OnePage(Mutex::new(rows)), &write);
        written.map(|()| text.into_inner().unwrap())
    };
    let text = export("loglikelihood").unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            r#"{"id":"q1","loglikelihoods":[-9.0,"NaN",-1.25]}"#,
            r#"{"id":"q2","loglikelihoods":[-2.5,-0.1]}"#,
        ]
    );
    assert_eq!(of_file(&lines).unwrap().metrics["acc"], json!(0.5));
    assert!(
        export("letter")
            .unwrap_err()
            .message
            .contains("no log-likelihoods of option texts")
    );
}
