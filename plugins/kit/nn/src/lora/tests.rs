//! Which layers a LoRA's folder is for, what it adds to them, and which folders are refused.

use super::config::Config;
use super::*;
use crate::{Linear, Weights};
use candle_core::Var;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs;

const FILE: &str = "adapter_model.safetensors";

/// Two layers of two inputs, in a checkpoint with this prefix.
struct Bench {
    folder: tempfile::TempDir,
    weights: Weights,
    q_proj: Linear,
    up_proj: Linear,
}

impl Bench {
    fn new(prefix: &str) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let (q, up) = (
            format!("{prefix}.0.self_attn.q_proj"),
            format!("{prefix}.1.mlp.up_proj"),
        );
        let tensors = HashMap::from([
            (format!("{q}.weight"), tensor(&[3, 2], 1.0)),
            (format!("{up}.weight"), tensor(&[4, 2], 2.0)),
        ]);
        candle_core::safetensors::save(&tensors, folder.path().join("model.safetensors")).unwrap();
        let weights = Weights::open(folder.path(), DType::F32, &Device::Cpu).unwrap();
        let (q_proj, up_proj) = (
            Linear::load(&weights.at(q), 2, 3, false).unwrap(),
            Linear::load(&weights.at(up), 2, 4, false).unwrap(),
        );
        Bench {
            folder,
            weights,
            q_proj,
            up_proj,
        }
    }

    /// Writes a LoRA's folder and reads it.
    fn read(&self, config: &Value, tensors: HashMap<String, Tensor>) -> Result<()> {
        let folder = self.folder.path().join("lora");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
        candle_core::safetensors::save(&tensors, folder.join(FILE)).unwrap();
        Loras::of(&self.weights).read("lora", &folder, true)
    }

    fn forward(&self, x: &Tensor, used: &LoraUse) -> Vec<Vec<f32>> {
        let loras = Loras::of(&self.weights);
        let _entered = loras.enter(LoraPlan::all(&loras.choose(used).unwrap()));
        self.q_proj.forward(x).unwrap().to_vec2().unwrap()
    }
}

/// Values that differ between places and seeds.
fn tensor(shape: &[usize], seed: f32) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|i| ((i as f32 + seed) * 1.7).sin()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn factors(outputs: usize, rank: usize, scale: f64) -> Factors {
    Factors {
        a: tensor(&[rank, 2], 3.0),
        b: tensor(&[outputs, rank], 5.0),
        scale,
    }
}

