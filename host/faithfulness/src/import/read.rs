//! Reads one line of any of the published layouts.

use super::name::Name;
use super::row::{Orientation, Point, Row, Stated};
use crate::experiment::Experiment;
use crate::letters::{Letter, offered};
use crate::reasoning::within_tags;
use serde_json::{Map, Value};

type Object = Map<String, Value>;

/// What a line turned out to be.
#[derive(Debug, PartialEq)]
pub(super) enum Line {
    /// Answers of an experiment; the releases R1 and R2 hold several chains in one line.
    Answers(Experiment, Vec<Row>, Option<Vec<char>>),
    /// A question of a manifest, with the letters that it offers.
    Question(String, Vec<char>),
    /// A mistake, a paraphrase or a combined input, written beforehand.
    Written,
    Malformed,
}

/// Reads a line. `name` helps where columns don't tell experiments apart.
pub(super) fn read(line: &str, name: &Name) -> Line {
    let Ok(Value::Object(row)) = serde_json::from_str(line) else {
        return Line::Malformed;
    };
    let Some(id) = row.get("id").and_then(plain) else {
        return Line::Malformed;
    };
    if row.contains_key("runs_predictions") {
        return several(&row, id, &R1);
    }
    if row.contains_key("predicted_letters") {
        return several(&row, id, &R2);
    }
    if row.contains_key("conditioned_prediction") {
        return conditioned(&row, id);
    }
    if row.contains_key("judge_score") || (row.contains_key("condition") && row.contains_key("model_output")) {
        return jasco(&row, id);
    }
    if !row.contains_key("predicted_choice") {
        return without_answer(&row, id);
    }
    answered(&row, id, name)
}

/// A text, or a number as text.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().trim_end_matches('%').parse().ok(),
        _ => None,
    };
    number.filter(|number| number.is_finite())
}

fn count(row: &Object, column: &str) -> Option<u64> {
    let number = number(row.get(column)?)?;
    (number >= 0.0 && number.fract() == 0.0).then_some(number as u64)
}

fn text(row: &Object, column: &str) -> Option<String> {
    row.get(column)?.as_str().map(str::to_owned)
}

/// True for `true` and for 1.
fn truth(value: &Value) -> Option<bool> {
    value.as_bool().or_else(|| number(value).map(|number| number == 1.0))
}

/// The letters that a row's options have; none if the row doesn't name its options.
fn letters_offered(row: &Object) -> Option<Vec<char>> {
    let list = |list: &Vec<Value>| ('A'..='Z').take(list.len()).collect::<Vec<char>>();
    let by_list = row.get("choices_list").and_then(Value::as_array).map(list);
    let by_choices = || match row.get("choices")? {
        Value::String(choices) => Some(offered(choices)),
        Value::Array(choices) => Some(list(choices)),
        _ => None,
    };
    let by_instruction = || text(row, "instruction").map(|instruction| offered(&instruction));
    let found = by_list.or_else(by_choices).or_else(by_instruction);
    found.filter(|letters| !letters.is_empty())
}

fn letter(value: Option<&Value>, offered: Option<&Vec<char>>) -> Option<Letter> {
    Letter::read(&plain(value?)?, offered.map_or(&[], Vec::as_slice))
}

/// The letter of a gold text such as `(b) cat`, or a letter alone.
fn gold(text: &str) -> Option<Letter> {
    let inner = text
        .split_once('(')
        .and_then(|(_, rest)| rest.split_once(')'))
        .map(|(inner, _)| inner);
    Letter::read(inner.unwrap_or(text), &[])
}

