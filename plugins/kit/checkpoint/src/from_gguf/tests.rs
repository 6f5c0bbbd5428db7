use super::*;
use crate::Weights;
use candle_core::quantized::gguf_file::{self, Value as Word};

const QUERIES: &str = "model.layers.0.self_attn.q_proj";
const HEADS: usize = 2;

/// A file as candle writes it: one matrix of queries (8, 256) of Llama, and the header that it needs.
fn file(weight: &Tensor, dtype: GgmlDType) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = |text: &str| Word::String(text.to_owned());
    let words = [
        ("general.architecture", text("llama")),
        ("llama.attention.head_count", Word::U32(HEADS as u32)),
        ("llama.attention.head_count_kv", Word::U32(HEADS as u32)),
    ];
    let words: Vec<(&str, &Word)> = words.iter().map(|(key, word)| (*key, word)).collect();
    let tensor = QTensor::quantize(weight, dtype).unwrap();
    let mut out = std::fs::File::create(folder.path().join("model.gguf")).unwrap();
    gguf_file::write(&mut out, &words, &[("blk.0.attn_q.weight", &tensor)]).unwrap();
    folder
}

/// Rows in a checkpoint's order, from rows in a file's order.
fn unfolded(values: &Tensor) -> Tensor {
    let (rows, inputs) = values.dims2().unwrap();
    let half = rows / HEADS / 2;
    let alternating = values.reshape((HEADS, half, 2, inputs)).unwrap();
    alternating.transpose(1, 2).unwrap().reshape((rows, inputs)).unwrap()
}

fn random(shape: (usize, usize)) -> Tensor {
    // Not random: a bound that holds today must hold tomorrow.
    let value = |at: usize| ((at * 7919 % 1013) as f32 / 506.0 - 1.0) * if at.is_multiple_of(17) { 3.0 } else { 1.0 };
    Tensor::from_vec((0..shape.0 * shape.1).map(value).collect(), shape, &Device::Cpu).unwrap()
}

fn off(a: &Tensor, b: &Tensor) -> f32 {
    let square = |t: &Tensor| t.sqr().unwrap().mean_all().unwrap().to_scalar::<f32>().unwrap();
    (square(&(a - b).unwrap()) / square(b)).sqrt()
}

/// Compares weights with the original, and products of stored weights with products of the same values in fp32. These
/// differ because inputs are rounded to eight bits.
#[track_caller]
fn check(dtype: GgmlDType, stored_as: &str, weights: f32, products: f32) {
    let original = random((8, 256));
    let folder = file(&original, dtype);
    let opened = Weights::open(folder.path(), DType::F32, &Device::Cpu).unwrap();
    let matrix = opened.at(QUERIES).matrix("weight", 8, 256).unwrap();
    assert_eq!(matrix.stored_as(), stored_as);
    let values = matrix.values().unwrap().to_dtype(DType::F32).unwrap();
    let expected = QTensor::quantize(&original, dtype)
        .unwrap()
        .dequantize(&Device::Cpu)
        .unwrap();
    let bits = |t: &Tensor| t.to_vec2::<f32>().unwrap();
    assert_eq!(bits(&values), bits(&unfolded(&expected)), "{dtype:?}");
    let apart = off(&values, &unfolded(&original));
    assert!(apart <= weights, "{dtype:?}: weights are off by {apart}");
    let x = random((3, 256));
    let apart = off(&matrix.product(&x).unwrap(), &x.matmul(&values.t().unwrap()).unwrap());
    assert!(apart <= products, "{dtype:?}: products are off by {apart}");
    // As plain values, for code that needs exact products or a tensor.
    let exact = opened.unpacked(true).at(QUERIES).matrix("weight", 8, 256).unwrap();
    assert_eq!(exact.stored_as(), "fp32", "{dtype:?}");
    let apart = off(&exact.product(&x).unwrap(), &x.matmul(&values.t().unwrap()).unwrap());
    assert!(apart <= 1e-6, "{dtype:?}: exact products are off by {apart}");
    let tensor = opened.at(QUERIES).get("weight", &[8, 256]).unwrap();
    assert_eq!(bits(&tensor), bits(&values));
}

#[test]
fn matrices_stay_as_they_are_stored() {
    check(GgmlDType::F32, "fp32", 0.0, 1e-6);
    check(GgmlDType::F16, "fp32", 1e-3, 1e-6);
    check(GgmlDType::BF16, "fp32", 4e-3, 1e-6);
    check(GgmlDType::Q8_0, "q8_0", 0.01, 0.01);
    check(GgmlDType::Q6K, "q6_k", 0.03, 0.01);
    check(GgmlDType::Q5K, "q5_k", 0.06, 0.01);
    check(GgmlDType::Q4K, "q4_k", 0.1, 0.01);
    check(GgmlDType::Q4_0, "q4_0", 0.15, 0.01);
}

#[test]
fn a_file_can_be_quantised_further_and_a_half_precision_stays_one() {
    let folder = file(&random((8, 256)), GgmlDType::Q8_0);
    let opened = Weights::open(&folder.path().join("model.gguf"), DType::BF16, &Device::Cpu).unwrap();
    let coarser = opened.quantised(Some(GgmlDType::Q4K)).at(QUERIES);
    assert_eq!(coarser.matrix("weight", 8, 256).unwrap().stored_as(), "q4_k");
    let folder = file(&random((8, 256)), GgmlDType::F16);
    let opened = Weights::open(folder.path(), DType::BF16, &Device::Cpu).unwrap();
    assert_eq!(opened.at(QUERIES).matrix("weight", 8, 256).unwrap().stored_as(), "bf16");
}

