//! `--shard 3/16`: a part of a run for one of several machines, and how samples are dealt out.
//!
//! Samples are sorted by a hash of the seed and of their cluster or id, and dealt out in turn, whole clusters at a
//! time. Dealing by place could give a shard only one kind of sample if the data are regular. The hash is SHA-256, so
//! that every machine deals alike. The shard is not part of a run's identity: `host join` joins all shards into one
//! run.

use super::store::hash::hash_all;
use plugin_api::client::TaskClient;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The shard's number, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shard {
    pub index: usize,
    pub of: usize,
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Shard, String> {
        let wrong = || format!("expected INDEX/COUNT such as `3/16`, got `{text}`");
        let (index, of) = text.split_once('/').ok_or_else(wrong)?;
        let number = |text: &str| text.trim().parse::<usize>().map_err(|_| wrong());
        let (index, of) = (number(index)?, number(of)?);
        match index < of {
            true => Ok(Shard { index, of }),
            false => Err(format!("shards count from 0: `{text}` is not one of {of}")),
        }
    }
}

impl Shard {
    /// The end of the run directory's name.
    pub fn suffix(self) -> String {
        format!("-shard-{}-of-{}", self.index, self.of)
    }

    /// This shard's part of a selection, in the order of the data.
    pub fn deal(self, task: &TaskClient, seed: u64, selection: &[usize]) -> Vec<usize> {
        let unit = |index: &usize| {
            let sample = task.sample(*index);
            let name = match &sample {
                Ok(sample) => json!(
                    sample
                        .cluster
                        .as_ref()
                        .map_or(["sample", &sample.id], |name| ["cluster", name])
                ),
                // This sample will fail, in one shard only.
                Err(_) => json!(["place", index]),
            };
            hash_all(&[&Value::from(seed), &name])
        };
        let units: Vec<String> = selection.iter().map(unit).collect();
        let mut turns: BTreeMap<&str, usize> = units.iter().map(|unit| (unit.as_str(), 0)).collect();
        for (turn, place) in turns.values_mut().enumerate() {
            *place = turn % self.of;
        }
        let mine = |unit: &String| turns[unit.as_str()] == self.index;
        let kept = selection.iter().zip(&units).filter(|(_, unit)| mine(unit));
        kept.map(|(index, _)| *index).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_an_index_below_a_count() {
        assert_eq!("3/16".parse(), Ok(Shard { index: 3, of: 16 }));
        for wrong in ["16/16", "3", "a/b", "-1/4", "0/0", ""] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
        assert_eq!("3/16".parse::<Shard>().unwrap().suffix(), "-shard-3-of-16");
    }
}
