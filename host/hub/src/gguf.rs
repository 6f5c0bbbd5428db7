//! Chooses one of a repository's GGUF files: most repositories hold one model many times, in different formats.
//!
//! `org/name:Q8_0` names the format as in llama.cpp and Ollama, and any file can be given by its name. Nothing is
//! chosen by default unless there is only one: a default would silently decide scores.

use std::collections::BTreeMap;

use super::fault::HubFault;

const END: &str = ".gguf";

/// A model's files, by their common name: one, or several if it was split.
type Models<'a> = BTreeMap<&'a str, Vec<&'a str>>;

/// The files of the model that `choice` names by format (`Q8_0`) or file name.
pub(super) fn named<'a>(names: &[&'a str], choice: &str) -> Result<Vec<&'a str>, HubFault> {
    let models = models(names);
    let is_file = |stem: &str, files: &[&str]| {
        files
            .iter()
            .any(|file| *file == choice || file.rsplit('/').next() == Some(choice))
            || stem == choice
    };
    let exact = models.iter().find(|(stem, files)| is_file(stem, files));
    let label = choice.to_ascii_lowercase();
    let is_label = |stem: &str| {
        let before = stem.to_ascii_lowercase().strip_suffix(&label).map(str::to_owned);
        before.is_some_and(|before| before.is_empty() || before.ends_with(['-', '.', '_', '/']))
    };
    let found: Models = match exact {
        Some((stem, files)) => Models::from([(*stem, files.clone())]),
        None => models
            .iter()
            .filter(|(stem, _)| is_label(stem))
            .map(|(stem, files)| (*stem, files.clone()))
            .collect(),
    };
    match found.is_empty() {
        true => Err(HubFault::NoGguf {
            choice: choice.to_owned(),
            known: list(&models),
        }),
        false => one(found),
    }
}

/// Chooses one format if files of several were asked for: safetensors if there are some in the top folder, else the
/// only GGUF model, whose file is complete, else PyTorch's pickles.
pub(super) fn settle(names: Vec<&str>) -> Result<Vec<&str>, HubFault> {
    let (ggufs, others): (Vec<&str>, Vec<&str>) = names.iter().copied().partition(|name| name.ends_with(END));
    let models = models(&ggufs);
    let has_others = others
        .iter()
        .any(|name| name.ends_with(".safetensors") && !name.contains('/'));
    let is_pickled = |name: &&str| name.starts_with("pytorch_model") && name.ends_with(".bin");
    match (has_others, models.is_empty()) {
        (true, _) => Ok(others.into_iter().filter(|name| !is_pickled(name)).collect()),
        (false, true) => Ok(others),
        (false, false) => one(models),
    }
}

fn one<'a>(mut models: Models<'a>) -> Result<Vec<&'a str>, HubFault> {
    if models.len() > 1 {
        return Err(HubFault::SeveralGguf { known: list(&models) });
    }
    let (stem, files) = models.pop_first().unwrap_or_default();
    let parts = files.first().and_then(|file| split(file)).map_or(1, |(_, _, all)| all);
    let missing = (1..=parts)
        .filter(|_| parts > 1)
        .map(|part| format!("{stem}-{part:05}-of-{parts:05}{END}"))
        .find(|name| !files.contains(&name.as_str()));
    match missing {
        Some(pattern) => Err(HubFault::NoFile { pattern, nearest: None }),
        None => Ok(files),
    }
}

/// Image encoders that come with a model are not models.
fn models<'a>(names: &[&'a str]) -> Models<'a> {
    let mut models = Models::new();
    for name in names {
        let Some(whole) = name.strip_suffix(END) else { continue };
        let file = name.rsplit('/').next().unwrap_or(name);
        if !file.contains("mmproj") {
            let stem = split(name).map_or(whole, |(stem, _, _)| stem);
            models.entry(stem).or_default().push(name);
        }
    }
    models.values_mut().for_each(|files| files.sort_unstable());
    models
}

/// For a part such as `stem-00001-of-00003.gguf`: the stem, its number and how many there are.
fn split(name: &str) -> Option<(&str, u32, u32)> {
    let (stem, all) = name.strip_suffix(END)?.rsplit_once("-of-")?;
    let (stem, part) = stem.rsplit_once('-')?;
    let number = |text: &str| text.parse().ok().filter(|_| text.len() == 5);
    Some((stem, number(part)?, number(all)?))
}

