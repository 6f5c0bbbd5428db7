//! Checks of a task: samples have ids, prompts and scores.

use super::adapter_under_test::{AdapterUnderTest, Answering};
use super::report::{Outcome, Report, failed, fine, is_orderly, warning};
use plugin_api::client::TaskClient;
use plugin_api::{OptionScore, Reply, Sample, Score, Status, TaskCard, Want};
use std::collections::HashSet;

/// How many ids are checked; prompts and scores are checked for the first few samples only.
const MOST_IDS: usize = 1_000;
const MOST_ASKED: usize = 8;

pub(super) fn check(report: &mut Report, subject: &AdapterUnderTest) {
    let of = subject.title();
    let task = TaskClient(subject.adapter.clone());
    let mut card = TaskCard::default();
    let mut count = 0;
    let answers = report.check(&of, "its card answers", || {
        card = task.card()?;
        if card.name.trim().is_empty() || card.version.trim().is_empty() {
            return Err(failed("it lacks a name or a version").hint("make it with `TaskCard::new(name, version)`"));
        }
        if card.metrics.is_empty() || card.metrics.iter().any(|metric| metric.name.trim().is_empty()) {
            return Err(failed("it names no metric").hint("add them with `TaskCard::with_metrics`"));
        }
        Ok(format!("`{}` {}", card.name, card.version))
    });
    let counts = report.check(&of, "it knows how many samples it has", || {
        count = task.count()?;
        match count {
            0 => Err(warning(
                "it has no samples with these settings; nothing else of it was checked",
            )),
            _ => Ok(count.to_string()),
        }
    });
    if !(answers && counts) || count == 0 {
        return;
    }
    report.check(&of, "its samples have ids of their own", || ids(&task, count));
    report.check(&of, "the same index gives the same sample", || {
        for index in (0..count).take(MOST_ASKED).chain([count - 1]) {
            if task.sample(index)? != task.sample(index)? {
                return Err(failed(format!("sample {index} differs the second time")));
            }
        }
        fine()
    });
    report.check(&of, "it asks about its samples", || asks(&task, &card, count));
    report.check(&of, "it scores whatever is replied", || scores(&task, &card, count));
    report.check(&of, "an index out of range is an error", || {
        for index in [count, count + 1_000_000] {
            match task.sample(index) {
                Err(error) if is_orderly(&error) => {}
                Err(error) => {
                    return Err(failed(format!(
                        "sample {index} of {count}: {error} ({})",
                        error.code.word()
                    )));
                }
                Ok(sample) => {
                    return Err(failed(format!(
                        "there are {count} samples, and sample {index} is `{}`",
                        sample.id
                    )));
                }
            }
        }
        fine()
    });
    report.check(&of, "an unknown field is ignored", || {
        let mut sample = serde_json::to_value(task.sample(0)?).unwrap_or_default();
        sample["invented_later"] = serde_json::json!({ "deep": [1] });
        subject.raw("prompt", &sample)?;
        fine()
    });
    report.check(&of, "four threads at once", || from_four_threads(&task, count));
}

fn ids(task: &TaskClient, count: usize) -> Outcome {
    let mut seen = HashSet::new();
    let looked_at = count.min(MOST_IDS);
    let mut unreadable = 0;
    for index in 0..looked_at {
        let sample = match task.sample(index) {
            Ok(sample) => sample,
            // A sample that can't be read is recorded as such by a run, which goes on.
            Err(error) if is_orderly(&error) => {
                unreadable += 1;
                continue;
            }
            Err(error) => return Err(failed(format!("sample {index}: {error} ({})", error.code.word()))),
        };
        if sample.id.trim().is_empty() {
            return Err(failed(format!("sample {index} has no id"))
                .hint("resumed runs find samples by their ids: use the row's number if there is nothing else"));
        }
        if !seen.insert(sample.id.clone()) {
            return Err(failed(format!(
                "sample {index} has the id `{}`, like an earlier one",
                sample.id
            )));
        }
    }
    match unreadable {
        0 => Ok(format!("{looked_at} looked at")),
        _ if unreadable == looked_at => Err(failed("none of its samples can be read")),
        _ => Err(warning(format!("{unreadable} of {looked_at} samples can't be read"))),
    }
}

/// The first samples that can be read.
fn first_samples(task: &TaskClient, count: usize) -> Vec<Sample> {
    let samples = (0..count.min(MOST_IDS)).filter_map(|index| task.sample(index).ok());
    samples.take(MOST_ASKED).collect()
}

