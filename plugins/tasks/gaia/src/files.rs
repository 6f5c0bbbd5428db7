//! Scores and writes the leaderboard's submission files, and converts traces to the format that models are trained on.

use crate::conversation::{marks_answers, messages};
use crate::{official, question, tools};
use data::{Row, Rows};
use plugin_api::{
    Code, Error, FileAnswers, FileKind, FileScores, FilesCard, OfficialFiles, Output, Result, Role, Rows as RunRows,
};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::PathBuf;
use template::Template;

pub(crate) struct Submissions;

const PREDICTIONS: &str = "predictions";
const FORMAT: &str = "gaia";
const CONVERSION: &str = "traces";

/// The levels of the leaderboard.
const LEVELS: [&str; 3] = ["1", "2", "3"];

impl OfficialFiles for Submissions {
    fn card(&self) -> FilesCard {
        FilesCard::default()
            .reads(FileKind::new(PREDICTIONS, "lines of `task_id` and `model_answer`, the answer alone").with_gold())
            .writes(FileKind::new(
                FORMAT,
                "predictions.jsonl for the leaderboard; of a run on traces traces.jsonl, with what was expected and what was said",
            ))
            .converts(FileKind::new(
                CONVERSION,
                "conversations with `tool_calls`, or with `<tool_call>` in their text, as training traces of `id` and `messages`",
            ))
    }

    fn score(&self, answers: &FileAnswers) -> Result<FileScores> {
        if answers.kind != PREDICTIONS {
            return Err(Error::unsupported(format!("gaia scores no `{}`", answers.kind)));
        }
        let gold = data::by_id(&answers.gold, |row| {
            let known = Known {
                truth: question::truth(row)?,
                level: question::level(row)?,
            };
            Ok((question::id(row)?, known))
        })?;
        scores(&gold, &Rows::open(&answers.file)?, answers.rows)
    }

    fn export(&self, format: &str, rows: &mut RunRows, out: &mut Output) -> Result<()> {
        if format != FORMAT {
            return Err(Error::unsupported(format!("gaia writes no `{format}`")));
        }
        for row in rows {
            let row = row?;
            let (sample, reply) = (&row.sample, row.reply.unwrap_or_default());
            let detail = |name: &str| row.score.details.get(name);
            if let (Some(gold), Some(predicted)) = (detail("gold_raw"), detail("pred_raw")) {
                let line = json!({
                    "id": sample.cluster, "turn": sample.doc["turn"], "gold_raw": gold, "pred_raw": predicted,
                    "gold_calls": detail("gold_calls"), "pred_calls": detail("pred_calls"),
                    "metrics": row.score.values, "latency_ms": reply.timing.total_ms,
                });
                out.line("traces.jsonl", &line)?;
                continue;
            }
            let trace = match &reply.thinking {
                Some(thinking) => format!("{thinking}\n{}", reply.text),
                None => reply.text,
            };
            let answer = row.score.answer.unwrap_or_default();
            let line = json!({ "task_id": sample.id, "model_answer": answer, "reasoning_trace": trace });
            out.line("predictions.jsonl", &line)?;
        }
        Ok(())
    }

    fn convert(&self, conversion: &str, files: &[PathBuf], out: &mut Output) -> Result<()> {
        if conversion != CONVERSION {
            return Err(Error::unsupported(format!("gaia has no conversion `{conversion}`")));
        }
        let template = Template::load(&plugin_api::Settings::default(), include_str!("tools.jinja"))?;
        for row in Rows::open_all(files)?.iter() {
            out.line("traces.jsonl", &converted(&row?, &template)?)?;
        }
        Ok(())
    }
}

/// What is known of a task.
#[derive(Debug, PartialEq)]
struct Known {
    truth: Option<String>,
    level: Option<String>,
}

/// Right ones and all, overall and by level.
#[derive(Default)]
struct Share {
    right: u64,
    all: u64,
}

impl Share {
    fn value(&self) -> Option<f64> {
        (self.all > 0).then(|| self.right as f64 / self.all as f64)
    }
}

