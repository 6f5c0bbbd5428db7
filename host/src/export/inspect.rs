//! Inspect's log: one file of JSON that `inspect view` and `inspect_ai.log` open.
//!
//! `samples` comes last, so that records are written as they are read and none is kept.

use super::{Folder, Recorded};
use crate::dates::Moment;
use crate::failure::Result;
use crate::run::record::Record;
use crate::run::store::hash::hash_json;
use crate::run::store::score::{ScoreEntry, ScoreStatus};
use plugin_api::{Finish, Message, Part, Prompt, Role};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::cell::Cell;

/// The version of the log's form.
const VERSION: u32 = 2;
/// Letters of an id, as Inspect draws them.
const ID: usize = 22;

pub(super) fn write(run: &Recorded, folder: &Folder) -> Result<()> {
    let results = run.results()?;
    let task = results["versions"]
        .as_object()
        .and_then(|tasks| tasks.keys().next().cloned());
    let task = task.unwrap_or(run.task()?.to_owned());
    let ended = results["date"].as_f64().unwrap_or_default();
    let id = hash_json(&results["host"]["identity"])[..ID].to_owned();
    let safe: String = task
        .chars()
        .map(|c| if c.is_alphanumeric() { c } else { '-' })
        .collect();
    // Inspect lists files whose names begin with a time.
    let name = format!("{}+00-00_{safe}_{id}.json", Moment::of(ended).iso('-'));
    let head = head(results, &task, &id, ended, run.settings()).to_string();
    let open = head.strip_suffix('}').unwrap_or(&head);
    folder.add(&name, &format!("{open},\"samples\":["))?;
    let first = Cell::new(true);
    let model = results["model_name"].as_str().unwrap_or_default();
    run.each(|record| {
        let comma = if first.replace(false) { "\n" } else { ",\n" };
        folder.add(&name, &format!("{comma}{}", sample(&record, model)))
    })?;
    folder.add(&name, "\n]}\n")
}

/// Everything but the samples.
fn head(results: &Value, task: &str, id: &str, ended: f64, settings: &toml::Table) -> Value {
    let (host, counts) = (&results["host"], &results["host"]["counts"]);
    let seconds = results["total_evaluation_time_seconds"].as_f64().unwrap_or(0.0);
    let time = |seconds: f64| Moment::of(seconds).iso(':') + "+00:00";
    let whole = counts["finished"].as_u64() >= results["n-samples"][task]["effective"].as_u64();
    let number = |name: &str| settings.get(name).and_then(toml::Value::as_integer);
    json!({
        "version": VERSION,
        "status": if whole { "success" } else { "cancelled" },
        "eval": {
            "eval_id": id, "run_id": id, "task_id": id, "created": time(ended - seconds),
            "task": task, "task_version": results["versions"][task], "task_args": results["configs"][task]["settings"],
            "model": results["model_name"], "model_args": results["config"]["model_args"],
            "dataset": { "name": task, "samples": results["n-samples"][task]["original"] },
            "config": { "epochs": host["chains"], "seed": number("seed") },
            "packages": { "host": host["version"] },
            "metadata": { "identity": host["identity"], "suspect": host["suspect"], "marks": host["marks"] },
        },
        "plan": { "name": "plan", "steps": [] },
        "results": {
            "total_samples": results["n-samples"][task]["effective"], "completed_samples": counts["answered"],
            "scores": scores(&results["results"][task], task, &results["versions"][task]),
        },
        "stats": { "started_at": time(ended - seconds), "completed_at": time(ended), "model_usage": {} },
    })
}

/// The means: the task's own as one scorer, and each judge's as another.
fn scores(numbers: &Value, task: &str, version: &Value) -> Value {
    let mut scorers: Vec<(String, Map<String, Value>)> = Vec::new();
    for (key, value) in numbers.as_object().into_iter().flatten() {
        let Some((name, filter)) = key.split_once(',').filter(|_| value.is_number()) else {
            continue;
        };
        if name.ends_with("_n")
            && numbers
                .get(format!("{},{filter}", name.trim_end_matches("_n")))
                .is_some()
        {
            continue;
        }
        let judge = name.trim_end_matches("_stderr");
        let (scorer, metric) = match filter {
            "judge" => (judge, if judge == name { "mean" } else { "stderr" }),
            _ => (task, name),
        };
        let metric = (metric.to_owned(), json!({ "name": metric, "value": value }));
        match scorers.iter_mut().find(|(known, _)| known == scorer) {
            Some((_, metrics)) => drop(metrics.insert(metric.0, metric.1)),
            None => scorers.push((scorer.to_owned(), Map::from_iter([metric]))),
        }
    }
    let one = |(name, metrics): (String, Map<String, Value>)| json!({ "name": name, "scorer": name, "params": { "version": version }, "metrics": metrics });
    scorers.into_iter().map(one).collect()
}

