//! The session of a command: loads models, tasks and judges, runs every model on every task, judges, and finishes.

use super::clips::ClipResolver;
use super::context::RunContext;
use super::finish::{Totals, finish};
use super::pipeline::{self, Work};
use super::plan::RunPlan;
use super::prompts::{PromptBuilder, SelectedPrompts};
use super::report;
use super::store::directory::{Place, RunDirectory, read_if_there};
use super::store::hash::hash_json;
use super::store::scores::Scorer;
use super::watchdog::{interrupted, should_stop};
use super::{Model, Options, Outcome, Task, tracked};
use crate::ask::audio_check::{self, AudioCheck};
use crate::ask::pool::{Copy, Limits, Pool};
use crate::ask::roles::Roles;
use crate::ask::transcriber::Transcriber;
use crate::audio::Clips;
use crate::catalog::{Catalog, Resolved};
use crate::failure::{Failure, Result};
use crate::score::by_judge::Judging;
use crate::score::by_task::Scoring;
use crate::score::judged::add_judged;
use crate::score::judges::{JudgeModels, ReadyJudge};
use plugin_api::{Callbacks, Kind, LoraUse};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Decoded sound that is kept for samples that share a clip.
const CLIP_CACHE: usize = 512 << 20;

/// Everything that a plan names, resolved and checked. No model is loaded yet.
pub struct Session<'a> {
    plan: &'a RunPlan,
    catalog: &'a Catalog<'a>,
    pub models: Vec<Resolved>,
    pub tasks: Vec<Task>,
    /// For each task.
    judges: Vec<Vec<ReadyJudge>>,
    transcriber: Option<Arc<Transcriber>>,
}

