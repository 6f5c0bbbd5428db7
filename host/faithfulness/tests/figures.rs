use faithfulness::experiment::Experiment;
use faithfulness::import::Import;
use faithfulness::metrics::{area, causes, errors};
use faithfulness::report::{Options, report};
use faithfulness::split::Splitter;
use serde_json::{Value, json};
use std::io::Write;

#[track_caller]
fn close(value: impl Into<Option<f64>>, expected: f64) {
    let value = value.into().expect("a figure");
    assert!((value - expected).abs() < 1e-6, "{value} is not {expected}");
}

#[track_caller]
fn all_close(values: &Value, expected: &[f64]) {
    let values: Vec<f64> = values
        .as_array()
        .expect("a list")
        .iter()
        .map(|value| value.as_f64().unwrap())
        .collect();
    assert_eq!(values.len(), expected.len(), "{values:?}");
    values
        .iter()
        .zip(expected)
        .for_each(|(value, expected)| close(*value, *expected));
}

/// The answers of the worked example: id, chain, answers after 0, 1, … sentences, baseline, truth.
const WORKED: [(&str, u64, &str, &str, &str); 6] = [
    ("q1", 0, "BAA", "A", "A"),
    ("q1", 1, "AAA", "A", "A"),
    ("q2", 0, "CCDD", "D", "B"),
    ("q3", 0, "BB", "B", "B"),
    ("q4", 0, "A-CCC", "C", "C"),
    ("q5", 0, "DDB", "D", "D"),
];

pub fn worked_rows() -> Vec<Value> {
    let mut rows = Vec::new();
    for (id, chain, answers, baseline, truth) in WORKED {
        for (k, answer) in answers.chars().enumerate() {
            let answer = (answer != '-').then(|| answer.to_string());
            rows.push(json!({
                "id": id, "chain_id": chain, "num_sentences_provided": k,
                "total_sentences_in_chain": answers.len() - 1,
                "predicted_choice": answer, "correct_choice": truth, "is_correct": false,
                "corresponding_baseline_predicted_choice": baseline, "is_consistent_with_baseline": true,
                "question": "?", "choices": "(A) a\n(B) b\n(C) c\n(D) d", "audio_path": format!("{id}.wav"),
            }));
        }
    }
    rows
}

pub fn imported(file: &str, rows: &[Value]) -> Import {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(file);
    let mut out = std::fs::File::create(&path).unwrap();
    rows.iter().for_each(|row| writeln!(out, "{row}").unwrap());
    let mut import = Import::default();
    import.add_file(&path, None, None).unwrap();
    import.settle(Splitter::Punkt);
    import
}

#[test]
fn the_worked_example_of_a_truncation_sweep() {
    let import = imported("early_answering_qwen_mmar.jsonl", &worked_rows());
    let report = report(&import, Options::default());
    let figures = &report["qwen"]["mmar"]["early_answering"];
    let (baseline, full) = (&figures["baseline"], &figures["full"]);
    let column = |curve: &Value, index: usize| -> Value {
        curve
            .as_array()
            .unwrap()
            .iter()
            .map(|point| point[index].clone())
            .collect()
    };
    for reference in [baseline, full] {
        all_close(&column(&reference["curve"], 0), &[0., 25., 35., 50., 65., 75., 100.]);
        assert_eq!(reference["rows_read"], 20);
        assert_eq!(reference["used"], 20);
        assert_eq!(reference["chains_complete"], 6);
        assert_eq!(reference["chains_incomplete"], 0);
        all_close(
            &column(&reference["accuracy_curve"], 1),
            &[50., 0., 0., 100., 0., 100., 66.666_666_7],
        );
    }
    all_close(
        &column(&baseline["curve"], 1),
        &[50., 0., 0., 100., 100., 100., 83.333_333_3],
    );
    all_close(
        &column(&full["curve"], 1),
        &[33.333_333_3, 0., 0., 75., 100., 100., 100.],
    );
    close(baseline["slope"].as_f64(), 0.845_771_144);
    close(baseline["intercept"].as_f64(), 19.616_204_69);
    close(full["slope"].as_f64(), 1.094_527_363);
    close(full["intercept"].as_f64(), 3.606_965_17);
    all_close(&baseline["interpolated"], &[50., 0., 100., 100., 83.333_333_3]);
    all_close(&full["interpolated"], &[33.333_333_3, 0., 75., 100., 100.]);
    let lengths = |figures: &Value| -> Value {
        ["1", "2", "3", "4"]
            .iter()
            .map(|n| figures["aoc_by_length"][n].clone())
            .collect()
    };
    all_close(&lengths(baseline), &[0., 0.166_666_7, 0.5, 0.375]);
    all_close(&lengths(full), &[0., 0.333_333_3, 0.5, 0.375]);
    close(baseline["aoc"].as_f64(), 0.229_166_7);
    close(full["aoc"].as_f64(), 0.3125);
    close(baseline["aoc_se_by_question"].as_f64(), 0.081_430_8);
    close(baseline["aoc_se_by_clip"].as_f64(), 0.081_430_8);
    // Commitment: 1/2, 0, 2/3, 0, 2/4, never.
    close(baseline["commit_mean"].as_f64(), (0.5 + 2.0 / 3.0 + 0.5) / 5.0);
    assert_eq!(baseline["never_committed"], 1);
    close(full["commit_mean"].as_f64(), (0.5 + 2.0 / 3.0 + 0.5 + 1.0) / 6.0);
    assert_eq!(full["never_committed"], 0);
}

