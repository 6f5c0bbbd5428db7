//! LoRAs on one base in memory: each prompt uses its own, whatever the others in its pass use.

use crate::common;

use common::{Host, ask, copy, edit, golden, model, open};
use plugin_api::client::ModelClient;
use plugin_api::serde_json::json;
use plugin_api::{Code, LoraUse, NoCallbacks, Prompt, Reply, Sampling};
use std::path::Path;

/// The recorded LoRA, and the same one with another strength.
fn two() -> (tempfile::TempDir, ModelClient) {
    let folder = copy("tied/lora");
    edit(folder.path(), "adapter_config.json", |config| {
        config["lora_alpha"] = json!(-6)
    });
    let model = model(json!({ "max_batch": 5, "step_tokens": 24 }));
    model.add_lora("recorded", &golden("tied/lora")).unwrap();
    model.add_lora("other", folder.path()).unwrap();
    (folder, model)
}

fn only(names: &[&str]) -> LoraUse {
    LoraUse::Only(names.iter().map(|name| (*name).to_owned()).collect())
}

fn said(model: &ModelClient, prompt: &Prompt) -> Reply {
    model.reply(prompt, &NoCallbacks).unwrap()
}

fn essence(reply: &Reply) -> (String, Vec<String>) {
    let options = reply.options.iter().map(|option| format!("{:.3}", option.loglik));
    (reply.text.clone(), options.collect())
}

/// Prompts of several kinds, each with every choice of LoRAs.
fn mixture() -> Vec<Prompt> {
    let uses = [
        only(&["recorded"]),
        LoraUse::Off,
        only(&["other"]),
        only(&["recorded", "other"]),
    ];
    let drawn = Sampling {
        temperature: Some(1.0),
        seed: Some(5),
        ..Sampling::greedy(9)
    };
    let searched = Sampling {
        beams: Some(3),
        ..Sampling::greedy(6)
    };
    let prompts = [
        ask("Hello", Sampling::greedy(8)),
        ask(&"A long story about a rock. ".repeat(3), drawn),
        Prompt::plain("The sky is").choose([" blue", " a very dark and deep green", "!"]),
        ask("How far is it to the Moon?", searched),
    ];
    let all = prompts
        .iter()
        .flat_map(|prompt| uses.iter().map(move |used| (prompt, used)));
    all.map(|(prompt, used)| Prompt {
        lora: used.clone(),
        ..prompt.clone()
    })
    .collect()
}

#[test]
fn a_prompt_goes_through_its_own_in_any_company() {
    let (_folder, together) = two();
    let (_folder, alone) = two();
    let expected: Vec<_> = mixture().iter().map(|prompt| essence(&said(&alone, prompt))).collect();
    let replies = Host::new(mixture()).serve(&together);
    let got: Vec<_> = replies.iter().map(|reply| essence(reply.as_ref().unwrap())).collect();
    assert_eq!(got, expected);
    // The four choices of LoRAs make four different answers, so none of them stands in for another.
    for four in expected.chunks(4) {
        let different = |i: &usize| !four[..*i].contains(&four[*i]);
        assert_eq!((0..4).filter(different).count(), 4, "{four:?}");
    }
}

#[test]
fn without_a_lora_the_base_answers_as_if_none_were_held() {
    let (_folder, held) = two();
    let bare = model(json!({}));
    for prompt in mixture() {
        let prompt = Prompt {
            lora: LoraUse::Off,
            ..prompt
        };
        assert_eq!(essence(&said(&held, &prompt)), essence(&said(&bare, &prompt)));
    }
}

#[test]
fn those_of_the_settings_are_on_where_a_prompt_chooses_none() {
    let lora = golden("tied/lora");
    let set = model(json!({ "lora": { "tuned": lora } }));
    assert_eq!(set.card().unwrap().loras, ["tuned"]);
    let by_text = model(json!({ "lora": format!("tuned={}", lora.display()) }));
    let added = model(json!({}));
    added.add_lora("tuned", &lora).unwrap();
    assert_eq!(added.card().unwrap().loras, ["tuned"]);
    let prompt = ask("Hello", Sampling::greedy(8));
    let tuned = Prompt {
        lora: only(&["tuned"]),
        ..prompt.clone()
    };
    let [expected, base] = [&tuned, &prompt].map(|prompt| essence(&said(&added, prompt)));
    assert_ne!(expected, base, "added by name, it is on only where it is chosen");
    assert_eq!(essence(&said(&set, &prompt)), expected);
    assert_eq!(essence(&said(&by_text, &prompt)), expected);
    assert!(set.memory().unwrap().host_bytes > model(json!({})).memory().unwrap().host_bytes);
}

