//! The task and its files as a host sees them: by their names, over their envelopes.

use gaia as _; // linked in, so that its task is there
use plugin_api::client::TaskClient;
use plugin_api::{Code, FileAnswers, FileScores, NoCallbacks, Part, Reply, Result, Role, Status};
use serde_json::{Value, json};
use std::fs;
use tempfile::TempDir;
use testkit::task::{
    FixedGrader, OnePage, folder, ids, make_files_client, make_task, prompt_for, row, score_file, score_text, written,
};

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/demo");

fn task(settings: Value) -> Result<TaskClient> {
    make_task("gaia", settings)
}

fn demo(mut settings: Value) -> TaskClient {
    settings["data"] = json!(DEMO);
    task(settings).unwrap()
}

/// The task over these files, `data` being the folder unless the settings name a file in it.
fn over(files: &[(&str, &str)], mut settings: Value) -> (TempDir, Result<TaskClient>) {
    let folder = folder(files);
    for name in ["data", "attachments", "tools", "template"] {
        if name == "data" || settings[name].is_string() {
            settings[name] = json!(folder.path().join(settings[name].as_str().unwrap_or_default()));
        }
    }
    let task = task(settings);
    (folder, task)
}

const QUESTION: &str =
    "{\"task_id\": \"q\", \"Question\": \"Why?\", \"Level\": \"2\", \"Final answer\": \"a, B\", \"file_name\": \"\"}\n";

#[test]
fn every_published_layout_is_read() {
    let other = QUESTION.replace("\"q\"", "\"t\"").replace("a, B", "?");
    let check = |files: &[(&str, &str)], settings: Value, expected: (&str, Option<&str>)| {
        let (_folder, task) = over(files, settings.clone());
        let task = task.unwrap();
        let found = (ids(&task).join(" "), task.card().unwrap().split);
        assert_eq!((found.0.as_str(), found.1.as_deref()), expected, "{settings}");
    };
    let whole = [
        ("2023/validation/metadata.jsonl", QUESTION),
        ("2023/test/metadata.jsonl", other.as_str()),
    ];
    check(&whole, json!({}), ("q", Some("validation")));
    check(&whole, json!({"split": "test"}), ("t", Some("test")));
    check(&whole, json!({"data": "2023/test"}), ("t", Some("test")));
    check(&whole, json!({"data": "2023/test/metadata.jsonl"}), ("t", Some("test")));
    check(&[("metadata.jsonl", QUESTION)], json!({}), ("q", None));
    check(&[("validation.jsonl", QUESTION)], json!({}), ("q", Some("validation")));
    let levels = [
        ("2023/validation/metadata.jsonl", QUESTION),
        ("2023/validation/metadata.level2.jsonl", QUESTION),
    ];
    check(&levels, json!({}), ("q", Some("validation")));
    let (_folder, none) = over(&[("a.txt", "")], json!({}));
    let error = none.err().unwrap();
    assert!(error.code == Code::MISSING && error.help.unwrap().contains("gated"));
}

#[test]
fn levels_are_chosen_and_counted_under() {
    assert_eq!(ids(&demo(json!({"level": "2"}))), ["demo-3", "demo-4"]);
    let sample = demo(json!({})).sample(4).unwrap();
    assert_eq!(
        serde_json::to_value(sample.groups).unwrap(),
        json!({"attachment": "not read", "level": "3"})
    );
    let (_folder, none) = over(&[("metadata.jsonl", QUESTION)], json!({"level": "3"}));
    assert!(none.err().unwrap().message.ends_with("holds no questions of level 3"));
}

#[test]
fn what_is_off_is_named() {
    let check = |line: &str, expected: &str| {
        let (_folder, task) = over(&[("metadata.jsonl", line)], json!({}));
        let error = task.unwrap().sample(0).unwrap_err();
        assert!(
            error.message.starts_with("line 1 of ") && error.message.ends_with(expected),
            "{error}"
        );
    };
    check("{\"task_id\": \"q\"}", "field `Question` is missing");
    check(
        &QUESTION.replace("\"2\"", "[]"),
        "field `Level` is a list, expected text",
    );
    check(
        &QUESTION.replace("\"a, B\"", "{}"),
        "field `Final answer` is an object, expected text",
    );
    check(
        &QUESTION.replace("\"\"", "1"),
        "field `file_name` is the number 1, expected text",
    );
}

