//! Tool-call traces: the model continues after the user's turns, and its calls are compared with those of the trace.

use crate::conversation::{Said, Style, as_messages, marks_answers, messages};
use crate::lessons;
use crate::official;
use crate::tools;
use data::{Place, Row, Rows};
use plugin_api::{
    Call, Code, Error, Lesson, Message, Prompt, Reply, Result, Role, Sample, Sampling, Score, Settings, Status, Turn,
};
use score::calls::{Agreement, Calls, ToolCall, agreement, same_written};
use serde_json::{Value, json};
use std::path::PathBuf;
use task::{Answering, row_of};
use template::Template;

/// The figures of a trace, the main one first: a turn is right if its calls are, in any spelling, and its final answer
/// if the trace has one. The others are about the calls only, which an empty reply lacks.
pub(crate) const METRICS: [&str; 5] = ["turn_acc", "exact_acc", "normalised_acc", "names_acc", "calls_acc"];
/// The judge's figure, when there is one.
pub(crate) const JUDGED: &str = "judge_acc";
/// The share of samples whose calls the judge left undecided because its reply could not be parsed.
pub(crate) const UNJUDGED: &str = "judge_unscored";
/// The share of replies whose calls are strict JSON, and of replies that call only existing tools.
const WELL_FORMED: &str = "calls_well_formed";
const KNOWN: &str = "known_tools";
/// The official score of final answers, if the trace has one in that place.
const ANSWER: &str = "answer_acc";

/// The role of the model that compares arguments.
const ROLE: &str = "judge";

/// Where a model is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// After each turn of the user.
    User,
    /// After whatever precedes a turn of the assistant, including the results of tools.
    Each,
}

pub(crate) struct Traces {
    rows: Rows,
    /// A row and the expected message in it; none for a row that can't be read.
    places: Vec<(usize, Option<usize>)>,
    /// The tools of all traces that declare none.
    tools: Vec<Value>,
    pub style: Style,
    pub after: After,
    lessons: lessons::Style,
}

