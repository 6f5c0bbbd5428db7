//! Damaged checkpoints: one clear error each, which names the file and the tensor, and no panic.

use crate::common;

use candle_core::{DType, Device, Tensor};
use common::{copy, edit, open};
use plugin_api::serde_json::json;
use plugin_api::{Code, Error};
use std::collections::HashMap;
use std::path::Path;

#[track_caller]
fn check(name: &str, spoil: impl FnOnce(&Path), code: Code, message: &str) {
    let folder = copy(name);
    spoil(folder.path());
    let error: Error = open(folder.path(), json!({})).err().expect("the checkpoint is spoilt");
    let told = error.to_string().replace(folder.path().to_str().unwrap(), "DIR");
    assert!(told.starts_with(message), "{told}");
    assert_eq!(error.code, code);
    assert!(
        !told.ends_with('.') && error.help.is_some_and(|help| !help.is_empty()),
        "{told}"
    );
}

fn truncate(path: &Path, bytes: u64) {
    std::fs::OpenOptions::new()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(bytes)
        .unwrap();
}

#[test]
fn spoilt_weights() {
    let file = "model.safetensors";
    let malformed = "`DIR/model.safetensors` is malformed: ";
    let length = std::fs::metadata(common::golden("tied").join(file)).unwrap().len();
    let cut = format!("{malformed}by its header it is {length} bytes long, but it has 100000");
    check("tied", |dir| truncate(&dir.join(file), 100_000), Code::DATA, &cut);
    check("tied", |dir| truncate(&dir.join(file), 5), Code::DATA, malformed);
    check("tied", |dir| truncate(&dir.join(file), 0), Code::DATA, malformed);
    check(
        "tied",
        |dir| std::fs::write(dir.join(file), [255; 64]).unwrap(),
        Code::DATA,
        malformed,
    );
    let gone = "`DIR` holds no weights (looked for model.safetensors, pytorch_model.bin, and the index of several)";
    check(
        "tied",
        |dir| std::fs::remove_file(dir.join(file)).unwrap(),
        Code::MISSING,
        gone,
    );
}

/// Changes a tensor's entry in a safetensors header.
fn restate(path: &Path, name: &str, field: &str, value: plugin_api::serde_json::Value) {
    let bytes = std::fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: plugin_api::serde_json::Value = plugin_api::serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    header[name][field] = value;
    let text = header.to_string();
    let whole = [
        &(text.len() as u64).to_le_bytes(),
        text.as_bytes(),
        &bytes[8 + length..],
    ]
    .concat();
    std::fs::write(path, whole).unwrap();
}

#[test]
fn a_header_that_contradicts_itself() {
    let (file, name) = ("model.safetensors", "model.layers.1.self_attn.k_proj.weight");
    let says = |field, value| move |dir: &Path| restate(&dir.join(file), name, field, value);
    let tensor = format!("`DIR/{file}` is malformed: tensor `{name}` is of type F32 and shape ");
    let unfit = format!("{tensor}[31, 32], which does not fit its 4096 bytes");
    check("tied", says("shape", json!([31, 32])), Code::DATA, &unfit);
    let huge = format!("{tensor}[4611686018427387904, 8], which does not fit its 4096 bytes");
    check("tied", says("shape", json!([1u64 << 62, 8])), Code::DATA, &huge);
    let shape = format!("tensor `{name}` in `DIR/{file}` has shape [16, 64], expected [32, 32]");
    check("tied", says("shape", json!([16, 64])), Code::DATA, &shape);
    let stored = format!("tensor `{name}` in `DIR/{file}` is stored as I32, expected F32, F16 or BF16");
    check("tied", says("dtype", json!("I32")), Code::UNSUPPORTED, &stored);
}

/// The checkpoint `tied` as a GGUF file, in which bytes are replaced at their first occurrence or after it.
#[track_caller]
fn check_gguf(at: &str, behind: usize, bytes: &[u8], code: Code, message: &str) {
    check_gguf_of("tied", at, behind, bytes, code, message);
}