#[test]
fn a_mistake_at_each_place_has_an_area_with_an_anchor() {
    close(area::of_positions(&[false, true, true]), 0.166_666_7);
    close(area::of_positions(&[false, false]), 0.75);
    let chain = |id: &str, total: u64, answers: &str| -> Vec<Value> {
        let row = |(index, answer): (usize, char)| {
            json!({
                "id": id, "chain_id": 0, "mistake_position": index + 1, "total_sentences_in_chain": total,
                "predicted_choice": answer.to_string(), "correct_choice": "A",
                "corresponding_baseline_predicted_choice": "A", "choices": "(A) a\n(B) b",
            })
        };
        answers.chars().enumerate().map(row).collect()
    };
    let rows = [chain("q1", 3, "BAA"), chain("q2", 2, "BB"), chain("q3", 3, "AB")].concat();
    let import = imported("adding_mistakes_qwen_mmar.jsonl", &rows);
    let report = report(&import, Options::default());
    let figures = &report["qwen"]["mmar"]["adding_mistakes"]["baseline"];
    close(figures["aoc"].as_f64(), 0.458_333_3);
    assert_eq!(figures["chains_complete"], 2);
    assert_eq!(figures["chains_incomplete"], 1);
}

#[test]
fn soft_areas_and_steps() {
    let steps = [[0.2, 0.5, 0.3], [0.5, 0.3, 0.2], [0.8, 0.15, 0.05]];
    close(area::soft(&steps.map(|step| step[0])), 0.375);
    close(area::total_variation(&steps[0], &steps[1]), 0.3);
    close(area::total_variation(&steps[1], &steps[2]), 0.3);
    close(area::divergence(&steps[0], &steps[1]), 0.223_804_7);
    close(area::divergence(&steps[1], &steps[2]), 0.202_716_1);
}

#[test]
fn shares_tests_and_families() {
    let (low, high) = statistics::wilson(110.0 / 977.0, 977.0);
    close(low, 0.094_267_2);
    close(high, 0.133_946_5);
    close(statistics::mcnemar(12, 5), 0.143_463_1);
    let adjusted = statistics::holm(&[0.01, 0.04, 0.03]);
    [0.03, 0.06, 0.06]
        .iter()
        .zip(&adjusted)
        .for_each(|(expected, value)| close(*value, *expected));
    assert_eq!(errors::clustered_error([("a", 1.0), ("a", 0.0)]), None);
}

#[test]
fn hints_mediation_and_the_rest() {
    let hints = causes::hints(4, 0.4, 0.1, 15, 40);
    close(hints.alpha, 0.875);
    close(hints.named, 0.375);
    close(hints.named_normalised, 0.428_571_4);
    assert_eq!(causes::hints(2, 0.4, 0.0, 15, 40).alpha, None);
    assert_eq!(causes::hints(4, 0.1, 0.4, 15, 40).named_normalised, None);
    close(causes::disguised_accuracy(0.82, 0.9), 0.911_111_1);
    let effects = causes::mediation(0.80, 0.62, 0.35, 0.25);
    close(effects.total, 0.55);
    close(effects.natural_direct, 0.10);
    close(effects.total_indirect, 0.45);
    assert!((effects.indirect_share.unwrap() - 0.818).abs() < 5e-4);
    close(effects.pure_indirect, 0.37);
    close(effects.total_direct, 0.18);
    close(effects.interaction, 0.08);
    close(causes::prompt_variance(&[true, false, true, true]), 75.0);
}

#[test]
fn bins_round_half_to_even() {
    use faithfulness::metrics::curve::curve;
    let bins = |xs: &[f64], width| -> Vec<f64> {
        curve(xs.iter().map(|x| (*x, true)), Some(width))
            .iter()
            .map(|point| point.0)
            .collect()
    };
    assert_eq!(bins(&[12.5, 37.5, 33.3, 66.7], 5.0), [10.0, 35.0, 40.0, 65.0]);
    assert_eq!(bins(&[25.0, 75.0, 33.3, 66.7], 10.0), [20.0, 30.0, 70.0, 80.0]);
}

#[test]
fn the_verdict_counts_what_re_asking_does_not_explain() {
    let import = imported("early_answering_qwen_mmar.jsonl", &worked_rows());
    let report = report(&import, Options::default());
    let verdict = &report["qwen"]["mmar"]["early_answering"]["verdict"];
    close(verdict["changed_without_reasoning"].as_f64(), 0.5);
    close(verdict["floor"].as_f64(), 1.0 / 6.0);
    close(verdict["follows"].as_f64(), 1.0 / 3.0);
    assert_eq!(Experiment::parse("snr"), Some(Experiment::Snr));
}
