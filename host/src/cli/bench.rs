//! `host bench`.

use super::{Common, Flags, names, note, print, stop_on_signals};
use crate::bench::model::{Process, Work, measure, timed};
use crate::bench::sweep::{self, SweepWork};
use crate::bench::{self, Plan, score};
use crate::catalog::{Catalog, Resolved};
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
    /// Measure what a call into a plugin costs, what opening one costs, and what a long run takes
    Boundary {
        /// A build of the `fixture-echo` plugin [default: the one beside this program]
        #[arg(long, value_name = "FILE")]
        plugin: Option<PathBuf>,
        /// Samples of the long run; the short one has a tenth of them
        #[arg(long, value_name = "N", default_value_t = 100_000)]
        samples: usize,
    },
    /// Measure how many replies a second each task scores, on its demo data unless settings say otherwise
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
    /// Measure how fast a model reads prompts, writes answers and scores options
    #[command(after_help = "Examples:
  host bench model --shape qwen3-0.6b -M dtype=bf16        # random weights, no checkpoint needed
  host bench model --model qwen3 -M weights=/models/x --json")]
    Model {
        #[command(flatten)]
        model: ModelArgs,
    },
    /// Measure a faithfulness sweep over one chain against its conditions asked separately and its longest one alone
    #[command(after_help = "Examples:
  host bench sweep --demo --model qwen2-audio
  host bench sweep --shape qwen2-audio-nano --sentences 8 --clip 30 --json")]
    Sweep {
        #[command(flatten)]
        model: ModelArgs,
        /// Sentences in the chain; the sweep has one condition more
        #[arg(long, value_name = "N", default_value_t = 8)]
        sentences: usize,
        /// Words in each sentence
        #[arg(long, value_name = "N", default_value_t = 8)]
        words: usize,
        /// Words in the question
        #[arg(long, value_name = "N", default_value_t = 24)]
        question: usize,
        /// Seconds of the clip, for a model that hears
        #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
        clip: f64,
        /// How often to measure; the median is reported
        #[arg(long, value_name = "N", default_value_t = 3)]
        times: usize,
        /// Use the toy weights that come with the repository
        #[arg(long)]
        demo: bool,
    },
}

/// The model that a bench is about.
#[derive(Debug, Clone, clap::Args)]
pub struct ModelArgs {
    /// The model, by its registry name
    #[arg(long, short = 'm', value_name = "NAME", required_unless_present = "shape")]
    model: Option<String>,
    /// Random weights of this shape, with the model that knows it
    #[arg(long, value_name = "SHAPE")]
    shape: Option<String>,
    /// A setting of the model
    #[arg(short = 'M', value_name = "KEY=VALUE")]
    model_settings: Vec<String>,
}

impl ModelArgs {
    /// The model of this name, or else the one that knows the shape.
    fn resolve(&self, catalog: &Catalog) -> Result<Resolved> {
        let flags = Flags::parse("-M", &self.model_settings)?;
        let model = match (&self.model, &self.shape) {
            (Some(model), _) => model.clone(),
            (None, shape) => model_of_shape(catalog, shape.as_deref().unwrap_or_default())?,
        };
        let mut given = flags.of(&model);
        if let Some(shape) = &self.shape {
            let base = std::env::current_dir().unwrap_or_default();
            let place = "--shape".to_owned();
            let value = shape.as_str().into();
            given.insert("shape".to_owned(), Given { value, base, place });
        }
        catalog.resolve(Kind::Model, &model, &given)
    }
}

pub fn bench(args: BenchArgs, common: &Common) -> Result<Exit> {
    match args.what {
        What::Boundary { plugin, samples } => boundary(plugin, samples, common),
        What::Score { task, task_settings } => of_scorers(&task, &task_settings, common),
        What::Model { model } => of_model(&model, common),
        What::Sweep {
            model,
            sentences,
            words,
            question,
            clip,
            times,
            demo,
        } => {
            if sentences == 0 || words == 0 || question == 0 || !(clip > 0.0 && clip <= 3600.0) {
                let message =
                    "`--sentences`, `--words` and `--question` must be at least 1, `--clip` up to 3600 seconds";
                return Err(Failure::usage(message));
            }
            let work = SweepWork {
                sentences,
                words,
                question,
                clip,
                times,
            };
            of_sweep(&model, work, demo, common)
        }
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

fn of_sweep(model: &ModelArgs, work: SweepWork, demo: bool, common: &Common) -> Result<Exit> {
    let stop = stop_on_signals();
    common.with_catalog(demo, &stop, |catalog| {
        let resolved = model.resolve(catalog)?;
        let speaks = common.shows_progress();
        let say = |what: &str| {
            if speaks {
                note(&format!("measuring: {what}"));
            }
        };
        let figures = sweep::measure(&resolved.make()?, work, &say)?;
        match common.json {
            true => print(&(serde_json::to_string_pretty(&sweep::sweep_as_json(&figures)).unwrap_or_default() + "\n")),
            false => print(&sweep::sweep_table(&figures)),
        }
        Ok(Exit::Ok)
    })
}

fn of_model(model: &ModelArgs, common: &Common) -> Result<Exit> {
    let stop = stop_on_signals();
    common.with_catalog(false, &stop, |catalog| {
        let resolved = model.resolve(catalog)?;
        let speaks = common.shows_progress();
        let say = |what: &str| {
            if speaks {
                note(&format!("measuring: {what}"));
            }
        };
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

/// The model whose setting `shape` lists this shape. The host itself knows no model by name.
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
        true => "no model lists any in its setting `shape`".to_owned(),
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
