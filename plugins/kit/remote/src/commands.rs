//! Commands of the host to a model behind HTTP: where the ledger is and what may be spent.

use crate::budget::Budget;
use crate::classify::{Class, classify};
use crate::client::Client;
use crate::http::{Body, Got};
use crate::ledger::Ledger;
use plugin_api::{Code, Context, Error, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::PathBuf;

/// The request `open_ledger`: the file of calls, who asks, and the limits.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OpenLedger {
    file: PathBuf,
    #[serde(default)]
    role: Option<String>,
    /// A folder of answers that runs share.
    #[serde(default)]
    cache: Option<PathBuf>,
    #[serde(default)]
    max_cost_usd: Option<f64>,
    /// The file in which all models of a command add up what they spend.
    #[serde(default)]
    budget: Option<PathBuf>,
    #[serde(default)]
    allow_unpriced: bool,
    /// Whether to count what earlier sessions spent towards the budget.
    #[serde(default)]
    count_known: bool,
}

impl Client {
    /// Runs a command of the host: `open_ledger` or `spent`.
    pub fn run_command(&self, command: &str, request: &Value) -> Result<Value> {
        match command {
            "open_ledger" => {
                let asked: OpenLedger =
                    serde_json::from_value(request.clone()).context("cannot read the request `open_ledger`")?;
                let ledger = Ledger::open(
                    &asked.file,
                    asked.cache.as_deref(),
                    asked.role.as_deref().unwrap_or("model"),
                )?;
                let known = ledger.summary();
                self.set_ledger(ledger);
                if let Some(most) = asked.max_cost_usd {
                    let file = asked.budget.unwrap_or_else(|| asked.file.with_file_name("budget"));
                    let budget = Budget::open(&file, most)?;
                    if asked.count_known {
                        budget.add(known.dollars + known.maybe_dollars)?;
                    }
                    self.spending().limit(budget, asked.allow_unpriced);
                }
                serde_json::to_value(known).context("cannot write the sums of the ledger")
            }
            "spent" => {
                let sums = self.ledger().map(|ledger| ledger.summary());
                Ok(json!({ "known": sums.is_some(), "sums": sums.unwrap_or_default() }))
            }
            _ => Err(Error::unsupported(format!(
                "a model behind HTTP has no command `{command}`"
            ))),
        }
    }

    /// Whether the refusal of a request that was not a prompt means that all others will fail, too; none if the
    /// service may just not offer this.
    pub fn refusal(&self, status: u16, got: Option<&Got>) -> Option<Error> {
        let got = got?;
        let text = match &got.body {
            Body::Whole(text) => text.as_str(),
            _ => "",
        };
        let fault = classify(status, &|name| got.header(name), text);
        match fault.class {
            Class::Denied(why) => Some(self.denied(why, &fault.message)),
            Class::Redirect => {
                let error = Error::new(
                    Code::MISSING,
                    format!("`{}` redirects requests, which is not followed", self.hosts()),
                );
                Some(error.help("give the redirect's target as `base_url`"))
            }
            _ => None,
        }
    }
}
