//! `host bench`.

use super::{Common, Flags, names, note, print, stop_on_signals};
use crate::bench::model::{Process, Work, measure, timed};
use crate::bench::{self, Plan, score};
use crate::catalog::Catalog;
use crate::failure::{Doing, Exit, Failure, Result};
use crate::registry::Given;
use clap::Subcommand;
use plugin_api::Kind;
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, Clone, clap::Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, Subcommand)]
enum What {
    /// What a call into a plugin costs, what opening one costs, and how much a long run takes
    Boundary {
        /// A build of the `fixture-echo` plugin [default: the one beside this program]
        #[arg(long, value_name = "FILE")]
        plugin: Option<PathBuf>,
        /// Samples of the long run; the short one has a tenth of them
        #[arg(long, value_name = "N", default_value_t = 100_000)]
        samples: usize,
    },
    /// How many replies a second each task scores; on its demo unless its settings say otherwise
    #[command(after_help = "Examples:
  host bench score
  host bench score --task finqa -T data=/data/finqa --json")]
    Score {
        /// Tasks by their registry names, separated by commas, or `all`
        #[arg(long, short = 't', value_name = "NAMES", default_value = "all")]
        task: Vec<String>,
        /// A setting of the tasks
        #[arg(short = 'T', value_name = "KEY=VALUE")]
        task_settings: Vec<String>,
    },
    /// How fast a model reads prompts, writes answers and scores options
    #[command(after_help = "Examples:
  host bench model --shape qwen3-0.6b -M dtype=bf16        # random weights, no checkpoint needed
  host bench model --model qwen3 -M weights=/models/x --json")]
    Model {
        /// The model, by its registry name
        #[arg(long, short = 'm', value_name = "NAME", required_unless_present = "shape")]
        model: Option<String>,
        /// Random weights of this shape, by a model that knows it
        #[arg(long, value_name = "SHAPE")]
        shape: Option<String>,
        /// A setting of the model
        #[arg(short = 'M', value_name = "KEY=VALUE")]
        model_settings: Vec<String>,
    },
}

pub fn bench(args: BenchArgs, common: &Common) -> Result<Exit> {
    match args.what {
        What::Boundary { plugin, samples } => boundary(plugin, samples, common),
        What::Score { task, task_settings } => of_scorers(&task, &task_settings, common),
        What::Model {
            model,
            shape,
            model_settings,
        } => of_model(model, shape, &model_settings, common),
    }
}

fn of_scorers(tasks: &[String], settings: &[String], common: &Common) -> Result<Exit> {
    let stop = stop_on_signals();
    common.with_catalog(true, &stop, |catalog| {
        let flags = Flags::parse("-T", settings)?;
        let tasks = names(catalog.registry, Kind::Task, tasks)?;
        flags.check_names(Kind::Task, &tasks)?;
        let mut scorers = Vec::new();
        for name in &tasks {
            if common.shows_progress() {
                note(&format!("measuring: {name}"));
            }
            let task = catalog.resolve(Kind::Task, name, &flags.of(name))?.task()?;
            scorers.push(score::scorer(name, &task)?);
        }
        match common.json {
            true => print(&(serde_json::to_string_pretty(&score::score_as_json(&scorers)).unwrap_or_default() + "\n")),
            false => print(&score::score_table(&scorers)),
        }
        Ok(Exit::Ok)
    })
}

fn of_model(model: Option<String>, shape: Option<String>, settings: &[String], common: &Common) -> Result<Exit> {
    let stop = stop_on_signals();
    common.with_catalog(false, &stop, |catalog| {
        let flags = Flags::parse("-M", settings)?;
        let model = match (model, &shape) {
            (Some(model), _) => model,
            (None, shape) => model_of_shape(catalog, shape.as_deref().unwrap_or_default())?,
        };
        let mut given = flags.of(&model);
        if let Some(shape) = shape {
            let base = std::env::current_dir().unwrap_or_default();
            let place = "--shape".to_owned();
            let value = shape.into();
            given.insert("shape".to_owned(), Given { value, base, place });
        }
        let speaks = common.shows_progress();
        let say = |what: &str| {
            if speaks {
                note(&format!("measuring: {what}"));
            }
        };
        let resolved = catalog.resolve(Kind::Model, &model, &given)?;
        say("loading the model");
        let (made, mut load) = timed(Process::here(), || resolved.make())?;
        let process = Process::of(&made);
        if process.is_worker() {
            load.processor = process.time();
        }
        let figures = measure(&made, load, Work::default(), &say)?;
        match common.json {
            true => print(&(serde_json::to_string_pretty(&bench::model_as_json(&figures)).unwrap_or_default() + "\n")),
            false => print(&bench::model_table(&figures)),
        }
        Ok(Exit::Ok)
    })
}

/// The model whose setting `shape` knows this one. None is known by its name here.
fn model_of_shape(catalog: &Catalog, shape: &str) -> Result<String> {
    let mut known = Vec::new();
    for name in catalog.registry.names(Kind::Model) {
        let Ok(note) = catalog.plugin_note(catalog.registry.adapter(Kind::Model, &name)?) else {
            continue; // a plugin that was not built knows no shape either
        };
        for option in note.options.iter().filter(|option| option.name == "shape") {
            if option.allowed.contains(&json!(shape)) {
                return Ok(name);
            }
            known.extend(
                option
                    .allowed
                    .iter()
                    .filter_map(|value| value.as_str().map(str::to_owned)),
            );
        }
    }
    let failure = Failure::usage(format!("no model of the registry knows the shape `{shape}`"));
    Err(failure.help(match known.is_empty() {
        true => "none knows any; a model's setting `shape` lists those that it knows".to_owned(),
        false => format!("known are {}", known.join(", ")),
    }))
}

fn boundary(plugin: Option<PathBuf>, samples: usize, common: &Common) -> Result<Exit> {
    let plugin = match plugin {
        Some(file) => {
            std::path::absolute(&file).or_fail(Exit::Missing, || format!("there is no plugin `{}`", file.display()))?
        }
        None => bench::plugin_beside_us()?,
    };
    let plan = Plan {
        plugin,
        samples,
        registry: common.registry.clone(),
    };
    let speaks = common.shows_progress();
    let figures = bench::measure(&plan, &|what| {
        if speaks {
            note(&format!("measuring: {what}"));
        }
    })?;
    match common.json {
        true => print(&(serde_json::to_string_pretty(&bench::as_json(&figures)).unwrap_or_default() + "\n")),
        false => print(&bench::table(&figures)),
    }
    Ok(Exit::Ok)
}
