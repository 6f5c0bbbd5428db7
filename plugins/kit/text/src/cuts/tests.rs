use super::*;
use crate::Tokenizer;
use std::collections::BTreeSet;

/// Recorded by `golden/cuts.py`.
fn recorded() -> Json {
    serde_json::from_str(include_str!("../../golden/cuts.json")).unwrap()
}

fn texts(list: &Json) -> Vec<&str> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|text| text.as_str().unwrap())
        .collect()
}

/// Each line of a file of difficult text gives the recorded tokens, for every name.
#[test]
fn every_way_cuts_a_page_of_hard_text_as_recorded() {
    let recorded = recorded();
    let vocabulary: serde_json::Map<String, Json> = texts(&recorded["tokens"])
        .into_iter()
        .enumerate()
        .map(|(id, token)| (token.to_owned(), id.into()))
        .collect();
    let mut wrong = Vec::new();
    for group in recorded["cuts"].as_array().unwrap() {
        for name in texts(&group["names"]) {
            let cut = named(name).unwrap_or_else(|| panic!("`{name}` is not known"));
            let file = json!({
                "version": "1.0", "normalizer": cut.normalizer(), "pre_tokenizer": cut.pre_tokenizer(),
                "model": { "type": "BPE", "vocab": vocabulary, "merges": recorded["merges"],
                           "ignore_merges": cut.ignore_merges },
            });
            let tokenizer = Tokenizer::from_json(file.to_string().as_bytes(), name.into()).unwrap();
            for (line, ids) in texts(&recorded["page"])
                .into_iter()
                .zip(group["ids"].as_array().unwrap())
            {
                let ids = ids.as_array().expect("each line has a record");
                let expected: Vec<u32> = ids.iter().map(|id| id.as_u64().unwrap() as u32).collect();
                if tokenizer.encode(line).unwrap() != expected {
                    wrong.push(format!("{name} ({}): {line:?}", group["from"]));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} lines differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_name_has_a_record_and_stands_once() {
    let recorded = recorded();
    let groups = recorded["cuts"].as_array().unwrap();
    let with_record: BTreeSet<&str> = groups.iter().flat_map(|group| texts(&group["names"])).collect();
    let names: Vec<&str> = CUTS.iter().flat_map(|cut| cut.names).copied().collect();
    let once: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(once.len(), names.len(), "a name stands twice");
    assert_eq!(once, with_record);
}

#[test]
fn what_is_not_known_is_not_guessed() {
    assert!(named("kimi-k3").is_none());
    assert!(known().starts_with("a.x-4.0, bailingmoe, "));
}
