//! `host judge`: whether a judge is to be trusted.

use super::{Common, print};
use crate::failure::{Exit, Failure, Result};
use crate::run::recorded::Recorded;
use crate::score::labels::{self, Checked};
use std::path::PathBuf;

#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Hold a judge's verdicts on a run against people's labels
    ///
    /// Each line of the file of labels is `{"sample_id": "…", "right": true}`. Printed are the shares of right and wrong
    /// answers that the judge recognised, its agreement with people beyond chance, and the run's accuracy corrected for
    /// the judge's errors, with an interval that holds both kinds of doubt.
    #[command(after_help = "Examples:
  host judge check labels.jsonl runs/qwen3-gaia-1a2b3c4d
  host judge check labels.jsonl runs/qwen3-gaia-1a2b3c4d --judge 'match[gemini]' --json")]
    Check {
        /// The file of labels
        #[arg(value_name = "LABELS")]
        labels: PathBuf,
        /// A run that was judged
        #[arg(value_name = "RUN")]
        run: PathBuf,
        /// Which judging, by its name in `results.json` or the name of its model [default: all of them]
        #[arg(long, short = 'j', value_name = "NAME")]
        judge: Option<String>,
    },
}

pub fn run(command: &Command, common: &Common) -> Result<Exit> {
    let Command::Check { labels, run, judge } = command;
    let labels = labels::read(labels)?;
    let recorded = Recorded::open(run)?;
    let known = recorded.results()?["host"]["judges"]
        .as_object()
        .cloned()
        .unwrap_or_default();
    let wanted = |name: &str| match judge {
        Some(judge) => name == judge || name.ends_with(&format!("[{judge}]")),
        None => true,
    };
    let names: Vec<&String> = known.keys().filter(|name| wanted(name)).collect();
    if names.is_empty() {
        let message = match judge {
            Some(judge) => format!("run `{}` was not judged by `{judge}`", run.display()),
            None => format!("run `{}` was not judged", run.display()),
        };
        let hint = match known.is_empty() {
            true => format!("judge it first: `host score {} --judge MODEL`", run.display()),
            false => format!(
                "it was judged by `{}`",
                known.keys().cloned().collect::<Vec<_>>().join("`, `")
            ),
        };
        return Err(Failure::missing(message).help(hint));
    }
    let checked = names.iter().map(|name| Checked::of(&recorded, name, &labels));
    let checked = checked.collect::<Result<Vec<_>>>()?;
    if checked.iter().all(|one| one.n == 0) {
        let message = format!(
            "none of the {} labels is for a sample that the judge ruled on",
            labels.len()
        );
        return Err(Failure::usage(message).help("`sample_id` must be the run's own, as `samples.jsonl` has it"));
    }
    match common.json {
        true => {
            let all: Vec<_> = checked.iter().map(Checked::as_json).collect();
            let whole = match all.as_slice() {
                [only] => only.clone(),
                several => several.into(),
            };
            print(&(serde_json::to_string_pretty(&whole).unwrap_or_default() + "\n"));
        }
        false => print(&checked.iter().map(Checked::text).collect::<Vec<_>>().join("\n")),
    }
    Ok(Exit::Ok)
}
