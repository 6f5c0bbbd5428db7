//! Batches: an answer is the same in every batch, and one failing prompt does not affect the others.

use crate::common::{Host, ask, model, quiet, searched};
use plugin_api::client::{Given, Serving};
use plugin_api::serde_json::json;
use plugin_api::{Code, Finish, Message, NoCallbacks, Prompt, Reply, Sampling};
use std::time::Duration;

/// Prompts of many lengths, with short and long answers, greedy and drawn.
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

/// The parts of a reply that must not depend on the batch.
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
fn one_bad_prompt_does_not_end_the_others() {
    let bad = Prompt::plain("x").choose(Vec::<String>::new());
    let replies = Host::new([ask("One", quiet()), bad, ask("Two", quiet())]).serve(&model(json!({})));
    assert!(replies[0].is_ok() && replies[1].is_err() && replies[2].is_ok());
}

/// Gives out one prompt at a time, and the next after its answer.
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
