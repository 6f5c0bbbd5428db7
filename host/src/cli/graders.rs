//! The flags of `host score` and `host judge probe` for the models that judge.

use super::Flags;
use super::spending::SpendingArgs;
use crate::ask::roles::Roles;
use crate::catalog::Catalog;
use crate::failure::Result;
use crate::run::directory::RunDirectory;
use crate::score::judges::{JudgeModels, ReadyJudge, Wanted, check_flags};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

#[derive(Debug, Clone, clap::Args)]
pub struct GraderArgs {
    /// A model that judges or the task may ask: the role they ask for, and the model that plays it
    #[arg(long, value_name = "ROLE=MODEL")]
    role: Vec<String>,
    /// A setting of the models that judge, as `NAME:KEY=VALUE`
    #[arg(short = 'M', value_name = "NAME:KEY=VALUE")]
    model_settings: Vec<String>,
    /// A setting of the judges
    #[arg(short = 'J', value_name = "KEY=VALUE")]
    judge_settings: Vec<String>,
    #[command(flatten)]
    spending: SpendingArgs,
}

/// Judges with the models that answer for them, loaded and within what the command may spend.
pub struct Graders {
    pub judges: Vec<ReadyJudge>,
    pub models: JudgeModels,
    pub roles: Arc<Roles>,
}

impl GraderArgs {
    /// The models that play the roles of `--role`.
    pub fn roles(&self, catalog: &Catalog, stop: &Arc<AtomicBool>) -> Result<Roles> {
        Roles::load(&self.role, &Flags::parse("-M", &self.model_settings)?, catalog, stop)
    }

    /// The judges that `--judge` names, and their settings.
    pub fn wanted(&self, names: &[String], catalog: &Catalog) -> Result<(Vec<Wanted>, Flags)> {
        let flags = Flags::parse("-J", &self.judge_settings)?;
        let wanted = Wanted::parse(catalog.registry, names)?;
        check_flags(&flags, &wanted, catalog.registry)?;
        Ok((wanted, flags))
    }

    /// Loads the models that these judges ask for a run.
    pub fn load(
        &self,
        run: &RunDirectory,
        wanted: &[Wanted],
        judges: Vec<ReadyJudge>,
        roles: Roles,
        catalog: &Catalog,
        stop: &Arc<AtomicBool>,
    ) -> Result<Graders> {
        let flags = Flags::parse("-M", &self.model_settings)?;
        let panels = judges.iter().flat_map(|judge| &judge.panel);
        let models = JudgeModels::load(wanted, panels, &flags, catalog, stop)?;
        let roles = models.for_tasks(roles, wanted);
        for judge in &judges {
            judge.check_roles(&models.roles(&roles, judge))?;
        }
        self.spending.limits().open_roles(run, &roles, models.players())?;
        Ok(Graders { judges, models, roles })
    }
}