/// Scores are means over all tasks of the data that have an answer, like the leaderboard's over a split: a task
/// without a prediction counts as wrong.
fn scores(gold: &HashMap<String, Known>, predictions: &Rows, wanted: bool) -> Result<FileScores> {
    if predictions.is_empty() {
        return Err(Error::new(Code::DATA, "there are no predictions"));
    }
    let mut last: HashMap<String, bool> = HashMap::new();
    let (mut hidden, mut twice, mut unknown) = (0_u64, 0_u64, 0_usize);
    let mut rows = Vec::new();
    for row in predictions.iter() {
        let row = row?;
        let id = question::id(&row)?;
        let Some(known) = gold.get(&id) else {
            unknown += 1;
            if wanted {
                rows.push(json!({ "task_id": id, "correct": null }));
            }
            continue;
        };
        let answer = answer(&row);
        let verdict = known
            .truth
            .as_ref()
            .map(|truth| answer.is_some_and(|answer| official::is_right(&answer, truth)));
        if wanted {
            rows.push(json!({ "task_id": id, "correct": verdict }));
        }
        match verdict {
            Some(right) => twice += u64::from(last.insert(id, right).is_some()),
            None => hidden += 1,
        }
    }
    if unknown == predictions.len() {
        let error = Error::new(Code::DATA, "none of the predictions is for a task of the data");
        return Err(error.help("are predictions and data of the same split?"));
    }
    let mut all = Share::default();
    let mut levels: HashMap<&str, Share> = HashMap::new();
    for (id, known) in gold.iter().filter(|(_, known)| known.truth.is_some()) {
        let right = last.get(id).copied().unwrap_or(false);
        for share in [
            &mut all,
            levels.entry(known.level.as_deref().unwrap_or_default()).or_default(),
        ] {
            share.right += u64::from(right);
            share.all += 1;
        }
    }
    let level = |level: &str| levels.get(level).and_then(Share::value);
    let mut scores = FileScores::of(last.len()).metric("accuracy", all.value());
    for name in LEVELS {
        scores = scores.metric(format!("level_{name}"), level(name));
    }
    let not_predicted = all.all - last.len() as u64;
    scores = scores.count("not_predicted", not_predicted).count("unknown", unknown);
    scores.gold_total = Some(gold.len() as u64);
    scores.rows = rows;
    let mut note = |count: u64, words: &str| {
        if count > 0 {
            scores.notes.push(format!("{count} {words}"));
        }
    };
    note(not_predicted, "tasks have no prediction and count as wrong");
    note(twice, "predictions repeat an earlier task; the last one of each counts");
    note(
        hidden,
        "predictions are for tasks with hidden answers, which cannot be scored here",
    );
    Ok(scores)
}

/// An answer as text; none if it is missing or not a text, number or boolean.
fn answer(row: &Row) -> Option<String> {
    match row.at("model_answer")? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        // In Python's spelling.
        Value::Bool(true) => Some("True".to_owned()),
        Value::Bool(false) => Some("False".to_owned()),
        _ => None,
    }
}

/// A conversation as a training trace: all calls as text, tools in a system message where the conversation has none.
fn converted(row: &Row, template: &Template) -> Result<Value> {
    let said = messages(row)?;
    let mut lines: Vec<Value> = said.iter().map(|one| one.to_json()).collect();
    if said.iter().all(|one| one.role != Role::System) {
        let tools = match row.at("tools") {
            Some(_) => row.list("tools")?,
            None => &[],
        };
        if let Some(odd) = tools.iter().position(|tool| tools::name(tool).is_none()) {
            return Err(row.wrong(&format!("tools.{odd}"), "has no name"));
        }
        let marks = marks_answers(&said);
        // Without tools or marked answers, no system message is added.
        if marks || !tools.is_empty() {
            let text = template.render(json!({ "tools": tools, "final": marks }))?;
            lines.insert(0, json!({ "role": "system", "content": text.trim() }));
        }
    }
    Ok(json!({ "id": row.word("id")?, "messages": lines }))
}
