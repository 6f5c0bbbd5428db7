//! Baselines of our own invention, with curves and areas that were worked out on paper.

use crate::figures::imported;
use faithfulness::report::{Options, report};
use serde_json::{Value, json};

#[track_caller]
fn close(value: &Value, expected: f64) {
    let value = value.as_f64().unwrap_or_else(|| panic!("{value} is not a number"));
    assert!((value - expected).abs() < 1e-6, "{value} is not {expected}");
}

#[track_caller]
fn curve(value: &Value, expected: &[(f64, f64, u64)]) {
    let points = value.as_array().unwrap();
    assert_eq!(points.len(), expected.len(), "{value}");
    for (point, (x, y, n)) in points.iter().zip(expected) {
        close(&point[0], *x);
        close(&point[1], *y);
        assert_eq!(point[2], *n, "{point}");
    }
}

/// Rows of one chain: an answer a point, `-` for none, with `column` for the point.
fn chain(
    id: &str,
    answers: &str,
    baseline: &str,
    column: &str,
    points: impl Fn(usize) -> Value,
    more: Value,
) -> Vec<Value> {
    let row = |(index, answer): (usize, char)| {
        let mut row = json!({
            "id": id, "chain_id": 0, "predicted_choice": (answer != '-').then(|| answer.to_string()), "correct_choice": "C",
            "corresponding_baseline_predicted_choice": baseline, "choices": "(A) a\n(B) b\n(C) c\n(D) d",
            "audio_path": format!("{id}.wav"),
        });
        row[column] = points(index);
        row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        row
    };
    answers.chars().enumerate().map(row).collect()
}

fn figures(file: &str, rows: &[Value], experiment: &str) -> Value {
    report(&imported(file, rows), Options::default())["flamingo"]["mmar"][experiment].clone()
}

#[test]
fn a_truncation_sweep_over_lengths_of_4_2_and_5() {
    let early = |id: &str, answers: &str, baseline: &str| {
        let total = json!({ "total_sentences_in_chain": answers.len() - 1 });
        chain(id, answers, baseline, "num_sentences_provided", |k| json!(k), total)
    };
    // a: 0 0 1 1 1, b: 1 0 1, c: 1 1 1 1 1 0, whose last answer is none.
    let rows = [
        early("a", "BBAAA", "A"),
        early("b", "CAC", "C"),
        early("c", "DDDDD-", "D"),
    ]
    .concat();
    let found = figures("early_answering_flamingo_mmar.jsonl", &rows, "early_answering");
    let (baseline, full) = (&found["baseline"], &found["full"]);
    let thirds = 200.0 / 3.0;
    curve(
        &baseline["curve"],
        &[
            (0.0, thirds, 3),
            (20.0, 100.0, 1),
            (25.0, 0.0, 1),
            (40.0, 100.0, 1),
            (50.0, 50.0, 2),
            (60.0, 100.0, 1),
            (75.0, 100.0, 1),
            (80.0, 100.0, 1),
            (100.0, thirds, 3),
        ],
    );
    // 1 − (1/4)(1/2 + 0 + 1 + 1), 1 − (1/2)(1 + 0), 1 − (1/5)(1/2 + 4).
    for (length, area) in [("4", 0.375), ("2", 0.5), ("5", 0.1)] {
        close(&baseline["aoc_by_length"][length], area);
    }
    close(&baseline["aoc"], 0.325);
    // Deviations 0.05, 0.175, −0.225: sqrt(3/2 · 0.08375) / 3.
    close(&baseline["aoc_se_by_clip"], 0.118_145_390_6);
    close(&baseline["commit_mean"], (0.5 + 1.0) / 2.0);
    assert_eq!(baseline["never_committed"], 1);
    let interpolated = [thirds, 0.0, 50.0, 100.0, thirds];
    interpolated
        .iter()
        .enumerate()
        .for_each(|(at, y)| close(&baseline["interpolated"][at], *y));
    // Of 14 answers 10 stay.
    close(&baseline["consistency"], 10.0 / 14.0);
    // Without an answer to its whole reasoning, c has nothing to be compared with.
    assert_eq!((&full["no_reference"], &full["used"]), (&json!(6), &json!(8)));
    close(&full["aoc"], 0.4375);
    // Right is C: b at 0 and 100 %.
    curve(
        &baseline["accuracy_curve"],
        &[
            (0.0, 100.0 / 3.0, 3),
            (20.0, 0.0, 1),
            (25.0, 0.0, 1),
            (40.0, 0.0, 1),
            (50.0, 0.0, 2),
            (60.0, 0.0, 1),
            (75.0, 0.0, 1),
            (80.0, 0.0, 1),
            (100.0, 100.0 / 3.0, 3),
        ],
    );
}

#[test]
fn a_mistake_at_each_of_four_places() {
    let total = json!({ "total_sentences_in_chain": 4 });
    let rows = chain("a", "ABBA", "A", "mistake_position", |m| json!(m + 1), total);
    let found = figures("adding_mistakes_flamingo_mmar.jsonl", &rows, "adding_mistakes");
    // 1 − (1/4)(1/2 + 0 + 0 + 1 + 1/2); bins of 10 round 25 to 20 and 75 to 80.
    close(&found["baseline"]["aoc"], 0.5);
    curve(
        &found["baseline"]["curve"],
        &[(0.0, 100.0, 1), (20.0, 0.0, 1), (50.0, 0.0, 1), (80.0, 100.0, 1)],
    );
}

#[test]
fn masks_and_fillers_over_their_whole_grids() {
    let masked = |id: &str, answers: &str| {
        let more = json!({ "mask_type": "silence", "mask_mode": "start" });
        chain(id, answers, "B", "mask_percent", |step| json!(10 * step), more)
    };
    // Stays up to 30 % and again at 100 %: 1 − 0.1 · (1 + 3). The other changes at once: 1 − 0.1 · 1/2.
    let rows = [masked("a", "BBBBAAAAAAB"), masked("b", "BAAAAAAAAAA")].concat();
    let found = figures(
        "audio_masking_flamingo_mmar_silence_start.jsonl",
        &rows,
        "audio_masking",
    );
    close(&found["baseline"]["aoc"], (0.6 + 0.95) / 2.0);
    close(&found["baseline"]["consistency"], 6.0 / 22.0);
    // Stays below 50 %: 1 − 0.05 · (1/2 + 9).
    let answers = format!("{}{}", "A".repeat(10), "D".repeat(11));
    let rows = chain(
        "a",
        &answers,
        "A",
        "percent_replaced",
        |step| json!(5 * step),
        json!({}),
    );
    let found = figures("partial_filler_text_flamingo_mmar.jsonl", &rows, "partial_filler_text");
    close(&found["baseline"]["aoc"], 0.525);
    // A grid with a hole has no area.
    let found = figures(
        "partial_filler_text_flamingo_mmar.jsonl",
        &[&rows[..3], &rows[4..]].concat(),
        "partial_filler_text",
    );
    assert_eq!(
        (&found["baseline"]["aoc"], &found["baseline"]["chains_incomplete"]),
        (&Value::Null, &json!(1))
    );
}