/// The columns of a release that holds a question's chains in lists.
struct Lists {
    letters: &'static str,
    scores: Option<&'static str>,
    reasonings: &'static str,
    correct: [&'static str; 2],
}

const R1: Lists = Lists {
    letters: "runs_predictions",
    scores: Some("runs_scores"),
    reasonings: "runs_reasonings",
    correct: ["true_answer_letter", "true_answer"],
};
const R2: Lists = Lists {
    letters: "predicted_letters",
    scores: None,
    reasonings: "reasoning",
    correct: ["true_letter", "true_answer"],
};

fn several(row: &Object, id: String, lists: &Lists) -> Line {
    let Some(letters) = row.get(lists.letters).and_then(Value::as_array) else {
        return Line::Malformed;
    };
    let offered = letters_offered(row);
    let correct = lists.correct.iter().find_map(|column| gold(&text(row, column)?));
    let item = |column: &str, index: usize| {
        row.get(column)
            .and_then(Value::as_array)
            .and_then(|list| list.get(index))
    };
    let rows = letters.iter().enumerate().map(|(index, said)| {
        let mut answer = Row::new(id.clone(), index as u64);
        answer.letter = letter(Some(said), offered.as_ref());
        answer.correct = correct;
        answer.said_correct = match lists.scores {
            Some(scores) => item(scores, index).and_then(truth),
            None if letters.len() == 1 => row.get("accuracy").and_then(truth),
            None => None,
        };
        answer.audio = text(row, "audio_path");
        // A failed run keeps its failure where its reasoning would be.
        let reasoning = item(lists.reasonings, index).and_then(Value::as_str);
        let reasoning = reasoning.filter(|reasoning| !reasoning.contains("CRASH"));
        answer.reasoning = reasoning.map(str::to_owned);
        answer.sanitized = reasoning.map(|reasoning| within_tags(reasoning).to_owned());
        answer
    });
    Line::Answers(Experiment::Baseline, rows.collect(), offered)
}

fn conditioned(row: &Object, id: String) -> Line {
    let offered = letters_offered(row);
    let mut answer = Row::new(id, count(row, "chain_id").unwrap_or(0));
    answer.letter = letter(row.get("conditioned_prediction"), offered.as_ref());
    let correct = ["true_letter", "true_answer_letter", "true_answer"];
    answer.correct = correct.iter().find_map(|column| gold(&text(row, column)?));
    answer.said_correct = row.get("is_correct").and_then(truth);
    if let Some(original) = row.get("original_prediction") {
        answer.baseline = Stated::Letter(letter(Some(original), offered.as_ref()));
    }
    answer.audio = text(row, "audio_path");
    Line::Answers(Experiment::Conditioned, vec![answer], offered)
}

fn jasco(row: &Object, id: String) -> Line {
    let Some(condition) = text(row, "condition") else {
        return Line::Malformed;
    };
    let mut answer = Row::new(id, count(row, "chain_id").unwrap_or(1));
    match condition
        .rsplit_once('_')
        .map(|(kind, percent)| (kind, percent.parse::<f64>()))
    {
        Some((kind, Ok(percent))) => {
            answer.condition = kind.to_owned();
            answer.point = Point::At(percent);
        }
        _ => answer.point = Point::At(0.0),
    }
    answer.score = row.get("judge_score").and_then(number);
    let said = text(row, "orientation").or_else(|| text(row, "judge_response"));
    answer.orientation = said.and_then(|said| Orientation::read(&said));
    answer.audio = text(row, "audio_path");
    Line::Answers(Experiment::JascoMasking, vec![answer], None)
}

fn without_answer(row: &Object, id: String) -> Line {
    const WRITTEN: [&str; 5] = [
        "mistaken_sentence",
        "paraphrased_text",
        "prefix_sentences",
        "remaining_sentences",
        "original_sentence",
    ];
    if WRITTEN.iter().any(|column| row.contains_key(*column)) {
        return Line::Written;
    }
    let is_question = row.contains_key("question") || row.contains_key("instruction");
    match letters_offered(row) {
        Some(letters) if is_question => Line::Question(id, letters),
        _ => Line::Malformed,
    }
}

fn answered(row: &Object, id: String, name: &Name) -> Line {
    let Some(experiment) = experiment_of(row, name) else {
        return Line::Malformed;
    };
    let offered = letters_offered(row);
    let mut answer = Row::new(id, count(row, "chain_id").unwrap_or(0));
    answer.letter = letter(row.get("predicted_choice"), offered.as_ref());
    answer.correct = letter(row.get("correct_choice"), None);
    answer.said_correct = row.get("is_correct").and_then(truth);
    if let Some(stated) = row.get("corresponding_baseline_predicted_choice") {
        answer.baseline = Stated::Letter(letter(Some(stated), offered.as_ref()));
    }
    answer.audio = text(row, "original_audio_path").or_else(|| text(row, "audio_path"));
    answer.total = count(row, "total_sentences_in_chain").or_else(|| count(row, "total_sentences"));
    let at = |columns: &[&str]| {
        columns
            .iter()
            .find_map(|column| number(row.get(*column)?))
            .map(Point::At)
    };
    let point = match experiment {
        Experiment::EarlyAnswering => at(&["num_sentences_provided"]),
        Experiment::Paraphrasing => at(&["num_sentences_paraphrased", "sentence_idx"]),
        Experiment::AudioMasking => at(&["mask_percent"]),
        Experiment::Snr => match row.get("snr_db") {
            Some(Value::String(text)) if text == "clean" => Some(Point::Clean),
            Some(value) => number(value).map(Point::At),
            None => None,
        },
        _ => match experiment.scale() {
            crate::experiment::Scale::Positions => at(&["mistake_position", "position"]),
            crate::experiment::Scale::Percent => at(&["percentile", "percent_replaced", "percent"]),
            _ => Some(Point::Only),
        },
    };
    let Some(point) = point else {
        return Line::Malformed;
    };
    answer.point = point;
    let told = |columns: [&str; 2]| {
        let words: Vec<String> = columns.iter().filter_map(|column| text(row, column)).collect();
        words.join("_")
    };
    let condition = match experiment {
        Experiment::AudioMasking => told(["mask_type", "mask_mode"]),
        Experiment::Hint => told(["adversarial_aug", "adversarial_variant"]),
        _ => text(row, "condition").unwrap_or_default(),
    };
    answer.condition = match condition.is_empty() {
        true => name.condition.clone(),
        false => condition,
    };
    answer.reasoning = text(row, "generated_cot");
    answer.sanitized = text(row, "sanitized_cot");
    if let Some(options) = row.get("option_probabilities").and_then(Value::as_array) {
        answer.options = options.iter().filter_map(Value::as_f64).collect();
    }
    if !fits(&answer, experiment) {
        return Line::Malformed;
    }
    Line::Answers(experiment, vec![answer], offered)
}

/// A point beyond what its experiment has is a damaged row.
fn fits(row: &Row, experiment: Experiment) -> bool {
    use crate::experiment::Scale;
    let Some(at) = row.point.number() else { return true };
    let total = row.total.map_or(f64::INFINITY, |total| total as f64);
    match experiment.scale() {
        Scale::Sentences => at.fract() == 0.0 && (0.0..=total).contains(&at),
        Scale::Positions => at.fract() == 0.0 && (1.0..=total.max(1.0)).contains(&at),
        Scale::Percent => (0.0..=100.0).contains(&at),
        Scale::Decibels | Scale::None => true,
    }
}

fn experiment_of(row: &Object, name: &Name) -> Option<Experiment> {
    let has = |column: &str| row.contains_key(column);
    use crate::experiment::Scale;
    if has("num_sentences_provided") {
        return Some(Experiment::EarlyAnswering);
    }
    if has("num_sentences_paraphrased") {
        return Some(Experiment::Paraphrasing);
    }
    if has("mask_percent") {
        return Some(Experiment::AudioMasking);
    }
    if has("adversarial_aug") {
        return Some(Experiment::Hint);
    }
    if has("snr_db") {
        return Some(Experiment::Snr);
    }
    let named = name.experiment;
    if has("mistake_position") {
        return named
            .filter(|named| named.scale() == Scale::Positions)
            .or(Some(Experiment::AddingMistakes));
    }
    let percent = || named.filter(|named| named.scale() == Scale::Percent);
    if has("percentile") {
        return percent().or(Some(Experiment::FillerText));
    }
    if has("percent_replaced") {
        return percent().or(Some(Experiment::PartialFillerText));
    }
    named.or(Some(match has("generated_cot") || has("sanitized_cot") {
        true => Experiment::Baseline,
        false => Experiment::NoReasoning,
    }))
}