impl Traces {
    pub fn load(settings: &Settings, files: Vec<PathBuf>) -> Result<Traces> {
        let beside = files.first().and_then(|file| Some(file.parent()?.join("tools.toml")));
        let given: Option<PathBuf> = settings.get("tools")?;
        let tools = match given.or(beside.filter(|path| path.is_file())) {
            Some(path) => tools::read(&path)?,
            None => Vec::new(),
        };
        let word = |name: &str| settings.or(name, String::new());
        let after = match word("after")?.as_str() {
            "each" => After::Each,
            _ => After::User,
        };
        let rows = Rows::open_all(&files)?;
        let lessons = match word("style")?.as_str() {
            "script" => lessons::Style::Script,
            _ => lessons::Style::Template,
        };
        let mut places = Vec::new();
        for index in 0..rows.len() {
            match rows.get(index).and_then(|row| messages(&row)) {
                Ok(said) => {
                    let turns = match lessons {
                        // The script learns a conversation as a whole: its sample is the last turn, with everything
                        // else before it.
                        lessons::Style::Script => last_turn(&said).into_iter().collect(),
                        lessons::Style::Template => expected(&said, after),
                    };
                    places.extend(turns.into_iter().map(|place| (index, Some(place))));
                }
                // A broken row is a sample as well; its error says what is wrong.
                Err(_) => places.push((index, None)),
            }
        }
        if places.is_empty() {
            let error = Error::new(Code::DATA, "the traces hold no turn of an assistant");
            return Err(error.help("each needs `messages`, where an assistant goes on after a user"));
        }
        Ok(Traces {
            rows,
            places,
            tools,
            style: match word("tools_as")?.as_str() {
                "template" => Style::Template,
                _ => Style::Words,
            },
            after,
            lessons,
        })
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn sample(&self, index: usize) -> Result<Sample> {
        let Some(&(place, expected)) = self.places.get(index) else {
            let message = format!(
                "there is no sample {}, there are {}",
                index.saturating_add(1),
                self.len()
            );
            return Err(Error::new(Code::DATA, message));
        };
        let row = self.rows.get(place)?;
        let said = messages(&row)?;
        // Training rows often have only `messages`.
        let id = match row.at("id") {
            Some(_) => row.word("id")?.into_owned(),
            None => format!("row-{}", place + 1),
        };
        let Some(gold) = expected.and_then(|expected| said.get(expected).map(|gold| (expected, gold))) else {
            return Err(row.wrong("messages", "changed while it was in use"));
        };
        let number = self.places[..=index]
            .iter()
            .rev()
            .take_while(|(other, _)| *other == place)
            .count();
        let calls = gold.1.calls();
        let mut sample = Sample {
            id: format!("{id}#{number}"),
            target: gold.1.as_text().into(),
            cluster: Some(id.clone()),
            ..Sample::default()
        };
        sample
            .groups
            .insert("gold_calls".to_owned(), calls.calls.len().to_string());
        if let Some(level) = crate::question::level(&row).ok().flatten() {
            sample.groups.insert("level".to_owned(), level);
        }
        let end = said[gold.0 + 1..].iter().position(|later| match self.after {
            // The script's sample is the rest of the conversation.
            _ if self.lessons == lessons::Style::Script => false,
            After::User => later.role == Role::User,
            After::Each => true,
        });
        let end = end.map_or(said.len(), |end| gold.0 + 1 + end);
        let messages = row.list("messages")?;
        sample.doc = json!({
            "id": id,
            "turn": number,
            "messages": messages[..gold.0],
            "gold": messages[gold.0..end],
            "final": marks_answers(&said),
            "tools": row.at("tools").filter(|tools| tools.as_array().is_some_and(|tools| !tools.is_empty())),
        });
        Ok(sample)
    }

    /// The conversation up to the model's turn, with a system message if it has none, and the tools.
    fn before(&self, sample: &Sample, template: &Template) -> Result<(Vec<Message>, Vec<Value>)> {
        let row = row_of(sample);
        let said = messages(&row)?;
        let tools = self.tools_of(sample);
        let mut messages = as_messages(&said, self.style);
        if said.iter().all(|one| one.role != Role::System) && self.style == Style::Words {
            let text = template.render(json!({ "tools": tools, "final": sample.doc["final"] }))?;
            messages.insert(0, Message::system(text.trim()));
        }
        Ok((
            messages,
            if self.style == Style::Template {
                tools
            } else {
                Vec::new()
            },
        ))
    }

    fn tools_of(&self, sample: &Sample) -> Vec<Value> {
        let own = sample.doc["tools"].as_array().cloned();
        own.unwrap_or_else(|| self.tools.clone())
    }

    pub fn prompt(&self, sample: &Sample, template: &Template, answering: Answering) -> Result<Prompt> {
        let (messages, tools) = self.before(sample, template)?;
        Ok(Prompt {
            tools,
            ..answering.prompt(messages)
        })
    }

    pub fn lesson(&self, sample: &Sample, template: &Template) -> Result<Lesson> {
        if self.lessons == lessons::Style::Script {
            let list = |name: &str| sample.doc[name].as_array().into_iter().flatten();
            let messages: Vec<&Value> = list("messages").chain(list("gold")).collect();
            let id = sample.doc["id"].as_str().unwrap_or(&sample.id);
            return lessons::lesson(id, &messages);
        }
        let (before, tools) = self.before(sample, template)?;
        let gold = gold(sample)?;
        let learn = |message: Message| Turn {
            learn: message.role == Role::Assistant,
            message,
        };
        let read = |message| Turn { message, learn: false };
        let turns = before.into_iter().map(read);
        Ok(Lesson {
            id: sample.id.clone(),
            turns: turns
                .chain(as_messages(&gold, self.style).into_iter().map(learn))
                .collect(),
            tools,
            ..Lesson::default()
        })
    }

    /// The score of a reply. A judge is shown calls of the right tools with other arguments.
    pub fn score(&self, sample: &Sample, reply: &Reply, call: Option<&Call>) -> Result<Score> {
        let gold = gold(sample)?;
        let Some(gold) = gold.first() else {
            return Err(Error::new(
                Code::DATA,
                format!("sample `{}` has no turn to compare with", sample.id),
            ));
        };
        let (gold_calls, predicted) = (gold.calls(), predicted(reply));
        let agreement = agreement(&predicted, &gold_calls);
        let flag = |flag: bool| f64::from(u8::from(flag));
        let Agreement {
            names,
            exact,
            normalised,
            share,
        } = agreement;
        let truth = official::final_answer(&gold.text).filter(|_| gold_calls.calls.is_empty());
        let answered = truth
            .map(|truth| official::final_answer(&reply.text).is_some_and(|answer| official::is_right(answer, truth)));
        let turn = normalised && answered != Some(false);
        let values = [flag(turn), flag(exact), flag(normalised), flag(names), share];
        let mut score = METRICS
            .iter()
            .zip(values)
            .fold(Score::default(), |score, (name, value)| score.and(*name, value));
        score = score.and(WELL_FORMED, flag(predicted.broken + predicted.mended == 0));
        let tools = self.tools_of(sample);
        let is_known = |name: &&str| tools.iter().any(|tool| tools::name(tool) == Some(*name));
        let names_called = predicted.names();
        if !tools.is_empty() && !names_called.is_empty() {
            let unknown: Vec<&str> = names_called.iter().copied().filter(|name| !is_known(name)).collect();
            score = score.and(KNOWN, flag(unknown.is_empty()));
            if !unknown.is_empty() {
                score = score.with_detail("unknown_tools", json!(unknown));
            }
        }
        if let Some(right) = answered {
            score = score.and(ANSWER, flag(right));
        }
        let shown = |calls: &Calls| Value::from(calls.calls.iter().map(ToolCall::to_json).collect::<Vec<_>>());
        score = score
            .with_detail("gold_raw", gold.as_text())
            .with_detail("pred_raw", raw(reply))
            .with_detail("gold_calls", shown(&gold_calls))
            .with_detail("pred_calls", shown(&predicted));
        if predicted.broken > 0 {
            score = score.with_detail("broken_calls", predicted.broken);
        }
        if predicted.calls.is_empty() && (predicted.broken > 0 || raw(reply).trim().is_empty()) {
            // If no call was expected, an empty reply would be right.
            score.values.values_mut().for_each(|value| *value = 0.0);
            score.status = Status::NoAnswer;
        } else {
            score = score.with_answer(shown(&predicted).to_string());
        }
        if let Some(call) = call {
            let (same, words) = judged(&agreement, &gold_calls, &predicted, call)?;
            if let Some(same) = same {
                score = score.and(JUDGED, flag(same));
            }
            score = score.and(UNJUDGED, flag(same.is_none()));
            if !words.is_empty() {
                score = score.with_detail("judge_replies", words);
            }
        }
        Ok(score)
    }
}

/// The messages that a model should produce.
fn expected(said: &[Said], after: After) -> Vec<usize> {
    let pairs = said.windows(2).enumerate();
    let places = pairs
        .filter(|(_, pair)| pair[1].role == Role::Assistant && (after == After::Each || pair[0].role == Role::User));
    places.map(|(index, _)| index + 1).collect()
}

/// The last message that a model should produce.
fn last_turn(said: &[Said]) -> Option<usize> {
    said.iter().rposition(|one| one.role == Role::Assistant)
}

/// The trace from the sample's place up to the user's next turn.
fn gold(sample: &Sample) -> Result<Vec<Said>> {
    let row = json!({ "messages": sample.doc["gold"] });
    messages(&Row::new(row, Place::Sample(sample.id.clone())))
}

/// The calls of a reply: those that the model returns separately, or those in its text.
fn predicted(reply: &Reply) -> Calls {
    match reply.tool_calls.as_slice() {
        [] => Calls::in_text(&reply.text),
        list => Calls::in_list(list),
    }
}

/// A reply with its calls.
fn raw(reply: &Reply) -> String {
    match reply.tool_calls.as_slice() {
        [] => reply.text.clone(),
        list => {
            let calls = Calls::in_list(list).calls;
            let calls = calls.iter().map(ToolCall::to_text);
            let text = Some(reply.text.clone()).filter(|text| !text.is_empty());
            text.into_iter().chain(calls).collect::<Vec<_>>().join("\n")
        }
    }
}

const JUDGE: &str = "Two calls of the same tool are given. Would they do the same, so that what the tool returns is as good for the one who calls it? \
Differences in writing don't matter, differences in meaning do. Reply in two lines:
Explanation: (why, in one line)
Judgement: (same or different)";

/// Whether a judge considers the calls equal, and its replies. It is asked only about arguments that differ. One pair
/// that it calls different decides; otherwise a reply that can't be parsed leaves the sample unscored.
fn judged(agreement: &Agreement, gold: &Calls, predicted: &Calls, call: &Call) -> Result<(Option<bool>, Vec<String>)> {
    let mut words = Vec::new();
    if !agreement.names {
        return Ok((Some(false), words));
    }
    let mut rulings = Vec::new();
    for (one, other) in gold.calls.iter().zip(&predicted.calls) {
        if same_written(one, other) {
            continue;
        }
        let asked = format!(
            "{JUDGE}\n\nThe first: {}\nThe second: {}",
            one.to_json(),
            other.to_json()
        );
        let prompt = Prompt {
            thinking: Some(false),
            ..Prompt::new([Message::user(asked)]).sample(Sampling::greedy(512))
        };
        let reply = call.generate(ROLE, &prompt)?;
        rulings.push(says_same(&reply.text));
        words.push(reply.text);
    }
    let ruling = match rulings.contains(&Some(false)) {
        true => Some(false),
        false => (!rulings.contains(&None)).then_some(true),
    };
    Ok((ruling, words))
}

/// What the last judgement says; none when there is no such line or it says neither.
fn says_same(words: &str) -> Option<bool> {
    let (_, judgement) = words.rsplit_once("Judgement:")?;
    match judgement.trim().trim_end_matches('.').to_lowercase().as_str() {
        "same" => Some(true),
        "different" => Some(false),
        _ => None,
    }
}
