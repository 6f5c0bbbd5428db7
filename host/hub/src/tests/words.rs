//! Ids, patterns and the environment.

use std::path::Path;

use super::super::listing::Patterns;
use super::super::{HubId, Kind, Settings};

#[track_caller]
fn check_id(text: &str, kind: Kind, name: &str, revision: &str) {
    let id = HubId::parse(text, Kind::Model).unwrap();
    assert_eq!((id.kind(), id.name(), id.revision()), (kind, name, revision), "{text}");
}

#[test]
fn an_id_is_a_name_and_a_revision() {
    check_id("Qwen/Qwen3-0.6B", Kind::Model, "Qwen/Qwen3-0.6B", "main");
    check_id("org/name@v1.0", Kind::Model, "org/name", "v1.0");
    check_id("org/name@refs/pr/3", Kind::Model, "org/name", "refs/pr/3");
    check_id(
        "datasets/allenai/ai2_arc@main",
        Kind::Dataset,
        "allenai/ai2_arc",
        "main",
    );
    check_id("models/org/name", Kind::Model, "org/name", "main");
    // An organisation may have the name of a kind.
    check_id("datasets/name", Kind::Model, "datasets/name", "main");
    assert_eq!(
        HubId::parse("org/name", Kind::Dataset).unwrap().to_string(),
        "datasets/org/name"
    );
    assert!(
        HubId::parse(&format!("org/name@{}", "a".repeat(40)), Kind::Model)
            .unwrap()
            .is_pinned()
    );
    assert!(!HubId::parse("org/name@main", Kind::Model).unwrap().is_pinned());
}

#[track_caller]
fn check_file(text: &str, revision: &str, file: &str) {
    let id = HubId::parse(text, Kind::Model).unwrap();
    assert_eq!(
        (id.name(), id.revision(), id.file()),
        ("org/name", revision, Some(file)),
        "{text}"
    );
    assert_eq!(HubId::parse(&id.to_string(), Kind::Model).unwrap(), id, "{text}");
}

#[test]
fn an_id_may_name_one_file_of_several() {
    check_file("org/name:Q8_0", "main", "Q8_0");
    check_file("org/name@v1:Q8_0", "v1", "Q8_0");
    check_file("org/name:Q8_0@v1", "v1", "Q8_0");
    check_file("org/name/a.gguf", "main", "a.gguf");
    check_file("org/name/sub/a.gguf@v1", "v1", "sub/a.gguf");
    check_file("models/org/name/a.gguf", "main", "a.gguf");
}

#[test]
fn what_is_no_id_is_refused() {
    for text in [
        "",
        "name",
        "org/",
        "/name",
        "org/name/more",
        "./name",
        "../name",
        "org/..",
        "org/a..b",
        "org/a--b",
        "org/-a",
        "org/na me",
        "org/näme",
        "org/name@",
        "org/name@../x",
        "org/name@a//b",
        "org/name@.hidden",
        "org/name@a b",
        "org/name:",
        "org/name:a:b",
        "org/name@a@b",
        "org/name:../x",
        "org/name/x.gguf:Q8_0",
        "org/name/../x.gguf",
        "datasets/org/name:Q8_0",
        "https://host/org/name",
        "/home/user/model",
        "C:\\model",
    ] {
        let fault = HubId::parse(text, Kind::Model).unwrap_err();
        assert!(fault.to_string().ends_with(&format!("got `{text}`")), "{fault}");
    }
}

#[track_caller]
fn check_pattern(patterns: &[&str], chosen: &[&str], left: &[&str]) {
    let patterns = Patterns::new(patterns);
    for name in chosen {
        assert!(patterns.choose(name), "{name}");
    }
    for name in left {
        assert!(!patterns.choose(name), "{name}");
    }
}

#[test]
fn patterns_choose_by_whole_names() {
    check_pattern(&["*.json"], &["a.json", "b/c.json", ".json"], &["a.jsonl", "json"]);
    check_pattern(&["a?c"], &["abc", "a/c"], &["ac", "abbc"]);
    check_pattern(
        &["model.safetensors"],
        &["model.safetensors"],
        &["sub/model.safetensors", "model-safetensors"],
    );
    check_pattern(
        &["model-*-of-*.safetensors"],
        &["model-1-of-2.safetensors"],
        &["model-1.safetensors"],
    );
    check_pattern(&["*a*b*"], &["xaxbx", "ab"], &["ba", ""]);
    check_pattern(&["*.json", "!sub/*"], &["a.json"], &["sub/a.json"]);
    check_pattern(&["!*.onnx"], &["a.json"], &["b.onnx"]);
    check_pattern(&[], &["anything/at.all"], &[]);
    // Would take for ever if every star were tried against every other.
    check_pattern(
        &[&"*a".repeat(40)],
        &[],
        &[&"a".repeat(39), &format!("{}b", "a".repeat(5_000))],
    );
}

fn settings(variables: &[(&str, &str)]) -> Settings {
    let owned: Vec<(String, String)> = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Settings::from_variables(|name| {
        owned
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.clone())
    })
    .unwrap()
}

#[track_caller]
fn check_cache(variables: &[(&str, &str)], expected: &str) {
    assert_eq!(settings(variables).cache, Path::new(expected));
}

#[test]
fn the_cache_is_where_python_has_it() {
    check_cache(&[("HOME", "/home/ann")], "/home/ann/.cache/huggingface/hub");
    check_cache(
        &[("HOME", "/home/ann"), ("XDG_CACHE_HOME", "/var/cache")],
        "/var/cache/huggingface/hub",
    );
    check_cache(&[("HOME", "/home/ann"), ("HF_HOME", "/data/hf")], "/data/hf/hub");
    check_cache(&[("HF_HOME", "/data/hf"), ("HF_HUB_CACHE", "/fast")], "/fast");
    check_cache(&[("HF_HOME", "/data/hf"), ("HF_HUB_CACHE", "")], "/data/hf/hub");
}

#[test]
fn the_token_comes_from_the_variable_or_from_the_file() {
    let home = tempfile::tempdir().unwrap();
    let hf_home = ("HF_HOME", home.path().to_str().unwrap());
    let secret = |variables: &[(&str, &str)]| settings(variables).token.map(|token| token.secret().to_owned());
    assert_eq!(secret(&[hf_home]), None);
    std::fs::write(home.path().join("token"), "hf_from_file\n").unwrap();
    assert_eq!(secret(&[hf_home]).as_deref(), Some("hf_from_file"));
    assert_eq!(
        secret(&[hf_home, ("HF_TOKEN", " hf_from_variable ")]).as_deref(),
        Some("hf_from_variable")
    );

    let fault = Settings::from_variables(|name| (name == "HF_TOKEN").then(|| "two\nlines".to_owned())).unwrap_err();
    assert_eq!(
        fault.to_string(),
        "expected one word of plain letters and digits in `HF_TOKEN`"
    );
}

#[test]
fn the_endpoint_and_the_offline_switch_come_from_the_environment() {
    assert_eq!(settings(&[]).endpoint, "https://huggingface.co");
    assert_eq!(
        settings(&[("HF_ENDPOINT", "https://mirror.example/hub/")]).endpoint,
        "https://mirror.example/hub"
    );
    for (name, value, expected) in [
        ("HF_HUB_OFFLINE", "1", true),
        ("HF_HUB_OFFLINE", "True", true),
        ("TRANSFORMERS_OFFLINE", "yes", true),
        ("HF_HUB_OFFLINE", "0", false),
        ("HF_HUB_OFFLINE", "", false),
    ] {
        assert_eq!(settings(&[(name, value)]).offline, expected, "{name}={value}");
    }
}
