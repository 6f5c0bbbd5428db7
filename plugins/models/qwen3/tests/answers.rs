//! Answers: the same in any company, ended where they should be, drawn as asked.

mod common;

use candle_core::Device;
use candle_core::quantized::{GgmlDType, QTensor, gguf_file};
use common::{Host, ask, copy, edit, golden, model, open};
use plugin_api::client::{Given, Serving};
use plugin_api::serde_json::{Value, json};
use plugin_api::{Code, Finish, LoraUse, Message, NoCallbacks, Part, Prompt, Reply, Role, Sampling};
use std::time::Duration;

/// The best answers, by a search.
fn searched(beams: u32, n_best: u32) -> Sampling {
    Sampling {
        beams: Some(beams),
        n_best: Some(n_best),
        length_penalty: Some(0.6),
        ..Sampling::greedy(10)
    }
}

/// Prompts of many lengths, with answers of many lengths, greedy and drawn.
fn mixture() -> Vec<Prompt> {
    let sampled = |seed, tokens| Sampling {
        max_tokens: Some(tokens),
        temperature: Some(1.0),
        seed: Some(seed),
        ..Sampling::default()
    };
    vec![
        ask("Hello", Sampling::greedy(9)),
        ask(
            "Which planet is the largest of all that go round the Sun?",
            sampled(1, 14),
        ),
        ask(&"A long story about a rock. ".repeat(6), Sampling::greedy(5)),
        ask(
            "Is it far?",
            Sampling {
                repetition_penalty: Some(1.3),
                ..Sampling::greedy(20)
            },
        ),
        Prompt::plain("The sky is").choose([" blue", " a very dark and deep green", "!"]),
        ask("x", sampled(7, 25)),
        ask("Copper?", Sampling::greedy(3)),
        Prompt::new([Message::user("Pick.")]).choose(["A", "B", "C"]),
        ask("And now?", sampled(8, 11)),
        ask("Feathers?", searched(3, 3)),
        ask("How far is it to the Moon, and how far to the Sun?", searched(4, 1)),
    ]
}

/// What must not depend on company.
fn essence(reply: &Reply) -> (String, Option<String>, Finish, u32, Vec<String>) {
    let round = |x: f64| format!("{x:.3}");
    let options = reply
        .options
        .iter()
        .map(|o| round(o.loglik) + &o.greedy.to_string())
        .collect();
    (
        reply.text.clone(),
        reply.thinking.clone(),
        reply.finish,
        reply.usage.generated_tokens,
        options,
    )
}

#[test]
fn answers_do_not_depend_on_company() {
    let alone = model(json!({ "max_batch": 1 }));
    let expected: Vec<_> = mixture()
        .iter()
        .map(|prompt| essence(&alone.reply(prompt, &NoCallbacks).unwrap()))
        .collect();
    assert!(expected.iter().any(|(text, ..)| text.len() > 10));
    // Rows join and leave in between, and long prompts are read in pieces.
    for (rows, step_tokens, hesitate) in [(1, 1024, 0), (3, 1024, 0), (8, 1024, 2), (3, 7, 3), (8, 1, 0)] {
        let together = model(json!({ "max_batch": rows, "step_tokens": step_tokens }));
        let host = Host {
            hesitate,
            ..Host::new(mixture())
        };
        let got: Vec<_> = host
            .serve(&together)
            .iter()
            .map(|reply| essence(reply.as_ref().unwrap()))
            .collect();
        assert_eq!(got, expected, "{rows} rows, {step_tokens} tokens a pass");
    }
}

#[test]
fn a_finished_row_makes_room() {
    let prompts = [20, 2, 2, 2].map(|tokens| {
        ask(
            "Go on",
            Sampling {
                max_tokens: Some(tokens),
                ..quiet()
            },
        )
    });
    let host = Host::new(prompts);
    model(json!({ "max_batch": 2 })).serve(&host).unwrap();
    assert_eq!(*host.order.lock().unwrap(), [1, 2, 3, 0]);
}

