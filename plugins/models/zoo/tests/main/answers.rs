//! What families answer: scored options, greedy, drawn and searched texts, and the same numbers in every batch.

use crate::{golden, model};
use plugin_api::serde_json::Value;
use plugin_api::{NoCallbacks, Prompt, Reply, Sampling};
use std::path::Path;
use testkit::parity::checkpoints;
use testkit::{Host, ask};

fn families() -> Vec<String> {
    let name = |folder: &Path| folder.file_name().unwrap().to_string_lossy().into_owned();
    checkpoints(&golden("")).iter().map(|folder| name(folder)).collect()
}

/// Options of one token and of several; texts that are drawn, searched for and stopped.
fn prompts() -> Vec<Prompt> {
    let drawn = Sampling {
        temperature: Some(1.0),
        seed: Some(7),
        n_best: Some(3),
        ..Sampling::greedy(5)
    };
    let searched = Sampling {
        beams: Some(3),
        n_best: Some(2),
        ..Sampling::greedy(5)
    };
    vec![
        ask("Hi?", Sampling::greedy(9)),
        ask("Hi? There", Sampling::greedy(3)),
        ask("Which?", Sampling::default()).choose([" A", " B", " long one", " long two"]),
        ask("Which?", Sampling::default()).choose(["A", "B", "C"]),
        ask("Hi? There", drawn),
        ask("Name it.", searched),
    ]
}

/// All of a reply but its times.
fn said(reply: &Reply) -> Value {
    let mut said = plugin_api::serde_json::to_value(reply).unwrap();
    said.as_object_mut().unwrap().remove("timing");
    said
}

#[test]
fn numbers_are_the_same_to_the_bit_in_any_company_and_order() {
    for family in families() {
        let (alone, together, backwards) = (model(&family), model(&family), model(&family));
        let expected: Vec<Value> = prompts()
            .iter()
            .map(|prompt| said(&alone.reply(prompt, &NoCallbacks).unwrap()))
            .collect();
        let served = |model, prompts: Vec<Prompt>| -> Vec<Value> {
            let replies = Host::new(prompts).serve(model);
            replies.iter().map(|reply| said(reply.as_ref().unwrap())).collect()
        };
        assert_eq!(served(&together, prompts()), expected, "{family}");
        let mut got = served(&backwards, prompts().into_iter().rev().collect());
        got.reverse();
        assert_eq!(got, expected, "{family}, backwards");
    }
}

#[test]
fn the_greedy_continuation_is_the_likeliest_option() {
    for family in families() {
        let model = model(&family);
        let greedy = model
            .reply(&ask("Hi?", Sampling::greedy(4)), &NoCallbacks)
            .unwrap()
            .text;
        if greedy.chars().count() < 2 {
            continue; // it ends at once, or its bytes are not text
        }
        let other: String = greedy.chars().rev().chain(['!']).collect();
        let scored = model.reply(&ask("Hi?", Sampling::default()).choose([other, greedy]), &NoCallbacks);
        let options = scored.unwrap().options;
        assert!(options[1].greedy && !options[0].greedy, "{family}: {options:?}");
        assert!(options[1].loglik > options[0].loglik, "{family}: {options:?}");
    }
}

#[test]
fn a_text_ends_where_a_stop_string_begins() {
    let model = model("gemma2");
    let whole = model
        .reply(&ask("Hi?", Sampling::greedy(8)), &NoCallbacks)
        .unwrap()
        .text;
    let stop: String = whole.chars().skip(3).take(2).collect();
    let stopped = Sampling {
        stop: vec![stop.clone()],
        ..Sampling::greedy(8)
    };
    let cut = model.reply(&ask("Hi?", stopped), &NoCallbacks).unwrap().text;
    assert_eq!(Some(cut.as_str()), whole.split(&stop).next(), "{whole:?}");
}

#[test]
fn a_seed_draws_the_same_text_again_and_another_one_another() {
    let model = model("mamba");
    let drawn = |seed| {
        let sampling = Sampling {
            temperature: Some(1.0),
            seed: Some(seed),
            ..Sampling::greedy(12)
        };
        model.reply(&ask("Hi?", sampling), &NoCallbacks).unwrap().text
    };
    assert_eq!(drawn(1), drawn(1));
    assert_ne!(drawn(1), drawn(2));
}

#[test]
fn a_card_says_what_is_promised() {
    for family in families() {
        let card = model(&family).card().unwrap();
        assert_eq!(
            (card.name.as_str(), card.batch, card.learns),
            (family.as_str(), 1, false)
        );
        assert!(
            card.scores_choices && card.parameters.is_some_and(|count| count > 1000),
            "{card:?}"
        );
        assert!(
            card.other["kernels"].as_str().unwrap().starts_with("candle"),
            "{card:?}"
        );
        let marked = card.other.get("marks").map(Value::to_string).unwrap_or_default();
        let expected = match family.as_str() {
            "falcon" => "unverified: the family `falcon`",
            _ => "",
        };
        assert!(
            marked.contains(expected) && marked.is_empty() == expected.is_empty(),
            "{family}: {marked}"
        );
    }
}