fn config(more: Value) -> Value {
    let mut config = json!({ "peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "up_proj"] });
    let (Some(all), Value::Object(more)) = (config.as_object_mut(), more) else {
        unreachable!("both are tables")
    };
    all.extend(more);
    config
}

/// The tensors of a LoRA of rank 2 on both layers, with this prefix.
fn whole(prefix: &str) -> HashMap<String, Tensor> {
    let (q, up) = (
        format!("{prefix}.0.self_attn.q_proj"),
        format!("{prefix}.1.mlp.up_proj"),
    );
    HashMap::from([
        (format!("{q}.lora_A.weight"), tensor(&[2, 2], 1.0)),
        (format!("{q}.lora_B.weight"), tensor(&[3, 2], 2.0)),
        (format!("{up}.lora_A.weight"), tensor(&[2, 2], 3.0)),
        (format!("{up}.lora_B.weight"), tensor(&[4, 2], 4.0)),
    ])
}

const TEXT: &str = "base_model.model.model.layers";

fn settled(config: &Value) -> Result<Config> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapter_config.json");
    fs::write(&path, config.to_string()).unwrap();
    Config::read(&path)
}

#[track_caller]
fn check_strength(more: Value, module: &str, rank: usize, scale: f64) {
    let config = settled(&config(more)).unwrap();
    assert_eq!(config.rank(module).unwrap(), rank);
    assert!((config.scale(module).unwrap() - scale).abs() < 1e-12, "{module}");
}

#[test]
fn ranks_and_alphas_may_have_patterns() {
    let q = "model.layers.1.self_attn.q_proj";
    check_strength(json!({}), q, 2, 2.0);
    check_strength(json!({ "use_rslora": true }), q, 2, 4.0 / 2f64.sqrt());
    check_strength(json!({ "rank_pattern": { "q_proj": 8 } }), q, 8, 0.5);
    check_strength(json!({ "rank_pattern": { "proj": 8 } }), q, 2, 2.0); // a whole part of the name, or several parts
    check_strength(json!({ "rank_pattern": { ".*proj": 8 } }), q, 8, 0.5);
    check_strength(json!({ "rank_pattern": { "q_proj": 4, r"model\..*": 8 } }), q, 4, 1.0); // the first match
    check_strength(json!({ "rank_pattern": { r"model\..*": 8, "q_proj": 4 } }), q, 8, 0.5);
    check_strength(
        json!({ "alpha_pattern": { "layers.1.self_attn.q_proj": 6.5 } }),
        q,
        2,
        3.25,
    );
    let both = json!({ "rank_pattern": { "q_proj": 16 }, "alpha_pattern": { "q_proj": 8 }, "use_rslora": true });
    check_strength(both, q, 16, 2.0);
}

#[track_caller]
fn check_for(more: Value, module: &str, expected: bool) {
    assert_eq!(settled(&config(more)).unwrap().is_for(module), expected, "{module}");
}

#[test]
fn modules_are_named_by_lists_patterns_and_layers() {
    let (q, up) = ("model.layers.1.self_attn.q_proj", "model.layers.12.mlp.up_proj");
    check_for(json!({}), q, true);
    check_for(json!({ "target_modules": ["_proj"] }), q, false); // a whole part of the name
    check_for(json!({ "target_modules": ["self_attn.q_proj"] }), q, true);
    check_for(json!({ "target_modules": [q] }), q, true);
    check_for(json!({ "target_modules": r".*\.(q|k)_proj" }), q, true);
    check_for(json!({ "target_modules": r".*\.(q|k)_proj" }), up, false);
    check_for(json!({ "target_modules": "q_proj" }), q, false); // a pattern matches the whole name
    check_for(json!({ "target_modules": r"^(?!.*vision).*_proj" }), q, true);
    check_for(
        json!({ "target_modules": r"^(?!.*vision).*_proj" }),
        "vision.q_proj",
        false,
    );
    check_for(json!({ "target_modules": "all-linear" }), up, true);
    check_for(json!({ "target_modules": "all-linear" }), "lm_head", false);
    check_for(json!({ "exclude_modules": ["q_proj"] }), q, false);
    check_for(json!({ "exclude_modules": ["q_proj"] }), up, true);
    check_for(json!({ "exclude_modules": ".*self_attn.*" }), q, false);
    check_for(json!({ "layers_to_transform": 1 }), q, true);
    check_for(json!({ "layers_to_transform": 1 }), up, false); // 12 begins with 1, but is not 1
    check_for(json!({ "layers_to_transform": [0, 12] }), up, true);
    check_for(json!({ "layers_to_transform": [] }), up, true);
    check_for(
        json!({ "layers_to_transform": [1], "layers_pattern": "layers" }),
        q,
        true,
    );
    check_for(
        json!({ "layers_to_transform": [1], "layers_pattern": ["blocks", "layers"] }),
        q,
        true,
    );
    check_for(
        json!({ "layers_to_transform": [1], "layers_pattern": "blocks" }),
        q,
        false,
    );
}

#[track_caller]
fn check_refused(more: Value, words: &[&str]) {
    let error = settled(&config(more))
        .err()
        .expect("it is refused")
        .into_plugin_error()
        .to_string();
    let missing = words.iter().find(|word| !error.contains(**word));
    assert_eq!(missing, None, "in: {error}");
}

#[test]
fn what_is_not_known_of_a_lora_is_refused_by_name() {
    check_refused(
        json!({ "use_dora": true }),
        &["adapter_config.json`", "`use_dora` to true"],
    );
    check_refused(json!({ "bias": "lora_only" }), &["`bias` to \"lora_only\""]);
    check_refused(
        json!({ "modules_to_save": ["lm_head"] }),
        &["`modules_to_save`", "lm_head"],
    );
    check_refused(json!({ "lora_bias": true }), &["`lora_bias`"]);
    check_refused(json!({ "use_qalora": true }), &["`use_qalora`"]);
    check_refused(json!({ "layer_replication": [[0, 4]] }), &["`layer_replication`"]);
    check_refused(
        json!({ "trainable_token_indices": [7] }),
        &["`trainable_token_indices`"],
    );
    check_refused(
        json!({ "init_lora_weights": "pissa_niter_16" }),
        &["`init_lora_weights`", "pissa"],
    );
    check_refused(json!({ "peft_type": "IA3" }), &["`peft_type` to IA3"]);
    check_refused(json!({ "target_modules": null }), &["`target_modules` names no layer"]);
    check_refused(
        json!({ "target_modules": "(" }),
        &["cannot parse the pattern `^(?:()$`"],
    );
    check_refused(json!({ "r": "four" }), &["adapter_config.json` is malformed"]);
    for off in [
        json!({ "use_dora": false }),
        json!({ "bias": "none", "modules_to_save": null }),
        json!({ "trainable_token_indices": null, "loftq_config": {}, "init_lora_weights": "gaussian" }),
        json!({ "fan_in_fan_out": true, "invented_later": { "deep": 1 } }),
    ] {
        assert!(settled(&config(off.clone())).is_ok(), "{off}");
    }
}

#[test]
fn a_lora_adds_its_product_to_its_layers() {
    let bench = Bench::new("model.layers");
    bench.read(&config(json!({})), whole(TEXT)).unwrap();
    let x = tensor(&[5, 2], 7.0);
    let tensors = whole(TEXT);
    let get = |half: &str| tensors[&format!("{TEXT}.0.self_attn.q_proj.lora_{half}.weight")].clone();
    let product = get("B").matmul(&get("A")).unwrap();
    let merged = (tensor(&[3, 2], 1.0) + (product * 2.0).unwrap()).unwrap();
    let expected: Vec<Vec<f32>> = x.matmul(&merged.t().unwrap()).unwrap().to_vec2().unwrap();
    for (got, expected) in bench
        .forward(&x, &LoraUse::AsLoaded)
        .iter()
        .flatten()
        .zip(expected.iter().flatten())
    {
        assert!((got - expected).abs() < 1e-6, "{got} is not {expected}");
    }
    let base = crate::Matrix::new(tensor(&[3, 2], 1.0)).unwrap();
    let without: Vec<Vec<f32>> = base.product(&x).unwrap().to_vec2().unwrap();
    assert_eq!(bench.forward(&x, &LoraUse::Off), without);
    // Outside of a pass, no LoRA is chosen.
    assert_eq!(bench.q_proj.forward(&x).unwrap().to_vec2::<f32>().unwrap(), without);
}

#[test]
fn layers_are_found_whatever_is_wrapped_around_them() {
    for ours in [
        "model.layers",
        "language_model.model.layers",
        "model.language_model.layers",
    ] {
        for theirs in [
            TEXT,
            "base_model.model.language_model.model.layers",
            "base_model.model.model.language_model.layers",
            "model.layers",
        ] {
            let bench = Bench::new(ours);
            bench.read(&config(json!({})), whole(theirs)).unwrap();
            let x = tensor(&[1, 2], 7.0);
            assert_ne!(
                bench.forward(&x, &LoraUse::AsLoaded),
                bench.forward(&x, &LoraUse::Off),
                "{ours} {theirs}"
            );
        }
    }
    let bench = Bench::new("model.audio_tower.layers");
    let error = bench
        .read(&config(json!({})), whole(TEXT))
        .expect_err("the language model is not the ear");
    assert!(
        error
            .to_string()
            .contains("no linear layer `layers.0.self_attn.q_proj`"),
        "{error}"
    );
}

#[test]
fn files_may_keep_the_name_of_training_and_the_part_that_sees() {
    let bench = Bench::new("model.layers");
    let rename = |name: String| {
        name.replace("lora_A.", "lora_A.default.")
            .replace("lora_B.", "lora_B.default.")
    };
    let mut tensors: HashMap<_, _> = whole(TEXT).into_iter().map(|(name, t)| (rename(name), t)).collect();
    let seen = "base_model.model.model.vision_tower.encoder.layers.0.self_attn.q_proj";
    tensors.insert(format!("{seen}.lora_A.weight"), tensor(&[2, 9], 1.0));
    tensors.insert(format!("{seen}.lora_B.weight"), tensor(&[9, 2], 1.0));
    bench.read(&config(json!({})), tensors).unwrap();
}

#[test]
fn ears_that_nothing_in_the_file_is_for_are_left_alone_and_half_of_them_is_a_fault() {
    let bench = Bench::new("model.layers");
    let ears = Matrix::new(tensor(&[3, 2], 7.0)).unwrap();
    for layer in 0..2 {
        let name = format!("audio_tower.layers.{layer}.self_attn.q_proj");
        Loras::of(&bench.weights).site(&name, &ears, &Device::Cpu);
    }
    bench.read(&config(json!({})), whole(TEXT)).unwrap();
    let mut half = whole(TEXT);
    for (factor, rows) in [("A", 2), ("B", 3)] {
        let name = format!("base_model.model.model.audio_tower.layers.0.self_attn.q_proj.lora_{factor}.weight");
        half.insert(name, tensor(&[rows, 2], 8.0));
    }
    let error = bench.read(&config(json!({})), half).unwrap_err().to_string();
    assert!(
        error.contains("audio_tower.layers.1.self_attn.q_proj.lora_A.weight"),
        "{error}"
    );
}

#[test]
fn a_type_of_half_the_width_is_widened() {
    for dtype in [DType::F16, DType::BF16] {
        let bench = Bench::new("model.layers");
        let narrow = |(name, t): (String, Tensor)| (name, t.to_dtype(dtype).unwrap());
        bench
            .read(&config(json!({})), whole(TEXT).into_iter().map(narrow).collect())
            .unwrap();
        let changes = Loras::of(&bench.weights).changes(&LoraSet::from_iter([0]));
        assert!(changes.iter().all(|(_, factors)| factors[0].a.dtype() == DType::F32));
    }
}

#[test]
fn a_copy_of_the_base_may_lie_in_the_file() {
    let name = format!("{TEXT}.0.self_attn.q_proj.base_layer.weight");
    let bench = Bench::new("model.layers");
    let mut tensors = whole(TEXT);
    tensors.insert(name.clone(), tensor(&[3, 2], 1.0));
    bench.read(&config(json!({})), tensors).unwrap();
    let other = |tensors: &mut HashMap<String, Tensor>| drop(tensors.insert(name.clone(), tensor(&[3, 2], 9.0)));
    check_misfit(json!({}), other, &[FILE, &name, "a copy of this model's own weights"]);
}

/// Changes the tensors of a valid LoRA, and reads it.
#[track_caller]
fn check_misfit(more: Value, change: impl FnOnce(&mut HashMap<String, Tensor>), words: &[&str]) {
    let bench = Bench::new("model.layers");
    let mut tensors = whole(TEXT);
    change(&mut tensors);
    let error = bench
        .read(&config(more), tensors)
        .expect_err("it does not fit")
        .into_plugin_error()
        .to_string();
    let missing = words.iter().find(|word| !error.contains(**word));
    assert_eq!(missing, None, "in: {error}");
}

#[test]
fn what_does_not_fit_names_its_file_and_tensor() {
    let q_a = format!("{TEXT}.0.self_attn.q_proj.lora_A.weight");
    let up_b = format!("{TEXT}.1.mlp.up_proj.lora_B.weight");
    let set = |name: &str, value: Tensor| {
        let name = name.to_owned();
        move |tensors: &mut HashMap<String, Tensor>| drop(tensors.insert(name, value))
    };
    let drop_of = |name: &str| {
        let name = name.to_owned();
        move |tensors: &mut HashMap<String, Tensor>| drop(tensors.remove(&name))
    };
    let wide = tensor(&[2, 7], 1.0);
    check_misfit(
        json!({}),
        set(&q_a, wide),
        &[FILE, &q_a, "shape [2, 7], expected [2, 2]"],
    );
    check_misfit(
        json!({ "r": 3 }),
        |_| {},
        &[FILE, &q_a, "shape [2, 2], expected [3, 2]"],
    );
    let integers = Tensor::zeros((2, 2), DType::I64, &Device::Cpu).unwrap();
    check_misfit(
        json!({}),
        set(&q_a, integers),
        &[FILE, &q_a, "stored as I64, expected F32, F16 or BF16"],
    );
    let infinite = Tensor::full(f32::INFINITY, (2, 2), &Device::Cpu).unwrap();
    check_misfit(json!({}), set(&q_a, infinite), &[FILE, &q_a, "not finite"]);
    check_misfit(json!({}), drop_of(&up_b), &[FILE, &up_b, "is missing"]);
    check_misfit(json!({}), drop_of(&q_a), &[FILE, &q_a, "is missing"]);
    let stray = "base_model.model.model.layers.7.self_attn.q_proj.lora_A.weight";
    check_misfit(
        json!({}),
        set(stray, tensor(&[2, 2], 1.0)),
        &[FILE, stray, "no linear layer `layers.7.self_attn.q_proj`"],
    );
    let embedding = "base_model.model.model.embed_tokens.lora_embedding_A";
    check_misfit(
        json!({}),
        set(embedding, tensor(&[2, 2], 1.0)),
        &[FILE, embedding, "not a known part of a LoRA"],
    );
    check_misfit(
        json!({ "target_modules": ["q_proj"] }),
        |_| {},
        &[FILE, "up_proj.lora_A.weight", "is left over"],
    );
    check_misfit(
        json!({ "layers_to_transform": [0] }),
        |_| {},
        &[FILE, "up_proj.lora_A.weight", "is left over"],
    );
    let half = |tensors: &mut HashMap<String, Tensor>| tensors.retain(|name, _| name.contains("q_proj"));
    check_misfit(
        json!({}),
        half,
        &[FILE, "1.mlp.up_proj.lora_A.weight", "is missing, though"],
    );
}

#[test]
fn a_lora_that_changes_nothing_is_an_error() {
    let nothing = |tensors: &mut HashMap<String, Tensor>| {
        for (name, tensor) in tensors.iter_mut() {
            if name.contains("lora_B") {
                *tensor = tensor.zeros_like().unwrap();
            }
        }
    };
    check_misfit(json!({}), nothing, &[FILE, "changes nothing"]);
    check_misfit(json!({ "lora_alpha": 0 }), |_| {}, &[FILE, "changes nothing"]);
    let bench = Bench::new("model.layers");
    let error = bench.read(&config(json!({})), HashMap::new()).expect_err("it is empty");
    assert!(error.to_string().contains("changes nothing"), "{error}");
}

#[test]
fn a_folder_without_its_files_says_which() {
    let bench = Bench::new("model.layers");
    let read = || {
        Loras::of(&bench.weights)
            .read("x", bench.folder.path(), true)
            .unwrap_err()
            .to_string()
    };
    assert!(read().contains("adapter_config.json"), "{}", read());
    fs::write(
        bench.folder.path().join("adapter_config.json"),
        config(json!({})).to_string(),
    )
    .unwrap();
    assert!(read().contains(FILE), "{}", read());
    fs::write(bench.folder.path().join(FILE), b"not a header").unwrap();
    assert!(read().contains(FILE) && read().contains("malformed"), "{}", read());
}

#[test]
fn names_are_given_once() {
    let bench = Bench::new("model.layers");
    bench.read(&config(json!({})), whole(TEXT)).unwrap();
    let again = bench.read(&config(json!({})), whole(TEXT)).unwrap_err();
    assert!(again.to_string().contains("`lora`"), "{again}");
    let unknown = Loras::of(&bench.weights)
        .choose(&LoraUse::Only(vec!["x".to_owned()]))
        .unwrap_err();
    assert!(
        unknown
            .message
            .contains("no LoRA `x` is loaded: this model holds `lora`"),
        "{unknown}"
    );
}

#[test]
fn a_lora_of_zeros_changes_no_bit() {
    let bench = Bench::new("model.layers");
    let zero = Factors {
        b: Tensor::zeros((3, 2), DType::F32, &Device::Cpu).unwrap(),
        ..factors(3, 2, 1.0)
    };
    let layer = "model.layers.0.self_attn.q_proj".to_owned();
    Loras::of(&bench.weights)
        .add("zero", vec![(layer, zero)], true)
        .unwrap();
    let x = tensor(&[9, 2], 7.0);
    assert_eq!(bench.forward(&x, &LoraUse::AsLoaded), bench.forward(&x, &LoraUse::Off));
}

#[test]
fn tokens_of_one_pass_go_each_through_their_own() {
    let bench = Bench::new("model.layers");
    let loras = Loras::of(&bench.weights);
    let layer = || "model.layers.0.self_attn.q_proj".to_owned();
    loras.add("one", vec![(layer(), factors(3, 1, 0.5))], false).unwrap();
    loras.add("two", vec![(layer(), factors(3, 2, -2.0))], false).unwrap();
    let elsewhere = "model.layers.1.mlp.up_proj".to_owned();
    loras
        .add("elsewhere", vec![(elsewhere, factors(4, 2, 1.0))], false)
        .unwrap();
    let x = tensor(&[8, 2], 9.0);
    let names = |names: &[&str]| LoraUse::Only(names.iter().map(|name| (*name).to_owned()).collect());
    let runs = [
        (names(&["one"]), 2),
        (LoraUse::Off, 1),
        (names(&["two"]), 1),
        (names(&["two", "one"]), 2),
        (names(&["elsewhere"]), 1),
        (names(&["one"]), 1),
    ];
    let plan: Vec<_> = runs
        .iter()
        .map(|(used, tokens)| (loras.choose(used).unwrap(), *tokens))
        .collect();
    let mixed: Vec<Vec<f32>> = {
        let _entered = loras.enter(LoraPlan::of_runs(&plan, &Device::Cpu).unwrap());
        let other = bench.up_proj.forward(&x).unwrap();
        assert_eq!(other.dims(), [8, 4]);
        bench.q_proj.forward(&x).unwrap().to_vec2().unwrap()
    };
    let mut start = 0;
    for (used, tokens) in &runs {
        let alone = bench.forward(&x.narrow(0, start, *tokens).unwrap(), used);
        for (row, alone) in mixed[start..start + tokens].iter().zip(&alone) {
            let off = row.iter().zip(alone).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off < 1e-6, "token {start} under {used:?}: {row:?}, alone {alone:?}");
        }
        start += tokens;
    }
    assert_ne!(mixed[0], bench.forward(&x.narrow(0, 0, 1).unwrap(), &LoraUse::Off)[0]);
    let _entered = loras.enter(LoraPlan::of_runs(&plan, &Device::Cpu).unwrap());
    let error = bench
        .q_proj
        .forward(&tensor(&[3, 2], 1.0))
        .expect_err("a pass of 8 tokens");
    assert!(error.to_string().contains("got 3 tokens in a pass"), "{error}");
}

