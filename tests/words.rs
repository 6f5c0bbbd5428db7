//! The texts of help and of errors: whoever changes one sees it here, and so does whoever reads the change.
//!
//! `INSTA_UPDATE=always` writes them again (`cargo insta review` shows them first).

use crate::building::repository;
use crate::support::Bench;
use std::path::{Path, PathBuf};

/// Words that readers have stumbled over, with replacements.
const STUMBLES: [(&str, &str); 24] = [
    ("anew", "again"),
    ("foretell", "estimate"),
    ("foretold", "estimated"),
    ("one behind the other", "one after the other"),
    ("is no number", "is not a number"),
    ("is no JSON", "is not JSON"),
    ("is no panel", "needs at least two models"),
    ("so manyth", "nth"),
    ("when it is not given", "by default"),
    ("is there already", "already exists"),
    ("stands there twice", "occurs twice"),
    ("by the letter", "strictly"),
    ("what became of", "the outcome of"),
    ("asked for ahead", "prefetched"),
    ("are read here", "are supported"),
    ("is learnt here", "is supported in training"),
    ("is no file", "is not a file"),
    ("is no text", "is not text"),
    ("is no name", "is not a name"),
    ("what hears", "the audio encoder"),
    ("in any company", "in every batch"),
    ("gone on with", "continued"),
    ("lies elsewhere", "is in another folder"),
    ("has to say", "says"),
];

/// Not searched: this file, which quotes them.
const UNREAD: [&str; 1] = ["tests/words.rs"];

/// Our sources and pages below a folder.
fn texts(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() && !name.starts_with('.') && !["target", "frozen"].contains(&name.as_str()) {
            texts(&path, found);
        } else if [".rs", ".md"].iter().any(|end| name.ends_with(end)) {
            found.push(path);
        }
    }
}