#[track_caller]
fn check_gguf_of(name: &str, at: &str, behind: usize, bytes: &[u8], code: Code, message: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let mut file = std::fs::read(common::golden(&format!("gguf/{name}.gguf"))).unwrap();
    let place = file
        .windows(at.len())
        .position(|window| window == at.as_bytes())
        .unwrap();
    let place = if behind == 0 { place } else { place + at.len() + behind };
    file[place..place + bytes.len()].copy_from_slice(bytes);
    std::fs::write(&path, file).unwrap();
    let error: Error = open(&path, json!({})).err().expect("the file is spoilt");
    let told = error.to_string().replace(path.to_str().unwrap(), "FILE");
    assert!(told.starts_with(message), "{told}");
    assert_eq!(error.code, code, "{told}");
}

#[test]
fn spoilt_gguf_files() {
    let malformed = "`FILE` is malformed: ";
    let many = (1u32 << 31).to_le_bytes();
    check_gguf(
        "qwen3.block_count",
        4,
        &many,
        Code::DATA,
        "`num_hidden_layers` in `FILE` is 2147483648, expected 1 to 1024",
    );
    check_gguf(
        "general.architecture",
        12,
        b"mamba",
        Code::UNSUPPORTED,
        "`FILE` is of the architecture `mamba`, known here: ",
    );
    check_gguf(
        "tokenizer.ggml.tokens",
        0,
        b"x",
        Code::DATA,
        &format!("{malformed}it has no `tokenizer.ggml.tokens`"),
    );
    check_gguf(
        "tokenizer.ggml.model",
        0,
        b"x",
        Code::DATA,
        &format!("{malformed}it has no `tokenizer.ggml.model`"),
    );
    let key = "blk.1.attn_k.weight";
    let gone = "`FILE` has no tensor `model.layers.1.self_attn.k_proj.weight`";
    check_gguf(key, 0, b"x", Code::DATA, gone);
    // After a tensor's name come dimensions, sizes, type and offset.
    let huge = format!("{malformed}tensor `{key}`: it has more values than can be counted");
    check_gguf(key, 4, &(1u64 << 61).to_le_bytes(), Code::DATA, &huge);
    let stored = "tensor `model.layers.1.self_attn.k_proj.weight` in `FILE` is stored as f64, expected f32, f16,";
    check_gguf(key, 20, &28u32.to_le_bytes(), Code::UNSUPPORTED, stored);
    let beyond = format!("{malformed}tensor `{key}` lies beyond the end of the file");
    check_gguf(key, 24, &(1u64 << 63).to_le_bytes(), Code::DATA, &beyond);
}

/// After a key come the type of its value, the length of a text, and the text.
#[test]
fn what_a_gguf_file_names_and_nobody_knows_is_told_with_what_is_known() {
    let unknown = |key, value: &[u8], message: &str| check_gguf(key, 12, value, Code::UNSUPPORTED, message);
    unknown(
        "tokenizer.ggml.model",
        b"bert",
        "`FILE` has the tokenizer `bert`, known here: gpt2, llama",
    );
    unknown(
        "tokenizer.ggml.pre",
        b"nope!",
        "`FILE` has the pre-tokenizer `nope!`, known here: ",
    );
    unknown(
        "general.architecture",
        b"olmo2",
        "`FILE` is of the architecture `olmo2`, known here: llama, qwen2, qwen3, gemma3, in GGUF files",
    );
    let rope = "`FILE` is malformed: its rope is scaled in the way `ntk!`, known here: none, linear, yarn";
    check_gguf_of("qwen2", "qwen2.rope.scaling.type", 12, b"ntk!", Code::DATA, rope);
    // After the table's name come its dimensions, the length of a vector, and the number of rows.
    let rows = "`FILE` is malformed: it has 320 tokens, but `token_embd.weight` has 319 rows";
    check_gguf("token_embd.weight", 12, &319u64.to_le_bytes(), Code::DATA, rows);
}