impl<'a> Session<'a> {
    /// Checks for everything that can be missing before any work starts.
    pub fn prepare(plan: &'a RunPlan, catalog: &'a Catalog<'a>) -> Result<Session<'a>> {
        let models = plan
            .models
            .iter()
            .map(|name| catalog.resolve(Kind::Model, name, &plan.model_flags.of(name)));
        let models = models.collect::<Result<Vec<_>>>()?;
        let task = |name: &String| {
            let resolved = catalog.resolve(Kind::Task, name, &plan.task_flags.of(name))?;
            let client = resolved.task()?;
            let (card, name) = (client.card()?, name.clone());
            Ok(Task {
                name,
                card,
                client,
                resolved,
            })
        };
        let tasks = plan.tasks.iter().map(task).collect::<Result<Vec<_>>>()?;
        let judges = tasks
            .iter()
            .map(|task| ReadyJudge::prepare(&plan.judges, &task.card, &plan.judge_flags, catalog));
        let judges = judges.collect::<Result<Vec<_>>>()?;
        let transcriber = match &plan.transcriber {
            Some(name) => {
                let resolved = catalog.resolve(Kind::Model, name, &plan.model_flags.for_name_alone(name))?;
                let (prompt, stop) = (plan.transcriber_prompt.clone(), plan.options.stop.clone());
                Some(Arc::new(Transcriber::new(resolved, prompt, stop)))
            }
            None => None,
        };
        Ok(Session {
            plan,
            catalog,
            models,
            tasks,
            judges,
            transcriber,
        })
    }

    /// Runs every model on every task, one after the other, and passes on each outcome as it comes. An interrupted run
    /// is the last.
    pub fn run(self, tell: &dyn Fn(&Outcome)) -> Result<Vec<Outcome>> {
        let plan = self.plan;
        let roles = Roles::load(&plan.roles, &plan.model_flags, self.catalog, &plan.options.stop)?;
        let panels = self.judges.iter().flatten().flat_map(|judge| &judge.panel);
        let (flags, stop) = (&plan.model_flags, &plan.options.stop);
        let graders = JudgeModels::load(&plan.judges, panels, flags, self.catalog, stop)?;
        let roles = graders.for_tasks(roles, &plan.judges);
        for judge in self.judges.iter().flatten() {
            judge.check_roles(&graders.roles(&roles, judge))?;
        }
        let mut outcomes = Vec::new();
        for resolved in self.models {
            let model = load(resolved, plan.workers)?;
            plan.loras.iter().try_for_each(|lora| check_loras(lora, &model))?;
            // The other tasks can still run; the samples of this one fail.
            if let [task] = &self.tasks[..] {
                check_choices(&model, task)?;
                check_changes(&model, task, &plan.options, self.transcriber.is_some())?;
            }
            for (task, judges) in self.tasks.iter().zip(&self.judges) {
                for lora in &plan.loras {
                    let options = Options {
                        roles: roles.clone(),
                        transcriber: self.transcriber.clone(),
                        repeat: plan.repeat(&model.resolved, &task.resolved, lora),
                        lora: lora.clone(),
                        ..plan.options.clone()
                    };
                    let mut outcome = run_pair(&model, task, &options, &graders)?;
                    if outcome.cut_short.is_none() {
                        judge(&mut outcome, task, judges, &roles, &graders)?;
                    }
                    let stopped = outcome.cut_short.is_some();
                    if !stopped {
                        outcome.tracked = tracked::report(&outcome, &options.report_to)?;
                    }
                    tell(&outcome);
                    outcomes.push(outcome);
                    if stopped {
                        return Ok(outcomes);
                    }
                }
            }
        }
        Ok(outcomes)
    }
}

/// Loads a model, once for every worker.
fn load(resolved: Resolved, workers: usize) -> Result<Model> {
    let mut copies = Vec::new();
    for _ in 0..workers.max(1) {
        let (client, made) = resolved.model()?;
        copies.push(Copy {
            client,
            control: made.control,
        });
    }
    let card = copies[0].client.card()?;
    Ok(Model {
        name: resolved.spec.name.clone(),
        deadline: resolved.plugin.spec().deadline,
        resolved,
        card,
        copies,
    })
}

/// An error if `--lora` names one that a model does not hold: better now than once per sample.
fn check_loras(wanted: &LoraUse, model: &Model) -> Result<()> {
    let LoraUse::Only(names) = wanted else {
        return Ok(());
    };
    let held = || model.card.loras.iter().map(String::as_str);
    match names.iter().find(|name| !held().any(|known| known == name.as_str())) {
        None => Ok(()),
        Some(name) => {
            let message = format!("`--lora {name}`: model `{}` holds no LoRA of this name", model.name);
            let hint = match held().next() {
                Some(_) => crate::registry::nearest_hint(name, held()),
                None => format!("give it one with `-M lora={name}=FOLDER`"),
            };
            Err(Failure::usage(message).help(hint))
        }
    }
}

/// An error if a task needs option scores and the model has none: better now than once per sample.
fn check_choices(model: &Model, task: &Task) -> Result<()> {
    if model.card.scores_choices || !task.card.needs_choices {
        return Ok(());
    }
    let message = format!(
        "task `{}` needs scores of options, which model `{}` does not give",
        task.name, model.name
    );
    let failure = Failure::refused(message);
    Err(failure.help("let the model answer in words, if the task has such a mode: `-T mode=generate`"))
}

/// An error if `--audio` would change no clip that the model hears.
fn check_changes(model: &Model, task: &Task, options: &Options, is_transcribed: bool) -> Result<()> {
    if options.audio.is_empty() || (task.card.has_clips && (model.card.hears() || is_transcribed)) {
        return Ok(());
    }
    Err(match task.card.has_clips {
        false => Failure::usage(format!("task `{}` has no clips that `--audio` could change", task.name)),
        true => Failure::usage(format!(
            "model `{}` hears no clips, so `--audio` would change nothing",
            model.name
        ))
        .help("name a model that transcribes for it with `--transcriber MODEL`"),
    })
}

/// Runs one model on one task.
fn run_pair(model: &Model, task: &Task, options: &Options, judges: &JudgeModels) -> Result<Outcome> {
    let context = RunContext::open(model, task, options)?;
    options
        .spending
        .open(&context.directory, model, &options.roles, judges.players())?;
    if let Some(transcriber) = context.transcriber {
        options
            .spending
            .open_transcriber(&context.directory.path, transcriber)?;
    }
    let (scorer_hash, graders) = (context.scorer_hash(), options.roles.graders());
    let scorer = Scorer {
        name: &task.card.name,
        hash: &scorer_hash,
        graders: &graders,
    };
    let known = context.directory.known(&scorer)?;
    let scoring = Scoring {
        task: &task.client,
        scorer,
        fresh: false,
        retry_errors: options.retry_errors,
        roles: &options.roles,
    };
    let wants = |place: &&Place| place.unscored || (place.score_failed && options.retry_errors);
    let waiting: Vec<u64> = match options.predict_only {
        true => Vec::new(),
        false => known.values().filter(wants).map(|place| place.offset).collect(),
    };
    let scores = scoring.run(&context.directory, &waiting)?;

    let stop = Arc::new(AtomicBool::new(false));
    let limits = Limits::of(&model.card, model.copies.len(), options.batch_size, model.deadline);
    let pool = Pool::start(&model.name, model.copies.clone(), &limits, stop.clone());
    let (clips, identity) = (Clips::new(CLIP_CACHE), hash_json(&context.identity));
    let builder = PromptBuilder {
        task: &task.client,
        task_name: &task.card.name,
        clips: ClipResolver {
            model: &model.card,
            transcriber: context.transcriber,
            clips: &clips,
            keep: options.keep_audio.then(|| context.directory.path.join("audio")),
            task: &task.client,
            changes: context.changes,
        },
        identity: &identity,
        plugin_hash: Some(model.resolved.plugin.sha256()),
        template_hash: task.card.other.get("template_hash").and_then(Value::as_str),
        seed: options.seed,
        chains: options.chains,
        lora: &options.lora,
    };
    let audio_check = check_audio(&context, &pool, &builder, &known)?;
    let prompts = SelectedPrompts {
        builder: &builder,
        selection: &context.selection,
    };
    let work = Work {
        context: &context,
        pool: &pool,
        stop,
        known: &known,
        scores: &scores,
        scorer: &scorer_hash,
        expected: context.expected(),
    };
    let (tally, cut_short) = pipeline::run(&work, &prompts)?;
    finish(
        &context,
        Totals {
            tally,
            scores,
            audio_check,
            cut_short,
            workers: pool.peak_memory_bytes(),
        },
    )
}

/// Whether the model hears, if this run depends on it. The finding is kept, so that it is tested once per run.
fn check_audio(
    context: &RunContext,
    pool: &Pool,
    builder: &PromptBuilder,
    known: &HashMap<String, Place>,
) -> Result<Option<AudioCheck>> {
    const FILE: &str = "hearing.json";
    let (card, options) = (&context.model.card, context.options);
    if !(card.hears() && context.task.card.has_clips) {
        return Ok(None);
    }
    let kept = read_if_there(&context.directory.path.join(FILE)).and_then(|text| serde_json::from_str(&text).ok());
    if kept.is_some() {
        return Ok(kept);
    }
    if !options.audio_check {
        return Ok(Some(AudioCheck::not_tested("left out by `--skip-hearing-test`")));
    }
    if known.len() >= context.expected() {
        return Ok(Some(AudioCheck::not_tested(
            "everything was recorded before, without a test",
        )));
    }
    let stop_asked = || should_stop(options).is_some();
    let found = audio_check::check(pool, card, builder, &context.selection, &stop_asked)?;
    if let Some(found) = &found {
        let text = serde_json::to_string(found).unwrap_or_default();
        context.directory.write_file(FILE, format!("{text}\n").as_bytes())?;
    }
    Ok(found)
}

/// Judges the records of a finished run, and adds the verdicts to the metrics.
fn judge(
    outcome: &mut Outcome,
    task: &Task,
    judges: &[ReadyJudge],
    roles: &Arc<Roles>,
    models: &JudgeModels,
) -> Result<()> {
    let graders = roles.graders();
    let clips = Clips::new(CLIP_CACHE);
    for judge in judges {
        let roles = models.roles(roles, judge);
        let run = RunDirectory::open(&outcome.directory, false)?;
        let judging = Judging {
            name: &judge.name,
            judge: &judge.client,
            deadline: judge.resolved.plugin.spec().deadline,
            identity: &judge.identity()?,
            task: Scorer {
                name: &task.card.name,
                hash: &hash_json(&outcome.results["host"]["identity"]["task"]),
                graders: &graders,
            },
            roles: &roles,
            answered_by: &outcome.results["host"]["identity"]["model"],
            chains: outcome.chains,
            clips: Some(&|record| super::clips::of_record(&task.client, &clips, record)),
        };
        let judged = judging.run(&run, &outcome.places)?;
        if let Some(why) = roles
            .stop_asked()
            .then(interrupted)
            .or_else(|| judged.cut_short.clone())
        {
            // Means over some of the verdicts would differ from means over all.
            outcome.cut_short = Some(why);
            return Ok(());
        }
        add_judged(&mut outcome.summary, &mut outcome.results, &judged);
        super::ledger::note(&mut outcome.results, &run);
        report::write(&run, &outcome.summary, &outcome.results, &report::timing_of(&run))?;
    }
    Ok(())
}
