//! `host score RUN` without a judge: the run's own task scores its answers, again or for the first time.

use super::config::Config;
use super::{Common, Flags, note, print};
use crate::ask::roles::Roles;
use crate::catalog::Catalog;
use crate::failure::{Exit, Failure, Result};
use crate::registry::Registry;
use crate::run::context::task_identity;
use crate::run::directory::RunDirectory;
use crate::run::finish::demo_mark;
use crate::run::results::{self, Summary};
use crate::score::by_task::Rescoring;
use plugin_api::client::TaskClient;
use plugin_api::{Kind, TaskCard};
use serde_json::{Value, json};

/// How the task is made, if not as the run had it.
#[derive(Debug, Clone, clap::Args)]
pub struct TaskArgs {
    /// A setting of the run's task, in place of the run's own
    #[arg(short = 'T', value_name = "KEY=VALUE", conflicts_with_all = ["judge", "task"])]
    task_settings: Vec<String>,
    /// Score again what the same scorer has already scored
    #[arg(long, conflicts_with_all = ["judge", "task"])]
    fresh: bool,
    /// Score again what the same scorer failed on
    #[arg(long, conflicts_with_all = ["judge", "task"])]
    retry_errors: bool,
}

/// Sums up a run whose answers are scored already, as its own settings say.
pub(super) fn resum(
    run: &RunDirectory,
    places: &[u64],
    identity: Value,
    catalog: &Catalog,
    roles: &Roles,
) -> Result<(Summary, Value)> {
    let task = task_of_run(run, &[], catalog)?;
    score_by(task, run, places, Some(identity), catalog, roles, [false, false])
}

/// Scores a run's answers by its task.
pub(super) fn rescore(
    run: &RunDirectory,
    places: &[u64],
    args: &TaskArgs,
    catalog: &Catalog,
    roles: &Roles,
    common: &Common,
) -> Result<Exit> {
    let task = task_of_run(run, &args.task_settings, catalog)?;
    let again = [args.fresh, args.retry_errors];
    let (summary, results) = score_by(task, run, places, None, catalog, roles, again)?;
    match common.json {
        true => {
            let whole: Value = json!({ "results": results });
            print(&(serde_json::to_string_pretty(&whole).unwrap_or_default() + "\n"));
        }
        false => print(&results::table(&[summary], results::Groups::Hint)),
    }
    if !common.quiet && common.shows_progress() {
        note(&format!("results: {}", run.path.join("results.json").display()));
    }
    Ok(Exit::Ok)
}

/// Scores by this task. Without an identity the run keeps its own.
fn score_by(
    task: RunTask,
    run: &RunDirectory,
    places: &[u64],
    identity: Option<Value>,
    catalog: &Catalog,
    roles: &Roles,
    [fresh, retry_errors]: [bool; 2],
) -> Result<(Summary, Value)> {
    let demo = demo_of(&task.config, &task.card, catalog)?;
    let rescoring = Rescoring {
        run,
        places,
        client: &task.client,
        card: &task.card,
        task: task.identity,
        identity: identity.or(task.config.resolved).unwrap_or_default(),
        roles,
        fresh,
        retry_errors,
        demo,
    };
    rescoring.run()
}

/// The mark of a run that was a demo.
fn demo_of(config: &Config, card: &TaskCard, catalog: &Catalog) -> Result<Option<String>> {
    let one = |names: &Option<super::config::Names>| names.clone().and_then(|names| names.list().into_iter().next());
    let (true, Some(model), Some(task)) = (config.demo, one(&config.model), one(&config.task)) else {
        return Ok(None);
    };
    let registry = catalog.registry;
    // What a model was taught is unknown once the registry no longer has it.
    let taught = registry
        .adapter(Kind::Model, &model)
        .is_ok_and(|spec| spec.keeps_demo(&config.given(&config.model_settings)) && spec.taught.contains(&card.name));
    let as_it_is = registry.adapter(Kind::Task, &task)?;
    let as_it_is = as_it_is.keeps_demo(&config.given(&config.task_settings));
    Ok(Some(demo_mark(&model, taught && as_it_is)))
}

/// The task of a run, made as the run had it.
pub(super) struct RunTask {
    config: Config,
    pub client: TaskClient,
    pub card: TaskCard,
    identity: Value,
}

/// Makes the task of a run again, with these settings laid over those that the run had.
pub(super) fn task_of_run(run: &RunDirectory, settings: &[String], catalog: &Catalog) -> Result<RunTask> {
    let config = Config::read(&run.path.join("run.toml"))?;
    let names = config.task.clone().map(super::config::Names::list).unwrap_or_default();
    let [name] = names.as_slice() else {
        return Err(Failure::missing("the run's `run.toml` names no task"));
    };
    let demo = Catalog {
        demo: config.demo,
        ..*catalog
    };
    known(catalog.registry, name)?;
    let flags = Flags::parse("-T", settings)?.over(config.given(&config.task_settings));
    flags.check_names(Kind::Task, std::slice::from_ref(name))?;
    let resolved = demo.resolve(Kind::Task, name, &flags.of(name))?;
    let client = resolved.task()?;
    let card = client.card()?;
    let identity = task_identity(&resolved, &card);
    Ok(RunTask {
        config,
        client,
        card,
        identity,
    })
}

/// An error when the registry no longer has the run's task.
fn known(registry: &Registry, name: &str) -> Result<()> {
    let spec = registry.adapter(Kind::Task, name);
    spec.map(drop)
        .map_err(|failure| failure.context(format!("the run's task `{name}` is needed to score it")))
}