#[test]
fn a_gguf_file_that_is_cut_or_lacks_a_part_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::read(common::golden("gguf/tied.gguf")).unwrap();
    let refused = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let error: Error = open(&path, json!({})).err().expect("the file is cut");
        assert_eq!(error.code, Code::DATA, "{error}");
        error.to_string().replace(path.to_str().unwrap(), "FILE")
    };
    let cut = refused("cut.gguf", &whole[..whole.len() - 5000]);
    assert!(cut.starts_with("`FILE` is malformed: tensor `"), "{cut}");
    assert!(
        cut.ends_with("lies beyond the end of the file, which may be incomplete"),
        "{cut}"
    );
    let header = refused("header.gguf", &whole[..1000]);
    assert!(header.starts_with("`FILE` is malformed: "), "{header}");
    // A file is a first part if its header says how many parts there are; two entries are added before the others.
    let mut part = whole[..16].to_vec();
    part.extend((u64::from_le_bytes(whole[16..24].try_into().unwrap()) + 2).to_le_bytes());
    for (key, value) in [("split.no", 0u16), ("split.count", 3)] {
        part.extend((key.len() as u64).to_le_bytes());
        part.extend(key.as_bytes());
        part.extend(2u32.to_le_bytes()); // a whole number of 16 bits
        part.extend(value.to_le_bytes());
    }
    part.extend(&whole[24..]);
    part.extend([0; 64]); // the data after the header begin at a multiple of 32
    let missing = refused("m-00001-of-00003.gguf", &part);
    let told = "it is the first of 3 parts, and `m-00002-of-00003.gguf` is not beside it";
    assert!(missing.contains(told), "{missing}");
}

#[test]
fn a_shape_or_a_key_that_is_not_there() {
    check(
        "tied",
        |dir| edit(dir, "config.json", |config| config["intermediate_size"] = json!(65)),
        Code::DATA,
        "tensor `model.layers.0.mlp.gate_proj.weight` in `DIR/model.safetensors` has shape [64, 32], expected [65, 32]",
    );
    check(
        "tied",
        |dir| edit(dir, "config.json", |config| config["num_hidden_layers"] = json!(3)),
        Code::DATA,
        "`DIR` has no tensor `model.layers.2.input_layernorm.weight`",
    );
    check(
        "tied",
        |dir| {
            edit(dir, "config.json", |config| {
                config["tie_word_embeddings"] = json!(false)
            })
        },
        Code::DATA,
        "`DIR` has no tensor `lm_head.weight`",
    );
}

#[test]
fn a_gguf_file_without_a_template_says_so_of_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let mut file = std::fs::read(common::golden("gguf/tied.gguf")).unwrap();
    let key = b"tokenizer.chat_template";
    let place = file.windows(key.len()).position(|window| window == key).unwrap();
    file[place] = b'x';
    std::fs::write(&path, file).unwrap();
    let asked = plugin_api::Prompt::new([plugin_api::Message::user("Hi")]);
    let error = open(&path, json!({}))
        .unwrap()
        .reply(&asked, &plugin_api::NoCallbacks)
        .unwrap_err();
    let message = error.message.replace(path.to_str().unwrap(), "FILE");
    assert!(
        message.starts_with("`FILE` has no chat template (looked in its header, and beside it in"),
        "{message}"
    );
}

/// Changes the tensors of a file of weights.
fn rewrite(path: &Path, change: impl FnOnce(&mut HashMap<String, Tensor>)) {
    let mut tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    change(&mut tensors);
    candle_core::safetensors::save(&tensors, path).unwrap();
}

#[test]
fn tensors_of_another_shape_or_type_and_tensors_that_are_gone() {
    let (file, name) = ("model.safetensors", "model.layers.1.self_attn.k_proj.weight");
    let becomes =
        |tensor: Tensor| move |dir: &Path| rewrite(&dir.join(file), |all| drop(all.insert(name.into(), tensor)));
    let zeros = |rows: usize, dtype| Tensor::zeros((rows, 32), dtype, &Device::Cpu).unwrap();
    let at = format!("tensor `{name}` in `DIR/{file}`");
    let shape = format!("{at} has shape [31, 32], expected [32, 32]");
    check("tied", becomes(zeros(31, DType::F32)), Code::DATA, &shape);
    let stored = format!("{at} is stored as I64, expected F32, F16 or BF16");
    check("tied", becomes(zeros(32, DType::I64)), Code::UNSUPPORTED, &stored);
    let gone = |dir: &Path| rewrite(&dir.join(file), |all| drop(all.remove(name)));
    check("tied", gone, Code::DATA, &format!("`DIR` has no tensor `{name}`"));
    let shard = "model-00002-of-00003.safetensors";
    let malformed = format!("`DIR/{shard}` is malformed: ");
    check(
        "sharded",
        |dir| truncate(&dir.join(shard), 3_000),
        Code::DATA,
        &malformed,
    );
}

