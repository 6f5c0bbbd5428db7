//! `host compare`: runs over the same samples, pair by pair.

use super::compare_by_judge::{self, JudgingArgs};
use super::{Common, note, print, print_json};
use crate::compare::{Across, Report, Side, compare as compare_sides};
use crate::failure::{Exit, Failure, Result};
use serde::Serialize;
use std::path::PathBuf;
use std::rc::Rc;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Markdown,
    Json,
    Csv,
}

#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:
  host compare runs/qwen3-arc-1a2b3c4d runs/qwen3-arc-5e6f7a8b
  host compare BASE TUNED --flips 20
  host compare BASE TUNED --fail-if worse:0.01        exit 1 when the second is worse by more than a point
  host compare BASE TUNED --judge gemini --out comparison_results1.jsonl
  host compare BASE Q8 Q4 --format csv > table.csv    every further run against the first

Pairs are made by sample, variant and chain. The test is chosen by the metric: McNemar's exact test and Newcombe's
interval for right and wrong, Student's paired t for graded scores, a clustered t where samples share a passage or a
clip, a bootstrap over clusters for figures such as a micro F1. p-values are adjusted by Holm's method.")]
pub struct CompareArgs {
    /// Two or more run directories; each is compared with the first
    #[arg(value_name = "RUN", required = true, num_args = 2..)]
    runs: Vec<PathBuf>,
    /// Compare even though these differ: task, task-version, data, scorer, prompts, judges
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    across: Vec<String>,
    /// Exit with 1 when a metric is worse: `worse`, or `worse:MARGIN` for more than a margin
    #[arg(long, value_name = "RULE")]
    fail_if: Option<String>,
    /// How the comparison is printed
    #[arg(long, short = 'f', value_enum, default_value = "markdown")]
    format: Format,
    /// Print every group's row as well
    #[arg(long)]
    groups: bool,
    /// List up to N samples that one side got right and the other wrong
    #[arg(long, value_name = "N", default_value_t = 5)]
    flips: usize,
    #[command(flatten)]
    judging: JudgingArgs,
}

pub fn compare(args: &CompareArgs, common: &Common) -> Result<Exit> {
    let across = Across::parse(&args.across)?;
    let margin = args.fail_if.as_deref().map(margin_of).transpose()?;
    let reports = match args.judging.wanted() {
        false => {
            let sides = args.runs.iter().map(|path| Side::read(path).map(Rc::new));
            compare_sides(&sides.collect::<Result<Vec<Rc<Side>>>>()?, &across)?
        }
        true => compare_by_judge::compare(&args.runs, &args.judging, &across, common)?,
    };
    match if common.json { Format::Json } else { args.format } {
        Format::Json => {
            #[derive(Serialize)]
            struct Several<'a> {
                comparisons: &'a [Report],
            }
            match reports.as_slice() {
                [only] => print_json(only)?,
                comparisons => print_json(&Several { comparisons })?,
            }
        }
        Format::Csv => print(&reports.iter().map(|report| report.summary.csv()).collect::<String>()),
        Format::Markdown => {
            for report in &reports {
                print(&report.summary.table(args.groups));
                print(&report.head_to_head_text);
                print(&report.flips_text(args.flips)?);
            }
        }
    }
    let Some(margin) = margin else { return Ok(Exit::Ok) };
    let mut summaries = reports.iter().map(|report| &report.summary);
    match summaries.find_map(|summary| Some((summary, summary.worse_by(margin)?))) {
        Some((summary, row)) => {
            note(&format!(
                "`{}` is worse than `{}` in {} by more than {margin}",
                summary.second, summary.first, row.metric
            ));
            Ok(Exit::Threshold)
        }
        None => Ok(Exit::Ok),
    }
}

fn margin_of(rule: &str) -> Result<f64> {
    let margin = match rule.split_once(':') {
        None if rule == "worse" => Some(0.0),
        Some(("worse", margin)) => margin
            .parse()
            .ok()
            .filter(|margin: &f64| *margin >= 0.0 && margin.is_finite()),
        _ => None,
    };
    margin.ok_or_else(|| {
        Failure::usage(format!("cannot read `--fail-if {rule}`")).help("write `worse` or, for instance, `worse:0.01`")
    })
}
