//! Counts of a task's samples, in all and by group.

use super::Troubles;
use crate::table::{Align, Table};
use plugin_api::{Sample, TaskCard};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Counts over samples.
#[derive(Debug, Default)]
pub struct Stats {
    samples: u64,
    without_target: u64,
    with_clips: u64,
    twice: u64,
    ids: BTreeSet<String>,
    clusters: BTreeSet<String>,
    options: BTreeMap<usize, u64>,
    groups: BTreeMap<String, BTreeMap<String, u64>>,
    pub troubles: Troubles,
}

impl Stats {
    pub fn add(&mut self, sample: Sample) {
        self.samples += 1;
        self.without_target += u64::from(sample.target.is_null());
        self.with_clips += u64::from(!sample.clips.is_empty());
        if !sample.choices.is_empty() {
            *self.options.entry(sample.choices.len()).or_default() += 1;
        }
        for (group, value) in sample.groups {
            *self.groups.entry(group).or_default().entry(value).or_default() += 1;
        }
        self.clusters.extend(sample.cluster);
        self.twice += u64::from(!self.ids.insert(sample.id));
    }

    pub fn to_json(&self, task: &str, card: &TaskCard) -> Value {
        json!({
            "task": task, "version": card.version, "split": card.split, "samples": self.samples,
            "unreadable": self.troubles.count, "without_target": self.without_target, "with_clips": self.with_clips,
            "ids_twice": self.twice, "clusters": self.clusters.len(), "options": self.options, "groups": self.groups,
        })
    }

    pub fn table(&self) -> String {
        let mut table = Table::new(&[
            ("Samples", Align::Left),
            ("", Align::Left),
            ("n", Align::Right),
            ("", Align::Right),
        ]);
        let mut line = |name: &str, value: &str, count: u64| {
            let share = 100.0 * count as f64 / self.samples.max(1) as f64;
            table.row([name, value, &count.to_string(), &format!("{share:.1}%")]);
        };
        line("all", "", self.samples);
        for (name, count) in [
            ("unreadable", self.troubles.count),
            ("without a target", self.without_target),
            ("with clips", self.with_clips),
            ("with the id of another", self.twice),
            ("clusters", self.clusters.len() as u64),
        ] {
            if count > 0 {
                line(name, "", count);
            }
        }
        for (options, count) in &self.options {
            line("options", &options.to_string(), *count);
        }
        for (group, values) in &self.groups {
            for (value, count) in values {
                line(group, value, *count);
            }
        }
        table.render()
    }
}