#[test]
fn what_is_wrong_names_file_and_tensor() {
    let folder = file(&random((8, 256)), GgmlDType::Q8_0);
    let opened = Weights::open(folder.path(), DType::F32, &Device::Cpu).unwrap();
    let told = |outcome: Result<kernels::Matrix>| {
        let message = outcome.err().unwrap().to_string();
        message.replace(folder.path().to_str().unwrap(), "DIR")
    };
    assert_eq!(
        told(opened.at(QUERIES).matrix("weight", 9, 256)),
        "tensor `model.layers.0.self_attn.q_proj.weight` in `DIR/model.gguf` has shape [8, 256], expected [9, 256]"
    );
    assert_eq!(
        told(opened.at("lm_head").matrix("weight", 8, 256)),
        "`DIR` has no tensor `lm_head.weight`"
    );
    let config = config(folder.path()).unwrap_err().to_string();
    assert!(config.ends_with("it has no tensor `token_embd.weight`"), "{config}");
    std::fs::copy(folder.path().join("model.gguf"), folder.path().join("other.gguf")).unwrap();
    let several = Weights::open(folder.path(), DType::F32, &Device::Cpu)
        .err()
        .unwrap()
        .to_string();
    assert!(
        several.contains("several GGUF files: model.gguf, other.gguf"),
        "{several}"
    );
}

/// Recorded by `golden/blocks.py`.
#[test]
fn every_type_that_llama_cpp_writes_is_read_as_its_package_reads_it() {
    let recorded: Vec<Json> = serde_json::from_str(include_str!("../../golden/blocks.json")).unwrap();
    assert_eq!(recorded.len(), 24);
    for record in recorded {
        let kind = Kind(record["kind"].as_u64().unwrap() as u32);
        let bytes = |of: &str| -> Vec<u8> {
            let (digits, _) = record[of].as_str().unwrap().as_bytes().as_chunks::<2>();
            let byte = |two: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap();
            digits.iter().map(byte).collect()
        };
        let (numbers, values) = (bytes("values"), 2 * kind.block().unwrap().0 as usize);
        let (expected, _) = numbers.as_chunks::<4>();
        assert_eq!(expected.len(), values);
        let got = decoded(kind, bytes("bytes"), &[values]).unwrap();
        for (got, expected) in got.to_vec1::<f32>().unwrap().into_iter().zip(expected) {
            let expected = f32::from_le_bytes(*expected);
            // The reference package multiplies in another order.
            let near = (got - expected).abs() <= 1e-6 * expected.abs().max(1.0);
            assert!(near, "{}: {got}, expected {expected}", record["name"]);
        }
    }
}

/// A matrix of `nvfp4`, and the factor of all its values.
#[test]
fn a_scale_beside_a_matrix_counts() {
    let block = |scale: u8| [[scale; 4].as_slice(), &[0x21; 32]].concat(); // in each byte the values 0.5 and 1
    let open = |scale: &[u8]| {
        let folder = tempfile::tempdir().unwrap();
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        let text = |file: &mut Vec<u8>, text: &str| {
            file.extend((text.len() as u64).to_le_bytes());
            file.extend(text.as_bytes());
        };
        for count in [2u64, 1] {
            file.extend(count.to_le_bytes());
        }
        text(&mut file, "general.architecture");
        file.extend(8u32.to_le_bytes());
        text(&mut file, "qwen3");
        let blocks = [block(0x38), block(0x40)].concat(); // times 1, and times 2
        for (name, sizes, kind, place) in [
            ("blk.0.attn_q.weight", vec![64u64, 2], 40u32, 0u64),
            ("blk.0.attn_q.scale", vec![scale.len() as u64 / 4], 0, 96),
        ] {
            text(&mut file, name);
            file.extend((sizes.len() as u32).to_le_bytes());
            sizes.iter().for_each(|size| file.extend(size.to_le_bytes()));
            file.extend(kind.to_le_bytes());
            file.extend(place.to_le_bytes());
        }
        file.resize(file.len().next_multiple_of(32), 0);
        file.extend(blocks);
        file.resize(file.len().next_multiple_of(32), 0);
        file.extend(scale);
        std::fs::write(folder.path().join("model.gguf"), file).unwrap();
        Weights::open(folder.path(), DType::F32, &Device::Cpu).map(|weights| (folder, weights))
    };
    let (_folder, weights) = open(&3f32.to_le_bytes()).unwrap();
    let matrix = weights.at(QUERIES).matrix("weight", 2, 64).unwrap();
    let values = matrix.values().unwrap().to_vec2::<f32>().unwrap();
    for (row, scale) in values.iter().zip([3.0, 6.0]) {
        assert_eq!((row[0], row[8]), (0.5 * scale, scale));
    }
    let error = open(&[0; 8]).err().unwrap().to_string();
    assert!(
        error.ends_with("tensor `model.layers.0.self_attn.q_proj.scale` is not a single number of the type f32"),
        "{error}"
    );
}