#[test]
fn attachments_are_read_heard_or_named() {
    let task = demo(json!({}));
    let text = |index: usize| prompt_for(&task, index).last_user_text();
    assert!(!text(0).contains("belongs to the question"));
    assert!(
        text(1).contains("The file `demo-2.csv` belongs to the question. It reads:\n```\nhill,height\nStone Back,412")
    );
    assert!(text(4).contains("The file `demo-5.xlsx` belongs to the question, but it can't be shown to you."));
    let parts = &prompt_for(&task, 3).messages[0].parts;
    assert_eq!((parts.len(), &parts[1]), (3, &Part::clip(0)));
    assert!(
        task.sample(3).unwrap().clips[0]
            .path
            .as_ref()
            .unwrap()
            .ends_with("validation/demo-4.wav")
    );
    let short = demo(json!({"attachment_bytes": 4}));
    assert!(
        prompt_for(&short, 1)
            .last_user_text()
            .contains("It begins:\n```\nhill\n```")
    );
    assert_eq!(short.sample(1).unwrap().groups["attachment"], "text, cut short");
    let file = QUESTION.replace("\"\"", "\"x.txt\"");
    let (_folder, missing) = over(
        &[("m/metadata.jsonl", &file), ("x.txt", "there")],
        json!({"data": "m/metadata.jsonl"}),
    );
    assert_eq!(missing.unwrap().sample(0).unwrap().groups["attachment"], "missing");
    let elsewhere = [("m/metadata.jsonl", file.as_str()), ("f/x.txt", "there")];
    let (_folder, there) = over(&elsewhere, json!({"data": "m/metadata.jsonl", "attachments": "f"}));
    assert!(prompt_for(&there.unwrap(), 0).last_user_text().contains("there"));
}

#[test]
fn an_answer_is_what_stands_behind_its_mark() {
    let (_folder, task) = over(&[("metadata.jsonl", QUESTION)], json!({}));
    let task = task.unwrap();
    let check = |text: &str, right: f64, status: Status, answer: Option<&str>| {
        let score = score_text(&task, 0, text);
        assert_eq!(
            (score.values["accuracy"], score.status, score.answer.as_deref()),
            (right, status, answer),
            "{text}"
        );
    };
    check("So it is.\nFINAL ANSWER: A;b", 1.0, Status::Scored, Some("A;b"));
    check("FINAL ANSWER: b, a", 0.0, Status::Scored, Some("b, a"));
    check("a, B", 0.0, Status::NoAnswer, None);
    let hidden = QUESTION.replace("a, B", "?");
    let (_folder, task) = over(&[("metadata.jsonl", &hidden)], json!({}));
    let score = score_text(&task.unwrap(), 0, "FINAL ANSWER: ?");
    assert_eq!((score.status, score.values.len()), (Status::Unscored, 0));
}

fn traces(settings: Value) -> TaskClient {
    let mut settings = settings;
    settings["mode"] = json!("traces");
    demo(settings)
}

#[test]
fn a_trace_is_gone_on_with_after_each_turn_of_the_user_or_of_its_tools() {
    let after_user = [
        "demo-trace-1#1",
        "demo-trace-1#2",
        "demo-trace-2#1",
        "demo-trace-3#1",
        "demo-trace-4#1",
    ];
    assert_eq!(ids(&traces(json!({}))), after_user);
    assert_eq!(ids(&traces(json!({"after": "each"}))).len(), 9);
    let task = traces(json!({}));
    let prompt = prompt_for(&task, 1);
    let roles: Vec<Role> = prompt.messages.iter().map(|message| message.role).collect();
    use Role::{Assistant, System, User};
    assert_eq!(roles, [System, User, Assistant, User, Assistant, User]);
    let system = prompt.messages[0].joined_text();
    assert!(
        system.contains("\"name\": \"calculator\"") && system.contains("<tool_call>{"),
        "{system}"
    );
    assert_eq!(
        prompt.messages[3].joined_text(),
        "<tool_response>\n1998\n</tool_response>"
    );
    let sample = task.sample(1).unwrap();
    assert_eq!(sample.cluster.as_deref(), Some("demo-trace-1"));
    assert_eq!(
        sample.target,
        json!("<tool_call>{\"name\": \"calculator\", \"arguments\": {\"expression\": \"1998 / 6\"}}</tool_call>")
    );
    assert_eq!(sample.groups["gold_calls"], "1");
    let native = prompt_for(&traces(json!({"tools_as": "template"})), 4);
    assert_eq!((native.tools.len(), native.messages.len()), (1, 1));
    assert_eq!(native.tools[0]["function"]["name"], "lookup");
}

