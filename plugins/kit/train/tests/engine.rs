//! What a run may rely on: the same bytes again, a state that is all of it, folders that are read back.

use candle_core::{DType, Device};
use nn::dense::{Config, Decoder};
use nn::{Blueprint, Decoder as _, Weights};
use serde_json::json;
use std::path::{Path, PathBuf};
use train::{Engine, EngineSettings, Method, Optimiser, Row, Trainer};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/qwen3")
}

fn blueprint() -> Blueprint {
    let weights = Weights::open(&folder(), DType::F32, &Device::Cpu).expect("weights");
    let config = Config::from_folder(&folder()).expect("a config");
    let decoder = Decoder::load(&config, &weights).expect("a decoder");
    decoder.blueprint().expect("a blueprint")
}

fn settings(method: Method) -> EngineSettings {
    let mut settings = EngineSettings {
        method,
        ..EngineSettings::default()
    };
    settings.lora.target_modules = json!("all-linear");
    settings.lora.lora_dropout = 0.1;
    settings.optim.weight_decay = 0.01;
    settings
}

fn engine(settings: &EngineSettings) -> Trainer {
    Trainer::new(&blueprint(), None, settings).expect("an engine")
}

fn row(number: usize) -> Row {
    let length = 9 + 5 * number % 13;
    let ids: Vec<u32> = (0..length).map(|n| ((n * 31 + number * 17) % 200) as u32).collect();
    let learn: Vec<bool> = (0..length).map(|n| n % 3 != 0).collect();
    Row::masked(ids, &learn)
}

