//! `host judge`: whether a judge can be trusted.

use super::graders::GraderArgs;
use super::rescore::task_of_run;
use super::{Common, print, stop_on_signals};
use crate::failure::{Exit, Failure, Result};
use crate::run::recorded::Recorded;
use crate::score::judges::ReadyJudge;
use crate::score::labels::{self, Checked};
use crate::score::probes::{Probed, Probes};
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Compare a judge's verdicts on a run with people's labels
    ///
    /// Each line of the label file is `{"sample_id": "…", "right": true}`. Prints the shares of right and wrong answers
    /// that the judge recognised, its agreement with people beyond chance, and the run's accuracy corrected for the
    /// judge's errors, with an interval that allows for both sources of uncertainty.
    #[command(after_help = "Examples:
  host judge check labels.jsonl runs/qwen3-gaia-1a2b3c4d
  host judge check labels.jsonl runs/qwen3-gaia-1a2b3c4d --judge 'match[gemini]' --json")]
    Check {
        /// The label file
        #[arg(value_name = "LABELS")]
        labels: PathBuf,
        /// A run that was judged
        #[arg(value_name = "RUN")]
        run: PathBuf,
        /// The judge, by its name in `results.json` or the name of its model [default: all of them]
        #[arg(long, short = 'j', value_name = "NAME")]
        judge: Option<String>,
    },
    /// Show a judge answers that are known to be right or wrong
    ///
    /// Shows the judge some samples of a run with their own reference answer, which is right, and with four wrong
    /// answers: another sample's reference, an empty answer, a refusal, and an order to call it right. The judge's
    /// mistakes are printed first, and are noted below the run's figures from then on.
    #[command(after_help = "Examples:
  host judge probe runs/qwen3-gaia-1a2b3c4d --judge gemini
  host judge probe runs/qwen3-gaia-1a2b3c4d --judge auto -J panel=qwen3,gemini,openai --samples 20
  host judge probe runs/qwen3-gaia-1a2b3c4d --judge winner --role judge=gemini")]
    Probe(Box<ProbeArgs>),
}

#[derive(Debug, Clone, clap::Args)]
pub struct ProbeArgs {
    /// A run directory
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Judges, separated by commas: judges by name, `auto` for the one that suits the task, or a model that plays it
    #[arg(long, short = 'j', value_name = "NAMES", required = true)]
    judge: Vec<String>,
    /// How many samples to show, with five answers each
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    samples: u32,
    #[command(flatten)]
    graders: GraderArgs,
}

pub fn run(command: &Command, common: &Common) -> Result<Exit> {
    let (labels, run, judge) = match command {
        Command::Check { labels, run, judge } => (labels, run, judge),
        Command::Probe(args) => return probe(args, common),
    };
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
            let one = |(checked, name): (&Checked, &&String)| {
                let mut said = checked.as_json();
                said["probes"] = known[*name]["probes"].clone();
                said
            };
            print_json(checked.iter().zip(&names).map(one).collect());
        }
        false => {
            // The judge's mistakes come before its figures.
            let probes = |name: &&String| serde_json::from_value::<Probes>(known[*name]["probes"].clone()).ok();
            let one = |(checked, name): (&Checked, &&String)| {
                let before = probes(name).map(|probes| probes.text(name) + "\n").unwrap_or_default();
                before + &checked.text()
            };
            print(&checked.iter().zip(&names).map(one).collect::<Vec<_>>().join("\n"));
        }
    }
    Ok(Exit::Ok)
}

/// One object as it is, several as a list.
fn print_json(mut all: Vec<Value>) {
    let whole = match all.len() {
        1 => all.remove(0),
        _ => all.into(),
    };
    print(&(serde_json::to_string_pretty(&whole).unwrap_or_default() + "\n"));
}

fn probe(args: &ProbeArgs, common: &Common) -> Result<Exit> {
    let stop = stop_on_signals();
    common.with_catalog(false, &stop, |catalog| {
        let recorded = Recorded::open(&args.run)?;
        let task = task_of_run(&recorded.directory, &[], catalog)?;
        let (wanted, flags) = args.graders.wanted(&args.judge, catalog)?;
        let judges = ReadyJudge::prepare_any(&wanted, &task.card, &flags, catalog)?;
        let roles = args.graders.roles(catalog, &stop)?;
        let graders = args
            .graders
            .load(&recorded.directory, &wanted, judges, roles, catalog, &stop)?;
        let samples = samples_of(&recorded, args.samples as usize)?;
        let mut all = Vec::new();
        for judge in &graders.judges {
            let found = Probes::of(judge, &samples, &graders.models.roles(&graders.roles, judge))?;
            found.keep(&judge.name, &recorded.directory)?;
            all.push((judge.name.as_str(), found));
        }
        match common.json {
            true => {
                let one = |(judge, found): &(&str, Probes)| {
                    let mut said = json!(found);
                    said["judge"] = json!(judge);
                    said
                };
                print_json(all.iter().map(one).collect());
            }
            false => {
                let texts: Vec<String> = all.iter().map(|(judge, found)| found.text(judge)).collect();
                print(&texts.join("\n"));
            }
        }
        Ok(Exit::Ok)
    })
}

/// The first samples of a run that have a reference answer.
fn samples_of(recorded: &Recorded, most: usize) -> Result<Vec<Probed>> {
    let mut samples: Vec<Probed> = Vec::new();
    recorded.each(|record| {
        let is_new = samples.iter().all(|known| known.sample.id != record.sample_id);
        if samples.len() < most && is_new && !record.target.is_null() {
            samples.push(Probed {
                sample: record.sample(),
                prompt: record.prompt(),
            });
        }
        Ok(())
    })?;
    Ok(samples)
}
