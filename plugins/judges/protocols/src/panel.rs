//! Several models as one judge: each follows the whole protocol, and the majority decides.
//!
//! The decision a newcomer would question: a majority is more than half of all members, including those without a
//! vote. A member whose answer cannot be parsed has no vote, but a single remaining member must not decide alone.

use crate::ROLE;
use crate::ask::{Asking, add_cost, flag, in_words};
use plugin_api::{Call, Case, Code, Error, Judge, JudgeCard, Result, Ruling, Settings, Verdict};
use serde_json::{Map, Value, json};
use std::panic::resume_unwind;

/// A protocol that one model answers.
pub(crate) trait Protocol: Judge {
    fn asking(&mut self) -> &mut Asking;
}

/// A protocol, and who answers it: the model in the role `judge`, or the members of a panel.
pub(crate) struct Panel<P> {
    /// The models by their names in the catalog. Empty if only the role `judge` answers.
    names: Vec<String>,
    /// One for each member.
    protocols: Vec<P>,
}

impl<P: Protocol> Panel<P> {
    pub fn load(settings: &Settings, load: fn(&Settings) -> Result<P>) -> Result<Panel<P>> {
        let names = names_of(&settings.or("panel", String::new())?)?;
        let mut protocols = Vec::new();
        for role in roles_of(&names) {
            let mut protocol = load(settings)?;
            protocol.asking().role = role;
            protocols.push(protocol);
        }
        Ok(Panel { names, protocols })
    }
}

fn names_of(text: &str) -> Result<Vec<String>> {
    let wrong = |words: String| {
        let error = Error::new(Code::SETTINGS, format!("setting `panel` is `{text}`: {words}"));
        Err(error.help("name two models of the catalog or more, as in `panel=qwen3,gemini,openai`"))
    };
    let mut names: Vec<String> = Vec::new();
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        if names.iter().any(|known| known == name) {
            return wrong(format!("`{name}` occurs twice"));
        }
        names.push(name.to_owned());
    }
    match names.len() {
        1 => wrong("a panel needs at least two models".to_owned()),
        0 if !text.trim().is_empty() => wrong("it names no model".to_owned()),
        _ => Ok(names),
    }
}

/// The roles that members play: `judge/qwen3`. The host lets the model of that name play it.
fn roles_of(names: &[String]) -> Vec<String> {
    match names.is_empty() {
        true => vec![ROLE.to_owned()],
        false => names.iter().map(|name| format!("{ROLE}/{name}")).collect(),
    }
}

impl<P: Protocol> Judge for Panel<P> {
    fn card(&self) -> JudgeCard {
        JudgeCard {
            asks: roles_of(&self.names),
            ..self.protocols[0].card()
        }
    }

    /// All members are asked at the same time. If one fails, the case fails, and running the command again repeats it;
    /// the answers of the others are in the ledger.
    fn judge(&self, case: &Case, call: &mut Call) -> Result<Verdict> {
        if self.names.is_empty() {
            return self.protocols[0].judge(case, call);
        }
        let call = *call;
        let ask = &|protocol: &P| protocol.judge(case, &mut { call });
        let verdicts = std::thread::scope(|scope| {
            let (first, others) = self.protocols.split_first().expect("a panel has members");
            let asked: Vec<_> = others
                .iter()
                .map(|protocol| scope.spawn(move || ask(protocol)))
                .collect();
            let first = ask(first);
            let others = asked
                .into_iter()
                .map(|asked| asked.join().unwrap_or_else(|panic| resume_unwind(panic)));
            std::iter::once(first).chain(others).collect::<Result<Vec<Verdict>>>()
        })?;
        Ok(self.combine(verdicts))
    }
}

impl<P> Panel<P> {
    fn combine(&self, verdicts: Vec<Verdict>) -> Verdict {
        // A case that needed no model is the same for all members.
        if verdicts.iter().all(|verdict| verdict.cost.calls == 0) {
            return verdicts.into_iter().next().expect("a panel has members");
        }
        let ruled = majority(verdicts.iter().map(ruling_of));
        let leading = match ruled {
            Ok(ruling) => verdicts.iter().find(|verdict| ruling_of(verdict) == Some(ruling)),
            Err(_) => None,
        };
        let mut whole = Verdict::default();
        match (leading, ruled) {
            (Some(leading), _) => {
                whole = Verdict {
                    ruling: leading.ruling,
                    value: leading.value,
                    reason: leading.reason.clone(),
                    why: leading.why.clone(),
                    other: leading.other.clone(),
                    ..whole
                };
            }
            (None, ruled) => {
                // If no member has a vote, the first one's reason stands for all.
                let silent = verdicts.iter().all(|verdict| ruling_of(verdict).is_none());
                let first = verdicts[0].why.as_deref().filter(|_| silent);
                let why = first.or(ruled.err()).unwrap_or("no_majority");
                whole.why = Some(why.to_owned());
                whole.reason = in_words(why);
            }
        }
        whole.check.clone_from(&verdicts[0].check);
        for name in ["votes", "slots", "lean", "winner_forward", "winner_backward"] {
            whole.other.remove(name);
        }
        for order in ["winner_forward", "winner_backward"] {
            let words = || {
                verdicts
                    .iter()
                    .map(|verdict| verdict.other.get(order).and_then(Value::as_str))
            };
            if verdicts.iter().any(|verdict| verdict.other.contains_key(order)) {
                let word = majority(words()).map_or(Value::Null, Value::from);
                whole.other.insert(order.to_owned(), word);
            }
        }
        let mut kept = Map::new();
        for (name, verdict) in self.names.iter().zip(verdicts) {
            add_cost(&mut whole.cost, &verdict.cost);
            verdict.flags.iter().for_each(|name| flag(&mut whole, name));
            if let Some(Value::Array(ignored)) = verdict.other.get("sampling_ignored") {
                let all = whole.other.entry("sampling_ignored").or_insert_with(|| json!([]));
                if let Value::Array(all) = all {
                    let new: Vec<Value> = ignored.iter().filter(|name| !all.contains(name)).cloned().collect();
                    all.extend(new);
                }
            }
            kept.insert(name.clone(), member(&verdict));
            whole.calls.extend(verdict.calls);
        }
        whole.other.insert("panel".to_owned(), Value::Object(kept));
        whole
    }
}

