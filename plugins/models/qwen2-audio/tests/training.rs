//! Training is the reference's, step by step; `plugins/kit/train/golden/README.md` says how the runs were recorded.
//! `QWEN2_AUDIO_TRAINING=DIR:DIR cargo test -p qwen2-audio --test training` tries others too.

use candle_core::{DType, Device};
use nn::{Decoder, Weights};
use plugin_api::Clip;
use plugin_api::serde_json::json;
use qwen2_audio::{architecture, config::Config};
use std::path::{Path, PathBuf};
use train::{Counted, Engine, EngineSettings, Method, Optimiser, Row, Sound, Trainer};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kit/train/golden/qwen2audio")
}

#[test]
fn runs_are_those_that_were_recorded() {
    testkit::training::check("qwen2-audio", &golden());
    testkit::training::check_given("qwen2-audio", "QWEN2_AUDIO_TRAINING");
}

/// Parts that hear are left out of steps without a clip, and only of these.
#[test]
fn runs_in_which_some_steps_hear_nothing_are_those_that_were_recorded() {
    testkit::training::check_runs("qwen2-audio", &golden(), "unheard");
}

/// An engine that learns the tower, by factors or whole.
fn engine(method: Method, optim: Optimiser) -> Trainer {
    let parts: &[&str] = match method {
        Method::Full => &["audio_tower", "multi_modal_projector"],
        _ => &[],
    };
    engine_of(&settings(method, optim, parts))
}

/// These parts are learnt whole, and all linear layers by factors.
fn settings(method: Method, optim: Optimiser, parts: &[&str]) -> EngineSettings {
    let mut settings = EngineSettings {
        method,
        unfreeze: parts.iter().map(|part| (*part).to_owned()).collect(),
        ..EngineSettings::default()
    };
    settings.lora.target_modules = json!("all-linear");
    settings.optim.optim = optim;
    settings.optim.weight_decay = 0.1;
    settings
}

fn weights() -> Weights {
    Weights::open(&golden(), DType::F32, &Device::Cpu).expect("weights")
}

fn engine_of(settings: &EngineSettings) -> Trainer {
    let config = Config::from_folder(&golden()).expect("a config");
    let model = architecture::load(&config, &weights()).expect("a model");
    Trainer::new(&model.blueprint().expect("a blueprint"), model.placeholder(), settings).expect("an engine")
}

/// The weights counted before a run are those that the run then holds, those of the tower included.
#[test]
fn parts_that_hear_are_counted_from_names_and_shapes() {
    let check = |settings: &EngineSettings, hears: bool, tower: bool| {
        let counted = Counted::of(&weights(), settings, false).expect("a count");
        let memory = engine_of(settings).facts().memory;
        assert_eq!(
            (4 * counted.learnt, counted.states, counted.hears, counted.tower),
            (memory.gradients, memory.states, hears, tower),
            "{settings:?}"
        );
        // The engine leaves out the table of positions: 200 of the width 16.
        let positions = 4 * 200 * 16;
        assert_eq!(
            4 * counted.learnt + counted.frozen,
            memory.weights + positions,
            "{settings:?}"
        );
    };
    let of = |method, parts: &[&str]| settings(method, Optimiser::AdamW, parts);
    check(&of(Method::Full, &[]), false, false);
    check(&of(Method::Full, &["audio_tower.layer_norm"]), true, false);
    check(&of(Method::Full, &["multi_modal_projector"]), true, false);
    check(&of(Method::Full, &["layers.1.fc2"]), true, true);
    check(&of(Method::Full, &["audio_tower.conv1"]), true, true);
    check(&of(Method::Lora, &[]), true, true);
    check(&of(Method::Qlora, &[]), true, true);
    let mut text = of(Method::Lora, &[]);
    text.lora.exclude_modules = json!(".*(audio_tower|multi_modal_projector).*");
    check(&text, false, false);
    text.lora.exclude_modules = json!(".*audio_tower.*");
    check(&text, true, false);
}

