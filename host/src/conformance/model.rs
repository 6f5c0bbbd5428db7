//! Checks of a model, whatever is asked and however many ask.

use super::adapter_under_test::{AdapterUnderTest, Listener, with_unknown_field};
use super::report::{Finding, Outcome, Report, expect_error, failed, fine, is_orderly, skipped, warning};
use super::serving;
use plugin_api::client::ModelClient;
use plugin_api::{Clip, Code, Message, ModelCard, NoCallbacks, Part, Prompt, Reads, Sampling};
use std::time::{Duration, Instant};

/// How long a model may take to stop.
const LONGEST_STOP: Duration = Duration::from_secs(1);

/// The question of checks for which any question will do.
const QUESTION: &str = "Name three colours, and say which of them the sky has at noon.";

pub(super) fn question() -> Prompt {
    Prompt::new([Message::user(QUESTION)])
}

pub(super) fn check(report: &mut Report, subject: &AdapterUnderTest) {
    let of = subject.title();
    let model = ModelClient(subject.adapter.clone());
    let mut card = ModelCard::default();
    if !report.check(&of, "its card answers", || {
        card = model.card()?;
        card_is_complete(&card)
    }) {
        return;
    }
    let mut asks: Vec<Prompt> = Vec::new();
    report.check(&of, "it answers in text", || {
        let prompt = question().sample(Sampling::greedy(16));
        match model.reply(&prompt, &NoCallbacks) {
            Err(error) if error.code == Code::UNSUPPORTED && card.scores_choices => {
                Err(skipped(format!("it only scores options: {error}")))
            }
            Err(error) => Err(error.into()),
            Ok(reply) => {
                asks.push(prompt);
                Ok(format!("{:?}", reply.text))
            }
        }
    });
    if let Some(prompt) = asks.first().cloned() {
        report.check(&of, "the same again gives the same", || same_again(&model, &prompt));
        report.check(&of, "what is streamed is what is answered", || streams(&model, &prompt));
        report.check(&of, "it keeps to the most tokens", || keeps_to_most_tokens(&model));
        report.check(&of, "it ends before a stop string", || ends_before_stop(&model));
        report.check(&of, "it stops when it is asked to", || stops(&model));
        report.check(&of, "an unknown field is ignored", || {
            let plain = model.reply(&prompt, &NoCallbacks)?;
            let reply = subject.raw("reply", &with_unknown_field(&prompt))?;
            match reply["text"] == plain.text.as_str() {
                true => fine(),
                false => Err(failed(format!("the answer became {}", reply["text"]))),
            }
        });
    }
    report.check(&of, "options are scored", || {
        let prompt = Prompt::plain(QUESTION).choose([" blue", " green and orange", " é"]);
        if !card.scores_choices {
            return expect_error(
                model.reply(&prompt, &NoCallbacks),
                Code::UNSUPPORTED,
                "its card says that it scores none",
            );
        }
        let outcome = scores(&model, &prompt);
        asks.extend(outcome.is_ok().then_some(prompt));
        outcome
    });
    report.check(&of, "odd prompts don't break it", || odd_prompts(&model, asks.first()));
    report.check(&of, "what it can't read is unsupported", || {
        unreadable(subject, &model, &card)
    });
    if asks.is_empty() {
        return;
    }
    let expected = match serving::one_by_one(&model, &asks) {
        Ok(expected) => expected,
        Err(error) => {
            report.check(&of, "it answers one by one", || Err(error.into()));
            return;
        }
    };
    report.check(&of, "together gives what one by one gives", || {
        serving::together(&model, &expected)
    });
    report.check(&of, "four threads at once", || {
        serving::from_four_threads(&model, &expected)
    });
    report.check(&of, "two of it don't mix", || {
        serving::two_apart(&model, &ModelClient(subject.another()?), &expected)
    });
}

fn card_is_complete(card: &ModelCard) -> Outcome {
    if card.name.trim().is_empty() {
        return Err(failed("it has no name").hint("make it with `ModelCard::text(name)`"));
    }
    if card.reads.is_empty() {
        return Err(
            failed("its card lists nothing that it reads").hint("make it with `ModelCard::text` or `ModelCard::audio`")
        );
    }
    if card.hears() && card.sample_rate.is_none() {
        return Err(failed("it reads audio, but its card has no sample rate")
            .hint("make it with `ModelCard::audio(name, rate)`"));
    }
    Ok(format!("`{}`", card.name))
}

