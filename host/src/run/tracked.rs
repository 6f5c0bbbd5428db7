//! A run's numbers, for the trackers that `--report-to` names.

use super::Outcome;
use crate::failure::Result;
use crate::trackers::Trackers;
use serde_json::{Map, json};

/// The W&B project, unless the environment names another.
const PROJECT: &str = "host";

/// Writes the numbers of a finished run in its directory, and returns notes for the user. A run that is resumed later
/// writes them again, in place of the earlier ones.
pub fn report(outcome: &Outcome, names: &[String]) -> Result<Option<String>> {
    if names.is_empty() {
        return Ok(None);
    }
    let given = json!({ "report_to": names, "project": PROJECT });
    let config = &outcome.results["host"]["identity"];
    let mut trackers = Trackers::new(&outcome.directory, given.as_object().unwrap_or(&Map::new()), config)?;
    trackers.begin(&[]);
    trackers.add_named(0, &named(outcome));
    Ok(trackers.finish(true))
}

/// `TASK/METRIC`, its standard error, and the same for each group.
fn named(outcome: &Outcome) -> Vec<(String, f64)> {
    let mut named = Vec::new();
    for metric in &outcome.summary.metrics {
        let group = metric
            .group
            .as_ref()
            .map(|group| format!("{group}/"))
            .unwrap_or_default();
        let name = format!("{}/{group}{}", outcome.summary.task, metric.name);
        named.extend(metric.stderr.map(|stderr| (format!("{name}_stderr"), stderr)));
        named.push((name, metric.value));
    }
    let counts = outcome.results["host"]["counts"].as_object();
    for (what, count) in counts.into_iter().flatten() {
        named.extend(
            count
                .as_f64()
                .map(|count| (format!("{}/samples/{what}", outcome.summary.task), count)),
        );
    }
    named.retain(|(_, value): &(String, f64)| value.is_finite());
    named
}
