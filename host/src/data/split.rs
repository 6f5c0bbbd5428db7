//! Splits a task's rows into files: one for each value of a group, or a random share and the rest.

use crate::failure::{Failure, Result};
use plugin_api::Sample;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// The file of each sample, by its value in a group. `None` is for samples without a value.
pub fn by_group(group: &str, samples: &[Sample]) -> Result<Vec<String>> {
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    let mut known: BTreeSet<&str> = BTreeSet::new();
    let mut files = Vec::new();
    for sample in samples {
        known.extend(sample.groups.keys().map(String::as_str));
        let value = sample.groups.get(group).map_or("none", String::as_str);
        names.insert(value, value);
        files.push(format!("{}_{}.jsonl", plain(group), plain(value)));
    }
    if !known.contains(group) {
        let failure = Failure::usage(format!("no sample is counted under `{group}`"));
        return Err(failure.help(match known.len() {
            0 => "this task has no groups; `--fraction` draws a share".to_owned(),
            _ => format!("there are `{}`", known.into_iter().collect::<Vec<_>>().join("`, `")),
        }));
    }
    let different: BTreeSet<String> = names.keys().map(|value| plain(value)).collect();
    if different.len() < names.len() {
        let message = format!("two values of `{group}` give the same file name");
        return Err(Failure::usage(message).cause(names.into_keys().collect::<Vec<_>>().join(", ")));
    }
    Ok(files)
}

/// A name that every file system allows.
fn plain(name: &str) -> String {
    let kept = |letter: char| {
        if letter.is_alphanumeric() || "-.".contains(letter) {
            letter
        } else {
            '_'
        }
    };
    name.chars().map(kept).collect()
}

/// The file of each sample: the random share, or the rest.
///
/// Samples of one cluster (a passage, a clip) stay together, or one part would leak into the other. The draw depends on
/// the seed and the samples' ids, and not on their order.
pub fn by_fraction(fraction: f64, seed: u64, samples: &[Sample]) -> Vec<String> {
    let cluster = |sample: &Sample| sample.cluster.clone().unwrap_or_else(|| sample.id.clone());
    let mut sizes: BTreeMap<String, usize> = BTreeMap::new();
    for sample in samples {
        *sizes.entry(cluster(sample)).or_default() += 1;
    }
    let mut order: Vec<([u8; 32], &String)> = sizes
        .keys()
        .map(|name| (Sha256::digest(format!("{seed}/{name}")).into(), name))
        .collect();
    order.sort();
    let wanted = (samples.len() as f64 * fraction).round() as usize;
    let (mut drawn, mut count) = (BTreeSet::new(), 0);
    for (_, name) in order {
        // The last cluster is taken back if fewer samples come nearer to the share.
        let with = count + sizes[name];
        if with.abs_diff(wanted) > count.abs_diff(wanted) || count >= wanted {
            break;
        }
        count = with;
        drawn.insert(name.clone());
    }
    let file = |sample: &Sample| match drawn.contains(&cluster(sample)) {
        true => "drawn.jsonl".to_owned(),
        false => "rest.jsonl".to_owned(),
    };
    samples.iter().map(file).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(levels: &[&str]) -> Vec<Sample> {
        let sample = |(index, level): (usize, &&str)| Sample {
            id: index.to_string(),
            groups: match *level {
                "" => BTreeMap::new(),
                level => [("level".to_owned(), level.to_owned())].into(),
            },
            ..Sample::default()
        };
        levels.iter().enumerate().map(sample).collect()
    }

    #[test]
    fn each_value_has_its_file() {
        let files = by_group("level", &samples(&["1", "2", "1", "", "a/b"])).unwrap();
        assert_eq!(
            files,
            [
                "level_1.jsonl",
                "level_2.jsonl",
                "level_1.jsonl",
                "level_none.jsonl",
                "level_a_b.jsonl"
            ]
        );
        let failure = by_group("lvel", &samples(&["1"])).unwrap_err();
        assert_eq!(failure.error.help.as_deref(), Some("there are `level`"));
        assert!(by_group("level", &samples(&["a/b", "a_b"])).is_err());
    }

    #[test]
    fn a_share_is_drawn_by_name_and_cluster() {
        let mut all = samples(&[""; 100]);
        for (index, sample) in all.iter_mut().enumerate().take(40) {
            sample.cluster = Some(format!("page {}", index / 2));
        }
        let drawn = |samples: &[Sample], seed: u64| -> BTreeSet<String> {
            let files = by_fraction(0.3, seed, samples);
            let drawn = samples.iter().zip(files).filter(|(_, file)| file == "drawn.jsonl");
            drawn.map(|(sample, _)| sample.id.clone()).collect()
        };
        let first = drawn(&all, 7);
        assert!((29..=31).contains(&first.len()), "{first:?}");
        for pair in 0..20 {
            let [a, b] = [2 * pair, 2 * pair + 1].map(|id| first.contains(&id.to_string()));
            assert_eq!(a, b, "a cluster goes together");
        }
        assert_ne!(first, drawn(&all, 8));
        all.reverse();
        assert_eq!(first, drawn(&all, 7));
        assert_eq!(by_fraction(1.0, 0, &all[..3]), ["drawn.jsonl"; 3]);
    }
}