fn asks(task: &TaskClient, card: &TaskCard, count: usize) -> Outcome {
    for sample in first_samples(task, count) {
        let prompt = task.prompt(&sample)?;
        let of = format!("the prompt of sample `{}`", sample.id);
        if prompt.messages.is_empty() {
            return Err(failed(format!("{of} says nothing")));
        }
        if prompt != task.prompt(&sample)? {
            return Err(failed(format!("{of} differs the second time")).hint("draw from a seed in the settings"));
        }
        let parts = || prompt.messages.iter().flat_map(|message| &message.parts);
        for part in parts() {
            match part {
                plugin_api::Part::Clip { clip, .. } if *clip >= sample.clips.len() => {
                    return Err(failed(format!("{of} points at clip {clip} of {}", sample.clips.len())));
                }
                plugin_api::Part::Clip { .. } if !card.has_clips => {
                    return Err(
                        failed(format!("{of} holds a clip, but the card says that there are none"))
                            .hint("set `TaskCard::has_clips`"),
                    );
                }
                _ => {}
            }
        }
        match &prompt.want {
            Want::Choice { options } if options.is_empty() => return Err(failed(format!("{of} offers no options"))),
            Want::Choice { .. } if !card.needs_choices => {
                return Err(
                    failed(format!("{of} needs options scored, but the card doesn't say so"))
                        .hint("set `TaskCard::needs_choices`"),
                );
            }
            _ => {}
        }
    }
    fine()
}

fn scores(task: &TaskClient, card: &TaskCard, count: usize) -> Outcome {
    let mut right = 0;
    let samples = first_samples(task, count);
    for sample in &samples {
        let options = match task.prompt(sample)?.want {
            Want::Choice { options } => options.len(),
            _ => 0,
        };
        let target = sample
            .target
            .as_str()
            .map_or_else(|| sample.target.to_string(), str::to_owned);
        let odd = "\u{0}\u{202e} 👩‍👩‍👧‍👦 (A) (B)\n\n".repeat(50);
        for text in [target.as_str(), "", "no idea", odd.as_str()] {
            let reply = Reply {
                options: vec![
                    OptionScore {
                        loglik: -1.0,
                        tokens: 1,
                        bytes: 1,
                        ..OptionScore::default()
                    };
                    options
                ],
                ..Reply::text(text)
            };
            // A task may ask another model for help; here that model gives an empty answer.
            let score = task.score(sample, &reply, &Answering(""))?;
            is_whole(&score, card, &sample.id)?;
            right += usize::from(text == target && score.values.values().any(|value| *value > 0.0));
        }
    }
    if options_alone(&samples, task) || right > 0 {
        return fine();
    }
    // A target may be an index into the choices, or need words around it: a remark is enough.
    Ok("none of the targets, given as the reply, scores above 0".to_owned())
}

fn options_alone(samples: &[Sample], task: &TaskClient) -> bool {
    let wants = |sample: &Sample| task.prompt(sample).map(|prompt| prompt.want);
    samples
        .iter()
        .all(|sample| matches!(wants(sample), Ok(Want::Choice { .. })))
}

fn is_whole(score: &Score, card: &TaskCard, id: &str) -> Result<(), super::report::Finding> {
    if let Some((name, value)) = score.values.iter().find(|(_, value)| !value.is_finite()) {
        return Err(failed(format!("`{name}` of sample `{id}` is {value}")));
    }
    let main = &card.metrics[0].name;
    if score.status != Status::Unscored && !score.values.contains_key(main) {
        let names: Vec<_> = score.values.keys().map(String::as_str).collect();
        return Err(failed(format!(
            "the card's first metric is `{main}`, but the score of sample `{id}` has `{}`",
            names.join("`, `")
        )));
    }
    Ok(())
}

fn from_four_threads(task: &TaskClient, count: usize) -> Outcome {
    let expected = first_samples(task, count);
    let expected: Vec<_> = expected
        .iter()
        .map(|sample| task.prompt(sample))
        .collect::<Result<_, _>>()?;
    let samples = first_samples(task, count);
    let all_agree = std::thread::scope(|scope| {
        let ask = || {
            samples
                .iter()
                .zip(&expected)
                .all(|(sample, prompt)| task.prompt(sample).as_ref() == Ok(prompt))
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().all(|thread| thread.join().unwrap_or(false))
    });
    match all_agree {
        true => fine(),
        false => Err(failed("prompts made at the same time differ from those made alone")),
    }
}
