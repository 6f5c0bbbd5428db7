//! `host pull`: fetches weights and data before they are needed.

use super::{Common, Flags, names, print, stop_on_signals};
use crate::failure::{Exit, Failure, Result};
use plugin_api::{Kind, OptionType};
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:
  host pull --model qwen3
  host pull Qwen/Qwen3-0.6B@main
  host pull Qwen/Qwen3-0.6B-GGUF:Q8_0
  host pull --data allenai/ai2_arc

HF_HOME, HF_HUB_CACHE, HF_ENDPOINT and HF_TOKEN are used; an interrupted pull continues.")]
pub struct PullArgs {
    /// Hub ids of models, `org/name` or `org/name@revision`, and one GGUF file of several as `org/name:Q8_0`
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// Hub ids of data sets
    #[arg(long, value_name = "ID")]
    data: Vec<String>,
    /// Models whose weights to fetch
    #[arg(long, short = 'm', value_name = "NAMES")]
    model: Vec<String>,
    /// Tasks whose data to fetch
    #[arg(long, short = 't', value_name = "NAMES")]
    task: Vec<String>,
    /// A setting of the models
    #[arg(short = 'M', value_name = "KEY=VALUE")]
    model_settings: Vec<String>,
    /// A setting of the tasks
    #[arg(short = 'T', value_name = "KEY=VALUE")]
    task_settings: Vec<String>,
}

pub fn pull(args: PullArgs, common: &Common) -> Result<Exit> {
    let stop = stop_on_signals();
    common.with_catalog(false, &stop, |catalog| {
        let mut got = BTreeMap::new();
        for (ids, of) in [(&args.ids, OptionType::Weights), (&args.data, OptionType::Data)] {
            for id in ids {
                got.insert(id.clone(), catalog.snapshot(of, id)?.place().display().to_string());
            }
        }
        for (kind, given, flag, texts) in [
            (Kind::Model, &args.model, "-M", &args.model_settings),
            (Kind::Task, &args.task, "-T", &args.task_settings),
        ] {
            let flags = Flags::parse(flag, texts)?;
            for name in names(catalog.registry, kind, given)? {
                let resolved = catalog.resolve(kind, &name, &flags.of(&name))?;
                for option in &resolved.note.options {
                    let (OptionType::Weights | OptionType::Data | OptionType::Folders) = option.kind else {
                        continue;
                    };
                    match resolved.settings.0.get(&option.name) {
                        Some(Value::String(folder)) => {
                            got.insert(format!("{name}.{}", option.name), folder.clone());
                        }
                        Some(Value::Array(folders)) => {
                            let folders = folders.iter().filter_map(Value::as_str).enumerate();
                            got.extend(
                                folders.map(|(at, folder)| (format!("{name}.{}.{at}", option.name), folder.to_owned())),
                            );
                        }
                        Some(Value::Object(folders)) => {
                            let folders = folders.iter().filter_map(|(of, folder)| Some((of, folder.as_str()?)));
                            got.extend(
                                folders.map(|(of, folder)| (format!("{name}.{}.{of}", option.name), folder.to_owned())),
                            );
                        }
                        _ => {}
                    }
                }
            }
        }
        if got.is_empty() {
            return Err(Failure::usage("there is nothing to fetch").help("give hub ids, `--model` or `--task`"));
        }
        match common.json {
            true => print(&format!("{}\n", json!(got))),
            false => got.iter().for_each(|(id, folder)| print(&format!("{id}\t{folder}\n"))),
        }
        Ok(Exit::Ok)
    })
}