fn same_again(model: &ModelClient, prompt: &Prompt) -> Outcome {
    let (first, second) = (model.reply(prompt, &NoCallbacks)?, model.reply(prompt, &NoCallbacks)?);
    match first.text == second.text {
        true => fine(),
        false => Err(failed(format!(
            "at temperature 0 it said {:?}, and then {:?}",
            first.text, second.text
        ))),
    }
}

fn streams(model: &ModelClient, prompt: &Prompt) -> Outcome {
    let listener = Listener::patient();
    let reply = model.reply(prompt, &listener)?;
    let streamed = listener.text();
    if streamed == reply.text || streamed == reply.thinking.clone().unwrap_or_default() + &reply.text {
        return fine();
    }
    if streamed.is_empty() {
        return Err(warning("it streams nothing").hint("call `Call::token` with each piece as it comes"));
    }
    // Reasoning is streamed with its markers around it, which the answer doesn't have.
    if reply.thinking.is_some() && streamed.ends_with(&reply.text) {
        return fine();
    }
    Err(failed(format!(
        "it streamed {streamed:?} and answered {:?}",
        reply.text
    )))
}

fn keeps_to_most_tokens(model: &ModelClient) -> Outcome {
    let reply = model.reply(&question().sample(Sampling::greedy(2)), &NoCallbacks)?;
    match reply.usage.generated_tokens {
        0 if !reply.text.is_empty() => Err(warning("it doesn't say how many tokens it generated")
            .hint("fill in `Reply::usage`: token counts, speeds and costs come from it")),
        0..=2 => fine(),
        count => Err(failed(format!("2 were allowed, and it generated {count}"))),
    }
}

fn ends_before_stop(model: &ModelClient) -> Outcome {
    // A beam search may prefer another answer once some end early, so it is switched off here.
    let plain = |stop| {
        let sampling = Sampling::greedy(16);
        question().sample(Sampling {
            beams: Some(1),
            stop,
            ..sampling
        })
    };
    let whole = model.reply(&plain(Vec::new()), &NoCallbacks)?.text;
    // A letter from the middle of its answer, so that something comes before it.
    let Some(stop) = whole.chars().skip(1).find(|letter| !letter.is_whitespace()) else {
        return Err(skipped(format!("its answer is too short: {whole:?}")));
    };
    let reply = model.reply(&plain(vec![stop.to_string()]), &NoCallbacks)?;
    let before = whole.split(stop).next().unwrap_or_default();
    if reply.text.contains(stop) {
        return Err(
            warning(format!("the stop string {stop:?} is in its answer: {:?}", reply.text))
                .hint("end the answer before the first of `Sampling::stop`"),
        );
    }
    match reply.text.trim_end() == before.trim_end() {
        true => fine(),
        false => Err(failed(format!(
            "with the stop string {stop:?} it said {:?}, and {whole:?} without",
            reply.text
        ))),
    }
}

/// A busy machine may delay a stop, but hardly three times; a model that ignores it never stops in time.
fn stops(model: &ModelClient) -> Outcome {
    let mut shortest = Duration::MAX;
    for _ in 0..3 {
        shortest = shortest.min(time_to_stop(model)?);
        if shortest <= LONGEST_STOP {
            return fine();
        }
    }
    Err(failed(format!("it took {:.1} s", shortest.as_secs_f64()))
        .hint("call `Call::check` between tokens, and stop when `Call::token` returns false"))
}

/// How long a model goes on after it was asked to stop.
fn time_to_stop(model: &ModelClient) -> std::result::Result<Duration, Finding> {
    let endless = question().sample(Sampling::greedy(1_000_000));
    let listener = Listener::stopping_after(2);
    let began = Instant::now();
    let outcome = std::thread::scope(|scope| {
        let asked = scope.spawn(|| model.reply(&endless, &listener));
        // A model that streams nothing only learns of it through `stop_asked`.
        while !asked.is_finished() && listener.asked_for().is_none() && began.elapsed() < LONGEST_STOP / 2 {
            std::thread::sleep(Duration::from_millis(2));
        }
        listener.stop_now();
        asked.join()
    });
    let took = listener.asked_for().unwrap_or_default();
    match outcome {
        Err(_) => Err(failed("the call panicked")),
        Ok(Err(error)) if !is_orderly(&error) => Err(error.into()),
        Ok(_) => Ok(took),
    }
}

