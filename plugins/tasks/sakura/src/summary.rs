//! Figures over many scores: for each track and hop, their unweighted means over the tracks, and the paper's main
//! figure, multi-hop accuracy given a right answer to the single-hop question about the same clip.
//!
//! The same figures are computed for every score that a sample has, so the official accuracy by a judge and our own by
//! rule stand beside each other under their own names. Questions about one clip are one cluster.

use plugin_api::{Metric, Row, Status};
use score::Ratio;
use std::collections::BTreeMap;

/// The rule's score, and a judge's by the official protocol.
pub(crate) const RULE: &str = "rule_acc";
pub(crate) const JUDGE: &str = "judge_acc";
/// The share of judges' replies without a judgement. They count as wrong.
pub(crate) const INVALID: &str = "judge_invalid";

/// How answers are read before the judge's scores: by the judge itself.
const OFFICIAL: &str = "protocol";

/// The groups that are reported for each score.
const GROUPS: [&str; 5] = ["track", "hop", "set", "label", "gender"];

/// How a clip's single-hop questions went, and its multi-hop ones.
#[derive(Debug, Clone, Default)]
struct Clip {
    track: String,
    single: Option<bool>,
    multi: Vec<f64>,
}

/// All sums of one score.
#[derive(Debug, Default)]
struct Sums {
    all: (Ratio, u64),
    groups: BTreeMap<String, (Ratio, u64)>,
    clips: BTreeMap<String, Clip>,
}

impl Sums {
    fn add(&mut self, row: &Row, value: f64) {
        let cluster = row.sample.cluster.as_deref().unwrap_or(&row.sample.id);
        let add = |sums: &mut (Ratio, u64)| {
            sums.0.add(cluster, value, 1.0);
            sums.1 += 1;
        };
        add(&mut self.all);
        for group in GROUPS {
            if let Some(member) = row.sample.groups.get(group) {
                add(self.groups.entry(format!("{group}={member}")).or_default());
            }
        }
        let of = |group: &str| row.sample.groups.get(group).map_or("", String::as_str);
        let clip = self.clips.entry(cluster.to_owned()).or_default();
        of("track").clone_into(&mut clip.track);
        match of("hop") {
            "single" => clip.single = Some(clip.single.unwrap_or(true) && value == 1.0),
            "multi" => clip.multi.push(value),
            _ => {}
        }
    }

    /// Multi-hop accuracy over the clips with a right single-hop answer: overall, and for each track.
    fn given_single(&self) -> BTreeMap<Option<String>, (Ratio, u64)> {
        let mut ratios: BTreeMap<Option<String>, (Ratio, u64)> = BTreeMap::new();
        for (name, clip) in self.clips.iter().filter(|(_, clip)| clip.single == Some(true)) {
            for value in &clip.multi {
                for group in [None, Some(format!("track={}", clip.track))] {
                    let sums = ratios.entry(group).or_default();
                    sums.0.add(name, *value, 1.0);
                    sums.1 += 1;
                }
            }
        }
        ratios
    }

    /// The unweighted mean of a hop's figures over the tracks.
    fn mean_over_tracks(&self, name: &str, hop: &str) -> Option<Metric> {
        let ending = format!("-{hop}");
        let tracks = self.groups.iter();
        let tracks: Vec<&(Ratio, u64)> = tracks
            .filter(|(group, _)| group.starts_with("set=") && group.ends_with(&ending))
            .map(|(_, sums)| sums)
            .collect();
        let count = tracks.len() as f64;
        let values: Option<Vec<f64>> = tracks.iter().map(|(ratio, _)| ratio.value()).collect();
        let value = values?.iter().sum::<f64>() / count;
        // The tracks share no clip, so their errors are independent.
        let errors: Option<Vec<f64>> = tracks.iter().map(|(ratio, _)| ratio.stderr()).collect();
        let stderr = errors.map(|errors| errors.iter().map(|error| error * error).sum::<f64>().sqrt() / count);
        (count > 0.0).then(|| Metric {
            name: format!("{name}_{hop}"),
            value,
            stderr,
            interval: stderr.filter(|error| *error > 0.0).map(|error| {
                let half = score::Z * error;
                ((value - half).max(0.0), (value + half).min(1.0))
            }),
            count: tracks.iter().map(|(_, samples)| samples).sum(),
            ..Metric::default()
        })
    }
}

fn metric(name: &str, group: Option<String>, (ratio, count): &(Ratio, u64)) -> Metric {
    let value = ratio.value().unwrap_or(f64::NAN);
    let stderr = ratio.stderr();
    Metric {
        name: name.to_owned(),
        value,
        stderr,
        interval: ratio.interval(value, stderr, true),
        count: *count,
        group,
        ..Metric::default()
    }
}

/// The figures of all scores.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    scores: BTreeMap<String, Sums>,
}

impl Summary {
    /// Adds a finished sample. One that can't be scored is left out, as the host leaves it out of its means.
    pub fn add(&mut self, row: &Row) {
        if row.score.status == Status::Unscored {
            return;
        }
        for (name, value) in &row.score.values {
            self.scores.entry(name.clone()).or_default().add(row, *value);
        }
    }

    /// For each score: all samples, the two hops' means over tracks, and multi-hop given single-hop; then each group.
    pub fn metrics(&self) -> Vec<Metric> {
        let mut metrics = Vec::new();
        let mut of_groups = Vec::new();
        for name in [JUDGE, RULE, INVALID] {
            let Some(sums) = self.scores.get(name) else { continue };
            metrics.push(metric(name, None, &sums.all));
            let groups = sums.groups.iter();
            of_groups.extend(groups.map(|(group, sums)| metric(name, Some(group.clone()), sums)));
            if name == INVALID {
                continue;
            }
            metrics.extend(
                ["single", "multi"]
                    .iter()
                    .filter_map(|hop| sums.mean_over_tracks(name, hop)),
            );
            for (group, ratio) in sums.given_single() {
                let metric = metric(&format!("{name}_multi_given_single"), group, &ratio);
                match metric.group {
                    None => metrics.push(metric),
                    Some(_) => of_groups.push(metric),
                }
            }
        }
        metrics.extend(of_groups);
        for metric in metrics.iter_mut().filter(|metric| !metric.name.starts_with(RULE)) {
            metric.filter = OFFICIAL.to_owned();
        }
        metrics
    }
}