#[test]
fn a_config_of_one_class_on_the_weights_of_another() {
    let class = |name: &'static str, head_dim: usize| {
        move |dir: &Path| {
            edit(dir, "config.json", |config| {
                config["model_type"] = json!(name);
                config["head_dim"] = json!(head_dim);
            })
        }
    };
    let no_bias = "`DIR` has no tensor `model.layers.0.self_attn.q_proj.bias`";
    check("tied", class("qwen2", 16), Code::DATA, no_bias);
    let no_norm = "`DIR` has no tensor `model.layers.0.self_attn.q_norm.weight`";
    check("llama", class("qwen3", 8), Code::DATA, no_norm);
}

#[test]
fn an_index_that_lies() {
    let index = "model.safetensors.index.json";
    let point = |to: &'static str| {
        move |dir: &Path| edit(dir, index, |index| index["weight_map"]["model.norm.weight"] = json!(to))
    };
    let at = "`DIR/model.safetensors.index.json` places `model.norm.weight` in ";
    check(
        "sharded",
        point("model-9.safetensors"),
        Code::DATA,
        &format!("{at}`model-9.safetensors`, which does not exist"),
    );
    check(
        "sharded",
        point("../model.safetensors"),
        Code::DATA,
        &format!("{at}`../model.safetensors`, which is outside of the folder"),
    );
    check(
        "sharded",
        point("model-00001-of-00003.safetensors"),
        Code::DATA,
        &format!("{at}`model-00001-of-00003.safetensors`, which lacks it"),
    );
    check(
        "sharded",
        |dir| std::fs::write(dir.join(index), "{").unwrap(),
        Code::DATA,
        "`DIR/model.safetensors.index.json` is malformed: ",
    );
}