fn list(models: &Models) -> Vec<String> {
    let first = |files: &Vec<&str>| files.first().map(|file| (*file).to_owned());
    models.values().filter_map(first).collect()
}

/// The format of a file, from the end of its name: `Q8_0` of `Qwen3-0.6B-Q8_0.gguf`.
pub(super) fn label(file: &str) -> &str {
    let stem = split(file).map_or_else(|| file.strip_suffix(END).unwrap_or(file), |(stem, _, _)| stem);
    stem.rsplit(['-', '.', '/']).next().unwrap_or(stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &[&str] = &[
        "BF16/Tiny-BF16-00001-of-00002.gguf",
        "BF16/Tiny-BF16-00002-of-00002.gguf",
        "README.md",
        "Tiny-Q4_K_M.gguf",
        "Tiny-Q8_0.gguf",
        "Tiny-UD-Q8_0.gguf",
        "cut-00001-of-00002.gguf",
        "mmproj-Q8_0.gguf",
    ];

    #[track_caller]
    fn check(choice: &str, expected: &[&str]) {
        assert_eq!(named(NAMES, choice).unwrap(), expected, "{choice}");
    }

    #[track_caller]
    fn check_not(choice: &str, fault: &str) {
        let says = named(NAMES, choice).unwrap_err().to_string();
        assert!(says.contains(fault), "{choice}: {says}");
    }

    #[test]
    fn a_file_is_named_by_what_it_is_stored_as_or_by_its_name() {
        check("Q4_K_M", &["Tiny-Q4_K_M.gguf"]);
        check("q4_k_m", &["Tiny-Q4_K_M.gguf"]);
        check("Tiny-Q8_0.gguf", &["Tiny-Q8_0.gguf"]);
        check("UD-Q8_0", &["Tiny-UD-Q8_0.gguf"]);
        let parts = &NAMES[..2];
        check("BF16", parts);
        check(parts[0], parts);
        check("Tiny-BF16-00002-of-00002.gguf", parts);
    }

    #[test]
    fn what_names_none_or_several_is_told_with_those_that_are_there() {
        check_not("Q4_K", "no GGUF file of it is `Q4_K`: it holds `BF16/Tiny-BF16-00001");
        check_not("8_1", "`Tiny-Q8_0.gguf`");
        check_not("Q8_0", "`Tiny-Q8_0.gguf`, `Tiny-UD-Q8_0.gguf`");
        check_not("cut", "`cut-00002-of-00002.gguf`");
        check_not("README.md", "no GGUF file of it");
    }

    #[test]
    fn one_format_is_taken() {
        let config = "config.json";
        assert_eq!(settle(vec![config, "a.gguf"]).unwrap(), ["a.gguf"]);
        assert_eq!(settle(vec![config, "mmproj.gguf"]).unwrap(), [config]);
        let both = vec!["a.gguf", "b.gguf", config, "model.safetensors"];
        assert_eq!(settle(both).unwrap(), [config, "model.safetensors"]);
        let pickled = vec![
            config,
            "pytorch_model-00001-of-00002.bin",
            "pytorch_model.bin.index.json",
        ];
        assert_eq!(settle(pickled.clone()).unwrap(), pickled);
        let all = [&pickled[..], &["model.safetensors", "think/non_lora_trainables.bin"]].concat();
        let kept = [
            config,
            "pytorch_model.bin.index.json",
            "model.safetensors",
            "think/non_lora_trainables.bin",
        ];
        assert_eq!(settle(all).unwrap(), kept);
        let fault = settle(vec!["a-Q4_0.gguf", "a-Q8_0.gguf", config]).unwrap_err();
        assert!(fault.to_string().contains("`a-Q4_0.gguf`, `a-Q8_0.gguf`"));
    }

    #[test]
    fn labels_are_what_files_are_stored_as() {
        assert_eq!(label("Qwen3-0.6B-Q8_0.gguf"), "Q8_0");
        assert_eq!(label("x/Llama.Q4_K_M.gguf"), "Q4_K_M");
        assert_eq!(label("BF16/Tiny-BF16-00001-of-00002.gguf"), "BF16");
    }
}
