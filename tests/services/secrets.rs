//! A key that is planted in the environment, sent back by the service in every way, and searched for everywhere.

use super::{DIALECTS, Dialect, KEY, Questions, number, right, service};
use fixture_service::{Act, answer};
use std::fs;
use std::path::Path;

/// The contents of every file below a folder.
fn files(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => files(&path, found),
            false => found.push((path.display().to_string(), fs::read(&path).unwrap_or_default())),
        }
    }
}

/// Searches all files of a test's commands, ledgers included, for the key.
#[track_caller]
pub fn check_absent(questions: &Questions) {
    let mut found = Vec::new();
    files(questions.bench.path("").as_path(), &mut found);
    assert!(found.iter().any(|(name, _)| name.ends_with("calls.jsonl")));
    for (name, bytes) in found {
        let holds = bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes());
        assert!(!holds, "`{name}` holds the key");
    }
}

#[test]
fn a_planted_key_is_in_no_file_and_no_stream() {
    let models = [
        ("openai", Dialect::Openai),
        ("gemini", Dialect::Gemini),
        ("apart", Dialect::Openai),
    ];
    for (model, dialect) in models {
        let service = service(dialect, |asked| {
            let sent = asked
                .header("authorization")
                .or(asked.header("x-goog-api-key"))
                .unwrap_or_default();
            assert!(sent.ends_with(KEY), "the key comes in its header");
            match number(asked) {
                0 => answer(asked, &format!("A, said {KEY}")),
                1 => Act::status(500, format!("bad key {KEY}")),
                2 => Act::status(200, format!("garbage {KEY}")),
                3 => Act::status(400, format!(r#"{{"error": {{"message": "not {KEY}"}}}}"#)),
                4 => Act::status(307, "").with("location", &format!("http://127.0.0.1:9/?key={KEY}")),
                _ => right(asked),
            }
        });
        let questions = Questions::new(8);
        for more in ["--verbose", "--retry-errors --json"] {
            let more = match more {
                "--verbose" => "",
                other => other,
            };
            let mut command = questions.command_of(model, dialect.served(), &service.address(), more);
            let output = command.output().unwrap();
            super::said(output, 1, &["samples"]);
        }
        check_absent(&questions);
        let seen = service.requests();
        assert!(
            seen.iter().all(|asked| !asked.path.contains(KEY)),
            "no key stands in an address"
        );
    }
}

#[test]
fn a_key_in_place_of_its_variables_name_is_not_shown() {
    for dialect in DIALECTS {
        let service = service(dialect, right);
        let questions = Questions::new(1);
        let more = format!("-M key_env={KEY}");
        questions.check(
            dialect,
            &service,
            &more,
            2,
            &["expected the name of an environment variable"],
        );
    }
}
