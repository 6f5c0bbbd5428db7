//! Samplers, alone and beside the reference's distributions.

use super::*;
use std::collections::HashMap;

const LOGITS: [f32; 6] = [0.0, 3.0, 1.0, 2.0, -1.0, 3.0];

fn sampling(change: impl FnOnce(&mut Sampling)) -> Sampling {
    let mut sampling = Sampling {
        temperature: Some(1.0),
        ..Sampling::default()
    };
    change(&mut sampling);
    sampling
}

/// Checks which tokens occur in many draws.
#[track_caller]
fn check(change: impl FnOnce(&mut Sampling), expected: &[u32]) {
    let knobs = Knobs::settle(&sampling(change), &Defaults::default()).unwrap();
    let mut sampler = Sampler::new(knobs, 0, &[]);
    let mut drawn: Vec<u32> = (0..3000)
        .map(|_| match sampler.pick(&mut LOGITS.clone()) {
            Pick::Token(token) => token,
            Pick::Broken => panic!("these logits are finite"),
        })
        .collect();
    drawn.sort_unstable();
    drawn.dedup();
    assert_eq!(drawn, expected);
}

#[test]
fn filters_leave_what_they_should() {
    check(|_| (), &[0, 1, 2, 3, 4, 5]);
    check(|s| s.temperature = Some(0.0), &[1]); // the first of the largest
    check(|s| s.top_k = Some(1), &[1, 5]); // a tie
    check(|s| s.top_k = Some(3), &[1, 3, 5]);
    check(|s| s.top_p = Some(0.0), &[1]);
    check(|s| s.top_p = Some(0.5), &[1, 5]);
    check(|s| s.min_p = Some(0.3), &[1, 3, 5]);
    // Shares are normalised again within the top-k: 0.42, 0.42, 0.16 reach 0.8 with two.
    check(|s| (s.top_k, s.top_p) = (Some(3), Some(0.8)), &[1, 5]);
}

#[test]
fn tokens_come_up_as_often_as_they_are_probable() {
    let knobs = Knobs::settle(&sampling(|s| s.seed = Some(5)), &Defaults::default()).unwrap();
    let mut sampler = Sampler::new(knobs, 0, &[]);
    let (draws, mut counts) = (60_000, [0usize; LOGITS.len()]);
    for _ in 0..draws {
        if let Pick::Token(token) = sampler.pick(&mut LOGITS.clone()) {
            counts[token as usize] += 1;
        }
    }
    for (token, count) in counts.into_iter().enumerate() {
        let share = (f64::from(LOGITS[token]) - log_sum(&LOGITS)).exp();
        let deviation = (share * (1.0 - share) / draws as f64).sqrt();
        let got = count as f64 / draws as f64;
        assert!(
            (got - share).abs() < 4.0 * deviation,
            "token {token}: {got}, expected {share}"
        );
    }
}

#[test]
fn a_repeated_token_is_penalised_on_both_sides_of_zero() {
    let knobs = Knobs {
        repetition_penalty: 2.0,
        ..Knobs::settle(&Sampling::greedy(1), &Defaults::default()).unwrap()
    };
    let mut sampler = Sampler::new(knobs.clone(), 0, &[1]);
    assert_eq!(sampler.pick(&mut [0.0, 3.0, 2.0]), Pick::Token(2));
    assert_eq!(sampler.pick(&mut [0.0, 3.0, 2.0]), Pick::Token(1)); // 2 was chosen before, and is halved too
    let mut sampler = Sampler::new(knobs, 0, &[1]);
    assert_eq!(sampler.pick(&mut [-1.5, -1.0]), Pick::Token(0));
}

#[test]
fn the_seed_decides_and_answers_differ() {
    let draw = |seed, which| {
        let knobs = Knobs::settle(&sampling(|s| s.seed = Some(seed)), &Defaults::default()).unwrap();
        let mut sampler = Sampler::new(knobs, which, &[]);
        (0..20).map(|_| sampler.pick(&mut [0.0; 50])).collect::<Vec<_>>()
    };
    assert_eq!(draw(1, 0), draw(1, 0));
    assert_ne!(draw(1, 0), draw(2, 0));
    assert_ne!(draw(1, 0), draw(1, 1));
}

