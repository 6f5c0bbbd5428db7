//! `host convert`.

use super::{Common, Flags, print, stop_on_signals};
use crate::failure::{Exit, Failure, Result};
use crate::registry::Given;
use plugin_api::{Callbacks, Envelope, Kind};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "For models that are published in several parts: one folder of safetensors, without what no part uses.

Example:
  host convert salmonn --out converted -M weights=downloads
  host run --model salmonn -M weights=converted --task sakura"
)]
pub struct ConvertArgs {
    /// The model, by its registry name
    #[arg(value_name = "MODEL")]
    model: String,
    /// A setting of the model, such as where its parts are
    #[arg(short = 'M', value_name = "KEY=VALUE")]
    model_settings: Vec<String>,
    /// The folder that receives the files; new or empty
    #[arg(long, short = 'o', value_name = "DIR")]
    out: PathBuf,
}

pub fn convert(args: &ConvertArgs, common: &Common) -> Result<Exit> {
    let stop = stop_on_signals();
    let host = UntilStopped(stop.clone());
    common.with_catalog(false, &stop, |catalog| {
        let mut given = Flags::parse("-M", &args.model_settings)?.of(&args.model);
        let note = catalog.plugin_note(catalog.registry.adapter(Kind::Model, &args.model)?)?;
        let nothing = || Failure::refused(format!("model `{}` has nothing to convert", args.model));
        // Weights that are only copied are not read into memory first. A model without that setting does not convert,
        // which its note shows before anything is fetched.
        if note.options.iter().all(|option| option.name != "load") {
            let hint = "only a model that is published in several parts needs converting; run this one as it is";
            return Err(nothing().help(hint));
        }
        given.entry("load".to_owned()).or_insert_with(|| Given {
            value: Value::Bool(false),
            base: std::env::current_dir().unwrap_or_default(),
            place: "convert".to_owned(),
        });
        let (client, _made) = catalog.resolve(Kind::Model, &args.model, &given)?.model()?;
        let out = std::path::absolute(&args.out).unwrap_or_else(|_| args.out.clone());
        let answer = client
            .run_command("convert", &json!({ "out": out }), &host)
            .map_err(|error| match error.code {
                code if code.is_inability() => nothing().cause(error),
                _ => Failure::from(error),
            })?;
        match common.json {
            true => print(&format!("{answer}\n")),
            false => {
                let files = answer["files"].as_array().into_iter().flatten();
                let lines = files.filter_map(Value::as_str).map(|file| format!("{file}\n"));
                print(&lines.collect::<String>());
            }
        }
        Ok(Exit::Ok)
    })
}

/// A host that only says when to stop.
struct UntilStopped(Arc<AtomicBool>);

impl Callbacks for UntilStopped {
    fn ask(&self, what: &str, _input: Envelope) -> plugin_api::Result<Envelope> {
        Err(plugin_api::Error::unsupported(format!(
            "`host convert` doesn't answer `{what}`"
        )))
    }

    fn emit(&self, _what: &str, _note: Envelope) -> bool {
        !self.stop_asked()
    }

    fn stop_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