#[test]
fn a_config_that_asks_for_something_else() {
    let config = |key: &'static str, value: plugin_api::serde_json::Value| {
        move |dir: &Path| edit(dir, "config.json", |config| config[key] = value)
    };
    let other = "`DIR/config.json` is of the architecture `gpt2`, known here: qwen3, qwen2, llama";
    check("tied", config("model_type", json!("gpt2")), Code::UNSUPPORTED, other);
    let none = "`DIR/config.json` is of the architecture `none named`, known here: qwen3, qwen2, llama";
    check("tied", config("model_type", json!(null)), Code::UNSUPPORTED, none);
    let rope = "rope scaling `dynamic` is not known, known here: default, linear, yarn, llama3, longrope";
    check(
        "tied",
        config("rope_scaling", json!({ "rope_type": "dynamic" })),
        Code::UNSUPPORTED,
        rope,
    );
    check(
        "tied",
        config("hidden_size", json!("big")),
        Code::DATA,
        "`DIR/config.json` is malformed: ",
    );
    let yarn = json!({ "type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096 });
    let other = "the rope scaling in config.json of a `phi3` is `yarn`, expected default or longrope";
    check("others/phi3", config("rope_scaling", yarn), Code::DATA, other);
    let factors = json!({ "type": "longrope", "short_factor": [1.0, 2.0], "long_factor": [1.0, 2.0] });
    let pairs = "`rope_scaling.short_factor.length` in config.json is 2, expected 3 to 3";
    check("others/phi3", config("rope_scaling", factors), Code::DATA, pairs);
    let biases = "`DIR` has no tensor `model.layers.0.mlp.gate_proj.bias`";
    check("llama", config("mlp_bias", json!(true)), Code::DATA, biases);
    let huge = "`vocab_size` in config.json is 999999999999, expected 1 to 4000000";
    check(
        "tied",
        config("vocab_size", json!(999_999_999_999u64)),
        Code::DATA,
        huge,
    );
    for (key, number) in [("rms_norm_eps", -1.0), ("rms_norm_eps", 0.0), ("rope_theta", -10_000.0)] {
        let sign = format!("`{key}` in config.json is {number}, expected a number above 0");
        check("tied", config(key, json!(number)), Code::DATA, &sign);
    }
    let window = "`sliding_window` in config.json is 0, expected 1 to 1073741824";
    check("tied", config("sliding_window", json!(0)), Code::DATA, window);
    let other = "the weights beside `DIR/config.json` are quantised with `gptq`, which is not supported";
    let method = json!({ "quant_method": "gptq", "bits": 4 });
    check("tied", config("quantization_config", method), Code::UNSUPPORTED, other);
    let zero = "`num_key_value_heads` in config.json is 0, expected 1 to 4";
    check("tied", config("num_key_value_heads", json!(0)), Code::DATA, zero);
    check(
        "tied",
        |dir| std::fs::remove_file(dir.join("config.json")).unwrap(),
        Code::MISSING,
        "cannot read `DIR/config.json`",
    );
}

#[test]
fn a_list_in_place_of_an_object() {
    for file in ["config.json", "generation_config.json"] {
        let list = |dir: &Path| std::fs::write(dir.join(file), "[]").unwrap();
        let told = format!("`DIR/{file}` is malformed: it is a list, expected an object");
        check("tied", list, Code::DATA, &told);
    }
}

#[test]
fn a_file_in_place_of_a_folder() {
    let file = common::golden("tied").join("model.safetensors");
    let error: Error = open(&file, json!({})).err().expect("it is not a folder");
    let told = format!(
        "`{}` is a file, expected a checkpoint's folder or a GGUF file",
        file.display()
    );
    assert_eq!((error.to_string(), error.code), (told, Code::SETTINGS));
}

#[test]
fn settings_of_nothing() {
    for name in ["max_batch", "step_tokens", "max_tokens"] {
        let error: Error = open(&common::golden("tied"), json!({ name: 0 }))
            .err()
            .expect("it is none");
        assert_eq!(error.to_string(), format!("setting `{name}` is 0, expected 1 or more"));
        assert_eq!(error.code, Code::SETTINGS);
    }
}

/// Blocks cannot represent values that are not numbers: the layer would go on as if nothing were wrong.
#[test]
fn values_that_are_no_numbers_do_not_become_blocks() {
    let (file, name) = ("model.safetensors", "model.layers.1.self_attn.k_proj.weight");
    for value in [f32::NAN, f32::INFINITY] {
        let folder = copy("tied");
        rewrite(&folder.path().join(file), |all| {
            let mut values = all[name].flatten_all().unwrap().to_vec1::<f32>().unwrap();
            values[700] = value;
            all.insert(name.into(), Tensor::from_vec(values, (32, 32), &Device::Cpu).unwrap());
        });
        let error: Error = open(folder.path(), json!({ "quant": "q8_0" }))
            .err()
            .expect("no blocks");
        let at = folder.path().join(file);
        let told = format!("tensor `{name}` in `{}` has a value that is not finite", at.display());
        assert!(error.to_string().starts_with(&told), "{error}");
        assert_eq!(error.code, Code::DATA);
        // Without quantisation they reach the logits, whose reader reports them.
        let asked = plugin_api::Prompt::plain("Hi").choose(["a", "b"]);
        let reply = open(folder.path(), json!({}))
            .unwrap()
            .reply(&asked, &plugin_api::NoCallbacks)
            .unwrap();
        assert!(reply.flags.iter().any(|flag| flag == "nan-logits"), "{:?}", reply.flags);
    }
}

#[test]
fn a_tokenizer_of_another_checkpoint() {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/tokenizer.json");
    check(
        "tied",
        |dir| std::fs::copy(demo, dir.join("tokenizer.json")).map(drop).unwrap(),
        Code::DATA,
        "`DIR/tokenizer.json` has token ids up to 447, but the model's embedding table has 320 rows",
    );
    check(
        "tied",
        |dir| std::fs::write(dir.join("tokenizer.json"), "[]").unwrap(),
        Code::DATA,
        "`DIR/tokenizer.json` is malformed: ",
    );
    let template = |dir: &Path| {
        edit(dir, "tokenizer_config.json", |config| {
            config["chat_template"] = json!("{% if %}")
        })
    };
    check(
        "tied",
        template,
        Code::DATA,
        "`DIR/tokenizer_config.json` is malformed: ",
    );
}

#[test]
fn a_base_model_answers_plain_text_and_says_that_it_has_no_template() {
    let folder = copy("tied");
    edit(folder.path(), "tokenizer_config.json", |config| {
        config["chat_template"] = json!(null)
    });
    let model = open(folder.path(), json!({})).unwrap();
    let host = plugin_api::NoCallbacks;
    let error = model
        .reply(&plugin_api::Prompt::new([plugin_api::Message::user("Hi")]), &host)
        .unwrap_err();
    assert_eq!(error.code, Code::UNSUPPORTED);
    assert!(error.message.contains("has no chat template"), "{error}");
    assert!(
        model
            .reply(&plugin_api::Prompt::plain("Hi").choose(["a"]), &host)
            .is_ok()
    );
}
