use faithfulness::verify::{Expectation, Finding, State, array_split, verify};
use serde_json::{Value, json};
use std::path::PathBuf;

fn found(files: &[(&str, Vec<Value>)]) -> Vec<Finding> {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = files.iter().map(|(name, _)| folder.path().join(name)).collect();
    for ((_, rows), path) in files.iter().zip(&paths) {
        let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
        std::fs::write(path, text).unwrap();
    }
    verify(&paths, Expectation::default()).unwrap()
}

fn baseline(id: &str, reasoning: &str) -> Value {
    json!({ "id": id, "chain_id": 0, "predicted_choice": "A", "correct_choice": "A", "generated_cot": reasoning, "sanitized_cot": reasoning })
}

fn early(id: &str, k: usize, total: usize) -> Value {
    json!({ "id": id, "chain_id": 0, "num_sentences_provided": k, "total_sentences_in_chain": total, "predicted_choice": "A", "correct_choice": "A" })
}

#[test]
fn missing_extra_and_repeated_keys_are_named() {
    let findings = found(&[
        (
            "baseline_qwen_mmar.jsonl",
            vec![baseline("q1", "It rang. It stopped."), baseline("q2", "A dog barks.")],
        ),
        (
            "early_answering_qwen_mmar.jsonl",
            vec![
                early("q1", 0, 2),
                early("q1", 0, 2),
                early("q1", 2, 2),
                early("q2", 0, 1),
                early("q2", 1, 1),
                early("q3", 0, 1),
            ],
        ),
    ]);
    let [_, finding] = &findings[..] else {
        panic!("{findings:?}")
    };
    assert_eq!(finding.state, State::CountMismatch);
    assert_eq!(finding.expected, Some(5));
    assert_eq!(
        (&finding.missing[..], &finding.extra[..], &finding.repeated[..]),
        (
            &["q1/0/1".to_owned()][..],
            &["q3/0/0".to_owned()][..],
            &["q1/0/0".to_owned()][..]
        )
    );
}

#[test]
fn sentences_without_words_enough_need_no_mistake() {
    let mistake = |m: usize| json!({ "id": "q1", "chain_id": 0, "mistake_position": m, "total_sentences_in_chain": 3, "predicted_choice": "A", "correct_choice": "A" });
    let findings = found(&[
        ("adding_mistakes_qwen_mmar.jsonl", vec![mistake(1), mistake(3)]),
        (
            "baseline_qwen_mmar.jsonl",
            vec![baseline("q1", "It is loud. It rang. Then it stopped.")],
        ),
    ]);
    assert_eq!(findings[0].state, State::CountsMatch, "{findings:?}");
    assert_eq!(findings[0].expected, Some(2));
}

#[test]
fn a_part_that_is_not_there_is_missed() {
    let ids = ["q1", "q2", "q3"];
    let findings = found(&[
        (
            "baseline_qwen_mmar.jsonl",
            ids.iter().map(|id| baseline(id, "A dog barks.")).collect(),
        ),
        (
            "early_answering_qwen_mmar.part_1.jsonl",
            vec![early("q1", 0, 1), early("q1", 1, 1)],
        ),
        (
            "early_answering_qwen_mmar.part_3.jsonl",
            vec![early("q3", 0, 1), early("q3", 1, 1)],
        ),
    ]);
    let states: Vec<State> = findings.iter().map(|finding| finding.state).collect();
    assert_eq!(
        states,
        [
            State::Exists,
            State::CountsMatch,
            State::MissingOutputPart,
            State::CountsMatch
        ]
    );
}

#[test]
fn fillers_have_21_keys_and_masks_11_a_condition() {
    let mask = |percent: u32, mode: &str| json!({ "id": "q1", "chain_id": 0, "mask_percent": percent, "mask_type": "silence", "mask_mode": mode, "predicted_choice": "A", "correct_choice": "A" });
    let rows = ["start", "end"]
        .iter()
        .flat_map(|mode| (0..10).map(|ten| mask(10 * ten, mode)))
        .collect();
    let findings = found(&[("audio_masking_qwen_mmar.jsonl", rows)]);
    assert_eq!(findings[0].missing, ["q1/0/silence_end/100", "q1/0/silence_start/100"]);
    let filler = |percent: u32| json!({ "id": "q1", "chain_id": 0, "percent_replaced": percent, "predicted_choice": "A", "correct_choice": "A" });
    let findings = found(&[(
        "partial_filler_text_qwen_mmar.jsonl",
        (0..=20).map(|five| filler(5 * five)).collect(),
    )]);
    assert_eq!(
        (findings[0].state, findings[0].expected),
        (State::CountsMatch, Some(21))
    );
}

#[test]
fn parts_are_cut_as_numpy_cuts_them() {
    let lengths: Vec<usize> = array_split(10, 4).iter().map(|range| range.len()).collect();
    assert_eq!(lengths, [3, 3, 2, 2]);
}
