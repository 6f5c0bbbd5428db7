//! `host bench`.

use super::{Common, note, print};
use crate::bench::{self, Plan};
use crate::failure::{Doing, Exit, Result};
use clap::Subcommand;
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
}

pub fn bench(args: BenchArgs, common: &Common) -> Result<Exit> {
    let What::Boundary { plugin, samples } = args.what;
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
