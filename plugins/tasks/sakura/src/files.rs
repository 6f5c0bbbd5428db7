//! The authors' files: scores judges' replies and, by our rule, responses; writes runs in the expected format.

use crate::official::{Count, Judgement};
use crate::parse_answer;
use crate::question::{Question, Track};
use data::{Row, Rows};
use plugin_api::{
    Code, Error, FileAnswers, FileKind, FileScores, FilesCard, OfficialFiles, Output, Result, Rows as RunRows,
};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

pub(crate) struct Results;

const REPLIES: &str = "judge_replies";
const PREDICTIONS: &str = "predictions";
const FORMAT: &str = "sakura";

impl OfficialFiles for Results {
    fn card(&self) -> FilesCard {
        FilesCard::default()
            .reads(FileKind::new(REPLIES, "lines of `key` and `judge_reply`: the judge's words"))
            .reads(FileKind::new(
                PREDICTIONS,
                "the authors' results file, `instruction`, `response` and `label` by the clip's path; scored by our rule",
            ))
            .writes(FileKind::new(
                FORMAT,
                "a results file of each track and hop for the authors' script, and the judge's words where there are some",
            ))
    }

    fn score(&self, answers: &FileAnswers) -> Result<FileScores> {
        let rows = Rows::open(&answers.file)?;
        if rows.is_empty() {
            return Err(Error::new(
                Code::DATA,
                format!("`{}` holds no rows", answers.file.display()),
            ));
        }
        match answers.kind.as_str() {
            REPLIES => judged(&rows, answers.rows),
            PREDICTIONS => by_rule(&rows, answers.rows),
            other => Err(Error::unsupported(format!("sakura scores no `{other}`"))),
        }
    }

    fn export(&self, format: &str, rows: &mut RunRows, out: &mut Output) -> Result<()> {
        if format != FORMAT {
            return Err(Error::unsupported(format!("sakura writes no `{format}`")));
        }
        let mut sets: BTreeMap<String, Set> = BTreeMap::new();
        for row in rows {
            let row = row?;
            let doc = |name: &str| row.sample.doc[name].as_str();
            let Some(instruction) = doc("instruction") else {
                let message = format!("the record of sample `{}` has no instruction", row.sample.id);
                return Err(Error::new(Code::DATA, message).help("the run may be of another task"));
            };
            let track = doc("track").and_then(Track::from_word).map(Track::folder);
            let hop = doc("hop");
            let file = doc("file").unwrap_or(&row.sample.id);
            let key = match track {
                Some(track) => format!("data/{track}/audio/{}", file.rsplit('/').next().unwrap_or(file)),
                None => file.to_owned(),
            };
            let words = [track, hop].into_iter().flatten().map(str::to_lowercase);
            let name = words.collect::<Vec<_>>().join("_");
            let set = sets
                .entry(if name.is_empty() { "results".to_owned() } else { name })
                .or_default();
            set.about = (track, hop.map(str::to_owned));
            let response = row.reply.as_ref().map_or("", |reply| reply.text.as_str());
            if let Some(words) = row.score.details.get("judge_reply") {
                set.judged.push(json!({ "key": key, "judge_reply": words }));
            }
            let result = json!({ "instruction": instruction, "response": response, "label": row.sample.target });
            if set.results.insert(key.clone(), result).is_some() {
                let message =
                    format!("several questions of one kind are about `{key}`, which the format has no place for");
                return Err(Error::new(Code::DATA, message));
            }
        }
        for (name, set) in sets {
            let (track, hop) = set.about;
            let file = format!("{name}.json");
            let results = json!({ "attribute": track, "type": hop, "results": set.results });
            out.write(&file, &(serde_json::to_string_pretty(&results)? + "\n"))?;
            for line in set.judged {
                out.line(&format!("{name}_judge_replies.jsonl"), &line)?;
            }
        }
        Ok(())
    }
}

/// One track and hop of a run.
#[derive(Default)]
struct Set {
    about: (Option<&'static str>, Option<String>),
    results: Map<String, Value>,
    judged: Vec<Value>,
}

/// What names a row: its `key`, else its place in the file.
fn key(row: &Row, index: usize) -> String {
    row.word("key")
        .map_or_else(|_| (index + 1).to_string(), |key| key.into_owned())
}

/// Every row is judged: an empty reply of a judge is invalid, like one without a judgement.
fn judged(rows: &Rows, wanted: bool) -> Result<FileScores> {
    let mut count = Count::default();
    let mut verdicts = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let row = row?;
        let words = match row.value.get("judge_reply") {
            Some(Value::Null) => "",
            _ => row.text("judge_reply")?,
        };
        let verdict = Judgement::read(words).verdict();
        count.add(verdict);
        if wanted {
            verdicts.push(json!({ "key": key(&row, index), "verdict": verdict.word() }));
        }
    }
    let mut scores = FileScores::of(rows.len())
        .metric("accuracy", count.accuracy())
        .metric("correct", count.correct)
        .metric("incorrect", count.incorrect)
        .metric("invalid", count.invalid);
    scores.rows = verdicts;
    if count.invalid > 0 {
        scores.notes.push(format!(
            "{} of {} replies hold no judgement and count as wrong; the authors ask that these be judged by hand",
            count.invalid,
            count.total()
        ));
    }
    Ok(scores)
}

fn by_rule(rows: &Rows, wanted: bool) -> Result<FileScores> {
    let (mut right, mut none) = (0_u64, 0_u64);
    let mut verdicts = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let row = row?;
        let question = Question::read(&row, None)?;
        let response = row.text("response")?;
        let choice = parse_answer::choice(response, &question).option();
        let correct = choice.is_some() && choice == question.right;
        right += u64::from(correct);
        none += u64::from(choice.is_none());
        if wanted {
            let chosen = choice.and_then(|index| question.option(index));
            verdicts.push(json!({ "key": key(&row, index), "correct": correct, "chosen": chosen }));
        }
    }
    let mut scores = FileScores::of(rows.len())
        .metric("rule_acc", right as f64 / rows.len() as f64)
        .count("no_answer", none);
    scores.rows = verdicts;
    scores
        .notes
        .push("scored by our own rule; the official figure needs a judge's words, see `--judge-replies`".to_owned());
    Ok(scores)
}
