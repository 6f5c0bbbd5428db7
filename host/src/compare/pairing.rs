//! Which records of two runs belong together, and whether the runs may be compared at all.

use super::side::{Seen, Side, UNSCORED};
use crate::failure::{Exit, Failure, Result};
use crate::run::store::hash::hex;
use serde::ser::{Serialize, SerializeStruct, Serializer};
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::rc::Rc;

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

/// The places of one sample's records on both sides.
pub type Places = (usize, usize);

/// One sample's records on both sides.
pub type Pair<'a> = (Seen<'a>, Seen<'a>);

/// Two runs that may be compared.
#[derive(Clone)]
pub struct Sides {
    pub first: Rc<Side>,
    pub second: Rc<Side>,
}

impl Sides {
    pub fn at(&self, (mine, theirs): Places) -> Pair<'_> {
        (self.first.entries.at(mine), self.second.entries.at(theirs))
    }
}

/// Samples that could not be paired, by reason.
pub struct Missing {
    sides: Sides,
    pub only_first: Vec<usize>,
    pub only_second: Vec<usize>,
    /// Failed or unscored on at least one side.
    pub without_score: Vec<Places>,
}

impl Missing {
    /// Why a pair is without a score: the reason and the side.
    fn why(&self, (mine, theirs): Pair) -> String {
        let why = |side: &Side, seen: Seen| seen.missing().map(|why| format!("{why} in {}", side.name));
        let reasons = [why(&self.sides.first, mine), why(&self.sides.second, theirs)];
        reasons.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

/// All of them by name, one after the other, since there may be millions.
impl Serialize for Missing {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        struct Each<F>(F);
        impl<T: Serialize, I: Iterator<Item = T>, F: Fn() -> I> Serialize for Each<F> {
            fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                serializer.collect_seq(self.0())
            }
        }
        let (first, second) = (&self.sides.first.entries, &self.sides.second.entries);
        let of_pair = |places: &Places| {
            let pair = self.sides.at(*places);
            (pair.0.name(), self.why(pair))
        };
        let mut all = serializer.serialize_struct("unpaired", 3)?;
        all.serialize_field(
            "only_first",
            &Each(|| self.only_first.iter().map(|index| first.at(*index).name())),
        )?;
        all.serialize_field(
            "only_second",
            &Each(|| self.only_second.iter().map(|index| second.at(*index).name())),
        )?;
        all.serialize_field("without_score", &Each(|| self.without_score.iter().map(of_pair)))?;
        all.end()
    }
}

/// The paired records of two runs.
pub struct Pairs {
    pub sides: Sides,
    pub scored: Vec<Places>,
    pub missing: Missing,
    /// Pairs whose prompts differ; always 0 without `--across prompts`.
    pub other_prompts: usize,
}

impl Pairs {
    /// Pairs that both sides answered and that the task left unscored on at least one side.
    pub fn unscored(&self) -> impl Iterator<Item = Places> {
        let answered = |seen: Seen| matches!(seen.missing(), None | Some(UNSCORED));
        let both = move |places: &Places| {
            let (mine, theirs) = self.sides.at(*places);
            answered(mine) && answered(theirs)
        };
        self.missing.without_score.iter().copied().filter(both)
    }
}

/// Pairs two runs, or says why they can't be compared.
pub fn pair(first: &Rc<Side>, second: &Rc<Side>, across: &Across) -> Result<Pairs> {
    check(first, second, across)?;
    let sides = Sides {
        first: first.clone(),
        second: second.clone(),
    };
    let (mut scored, mut other_prompts) = (Vec::new(), 0);
    let mut missing = Missing {
        sides: sides.clone(),
        only_first: Vec::new(),
        only_second: Vec::new(),
        without_score: Vec::new(),
    };
    let (ours, others) = (&first.entries, &second.entries);
    let (mut mine, mut theirs) = (0, 0);
    while mine < ours.count() || theirs < others.count() {
        let order = match (mine < ours.count(), theirs < others.count()) {
            (true, true) => ours.at(mine).key().cmp(&others.at(theirs).key()),
            (true, false) => Ordering::Less,
            (false, _) => Ordering::Greater,
        };
        match order {
            Ordering::Less => missing.only_first.push(mine),
            Ordering::Greater => missing.only_second.push(theirs),
            Ordering::Equal => {
                let (one, other) = sides.at((mine, theirs));
                if one.prompt() != other.prompt() {
                    if !across.allows("prompts") {
                        return Err(differ(
                            "prompts",
                            &format!("the prompt of sample `{}`", one.key().0),
                            (first, &hex(&one.prompt())),
                            (second, &hex(&other.prompt())),
                        ));
                    }
                    other_prompts += 1;
                }
                match one.missing().or(other.missing()) {
                    None => scored.push((mine, theirs)),
                    Some(_) => missing.without_score.push((mine, theirs)),
                }
            }
        }
        mine += usize::from(order.is_le());
        theirs += usize::from(order.is_ge());
    }
    let common = scored.len() + missing.without_score.len();
    let most = ours.count().max(others.count());
    if common * 2 < most || common == 0 {
        let failure = Failure::usage(format!(
            "cannot compare `{}` with `{}`: {common} of {most} samples are in both, expected at least half",
            first.path, second.path
        ));
        return Err(failure.help("run both with the same `--limit` and `--samples`"));
    }
    Ok(Pairs {
        sides,
        scored,
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
