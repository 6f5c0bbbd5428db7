//! `host report`: the page of a run, or one over many.

use super::{Common, note, print, stop_on_signals};
use crate::compare::Across;
use crate::failure::{Exit, Failure, Result};
use crate::report::gather;
use crate::run::report::page_of;
use crate::run::store::directory::{at_work, write_whole};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Html,
    Markdown,
    Csv,
    Latex,
}

#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:
  host report runs/qwen3-arc-1a2b3c4d                writes its report.html again
  host report --watch runs/qwen3-arc-1a2b3c4d        the page of a run at work, which loads itself again
  host report runs                                   one page over all runs: report.html
  host report runs outputs/arc --format markdown     tables of runs and trainings, printed

A RUN is a directory of `host run`, `host train` or `host faithfulness`, or a folder that holds some. Nothing in it is
changed but report.html. Runs on the same task are compared with the first as `host compare` does.")]
pub struct ReportArgs {
    /// Run directories, or folders of them
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// How the report is written
    #[arg(long, short = 'f', value_enum, default_value = "html")]
    format: Format,
    /// The file that receives it [default: RUN/report.html for one run, report.html for several; else it is printed]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write the pictures as SVG files into this folder as well
    #[arg(long, value_name = "DIR")]
    svg: Option<PathBuf>,
    /// Rewrite the page of an unfinished run until the run ends
    #[arg(long)]
    watch: bool,
    /// Seconds between pages with `--watch`
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
    /// Compare even though these differ: task, task-version, data, scorer, prompts, judges
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    across: Vec<String>,
}

pub fn report(args: &ReportArgs, common: &Common) -> Result<Exit> {
    let single = match args.runs.as_slice() {
        [run] if run.join("samples.jsonl").exists() && !run.join("provenance.json").exists() => Some(run),
        _ => None,
    };
    if args.watch {
        let Some(run) = single.filter(|_| args.format == Format::Html) else {
            return Err(Failure::usage("`--watch` writes the page of one run directory"));
        };
        let out = args.out.clone().unwrap_or_else(|| run.join("report.html"));
        return watch(run, &out, args.every, common);
    }
    let across = Across::parse(&args.across)?;
    if let (Some(run), Format::Html, None) = (single, args.format, &args.svg) {
        let out = args.out.clone().unwrap_or_else(|| run.join("report.html"));
        page_of(run, &out, None)?;
        told(&[out], common);
        return Ok(Exit::Ok);
    }
    let gathered = gather(&args.runs, &across)?;
    let mut files = Vec::new();
    if let Some(folder) = &args.svg {
        std::fs::create_dir_all(folder).map_err(|why| Failure::unwritable(folder, why))?;
        for (name, plot) in gathered.pictures() {
            let file = folder.join(format!("{name}.svg"));
            write_whole(&file, plot.document().as_bytes())?;
            files.push(file);
        }
    }
    let default = (args.format == Format::Html).then(|| match single {
        Some(run) => run.join("report.html"),
        None => PathBuf::from("report.html"),
    });
    let out = args.out.clone().or(default);
    let text = match args.format {
        Format::Html => match (single, &out) {
            (Some(run), Some(out)) => {
                page_of(run, out, None)?;
                files.push(out.clone());
                told(&files, common);
                return Ok(Exit::Ok);
            }
            _ => gathered.html(None, folder_of(out.as_deref())),
        },
        Format::Markdown => gathered.markdown(),
        Format::Csv => gathered.csv(),
        Format::Latex => gathered.latex(),
    };
    match out {
        Some(out) => {
            write_whole(&out, text.as_bytes())?;
            files.push(out);
            told(&files, common);
        }
        None => print(&text),
    }
    Ok(Exit::Ok)
}

fn folder_of(file: Option<&Path>) -> &Path {
    let folder = file
        .and_then(Path::parent)
        .filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

fn told(files: &[PathBuf], common: &Common) {
    match common.json {
        true => print(&format!("{}\n", json!({ "files": files }))),
        false => print(
            &files
                .iter()
                .map(|file| format!("{}\n", file.display()))
                .collect::<String>(),
        ),
    }
}

/// Writes the page until the run is no longer at work.
fn watch(run: &Path, out: &Path, every: u64, common: &Common) -> Result<Exit> {
    let stop = stop_on_signals();
    let mut before = None;
    loop {
        let size = std::fs::metadata(run.join("samples.jsonl")).map(|file| file.len()).ok();
        // Whoever writes holds a lock. It is asked for only while nothing is written, so as not to meet a run that
        // begins.
        let ended = size == before && !at_work(run);
        before = size;
        let (records, summary) = page_of(run, out, (!ended).then_some(every))?;
        if !common.quiet {
            let metric = summary.metrics.iter().find(|metric| metric.group.is_none());
            let number = metric.map(|metric| format!(", {} {:.4}", metric.name, metric.value));
            note(&format!(
                "{records} samples{}: {}",
                number.unwrap_or_default(),
                out.display()
            ));
        }
        if ended {
            return Ok(Exit::Ok);
        }
        let next = Instant::now() + Duration::from_secs(every);
        while Instant::now() < next {
            if stop.load(Ordering::Relaxed) {
                // The last page must not reload itself for ever.
                page_of(run, out, None)?;
                return Ok(Exit::Interrupted);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}
