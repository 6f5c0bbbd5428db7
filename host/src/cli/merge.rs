//! `host merge`: merges a LoRA into its base, writes the checkpoint, and compares its answers with those of the two
//! apart.

use super::parity::in_fp32;
use super::{Common, Flags, note, print, stop_on_signals};
use crate::catalog::Catalog;
use crate::failure::{Exit, Failure, Result};
use crate::registry::Given;
use crate::run::progress::Progress;
use plugin_api::client::ModelClient;
use plugin_api::{Callbacks, Code, Envelope, Kind, NoCallbacks};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "The checkpoint has the base's files, names and types. To check it, the same plugin loads it and
answers a few prompts that the base with its LoRA answered before; the largest difference of a
logit is printed. Both compute in fp32, so a difference comes from rounding to the base's type.

Example:
  host merge --model qwen3 -M weights=/models/Qwen3-0.6B --lora /loras/brief --out /models/Qwen3-0.6B-brief"
)]
pub struct MergeArgs {
    /// The model, by its registry name
    #[arg(long, short = 'm', value_name = "NAME")]
    model: String,
    /// A setting of the model
    #[arg(short = 'M', value_name = "KEY=VALUE")]
    model_settings: Vec<String>,
    /// The LoRA's folder; if given several times, their sum is merged
    #[arg(long, value_name = "DIR", required = true)]
    lora: Vec<PathBuf>,
    /// The folder that receives the checkpoint
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Replace an existing checkpoint
    #[arg(long)]
    force: bool,
}

pub fn merge(args: MergeArgs, common: &Common) -> Result<Exit> {
    let stop = stop_on_signals();
    common.with_catalog(false, &stop.clone(), |catalog| {
        let flags = Flags::parse("-M", &args.model_settings)?;
        flags.check_names(Kind::Model, std::slice::from_ref(&args.model))?;
        let given = flags.of(&args.model);
        let out = std::path::absolute(&args.out).unwrap_or_else(|_| args.out.clone());
        let recorded = Recorded::new()?;
        let mut answer = {
            let client = open(catalog, &args.model, given.clone(), None)?;
            let mut names = Vec::new();
            for (number, folder) in args.lora.iter().enumerate() {
                let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.clone());
                let name = format!("merged {number}");
                client
                    .add_lora(&name, &folder)
                    .map_err(|error| cannot(&args.model, error))?;
                names.push(name);
            }
            let request = json!({ "loras": names, "out": out, "force": args.force, "record": recorded.0 });
            let watching = Watching {
                stop: &stop,
                progress: Progress::share(&args.model, !common.shows_progress()),
            };
            let answer = client.run_command("merge", &request, &watching);
            watching.progress.end();
            answer.map_err(|error| cannot(&args.model, error))?
        };
        // The base is unloaded by now, so the machine needs memory for one model only.
        let setting = answer["setting"].as_str().unwrap_or("weights").to_owned();
        let client = open(catalog, &args.model, given, Some((&setting, &out)))?;
        let replay = client.replay(&json!({ "golden": recorded.0 }))?;
        let cases = replay["cases"].as_array().cloned().unwrap_or_default();
        let differences = cases.iter().filter_map(|case| case["max_abs_diff"].as_f64());
        answer["prompts"] = json!(cases.len());
        answer["max_abs_diff"] = differences
            .fold(None, |worst: Option<f64>, x| Some(worst.map_or(x, |y| y.max(x))))
            .into();
        show(&answer, &out, common);
        Ok(Exit::Ok)
    })
}

/// The model in fp32, over its own weights or over these, by the setting that takes them.
fn open(
    catalog: &Catalog,
    model: &str,
    mut given: BTreeMap<String, Given>,
    weights: Option<(&str, &Path)>,
) -> Result<ModelClient> {
    let spec = catalog.registry.adapter(Kind::Model, model)?;
    let note = catalog.plugin_note(spec)?;
    in_fp32(&note, &mut given, "merge");
    if let Some((setting, weights)) = weights {
        let set = |value: &str| Given {
            value: value.into(),
            base: PathBuf::new(),
            place: "merge".to_owned(),
        };
        given.insert(setting.to_owned(), set(&weights.display().to_string()));
        // The merged LoRA is not applied a second time.
        if note.options.iter().any(|option| option.name == "lora") {
            given.insert("lora".to_owned(), set(""));
        }
    }
    Ok(catalog.resolve(Kind::Model, model, &given)?.model()?.0)
}

fn cannot(model: &str, error: plugin_api::Error) -> Failure {
    match error.code {
        code if code.is_inability() => Failure::refused(format!("model `{model}` can't merge this"))
            .cause(error.clone())
            .help(error.help.unwrap_or_default()),
        Code::CANCELLED => Failure::new(Exit::Interrupted, "interrupted; nothing was written"),
        Code::SETTINGS => Failure::usage(error.message).help(error.help.unwrap_or_default()),
        _ => Failure::from(error),
    }
}

fn show(answer: &Value, out: &Path, common: &Common) {
    if common.json {
        return print(&format!("{answer}\n"));
    }
    let count = |key: &str| answer[key].as_u64().unwrap_or_default();
    print(&format!("{}\n", out.display()));
    if !common.quiet {
        let difference = answer["max_abs_diff"]
            .as_f64()
            .map_or("unknown".to_owned(), |x| format!("{x:.1e}"));
        note(&format!(
            "{} layers changed, in {} files; the largest difference of a logit over {} prompts is {difference}",
            count("layers"),
            count("files"),
            count("prompts")
        ));
    }
}

/// Shows progress, and passes on a request to stop.
struct Watching<'a> {
    stop: &'a AtomicBool,
    progress: Progress,
}

impl Callbacks for Watching<'_> {
    fn ask(&self, what: &str, input: Envelope) -> plugin_api::Result<Envelope> {
        NoCallbacks.ask(what, input)
    }

    fn emit(&self, what: &str, note: Envelope) -> bool {
        if what == "progress"
            && let Ok(note) = note.read::<Value>()
        {
            self.progress.reach(note["share"].as_f64().unwrap_or_default());
        }
        !self.stop_asked()
    }

    fn stop_asked(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// A folder for recordings, removed when it is dropped.
struct Recorded(PathBuf);

impl Recorded {
    fn new() -> Result<Recorded> {
        let folder = std::env::temp_dir().join(format!("host-merge-{}", std::process::id()));
        std::fs::create_dir(&folder).map_err(|why| Failure::unwritable(&folder, why))?;
        Ok(Recorded(folder))
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        // The system cleans up what can't be removed here.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
