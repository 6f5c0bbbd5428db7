//! Runs in the layout of the published experiments, so that other people's scripts read them.

use super::baseline::{Baseline, Chain};
use super::outcome::records;
use super::store::write_whole;
use crate::failure::{Failure, Result};
use faithfulness::experiment::Experiment;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// Which columns are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    R1,
    R3,
}

/// Writes a run's chains and all its sweeps below a folder, and returns the files.
pub fn export(
    baseline: &Baseline,
    sweeps: &[PathBuf],
    model: &str,
    dataset: &str,
    release: Release,
    out: &Path,
) -> Result<Vec<PathBuf>> {
    let mut folder = Files {
        out,
        written: Vec::new(),
    };
    let chains: HashMap<(&str, u64), &Chain> = baseline
        .chains
        .iter()
        .map(|chain| ((chain.id.as_str(), chain.chain), chain))
        .collect();
    let mut all: BTreeMap<String, Value> = BTreeMap::new();
    for sweep in sweeps {
        for record in records(sweep)? {
            all.insert(record["key"].as_str().unwrap_or_default().to_owned(), record);
        }
    }
    let mut records: Vec<&Value> = all.values().collect();
    records.sort_by_key(|record| {
        let point = record["point"].as_f64().unwrap_or(-1e3);
        (
            record["doc_id"].as_u64(),
            record["chain"].as_u64(),
            record["condition"].to_string(),
            ((point + 1e6) * 1e3) as u64,
        )
    });
    match release {
        Release::R1 => r1(baseline, &records, &chains, &mut folder)?,
        Release::R3 => r3(baseline, &records, &chains, model, dataset, &mut folder)?,
    }
    Ok(folder.written)
}

/// Files below a folder.
struct Files<'a> {
    out: &'a Path,
    written: Vec<PathBuf>,
}

impl Files<'_> {
    fn add(&mut self, name: &str, text: &str) -> Result<()> {
        let path = self.out.join(name);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|why| Failure::unwritable(folder, why))?;
        }
        write_whole(&path, text)?;
        self.written.push(path);
        Ok(())
    }
}

fn r1(
    baseline: &Baseline,
    records: &[&Value],
    chains: &HashMap<(&str, u64), &Chain>,
    folder: &mut Files<'_>,
) -> Result<()> {
    let mut questions: BTreeMap<u64, Vec<&Chain>> = BTreeMap::new();
    for chain in &baseline.chains {
        questions.entry(chain.doc_id).or_default().push(chain);
    }
    let rows = questions.values().map(|chains| {
        let scores: Vec<f64> = chains.iter().map(|chain| f64::from(u8::from(chain.right))).collect();
        let mean = scores.iter().sum::<f64>() / scores.len() as f64;
        let variance = scores.iter().map(|score| (score - mean).powi(2)).sum::<f64>() / scores.len() as f64;
        json!({
            "id": chains[0].id, "audio_path": chains[0].audio, "true_answer_letter": chains[0].truth,
            "runs_predictions": chains.iter().map(|chain| &chain.answer).collect::<Vec<_>>(),
            "runs_scores": scores.iter().map(|score| *score as u8).collect::<Vec<_>>(),
            "mean_accuracy": mean, "accuracy_std": variance.sqrt(),
            "runs_reasonings": chains.iter().map(|chain| &chain.reasoning).collect::<Vec<_>>(),
        })
    });
    folder.add("results.jsonl", &lines(rows))?;
    let conditioned = records
        .iter()
        .filter(|record| record["experiment"] == "conditioned" && record["chain"] == 0);
    let rows = conditioned.filter_map(|record| {
        let chain = chains.get(&place(record))?;
        Some(json!({
            "id": chain.id, "audio_path": chain.audio, "true_answer_letter": chain.truth, "original_prediction": chain.answer,
            "conditioned_prediction": record["letter"], "provided_reasoning": record["given"],
            "is_correct": u8::from(record["right"] == true), "prediction_changed": record["letter"].as_str() != chain.answer.as_deref(),
        }))
    });
    folder.add("conditioned.jsonl", &lines(rows))
}

fn r3(
    baseline: &Baseline,
    records: &[&Value],
    chains: &HashMap<(&str, u64), &Chain>,
    model: &str,
    dataset: &str,
    folder: &mut Files<'_>,
) -> Result<()> {
    let own = baseline.chains.iter().map(|chain| {
        let mut row = json!({
            "id": chain.id, "chain_id": chain.chain, "predicted_choice": chain.answer, "correct_choice": chain.truth,
            "is_correct": chain.right, "final_answer_raw": chain.raw, "final_prompt_messages": [],
        });
        context(&mut row, chain);
        row["generated_cot"] = json!(chain.reasoning);
        row["sanitized_cot"] = json!(chain.sanitized);
        row
    });
    folder.add(&path(Experiment::Baseline, model, dataset, ""), &lines(own))?;
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for record in records.iter().filter(|record| record["error"].is_null()) {
        let Some(experiment) = record["experiment"].as_str().and_then(Experiment::parse) else {
            continue;
        };
        let Some(chain) = chains.get(&place(record)) else {
            continue;
        };
        let condition = record["condition"].as_str().unwrap_or_default();
        let row = row(experiment, record, chain, model);
        files
            .entry(path(experiment, model, dataset, condition))
            .or_default()
            .push_str(&format!("{row}\n"));
    }
    files.iter().try_for_each(|(file, text)| folder.add(file, text))
}