#[test]
fn words_that_readers_stumbled_over_do_not_come_back() {
    let (root, mut found) = (repository(), Vec::new());
    texts(&root, &mut found);
    let is_letter = |letter: Option<char>| letter.is_some_and(|it| it.is_alphanumeric() || it == '_');
    let mut stumbles = Vec::new();
    for path in found {
        let place = path.strip_prefix(&root).expect("below the root").to_owned();
        if UNREAD.iter().any(|unread| place.starts_with(unread)) {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a readable file");
        for (number, line) in text.lines().enumerate() {
            for (word, better) in STUMBLES {
                let whole = line.match_indices(word).any(|(at, _)| {
                    !is_letter(line[..at].chars().next_back()) && !is_letter(line[at + word.len()..].chars().next())
                });
                if whole {
                    stumbles.push(format!(
                        "{}:{}: `{word}`, better `{better}`",
                        place.display(),
                        number + 1
                    ));
                }
            }
        }
    }
    assert!(stumbles.is_empty(), "{}", stumbles.join("\n"));
}

fn said(bench: &Bench, arguments: &str) -> String {
    let output = bench.run(arguments);
    let words = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    format!("exit {}\n{}{}", output.status.code().unwrap_or(-1), words[0], words[1])
}

#[test]
fn errors_say_what_was_expected_and_what_was_found() {
    let bench = Bench::new();
    insta::assert_snapshot!(said(&bench, "run --model ech --task count"), @r#"
    exit 3
    error: there is no model `ech` in the registry

    hint: did you mean `echo`?
    "#);
    insta::assert_snapshot!(said(&bench, "run --model echo --task count --limit x"), @r#"
    exit 2
    error: `--limit`: `x` is neither a number (20), a share (0.1) nor a range (10-20)
    "#);
    insta::assert_snapshot!(said(&bench, "run --model echo --task count --batch-size 0"), @r#"
    exit 2
    error: `--batch-size 0` is neither a number above 0 nor `auto`
    "#);
    insta::assert_snapshot!(said(&bench, "run --model echo --task count --time-limit soon"), @r#"
    exit 2
    error: `--time-limit`: `soon` doesn't begin with a number
    "#);
    insta::assert_snapshot!(said(&bench, "run --model echo --task count --fail-on-error lots"), @r#"
    exit 2
    error: `--fail-on-error lots` is neither a number nor a share below 1
    "#);
    insta::assert_snapshot!(said(&bench, "run --modle echo"), @r#"
    exit 2
    error: unexpected argument '--modle' found

      tip: a similar argument exists: '--model'

    Usage: host run --model <NAMES>

    For more information, try '--help'.
    "#);
}

#[test]
fn help_is_worded_as_it_was_agreed() {
    let bench = Bench::new();
    insta::assert_snapshot!(said(&bench, "merge --help"), @r#"
    exit 0
    Merge a LoRA into its base, and write the checkpoint

    Usage: host merge [OPTIONS] --model <NAME> --lora <DIR> --out <DIR>

    Options:
      -m, --model <NAME>     The model, by its registry name
      -M <KEY=VALUE>         A setting of the model
          --lora <DIR>       The LoRA's folder; if given several times, their sum is merged
          --out <DIR>        The folder that receives the checkpoint
          --force            Replace an existing checkpoint
          --registry <FILE>  A registry file to lay over the repository's and the user's own; may be
                             given several times
          --offline          Never touch the network
          --json             Print JSON for machines instead of tables
      -q, --quiet            No progress, and no notes on standard error
      -h, --help             Print help

    The checkpoint has the base's files, names and types. To check it, the same plugin loads it and
    answers a few prompts that the base with its LoRA answered before; the largest difference of a
    logit is printed. Both compute in fp32, so a difference comes from rounding to the base's type.

    Example:
      host merge --model qwen3 -M weights=/models/Qwen3-0.6B --lora /loras/brief --out
      /models/Qwen3-0.6B-brief
    "#);
    insta::assert_snapshot!(said(&bench, "plugins new --help"), @r#"
    exit 0
    Write a new plugin: a crate that builds and passes `check` as it is

    Usage: host plugins new [OPTIONS] --kind <KIND> <NAME>

    Arguments:
      <NAME>  The name of the crate and of what it holds

    Options:
          --kind <KIND>      What it holds: `model`, `task`, `judge`, or `python-model` for a script in
                             an environment of your own
          --out <FOLDER>     The folder to write; NAME in the current one by default
          --api <FOLDER>     A source folder of plugin-api to build with
          --registry <FILE>  A registry file to lay over the repository's and the user's own; may be
                             given several times
          --offline          Never touch the network
          --json             Print JSON for machines instead of tables
      -q, --quiet            No progress, and no notes on standard error
      -h, --help             Print help
    "#);
    insta::assert_snapshot!(said(&bench, "pull --help"), @r#"
    exit 0
    Fetch the weights or data of a model or task, or of a hub id

    Usage: host pull [OPTIONS] [ID]...

    Arguments:
      [ID]...  Hub ids of models, `org/name` or `org/name@revision`, and one GGUF file of several as
               `org/name:Q8_0`

    Options:
          --data <ID>        Hub ids of data sets
      -m, --model <NAMES>    Models whose weights to fetch
      -t, --task <NAMES>     Tasks whose data to fetch
      -M <KEY=VALUE>         A setting of the models
      -T <KEY=VALUE>         A setting of the tasks
          --registry <FILE>  A registry file to lay over the repository's and the user's own; may be
                             given several times
          --offline          Never touch the network
          --json             Print JSON for machines instead of tables
      -q, --quiet            No progress, and no notes on standard error
      -h, --help             Print help

    Examples:
      host pull --model qwen3
      host pull Qwen/Qwen3-0.6B@main
      host pull Qwen/Qwen3-0.6B-GGUF:Q8_0
      host pull --data allenai/ai2_arc

    HF_HOME, HF_HUB_CACHE, HF_ENDPOINT and HF_TOKEN are used; an interrupted pull continues.
    "#);
}