/// The ruling of a vote; two members agree if theirs are equal.
fn ruling_of(verdict: &Verdict) -> Option<(u64, Ruling)> {
    let has_ruled = !matches!(verdict.ruling, Ruling::Unscored | Ruling::Unknown);
    let value = verdict.value.filter(|_| has_ruled)?;
    Some((value.to_bits(), verdict.ruling))
}

/// The vote of more than half of all members, or the reason why there is none.
fn majority<T: PartialEq + Copy>(votes: impl Iterator<Item = Option<T>>) -> std::result::Result<T, &'static str> {
    let (mut members, mut counts) = (0, Vec::<(T, usize)>::new());
    for vote in votes {
        members += 1;
        let Some(vote) = vote else { continue };
        match counts.iter_mut().find(|(known, _)| *known == vote) {
            Some((_, count)) => *count += 1,
            None => counts.push((vote, 1)),
        }
    }
    let most = counts.iter().map(|(_, count)| *count).max().unwrap_or(0);
    let mut leading = counts.iter().filter(|(_, count)| *count == most);
    match (leading.next(), leading.next()) {
        (Some(_), Some(_)) => Err("tied_votes"),
        (Some((vote, count)), None) if count * 2 > members => Ok(*vote),
        _ => Err("no_majority"),
    }
}

/// The part of a member's verdict that is kept.
fn member(verdict: &Verdict) -> Value {
    let mut kept = json!({
        "ruling": verdict.ruling, "value": verdict.value, "why": verdict.why, "reason": verdict.reason,
        "raw": verdict.raw, "model_version": verdict.model_version,
    });
    for name in ["votes", "winner_forward", "winner_backward"] {
        if let Some(value) = verdict.other.get(name) {
            kept[name] = value.clone();
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Members' words: `r` right, `w` wrong, `u` an answer that cannot be read.
    fn panel(words: &str) -> Verdict {
        let names = (0..words.len()).map(|number| format!("m{number}")).collect();
        let one = |word: char| {
            let mut verdict = match word {
                'r' => Verdict::of(true, "good"),
                'w' => Verdict::of(false, "bad"),
                _ => Verdict::unscored("?"),
            };
            verdict.why = Some(if word == 'u' { "unparsable" } else { "ok" }.to_owned());
            verdict.cost.calls = 1;
            verdict
        };
        let panel: Panel<()> = Panel {
            names,
            protocols: Vec::new(),
        };
        panel.combine(words.chars().map(one).collect())
    }

    #[track_caller]
    fn check(words: &str, ruling: Ruling, why: &str) {
        let verdict = panel(words);
        assert_eq!((verdict.ruling, verdict.why.as_deref()), (ruling, Some(why)), "{words}");
        assert_eq!(verdict.value.is_some(), ruling != Ruling::Unscored, "{words}");
        assert_eq!(verdict.cost.calls as usize, words.len());
    }

    #[test]
    fn more_than_half_of_all_members_rule() {
        check("rrw", Ruling::Right, "ok");
        check("wrw", Ruling::Wrong, "ok");
        check("rru", Ruling::Right, "ok");
        check("ruu", Ruling::Unscored, "no_majority");
        check("rwu", Ruling::Unscored, "tied_votes");
        check("rrww", Ruling::Unscored, "tied_votes");
        check("rrwuu", Ruling::Unscored, "no_majority");
        check("uuu", Ruling::Unscored, "unparsable");
    }

    #[test]
    fn each_members_word_is_kept() {
        let verdict = panel("rwr");
        assert_eq!(verdict.other["panel"]["m1"]["ruling"], "wrong");
        assert_eq!(verdict.other["panel"]["m2"]["value"], 1.0);
        assert_eq!(verdict.reason, "good");
    }

    #[test]
    fn a_panel_is_two_models_or_more() {
        assert_eq!(names_of(" a, b,c").unwrap(), ["a", "b", "c"]);
        assert!(names_of("").unwrap().is_empty());
        for wrong in ["a", "a,b,a", ","] {
            assert!(names_of(wrong).unwrap_err().message.contains("panel"), "{wrong}");
        }
    }
}