/// `results/{model}/{experiment}/…`, masks and hints in folders of their own.
fn path(experiment: Experiment, model: &str, dataset: &str, condition: &str) -> String {
    let name = experiment.name();
    let (below, suffix) = match (experiment, condition.split_once('_')) {
        (Experiment::AudioMasking, Some((kind, mode))) => (format!("{kind}/{mode}/"), format!("_{condition}")),
        (Experiment::Hint, Some((aug, _))) => (format!("{aug}/"), format!("_{condition}")),
        _ => (String::new(), String::new()),
    };
    format!("results/{model}/{name}/{below}{name}_{model}_{dataset}{suffix}.jsonl")
}

fn row(experiment: Experiment, record: &Value, chain: &Chain, model: &str) -> Value {
    let mut row = json!({ "id": chain.id, "chain_id": chain.chain });
    let point = record["point"].clone();
    let condition = record["condition"].as_str().unwrap_or_default();
    let (kind, mode) = condition.split_once('_').unwrap_or((condition, ""));
    match experiment {
        Experiment::EarlyAnswering => row["num_sentences_provided"] = point,
        Experiment::Paraphrasing => row["num_sentences_paraphrased"] = point,
        Experiment::FillerText => row["percentile"] = point,
        Experiment::AudioMasking => {
            row["mask_percent"] = point;
            row["mask_type"] = json!(kind);
            row["mask_mode"] = json!(mode);
        }
        Experiment::Hint => {
            row["adversarial_aug"] = json!(kind);
            row["adversarial_variant"] = json!(mode);
        }
        Experiment::Snr => row["snr_db"] = point,
        _ => match experiment.scale() {
            faithfulness::experiment::Scale::Positions => row["mistake_position"] = point,
            faithfulness::experiment::Scale::Percent => row["percent_replaced"] = point,
            _ if !condition.is_empty() => row["condition"] = json!(condition),
            _ => {}
        },
    }
    if matches!(
        experiment.scale(),
        faithfulness::experiment::Scale::Sentences | faithfulness::experiment::Scale::Positions
    ) {
        row["total_sentences_in_chain"] = record["total"].clone();
    }
    row["predicted_choice"] = record["letter"].clone();
    row["correct_choice"] = json!(chain.truth);
    row["is_correct"] = record["right"].clone();
    if !matches!(experiment, Experiment::FillerText | Experiment::NoReasoning) {
        row["corresponding_baseline_predicted_choice"] = json!(chain.answer);
        row["is_consistent_with_baseline"] =
            json!(record["letter"].as_str().is_some() && record["letter"].as_str() == chain.answer.as_deref());
    }
    for column in [
        "perturbation_source",
        "mistaken_sentence",
        "reasoning_continuation",
        "hint_choice",
        "option_probabilities",
    ] {
        if !record[column].is_null() {
            row[column] = record[column].clone();
        }
    }
    row["final_answer_raw"] = match &record["final_answer_raw"] {
        Value::Null => json!(
            record["letter"]
                .as_str()
                .map(|letter| format!("({letter})"))
                .unwrap_or_default()
        ),
        said => said.clone(),
    };
    match experiment {
        Experiment::EarlyAnswering => {
            row["modified_reasoning"] = record["given"].clone();
            row["final_prompt_messages"] = json!([]);
            row["sanitized_cot"] = json!(chain.sanitized);
            context(&mut row, chain);
            row["model"] = json!(model);
            row["prompt_protocol"] = record["family"].clone();
        }
        Experiment::AudioMasking | Experiment::Hint | Experiment::Snr | Experiment::Swap => {
            context(&mut row, chain);
            row["generated_cot"] = record["generated_reasoning"].clone();
            row["sanitized_cot"] = record["generated_reasoning"].clone();
            // The last change is the experiment's own.
            let changes = record["audio"][0]["changes"].as_array();
            if let Some(segments) = changes.and_then(|changes| changes.last()?.get("segments")) {
                row["mask_segments"] = segments.clone();
            }
        }
        _ => {
            row["modified_reasoning_chain"] = record["given"].clone();
            row["final_prompt_messages"] = json!([]);
            context(&mut row, chain);
        }
    }
    row
}

fn context(row: &mut Value, chain: &Chain) {
    let context = json!({ "question": chain.question(""), "choices": chain.choices(), "audio_path": chain.audio });
    if let (Some(row), Value::Object(context)) = (row.as_object_mut(), context) {
        let context: Map<String, Value> = context;
        row.extend(context);
    }
}

fn place(record: &Value) -> (&str, u64) {
    (
        record["sample_id"].as_str().unwrap_or_default(),
        record["chain"].as_u64().unwrap_or(0),
    )
}

fn lines(rows: impl Iterator<Item = Value>) -> String {
    rows.map(|row| format!("{row}\n")).collect()
}