#[test]
fn calls_are_compared_with_those_of_the_trace() {
    let task = traces(json!({}));
    let check = |index: usize, text: &str, expected: Value| {
        let score = score_text(&task, index, text);
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(&json!(score.values.get(name)), value, "{name} of {text}");
        }
        assert_eq!(score.details["pred_raw"], text);
    };
    let call = |name: &str, arguments: Value| {
        format!(
            "<tool_call>{}</tool_call>",
            json!({"name": name, "arguments": arguments})
        )
    };
    check(
        0,
        &call("calculator", json!({"expression": "37 * 54"})),
        json!({"exact_acc": 1.0, "known_tools": 1.0, "calls_well_formed": 1.0}),
    );
    check(
        0,
        &call("calculator", json!({"expression": "37*54"})),
        json!({"turn_acc": 1.0, "exact_acc": 0.0, "normalised_acc": 1.0, "names_acc": 1.0}),
    );
    check(
        0,
        &call("calculator", json!({"expression": "54*37"})),
        json!({"normalised_acc": 0.0, "names_acc": 1.0, "calls_acc": 0.0}),
    );
    check(
        0,
        &call("search", json!({})),
        json!({"names_acc": 0.0, "known_tools": 0.0}),
    );
    check(
        0,
        "It is 1998.",
        json!({"exact_acc": 0.0, "known_tools": null, "answer_acc": null}),
    );
    check(
        3,
        "FINAL ANSWER: Dog.",
        json!({"turn_acc": 1.0, "exact_acc": 1.0, "answer_acc": 1.0}),
    );
    check(
        3,
        "I don't know.",
        json!({"turn_acc": 0.0, "exact_acc": 1.0, "answer_acc": 0.0}),
    );
    let both = call("lookup", json!({"key": "north"})) + &call("lookup", json!({"key": "South"}));
    check(4, &both, json!({"exact_acc": 0.0, "normalised_acc": 1.0}));
    check(
        4,
        &call("lookup", json!({"key": "north"})),
        json!({"names_acc": 0.0, "calls_acc": 0.5}),
    );
    for text in ["<tool_call>calculator</tool_call>", " "] {
        let score = score_text(&task, 3, text);
        assert_eq!(
            (score.status, score.values["exact_acc"]),
            (Status::NoAnswer, 0.0),
            "{text}"
        );
    }
    let apart = Reply {
        tool_calls: vec![json!({"function": {"name": "calculator", "arguments": "{\"expression\": \"37 * 54\"}"}})],
        ..Reply::default()
    };
    let score = task.score(&task.sample(0).unwrap(), &apart, &NoCallbacks).unwrap();
    assert_eq!((score.status, score.values["exact_acc"]), (Status::Scored, 1.0));
}

#[test]
fn a_judge_is_asked_where_writing_leaves_it_open() {
    let task = traces(json!({"judge": true}));
    let sample = task.sample(0).unwrap();
    let check = |text: &str, words: &'static str, expected: Option<f64>, asked: usize| {
        let judge = FixedGrader::new(words);
        let score = task.score(&sample, &Reply::text(text), &judge).unwrap();
        let unscored = f64::from(u8::from(expected.is_none()));
        assert_eq!(
            (
                score.values.get("judge_acc").copied(),
                judge.asked.lock().unwrap().len()
            ),
            (expected, asked),
            "{text} {words}"
        );
        assert_eq!(score.values["judge_unscored"], unscored, "{text} {words}");
    };
    let turned = r#"<tool_call>{"name": "calculator", "arguments": {"expression": "54*37"}}</tool_call>"#;
    check(turned, "Explanation: x\nJudgement: same", Some(1.0), 1);
    check(turned, "Explanation: x\nJudgement: different", Some(0.0), 1);
    check(turned, "no idea", None, 1);
    check(turned, "Judgement: much the same", None, 1);
    check(&turned.replace("54*37", "37*54"), "no idea", Some(1.0), 0);
    check(&turned.replace("calculator", "search"), "Judgement: same", Some(0.0), 0);
}