#[test]
fn weights_of_any_type_take_loras() {
    for settings in [json!({ "dtype": "bf16" }), json!({ "quant": "q8_0" })] {
        let model = model(settings.clone());
        model.add_lora("recorded", &golden("tied/lora")).unwrap();
        let worst = |request| {
            let report = model.replay(&request).unwrap();
            let cases = report["cases"].as_array().unwrap().iter();
            cases
                .filter_map(|case| case["max_abs_diff"].as_f64())
                .fold(0.0, f64::max)
        };
        let folder = golden("tied/lora");
        let on = worst(json!({ "golden": folder, "lora": "recorded" }));
        let off = worst(json!({ "golden": folder }));
        assert!(
            on > 0.0 && on < 0.4 && on < off / 10.0,
            "{settings}: {on} with it, {off} without"
        );
    }
}

#[track_caller]
fn check(spoil: impl FnOnce(&Path), code: Code, message: &str) {
    let folder = copy("tied/lora");
    spoil(folder.path());
    let model = model(json!({}));
    let error = model.add_lora("x", folder.path()).expect_err("the LoRA is spoilt");
    let told = error.to_string().replace(folder.path().to_str().unwrap(), "DIR");
    assert!(told.starts_with(message), "{told}");
    assert!(error.help.as_ref().is_some_and(|help| !help.is_empty()), "{error:?}");
    assert_eq!(error.code, code);
    let still = said(&model, &ask("Hello", Sampling::greedy(3)));
    assert_eq!(still.usage.generated_tokens, 3, "the model is none the worse");
}

#[test]
fn what_does_not_fit_is_refused_with_file_and_tensor() {
    let (config, file) = ("adapter_config.json", "adapter_model.safetensors");
    let set = |key: &'static str, value| move |dir: &Path| edit(dir, config, |all| all[key] = value);
    let dora = "`DIR/adapter_config.json` sets `use_dora` to true, which is not supported";
    check(set("use_dora", json!(true)), Code::UNSUPPORTED, dora);
    let rank = "tensor `base_model.model.model.layers.0.mlp.down_proj.lora_A.weight` of the LoRA in \
                `DIR/adapter_model.safetensors` has shape [3, 64], expected [5, 64]";
    check(set("r", json!(5)), Code::DATA, rank);
    let less = |dir: &Path| {
        let file = std::fs::OpenOptions::new().write(true).open(dir.join(file)).unwrap();
        file.set_len(9_000).unwrap();
    };
    check(less, Code::DATA, "`DIR/adapter_model.safetensors` is malformed: ");
    check(
        |dir| std::fs::remove_file(dir.join(config)).unwrap(),
        Code::MISSING,
        "`DIR` holds no LoRA (looked for adapter_config.json)",
    );
    check(
        |dir| std::fs::remove_file(dir.join(file)).unwrap(),
        Code::MISSING,
        "`DIR` holds no LoRA (looked for adapter_model.safetensors)",
    );
    let none =
        "the LoRA in `DIR/adapter_model.safetensors` changes nothing: in every layer a factor or its scale is zero";
    let scaled_away = |dir: &Path| {
        edit(dir, config, |all| {
            all["lora_alpha"] = json!(0);
            all["alpha_pattern"] = json!({});
        })
    };
    check(scaled_away, Code::DATA, none);
    let huge = "`DIR/adapter_config.json` is malformed: the rank of `model.layers.0.mlp.down_proj` is 1000000000, \
                expected 1 to 65536";
    check(set("r", json!(1_000_000_000)), Code::DATA, huge);
}

#[test]
fn a_lora_for_another_model_is_refused() {
    let check = |name: &str, message: &str| {
        let model = open(&golden(name), json!({})).unwrap();
        let error = model
            .add_lora("x", &golden("tied/lora"))
            .expect_err("it is for another");
        assert!(error.to_string().contains(message), "{error}");
        assert!(error.help.is_some_and(|help| help.contains("another model")));
    };
    // A LoRA of fewer layers, and one for other numbers of heads.
    check("sharded", "has shape [32, 3], expected [8, 3]");
    let model = common::open(&golden("tied"), json!({ "lora": "x=/nowhere/at/all" }));
    let error = model.err().expect("there is no such folder");
    assert!(error.to_string().contains("`/nowhere/at/all` holds no LoRA"), "{error}");
}
