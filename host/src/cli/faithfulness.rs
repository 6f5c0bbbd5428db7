//! `host faithfulness`.

use super::figures::{splitter, summary};
use super::{Common, note, print};
use crate::failure::{Doing, Exit, Failure, Result};
use faithfulness::Splitter;
use faithfulness::import::Import;
use faithfulness::report::{Options, report};
use faithfulness::verify::{Expectation, Finding, verify};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  host faithfulness runs/af3-sakura-1a2b3c4d --experiments conditioned
  host faithfulness RUN --experiments early_answering,adding_mistakes,paraphrasing --writer qwen3
  host faithfulness RUN --experiments audio_masking,snr,hint,swap --keep-audio
  host faithfulness RUN --experiments all --json
  host faithfulness import results/ --json > figures.json
  host faithfulness verify results/flamingo_hf
  host faithfulness split texts.txt --splitter punkt --json"
)]
pub struct FaithfulnessArgs {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    sweep: super::sweep::SweepArgs,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum Command {
    /// Compute figures from result files of the published experiments
    Import(ImportArgs),
    /// Check result files for rows that are missing, repeated or unexpected
    Verify(VerifyArgs),
    /// Split texts into sentences
    Split(TextArgs),
    /// Split texts into words as the filler experiments do
    Words(TextArgs),
}

#[derive(Debug, Clone, clap::Args)]
struct ImportArgs {
    /// JSONL files, or folders of them
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// The model of all files, whatever their names say
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// The data set of all files, whatever their names say
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
    /// The width of a curve's bins in percent [default: 5; 10 for adding_mistakes]
    #[arg(long, value_name = "PERCENT")]
    bin: Option<f64>,
    /// The folder that receives plots and their numbers
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    /// How to split chains whose rows don't give their length: punkt, regex or lines
    #[arg(long, value_name = "NAME", default_value = "punkt")]
    splitter: String,
}

#[derive(Debug, Clone, clap::Args)]
struct VerifyArgs {
    /// JSONL files, or folders of them; the baselines among them say what the others should hold
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// How to split chains into sentences: punkt, regex or lines
    #[arg(long, value_name = "NAME", default_value = "punkt")]
    splitter: String,
    /// Expect only chains below this number
    #[arg(long, value_name = "N")]
    num_chains: Option<u64>,
    /// Number of parts that the questions are split into [default: the highest number of a part]
    #[arg(long, value_name = "N")]
    total_parts: Option<usize>,
}

#[derive(Debug, Clone, clap::Args)]
struct TextArgs {
    /// One text per line; in a `.jsonl` file, one JSON string per line
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// punkt, regex or lines
    #[arg(long, value_name = "NAME", default_value = "punkt")]
    splitter: String,
}

pub fn faithfulness(args: &FaithfulnessArgs, common: &Common) -> Result<Exit> {
    let Some(command) = &args.command else {
        return super::sweep::sweep(&args.sweep, common);
    };
    match command {
        Command::Import(args) => import(args, common),
        Command::Verify(args) => check(args, common),
        Command::Split(args) => {
            let splitter = splitter(&args.splitter)?;
            let cut = |text: &str| splitter.split(text).into_iter().map(str::to_owned).collect();
            cut_texts(&args.file, cut, common)
        }
        Command::Words(args) => {
            // Words are always split within Punkt's sentences, however a run splits its chains.
            if splitter(&args.splitter)? != Splitter::Punkt {
                return Err(
                    Failure::usage("words are always split within Punkt's sentences").help("leave `--splitter` out")
                );
            }
            cut_texts(&args.file, faithfulness::words, common)
        }
    }
}

fn cut_texts(file: &Path, cut: impl Fn(&str) -> Vec<String>, common: &Common) -> Result<Exit> {
    let text = read(file)?;
    let as_json = file
        .extension()
        .is_some_and(|extension| extension == "jsonl" || extension == "json");
    let mut all = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let decoded = match as_json {
            false => line.to_owned(),
            true => json_text(line).ok_or_else(|| {
                let place = format!("`{}`, line {}", file.display(), index + 1);
                Failure::missing(format!("{place}, is not a JSON string and has no `text`"))
            })?,
        };
        all.push(cut(&decoded));
    }
    match common.json {
        true => print(&format!("{}\n", json!(all))),
        false => {
            let block = |pieces: &Vec<String>| {
                let lines = pieces.iter().map(|piece| format!("{}\n", piece.replace('\n', "\\n")));
                format!("{}\n", lines.collect::<String>())
            };
            print(&all.iter().map(block).collect::<String>());
        }
    }
    Ok(Exit::Ok)
}

