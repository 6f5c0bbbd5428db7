//! `host parity` through the real program, with recorded checkpoints and with unsuitable folders.

use crate::building::repository;
use crate::pairs;
use crate::support::Bench;
use serde_json::Value;
use std::fs;

fn bench() -> Bench {
    let bench = Bench::new();
    pairs::registry(&bench.path(""));
    bench
}

fn recorded(name: &str) -> String {
    let folder = repository().join("plugins/models/qwen3/golden").join(name);
    folder.display().to_string()
}

/// Standard output as one object a line.
#[track_caller]
fn lines(bench: &Bench, arguments: &str, exit: i32) -> Vec<Value> {
    let out = bench.check(&format!("parity --registry pairs.toml --json {arguments}"), exit, &[]);
    let lines = out.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    lines.collect()
}

#[test]
fn a_folder_that_cannot_be_loaded_fails_and_the_others_are_compared() {
    let bench = bench();
    // Weights that end too early, and a folder without a recording.
    let [cut, bare] = ["cut", "bare"].map(|name| bench.path(name));
    for folder in [&cut, &bare] {
        fs::create_dir(folder).unwrap();
        for entry in fs::read_dir(recorded("qwen2")).unwrap().flatten() {
            if entry.path().is_file() {
                fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
            }
        }
    }
    let weights = fs::read(cut.join("model.safetensors")).unwrap();
    fs::write(cut.join("model.safetensors"), &weights[..weights.len() / 2]).unwrap();
    fs::create_dir(cut.join("golden")).unwrap();

    let (first, last) = (recorded("tied"), recorded("qwen2"));
    let found = lines(&bench, &format!("--model qwen3 {first} cut nowhere bare {last}"), 1);
    let of = |folder: &str| found.iter().filter(|line| line["folder"] == folder).collect::<Vec<_>>();
    for folder in [&first, &last] {
        let compared = of(folder);
        assert!(compared.len() > 5, "{folder}: {compared:?}");
        assert!(compared.iter().all(|line| line["ok"] == true), "{folder}: {compared:?}");
    }
    let said = [
        ("cut", "model.safetensors"),
        ("nowhere", "`nowhere` is not there"),
        ("bare", "has no `golden` folder"),
    ];
    for (folder, reason) in said {
        let [failed] = of(folder)[..] else {
            panic!("{folder}: {found:?}");
        };
        assert_eq!(failed["ok"], false, "{failed}");
        assert_eq!((&failed["case"], &failed["what"]), (&"all".into(), &"load".into()));
        assert_eq!(
            (&failed["max_abs_diff"], &failed["tokens_equal"]),
            (&Value::Null, &Value::Null)
        );
        assert!(failed["error"].to_string().contains(reason), "{failed}");
    }
    assert_eq!(
        found.last().expect("lines")["folder"],
        last.as_str(),
        "in the order asked for"
    );

    // The text output has a table of all, with the reason next to each failure.
    let table = bench.check(
        &format!("parity --registry pairs.toml --model qwen3 nowhere {last}"),
        1,
        &[
            "error: `nowhere` is not there",
            "not every comparison is within its tolerance",
        ],
    );
    assert!(
        table
            .lines()
            .any(|line| line.contains("nowhere") && line.contains("NO")),
        "{table}"
    );
}

#[test]
fn where_nothing_is_compared_the_exit_code_says_why() {
    let bench = bench();
    let found = lines(&bench, "--model qwen3 nowhere", 3);
    assert_eq!((found.len(), &found[0]["ok"]), (1, &Value::Bool(false)));
    let tied = recorded("tied");
    let found = lines(&bench, &format!("--model qwen3 -M dtype=fp7 {tied}"), 2);
    assert!(found[0]["error"]["message"].to_string().contains("dtype"), "{found:?}");
    // If any folder is unsuitable, nothing is printed about the others.
    assert!(lines(&bench, &format!("--model qwem3 {tied}"), 3).is_empty());
}
