use crate::{Weights, read_config};
use candle_core::{DType, Device};
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize_to_file};
use serde_json::{Value, json};
use std::collections::BTreeMap;

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn state(changes: Value) -> Vec<u8> {
    let mut state = json!({ "quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [1, 4] });
    for (key, value) in changes.as_object().unwrap() {
        state[key] = value.clone();
    }
    state.to_string().into_bytes()
}

/// bitsandbytes' codes of 0.6, -1.2, 0.05 and 0.3.
fn plain() -> Tensors {
    let bytes = |bytes: Vec<u8>| (Dtype::U8, vec![bytes.len()], bytes);
    [
        ("x.weight", bytes(vec![192, 138])),
        ("x.weight.absmax", (Dtype::F32, vec![1], floats(&[1.2]))),
        ("x.weight.quant_state.bitsandbytes__nf4", bytes(state(json!({})))),
        ("y.weight", (Dtype::F32, vec![2], floats(&[3.0, 4.0]))),
    ]
    .map(|(name, tensor)| (name.to_owned(), tensor))
    .into()
}

/// The same with its scale as the byte 1.0 times 0.7, above 0.5.
fn double() -> Tensors {
    let mut tensors = plain();
    let mut table = vec![0.0; 256];
    table[9] = 1.0;
    let nested = json!({ "nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.5 });
    put(&mut tensors, "x.weight.absmax", Dtype::U8, vec![9]);
    put(&mut tensors, "x.weight.nested_absmax", Dtype::F32, floats(&[0.7]));
    put(&mut tensors, "x.weight.nested_quant_map", Dtype::F32, floats(&table));
    put(
        &mut tensors,
        "x.weight.quant_state.bitsandbytes__nf4",
        Dtype::U8,
        state(nested),
    );
    tensors
}

fn put(tensors: &mut Tensors, name: &str, dtype: Dtype, bytes: Vec<u8>) {
    let count = bytes.len() * 8 / dtype.bitsize();
    tensors.insert(name.to_owned(), (dtype, vec![count], bytes));
}

fn read(tensors: &Tensors) -> Result<Vec<f32>, String> {
    let folder = tempfile::tempdir().unwrap();
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
        let view = TensorView::new(*dtype, shape.clone(), bytes).unwrap();
        (name.as_str(), view)
    });
    serialize_to_file(views, None, &folder.path().join("model.safetensors")).unwrap();
    let weights = Weights::open(folder.path(), DType::F32, &Device::Cpu).map_err(|error| error.to_string())?;
    assert_eq!(
        weights.get("y.weight", &[2]).unwrap().to_vec1::<f32>().unwrap(),
        [3.0, 4.0]
    );
    let read = weights.at("x").get("weight", &[1, 4]);
    let matrix = weights
        .at("x")
        .matrix("weight", 1, 4)
        .map_err(|error| error.to_string());
    let values = read.map_err(|error| error.to_string().replace(&folder.path().display().to_string(), "."))?;
    assert_eq!(matrix?.dims(), (1, 4));
    Ok(values.flatten_all().unwrap().to_vec1().unwrap())
}

#[test]
fn values_are_codes_times_scales() {
    let expected = [0.440_709_83, -1.0, 0.079_580_3, 0.246_112_3].map(|code: f32| code * 1.2);
    assert_eq!(read(&plain()).unwrap(), expected);
    let scale = 1.0f32 * 0.7 + 0.5;
    assert_eq!(read(&double()).unwrap(), expected.map(|value| value / 1.2 * scale));
    // The type that `bnb_4bit_quant_storage` declares says nothing.
    let mut other = plain();
    put(&mut other, "x.weight", Dtype::BF16, vec![192, 138]);
    assert_eq!(read(&other).unwrap(), expected);
}

#[test]
fn damage_is_said_with_the_tensor() {
    let check = |tensors: &Tensors, part: &str| {
        let error = read(tensors).unwrap_err();
        assert!(error.contains("`x.weight`") && error.contains(part), "{error}");
    };
    for (tensors, part) in [
        (plain(), "absmax"),
        (plain(), "quant_state.bitsandbytes__nf4"),
        (double(), "nested_absmax"),
        (double(), "nested_quant_map"),
        (double(), "absmax"),
    ] {
        let (mut tensors, name) = (tensors, format!("x.weight.{part}"));
        tensors.remove(&name);
        check(&tensors, &format!("lacks `{name}`"));
    }
    let with = |name: &str, dtype, bytes| {
        let mut tensors = double();
        put(&mut tensors, &format!("x.weight{name}"), dtype, bytes);
        tensors
    };
    check(
        &with("", Dtype::U8, vec![1]),
        "has 1 bytes of codes, which do not fit its shape [1, 4]",
    );
    check(
        &with(".absmax", Dtype::U8, vec![1, 2]),
        "as U8 of shape [2], expected 1 values of U8",
    );
    check(
        &with(".absmax", Dtype::F32, floats(&[1.0])),
        "as F32 of shape [1], expected 1 values of U8",
    );
    check(
        &with(".nested_absmax", Dtype::F32, floats(&[])),
        "expected 1 values of F32",
    );
    check(
        &with(".nested_quant_map", Dtype::F32, floats(&[1.0])),
        "expected 256 values of F32",
    );
    check(
        &with(".quant_map", Dtype::F32, floats(&[0.5; 16])),
        "codes of other values than nf4's",
    );
    let fp4 = with(".quant_state.bitsandbytes__fp4", Dtype::U8, state(json!({})));
    check(&fp4, "is of type fp4");
    let stated = |bytes: Vec<u8>| with(".quant_state.bitsandbytes__nf4", Dtype::U8, bytes);
    check(&stated(b"{".to_vec()), "a state that cannot be parsed");
    check(
        &stated(state(json!({ "blocksize": 128 }))),
        "in blocks of 128, expected nf4 in blocks of 64",
    );
    check(&stated(state(json!({ "dtype": "int8" }))), "was made from int8");
    check(
        &stated(state(json!({ "nested_blocksize": 64 }))),
        "of float32 in blocks of 64",
    );
    check(
        &stated(state(json!({ "nested_blocksize": 256 }))),
        "a state without `nested_offset`",
    );
    check(
        &stated(state(json!({ "shape": [u64::MAX, u64::MAX] }))),
        "do not fit its shape",
    );
    check(
        &stated(state(json!({ "shape": [1u64 << 40, 4] }))),
        "do not fit its shape",
    );
    let turned = json!({ "shape": [4, 1], "nested_offset": 0.5 });
    assert!(
        read(&stated(state(turned)))
            .unwrap_err()
            .contains("has shape [4, 1], expected [1, 4]")
    );
}

#[test]
fn memory_is_that_of_the_values() {
    let folder = tempfile::tempdir().unwrap();
    let tensors = double();
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, bytes))| (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    serialize_to_file(views, None, &folder.path().join("model.safetensors")).unwrap();
    let weights = Weights::open(folder.path(), DType::F32, &Device::Cpu).unwrap();
    assert_eq!(weights.estimate(&[]).0, 4 * (4 + 2));
}

#[test]
fn other_quantisations_are_named() {
    let read = |quantisation: Value| {
        let folder = tempfile::tempdir().unwrap();
        let config = json!({ "model_type": "qwen3", "quantization_config": quantisation });
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        read_config::<Value>(folder.path(), &["qwen3"]).map_err(|error| error.into_plugin_error())
    };
    let four = json!({ "quant_method": "bitsandbytes", "load_in_4bit": true, "bnb_4bit_quant_type": "nf4" });
    assert!(read(four).is_ok());
    assert!(read(json!({ "load_in_4bit": true, "bnb_4bit_quant_type": "nf4" })).is_ok());
    for (config, name) in [
        (
            json!({ "quant_method": "bitsandbytes", "load_in_4bit": true }),
            "bitsandbytes' fp4 (`load_in_4bit`)",
        ),
        (
            json!({ "quant_method": "bitsandbytes", "load_in_8bit": true }),
            "bitsandbytes' LLM.int8 (`load_in_8bit`)",
        ),
        (json!({ "quant_method": "gptq", "bits": 4 }), "`gptq`"),
        (json!({ "quant_method": "awq" }), "`awq`"),
        (json!({ "quant_method": "fp8" }), "`fp8`"),
        (json!({ "quant_method": "compressed-tensors" }), "`compressed-tensors`"),
        (json!({}), "an unnamed method"),
    ] {
        let error = read(config).unwrap_err();
        assert!(
            error
                .message
                .contains(&format!("quantised with {name}, which is not supported")),
            "{error:?}"
        );
        assert!(error.help.unwrap().contains("bitsandbytes' nf4"));
    }
}
