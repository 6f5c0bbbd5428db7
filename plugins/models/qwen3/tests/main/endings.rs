//! Where an answer ends: stop strings, stop tokens, the shortest length, the context, the budget for reasoning.

use crate::common::{Host, ask, copy, edit, golden, model, open, quiet};
use plugin_api::serde_json::{Value, json};
use plugin_api::{Code, Finish, Message, NoCallbacks, Prompt, Sampling};

#[test]
fn pieces_are_the_answer() {
    let model = model(json!({}));
    let host = Host::new([ask("Tell me", quiet())]);
    model.serve(&host).unwrap();
    let replies = host.replies.lock().unwrap();
    let reply = replies[&0].as_ref().unwrap();
    assert_eq!(host.said.lock().unwrap()[&0].concat(), reply.text);
    assert_eq!((reply.finish, reply.usage.generated_tokens), (Finish::Length, 12));
    assert!(reply.timing.first_token_ms.is_some() && reply.memory.is_some());
}

#[test]
fn an_answer_ends_before_a_stop_string_however_it_is_cut_into_tokens() {
    let model = model(json!({}));
    let whole = model.reply(&ask("Tell me", quiet()), &NoCallbacks).unwrap().text;
    let letters: Vec<(usize, char)> = whole.char_indices().collect();
    assert!(letters.len() > 12, "{whole:?}");
    for (from, to) in [(3, 9), (5, 6), (1, 12)] {
        let stop = whole[letters[from].0..letters[to].0].to_owned();
        let expected = &whole[..whole.find(&stop).unwrap()];
        let sampling = Sampling {
            stop: vec!["never".into(), stop.clone()],
            ..quiet()
        };
        let host = Host::new([ask("Tell me", sampling)]);
        model.serve(&host).unwrap();
        let replies = host.replies.lock().unwrap();
        let reply = replies[&0].as_ref().unwrap();
        assert_eq!(
            (reply.text.as_str(), reply.finish),
            (expected, Finish::Stop),
            "stop {stop:?}"
        );
        assert_eq!(
            host.said
                .lock()
                .unwrap()
                .get(&0)
                .map_or(String::new(), |said| said.concat()),
            expected
        );
    }
}

#[test]
fn any_of_the_stop_tokens_ends_an_answer() {
    // A recorded token becomes one of this checkpoint's stop tokens.
    let recorded = candle_core::safetensors::load(golden("tied/golden/golden.safetensors"), &candle_core::Device::Cpu);
    let greedy = recorded.unwrap()["talk0.greedy"].to_vec2::<i64>().unwrap()[0].clone();
    let first = greedy.iter().position(|token| *token == greedy[5]).unwrap();
    let folder = copy("tied");
    edit(folder.path(), "generation_config.json", |config| {
        config["eos_token_id"] = json!([319, greedy[5]])
    });
    let model = open(folder.path(), json!({})).unwrap();
    let talk = ask("Which is heavier, a kilogram of iron or of feathers?", quiet());
    let reply = model.reply(&talk, &NoCallbacks).unwrap();
    assert_eq!(
        (reply.finish, reply.usage.generated_tokens as usize),
        (Finish::Stop, first + 1)
    );
}

