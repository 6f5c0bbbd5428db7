//! `host export`.

use super::score_file::files_of;
use super::{Common, note, print};
use crate::export::{Folder, GENERIC, Recorded};
use crate::failure::{Exit, Failure, Result};
use plugin_api::client::FilesClient;
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:
  host export runs/qwen3-finqa-1a2b3c4d --format finqa --out predictions
  host export runs/qwen3-arc-1a2b3c4d --format lm-eval

The formats lm-eval, inspect, csv and markdown are for every task, faithfulness-r1 and faithfulness-r3 for runs with reasoning; each task has its own as well, under its own name.")]
pub struct ExportArgs {
    /// A run directory
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// lm-eval, inspect, csv, markdown, faithfulness-r1, faithfulness-r3, or one of the task's own, such as finqa or
    /// slurp
    #[arg(long, short = 'f', value_name = "FORMAT")]
    format: String,
    /// The folder that receives the files [default: RUN/export/FORMAT]
    #[arg(long, short = 'o', value_name = "DIR")]
    out: Option<PathBuf>,
}

pub fn export(args: &ExportArgs, common: &Common) -> Result<Exit> {
    let format = args.format.as_str();
    if let Some(release) = super::sweep::release(format) {
        return super::sweep::export(&args.run, args.out.as_deref(), format, release, common);
    }
    let run = Recorded::open(&args.run)?;
    let generic = GENERIC.iter().any(|(name, _)| *name == format);
    // An unknown format is an error before a folder is made for it.
    let files = match generic {
        true => None,
        false => Some(own_format(&run, format, common)?),
    };
    let out = args.out.clone().unwrap_or_else(|| args.run.join("export").join(format));
    let folder = Folder::new(&out)?;
    match files {
        None => {
            run.write(format, &folder)?;
        }
        Some(files) => write_own(&run, &files, format, &folder, common)?,
    }
    let written = folder.finish()?;
    let paths: Vec<String> = written.iter().map(|path| path.display().to_string()).collect();
    match common.json {
        true => print(&format!("{}\n", json!({ "format": format, "files": paths }))),
        false => print(&paths.iter().map(|path| format!("{path}\n")).collect::<String>()),
    }
    Ok(Exit::Ok)
}

/// The files of the run's task, when they can be of this format.
fn own_format(run: &Recorded, format: &str, common: &Common) -> Result<FilesClient> {
    let task = run.task()?;
    let generic = GENERIC.iter().map(|(name, about)| format!("{name}: {about}"));
    let unknown = |own: Vec<String>| {
        let known: Vec<String> = own.into_iter().chain(generic).collect();
        let failure = Failure::usage(format!("a run on task `{task}` has no format `{format}`"));
        Err(failure.help(format!("there are {}", known.join("; "))))
    };
    let files = files_of(&common.registry()?, task);
    let Ok(files) = files else { return unknown(Vec::new()) };
    let card = files.card()?;
    match card.exports.iter().any(|kind| kind.name == format) {
        true => Ok(files),
        false => unknown(
            card.exports
                .iter()
                .map(|kind| format!("{}: {}", kind.name, kind.about))
                .collect(),
        ),
    }
}

fn write_own(run: &Recorded, files: &FilesClient, format: &str, folder: &Folder, common: &Common) -> Result<()> {
    let answered = run.answered()?;
    files
        .export(format, &answered, &|file, text| folder.add(file, text).is_ok())
        .map_err(|error| {
            // The plugin only knows that its text was not taken.
            let failure = folder.failure().unwrap_or_else(|| Failure::from(error));
            failure.context(format!("the run can't be written as {format}"))
        })?;
    let left_out = answered.left_out();
    if left_out > 0 && !common.quiet {
        note(&format!(
            "note: left out {left_out} samples that failed or have no score yet"
        ));
    }
    Ok(())
}