/// Greedy on the checkpoint without stop tokens, so that answers have the length asked for.
fn quiet() -> Sampling {
    Sampling::greedy(12)
}

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
    // A token that this checkpoint says becomes one of its stop tokens.
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

#[test]
fn what_a_prompt_leaves_open_is_the_publishers() {
    // The checkpoint says: draw, at temperature 0.6, from the top 20.
    let model = model(json!({ "max_tokens": 6 }));
    let draw = |seed| {
        model
            .reply(
                &ask(
                    "Say",
                    Sampling {
                        seed: Some(seed),
                        ..Sampling::default()
                    },
                ),
                &NoCallbacks,
            )
            .unwrap()
    };
    assert_eq!(draw(1).usage.generated_tokens, 6);
    assert_eq!(draw(1).text, draw(1).text);
    assert_ne!(draw(1).text, draw(2).text);
}

#[test]
fn several_answers_are_ranked_and_the_first_is_the_one_drawn_alone() {
    let model = model(json!({}));
    let sampling = Sampling {
        temperature: Some(1.0),
        seed: Some(3),
        ..Sampling::greedy(6)
    };
    let one = model.reply(&ask("Say", sampling.clone()), &NoCallbacks).unwrap();
    let reply = model
        .reply(
            &ask(
                "Say",
                Sampling {
                    n_best: Some(4),
                    ..sampling
                },
            ),
            &NoCallbacks,
        )
        .unwrap();
    let scores: Vec<f64> = reply.alternatives.iter().map(|a| a.score.unwrap()).collect();
    assert_eq!(scores.len(), 4);
    assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    assert_eq!(reply.text, reply.alternatives[0].text);
    assert!(reply.alternatives.iter().any(|a| a.text == one.text));
    assert!(reply.alternatives.iter().any(|a| a.text != one.text));
    assert_eq!(reply.usage.generated_tokens, 24);
    // A score is a log-probability also of what a penalty made of the logits, here one that makes repetition likelier.
    let repeating = Sampling {
        n_best: Some(4),
        repetition_penalty: Some(0.2),
        temperature: Some(1.0),
        ..Sampling::greedy(6)
    };
    let reply = model.reply(&ask("Say", repeating), &NoCallbacks).unwrap();
    assert!(
        reply.alternatives.iter().all(|a| a.score.unwrap() <= 0.0),
        "{:?}",
        reply.alternatives
    );
}

/// What transformers says where an answer may not end before its eighth token, out of nn's `golden/beams.py`.
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
fn a_search_ranks_its_answers_and_says_the_best_in_one_piece() {
    let model = model(json!({}));
    let all = model.reply(&ask("Say", searched(4, 3)), &NoCallbacks).unwrap();
    let scores: Vec<f64> = all.alternatives.iter().map(|a| a.score.unwrap()).collect();
    assert_eq!(scores.len(), 3);
    assert!(scores.is_sorted_by(|a, b| a >= b) && scores[0] < 0.0, "{scores:?}");
    assert_eq!(all.usage.generated_tokens, 30);
    let host = Host::new([ask("Say", searched(4, 1))]);
    model.serve(&host).unwrap();
    assert_eq!(host.said.lock().unwrap()[&0].concat(), all.text);
    assert_eq!(
        host.replies.lock().unwrap()[&0].as_ref().unwrap().text,
        all.alternatives[0].text
    );

    // A stop string ends an answer here, too.
    let stop = all.text.chars().skip(2).take(2).collect::<String>();
    let sampling = Sampling {
        stop: vec![stop.clone()],
        ..searched(4, 4)
    };
    let stopped = model.reply(&ask("Say", sampling), &NoCallbacks).unwrap();
    assert!(stopped.alternatives.iter().all(|a| !a.text.contains(&stop)));
    assert!(
        stopped.alternatives.iter().any(|a| all.text.starts_with(&a.text)),
        "{stopped:?}"
    );
}

