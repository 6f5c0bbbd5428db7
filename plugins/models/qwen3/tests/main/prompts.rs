//! Prompts of every form, and those that are refused.

use crate::common::{ask, model, open, quiet};
use plugin_api::serde_json::json;
use plugin_api::{Code, LoraUse, Message, NoCallbacks, Part, Prompt, Role, Sampling};

#[test]
fn an_empty_text_begins_with_the_token_between_texts() {
    let reply = model(json!({}))
        .reply(&Prompt::plain("").sample(quiet()), &NoCallbacks)
        .unwrap();
    assert_eq!((reply.usage.prompt_tokens, reply.usage.generated_tokens), (1, 12));
}

#[test]
fn a_begun_answer_is_continued() {
    let model = model(json!({}));
    let begun = Prompt::new([Message::user("Which?"), Message::assistant("It is option")]).sample(quiet());
    let tokens = model.tokens(&begun).unwrap();
    assert!(tokens.text.ends_with("It is option"), "{:?}", tokens.text);
    let reply = model.reply(&begun, &NoCallbacks).unwrap();
    assert!(!reply.text.contains("It is option"));
    assert_eq!(reply.usage.prompt_tokens as usize, tokens.ids.len());
}

#[test]
fn thinking_is_switched_by_prompt_then_setting_then_template() {
    let check = |setting: plugin_api::serde_json::Value, prompt: Option<bool>, off: bool| {
        let prompt = Prompt {
            thinking: prompt,
            ..ask("Hm", quiet())
        };
        let text = model(setting).tokens(&prompt).unwrap().text;
        assert_eq!(text.ends_with("<think>\n\n</think>\n\n"), off, "{text:?}");
    };
    check(json!({}), None, false);
    check(json!({}), Some(false), true);
    check(json!({ "thinking": false }), None, true);
    check(json!({ "thinking": false }), Some(true), false);
    assert!(model(json!({})).card().unwrap().thinks);
}

#[test]
fn what_it_cannot_do_it_refuses() {
    let model = model(json!({}));
    let refused = |prompt: Prompt| model.reply(&prompt, &NoCallbacks).unwrap_err().code;
    let with = |sampling: Sampling| refused(ask("Hi", sampling));
    let searched = |change: fn(&mut Sampling)| {
        let mut sampling = Sampling {
            beams: Some(4),
            ..quiet()
        };
        change(&mut sampling);
        with(sampling)
    };
    assert_eq!(searched(|s| s.temperature = Some(0.7)), Code::SETTINGS);
    assert_eq!(searched(|s| s.n_best = Some(5)), Code::SETTINGS);
    assert_eq!(searched(|s| s.thinking_budget = Some(5)), Code::SETTINGS);
    assert_eq!(searched(|s| s.beams = Some(1 << 30)), Code::SETTINGS);
    assert_eq!(
        with(Sampling {
            n_best: Some(2),
            ..quiet()
        }),
        Code::SETTINGS
    );
    assert_eq!(
        with(Sampling {
            temperature: Some(-1.0),
            ..quiet()
        }),
        Code::SETTINGS
    );
    assert_eq!(
        refused(Prompt {
            lora: LoraUse::Only(vec!["x".into()]),
            ..ask("Hi", quiet())
        }),
        Code::UNSUPPORTED
    );
    let clip = Message {
        role: Role::User,
        parts: vec![Part::clip(0)],
        ..Message::default()
    };
    assert_eq!(refused(Prompt::new([clip])), Code::UNSUPPORTED);
    assert_eq!(refused(Prompt::plain("x").choose(Vec::<String>::new())), Code::DATA);
    assert_eq!(refused(Prompt::plain("x").choose(["a", ""])), Code::DATA);
}

#[test]
fn the_demo_reads_a_text_task() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("demo");
    let model = open(&folder, json!({})).unwrap();
    let question = "Multiple Choice question: Which conducts?\n- Wood=A\n- Glass=B\n- Copper=C\n- Wool=D\n\n\
                    Respond only with the letter of the correct answer.";
    let prompt = Prompt {
        thinking: Some(false),
        ..Prompt::new([Message::user(question)])
    };
    let scored = model
        .reply(&prompt.clone().choose(["A", "B", "C", "D", "E"]), &NoCallbacks)
        .unwrap();
    assert!(
        scored
            .options
            .iter()
            .all(|o| o.tokens == 1 && o.bytes == 1 && o.loglik < 0.0),
        "{scored:?}"
    );
    let free = model.reply(&prompt.sample(Sampling::greedy(8)), &NoCallbacks).unwrap();
    assert!((1..=8).contains(&free.usage.generated_tokens));
}
