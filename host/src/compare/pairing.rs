//! Which records of two runs belong together, and whether the runs may be compared at all.

use super::side::{Entry, Key, Side, UNSCORED};
use crate::failure::{Exit, Failure, Result};
use std::collections::BTreeSet;

/// Facts that matter but may differ between two runs if allowed by name.
#[derive(Debug, Clone, Default)]
pub struct Across(BTreeSet<String>);

/// The values of `--across`.
pub const ACROSS: [&str; 6] = ["task", "task-version", "data", "scorer", "prompts", "judges"];

impl Across {
    /// Reads the names; an unknown one is an error that lists the known ones.
    pub fn parse(names: &[String]) -> Result<Across> {
        for name in names {
            if !ACROSS.contains(&name.as_str()) {
                let failure = Failure::usage(format!("unknown name `{name}` in `--across`"));
                return Err(failure.help(format!("expected one of {}", ACROSS.join(", "))));
            }
        }
        Ok(Across(names.iter().cloned().collect()))
    }

    pub fn allows(&self, name: &str) -> bool {
        self.0.contains(name)
    }
}

/// Samples that could not be paired, by reason.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Missing {
    pub only_first: Vec<Key>,
    pub only_second: Vec<Key>,
    /// Failed or unscored on at least one side, with the reason and the side.
    pub without_score: Vec<(Key, String)>,
}

/// The paired records of two runs.
#[derive(Debug)]
pub struct Pairs<'a> {
    pub first: &'a Side,
    pub second: &'a Side,
    pub pairs: Vec<(&'a Key, &'a Entry, &'a Entry)>,
    /// Pairs that both sides answered and that the task left unscored on at least one side.
    pub unscored: Vec<(&'a Entry, &'a Entry)>,
    pub missing: Missing,
    /// Pairs whose prompts differ; always 0 without `--across prompts`.
    pub other_prompts: usize,
}

/// Pairs two runs, or says why they can't be compared.
pub fn pair<'a>(first: &'a Side, second: &'a Side, across: &Across) -> Result<Pairs<'a>> {
    check(first, second, across)?;
    let (mut pairs, mut unscored) = (Vec::new(), Vec::new());
    let (mut missing, mut other_prompts) = (Missing::default(), 0);
    for (key, mine) in &first.entries {
        let Some(theirs) = second.entries.get(key) else {
            missing.only_first.push(key.clone());
            continue;
        };
        if mine.prompt != theirs.prompt {
            if !across.allows("prompts") {
                return Err(differ(
                    "prompts",
                    &format!("the prompt of sample `{}`", key.sample),
                    (first, &format!("{:032x}", mine.prompt)),
                    (second, &format!("{:032x}", theirs.prompt)),
                ));
            }
            other_prompts += 1;
        }
        let reasons = [(first, &mine.missing), (second, &theirs.missing)];
        let reasons: Vec<String> = reasons
            .iter()
            .filter_map(|(side, why)| why.as_ref().map(|why| format!("{why} in {}", side.name)))
            .collect();
        match reasons.is_empty() {
            true => pairs.push((key, mine, theirs)),
            false => {
                missing.without_score.push((key.clone(), reasons.join(", ")));
                let answered = |entry: &Entry| matches!(entry.missing, None | Some(UNSCORED));
                if answered(mine) && answered(theirs) {
                    unscored.push((mine, theirs));
                }
            }
        }
    }
    missing.only_second = second
        .entries
        .keys()
        .filter(|key| !first.entries.contains_key(key))
        .cloned()
        .collect();
    let common = pairs.len() + missing.without_score.len();
    let most = first.entries.len().max(second.entries.len());
    if common * 2 < most || common == 0 {
        let failure = Failure::usage(format!(
            "cannot compare `{}` with `{}`: {common} of {most} samples are in both, expected at least half",
            first.path, second.path
        ));
        return Err(failure.help("run both with the same `--limit` and `--samples`"));
    }
    Ok(Pairs {
        first,
        second,
        pairs,
        unscored,
        missing,
        other_prompts,
    })
}

fn check(first: &Side, second: &Side, across: &Across) -> Result<()> {
    for side in [first, second] {
        if !side.finished {
            let failure = Failure::usage(format!("cannot compare `{}`: the run is not finished", side.path));
            return Err(failure.help("the command that started it resumes where it stopped"));
        }
    }
    let names: BTreeSet<&String> = first.facts.keys().chain(second.facts.keys()).collect();
    for name in names {
        let of = |side: &Side| side.facts.get(name).cloned().unwrap_or_else(|| "none".to_owned());
        let (mine, theirs) = (of(first), of(second));
        let family = name.split('.').next().unwrap_or(name);
        // A judge that ruled on only one side has no metric to compare.
        let one_sided = family == "judges" && (mine == "none" || theirs == "none");
        if mine != theirs && !one_sided && !across.allows(family) {
            return Err(differ(family, name, (first, &mine), (second, &theirs)));
        }
    }
    Ok(())
}

fn differ(name: &str, what: &str, (first, mine): (&Side, &str), (second, theirs): (&Side, &str)) -> Failure {
    Failure::new(
        Exit::Usage,
        format!("cannot compare `{}` with `{}`: {what} differs", first.path, second.path),
    )
    .cause(format!(
        "`{}` has `{mine}`, `{}` has `{theirs}`",
        first.name, second.name
    ))
    .help(format!("compare them anyway with `--across {name}`"))
}