#[test]
fn a_checkpoint_whose_publisher_searches_is_searched_unless_a_prompt_draws() {
    let folder = copy("tied");
    edit(folder.path(), "generation_config.json", |config| {
        (config["num_beams"], config["length_penalty"]) = (json!(4), json!(0.6))
    });
    let publisher = open(folder.path(), json!({})).unwrap();
    let text = |model: &plugin_api::client::ModelClient, sampling| {
        model.reply(&ask("Say", sampling), &NoCallbacks).unwrap().text
    };
    let drawn = || Sampling {
        temperature: Some(1.0),
        ..quiet()
    };
    assert_eq!(
        text(&publisher, Sampling::greedy(10)),
        text(&model(json!({})), searched(4, 1))
    );
    assert_ne!(
        text(&publisher, Sampling::greedy(10)),
        text(&model(json!({})), Sampling::greedy(10))
    );
    assert_eq!(text(&publisher, drawn()), text(&model(json!({})), drawn()));
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
fn reasoning_that_has_used_up_its_budget_is_ended() {
    // The prompt opens the reasoning, and this checkpoint would never end it by itself.
    let prompt = |budget| {
        let sampling = Sampling {
            thinking_budget: budget,
            repetition_penalty: Some(2.0), // or it would say one token for ever
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

#[test]
fn a_refused_piece_ends_one_answer_and_a_deadline_another() {
    let prompts = || [ask("One", quiet()), ask("Two", quiet())];
    let model = model(json!({}));
    let host = Host {
        patience: Some(2),
        ..Host::new(prompts())
    };
    let replies = host.serve(&model);
    assert_eq!(replies[0].as_ref().unwrap().finish, Finish::Cancelled);

    let host = Host::new(prompts()).with_deadline(0, Duration::ZERO);
    let replies = host.serve(&model);
    assert_eq!(replies[0].as_ref().unwrap_err().code, Code::DEADLINE);
    assert_eq!(replies[1].as_ref().unwrap().usage.generated_tokens, 12);
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
fn one_bad_prompt_does_not_end_the_others() {
    let bad = Prompt::plain("x").choose(Vec::<String>::new());
    let replies = Host::new([ask("One", quiet()), bad, ask("Two", quiet())]).serve(&model(json!({})));
    assert!(replies[0].is_ok() && replies[1].is_err() && replies[2].is_ok());
}

/// Gives one prompt at a time, and the next when it has the answer.
struct OneByOne(Host);

impl Serving for OneByOne {
    fn give(&self, wait: Duration) -> Given {
        let answered = self.0.replies.lock().unwrap().len() as u64;
        if *self.0.asked.lock().unwrap() > answered {
            assert!(
                wait.is_zero(),
                "the model waits for a prompt before it hands over an answer"
            );
            return Given::Later;
        }
        self.0.give(wait)
    }

    fn take(&self, job: u64, reply: plugin_api::Result<Reply>) -> bool {
        self.0.take(job, reply)
    }

    fn token(&self, job: Option<u64>, text: &str) -> bool {
        self.0.token(job, text)
    }
}

#[test]
fn a_bad_prompt_is_answered_before_the_next_is_waited_for() {
    let bad = Prompt::plain("x").choose(Vec::<String>::new());
    let host = OneByOne(Host::new([bad, ask("Two", quiet())]));
    model(json!({})).serve(&host).unwrap();
    let replies = host.0.replies.lock().unwrap();
    assert!(replies[&0].is_err() && replies[&1].is_ok());
}

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
        // Two decimal digits a value, and a dozen tokens: measured at 0.1 and below.
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

/// The checkpoint `tied` as a GGUF file whose matrices went through this type; as they came of it, or as fp32 again.
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
    // What is multiplied with is rounded to eight bits too, which counts for twice the weights: measured at 0.13.
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