fn sample(record: &Record, model: &str) -> Value {
    let mut messages: Vec<Value> = match Prompt::deserialize(&record.given) {
        Ok(prompt) => prompt
            .messages
            .iter()
            .map(|message| chat(message, &record.audio))
            .collect(),
        Err(_) => Vec::new(),
    };
    let input = messages.clone();
    let usage = json!({
        "input_tokens": record.prompt_tokens, "output_tokens": record.generated_tokens,
        "total_tokens": record.prompt_tokens + record.generated_tokens,
    });
    let mut choices = Vec::new();
    if let Some(reply) = &record.reply {
        let mut said = Message::assistant(record.said());
        if !reply.tool_calls.is_empty() {
            said = Message::assistant(reply.text.clone());
        }
        said.thinking.clone_from(&reply.thinking);
        said.tool_calls.clone_from(&reply.tool_calls);
        let mut said = chat(&said, &[]);
        said["source"] = json!("generate");
        said["model"] = json!(model);
        messages.push(said.clone());
        let reason = match reply.finish {
            Finish::Stop => "stop",
            Finish::Length => "max_tokens",
            Finish::ToolCalls => "tool_calls",
            Finish::Filtered => "content_filter",
            _ => "unknown",
        };
        choices.push(json!({ "message": said, "stop_reason": reason }));
    }
    let id = match &record.variant {
        Some(variant) => format!("{} ({variant})", record.sample_id),
        None => record.sample_id.clone(),
    };
    let seconds = record.latency_ms / 1000.0;
    let mut sample = json!({
        "id": id, "epoch": record.chain + 1, "input": input, "target": target(&record.target),
        "messages": messages,
        "output": { "model": model, "choices": choices, "usage": usage, "time": seconds },
        "scores": record.scores.iter().filter_map(|(name, entry)| Some((name.clone(), score(entry)?))).collect::<Map<_, _>>(),
        "metadata": {
            "groups": record.groups, "input": record.input, "doc_id": record.doc_id, "doc": record.doc, "flags": record.flags,
            "audio": record.audio, "parent": record.parent,
        },
        "model_usage": { model: usage },
        "total_time": seconds,
        "uuid": record.key.get(..ID),
    });
    if !record.choices.is_empty() {
        sample["choices"] = json!(record.choices);
    }
    if let Some(error) = record.failure() {
        sample["error"] = json!({ "message": format!("{}: {}", error.code, error.message), "traceback": error.causes.join("\n"), "traceback_ansi": "" });
    }
    sample
}

/// A text, or several that are all right.
fn target(target: &Value) -> Value {
    let texts = |items: &Vec<Value>| items.iter().all(Value::is_string);
    match target {
        Value::String(_) => target.clone(),
        Value::Array(items) if texts(items) => target.clone(),
        other => json!(other.to_string()),
    }
}

/// A score in Inspect's format: one number if there is one, else all by name. None if the scorer could not tell.
fn score(entry: &ScoreEntry) -> Option<Value> {
    if !matches!(entry.status, ScoreStatus::Scored | ScoreStatus::NoAnswer) {
        return None;
    }
    let mut numbers = entry.values.iter().filter(|(_, value)| value.is_finite());
    let value = match entry.values.len() {
        1 => json!(numbers.next()?.1),
        _ => Value::Object(numbers.map(|(name, value)| (name.clone(), json!(value))).collect()),
    };
    let reason = Some(&entry.reason).filter(|reason| !reason.is_empty());
    Some(json!({
        "value": value, "answer": entry.answer, "explanation": reason,
        "metadata": { "status": entry.status, "details": entry.details, "graders": entry.graders },
    }))
}