/// One step of two batches.
fn step(engine: &mut Trainer, number: usize) -> f64 {
    let batches = [[row(number), row(number + 1)], [row(number + 2), row(number + 3)]];
    let items: u64 = batches.iter().flatten().map(Row::learnt).sum();
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
fn a_run_that_goes_on_ends_with_the_same_bytes() {
    for (method, optim) in [
        (Method::Lora, Optimiser::AdamW),
        (Method::Qlora, Optimiser::AdamW),
        (Method::Full, Optimiser::AdamW8Bit),
        (Method::Full, Optimiser::Adafactor),
    ] {
        let mut settings = settings(method);
        settings.optim.optim = optim;
        let mut whole = engine(&settings);
        let losses: Vec<f64> = (0..6).map(|number| step(&mut whole, number)).collect();
        let mut first = engine(&settings);
        (0..3).for_each(|number| assert_eq!(step(&mut first, number), losses[number]));
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("optimizer.safetensors");
        first.save(folder.path()).expect("weights");
        first.save_state(&file).expect("a state");
        let mut second = engine(&settings);
        second.restore(folder.path(), &file).expect("the state");
        assert_eq!(second.steps_done(), 3);
        (3..6).for_each(|number| assert_eq!(step(&mut second, number), losses[number], "{method:?}"));
        assert_eq!(state(&second), state(&whole), "{method:?} {optim:?}");
        assert!(losses[5].is_finite());
    }
}

#[test]
fn threads_change_nothing() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("threads");
        pool.install(|| {
            let mut engine = engine(&settings(Method::Lora));
            step(&mut engine, 0);
            state(&engine)
        })
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn computing_again_gives_the_same_numbers() {
    let mut plain = settings(Method::Full);
    let mut kept = engine(&plain);
    plain.gradient_checkpointing = true;
    let mut again = engine(&plain);
    (0..2).for_each(|number| assert_eq!(step(&mut kept, number), step(&mut again, number)));
    assert_eq!(state(&kept), state(&again));
}

#[test]
fn rows_do_not_see_each_other() {
    let mut engine = engine(&settings(Method::Lora));
    let rows = [row(0), row(5), row(2)];
    let together = engine.evaluate(&rows).expect("losses");
    for (row, together) in rows.iter().zip(together) {
        let alone = engine.evaluate(std::slice::from_ref(row)).expect("a loss");
        assert!((alone[0].loss - together.loss).abs() < 1e-5 * together.loss.abs());
        assert_eq!(alone[0].items, together.items);
    }
}

#[test]
fn one_step_of_two_batches_is_one_of_one() {
    let mut plain = settings(Method::Lora);
    plain.lora.lora_dropout = 0.0;
    plain.lora.init_lora_weights = json!(false);
    let rows = [row(0), row(1), row(2)];
    let items: u64 = rows.iter().map(Row::learnt).sum();
    let (mut apart, mut together) = (engine(&plain), engine(&plain));
    rows.iter().for_each(|row| {
        apart.learn(std::slice::from_ref(row), items).expect("a loss");
    });
    together.learn(&rows, items).expect("a loss");
    let (a, b) = (apart.gradient().to_vec(), together.gradient().to_vec());
    let largest = b.iter().fold(0f32, |largest, x| largest.max(x.abs()));
    let off = a.iter().zip(&b).fold(0f32, |off, (a, b)| off.max((a - b).abs()));
    assert!(largest > 0.0 && off < 1e-5 * largest, "{off} of {largest}");
}

#[test]
fn a_saved_adapter_is_where_another_run_starts() {
    let mut settings = settings(Method::Lora);
    settings.lora.lora_dropout = 0.0;
    let mut first = engine(&settings);
    step(&mut first, 0);
    let saved = tempfile::tempdir().expect("a folder");
    let files = first.save(saved.path()).expect("two files");
    assert_eq!(files, ["adapter_config.json", "adapter_model.safetensors"]);
    settings.adapter = Some(saved.path().to_owned());
    let mut second = engine(&settings);
    assert_eq!(
        first.logits(&row(3)).expect("logits"),
        second.logits(&row(3)).expect("logits")
    );
    assert_eq!(second.facts().parameters, first.facts().parameters);
}

#[test]
fn wrong_settings_and_rows_are_refused_by_name() {
    let check = |change: fn(&mut EngineSettings), words: &str| {
        let mut settings = settings(Method::Lora);
        change(&mut settings);
        let error = Trainer::new(&blueprint(), None, &settings).err().expect("an error");
        assert!(error.message.contains(words), "{error}");
    };
    check(
        |settings| settings.lora.target_modules = json!(["q_proj", "no_such"]),
        "fits `no_such`",
    );
    check(
        |settings| settings.lora.target_modules = json!("("),
        "no regular expression",
    );
    check(|settings| settings.lora.r = 0, "lora_r");
    check(|settings| settings.lora.lora_dropout = 1.0, "lora_dropout");
    check(
        |settings| settings.lora.init_lora_weights = json!("pissa"),
        "init_lora_weights",
    );
    check(|settings| settings.adapter = Some("/nowhere".into()), "holds no LoRA");

    let mut engine = engine(&settings(Method::Lora));
    let refused = |engine: &mut Trainer, row: Row| engine.learn(&[row], 1).expect_err("an error").message;
    let long = Row::masked(vec![1; 100_000], &vec![true; 100_000]);
    assert!(refused(&mut engine, long).contains("context"));
    let strange = Row::masked(vec![1, 4_000_000], &[true, true]);
    assert!(refused(&mut engine, strange).contains("4000000"));
    let short = Row {
        labels: vec![None, Some(1)],
        ..Row::masked(vec![1, 2, 3], &[true; 3])
    };
    assert!(refused(&mut engine, short).contains("2 labels"));
}

#[test]
fn a_row_with_nothing_learnt_adds_nothing() {
    let mut engine = engine(&settings(Method::Lora));
    let sums = engine
        .learn(&[Row::masked(vec![1, 2, 3], &[true, false, false])], 1)
        .expect("sums");
    assert_eq!((sums.loss, sums.items), (0.0, 0));
    assert!(engine.gradient().iter().all(|x| *x == 0.0));
}
