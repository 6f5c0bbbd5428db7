//! Worked examples of the rules.

use super::*;

fn parameters(values: &[f32], name: &str) -> Parameters {
    let mut parameters = Parameters::default();
    parameters
        .add(name.to_owned(), &[values.len()], values.to_vec())
        .expect("as many values as the shape has");
    parameters
}

#[test]
fn adamw_is_the_worked_example() {
    let settings = OptimSettings {
        weight_decay: 0.01,
        max_grad_norm: 0.0,
        ..OptimSettings::default()
    };
    let mut parameters = parameters(&[1.0], "weight");
    let mut optim = Optim::new(&settings, &parameters, false);
    for (gradient, expected) in [(0.5, 0.899_000_002), (-0.25, 0.871_467_299), (0.5, 0.812_647_765)] {
        optim.step(&mut parameters, &[gradient], 0.1, true);
        assert!(
            (f64::from(parameters.values[0]) - expected).abs() < 1e-7,
            "{}",
            parameters.values[0]
        );
    }
    let State::Moments { first, second } = &optim.states[0] else {
        panic!("AdamW keeps moments")
    };
    assert!((first[0] - 0.068).abs() < 1e-7 && (second[0] - 0.000_561_937_75).abs() < 1e-9);
}

#[test]
fn a_gradient_is_cut_to_the_longest() {
    let mut parameters = parameters(&[0.0, 0.0], "weight");
    let mut optim = Optim::new(&OptimSettings::default(), &parameters, false);
    let report = optim.step(&mut parameters, &[3.0, 4.0], 0.0, true);
    assert!((report.grad_norm - 5.0).abs() < 1e-12);
    assert!((report.factor - 0.199_999_96).abs() < 1e-8, "{}", report.factor);
}

#[test]
fn a_gradient_that_is_no_number_changes_nothing() {
    let mut parameters = parameters(&[1.0, 2.0], "weight");
    let mut optim = Optim::new(&OptimSettings::default(), &parameters, false);
    let report = optim.step(&mut parameters, &[f32::NAN, 1.0], 0.1, true);
    assert!(!report.grad_norm.is_finite());
    assert_eq!((parameters.values.as_slice(), optim.steps), ([1.0, 2.0].as_slice(), 0));
}

#[test]
fn every_optimiser_goes_downhill() {
    for optim in [
        Optimiser::AdamW,
        Optimiser::AdamW8Bit,
        Optimiser::Sgd,
        Optimiser::Adafactor,
    ] {
        let settings = OptimSettings {
            optim,
            ..OptimSettings::default()
        };
        let start: Vec<f32> = (0..8192).map(|n| (n as f32 * 0.37).sin()).collect();
        let mut parameters = Parameters::default();
        parameters
            .add("weight".to_owned(), &[64, 128], start)
            .expect("a matrix");
        let mut optim = Optim::new(&settings, &parameters, false);
        let before = norm(&parameters.values);
        for _ in 0..20 {
            let gradient = parameters.values.clone();
            optim.step(&mut parameters, &gradient, 0.01, true);
        }
        assert!(norm(&parameters.values) < before * 0.999, "{:?}", settings.optim);
    }
}

#[test]
fn states_in_bf16_are_those_of_fp32_rounded_after_each_step() {
    let count = 3000; // more than are widened at a time
    let round = |x: &mut f32| *x = half::bf16::from_f32(*x).to_f32();
    let start: Vec<f32> = (0..count).map(|n| (n % 17) as f32 / 16.0 - 0.5).collect();
    let settings = OptimSettings {
        max_grad_norm: 0.0,
        ..OptimSettings::default()
    };
    let mut parameters = parameters(&start, "weight");
    let mut optim = Optim::new(&settings, &parameters, true);
    let (mut values, mut first, mut second) = (start, vec![0f32; count], vec![0f32; count]);
    for step in 1..=3 {
        let gradient: Vec<f32> = (0..count)
            .map(|n| ((n * 31 + step * 7) % 23) as f32 / 11.0 - 1.0)
            .collect();
        optim.step(&mut parameters, &gradient, 0.01, true);
        let rule = Rule {
            beta1: settings.adam_beta1,
            beta2: settings.adam_beta2,
            epsilon: settings.adam_epsilon,
            left1: 1.0 - settings.adam_beta1.powf(step as f64),
            left2: 1.0 - settings.adam_beta2.powf(step as f64),
            rate: 0.01,
            kept: 1.0,
            factor: 1.0,
        };
        adam(&rule, &mut values, &gradient, &mut first, &mut second);
        [&mut values, &mut first, &mut second]
            .into_iter()
            .flatten()
            .for_each(round);
    }
    assert_eq!(parameters.values, values);
    assert_eq!(optim.bytes(), 4 * count as u64);
}

/// A part that hears is as if the silent step had not been; what reads is updated in each step.
#[test]
fn a_step_without_clips_leaves_out_what_hears() {
    for (optim, narrow) in [
        (Optimiser::AdamW, false),
        (Optimiser::AdamW, true),
        (Optimiser::AdamW8Bit, false),
        (Optimiser::Sgd, false),
        (Optimiser::Adafactor, false),
    ] {
        let settings = OptimSettings {
            optim,
            weight_decay: 0.1,
            max_grad_norm: 0.0,
            ..OptimSettings::default()
        };
        let run = |steps: &[(bool, f32)]| {
            let mut parameters = Parameters::default();
            for name in ["tower", "text"] {
                let start = (0..8192).map(|n| half::bf16::from_f32((n as f32 * 0.37).sin()).to_f32());
                parameters
                    .add(name.to_owned(), &[64, 128], start.collect())
                    .expect("a matrix");
            }
            parameters.learnt[0].hears = true;
            let mut optim = Optim::new(&settings, &parameters, narrow);
            for (heard, turn) in steps {
                let all = parameters.values.len();
                let turn = |n: usize| if *heard || n >= all / 2 { *turn } else { 0.0 };
                let own = |n: usize| (n as f32 * turn(n)).sin();
                let gradient: Vec<f32> = (0..all).map(own).collect();
                optim.step(&mut parameters, &gradient, 0.01, *heard);
            }
            let (tower, text) = parameters.values.split_at(8192);
            (tower.to_vec(), text.to_vec(), optim.steps, optim.heard_steps)
        };
        let with = run(&[(true, 0.3), (false, 0.7), (true, 0.5)]);
        let without = run(&[(true, 0.3), (true, 0.5)]);
        assert_eq!(with.0, without.0, "{optim:?}");
        assert_ne!(with.1, without.1, "{optim:?}");
        assert_eq!(((with.2, with.3), (without.2, without.3)), ((3, 2), (2, 2)));
        // A gradient of zeros is one, unlike none: weights decay.
        assert_ne!(run(&[(true, 0.3), (true, 0.0)]).0, run(&[(true, 0.3)]).0, "{optim:?}");
    }
}
