//! Lower precision in memory and in GGUF files, and logits that are not numbers.

use crate::common::{ask, copy, golden, model, open, quiet};
use candle_core::Device;
use candle_core::quantized::{GgmlDType, QTensor, gguf_file};
use plugin_api::serde_json::json;
use plugin_api::{NoCallbacks, Prompt};

#[test]
fn logits_that_are_no_numbers_are_flagged() {
    let folder = copy("tied");
    let path = folder.path().join("model.safetensors");
    let mut tensors = candle_core::safetensors::load(&path, &candle_core::Device::Cpu).unwrap();
    let norm = &tensors["model.norm.weight"] * f64::NAN;
    tensors.insert("model.norm.weight".into(), norm.unwrap());
    candle_core::safetensors::save(&tensors, &path).unwrap();
    let model = open(folder.path(), json!({})).unwrap();
    let reply = model.reply(&ask("Hi", quiet()), &NoCallbacks).unwrap();
    assert_eq!(
        (reply.text.as_str(), reply.flags.as_slice()),
        ("", &["nan-logits".to_owned()][..])
    );
    let reply = model
        .reply(&Prompt::plain("x").choose(["a", "b"]), &NoCallbacks)
        .unwrap();
    assert!(
        reply
            .options
            .iter()
            .all(|option| option.loglik.is_nan() && !option.greedy)
    );
    assert_eq!(reply.flags, ["nan-logits"]);
}

#[test]
fn bf16_is_close_to_fp32() {
    let prompt = Prompt::plain("The Moon orbits").choose([" the Earth", " a rock"]);
    let score = |dtype| {
        model(json!({ "dtype": dtype }))
            .reply(&prompt, &NoCallbacks)
            .unwrap()
            .options
    };
    for (wide, narrow) in score("fp32").iter().zip(score("bf16")) {
        // Two decimal digits of precision and a dozen tokens: measured at 0.1 and below.
        assert!((wide.loglik - narrow.loglik).abs() < 0.5, "{wide:?} {narrow:?}");
        assert_ne!(wide.loglik, narrow.loglik);
    }
}

#[test]
fn quantised_is_close_to_fp32_and_says_what_it_is() {
    let prompt = Prompt::plain("The Moon orbits").choose([" the Earth", " a rock"]);
    let exact = model(json!({})).reply(&prompt, &NoCallbacks).unwrap().options;
    // The blocks of q4_k and q6_k are longer than this checkpoint's rows: they are stored more exactly.
    for quant in ["q8_0", "q6_k", "q4_k"] {
        let model = model(json!({ "quant": quant }));
        assert_eq!(model.card().unwrap().precision.as_deref(), Some("q8_0"));
        for (wide, narrow) in exact.iter().zip(model.reply(&prompt, &NoCallbacks).unwrap().options) {
            assert!((wide.loglik - narrow.loglik).abs() < 0.5, "{wide:?} {narrow:?}");
            assert_ne!(wide.loglik, narrow.loglik);
        }
    }
    let error = open(&golden("tied"), json!({ "quant": "q3" })).map(drop).unwrap_err();
    assert!(error.message.contains("`q3`"), "{error}");
}

/// The checkpoint `tied` as a GGUF file whose matrices are of this type, stored so or dequantised to fp32.
fn gguf(dtype: GgmlDType, plain: bool) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut file = std::fs::File::open(golden("gguf/tied.gguf")).unwrap();
    let content = gguf_file::Content::read(&mut file).unwrap();
    let tensors: Vec<(String, QTensor)> = content
        .tensor_infos
        .keys()
        .map(|name| {
            let tensor = content.tensor(&mut file, name, &Device::Cpu).unwrap();
            let values = tensor.dequantize(&Device::Cpu).unwrap();
            let matrix = values.rank() == 2;
            let stored = QTensor::quantize(&values, if matrix { dtype } else { GgmlDType::F32 }).unwrap();
            let again = || QTensor::quantize(&stored.dequantize(&Device::Cpu).unwrap(), GgmlDType::F32).unwrap();
            (name.clone(), if plain { again() } else { stored })
        })
        .collect();
    let words: Vec<_> = content
        .metadata
        .iter()
        .map(|(key, word)| (key.as_str(), word))
        .collect();
    let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let mut out = std::fs::File::create(folder.path().join("model.gguf")).unwrap();
    gguf_file::write(&mut out, &words, &tensors).unwrap();
    folder
}

#[test]
fn a_quantised_file_is_close_to_its_values_and_to_the_original() {
    let prompt = Prompt::plain("The Moon orbits").choose([" the Earth", " a rock"]);
    let score = |model: &plugin_api::client::ModelClient| -> Vec<f64> {
        let reply = model.reply(&prompt, &NoCallbacks).unwrap();
        reply.options.iter().map(|option| option.loglik).collect()
    };
    let apart = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let original = score(&model(json!({})));
    let file = open(gguf(GgmlDType::F32, false).path(), json!({})).unwrap();
    assert!(apart(&score(&file), &original) < 1e-5);
    let folder = gguf(GgmlDType::Q8_0, false);
    let file = open(&folder.path().join("model.gguf"), json!({})).unwrap();
    assert_eq!(file.card().unwrap().precision.unwrap(), "q8_0");
    let stored = score(&file);
    let plain = score(&open(gguf(GgmlDType::Q8_0, true).path(), json!({})).unwrap());
    // Inputs are rounded to eight bits, too, which matters twice as much as the weights: measured at 0.13.
    assert!(apart(&stored, &plain) < 0.25 && apart(&stored, &original) < 0.25);
}

#[test]
fn a_gguf_file_cuts_texts_as_its_tokenizer_does() {
    let texts = [
        "",
        " ",
        "  two  blanks ",
        "don't I'LL we'Ve",
        "a1b22c333d4444 1234567",
        "\n\n\t x\r\n\r\n",
        "naïve — “quoted” 🦀\u{200d}é",
        "<|im_start|>user\n<think></think><tool_call><|endoftext|>",
        "Ⅷ½² 中文字符 日本語 한국어",
        "e\u{301} \u{212b}",
        "def f(x):\n    return x**2  # ok",
    ];
    for name in ["tied", "qwen2", "llama"] {
        let folder = open(&golden(name), json!({})).unwrap();
        let file = open(&golden("gguf").join(name).with_extension("gguf"), json!({})).unwrap();
        for text in texts {
            let ids = |model: &plugin_api::client::ModelClient| model.tokens(&Prompt::plain(text)).map(|it| it.ids);
            assert_eq!(ids(&file).ok(), ids(&folder).ok(), "{name}: {text:?}");
        }
    }
}
