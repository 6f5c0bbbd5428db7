//! `host join`: joins the shards of a run into one run.

use super::rescore::{resum, task_of_run};
use super::{Common, note, print, stop_on_signals};
use crate::ask::roles::Roles;
use crate::failure::{Failure, Result};
use crate::join::Parts;
use crate::run::recorded::Recorded;
use crate::run::results;
use crate::run::store::directory::RunDirectory;
use crate::run::tally::Tally;
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:
  host run --model big --task arc --shard 0/2        on one machine
  host run --model big --task arc --shard 1/2        on another
  host join runs/big-arc-1a2b3c4d-shard-*            runs/big-arc-1a2b3c4d, as if it had never been split

Missing, repeated and unfinished shards and those of other runs are refused by name. Verdicts of judges come along;
`host score RUN --judge NAME` sums them up without asking again.")]
pub struct JoinArgs {
    /// The directories of all shards
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// The folder that receives the run's directory [default: that of the first shard]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Join even if shards are missing or unfinished; the result is marked as incomplete
    #[arg(long)]
    partial: bool,
    /// Start over; what an earlier join or run left there is kept under another name
    #[arg(long)]
    fresh: bool,
}

pub fn join(args: &JoinArgs, common: &Common) -> Result<crate::failure::Exit> {
    let stop = stop_on_signals();
    let parts = Parts::read(&args.runs, args.partial)?;
    let beside = || {
        args.runs[0]
            .canonicalize()
            .ok()
            .and_then(|run| Some(run.parent()?.to_owned()))
    };
    let out = args
        .out
        .clone()
        .or_else(beside)
        .unwrap_or_else(|| PathBuf::from("runs"));
    let path = out.join(parts.name());
    if path.join("samples.jsonl").exists() && !args.fresh {
        let failure = Failure::usage(format!("`{}` already exists", path.display()));
        return Err(failure.help("join again with `--fresh`, which keeps the old directory under another name"));
    }
    // A run's figures need its task, so a missing task is an error before anything is written.
    common.with_catalog(false, &stop, |catalog| {
        task_of_run(&RunDirectory::look(&args.runs[0]), &[], catalog).map(drop)
    })?;
    let run = RunDirectory::open(&path, args.fresh)?;
    let count = parts.write(&run)?;
    write_timing(&run, &parts)?;
    common.with_catalog(false, &stop, |catalog| {
        let places = crate::run::store::places::all(&run)?;
        let (summary, results) = resum(&run, &places, parts.identity(), catalog, &Roles::default())?;
        match common.json {
            true => {
                let whole: Value = json!({ "directory": path, "records": count, "results": results });
                print(&(serde_json::to_string_pretty(&whole).unwrap_or_default() + "\n"));
            }
            false => print(&results::table(&[summary], results::Groups::Hint)),
        }
        if !common.quiet {
            note(&format!("{count} records: {}", path.display()));
        }
        Ok(crate::failure::Exit::Ok)
    })
}

/// Times of all records. The run took as long as its longest shard; the sum over shards stands next to it.
fn write_timing(run: &RunDirectory, parts: &Parts) -> Result<()> {
    let mut tally = Tally::default();
    Recorded::look(&run.path)?.each(|record| {
        tally.add(&record);
        Ok(())
    })?;
    let seconds = parts.inference_seconds();
    let longest = seconds.iter().copied().fold(0.0, f64::max);
    let mut timing = results::timing(&mut tally, longest, &Value::Null);
    timing["inference_sum_seconds"] = json!(seconds.iter().sum::<f64>());
    timing["shards"] = json!(seconds.len());
    let text = serde_json::to_string_pretty(&timing).unwrap_or_default() + "\n";
    run.write_file("timing.json", text.as_bytes())
}
