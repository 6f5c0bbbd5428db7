//! Which pictures come of which data, and that they show the numbers they should.

use crate::figures::imported;
use faithfulness::plot::plots;
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn files(file: &str, rows: &[Value]) -> BTreeMap<String, String> {
    plots(&imported(file, rows)).into_iter().collect()
}

fn names(files: &BTreeMap<String, String>) -> Vec<&str> {
    files.keys().map(String::as_str).collect()
}

/// `chains` chains of two sentences and one of three: the first half of the answers equals the baseline's `A`.
fn truncations(chains: usize) -> Vec<Value> {
    let mut rows = Vec::new();
    for chain in 0..chains + 1 {
        let total = if chain == chains { 3 } else { 2 };
        for k in 0..=total {
            rows.push(json!({
                "id": format!("q{chain}"), "chain_id": 0, "num_sentences_provided": k, "total_sentences_in_chain": total,
                "predicted_choice": if 2 * chain < chains { "A" } else { "B" }, "correct_choice": "A", "is_correct": true,
                "corresponding_baseline_predicted_choice": "A", "choices": "(A) a\n(B) b", "audio_path": "x.wav",
            }));
        }
    }
    rows
}

#[test]
fn a_length_that_many_chains_have_gets_a_plot_of_its_own() {
    let file = "early_answering_flamingo_mmar.jsonl";
    let many = files(file, &truncations(12));
    let own = "flamingo_mmar_early_answering_length_2.svg";
    assert!(many.contains_key(own), "{:?}", names(&many));
    assert!(
        !many.contains_key("flamingo_mmar_early_answering_length_3.svg"),
        "one chain is too few"
    );
    // Half of the answers are the same and right, at 0, 50 and 100 % of the chart's axis.
    assert!(many[own].contains("2 sentences, 12 chains"), "{}", many[own]);
    assert_eq!(
        many[own].matches("M79.5 205.0L275.0 205.0L470.5 205.0").count(),
        2,
        "{}",
        many[own]
    );
    let few = files(file, &truncations(10));
    assert!(
        !names(&few).iter().any(|name| name.contains("_length_")),
        "{:?}",
        names(&few)
    );
    assert_eq!(
        names(&few),
        [
            "flamingo_early_answering.svg",
            "flamingo_early_answering.txt",
            "flamingo_mmar_early_answering_accuracy.svg",
            "forest.svg"
        ]
    );
}

#[test]
fn judged_answers_to_jasco_are_lines_of_scores_and_columns_of_orientations() {
    let row = |condition: &str, id: u32, score: f64, orientation: &str| {
        json!({ "id": format!("j{id}"), "chain_id": 1, "condition": condition, "model_output": "x", "judge_score": score,
            "judge_response": format!("Orientation: {orientation}\nScore: {score}") })
    };
    // The spec's counts: 3 about the sounds, 5 about the speech, 8 about both, 4 about neither.
    let mut rows: Vec<Value> = (0..20)
        .map(|id| {
            let orientation = match id {
                0..3 => "Audio",
                3..8 => "Speech",
                8..16 => "Good",
                _ => "Neither",
            };
            row("speech_50", id, if id < 10 { 2.0 } else { 0.0 }, orientation)
        })
        .collect();
    rows.extend((0..20).map(|id| row("baseline", id, 2.0, "Good")));
    let found = files("jasco_masking_flamingo_jasco.jsonl", &rows);
    let scores = &found["flamingo_jasco_jasco_masking_scores.svg"];
    // A mean of 2 at 0 %, of 1 at 50 %.
    assert!(scores.contains("M79.5 55.0L275.0 205.0"), "{scores}");
    let columns = &found["flamingo_jasco_jasco_masking_speech_orientation.svg"];
    let tall = |share: f64| format!("height=\"{:.1}\"", 330.0 * share / 105.0);
    for share in [18.75, 31.25, 50.0, 100.0] {
        assert!(columns.contains(&tall(share)), "{share}: {columns}");
    }
    assert!(
        !found.contains_key("flamingo_jasco_masking.svg"),
        "no letters, no consistency: {:?}",
        names(&found)
    );
}

#[test]
fn noise_has_the_clean_clip_as_a_level() {
    let row = |id: u32, level: Value, letter: &str| {
        json!({ "id": format!("s{id}"), "chain_id": 0, "snr_db": level, "predicted_choice": letter, "correct_choice": "A",
            "is_correct": letter == "A", "corresponding_baseline_predicted_choice": "A", "choices": "(A) a\n(B) b" })
    };
    let rows = [
        row(0, json!("clean"), "A"),
        row(1, json!("clean"), "B"),
        row(0, json!(0), "B"),
        row(1, json!(20), "A"),
    ];
    let found = files("snr_robustness_flamingo_mmar.jsonl", &rows);
    let lines = &found["flamingo_snr_robustness.svg"];
    assert!(
        lines.contains("mmar, clean clip") && lines.contains("M60.0 205.0L490.0 205.0"),
        "{lines}"
    );
}

#[test]
fn a_chain_shows_what_each_sentence_does_to_the_options() {
    let baseline = json!({ "id": "q", "chain_id": 0, "predicted_choice": "B", "correct_choice": "B", "is_correct": true,
        "generated_cot": "It hums. It is a <bee>.", "sanitized_cot": "It hums. It is a <bee>.", "choices": "(A) a\n(B) b" });
    let early = |k: u32, letter: &str, options: [f64; 2]| {
        json!({ "id": "q", "chain_id": 0, "num_sentences_provided": k, "total_sentences_in_chain": 2,
            "predicted_choice": letter, "correct_choice": "B", "is_correct": letter == "B",
            "corresponding_baseline_predicted_choice": "B", "choices": "(A) a\n(B) b", "option_probabilities": options })
    };
    let mut import = imported("baseline_flamingo_mmar.jsonl", &[baseline]);
    let rows = [
        early(0, "A", [0.75, 0.25]),
        early(1, "A", [0.75, 0.25]),
        early(2, "B", [0.25, 0.75]),
    ];
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    let name = faithfulness::import::Name::of("early_answering_flamingo_mmar.jsonl".as_ref());
    import.add_lines(text.as_bytes(), &name, "early", None, None).unwrap();
    let found: BTreeMap<String, String> = plots(&import).into_iter().collect();
    let chain = &found["flamingo_mmar_early_answering_chain.svg"];
    assert!(
        chain.contains("It is a &lt;bee&gt;.") && chain.contains("(no sentence)"),
        "{chain}"
    );
    // The last sentence moves half of the probability, the first one none.
    assert_eq!(
        (
            chain.matches("fill-opacity=\"0.40\"").count(),
            chain.matches("fill-opacity=\"0.00\"").count()
        ),
        (1, 2)
    );
    assert_eq!(chain.matches("width=\"90.0\"").count(), 3, "{chain}");
}
