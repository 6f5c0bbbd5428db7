//! The command line: its commands, and which part of the program runs each.

mod bench;
mod compare;
mod compare_by_judge;
mod completion;
mod config;
mod convert;
mod data;
mod doctor;
mod export;
mod faithfulness;
mod figures;
mod graders;
mod init;
mod join;
mod judge;
mod ls;
mod memory;
mod merge;
mod parity;
mod plugins;
mod probe;
mod pull;
mod report;
mod rescore;
mod run;
mod score;
mod score_file;
mod spending;
mod sweep;
mod train;

pub(crate) use crate::catalog::Flags;

use crate::catalog::Catalog;
use crate::failure::{Exit, Failure, Result};
use crate::registry::Registry;
use crate::run::progress::download_bar;
use clap::{CommandFactory, Parser, Subcommand};
use plugin_api::Kind;
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Run any model on any task. Each is a plugin: add one without rebuilding `host`
#[derive(Debug, Parser)]
#[command(name = "host", version, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

const EXAMPLES: &str = "Examples:
  host run --demo --model qwen3 --task arc          everything on built-in toy data
  host run --model qwen3 --task arc -M weights=Qwen/Qwen3-0.6B --limit 100
  host run --model a,b --task all --json > results.json
  host ls models --verbose                          what there is, with every option
  host plugins new mine --kind model                a plugin of your own

Exit codes: 0 done, 1 finished but failed a threshold, 2 usage or configuration, 3 something is missing,
4 a plugin was refused or failed, 5 a budget or time limit is used up, 6 a file can't be written (a full disk, say),
130 interrupted. After 5, 6 and 130 the same command goes on where it was cut short.";

/// Flags that every command takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// A registry file to lay over the repository's and the user's own; may be given several times
    #[arg(long, global = true, value_name = "FILE")]
    registry: Vec<PathBuf>,
    /// Never touch the network
    #[arg(long, global = true)]
    offline: bool,
    /// Print JSON for machines instead of tables
    #[arg(long, global = true)]
    json: bool,
    /// No progress, and no notes on standard error
    #[arg(long, short, global = true)]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run models on tasks
    Run(Box<run::RunArgs>),
    /// Fine-tune a model on a task or on tokenised rows: all of its weights, or a LoRA
    Train(Box<train::TrainArgs>),
    /// Score or judge a finished run without its model, or score a file of answers
    Score(score::ScoreArgs),
    /// Check whether a judge can be trusted
    #[command(subcommand)]
    Judge(judge::Command),
    /// Prepare, tokenize, count, split or convert a task's data
    #[command(subcommand)]
    Data(data::Command),
    /// Compare runs over the same samples, pair by pair
    Compare(compare::CompareArgs),
    /// Write a registry to start with, and suggest a first command
    Init(init::InitArgs),
    /// Join the shards of a run into one run
    Join(join::JoinArgs),
    /// Write the page of a run, or a report over many runs
    Report(report::ReportArgs),
    /// Write a run in the formats of other tools
    Export(export::ExportArgs),
    /// Measure whether answers depend on the reasoning that is stated for them
    Faithfulness(Box<faithfulness::FaithfulnessArgs>),
    /// List models, tasks, judges or runs
    Ls(ls::LsArgs),
    /// Fetch the weights or data of a model or task, or of a hub id
    Pull(pull::PullArgs),
    /// List, inspect, check, pin or write plugins
    #[command(subcommand)]
    Plugins(plugins::Command),
    /// Compare a model with recordings of a reference implementation
    Parity(parity::ParityArgs),
    /// Combine the parts of a model's weights into one folder
    Convert(convert::ConvertArgs),
    /// Merge a LoRA into its base, and write the checkpoint
    Merge(merge::MergeArgs),
    /// Check what is missing on this machine
    Doctor(doctor::DoctorArgs),
    /// Measure the speed of models, tasks and plugins on this machine
    Bench(bench::BenchArgs),
    /// Print completions for a shell
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
    /// Print the man page, or write those of all commands
    Man {
        /// The folder that receives one page per command
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

/// The program. Returns its exit code.
pub fn main() -> ExitCode {
    if completion::answer(Cli::command) {
        return ExitCode::from(Exit::Ok as u8);
    }
    let words = match train::arguments(std::env::args_os().collect()) {
        Ok(words) => words,
        Err(failure) => {
            complain(&failure);
            return ExitCode::from(failure.exit as u8);
        }
    };
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            let asked_for_help = !error.use_stderr();
            return ExitCode::from(if asked_for_help { Exit::Ok } else { Exit::Usage } as u8);
        }
    };
    // By default the kernel ends a process that writes past `ulimit -f`, in the middle of a line.
    let listening = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default());
    debug_assert!(listening.is_ok());
    crate::plugin::set_log_sink(Box::new(crate::log::write));
    match dispatch(cli) {
        Ok(exit) => leave(exit),
        Err(failure) => {
            complain(&failure);
            leave(failure.exit)
        }
    }
}

/// Ends the process without returning from `main`, which would wait for a model that hangs in this process.
fn leave(exit: Exit) -> ExitCode {
    let _ = std::io::stdout().flush();
    let exit = match (exit, UNPRINTED.load(Ordering::Relaxed)) {
        (Exit::Ok | Exit::Threshold, true) => Exit::Unwritable,
        (exit, _) => exit,
    };
    std::process::exit(exit as i32)
}

