//! Tab completion. The shell asks this program, so names from the registry and the disk are offered as well.

mod asked;
mod candidates;

use asked::{Bash, asked};
use clap::{Arg, Command};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, complete};
use clap_complete::env::Shells;
use plugin_api::Kind;
use std::ffi::OsStr;
use std::io::Write;

/// The variable in which a completion script names its shell.
const VARIABLE: &str = "_HOST_COMPLETE";
const BASH: &str = "bash";

/// What `host completions SHELL` prints.
pub fn script(shell: clap_complete::Shell) -> String {
    let mut text = Vec::new();
    if let Some(known) = Shells::builtins().completer(&shell.to_string()) {
        let written = known.write_registration(VARIABLE, "host", "host", "host", &mut text);
        debug_assert!(written.is_ok());
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Answers a shell that asks for completions, and returns whether one did.
pub fn answer(command: impl FnOnce() -> Command) -> bool {
    let Some(shell) = std::env::var(VARIABLE).ok().filter(|shell| !shell.is_empty()) else {
        return false;
    };
    let words = asked();
    let mut command = with_completers(command());
    let folder = std::env::current_dir().ok();
    let mut out = std::io::stdout().lock();
    // Without candidates a shell shows nothing, never an error.
    let _ = match (shell.as_str(), Shells::builtins().completer(&shell)) {
        (BASH, _) => {
            let asked = Bash::read(words);
            let found = complete(&mut command, asked.words.clone(), asked.index, folder.as_deref());
            write!(out, "{}", asked.answer(&found.unwrap_or_default()))
        }
        (_, Some(known)) => known.write_complete(&mut command, words, folder.as_deref(), &mut out),
        _ => Ok(()),
    };
    true
}

/// Gives every argument of every command its candidates, by the argument's name.
fn with_completers(command: Command) -> Command {
    let name = command.get_name().to_owned();
    command
        .mut_args(|arg| with_completer(&name, arg))
        .mut_subcommands(with_completers)
}

fn with_completer(command: &str, arg: Arg) -> Arg {
    let id = arg.get_id().as_str().to_owned();
    let adds = |arg: Arg, find: fn(&OsStr) -> Vec<CompletionCandidate>| arg.add(ArgValueCompleter::new(find));
    match id.as_str() {
        "model" | "transcriber" => adds(arg, |current| candidates::adapters(current, &[Kind::Model], &["all"])),
        "task" => adds(arg, |current| candidates::adapters(current, &[Kind::Task], &["all"])),
        "judge" => adds(arg, |current| {
            candidates::adapters(current, &[Kind::Judge, Kind::Model], &["auto"])
        }),
        "role" => adds(arg, candidates::role),
        "model_settings" => adds(arg, |current| candidates::settings(current, Kind::Model)),
        "task_settings" => adds(arg, |current| candidates::settings(current, Kind::Task)),
        "judge_settings" => adds(arg, |current| candidates::settings(current, Kind::Judge)),
        "lora" if command == "run" => adds(arg, candidates::loras),
        "format" if command == "export" => adds(arg, candidates::formats),
        "run" | "runs" => adds(arg, candidates::runs),
        _ => arg,
    }
}
