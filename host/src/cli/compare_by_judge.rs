//! `host compare A B --judge MODEL`: judges both runs, then shows the judge the answers in pairs.

use super::rescore::task_of_run;
use super::spending::SpendingArgs;
use super::{Common, Flags, note, stop_on_signals};
use crate::ask::roles::Roles;
use crate::catalog::{Catalog, Resolved};
use crate::compare::head_to_head::{Arms, Contest, Files, tally, write_files};
use crate::compare::{Across, Report, Side, compare as compare_sides, pair};
use crate::export::Recorded;
use crate::failure::{Failure, Result};
use crate::run::calls::Spending;
use crate::run::ledger::maybe_charged;
use crate::run::store::directory::RunDirectory;
use crate::score::judges::{JudgeModels, ROLE, ReadyJudge, Wanted, check_flags, members_of};
use crate::score::run::{judge_run, open};
use plugin_api::Kind;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The judge that is shown pairs.
const OF_PAIRS: &str = "winner";

#[derive(Debug, Clone, clap::Args)]
pub struct JudgingArgs {
    /// A model that judges both runs and then says which answer of each pair is better
    #[arg(long, short = 'j', value_name = "MODEL")]
    judge: Vec<String>,
    /// With `--judge auto`, the model in the role `judge`
    #[arg(long, value_name = "ROLE=MODEL", requires = "judge")]
    role: Vec<String>,
    /// A setting of the model that judges, as `NAME:KEY=VALUE`
    #[arg(short = 'M', value_name = "NAME:KEY=VALUE", requires = "judge")]
    model_settings: Vec<String>,
    /// A setting of the judges
    #[arg(short = 'J', value_name = "KEY=VALUE", requires = "judge")]
    judge_settings: Vec<String>,
    /// With `--judge`, the file that receives one line per sample; the summary and the flips are written next to it
    #[arg(long, short = 'o', value_name = "FILE", requires = "judge")]
    out: Option<PathBuf>,
    #[command(flatten)]
    spending: SpendingArgs,
}

impl JudgingArgs {
    pub fn wanted(&self) -> bool {
        !self.judge.is_empty()
    }
}

/// Judges two runs and compares them, verdicts included.
pub(super) fn compare(runs: &[PathBuf], args: &JudgingArgs, across: &Across, common: &Common) -> Result<Vec<Report>> {
    let [first, second] = runs else {
        let message = format!("`--judge` compares two runs, got {}", runs.len());
        return Err(Failure::usage(message));
    };
    let stop = stop_on_signals();
    common.with_catalog(false, &stop, |catalog| {
        let judging = Judging::prepare(first, args, catalog, &stop)?;
        // Runs that cannot be compared are an error before any model is asked.
        let read = || -> Result<[Rc<Side>; 2]> { Ok([Rc::new(Side::read(first)?), Rc::new(Side::read(second)?)]) };
        let [one, two] = read()?;
        pair(&one, &two, across)?;
        let name = judging.single(first)?;
        judging.single(second)?;
        let mut reports = compare_sides(&read()?, across)?;
        let (one, two) = (Recorded::open(first)?, Recorded::open(second)?);
        let verdicts = judging.pairs(&one, &two)?;
        let (tally, all_alike) = tally(&one, &two, &verdicts)?;
        let arms = Arms::of(&one, &two)?;
        for report in &mut reports {
            report.calls_maybe = [&one, &two].map(|run| maybe_charged(&run.directory, ROLE)).iter().sum();
            let mut said = tally.as_json();
            said["judge"] = judging.pair_name().into();
            report.head_to_head = Some(said);
            report.head_to_head_text = tally.text(&judging.pair_name());
            if let Some(out) = &args.out {
                let files = Files {
                    first: &one,
                    second: &two,
                    arms,
                    report,
                    verdicts: &verdicts,
                    judge: &name,
                    model: &judging.model,
                };
                for path in write_files(&files, &tally, &file_of(out))? {
                    note(&format!("written: {}", path.display()));
                }
            }
        }
        if all_alike && arms.second == "lora" {
            note("suspect: the LoRA changes no answer; it may not have been applied");
        }
        Ok(reports)
    })
}

/// The file of rows: as given, or in a folder under its usual name.
fn file_of(out: &Path) -> PathBuf {
    match out.extension() {
        Some(_) => out.to_owned(),
        None => out.join("comparison_results.jsonl"),
    }
}

