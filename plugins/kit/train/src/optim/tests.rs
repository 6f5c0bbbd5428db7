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
        optim.step(&mut parameters, &[gradient], 0.1);
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
    let report = optim.step(&mut parameters, &[3.0, 4.0], 0.0);
    assert!((report.grad_norm - 5.0).abs() < 1e-12);
    assert!((report.factor - 0.199_999_96).abs() < 1e-8, "{}", report.factor);
}

#[test]
fn a_gradient_that_is_no_number_changes_nothing() {
    let mut parameters = parameters(&[1.0, 2.0], "weight");
    let mut optim = Optim::new(&OptimSettings::default(), &parameters, false);
    let report = optim.step(&mut parameters, &[f32::NAN, 1.0], 0.1);
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
            optim.step(&mut parameters, &gradient, 0.01);
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
        optim.step(&mut parameters, &gradient, 0.01);
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