/// Some of the results could not be printed.
static UNPRINTED: AtomicBool = AtomicBool::new(false);

/// Prints a failure for people.
pub(crate) fn complain(failure: &Failure) {
    let mut text = failure.render();
    if std::io::stderr().is_terminal() {
        text = text
            .replacen("error:", "\x1b[1;31merror:\x1b[0m", 1)
            .replacen("\nhint:", "\n\x1b[1;36mhint:\x1b[0m", 1);
    }
    note(&text);
}

/// Prints a line on standard error.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints a result on standard output. A closed pipe is not a failure; a full disk is, and is reported once.
pub(crate) fn print(text: &str) {
    printed(std::io::stdout().lock().write_all(text.as_bytes()));
}

/// Prints a value as it is written, for one that would take too much memory as text.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    match serde_json::to_writer_pretty(&mut out, value) {
        Err(why) if !why.is_io() => return Err(Failure::missing(why.to_string())),
        written => printed(
            written
                .map_err(std::io::Error::from)
                .and_then(|()| writeln!(out))
                .and_then(|()| out.flush()),
        ),
    }
    Ok(())
}

fn printed(written: std::io::Result<()>) {
    if let Err(why) = written.and_then(|()| std::io::stdout().flush())
        && why.kind() != ErrorKind::BrokenPipe
        && !UNPRINTED.swap(true, Ordering::Relaxed)
    {
        complain(&Failure::unwritable("standard output".as_ref(), why));
    }
}

fn dispatch(cli: Cli) -> Result<Exit> {
    let common = &cli.common;
    match cli.command {
        Command::Completions { shell } => {
            print(&completion::script(shell));
            Ok(Exit::Ok)
        }
        Command::Man { dir } => {
            if let Some(dir) = dir {
                let written = std::fs::create_dir_all(&dir);
                let written = written.and_then(|()| clap_mangen::generate_to(Cli::command(), &dir));
                return written.map(|()| Exit::Ok).map_err(|why| Failure::unwritable(&dir, why));
            }
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command())
                .render(&mut page)
                .map_err(|why| Failure::usage("the man page can't be made").cause(why))?;
            print(&String::from_utf8_lossy(&page));
            Ok(Exit::Ok)
        }
        Command::Run(args) => run::run(*args, common),
        Command::Train(args) => train::train(*args, common),
        Command::Score(args) => score::score(args, common),
        Command::Judge(command) => judge::run(&command, common),
        Command::Data(command) => data::run(&command, common),
        Command::Compare(args) => compare::compare(&args, common),
        Command::Init(args) => init::init(&args, common),
        Command::Join(args) => join::join(&args, common),
        Command::Report(args) => report::report(&args, common),
        Command::Export(args) => export::export(&args, common),
        Command::Faithfulness(args) => faithfulness::faithfulness(&args, common),
        Command::Ls(args) => ls::ls(args, common),
        Command::Pull(args) => pull::pull(args, common),
        Command::Plugins(command) => plugins::run(&command, common),
        Command::Convert(args) => convert::convert(&args, common),
        Command::Parity(args) => parity::parity(args, common),
        Command::Merge(args) => merge::merge(args, common),
        Command::Doctor(args) => doctor::doctor(args, common),
        Command::Bench(args) => bench::bench(args, common),
    }
}

impl Common {
    fn registry(&self) -> Result<Registry> {
        Registry::load(&self.registry)
    }

    /// Progress is for people: not when it is piped, and not when they asked for quiet.
    fn shows_progress(&self) -> bool {
        !self.quiet && std::io::stderr().is_terminal()
    }

    /// Calls `work` with a catalog.
    fn with_catalog<T>(&self, demo: bool, stop: &AtomicBool, work: impl FnOnce(&Catalog) -> Result<T>) -> Result<T> {
        let registry = self.registry()?;
        let bar = download_bar(!self.shows_progress());
        work(&Catalog {
            registry: &registry,
            offline: self.offline,
            demo,
            show: &bar,
            stop,
        })
    }
}

/// Ctrl-C and its like ask for a clean end; the second time they end the process at once.
pub(crate) fn stop_on_signals() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let second = signal_hook::flag::register_conditional_shutdown(signal, Exit::Interrupted as i32, stop.clone());
        let first = signal_hook::flag::register(signal, stop.clone());
        debug_assert!(first.is_ok() && second.is_ok());
    }
    stop
}

/// Names from a flag: separated by commas, `all` standing for every one of the kind.
pub(crate) fn names(registry: &Registry, kind: Kind, given: &[String]) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    for name in given
        .iter()
        .flat_map(|text| text.split(','))
        .map(str::trim)
        .filter(|name| !name.is_empty())
    {
        let more = if name == "all" {
            registry.names_in_all(kind)
        } else {
            vec![registry.adapter(kind, name)?.name.clone()]
        };
        names.extend(
            more.into_iter()
                .filter(|name| !names.contains(name))
                .collect::<Vec<_>>(),
        );
    }
    Ok(names)
}