/// A row with a clip of two tokens, or without one; from one with a clip, nothing may be learnt.
fn row(number: usize, heard: bool, learnt: bool) -> Row {
    let mut ids: Vec<u32> = (0..5 + number % 3)
        .map(|n| (8 + (n * 31 + number * 17) % 200) as u32)
        .collect();
    if heard {
        ids.splice(0..0, [502, 501, 501, 503]);
    }
    let learn: Vec<bool> = ids.iter().map(|id| learnt && *id < 498).collect();
    let tone = (0..1280).map(|n| (n as f32 * (0.1 + number as f32 / 50.0)).sin() / 3.0);
    Row {
        sounds: heard
            .then(|| Sound::Clip(Clip::new(16_000, tone.collect::<Vec<f32>>())))
            .into_iter()
            .collect(),
        ..Row::masked(ids, &learn)
    }
}

/// The batches of a step: all text, text beside a clip from which nothing is learnt, or the same with a clip that is.
fn batches(step: usize) -> [Vec<Row>; 2] {
    let (heard, learnt) = [(true, true), (false, true), (true, false), (false, true), (true, true)][step % 5];
    [
        vec![row(step, false, true), row(step + 1, false, true)],
        vec![row(step + 2, heard, learnt), row(step + 3, false, true)],
    ]
}

fn step(engine: &mut Trainer, number: usize) -> f64 {
    let batches = batches(number);
    let items = batches.iter().flatten().map(Row::learnt).sum();
    let losses = batches.map(|batch| engine.learn(&batch, items).expect("a loss").loss);
    engine.step(1e-2).expect("an update");
    losses.iter().sum::<f64>() / items as f64
}

fn state(engine: &Trainer) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("state.safetensors");
    engine.save_state(&file).expect("a state");
    std::fs::read(file).expect("the file")
}

#[test]
fn a_run_goes_on_between_any_two_steps_heard_or_not() {
    for (method, optim) in [
        (Method::Lora, Optimiser::AdamW),
        (Method::Full, Optimiser::AdamW),
        (Method::Full, Optimiser::AdamW8Bit),
        (Method::Full, Optimiser::Adafactor),
    ] {
        let mut whole = engine(method, optim);
        let losses: Vec<f64> = (0..6).map(|number| step(&mut whole, number)).collect();
        let mut first = engine(method, optim);
        for stop in 1..5 {
            assert_eq!(step(&mut first, stop - 1), losses[stop - 1]);
            let saved = tempfile::tempdir().expect("a folder");
            let file = saved.path().join("optimizer.safetensors");
            first.save(saved.path()).expect("weights");
            first.save_state(&file).expect("a state");
            let mut second = engine(method, optim);
            second.restore(saved.path(), &file).expect("the state");
            (stop..6).for_each(|number| assert_eq!(step(&mut second, number), losses[number], "from {stop}"));
            assert!(state(&second) == state(&whole), "{method:?} {optim:?} from {stop}");
        }
    }
}

/// Two processes exchange their gradients alone, and only one of them has a clip.
#[test]
fn processes_know_of_a_clip_that_another_one_heard() {
    for method in [Method::Lora, Method::Full] {
        let mut one = engine(method, Optimiser::AdamW);
        let mut two = [engine(method, Optimiser::AdamW), engine(method, Optimiser::AdamW)];
        for number in 0..5 {
            step(&mut one, number);
            let batches = batches(number);
            let items = batches.iter().flatten().map(Row::learnt).sum();
            for (engine, batch) in two.iter_mut().zip(&batches) {
                engine.learn(batch, items).expect("a loss");
            }
            let [mine, other] = &mut two;
            for (mine, other) in mine.gradient().iter_mut().zip(other.gradient()) {
                (*mine, *other) = (*mine + *other, *mine + *other);
            }
            two.iter_mut().for_each(|engine| {
                engine.step(1e-2).expect("an update");
            });
        }
        assert!(state(&two[0]) == state(&two[1]));
        let [one, two] = [&mut one, &mut two[0]].map(|engine| engine.logits(&row(9, true, true)).expect("logits"));
        let apart = one
            .iter()
            .zip(&two)
            .fold(0f32, |apart, (a, b)| apart.max((a - b).abs()));
        assert!(apart < 1e-3, "{method:?}: {apart}");
    }
}