#[test]
fn broken_logits_are_noticed() {
    assert_eq!(argmax(&[1.0, f32::NAN]), None);
    assert_eq!(argmax(&[f32::NEG_INFINITY; 3]), None);
    assert_eq!(argmax(&[1.0, f32::INFINITY]), None);
    assert_eq!(argmax(&[f32::NEG_INFINITY, -5.0]), Some(1));
}

#[test]
fn impossible_settings_are_refused() {
    let refused = |change: fn(&mut Sampling)| Knobs::settle(&sampling(change), &Defaults::default()).unwrap_err();
    assert_eq!(
        refused(|s| s.temperature = Some(-1.0)).message,
        "sampling setting `temperature` is -1, expected 0 (greedy) or more"
    );
    assert_eq!(refused(|s| s.top_p = Some(1.5)).code, Code::SETTINGS);
    assert_eq!(refused(|s| s.repetition_penalty = Some(0.0)).code, Code::SETTINGS);
}

#[test]
fn log_probabilities_sum_to_one() {
    let sum: f64 = (0..LOGITS.len())
        .map(|token| (f64::from(LOGITS[token]) - log_sum(&LOGITS)).exp())
        .sum();
    assert!((sum - 1.0).abs() < 1e-6, "{sum}");
}

#[test]
fn the_filters_leave_what_the_reference_s_leave() {
    #[derive(serde::Deserialize)]
    struct Recorded {
        logits: HashMap<String, Vec<f32>>,
        seen: HashMap<String, Vec<u32>>,
        cases: Vec<Case>,
    }
    #[derive(serde::Deserialize)]
    struct Case {
        logits: String,
        settings: Sampling,
        /// Of the most likely tokens, in order.
        shares: Vec<f64>,
        kept: Kept,
    }
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Kept {
        Some(Vec<usize>),
        All(String),
    }
    let recorded: Recorded = serde_json::from_str(include_str!("../../golden/sampling.json")).unwrap();
    assert!(recorded.cases.len() > 200);
    for case in recorded.cases {
        let told = format!("`{}` with {:?}", case.logits, case.settings);
        let asked = Sampling {
            temperature: case.settings.temperature.or(Some(1.0)),
            ..case.settings
        };
        let knobs = Knobs::settle(&asked, &Defaults::default()).unwrap();
        let mut logits = recorded.logits[&case.logits].clone();
        // Some tokens are from the prompt, others were generated.
        let seen = recorded.seen.get(&case.logits).map_or([].as_slice(), |seen| seen);
        let (prompt, spoken) = seen.split_at(seen.len() / 2);
        let mut sampler = Sampler::new(knobs.clone(), 0, prompt);
        spoken.iter().for_each(|&token| sampler.follow(token, &mut []));
        penalise(&mut logits, &sampler.seen, knobs.repetition_penalty);
        let left = candidates(&knobs, &logits, argmax(&logits).unwrap());
        // By score: in a tie the tokens may differ.
        let sorted = |tokens: &mut dyn Iterator<Item = usize>| {
            let mut scores: Vec<f32> = tokens.map(|token| logits[token]).collect();
            scores.sort_by(f32::total_cmp);
            scores
        };
        let expected = match case.kept {
            Kept::Some(tokens) => sorted(&mut tokens.into_iter()),
            Kept::All(word) => {
                assert_eq!(word, "all", "{told}");
                sorted(&mut (0..logits.len()))
            }
        };
        assert_eq!(sorted(&mut left.iter().map(|&(token, _)| token)), expected, "{told}");
        let all: f64 = left.iter().map(|&(_, weight)| f64::from(weight)).sum();
        let mut shares: Vec<f64> = left.iter().map(|&(_, weight)| f64::from(weight) / all).collect();
        shares.sort_by(|a, b| b.total_cmp(a));
        assert!(!case.shares.is_empty(), "{told}");
        for (share, expected) in shares.into_iter().zip(case.shares) {
            assert!((share - expected).abs() < 1e-5, "{told}: {share}, expected {expected}");
        }
    }
}
