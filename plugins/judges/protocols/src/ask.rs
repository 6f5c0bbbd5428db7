//! Asking the model in the role `judge`, once or several times, and counting what it costs.

use crate::ROLE;
use crate::read::answer;
use plugin_api::{
    Call, Code, Cost, Error, Finish, Message, Prompt, Reply, Result, Ruling, Sampling, Settings, Verdict,
};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The flag of a reply from another version than the requested model.
const MOVED: &str = "moved-model";

/// Settings of all protocols.
#[derive(Debug, Clone)]
pub(crate) struct Asking {
    /// The role that is asked.
    pub role: String,
    pub repeat: u64,
    pub max_tokens: u32,
    pub longest: usize,
    pub whole: bool,
    /// Leaves unscored what another version than the asked model answered.
    pub strict: bool,
}

impl Asking {
    pub fn load(settings: &Settings) -> Result<Asking> {
        let asking = Asking {
            role: ROLE.to_owned(),
            repeat: settings.or("repeat", 1)?,
            max_tokens: settings.or("max_tokens", 4096)?,
            longest: settings.or("longest", 60_000)?,
            whole: settings.or("whole", false)?,
            strict: settings.or("pin", "flag".to_owned())? == "strict",
        };
        for (name, value) in [
            ("repeat", asking.repeat),
            ("max_tokens", asking.max_tokens.into()),
            ("longest", asking.longest as u64),
        ] {
            if value == 0 {
                return Err(Error::new(
                    Code::SETTINGS,
                    format!("setting `{name}` is 0, expected 1 or more"),
                ));
            }
        }
        Ok(asking)
    }
}

/// A question, and the allowed verdicts.
pub(crate) struct Question {
    pub system: String,
    pub user: String,
    pub schema: Value,
    /// The field of the answer that holds the verdict.
    pub field: &'static str,
    pub menu: Vec<String>,
    /// True when a text in it was shortened.
    pub shortened: bool,
}

/// One opinion of the model.
#[derive(Debug, Clone)]
pub(crate) struct Opinion {
    /// The verdict's word; none when the answer holds no verdict, and `why` says why.
    pub word: Option<String>,
    pub why: &'static str,
    /// The whole answer as it was read.
    pub object: Map<String, Value>,
}

impl Opinion {
    fn none(why: &'static str) -> Opinion {
        Opinion {
            word: None,
            why,
            object: Map::new(),
        }
    }

    pub fn reason(&self) -> String {
        self.object
            .get("reason")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    }
}

/// The model's answers to one question, and the votes.
pub(crate) struct Asked {
    pub opinions: Vec<Opinion>,
    /// What all verdicts on these answers share: words, cost, calls, version, flags.
    pub verdict: Verdict,
}

impl Asking {
    /// Asks a question `repeat` times. A model that fails fails the case: an error of the service is no verdict.
    pub fn ask(&self, question: &Question, call: &Call) -> Result<Asked> {
        let mut asked = Asked {
            opinions: Vec::new(),
            verdict: Verdict::default(),
        };
        if question.shortened {
            asked.verdict.flags.push("shortened".to_owned());
            if self.whole {
                asked.opinions.push(Opinion::none("too_long"));
                return Ok(asked);
            }
        }
        for repeat in 0..self.repeat {
            call.check()?;
            let reply = call.generate(&self.role, &self.prompt(question, repeat))?;
            let moved = self.strict && reply.flags.iter().any(|flag| flag == MOVED);
            let opinion = match moved {
                true => Opinion::none("moved_model"),
                false => opinion(&reply, question),
            };
            asked.note(reply);
            asked.opinions.push(opinion);
        }
        Ok(asked)
    }

    fn prompt(&self, question: &Question, repeat: u64) -> Prompt {
        let mut sampling = Sampling {
            json_schema: Some(question.schema.clone()),
            ..Sampling::greedy(self.max_tokens)
        };
        if repeat > 0 {
            // Another draw, if the model samples, and another key in a ledger of calls.
            sampling.seed = Some(repeat);
            sampling.other.insert("repeat".to_owned(), repeat.into());
        }
        let messages = [Message::system(&question.system), Message::user(&question.user)];
        Prompt::new(messages).sample(sampling)
    }
}