#[test]
fn gradients_reach_the_factors_and_the_input() {
    let bench = Bench::new("model.layers");
    let loras = Loras::of(&bench.weights);
    let Factors { a, b, scale } = factors(3, 2, 0.5);
    let (a, b, x) = (
        Var::from_tensor(&a).unwrap(),
        Var::from_tensor(&b).unwrap(),
        Var::from_tensor(&tensor(&[4, 2], 9.0)).unwrap(),
    );
    let learnt = Factors {
        a: a.as_tensor().clone(),
        b: b.as_tensor().clone(),
        scale,
    };
    loras
        .add(
            "learnt",
            vec![("model.layers.0.self_attn.q_proj".to_owned(), learnt)],
            true,
        )
        .unwrap();
    let set = loras.choose(&LoraUse::AsLoaded).unwrap();
    let _entered = loras.enter(LoraPlan::of_runs(&[(set, 3), (LoraSet::default(), 1)], &Device::Cpu).unwrap());
    let loss = || {
        bench
            .q_proj
            .forward(x.as_tensor())
            .unwrap()
            .sqr()
            .unwrap()
            .sum_all()
            .unwrap()
    };
    let gradients = loss().backward().unwrap();
    for var in [&a, &b, &x] {
        let gradient = gradients.get(var).expect("a gradient");
        // Compared with the slope from a small step in its direction.
        let (before, step) = (var.as_tensor().copy().unwrap(), 1e-3);
        let norm = gradient.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
        let at = |by: f64| {
            var.set(&(&before + (gradient * by).unwrap()).unwrap()).unwrap();
            let value = loss().to_scalar::<f32>().unwrap();
            var.set(&before).unwrap();
            value
        };
        let slope = (at(step) - at(-step)) / (2.0 * step as f32);
        assert!(
            norm > 1e-3 && (slope / norm - 1.0).abs() < 1e-2,
            "slope {slope}, gradient {norm}"
        );
    }
}