/// A message in Inspect's format. Clips are not included, so their place is marked in words.
fn chat(message: &Message, audio: &[crate::run::record::ClipInfo]) -> Value {
    let role = match message.role {
        Role::System => "system",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
        _ => "user",
    };
    let part = |part: &Part| match part {
        Part::Text { text } => text.clone(),
        Part::Clip { clip, .. } => match audio.get(*clip) {
            Some(known) => format!("[clip of {:.1} s, sha256 {}]", known.seconds, known.sha256),
            None => format!("[clip {}]", clip + 1),
        },
        _ => "[a part that this version doesn't know]".to_owned(),
    };
    let text: String = message.parts.iter().map(part).collect();
    let content = match &message.thinking {
        Some(thinking) => json!([{ "type": "reasoning", "reasoning": thinking }, { "type": "text", "text": text }]),
        None => json!(text),
    };
    let mut chat = json!({ "role": role, "content": content });
    if !message.tool_calls.is_empty() {
        chat["tool_calls"] = message.tool_calls.iter().enumerate().map(tool_call).collect();
    }
    if let (Role::Tool, Some(name)) = (message.role, &message.name) {
        chat["function"] = json!(name);
    }
    chat
}

fn tool_call((index, call): (usize, &Value)) -> Value {
    let function = call.get("function").unwrap_or(call);
    let arguments = match &function["arguments"] {
        Value::String(text) => serde_json::from_str(text).unwrap_or_else(|_| json!({ "arguments": text })),
        other => other.clone(),
    };
    let arguments = match arguments {
        Value::Object(_) => arguments,
        Value::Null => json!({}),
        other => json!({ "arguments": other }),
    };
    let id = call["id"]
        .as_str()
        .map_or_else(|| format!("call_{index}"), str::to_owned);
    json!({ "id": id, "function": function["name"].as_str().unwrap_or_default(), "arguments": arguments, "type": "function" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugin_api::{OptionScore, Reply, Score};

    fn record(reply: Reply) -> Record {
        let prompt = Prompt::new([Message::system("s"), Message::user("u")]);
        let mut record = Record {
            given: serde_json::to_value(&prompt).unwrap(),
            sample_id: "a".to_owned(),
            chain: 1,
            task: "t".to_owned(),
            target: json!(["x", "y"]),
            ..Record::default()
        };
        record.of_reply(reply);
        record.score_by_task(ScoreEntry::of_score(Score::graded(true)));
        record
    }

    #[test]
    fn a_sample_is_a_conversation_with_its_scores() {
        let sample = sample(&record(Reply::text("hello")), "m");
        assert_eq!((&sample["id"], &sample["epoch"]), (&json!("a"), &json!(2)));
        assert_eq!(sample["target"], json!(["x", "y"]));
        assert_eq!(sample["scores"]["t"]["value"], json!(1.0));
        let roles: Vec<&Value> = sample["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| &it["role"])
            .collect();
        assert_eq!(roles, ["system", "user", "assistant"]);
        assert_eq!(sample["output"]["choices"][0]["message"]["content"], json!("hello"));
        assert_eq!(sample["input"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn options_calls_and_failures_are_said_in_its_words() {
        let mut chosen = record(Reply::scored(vec![OptionScore::default(), OptionScore::default()]));
        chosen.choices = vec!["red".to_owned(), "blue".to_owned()];
        let said = sample(&chosen, "m");
        assert_eq!(said["output"]["choices"][0]["message"]["content"], json!("red"));
        assert_eq!(said["choices"], json!(["red", "blue"]));
        let calls = Reply {
            tool_calls: vec![json!({ "function": { "name": "add", "arguments": "{\"x\":1}" } })],
            ..Reply::default()
        };
        let said = sample(&record(calls), "m");
        let call = &said["messages"][2]["tool_calls"][0];
        assert_eq!(
            (&call["function"], &call["arguments"]),
            (&json!("add"), &json!({ "x": 1 }))
        );
        let mut failed = record(Reply::text(""));
        failed.failed(&plugin_api::Error::new(plugin_api::Code::CLIP, "no sound"));
        assert!(
            sample(&failed, "m")["error"]["message"]
                .as_str()
                .unwrap()
                .contains("no sound")
        );
    }

    #[test]
    fn each_scorer_has_its_means() {
        let numbers = json!({
            "alias": "t", "acc,none": 0.5, "acc_stderr,none": 0.1, "acc_ci95,none": [0.4, 0.6], "acc_n,none": 4,
            "j,judge": 0.7, "j_stderr,judge": "N/A", "j_n,judge": 4,
        });
        let scores = scores(&numbers, "t", &json!("1"));
        assert_eq!(scores[0]["metrics"]["acc_stderr"]["value"], json!(0.1));
        assert_eq!(
            (&scores[1]["name"], &scores[1]["metrics"]["mean"]["value"]),
            (&json!("j"), &json!(0.7))
        );
        assert_eq!(scores[0]["metrics"].as_object().unwrap().len(), 2);
    }
}