fn json_text(line: &str) -> Option<String> {
    match serde_json::from_str(line).ok()? {
        Value::String(text) => Some(text),
        Value::Object(map) => map.get("text")?.as_str().map(str::to_owned),
        _ => None,
    }
}

fn read(file: &Path) -> Result<String> {
    let bytes = std::fs::read(file).or_fail(Exit::Missing, || format!("cannot read `{}`", file.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The result files among paths: files as they are, and of folders every `.jsonl` below them, in order.
fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut folders = Vec::new();
    for path in paths {
        match std::fs::metadata(path) {
            Err(why) => return Err(Failure::missing(format!("cannot read `{}`", path.display())).cause(why)),
            Ok(about) if about.is_dir() => folders.push(path.clone()),
            Ok(_) => drop(found.insert(path.clone())),
        }
    }
    while let Some(folder) = folders.pop() {
        let entries =
            std::fs::read_dir(&folder).or_fail(Exit::Missing, || format!("cannot read `{}`", folder.display()))?;
        for entry in entries.filter_map(std::result::Result::ok) {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(path),
                _ if path.extension().is_some_and(|extension| extension == "jsonl") => drop(found.insert(path)),
                _ => {}
            }
        }
    }
    match found.is_empty() {
        false => Ok(found.into_iter().collect()),
        true => Err(Failure::missing("there is no `.jsonl` file below the given folders")),
    }
}

fn import(args: &ImportArgs, common: &Common) -> Result<Exit> {
    let splitter = splitter(&args.splitter)?;
    if args.bin.is_some_and(|bin| !(bin > 0.0 && bin <= 100.0)) {
        return Err(Failure::usage("`--bin` is a width in percent, above 0 and up to 100"));
    }
    let mut import = Import::default();
    for file in files(&args.paths)? {
        let added = import.add_file(&file, args.model.as_deref(), args.dataset.as_deref());
        added.or_fail(Exit::Missing, || format!("cannot read `{}`", file.display()))?;
    }
    import.settle(splitter);
    if import.studies.is_empty() {
        let mut failure = Failure::missing("no file holds a row of a known layout");
        for (path, held) in &import.unread {
            failure = failure.cause(format!("`{path}` {held}"));
        }
        return Err(failure.help("docs/faithfulness.md lists the layouts and their columns"));
    }
    if !common.quiet {
        for (path, held) in &import.unread {
            note(&format!("note: `{path}` {held}; it is left out"));
        }
        for (model, dataset, count) in import.not_in_baseline() {
            note(&format!(
                "note: {count} chains of {model} on {dataset} are not in the baseline beside them: is it of another \
                 question set?"
            ));
        }
    }
    if let Some(folder) = &args.plots {
        crate::faithfulness::write_plots(folder, &import)?;
    }
    let figures = report(&import, Options { bin: args.bin });
    match common.json {
        true => print(&format!("{figures}\n")),
        false => print(&summary(&figures)),
    }
    Ok(Exit::Ok)
}

fn check(args: &VerifyArgs, common: &Common) -> Result<Exit> {
    let expectation = Expectation {
        splitter: splitter(&args.splitter)?,
        chains: args.num_chains,
        parts: args.total_parts,
    };
    let files = files(&args.paths)?;
    let findings = verify(&files, expectation).or_fail(Exit::Missing, || "cannot read a result file".to_owned())?;
    let good = !findings.iter().any(|finding| finding.state.is_bad());
    match common.json {
        true => {
            let all: Vec<Value> = findings.iter().map(Finding::json).collect();
            print(&format!("{}\n", json!({ "ok": good, "files": all })));
        }
        false => print(&findings.iter().map(lines).collect::<String>()),
    }
    Ok(if good { Exit::Ok } else { Exit::Threshold })
}

/// A finding for people: the state, and each key by name.
fn lines(finding: &Finding) -> String {
    let expected = finding
        .expected
        .map_or(String::new(), |expected| format!(" of {expected}"));
    let mut text = format!(
        "{}: {} ({}{expected} keys)\n",
        finding.state.name(),
        finding.path,
        finding.found
    );
    if finding.malformed > 0 {
        text += &format!("  malformed lines: {}\n", finding.malformed);
    }
    for (what, keys) in [
        ("missing", &finding.missing),
        ("extra", &finding.extra),
        ("repeated", &finding.repeated),
    ] {
        text += &keys.iter().map(|key| format!("  {what} {key}\n")).collect::<String>();
    }
    text
}