#[test]
fn broken_traces_cost_themselves_alone() {
    let lines = "{\"id\": \"a\", \"messages\": [{\"role\": \"user\", \"content\": \"x\"}, {\"role\": \"assistant\", \"content\": \"y\"}]}\n\
        {\"id\": \"b\", \"messages\": [{\"role\": \"narrator\"}]}\n{\"id\": \"c\", \"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}\n";
    let (_folder, task) = over(&[("t.jsonl", lines)], json!({"data": "t.jsonl", "mode": "traces"}));
    let task = task.unwrap();
    assert_eq!((task.count().unwrap(), task.sample(0).unwrap().id.as_str()), (2, "a#1"));
    assert!(task.sample(1).unwrap_err().message.contains("line 2 of"));
    let (_folder, none) = over(
        &[(
            "t.jsonl",
            "{\"id\": \"c\", \"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}",
        )],
        json!({"data": "t.jsonl", "mode": "traces"}),
    );
    assert!(none.err().unwrap().message.contains("no turn of an assistant"));
    let tools = [("t.jsonl", lines), ("tools.toml", "[tools.x]")];
    let (_folder, bad) = over(&tools, json!({"data": "t.jsonl", "mode": "traces"}));
    assert!(
        bad.err()
            .unwrap()
            .message
            .contains("tools.toml` is not a catalogue of tools")
    );
}

#[test]
fn lessons_hold_reasons_and_answers_or_the_turns_of_a_trace() {
    let task = demo(json!({}));
    let lesson = task.lesson(&task.sample(0).unwrap()).unwrap();
    assert_eq!(
        lesson.turns[1].message.joined_text(),
        "1. From 8:40 to 17:10 are 8 hours and 30 minutes\n2. 8 * 60 + 30 = 510\nFINAL ANSWER: 510"
    );
    let task = traces(json!({}));
    let learnt = |index: usize| -> Vec<String> {
        let lesson = task.lesson(&task.sample(index).unwrap()).unwrap();
        lesson
            .turns
            .iter()
            .filter(|turn| turn.learn)
            .map(|turn| turn.message.joined_text())
            .collect()
    };
    // Over the samples of a trace, each of its turns is learnt once.
    assert_eq!((learnt(0).len(), learnt(1).len()), (2, 2));
    assert!(learnt(0)[1].contains("1998") && learnt(1)[1].contains("333"));
}

fn scored(predictions: &str, gold: &str) -> Result<FileScores> {
    let folder = folder(&[("p.jsonl", predictions), ("g.jsonl", gold)]);
    let answers = FileAnswers {
        kind: "predictions".to_owned(),
        file: "p.jsonl".into(),
        gold: vec!["g.jsonl".into()],
        rows: true,
    };
    score_file("gaia", folder.path(), answers)
}