fn scores(model: &ModelClient, prompt: &Prompt) -> Outcome {
    let plugin_api::Want::Choice { options } = &prompt.want else {
        return Err(failed("no options to score"));
    };
    let reply = model.reply(prompt, &NoCallbacks)?;
    if reply.options.len() != options.len() {
        return Err(failed(format!(
            "{} options, {} scores",
            options.len(),
            reply.options.len()
        )));
    }
    for (option, score) in options.iter().zip(&reply.options) {
        if !score.loglik.is_finite() || score.loglik > 1e-4 {
            return Err(failed(format!("the log-likelihood of {option:?} is {}", score.loglik))
                .hint("it is the sum of the tokens' log-probabilities: finite, and 0 at most"));
        }
        if score.tokens == 0 || score.bytes as usize != option.len() {
            return Err(warning(format!(
                "{option:?} has {} bytes, and it says {} bytes and {} tokens",
                option.len(),
                score.bytes,
                score.tokens
            ))
            .hint("`acc_norm` and its kin divide by them"));
        }
    }
    fine()
}

/// Odd prompts that tasks do send. The model may refuse each, but must survive all of them.
fn odd_prompts(model: &ModelClient, asked: Option<&Prompt>) -> Outcome {
    let long = "a long prompt says much and means little. ".repeat(400);
    let odd = "e\u{301} 👩‍👩‍👧‍👦 \u{202e}desrever\u{202c} \u{0} \u{feff}\u{fffd} 漢字 ي \u{10ffff}\r\n\t<|im_end|>";
    let mut prompts = vec![("no messages", Prompt::new([]))];
    for (name, text) in [
        ("an empty prompt", ""),
        ("one letter", "a"),
        ("a long prompt", &long),
        ("odd Unicode", odd),
    ] {
        prompts.push((name, Prompt::new([Message::user(text)])));
        prompts.push((name, Prompt::plain(text)));
    }
    let mut refused: Vec<&str> = Vec::new();
    for (name, mut prompt) in prompts {
        prompt = match asked.map(|asked| &asked.want) {
            Some(plugin_api::Want::Choice { options }) => prompt.choose(options.clone()),
            _ => prompt.sample(Sampling::greedy(4)),
        };
        match model.reply(&prompt, &NoCallbacks) {
            Ok(_) => {}
            Err(error) if is_orderly(&error) => refused.push(name),
            Err(error) => return Err(failed(format!("{name}: {error} ({})", error.code.word()))),
        }
    }
    refused.dedup();
    match refused.is_empty() {
        true => fine(),
        false => Ok(format!("it refuses {}", refused.join(", "))),
    }
}

fn unreadable(subject: &AdapterUnderTest, model: &ModelClient, card: &ModelCard) -> Outcome {
    let hint =
        "build it with plugin-api 1.1, which refuses what the card rules out, or match on every part and on `want`";
    let hinted = |finding: Finding| finding.hint(hint);
    if !card.reads.contains(&Reads::Audio) {
        let mut prompt = question();
        prompt.messages[0].parts.push(Part::clip(0));
        prompt.clips = vec![Clip::new(16_000, vec![0.0; 1_600])];
        let outcome = model.reply(&prompt, &NoCallbacks);
        expect_error(outcome, Code::UNSUPPORTED, "a clip, which its card says it can't read").map_err(hinted)?;
    }
    let mut future = serde_json::to_value(question()).unwrap_or_default();
    future["messages"][0]["parts"][0] = serde_json::json!({ "part": "hologram", "size": 3 });
    let outcome = subject.raw("reply", &future);
    expect_error(outcome, Code::UNSUPPORTED, "a part that no version knows").map_err(hinted)?;
    let mut future = serde_json::to_value(question()).unwrap_or_default();
    future["want"] = serde_json::json!({ "kind": "hologram" });
    let outcome = subject.raw("reply", &future);
    expect_error(outcome, Code::UNSUPPORTED, "something wanted that no version knows").map_err(hinted)
}
