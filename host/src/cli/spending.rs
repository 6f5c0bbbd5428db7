//! What a command may spend on calls of services.

use crate::run::calls::Spending;
use std::path::PathBuf;

#[derive(Debug, Clone, Default, clap::Args)]
pub struct SpendingArgs {
    /// The most that the models of this command may spend on calls, in US dollars; exit with 5
    #[arg(long, value_name = "DOLLARS")]
    max_cost_usd: Option<f64>,
    /// With `--max-cost-usd`, also ask models whose price is unknown
    #[arg(long)]
    allow_unpriced: bool,
    /// A folder for services' answers that several runs share
    #[arg(long, value_name = "DIR")]
    call_cache: Option<PathBuf>,
}

impl SpendingArgs {
    pub fn limits(&self) -> Spending {
        Spending::new(self.max_cost_usd, self.allow_unpriced, self.call_cache.clone())
    }
}
