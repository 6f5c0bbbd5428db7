//! Calls that leave this machine: where a run keeps the ledger of them, and what a command may spend.
//!
//! A plugin that asks a service writes the ledger itself, with a line before each request is sent; the host only says
//! where. The ledger lies in the run's directory, where a resumed run finds its answers.

use super::Model;
use super::store::directory::RunDirectory;
use crate::ask::roles::{Player, Roles};
use crate::ask::transcriber::Transcriber;
use crate::failure::{Failure, Result};
use crate::score::judges::ROLE;
use plugin_api::client::ModelClient;
use plugin_api::{Code, NoCallbacks};
use serde_json::json;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The ledger's name in a run's directory.
pub const LEDGER: &str = "calls.jsonl";

/// What a command may spend, over all of its models.
#[derive(Debug, Default)]
pub struct Spending {
    pub max_cost_usd: Option<f64>,
    /// Whether models without a price may be asked although spending is limited.
    pub allow_unpriced: bool,
    /// A folder of answers that runs share.
    pub cache: Option<PathBuf>,
    /// The file in which all models of the command add up their spending, and the ledgers that are already counted.
    budget: Option<PathBuf>,
    counted: Mutex<HashSet<PathBuf>>,
}

impl Spending {
    pub fn new(max_cost_usd: Option<f64>, allow_unpriced: bool, cache: Option<PathBuf>) -> Spending {
        let name = format!("host-budget-{}-{:?}", std::process::id(), std::time::SystemTime::now());
        let name: String = name
            .chars()
            .filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-')
            .collect();
        Spending {
            budget: max_cost_usd.map(|_| std::env::temp_dir().join(name)),
            max_cost_usd,
            allow_unpriced,
            cache,
            counted: Mutex::default(),
        }
    }

    /// Tells every remote model of this run where its ledger is.
    pub fn open<'a>(
        &self,
        run: &RunDirectory,
        model: &Model,
        roles: &Roles,
        judges: impl Iterator<Item = &'a Arc<Player>>,
    ) -> Result<()> {
        if model.card.remote.is_some() {
            for copy in &model.copies {
                self.tell(&copy.client, &run.path, "model")?;
            }
        }
        self.open_roles(run, roles, judges)
    }

    /// The same for models that play roles, and for judging models.
    pub fn open_roles<'a>(
        &self,
        run: &RunDirectory,
        roles: &Roles,
        judges: impl Iterator<Item = &'a Arc<Player>>,
    ) -> Result<()> {
        let played = roles.models.iter().map(|(role, player)| (role.as_str(), player));
        for (role, player) in played.chain(judges.map(|player| (ROLE, player))) {
            if let Some(client) = &player.remote {
                self.tell(client, &run.path, role)?;
            }
        }
        Ok(())
    }

    /// The same for the transcriber.
    pub fn open_transcriber(&self, folder: &Path, transcriber: &Transcriber) -> Result<()> {
        match transcriber.remote()? {
            Some(client) => self.tell(client, folder, "transcriber"),
            None => Ok(()),
        }
    }

    /// Tells one model that its ledger is in this folder.
    fn tell(&self, client: &ModelClient, folder: &Path, role: &str) -> Result<()> {
        let file = std::path::absolute(folder.join(LEDGER)).unwrap_or_else(|_| folder.join(LEDGER));
        // Spending of a run's earlier sessions counts, once.
        let first = self
            .counted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(file.clone());
        let request = json!({
            "file": file, "role": role, "cache": self.cache, "max_cost_usd": self.max_cost_usd, "budget": self.budget,
            "allow_unpriced": self.allow_unpriced, "count_known": first,
        });
        match client.run_command("open_ledger", &request, &NoCallbacks) {
            Ok(_) => Ok(()),
            // A third-party plugin without a ledger spends unseen, which a limit can't allow.
            Err(error) if matches!(error.code, Code::UNSUPPORTED | Code::NOT_IMPLEMENTED) => match self.max_cost_usd {
                Some(_) => {
                    let failure = Failure::usage("`--max-cost-usd` is set, but a model does not report what it spends");
                    Err(failure.cause(error))
                }
                None => Ok(()),
            },
            Err(error) => Err(Failure::from(
                error.context(format!("cannot open the ledger `{}`", file.display())),
            )),
        }
    }
}

impl Drop for Spending {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            let _ = std::fs::remove_file(budget);
        }
    }
}