/// transformers' outputs if an answer may not end before its eighth token, from nn's `golden/beams.py`.
#[test]
fn an_answer_is_as_long_as_its_publisher_wants_at_least() {
    let read = |file: &str| -> Value {
        plugin_api::serde_json::from_slice(&std::fs::read(golden("tied").join("golden").join(file)).unwrap()).unwrap()
    };
    let (talks, searches) = (read("cases.json"), read("beams.json"));
    let of = |all: &Value, name: &str| {
        all["cases"]
            .as_array()
            .unwrap()
            .iter()
            .find(|case| case["name"] == name)
            .cloned()
    };
    let recorded = of(&searches, "talk1: 1 beams, length_penalty 1.0, min_new_tokens 8").unwrap();
    let messages = of(&talks, "talk1").unwrap()["messages"].as_array().unwrap().clone();
    let messages = messages.iter().map(|it| match it["role"] == "system" {
        true => Message::system(it["content"].as_str().unwrap()),
        false => Message::user(it["content"].as_str().unwrap()),
    });
    let prompt = Prompt::new(messages.collect::<Vec<_>>()).sample(Sampling::greedy(14));
    let check = |published: Value, tokens: &[u32]| {
        let folder = copy("tied");
        std::fs::write(folder.path().join("generation_config.json"), published.to_string()).unwrap();
        let reply = open(folder.path(), json!({}))
            .unwrap()
            .reply(&prompt, &NoCallbacks)
            .unwrap();
        let words = text::Tokenizer::from_folder(folder.path())
            .unwrap()
            .decode(tokens)
            .unwrap();
        assert_eq!((reply.text, reply.usage.generated_tokens), (words, 14));
    };
    let expected: Vec<u32> = plugin_api::serde_json::from_value(recorded["answers"][0][0]["tokens"].clone()).unwrap();
    let stop = &recorded["stop_tokens"];
    check(json!({ "eos_token_id": stop, "min_new_tokens": 8 }), &expected);
    check(json!({ "eos_token_id": stop, "min_length": 90 + 8 }), &expected); // of 90 tokens is the prompt
    check(
        json!({ "eos_token_id": stop, "min_length": 200, "min_new_tokens": 8 }),
        &expected,
    );
}

#[test]
fn the_end_of_a_context_ends_an_answer_and_a_longer_prompt_is_an_error() {
    let folder = copy("tied");
    edit(folder.path(), "config.json", |config| {
        config["max_position_embeddings"] = json!(64)
    });
    let model = open(folder.path(), json!({})).unwrap();
    let reply = model
        .reply(&ask("Hello", Sampling::greedy(1000)), &NoCallbacks)
        .unwrap();
    assert_eq!(reply.finish, Finish::Length);
    assert_eq!(reply.usage.prompt_tokens + reply.usage.generated_tokens, 64);

    let long = ask(&"word ".repeat(100), Sampling::greedy(8));
    let error = model.reply(&long, &NoCallbacks).unwrap_err();
    assert_eq!(error.code, Code::TOO_LONG);
    assert!(
        error.message.ends_with("the model's context leaves room for 63"),
        "{error}"
    );
    let cut = model.reply(&Prompt { truncate: true, ..long }, &NoCallbacks).unwrap();
    assert_eq!(cut.flags, ["truncated-prompt"]);
    assert_eq!((cut.usage.prompt_tokens, cut.usage.generated_tokens), (56, 8));

    let choice = Prompt::plain("word ".repeat(100)).choose(["A"]);
    assert_eq!(model.reply(&choice, &NoCallbacks).unwrap_err().code, Code::TOO_LONG);
}

#[test]
fn reasoning_that_has_used_up_its_budget_is_ended() {
    // The prompt opens the reasoning, which this checkpoint would never close.
    let prompt = |budget| {
        let sampling = Sampling {
            thinking_budget: budget,
            repetition_penalty: Some(2.0), // otherwise it repeats one token for ever
            ..Sampling::greedy(if budget.is_some() { 60 } else { 20 })
        };
        Prompt::new([Message::user("Hm"), Message::assistant("<think>")]).sample(sampling)
    };
    let open = |words: &str| model(json!({ "last_thought": words }));
    let model = open("");
    let endless = model.reply(&prompt(None), &NoCallbacks).unwrap();
    assert_eq!((endless.text.as_str(), endless.usage.thinking_tokens), ("", 20));
    let ended = model.reply(&prompt(Some(4)), &NoCallbacks).unwrap();
    let begin = ended.thinking.unwrap();
    assert!(endless.thinking.unwrap().starts_with(begin.trim()), "{begin:?}");
    assert!(
        !ended.text.is_empty() && ended.usage.thinking_tokens < 10,
        "{:?}",
        ended.usage
    );
    let told = open("That will do.").reply(&prompt(Some(4)), &NoCallbacks).unwrap();
    assert_eq!(told.thinking.unwrap(), format!("{}\n\nThat will do.", begin.trim_end()));
    assert!(!told.text.is_empty());
}
