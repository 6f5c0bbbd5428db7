//! `host init`: writes a registry file to start with, and suggests a first command for this machine.

use super::{Common, doctor, print};
use crate::failure::{Exit, Failure, Result};
use crate::process::in_words;
use crate::registry::config_folder;
use crate::run::store::directory::write_whole;
use serde::Deserialize;
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:
  host init                          ~/.config/host/registry.toml, which every command reads
  host init --out registry.toml      a file that `--registry registry.toml` lays over it")]
pub struct InitArgs {
    /// The file to write [default: the user's own registry]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Overwrite an existing file
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Deserialize)]
struct First {
    model: Vec<Candidate>,
}

/// A model to start with.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Candidate {
    adapter: String,
    id: String,
    bytes: u64,
}

/// The share of the free memory that weights may take; caches and the rest of the machine need some.
const SHARE: f64 = 0.6;

fn candidates() -> Vec<Candidate> {
    let first: std::result::Result<First, _> = toml::from_str(include_str!("first.toml"));
    first.map(|first| first.model).unwrap_or_default()
}

/// The largest that fits, else the smallest.
fn choose(candidates: &[Candidate], free: Option<u64>) -> Option<&Candidate> {
    let fits = |one: &&Candidate| free.is_some_and(|free| one.bytes as f64 <= free as f64 * SHARE);
    candidates
        .iter()
        .filter(fits)
        .max_by_key(|one| one.bytes)
        .or_else(|| candidates.first())
}

pub fn init(args: &InitArgs, common: &Common) -> Result<Exit> {
    let place = args
        .out
        .clone()
        .or_else(|| Some(config_folder()?.join("registry.toml")));
    let place =
        place.ok_or_else(|| Failure::usage("neither XDG_CONFIG_HOME nor HOME is set").help("give `--out FILE`"))?;
    if place.exists() && !args.force {
        let failure = Failure::usage(format!("`{}` already exists", place.display()));
        return Err(failure.help("overwrite it with `--force`, or write another file with `--out FILE`"));
    }
    let free = doctor::free_memory();
    let all = candidates();
    let Some(chosen) = choose(&all, free) else {
        return Err(Failure::usage("there is no model to start with"));
    };
    if let Some(folder) = place.parent() {
        std::fs::create_dir_all(folder).map_err(|why| Failure::unwritable(folder, why))?;
    }
    write_whole(&place, text(chosen).as_bytes())?;
    let layer = args
        .out
        .as_ref()
        .map(|out| format!(" --registry {}", out.display()))
        .unwrap_or_default();
    let command = format!("host run{layer} --model first --task arc --limit 100");
    if common.json {
        print(&format!(
            "{}\n",
            json!({ "file": place, "model": chosen.id, "free_bytes": free, "command": command })
        ));
        return Ok(Exit::Ok);
    }
    let free = free.map_or_else(|| "unknown memory".to_owned(), in_words);
    print(&format!(
        "wrote {}\n{free} free: `{}` takes {} as it is stored\n\nhost run --demo --model {} --task arc    # needs no download\n{command}    # fetches the weights first\n",
        place.display(),
        chosen.id,
        in_words(chosen.bytes),
        chosen.adapter
    ));
    Ok(Exit::Ok)
}

fn text(chosen: &Candidate) -> String {
    format!(
        "# Models, tasks and judges of your own, laid over those that come with host. `host ls models` lists all,\n\
         # `host ls models --verbose` every setting, and `host doctor` says what is missing on this machine.\n\n\
         # A name of your choice for a plugin's adapter with settings. `-M key=value` overrides them for one run.\n\
         [models.first]\nplugin = \"{0}\"\nadapter = \"{0}\"\n\
         settings = {{ weights = \"{1}\" }}          # a hub id, or a folder with config.json and the weights\n\n\
         # [models.smaller]                      # the same weights in a quarter of the memory\n\
         # plugin = \"{0}\"\n# adapter = \"{0}\"\n# settings = {{ weights = \"{1}\", quant = \"q4_k\" }}\n\n\
         # [models.served]                       # any OpenAI-compatible server as the engine\n\
         # plugin = \"openai\"\n# adapter = \"openai\"\n\
         # settings = {{ base_url = \"http://127.0.0.1:8000/v1\", model = \"{1}\" }}\n\n\
         # [plugins.mine]                        # a plugin of another: it runs in a process of its own\n\
         # path = \"/path/to/libmine.so\"\n",
        chosen.adapter, chosen.id
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_model_that_leaves_room_is_chosen() {
        let all = candidates();
        assert!(
            all.windows(2).all(|pair| pair[0].bytes < pair[1].bytes),
            "smallest first"
        );
        let id = |free: Option<u64>| choose(&all, free).map(|one| one.id.as_str());
        assert_eq!(id(Some(6_000_000_000)), Some("Qwen/Qwen3-1.7B"));
        assert_eq!(id(Some(1)), Some("Qwen/Qwen3-0.6B"));
        assert_eq!(id(None), Some("Qwen/Qwen3-0.6B"));
    }

    #[test]
    fn the_file_is_a_registry() {
        let table: toml::Table = text(&candidates()[0]).parse().unwrap();
        assert_eq!(
            table["models"]["first"]["settings"]["weights"].as_str(),
            Some("Qwen/Qwen3-0.6B")
        );
    }
}
