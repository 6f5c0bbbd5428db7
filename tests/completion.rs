//! Tab completion as bash asks for it: the script of `host completions bash`, and the real program behind it.

use crate::support::{Bench, host_program};
use std::process::Command;

/// Bash's suggestions for the last of these words, which bash splits at `=` and `:` as on its command line.
#[track_caller]
fn offered(bench: &Bench, line: &str) -> Vec<String> {
    let script = r#"
        host() { "$HOST_PROGRAM" "$@"; }
        eval "$(host completions bash)"
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_TYPE=9
        last=${COMP_WORDS[COMP_CWORD]}
        [[ $last == = || $last == : ]] && last=
        _clap_complete_host host "$last" "" 2>/dev/null
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let mut pieces = vec![String::new()];
    for char in line.chars() {
        match char {
            ' ' => pieces.push(String::new()),
            '=' | ':' => {
                pieces.push(char.to_string());
                pieces.push(String::new());
            }
            char => pieces.last_mut().expect("a piece").push(char),
        }
    }
    let ends_in_break = line.ends_with(['=', ':']);
    pieces.retain({
        let mut place = 0;
        let count = pieces.len();
        move |piece: &String| {
            place += 1;
            !piece.is_empty() || (place == count && !ends_in_break)
        }
    });
    let output = Command::new("bash")
        .args(["--norc", "-c", script, "bash"])
        .args(&pieces)
        .current_dir(bench.path(""))
        .env("HOST_PROGRAM", host_program())
        .env("XDG_CONFIG_HOME", bench.path("config"))
        .output()
        .expect("bash starts");
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    words
        .lines()
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

fn bench() -> Bench {
    let bench = Bench::new();
    std::fs::create_dir_all(bench.path("config/host")).expect("a folder");
    std::fs::rename(bench.path("fixtures.toml"), bench.path("config/host/registry.toml")).expect("a registry");
    std::fs::write(bench.path("fixtures.toml"), "").expect("an empty layer");
    bench
}

#[test]
fn models_and_tasks_come_from_the_registry() {
    let bench = bench();
    assert_eq!(offered(&bench, "host run --model ec"), ["echo", "echo-apart"]);
    assert_eq!(offered(&bench, "host run -m echo,echo-"), ["echo,echo-apart"]);
    assert_eq!(offered(&bench, "host run --model qwen2.5-"), ["qwen2.5-omni"]);
    assert_eq!(
        offered(&bench, "host run --model echo --task cou"),
        ["count", "count-apart"]
    );
    assert_eq!(offered(&bench, "host run --judge au"), ["auto"]);
    assert_eq!(offered(&bench, "host run --role judge=ec"), ["echo", "echo-apart"]);
    assert_eq!(offered(&bench, "host convert sal"), ["salmonn"]);
    assert_eq!(offered(&bench, "host nonsense --model ec"), Vec::<String>::new());
}

#[test]
fn a_registry_on_the_line_counts() {
    let bench = Bench::new();
    assert_eq!(offered(&bench, "host run --model ech"), Vec::<String>::new());
    let line = "host run --registry fixtures.toml --model ech";
    assert_eq!(offered(&bench, line), ["echo", "echo-apart"]);
}

#[test]
fn settings_and_their_values_are_those_of_the_named_adapter() {
    let bench = bench();
    let settings = offered(&bench, "host run --model echo --task count -T ");
    assert!(settings.contains(&"n=".to_owned()), "{settings:?}");
    assert_eq!(offered(&bench, "host run --model echo --task count -T n"), ["n="]);
    assert_eq!(offered(&bench, "host run --task count,clips -T clips:fol"), ["folder="]);
    std::fs::create_dir(bench.path("sounds")).expect("a folder");
    assert_eq!(offered(&bench, "host run --task clips -T folder=sou"), ["sounds/"]);
}

#[test]
fn loras_are_those_that_were_given() {
    let bench = bench();
    let line = "host run --model echo -M lora=first=a,second=b --lora ";
    assert_eq!(offered(&bench, line), ["none", "first", "second"]);
    assert_eq!(offered(&bench, &format!("{line}none,s")), ["none,second"]);
}

#[test]
fn run_directories_are_found_in_runs_and_elsewhere() {
    let bench = bench();
    bench.check("run --model echo --task count -T n=2 --quiet", 0, &[]);
    bench.check("run --model echo --task count -T n=3 --quiet", 0, &[]);
    let mut runs: Vec<String> = bench
        .directories("runs")
        .iter()
        .map(|name| format!("runs/{name}"))
        .collect();
    runs.sort();
    assert_eq!(offered(&bench, "host compare echo-c"), runs);
    assert_eq!(offered(&bench, "host report runs/"), runs);
    assert_eq!(offered(&bench, &format!("host compare {} runs/echo", runs[0])), runs);
    assert_eq!(
        offered(&bench, &format!("host export {} --format insp", runs[0])),
        ["inspect"]
    );
    assert_eq!(offered(&bench, "host score run"), ["runs/"]);
}

#[test]
fn every_shell_has_a_script() {
    let bench = Bench::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = bench.check(&format!("completions {shell}"), 0, &[]);
        assert!(script.contains("_HOST_COMPLETE"), "{shell}: {script}");
    }
}