/// The judge of a command, and the model that answers it.
struct Judging<'a> {
    catalog: &'a Catalog<'a>,
    wanted: Vec<Wanted>,
    flags: Flags,
    models: JudgeModels,
    roles: Arc<Roles>,
    /// One limit for all that the command asks.
    spending: Spending,
    /// The registry names of the models that judge: `gemini`, `qwen3+gemini+openai`.
    model: String,
    /// The judge that is shown pairs, and the models of its panel.
    of_pairs: Resolved,
    panel: Vec<String>,
}

impl<'a> Judging<'a> {
    fn prepare(
        first: &Path,
        args: &JudgingArgs,
        catalog: &'a Catalog<'a>,
        stop: &Arc<AtomicBool>,
    ) -> Result<Judging<'a>> {
        let wanted = Wanted::parse(catalog.registry, &args.judge)?;
        let ([Wanted::Model(_)] | [Wanted::Auto]) = wanted.as_slice() else {
            let failure = Failure::usage("`--judge` of two runs takes one model, or `auto`");
            return Err(failure.help("judge each run by several with `host score RUN --judge A,B`"));
        };
        let flags = Flags::parse("-J", &args.judge_settings)?;
        check_flags(&flags, &wanted, catalog.registry)?;
        let model_flags = Flags::parse("-M", &args.model_settings)?;
        let of_pairs = judge_of_pairs(&flags, catalog)?;
        let panel = members_of(&of_pairs.judge()?.card()?);
        let alone = ready(&open(first)?.0, &wanted, &flags, catalog)?;
        let roles = Roles::load(&args.role, &model_flags, catalog, stop)?;
        let panels = alone.iter().flat_map(|judge| &judge.panel).chain(&panel);
        let models = JudgeModels::load(&wanted, panels, &model_flags, catalog, stop)?;
        let roles = models.for_tasks(roles, &wanted);
        let model = match panel.is_empty() {
            true => roles.models.get(ROLE).map(|player| player.grader.model.clone()),
            false => Some(panel.join("+")),
        };
        Ok(Judging {
            catalog,
            wanted,
            flags,
            models,
            roles,
            spending: args.spending.limits(),
            model: model.unwrap_or_default(),
            of_pairs,
            panel,
        })
    }

    /// Judges one run by itself, and returns the name of its verdicts.
    fn single(&self, folder: &Path) -> Result<String> {
        let (run, places) = open(folder)?;
        let ready = ready(&run, &self.wanted, &self.flags, self.catalog)?;
        for judge in &ready {
            judge.check_roles(&self.models.roles(&self.roles, judge))?;
        }
        self.spending.open_roles(&run, &self.roles, self.models.players())?;
        judge_run(&run, &places, &ready, &self.roles, &self.models, None)?;
        Ok(ready.first().map(|judge| judge.name.clone()).unwrap_or_default())
    }

    fn pair_name(&self) -> String {
        format!("{OF_PAIRS}[{}]", self.model)
    }

    /// Shows the judge all pairs.
    fn pairs(&self, first: &Recorded, second: &Recorded) -> Result<crate::compare::head_to_head::PairVerdicts> {
        let judge = self.of_pairs.judge()?;
        self.spending
            .open_roles(&second.directory, &self.roles, self.models.players())?;
        let contest = Contest {
            name: &self.pair_name(),
            judge: &judge,
            resolved: &self.of_pairs,
            roles: &self.models.roles_of(&self.roles, None, &self.panel),
        };
        contest.run(first, second)
    }
}

/// The judge that is shown pairs, with the settings that are meant for it.
fn judge_of_pairs(flags: &Flags, catalog: &Catalog) -> Result<Resolved> {
    let note = catalog.plugin_note(catalog.registry.adapter(Kind::Judge, OF_PAIRS)?)?;
    let mut given = flags.of(OF_PAIRS);
    // This judge does not take the settings of the judge of single answers.
    let alone = flags.for_name_alone(OF_PAIRS);
    given.retain(|key, _| alone.contains_key(key) || note.options.iter().any(|option| option.name == *key));
    catalog.resolve(Kind::Judge, OF_PAIRS, &given)
}

/// The judges of a run's single answers.
fn ready(run: &RunDirectory, wanted: &[Wanted], flags: &Flags, catalog: &Catalog) -> Result<Vec<ReadyJudge>> {
    let task = task_of_run(run, &[], catalog)?;
    ReadyJudge::prepare(wanted, &task.card, flags, catalog)
}