#[test]
fn submissions_are_scored_over_all_tasks_and_by_level() {
    let gold = [
        ("a", "1", "17"),
        ("b", "1", "Sea Gull"),
        ("c", "2", "x, y"),
        ("d", "3", "?"),
        ("e", "2", "1"),
    ];
    let gold: Vec<String> = gold
        .iter()
        .map(|(id, level, truth)| json!({"task_id": id, "Level": level, "Final answer": truth}).to_string())
        .collect();
    let gold = gold.join("\n");
    let lines = "{\"task_id\": \"c\", \"model_answer\": \"X;y\"}\n{\"task_id\": \"a\", \"model_answer\": 17}\n\
        {\"task_id\": \"b\", \"model_answer\": null}\n{\"task_id\": \"d\", \"model_answer\": \"?\"}\n";
    let scores = scored(lines, &gold).unwrap();
    assert_eq!((scores.n, scores.gold_total), (3, Some(5)));
    let metrics = json!({"accuracy": 0.5, "level_1": 0.5, "level_2": 0.5, "level_3": null});
    assert_eq!(Value::Object(scores.metrics), metrics);
    let row = |id: &str, correct: Value| json!({"task_id": id, "correct": correct});
    let rows = [
        row("c", json!(true)),
        row("a", json!(true)),
        row("b", json!(false)),
        row("d", Value::Null),
    ];
    assert_eq!(scores.rows, rows);
    assert_eq!(
        (scores.other["not_predicted"].as_u64(), scores.notes.len()),
        (Some(1), 2)
    );
    let twice = "{\"task_id\": \"a\", \"model_answer\": \"17\"}\n{\"task_id\": \"a\", \"model_answer\": \"18\"}\n";
    assert_eq!(scored(twice, &gold).unwrap().metrics["accuracy"], json!(0.0));
    let some_unknown = scored(
        "{\"task_id\": \"z\"}\n{\"task_id\": \"a\", \"model_answer\": \"17\"}",
        &gold,
    )
    .unwrap();
    assert_eq!(
        (some_unknown.other["unknown"].as_u64(), &some_unknown.rows[0]),
        (Some(1), &row("z", Value::Null))
    );
    let unknown = scored("{\"task_id\": \"z\"}", &gold).unwrap_err();
    assert_eq!(unknown.message, "none of the predictions is for a task of the data");
    assert_eq!(scored("{\"model_answer\": \"1\"}", &gold).unwrap_err().code, Code::DATA);
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn runs_are_written_as_submissions_and_traces() {
    let row = |task: &TaskClient, index: usize, text: &str| row(task, index, Reply::text(text), &NoCallbacks);
    let files = make_files_client("gaia");
    let task = demo(json!({}));
    let rows = vec![row(&task, 0, "Steps.\nFINAL ANSWER: 510"), row(&task, 1, "none")];
    let texts = written(|write| files.export("gaia", &OnePage::new(rows), write)).unwrap();
    let expected = [
        json!({"task_id": "demo-1", "model_answer": "510", "reasoning_trace": "Steps.\nFINAL ANSWER: 510"}),
        json!({"task_id": "demo-2", "model_answer": "", "reasoning_trace": "none"}),
    ];
    assert_eq!(lines(&texts["predictions.jsonl"]), expected);
    let gold = fs::read_to_string(format!("{DEMO}/validation/metadata.jsonl")).unwrap();
    assert_eq!(
        scored(&texts["predictions.jsonl"], &gold).unwrap().metrics["accuracy"],
        json!(0.2)
    );
    let rows = vec![row(&traces(json!({})), 1, "no call")];
    let texts = written(|write| files.export("gaia", &OnePage::new(rows), write)).unwrap();
    let line = &lines(&texts["traces.jsonl"])[0];
    assert_eq!(
        (&line["id"], &line["turn"], &line["pred_raw"]),
        (&json!("demo-trace-1"), &json!(2), &json!("no call"))
    );
    assert!(line["gold_raw"].as_str().unwrap().contains("1998 / 6") && line["latency_ms"].is_number());
}

#[test]
fn traces_of_both_styles_become_training_traces() {
    let files = make_files_client("gaia");
    let texts = written(|write| files.convert("traces", &[format!("{DEMO}/traces.jsonl").into()], write)).unwrap();
    let lines = lines(&texts["traces.jsonl"]);
    assert_eq!(lines.len(), 4);
    let roles = |line: &Value| -> Vec<String> {
        let messages = line["messages"].as_array().unwrap().iter();
        messages
            .map(|message| message["role"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        roles(&lines[3]),
        ["system", "user", "assistant", "tool", "tool", "assistant"]
    );
    let said = lines[3]["messages"][2]["content"].as_str().unwrap();
    assert_eq!(
        said,
        "<tool_call>{\"name\":\"lookup\",\"arguments\":{\"key\":\"north\"}}</tool_call>\n<tool_call>{\"name\":\"lookup\",\"arguments\":{\"key\":\"south\"}}</tool_call>"
    );
    assert!(
        lines[3]["messages"][0]["content"]
            .as_str()
            .unwrap()
            .contains("Finds the value of a key")
    );
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("again.jsonl");
    fs::write(&path, &texts["traces.jsonl"]).unwrap();
    let again = written(|write| files.convert("traces", &[path], write)).unwrap();
    assert_eq!(again, texts, "what is converted already stays as it is");
}
