//! `host parity`: is a model right? Replays what a reference implementation recorded, through the plugin's ordinary
//! `.so`.

use super::{Common, Flags, complain, note, print, stop_on_signals};
use crate::catalog::Catalog;
use crate::failure::{Exit, Failure, Result};
use crate::registry::Given;
use crate::table::{Align, Table};
use plugin_api::{AdapterNote, Kind, OptionSpec};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Each DIR is a checkpoint folder with a `golden` folder in it: `cases.json` and `golden.safetensors`;
or a single file of weights with that folder beside it. Where a folder `lora` with these lies beside `golden`, the LoRA
in there is read and compared as well.
Parity computes in fp32 whatever the checkpoint's type. A DIR that cannot be loaded or holds nothing to compare is a
failed case with an `error`, and the others are compared all the same. Exit 0 only if every comparison is within its
tolerance, else 1; if there was nothing to compare in any DIR, the code of what kept the first from it.

With `--training`, the folder `training` of each DIR is replayed instead: short training runs that a reference
recorded, and four-bit matrices. One finding a case names each difference, its tolerance and whether it is within.

Example:
  host parity --model qwen3 plugins/models/qwen3/golden/tied
  host parity --training --model qwen3 plugins/kit/train/golden/qwen3"
)]
pub struct ParityArgs {
    /// The model, by its registry name
    #[arg(long, short = 'm', value_name = "NAME")]
    model: String,
    /// A setting of the model
    #[arg(short = 'M', value_name = "KEY=VALUE")]
    model_settings: Vec<String>,
    /// Replay recorded training runs, in the folder `training` of each DIR, instead of answers
    #[arg(long)]
    training: bool,
    /// Checkpoint folders
    #[arg(value_name = "DIR", required = true)]
    folders: Vec<PathBuf>,
}

/// Lets a model that can compute in fp32 do so, unless a flag says otherwise.
pub(super) fn in_fp32(note: &AdapterNote, given: &mut BTreeMap<String, Given>, place: &str) {
    let can = |option: &OptionSpec| option.name == "dtype" && option.allowed.contains(&json!("fp32"));
    if note.options.iter().any(can) && !given.contains_key("dtype") {
        let fp32 = Given {
            value: "fp32".into(),
            base: PathBuf::new(),
            place: place.to_owned(),
        };
        given.insert("dtype".to_owned(), fp32);
    }
}

/// What a folder's own LoRA is called here.
const RECORDED: &str = "recorded";

/// A folder `lora` beside `golden`, if something was recorded with it.
fn recorded_lora(golden: &Path) -> Option<PathBuf> {
    let lora = golden.with_file_name("lora");
    lora.join("golden.safetensors").is_file().then_some(lora)
}

pub fn parity(args: ParityArgs, common: &Common) -> Result<Exit> {
    let stop = stop_on_signals();
    common.with_catalog(false, &stop, |catalog| {
        let flags = Flags::parse("-M", &args.model_settings)?;
        let model = catalog.registry.adapter(Kind::Model, &args.model)?;
        let model_note = catalog.plugin_note(model)?;
        let mut table = Table::new(&[
            ("Folder", Align::Left),
            ("Case", Align::Left),
            ("What", Align::Left),
            ("Largest difference", Align::Right),
            ("Tokens equal", Align::Left),
            ("Ok", Align::Left),
        ]);
        let (mut compared, mut all_ok, mut unread) = (false, true, None);
        for folder in &args.folders {
            let findings = match compare(catalog, &model_note, &args.model, &flags, folder, args.training) {
                Ok(findings) => {
                    compared = true;
                    findings
                }
                Err(failure) if failure.exit == Exit::Interrupted => return Err(failure),
                Err(failure) => {
                    complain(&failure);
                    unread.get_or_insert(failure.exit);
                    vec![json!({
                        "case": "all", "what": "load", "max_abs_diff": null, "tokens_equal": null, "ok": false,
                        "error": failure.error,
                    })]
                }
            };
            for finding in findings {
                all_ok &= finding["ok"] == true;
                if common.json {
                    let mut line = json!({ "folder": folder });
                    merge(&mut line, &finding);
                    print(&format!("{line}\n"));
                } else if finding["within"].is_object() {
                    training_rows(folder, &finding)
                        .into_iter()
                        .for_each(|row| table.row(row));
                } else {
                    table.row(row(folder, &finding));
                }
            }
        }
        if !common.json && compared {
            print(&table.render());
        }
        Ok(match unread {
            Some(exit) if !compared => exit,
            _ if all_ok => Exit::Ok,
            _ => {
                note("not every comparison is within its tolerance");
                Exit::Threshold
            }
        })
    })
}

