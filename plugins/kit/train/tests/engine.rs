//! What a run relies on: reproducible bytes, complete states, and folders that can be read back.

use candle_core::{DType, Device};
use nn::dense::{Config, Decoder};
use nn::{Blueprint, Decoder as _, Loras, Weights};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::json;
use std::path::{Path, PathBuf};
use train::{Counted, Engine, EngineSettings, Method, Optimiser, Precision, Row, Trainer};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/qwen3")
}

/// A recorded checkpoint of another class than Qwen3's.
fn other(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/others").join(name)
}

fn decoder(folder: &Path) -> Decoder {
    let weights = Weights::open(folder, DType::F32, &Device::Cpu).expect("weights");
    let config = Config::from_folder(folder).expect("a config");
    Decoder::load(&config, &weights).expect("a decoder")
}

fn blueprint_of(folder: &Path) -> Blueprint {
    decoder(folder).blueprint().expect("a blueprint")
}

fn blueprint() -> Blueprint {
    blueprint_of(&folder())
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

fn engine_of(folder: &Path, settings: &EngineSettings) -> Trainer {
    Trainer::new(&blueprint_of(folder), None, settings).expect("an engine")
}

fn engine(settings: &EngineSettings) -> Trainer {
    engine_of(&folder(), settings)
}

fn row(number: usize) -> Row {
    let length = 9 + 5 * number % 13;
    let ids: Vec<u32> = (0..length).map(|n| ((n * 31 + number * 17) % 80) as u32).collect();
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
    for (folder, method, optim) in [
        (folder(), Method::Lora, Optimiser::AdamW),
        (folder(), Method::Qlora, Optimiser::AdamW),
        (folder(), Method::Full, Optimiser::AdamW8Bit),
        (folder(), Method::Full, Optimiser::Adafactor),
        (other("phi3"), Method::Lora, Optimiser::AdamW),
        (other("phi3"), Method::Full, Optimiser::AdamW),
    ] {
        let mut settings = settings(method);
        settings.optim.optim = optim;
        let mut whole = engine_of(&folder, &settings);
        let losses: Vec<f64> = (0..6).map(|number| step(&mut whole, number)).collect();
        let mut first = engine_of(&folder, &settings);
        (0..3).for_each(|number| assert_eq!(step(&mut first, number), losses[number]));
        let saved = tempfile::tempdir().expect("a folder");
        let file = saved.path().join("optimizer.safetensors");
        first.save(saved.path()).expect("weights");
        first.save_state(&file).expect("a state");
        let mut second = engine_of(&folder, &settings);
        second.restore(saved.path(), &file).expect("the state");
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
    let mut blueprint = blueprint();
    blueprint.context = 16;
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
    for folder in [folder(), other("phi3"), other("glm4")] {
        let mut settings = settings(Method::Lora);
        settings.lora.lora_dropout = 0.0;
        let mut first = engine_of(&folder, &settings);
        step(&mut first, 0);
        let saved = tempfile::tempdir().expect("a folder");
        let files = first.save(saved.path()).expect("two files");
        assert_eq!(files, ["adapter_config.json", "adapter_model.safetensors"]);
        settings.adapter = Some(saved.path().to_owned());
        let mut second = engine_of(&folder, &settings);
        assert_eq!(
            first.logits(&row(3)).expect("logits"),
            second.logits(&row(3)).expect("logits")
        );
        assert_eq!(second.facts().parameters, first.facts().parameters);
    }
}

/// As from a model's older classes, in which modules have other names: settings and tensors keep them.
#[test]
fn an_adapter_keeps_the_names_of_its_modules() {
    let mut settings = settings(Method::Lora);
    settings.lora.target_modules = json!(["q_proj", "down_proj"]);
    let mut first = engine(&settings);
    step(&mut first, 0);
    let saved = tempfile::tempdir().expect("a folder");
    first.save(saved.path()).expect("two files");
    let path = saved.path().join("adapter_model.safetensors");
    let content = std::fs::read(&path).expect("a file");
    let file = SafeTensors::deserialize(&content).expect("tensors");
    let older = |name: &str| name.replace("model.model.layers", "model.language_model.model.layers");
    let tensors = file.tensors().into_iter().map(|(name, tensor)| (older(&name), tensor));
    safetensors::serialize_to_file(tensors, None, &path).expect("a file");
    let config = saved.path().join("adapter_config.json");
    let text = std::fs::read_to_string(&config).expect("a file");
    let mut text: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    text["target_modules"] = json!(r".*language_model\.model.*(q_proj|down_proj)");
    std::fs::write(&config, text.to_string()).expect("a file");
    settings.adapter = Some(saved.path().to_owned());
    let mut second = engine(&settings);
    assert_eq!(
        first.logits(&row(3)).expect("logits"),
        second.logits(&row(3)).expect("logits")
    );
    let names = |engine: &Trainer| {
        engine
            .facts()
            .parameters
            .into_iter()
            .map(|one| one.name)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names(&second),
        names(&first).iter().map(|name| older(name)).collect::<Vec<_>>()
    );
}

/// PEFT learns a copy of a table of tokens that is saved whole, and a tied head keeps the original.
#[test]
fn a_table_that_a_lora_learns_whole_is_not_the_head() {
    let mut settings = settings(Method::Lora);
    settings.lora.modules_to_save = Some(vec!["embed_tokens".to_owned()]);
    settings.lora.lora_dropout = 0.0;
    let mut engine = engine(&settings);
    let items = row(0).learnt();
    engine.learn(&[row(0)], items).expect("a loss");
    let facts = engine.facts();
    let table = &facts.parameters[0];
    assert_eq!(table.name, "base_model.model.model.embed_tokens.weight");
    let hidden = table.shape[1];
    let gradient = engine.gradient()[..table.shape[0] * hidden].to_vec();
    for (id, row_of_table) in gradient.chunks_exact(hidden).enumerate() {
        let learnt = row_of_table.iter().any(|x| *x != 0.0);
        assert_eq!(
            learnt,
            row(0).ids[..row(0).ids.len() - 1].contains(&(id as u32)),
            "token {id}"
        );
    }
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

#[test]
fn classes_that_share_the_decoder_learn_what_they_answer_with() {
    for class in ["glm4", "granite", "llama", "mistral", "olmo2", "phi3", "smollm3"] {
        let decoder = decoder(&other(class));
        let mut engine = engine_of(&other(class), &settings(Method::Lora));
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
    }
}

#[test]
fn fused_projections_are_learnt_under_their_own_names() {
    let ends = |engine: &Trainer| -> Vec<String> {
        let facts = engine.facts();
        let first = facts.parameters.iter().filter(|one| one.name.contains("layers.0."));
        first
            .map(|one| {
                let (_, end) = one.name.split_once("layers.0.").expect("a layer");
                format!("{end} {:?}", one.shape)
            })
            .collect()
    };
    let mut lora = settings(Method::Lora);
    lora.lora.r = 2;
    assert_eq!(
        ends(&engine_of(&other("phi3"), &lora)),
        [
            "self_attn.qkv_proj.lora_A.weight [2, 16]",
            "self_attn.qkv_proj.lora_B.weight [32, 2]",
            "self_attn.o_proj.lora_A.weight [2, 16]",
            "self_attn.o_proj.lora_B.weight [16, 2]",
            "mlp.gate_up_proj.lora_A.weight [2, 16]",
            "mlp.gate_up_proj.lora_B.weight [48, 2]",
            "mlp.down_proj.lora_A.weight [2, 24]",
            "mlp.down_proj.lora_B.weight [16, 2]",
        ]
    );
    let whole = ends(&engine_of(&other("phi3"), &settings(Method::Full)));
    assert!(whole.contains(&"self_attn.qkv_proj.weight [32, 16]".to_owned()));
    assert!(whole.contains(&"mlp.gate_up_proj.weight [48, 16]".to_owned()));

    lora.lora.target_modules = json!(["q_proj", "gate_up_proj"]);
    let error = Trainer::new(&blueprint_of(&other("phi3")), None, &lora).err();
    let error = error.expect("phi3 has no q_proj");
    assert!(error.message.contains("fits `q_proj` in"), "{error}");
    let help = error.help.expect("a hint");
    assert!(
        help.contains("`down_proj`, `gate_up_proj`, `o_proj`, `qkv_proj`"),
        "{help}"
    );
}

/// What is plain in a base in four bits was left out on purpose, so QLoRA does not quantise it either.
#[test]
fn beside_a_base_in_four_bits_both_methods_learn_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    for file in ["config.json", "generation_config.json"] {
        std::fs::copy(self::folder().join(file), folder.path().join(file)).expect("a copy");
    }
    let bytes = std::fs::read(self::folder().join("model.safetensors")).expect("weights");
    let plain = SafeTensors::deserialize(&bytes).expect("tensors");
    let name = "model.layers.0.mlp.up_proj.weight";
    let shape = plain.tensor(name).expect("a matrix").shape().to_vec();
    let count: usize = shape.iter().product();
    let codes: Vec<u8> = (0..count / 2).map(|n| (n * 37 % 251) as u8).collect();
    let scales: Vec<u8> = (0..count.div_ceil(64))
        .flat_map(|n| (0.1 + 0.01 * n as f32).to_le_bytes())
        .collect();
    let state = json!({ "quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": shape }).to_string();
    let four_bits = [
        (name.to_owned(), Dtype::U8, codes.as_slice()),
        (format!("{name}.absmax"), Dtype::F32, &scales),
        (
            format!("{name}.quant_state.bitsandbytes__nf4"),
            Dtype::U8,
            state.as_bytes(),
        ),
    ];
    let four_bits = four_bits.map(|(name, dtype, bytes)| {
        let view = TensorView::new(dtype, vec![bytes.len() * 8 / dtype.bitsize()], bytes);
        (name, view.expect("a tensor"))
    });
    let others = plain.tensors().into_iter().filter(|(other, _)| other != name);
    let file = folder.path().join("model.safetensors");
    safetensors::serialize_to_file(others.chain(four_bits), None, &file).expect("weights");

    let weights = Weights::open(folder.path(), DType::F32, &Device::Cpu).expect("weights");
    let losses = [Method::Qlora, Method::Lora].map(|method| {
        let mut engine = engine_of(folder.path(), &settings(method));
        let counted = Counted::of(&weights, &settings(method), true).expect("a count");
        assert_eq!(4 * counted.learnt + counted.frozen, engine.facts().memory.weights);
        [0, 4, 8].map(|number| step(&mut engine, number))
    });
    assert_eq!(losses[0], losses[1]);
    let mut whole = engine(&settings(Method::Lora));
    assert_ne!(
        losses[0],
        [0, 4, 8].map(|number| step(&mut whole, number)),
        "the codes count"
    );
}

/// The weights counted before a run, from names and shapes alone, are those that the run then holds.
#[test]
fn weights_are_counted_from_names_and_shapes() {
    let check = |folder: &Path, settings: &EngineSettings, tied: bool| {
        let weights = Weights::open(folder, DType::F32, &Device::Cpu).expect("weights");
        let counted = Counted::of(&weights, settings, tied).expect("a count");
        let memory = engine_of(folder, settings).facts().memory;
        let about = format!("{} {settings:?}", folder.display());
        assert_eq!(4 * counted.learnt, memory.gradients, "{about}");
        assert_eq!(4 * counted.learnt + counted.frozen, memory.weights, "{about}");
        assert_eq!(counted.states, memory.states, "{about}");
        assert!(!counted.hears && !counted.tower);
    };
    let four_bits = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/qwen3/golden/four_bits");
    for (folder, tied) in [
        (folder(), true),
        (other("phi3"), true),
        (other("glm4"), false),
        (other("llama"), false),
    ] {
        for method in [Method::Full, Method::Lora, Method::Qlora] {
            for optim in [Optimiser::AdamW8Bit, Optimiser::Adafactor] {
                let mut settings = settings(method);
                settings.optim.optim = optim;
                check(&folder, &settings, tied);
                settings.lora.modules_to_save = Some(vec!["lm_head".to_owned()]);
                settings.lora.bias = "all".to_owned();
                settings.lora.rank_pattern.insert("o_proj".to_owned(), 3);
                settings.precision = Precision::PureBf16;
                check(&folder, &settings, tied);
            }
        }
    }
    check(&four_bits, &settings(Method::Qlora), true);
}
