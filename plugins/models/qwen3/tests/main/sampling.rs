//! How answers are chosen: greedily, by drawing, by a search, and by the publisher's defaults.

use crate::common::{Host, ask, copy, edit, model, open, quiet, searched};
use plugin_api::serde_json::json;
use plugin_api::{NoCallbacks, Sampling};

#[test]
fn what_a_prompt_leaves_open_is_the_publishers() {
    // The checkpoint's own defaults: draw, at temperature 0.6, from the top 20.
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
    // A score is a log-probability after penalties, too, here one that favours repetition.
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