/// Replays the recordings of one folder.
fn compare(
    catalog: &Catalog,
    note: &AdapterNote,
    model: &str,
    flags: &Flags,
    folder: &Path,
    training: bool,
) -> Result<Vec<Value>> {
    let home = match folder.parent() {
        Some(parent) if folder.is_file() => parent,
        _ => folder,
    };
    let recorded = if training { "training" } else { "golden" };
    let golden = absolute(&home.join(recorded));
    if !folder.exists() {
        return Err(Failure::missing(format!("`{}` is not there", folder.display())));
    }
    if !golden.is_dir() {
        let failure = Failure::missing(format!("`{}` has no `{recorded}` folder", home.display()));
        return Err(failure.help("a reference implementation records one; the model's own folder has the script"));
    }
    let mut given = flags.of(model);
    // A served model has its weights elsewhere and needs only the folder's tokenizer.
    let option = ["weights", "tokenizer"]
        .into_iter()
        .find(|name| note.options.iter().any(|option| option.name == *name));
    if let Some(option) = option.filter(|option| *option == "weights" || !given.contains_key(*option)) {
        let place = Given {
            value: absolute(folder).display().to_string().into(),
            base: std::env::current_dir().unwrap_or_default(),
            place: "parity".to_owned(),
        };
        given.insert(option.to_owned(), place);
    }
    in_fp32(note, &mut given, "parity");
    let (client, _made) = catalog.resolve(Kind::Model, model, &given)?.model()?;
    let trace = |request: Value| {
        let answer = client.replay(&request).map_err(|error| match error.code {
            code if code.is_inability() => {
                Failure::refused(format!("model `{model}` can't replay recorded cases")).cause(error)
            }
            _ => Failure::from(error),
        })?;
        Ok::<_, Failure>(answer["cases"].as_array().cloned().unwrap_or_default())
    };
    if training {
        return trace(json!({ "training": golden }));
    }
    let mut findings = trace(json!({ "golden": golden }))?;
    if let Some(lora) = recorded_lora(&golden).filter(|_| option == Some("weights")) {
        client.add_lora(RECORDED, &lora)?;
        findings.extend(trace(json!({ "golden": lora, "lora": RECORDED }))?);
    }
    match findings.is_empty() {
        false => Ok(findings),
        true => Err(Failure::missing(format!(
            "`{}` holds no case that this model compares",
            golden.display()
        ))),
    }
}

/// The differences of a replayed training, each by its name.
fn training_rows(folder: &Path, finding: &Value) -> Vec<[String; 6]> {
    let within = finding["within"].as_object().into_iter().flatten();
    within
        .map(|(name, within)| {
            let difference = finding["differences"][name].as_f64();
            let ok = if within == true { "yes" } else { "NO" };
            [
                folder.display().to_string(),
                finding["case"].as_str().unwrap_or_default().to_owned(),
                name.clone(),
                difference.map(|value| format!("{value:.1e}")).unwrap_or_default(),
                String::new(),
                ok.to_owned(),
            ]
        })
        .collect()
}

fn row(folder: &Path, finding: &Value) -> [String; 6] {
    let text = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let yes = |key: &str| {
        let word = finding[key].as_bool().map(|yes| if yes { "yes" } else { "NO" });
        word.unwrap_or_default().to_owned()
    };
    let difference = finding["max_abs_diff"].as_f64().map(|value| format!("{value:.1e}"));
    [
        folder.display().to_string(),
        text("case"),
        text("what"),
        difference.unwrap_or_default(),
        yes("tokens_equal"),
        yes("ok"),
    ]
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn merge(into: &mut Value, from: &Value) {
    if let (Some(into), Some(from)) = (into.as_object_mut(), from.as_object()) {
        into.extend(from.clone());
    }
}
