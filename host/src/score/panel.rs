//! Verdicts of a panel's members: of each alone, and how far they agree.

use serde_json::{Value, json};
use std::collections::BTreeMap;

/// One member's rulings.
#[derive(Debug, Clone, Default)]
struct Member {
    sum: f64,
    scored: u64,
    unscored: u64,
    why: BTreeMap<String, u64>,
    versions: BTreeMap<String, u64>,
}

/// The rulings of a panel's members on a run.
#[derive(Debug, Clone, Default)]
pub struct PanelTally {
    members: BTreeMap<String, Member>,
    /// The combinations of the members' verdicts, in the order of their names, and how many answers have each.
    votes: BTreeMap<Vec<Option<String>>, u64>,
}

/// How two members agree on the answers that both ruled on.
struct Agreement {
    n: u64,
    share: Option<f64>,
    kappa: Option<f64>,
    ac1: Option<f64>,
}

impl PanelTally {
    /// Adds the members' verdicts. A verdict that needed no model has none.
    pub fn add(&mut self, panel: Option<&Value>) {
        let Some(panel) = panel.and_then(Value::as_object) else {
            return;
        };
        let mut votes = Vec::new();
        let mut sorted: Vec<(&String, &Value)> = panel.iter().collect();
        sorted.sort_by_key(|(name, _)| *name);
        for (name, said) in sorted {
            let member = self.members.entry(name.clone()).or_default();
            let word = |key: &str| said[key].as_str().map(str::to_owned);
            if let Some(version) = word("model_version") {
                *member.versions.entry(version).or_default() += 1;
            }
            if let Some(why) = word("why") {
                *member.why.entry(why).or_default() += 1;
            }
            match said["value"].as_f64() {
                Some(value) => {
                    member.sum += value;
                    member.scored += 1;
                    votes.push(Some(format!("{value} {}", said["ruling"])));
                }
                None => {
                    member.unscored += 1;
                    votes.push(None);
                }
            }
        }
        *self.votes.entry(votes).or_default() += 1;
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The members of which several versions answered.
    pub fn moved(&self) -> Vec<String> {
        let several = self.members.iter().filter(|(_, member)| member.versions.len() > 1);
        let words = several.map(|(name, member)| {
            let versions: Vec<&str> = member.versions.keys().map(String::as_str).collect();
            format!("several versions of `{name}` ruled: {}", versions.join(", "))
        });
        words.collect()
    }

    /// The share of answers with equal verdicts among those on which all members ruled, and their number.
    fn unanimous(&self) -> (Option<f64>, u64) {
        let whole = || self.votes.iter().filter(|(votes, _)| votes.iter().all(Option::is_some));
        let n: u64 = whole().map(|(_, times)| times).sum();
        let alike: u64 = whole()
            .filter(|(votes, _)| votes.iter().all(|vote| *vote == votes[0]))
            .map(|(_, times)| times)
            .sum();
        ((n > 0).then(|| alike as f64 / n as f64), n)
    }

    /// Krippendorff's alpha over all members; what a member left unscored is a gap.
    fn alpha(&self) -> Option<f64> {
        let cases = self.votes.iter().map(|(votes, times)| (votes.iter().flatten(), *times));
        statistics::krippendorff_alpha_of(cases)
    }

    fn agreement(&self, one: usize, two: usize) -> Agreement {
        let mut pairs = Vec::new();
        for (votes, times) in &self.votes {
            if let (Some(Some(a)), Some(Some(b))) = (votes.get(one), votes.get(two)) {
                pairs.extend((0..*times).map(|_| (a.as_str(), b.as_str())));
            }
        }
        let alike = pairs.iter().filter(|(a, b)| a == b).count();
        Agreement {
            n: pairs.len() as u64,
            share: (!pairs.is_empty()).then(|| alike as f64 / pairs.len() as f64),
            kappa: statistics::cohen_kappa(&pairs),
            ac1: statistics::gwet_ac1(&pairs),
        }
    }

    /// Every pair of members, by name.
    fn agreements(&self) -> Vec<(&str, &str, Agreement)> {
        let names: Vec<&str> = self.members.keys().map(String::as_str).collect();
        let mut all = Vec::new();
        for (one, first) in names.iter().enumerate() {
            for (two, second) in names.iter().enumerate().skip(one + 1) {
                all.push((*first, *second, self.agreement(one, two)));
            }
        }
        all
    }

    /// Its entry in `results.json`.
    pub fn as_json(&self) -> Value {
        let member = |member: &Member| {
            json!({
                "n": member.scored, "unscored": member.unscored, "mean": mean(member), "why": member.why,
                "model_versions": member.versions,
            })
        };
        let members: BTreeMap<&String, Value> = self.members.iter().map(|(name, one)| (name, member(one))).collect();
        let pairs: Vec<Value> = self
            .agreements()
            .into_iter()
            .map(|(first, second, agreement)| {
                json!({
                    "members": [first, second], "n": agreement.n, "agreement": agreement.share,
                    "kappa": agreement.kappa, "ac1": agreement.ac1,
                })
            })
            .collect();
        let (unanimous, n) = self.unanimous();
        json!({ "members": members, "pairs": pairs, "unanimous": unanimous, "unanimous_n": n, "alpha": self.alpha() })
    }

    /// Lines for people: each member, each pair, and all together.
    pub fn lines(&self, judge: &str) -> Vec<String> {
        let number = |value: Option<f64>| value.map_or_else(|| "not defined".to_owned(), |value| format!("{value:.4}"));
        let member = |(name, member): (&String, &Member)| {
            let (scored, unscored) = (member.scored, member.unscored);
            format!(
                "panel {judge}: {name} alone {} (scored {scored}, unscored {unscored})",
                number(mean(member))
            )
        };
        let pair = |(first, second, agreement): (&str, &str, Agreement)| {
            format!(
                "panel {judge}: {first} and {second} agree on {} of {} answers, kappa {}, AC1 {}",
                number(agreement.share),
                agreement.n,
                number(agreement.kappa),
                number(agreement.ac1),
            )
        };
        let (unanimous, n) = self.unanimous();
        let all = format!(
            "panel {judge}: all members alike on {} of {n} answers, Krippendorff's alpha {}",
            number(unanimous),
            number(self.alpha()),
        );
        let members = self.members.iter().map(member);
        members
            .chain(self.agreements().into_iter().map(pair))
            .chain([all])
            .collect()
    }
}

fn mean(member: &Member) -> Option<f64> {
    (member.scored > 0).then(|| member.sum / member.scored as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Votes of `a` and `b` and `c` on each answer: `1` right, `0` wrong, `–` unscored.
    fn tally(rows: [&str; 3]) -> PanelTally {
        let mut tally = PanelTally::default();
        let [a, b, c] = rows.map(str::chars);
        for ((a, b), c) in a.zip(b).zip(c) {
            let said = |word: char| match word {
                '1' => json!({ "ruling": "right", "value": 1.0, "why": "ok" }),
                '0' => json!({ "ruling": "wrong", "value": 0.0, "why": "ok" }),
                _ => json!({ "ruling": "unscored", "value": null, "why": "unparsable" }),
            };
            let panel = json!({ "a": said(a), "b": said(b), "c": said(c) });
            tally.add(Some(&panel));
        }
        tally
    }

    #[test]
    fn agreement_is_counted_where_members_ruled() {
        // Of krippendorff 0.9.0: nominal, with gaps.
        let tally = tally(["1011–010", "100110–0", "11111–10"]);
        let said = tally.as_json();
        assert!((said["alpha"].as_f64().unwrap() - 0.615_384_6).abs() < 1e-6, "{said}");
        assert_eq!(
            (&said["members"]["a"]["n"], &said["members"]["a"]["unscored"]),
            (&7.into(), &1.into())
        );
        assert_eq!(said["members"]["a"]["why"]["unparsable"], 1);
        // All three ruled on five answers, and alike on three of them.
        assert_eq!((&said["unanimous_n"], &said["unanimous"]), (&5.into(), &0.6.into()));
        assert_eq!(said["pairs"][0]["n"], 6);
        let lines = tally.lines("match[a+b+c]");
        assert_eq!(lines[0], "panel match[a+b+c]: a alone 0.5714 (scored 7, unscored 1)");
        assert!(
            lines[3].contains("a and b agree on 0.8333 of 6 answers, kappa 0.6667"),
            "{lines:?}"
        );
    }
}
