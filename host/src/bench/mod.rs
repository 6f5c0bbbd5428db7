//! `host bench`: speed on this machine, measured through the code that runs use. `model` is how fast a model is,
//! `score` how fast tasks score, `sweep` what a faithfulness sweep costs; the rest of this file is `boundary`, what a
//! call into a plugin costs.
//!
//! The plugin is a fixture whose model only repeats the prompt, so the time is that of the boundary and the host. Both
//! places where a plugin can run are measured by one process, since only ratios from one session can be compared
//! between machines.

mod calls;
mod folder;
pub mod model;
mod model_report;
mod report;
mod runs;
pub mod score;
pub mod sweep;

pub use calls::{Call, Opening};
pub use model_report::{model_as_json, model_table};
pub use report::{as_json, table};
pub use runs::{Listing, Run};

use crate::failure::{Failure, Result};
use folder::TempFolder;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What is to be measured.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The plugin with the model `echo` and the task `count`.
    pub plugin: PathBuf,
    /// How many samples the long run has; the short one has a tenth of it.
    pub samples: usize,
    /// Registry files that the listing is to read, beside those it always reads.
    pub registry: Vec<PathBuf>,
}

/// Everything that was measured.
#[derive(Debug, Clone)]
pub struct Figures {
    pub calls: Vec<Call>,
    pub opening: Opening,
    pub listing: Listing,
    pub runs: Vec<Run>,
}

/// Times of many calls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub count: usize,
    pub best: Duration,
    pub median: Duration,
    pub p99: Duration,
}

/// The plugin beside the running program, where a build of the workspace puts it.
pub fn plugin_beside_us() -> Result<PathBuf> {
    const NAME: &str = "libfixture_echo.so";
    let exe = std::env::current_exe().and_then(|exe| exe.canonicalize());
    let folder = exe.ok().and_then(|exe| exe.parent().map(Path::to_owned));
    let folder = folder.unwrap_or_default();
    // A program of `cargo test` finds what its tests depend on a folder deeper.
    let places = [folder.join(NAME), folder.join("deps").join(NAME)];
    places.into_iter().find(|place| place.is_file()).ok_or_else(|| {
        Failure::missing(format!("`{NAME}` is not in `{}`", folder.display()))
            .help("build it with `cargo build --release -p host -p fixture-echo`, or name one with `--plugin`")
    })
}

/// Measures everything. `say` is told what is being measured.
pub fn measure(plan: &Plan, say: &dyn Fn(&str)) -> Result<Figures> {
    let folder = TempFolder::new("host-bench")?;
    say("opening plugins and workers");
    let opening = calls::opening(&plan.plugin, folder.path())?;
    say("calling the model, here and in a worker");
    let calls = calls::calls(&plan.plugin)?;
    say("listing models");
    let listing = runs::listing(plan)?;
    let mut runs = Vec::new();
    let (short, long) = ((plan.samples / 10).max(1), plan.samples.max(1));
    for (samples, isolation) in runs::shapes(short, long) {
        say(&format!("{samples} samples, {}", isolation.word()));
        runs.push(runs::run(plan, folder.path(), samples, isolation)?);
    }
    Ok(Figures {
        calls,
        opening,
        listing,
        runs,
    })
}

/// Repeats `work` until it was done `most` times or `time` is over, but at least `least` times.
fn repeat(least: usize, most: usize, time: Duration, mut work: impl FnMut() -> Result<()>) -> Result<Spread> {
    let began = Instant::now();
    let mut times = Vec::with_capacity(most);
    while times.len() < least || (times.len() < most && began.elapsed() < time) {
        let before = Instant::now();
        work()?;
        times.push(before.elapsed());
    }
    Ok(Spread::of(times))
}

impl Spread {
    fn of(mut times: Vec<Duration>) -> Spread {
        times.sort_unstable();
        let last = times.len().saturating_sub(1);
        let at = |share: f64| {
            times
                .get((last as f64 * share).round() as usize)
                .copied()
                .unwrap_or_default()
        };
        Spread {
            count: times.len(),
            best: at(0.0),
            median: at(0.5),
            p99: at(0.99),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_stands_in_order_whatever_the_order_of_the_calls() {
        let times = (1..=201).rev().map(Duration::from_millis).collect();
        let spread = Spread::of(times);
        assert_eq!(
            [spread.best, spread.median, spread.p99].map(|time| time.as_millis()),
            [1, 101, 199]
        );
        assert_eq!(Spread::of(Vec::new()).count, 0);
    }
}
