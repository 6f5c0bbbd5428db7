//! What a run relies on: reproducible bytes, complete states, and folders that can be read back.

use candle_core::{DType, Device};
use nn::dense::{Config, Decoder};
use nn::{Blueprint, Decoder as _, Loras, Weights};
use serde_json::json;
use std::path::{Path, PathBuf};
use train::{Engine, EngineSettings, Method, Optimiser, Row, Trainer};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/qwen3")
}

fn decoder(folder: &Path) -> Decoder {
    let weights = Weights::open(folder, DType::F32, &Device::Cpu).expect("weights");
    let config = Config::from_folder(folder).expect("a config");
    Decoder::load(&config, &weights).expect("a decoder")
}

fn blueprint() -> Blueprint {
    decoder(&folder()).blueprint().expect("a blueprint")
}

/// Adapters' lists of layers hold matrices, so code that keeps such a list keeps the model's weights in memory.
#[test]
fn what_is_learnt_from_holds_no_layers() {
    let blueprint = blueprint();
    assert!(!Loras::of(&blueprint.model).layers().is_empty());
    assert!(Loras::of(&blueprint.unshared().model).layers().is_empty());
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

/// Logits behind each token of a row from `start` on, read one by one.
fn one_by_one(engine: &mut Trainer, row: &Row, start: usize) -> Vec<Vec<f32>> {
    let (mut logits, mut rest) = (Vec::new(), row.ids[start..].iter());
    let next = &mut |behind: &mut [f32]| {
        logits.push(behind.to_vec());
        Ok(rest.next().copied())
    };
    engine.answer(row, start, next).expect("logits");
    logits
}

/// Read token by token, a row has the logits that it has when it is read at once.
#[track_caller]
fn check_answers(engine: &mut Trainer, row: &Row) {
    let whole = engine.logits(row).expect("logits");
    let vocabulary = whole.len() / row.ids.len();
    for start in [1, 4, row.ids.len()] {
        let alone = one_by_one(engine, row, start);
        assert_eq!(alone.len(), row.ids.len() - start + 1);
        for (place, logits) in (start - 1..).zip(alone) {
            let expected = &whole[place * vocabulary..][..vocabulary];
            let apart = logits
                .iter()
                .zip(expected)
                .fold(0f32, |apart, (a, b)| apart.max((a - b).abs()));
            assert!(apart < 1e-4, "behind token {place} of {}: {apart} apart", row.ids.len());
        }
    }
}

#[test]
fn an_answer_is_the_models_and_changes_nothing() {
    for method in [Method::Lora, Method::Qlora, Method::Full] {
        let settings = settings(method);
        let (mut asked, mut silent) = (engine(&settings), engine(&settings));
        for number in 0..3 {
            assert_eq!(step(&mut asked, number), step(&mut silent, number), "{method:?}");
            check_answers(&mut asked, &row(number + 3));
        }
        assert_eq!(state(&asked), state(&silent), "{method:?}");
    }
}

#[test]
fn an_answer_ends_where_the_context_is_full() {
    let folder = other("mistral", json!({ "max_position_embeddings": 16 }));
    let blueprint = decoder(folder.path()).blueprint().expect("a blueprint");
    let mut engine = Trainer::new(&blueprint, None, &settings(Method::Lora)).expect("an engine");
    let context = engine.facts().context;
    assert_eq!(context, 16);
    let row = Row::masked(vec![1; context - 2], &vec![false; context - 2]);
    let mut tokens = 0;
    let next = &mut |_: &mut [f32]| {
        tokens += 1;
        Ok(Some(5))
    };
    engine.answer(&row, context - 2, next).expect("an end");
    assert_eq!(tokens, 3, "one behind each of the last three places");
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
        "not a regular expression",
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

/// A checkpoint of a class with other layers than Qwen3's; its weights are arbitrary numbers on which mistakes show.
fn other(class: &str, fields: serde_json::Value) -> tempfile::TempDir {
    let mut config = json!({
        "model_type": class, "vocab_size": 200, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "tie_word_embeddings": true,
    });
    let given = fields.as_object().cloned().unwrap_or_default();
    config.as_object_mut().expect("fields").extend(given);
    let mut shapes = vec![
        ("model.embed_tokens".to_owned(), vec![200, 32]),
        ("model.norm".to_owned(), vec![32]),
    ];
    for layer in 0..2 {
        let mut add =
            |name: &str, shape: &[usize]| shapes.push((format!("model.layers.{layer}.{name}"), shape.to_vec()));
        match class {
            "phi3" => {
                add("self_attn.qkv_proj", &[64, 32]);
                add("mlp.gate_up_proj", &[96, 32]);
            }
            _ => {
                add("self_attn.q_proj", &[32, 32]);
                add("self_attn.k_proj", &[16, 32]);
                add("self_attn.v_proj", &[16, 32]);
                add("mlp.gate_proj", &[48, 32]);
                add("mlp.up_proj", &[48, 32]);
            }
        }
        add("self_attn.o_proj", &[32, 32]);
        add("mlp.down_proj", &[32, 48]);
        add("post_attention_layernorm", &[32]);
        match class {
            "olmo2" => {
                add("self_attn.q_norm", &[32]);
                add("self_attn.k_norm", &[16]);
                add("post_feedforward_layernorm", &[32]);
            }
            _ => add("input_layernorm", &[32]),
        }
    }
    let tensor = |(number, (name, shape)): (usize, (String, Vec<usize>))| {
        let count: usize = shape.iter().product();
        let value = |at: usize| ((at * 7919 + number * 104_729) % 1013) as f32 / 506.5 - 1.0;
        let (middle, spread) = if shape.len() == 1 { (1.0, 0.3) } else { (0.0, 0.4) };
        let values: Vec<f32> = (0..count).map(|at| middle + spread * value(at)).collect();
        let tensor = candle_core::Tensor::from_vec(values, shape, &Device::Cpu).expect("a tensor");
        (format!("{name}.weight"), tensor)
    };
    let tensors = shapes.into_iter().enumerate().map(tensor).collect();
    let folder = tempfile::tempdir().expect("a folder");
    candle_core::safetensors::save(&tensors, folder.path().join("model.safetensors")).expect("weights");
    std::fs::write(folder.path().join("config.json"), config.to_string()).expect("a config");
    folder
}

/// In the first step of AdamW each weight changes by the rate against the sign of its gradient, so the loss falls by
/// the rate times the sum of the gradients' magnitudes, and by less if any gradient is wrong.
#[test]
fn classes_that_share_the_decoder_learn_by_the_gradients_of_what_they_compute() {
    const RATE: f64 = 2e-5;
    for (class, fields) in [
        ("mistral", json!({ "sliding_window": 5 })),
        ("smollm3", json!({ "no_rope_layers": [1, 0] })),
        ("olmo2", json!({})),
        (
            "granite",
            json!({ "embedding_multiplier": 3.0, "attention_multiplier": 0.2, "residual_multiplier": 0.4, "logits_scaling": 2.0 }),
        ),
    ] {
        let folder = other(class, fields);
        let decoder = decoder(folder.path());
        let mut settings = EngineSettings {
            method: Method::Full,
            ..EngineSettings::default()
        };
        settings.optim.weight_decay = 0.0;
        let mut engine = Trainer::new(&decoder.blueprint().expect("a blueprint"), None, &settings).expect("an engine");

        let row = row(4);
        let learnt = engine.logits(&row).expect("logits");
        let ids = candle_core::Tensor::new(row.ids.as_slice(), &Device::Cpu).expect("ids");
        let mut step = nn::Step::whole(row.ids.len()).expect("a step");
        let hidden = decoder.embed(&ids).and_then(|x| decoder.forward(&x, &mut step));
        let answered = hidden.and_then(|hidden| decoder.logits(&hidden)?.flatten_all()?.to_vec1::<f32>());
        let answered = answered.expect("logits");
        let apart = learnt
            .iter()
            .zip(&answered)
            .fold(0f32, |apart, (a, b)| apart.max((a - b).abs()));
        assert!(apart < 1e-4, "{class}: logits are {apart} apart");
        check_answers(&mut engine, &row);

        let rows = [row, self::row(1), self::row(2)];
        let items: u64 = rows.iter().map(Row::learnt).sum();
        let before = engine.learn(&rows, items).expect("a loss").loss;
        let sizes: f64 = engine.gradient().iter().map(|x| f64::from(x.abs())).sum();
        engine.step(RATE).expect("an update");
        let after: f64 = engine
            .evaluate(&rows)
            .expect("losses")
            .iter()
            .map(|sums| sums.loss)
            .sum();
        let (fallen, estimated) = ((before - after) / items as f64, RATE * sizes);
        assert!(
            (fallen / estimated - 1.0).abs() < 0.05,
            "{class}: fell by {fallen}, not {estimated}"
        );
    }
}

#[test]
fn fused_projections_are_refused() {
    let folder = other("phi3", json!({}));
    let blueprint = decoder(folder.path()).blueprint().expect("a blueprint");
    let error = Trainer::new(&blueprint, None, &settings(Method::Lora))
        .err()
        .expect("an error");
    assert!(error.message.contains("projections are fused"), "{error}");
}
