//! lm-eval's files: its keys of our `results.json`, and a line a sample with its names.

use super::{Folder, Recorded};
use crate::failure::Result;
use crate::run::record::Record;
use plugin_api::{Part, Prompt, Role, Want};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// What our `results.json` has beside lm-eval's keys.
const OURS: [&str; 2] = ["host", "breakdown"];

pub(super) fn write(run: &Recorded, folder: &Folder) -> Result<()> {
    let mut results = run.results()?.clone();
    let task = results["results"]
        .as_object()
        .and_then(|tasks| tasks.keys().next().cloned());
    let task = task.unwrap_or(run.task()?.to_owned());
    if let Some(results) = results.as_object_mut() {
        OURS.iter().for_each(|key| drop(results.remove(*key)));
    }
    let text = serde_json::to_string_pretty(&results).unwrap_or_default() + "\n";
    folder.add("results.json", &text)?;
    let filter = results["results"][&task]
        .as_object()
        .into_iter()
        .flat_map(Map::keys)
        .find_map(|key| key.split_once(','))
        .map_or("none", |(_, filter)| filter)
        .to_owned();
    let name = format!("samples_{}.jsonl", task.replace('/', "_"));
    run.each(|record| match record.error {
        Some(_) => Ok(()),
        None => folder.add(&name, &format!("{}\n", sample(&record, &filter))),
    })
}

/// A line of lm-eval's samples file.
fn sample(record: &Record, filter: &str) -> Value {
    let mut sample = json!({
        "doc_id": record.doc_id, "doc": record.doc, "target": record.target, "arguments": arguments(record),
        "resps": record.resps, "filtered_resps": record.filtered_resps(), "filter": filter,
        "metrics": record.metrics().map(|(name, _)| name).collect::<Vec<_>>(), "doc_hash": record.doc_hash,
        "prompt_hash": record.prompt_hash, "target_hash": record.target_hash,
    });
    for (name, value) in record.metrics() {
        sample[name] = json!(value);
    }
    sample
}

/// `gen_args_0` and so on, each with the text as `arg_0` and what is wanted of it as `arg_1`.
fn arguments(record: &Record) -> Value {
    let Ok(prompt) = Prompt::deserialize(&record.arguments) else {
        return record.arguments.clone();
    };
    let text = text(&prompt);
    let pair = |second: Value| json!({ "arg_0": text, "arg_1": second });
    let requests: Vec<Value> = match &prompt.want {
        Want::Choice { options } => options.iter().map(|option| pair(json!(option))).collect(),
        Want::Text { sampling } => vec![pair(json!({
            "until": sampling.stop, "max_gen_toks": sampling.max_tokens, "temperature": sampling.temperature,
            "do_sample": sampling.temperature.is_some_and(|temperature| temperature > 0.0),
        }))],
        _ => vec![pair(Value::Null)],
    };
    let named = requests.into_iter().enumerate();
    Value::Object(
        named
            .map(|(index, value)| (format!("gen_args_{index}"), value))
            .collect(),
    )
}

/// A plain prompt's words; else the conversation as JSON, which is how lm-eval keeps one.
fn text(prompt: &Prompt) -> String {
    if prompt.plain {
        return prompt.messages.iter().map(|message| message.joined_text()).collect();
    }
    let messages = prompt.messages.iter().map(|message| {
        let role = match message.role {
            Role::System => "system",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
            _ => "user",
        };
        let text_alone = message.parts.iter().all(|part| matches!(part, Part::Text { .. }));
        let content = match text_alone {
            true => json!(message.joined_text()),
            false => json!(message.parts),
        };
        json!({ "role": role, "content": content })
    });
    Value::Array(messages.collect()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::store::score::ScoreEntry;
    use plugin_api::{Message, OptionScore, Reply, Sampling, Score};

    fn record(prompt: &Prompt, reply: Reply) -> Record {
        let mut record = Record {
            arguments: serde_json::to_value(prompt).unwrap(),
            doc_id: 3,
            task: "t".to_owned(),
            ..Record::default()
        };
        record.of_reply(reply);
        record.score_by_task(ScoreEntry::of_score(Score::graded(true)));
        record
    }

    #[test]
    fn options_are_requests_of_their_own() {
        let prompt = Prompt::plain("Question: ?\nAnswer:").choose([" a", " b"]);
        let options = vec![OptionScore::default(), OptionScore::default()];
        let sample = sample(&record(&prompt, Reply::scored(options)), "none");
        let pair = |option| json!({ "arg_0": "Question: ?\nAnswer:", "arg_1": option });
        assert_eq!(
            sample["arguments"],
            json!({ "gen_args_0": pair(" a"), "gen_args_1": pair(" b") })
        );
        assert_eq!(sample["resps"], json!([[[0.0, false]], [[0.0, false]]]));
        assert_eq!(
            (&sample["metrics"], &sample["acc"], &sample["doc_id"]),
            (&json!(["acc"]), &json!(1.0), &json!(3))
        );
    }

    #[test]
    fn a_conversation_is_kept_as_json() {
        let prompt = Prompt::new([Message::system("s"), Message::user("u")]).sample(Sampling::greedy(7));
        let sample = sample(&record(&prompt, Reply::text("x")), "letter");
        let first = &sample["arguments"]["gen_args_0"];
        assert_eq!(
            first["arg_0"],
            r#"[{"role":"system","content":"s"},{"role":"user","content":"u"}]"#
        );
        assert_eq!(
            (&first["arg_1"]["max_gen_toks"], &first["arg_1"]["do_sample"]),
            (&json!(7), &json!(false))
        );
        assert_eq!(
            (&sample["filter"], &sample["filtered_resps"]),
            (&json!("letter"), &json!(["x"]))
        );
    }
}