fn opinion(reply: &Reply, question: &Question) -> Opinion {
    let none = Opinion::none;
    let said = reply.other.get("why").and_then(Value::as_str);
    match (reply.finish, said) {
        (_, Some("blocked_prompt")) => return none("blocked_prompt"),
        (_, Some("blocked_answer")) | (Finish::Filtered, _) => return none("blocked_answer"),
        (Finish::Length, _) => return none("cut_short"),
        _ if reply.text.trim().is_empty() => return none("empty"),
        _ => {}
    }
    match answer(&reply.text, question.field, &question.menu) {
        Ok((object, word)) => Opinion {
            word: Some(word),
            why: "ok",
            object,
        },
        Err(unread) => none(unread.word()),
    }
}

impl Asked {
    fn note(&mut self, reply: Reply) {
        let verdict = &mut self.verdict;
        let key = reply.other.get("call").and_then(Value::as_str).map(str::to_owned);
        verdict.cost.add(&reply.usage, key.is_some());
        verdict.calls.extend(key);
        if let Some(version) = reply.model_version {
            let known = verdict.model_version.get_or_insert_with(|| version.clone());
            if *known != version {
                flag(verdict, "several_versions");
            }
        }
        reply.flags.iter().for_each(|name| flag(verdict, name));
        if let Some(ignored) = reply.other.get("sampling_ignored") {
            verdict.other.insert("sampling_ignored".to_owned(), ignored.clone());
        }
        let raw = verdict.raw.get_or_insert_with(String::new);
        if !raw.is_empty() {
            raw.push('\n');
        }
        raw.push_str(&reply.text);
    }

    /// The opinion of the majority. A tie of votes, or no readable answer at all, is none.
    pub fn majority(&self) -> Opinion {
        let mut votes: BTreeMap<&str, u64> = BTreeMap::new();
        for word in self.opinions.iter().filter_map(|opinion| opinion.word.as_deref()) {
            *votes.entry(word).or_default() += 1;
        }
        let most = votes.values().max().copied();
        let mut leading = votes
            .iter()
            .filter(|(_, count)| Some(**count) == most)
            .map(|(word, _)| *word);
        match (leading.next(), leading.next()) {
            (Some(word), None) => {
                let first = self
                    .opinions
                    .iter()
                    .find(|opinion| opinion.word.as_deref() == Some(word));
                first.cloned().unwrap_or_else(|| self.opinions[0].clone())
            }
            (Some(_), Some(_)) => Opinion::none("tied_votes"),
            _ => self.opinions[0].clone(),
        }
    }

    /// The verdict on these answers.
    pub fn rule(mut self, ruling: Ruling, value: Option<f64>, why: &str, reason: String) -> Verdict {
        if self.opinions.len() > 1 {
            let words = self
                .opinions
                .iter()
                .map(|opinion| opinion.word.clone().map_or(Value::Null, Value::from));
            self.verdict.other.insert("votes".to_owned(), words.collect());
        }
        Verdict {
            ruling,
            value,
            why: Some(why.to_owned()),
            reason,
            ..self.verdict
        }
    }
}

/// Adds a flag once.
pub(crate) fn flag(verdict: &mut Verdict, name: &str) {
    if !verdict.flags.iter().any(|known| known == name) {
        verdict.flags.push(name.to_owned());
    }
}

/// Adds the cost of two questions.
pub(crate) fn add_cost(into: &mut Cost, other: &Cost) {
    into.prompt_tokens += other.prompt_tokens;
    into.cached_tokens += other.cached_tokens;
    into.generated_tokens += other.generated_tokens;
    into.calls += other.calls;
    into.dollars += other.dollars;
    into.unpriced += other.unpriced;
}

/// Explains why there is no verdict, with a hint if there is one.
pub(crate) fn in_words(why: &str) -> String {
    match why {
        "cut_short" => "the judge's answer was cut short; raise `-J max_tokens`",
        "empty" => "the judge's answer is empty",
        "blocked_prompt" => "the judge's service refused the prompt",
        "blocked_answer" => "the judge's service withheld the answer",
        "unparsable" => "the judge's answer holds no verdict",
        "two_verdicts" => "the judge's answer holds verdicts that disagree",
        "off_menu" => "the judge's verdict is not one of the allowed words",
        "tied_votes" => "the judge's votes are tied",
        "no_majority" => "too few members of the panel have a vote, so no majority is possible",
        "moved_model" => "another version than the asked model answered; `-J pin=flag` only flags it",
        "too_long" => "the case is longer than `-J longest` allows",
        "cannot_tell" => "the judge cannot tell",
        "inconsistent" => "the two orders choose opposite sides",
        "contradiction" => "the judge's verdict contradicts its own findings",
        other => other,
    }
    .to_owned()
}
