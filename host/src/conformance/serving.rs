//! Asks a model in a batch, from threads, and next to a second instance.

use super::report::{Outcome, failed, fine};
use plugin_api::client::{ModelClient, NextJob, Serving};
use plugin_api::{NoCallbacks, Prompt, Reply, Result};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How often each prompt is asked.
const TIMES: usize = 4;

/// A prompt and the answer that the model gives to it alone.
pub(super) type Expected = (Prompt, Reply);

/// Variants of these prompts, of different lengths, and what is answered to each alone.
pub(super) fn one_by_one(model: &ModelClient, asks: &[Prompt]) -> Result<Vec<Expected>> {
    let mut expected = Vec::new();
    for time in 0..TIMES {
        for ask in asks {
            let mut prompt = ask.clone();
            if let Some(plugin_api::Part::Text { text }) =
                prompt.messages.first_mut().and_then(|it| it.parts.first_mut())
            {
                text.insert_str(0, &"Well. ".repeat(time * time));
            }
            let reply = model.reply(&prompt, &NoCallbacks)?;
            expected.push((prompt, reply));
        }
    }
    Ok(expected)
}

fn compare(what: &str, expected: &Reply, answered: &Result<Reply>) -> std::result::Result<(), String> {
    match answered {
        Err(error) => Err(format!("{what}: {error} ({})", error.code.word())),
        Ok(reply) => differ(expected, reply).map_or(Ok(()), |how| Err(format!("{what}: {how}"))),
    }
}

/// All of them through `serve`.
pub(super) fn together(model: &ModelClient, expected: &[Expected]) -> Outcome {
    let given = Mutex::new((0, BTreeMap::new()));
    let served = model.serve(&Bench {
        expected,
        given: &given,
    });
    let (handed_out, answers) = given.into_inner().unwrap_or_else(PoisonError::into_inner);
    served?;
    if handed_out < expected.len() {
        return Err(failed(format!(
            "it took {handed_out} of {} prompts, and came to an end",
            expected.len()
        ))
        .hint("`serve` must go on until `Jobs::next` returns none"));
    }
    for (id, (_, alone)) in (0..).zip(expected) {
        match answers.get(&id).map(Vec::as_slice) {
            Some([answer]) => compare("alone and together", alone, answer).map_err(failed)?,
            Some(several) => return Err(failed(format!("a prompt got {} answers", several.len()))),
            None => {
                return Err(
                    failed("a prompt got no answer").hint("call `Jobs::done` for each job, also after an error")
                );
            }
        }
    }
    match answers.len() == expected.len() {
        true => fine(),
        false => Err(failed("it answered a job that it was never given")),
    }
}

/// From four threads, each starting with a different prompt.
pub(super) fn from_four_threads(model: &ModelClient, expected: &[Expected]) -> Outcome {
    let complaints = std::thread::scope(|scope| {
        let ask = |first: usize| {
            let rotated = expected[first..].iter().chain(&expected[..first]);
            let compared = rotated
                .map(|(prompt, alone)| compare("alone and among others", alone, &model.reply(prompt, &NoCallbacks)));
            compared.collect::<std::result::Result<(), String>>()
        };
        let threads: Vec<_> = (0..4)
            .map(|thread| scope.spawn(move || ask(thread % expected.len())))
            .collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, std::result::Result<(), String>>| {
            thread.join().unwrap_or_else(|_| Err("the call panicked".to_owned()))
        };
        threads
            .into_iter()
            .map(join)
            .collect::<std::result::Result<Vec<()>, String>>()
    });
    complaints.map_err(failed)?;
    fine()
}

/// Alternates with a second instance.
pub(super) fn two_apart(one: &ModelClient, other: &ModelClient, expected: &[Expected]) -> Outcome {
    for (prompt, alone) in expected {
        compare("one of two", alone, &one.reply(prompt, &NoCallbacks)).map_err(failed)?;
        compare("the other of two", alone, &other.reply(prompt, &NoCallbacks)).map_err(failed)?;
    }
    fine()
}

type Answers = BTreeMap<u64, Vec<Result<Reply>>>;

/// Hands the prompts out and keeps the answers.
struct Bench<'a> {
    expected: &'a [Expected],
    given: &'a Mutex<(usize, Answers)>,
}

impl Serving for Bench<'_> {
    fn give(&self, _wait: Duration) -> NextJob {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((prompt, _)) = self.expected.get(given.0) else {
            return NextJob::End;
        };
        given.0 += 1;
        NextJob::Job {
            id: given.0 as u64 - 1,
            prompt: Box::new(prompt.clone()),
            deadline: None,
        }
    }

    fn take(&self, job: u64, reply: Result<Reply>) -> bool {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.1.entry(job).or_default().push(reply);
        true
    }
}

/// The same answer, up to rounding of floating point sums.
fn differ(one: &Reply, other: &Reply) -> Option<String> {
    if one.text != other.text {
        return Some(format!("{:?}, and {:?}", one.text, other.text));
    }
    let pairs = one.options.iter().zip(&other.options);
    let apart = |a: f64, b: f64| (a - b).abs() > 1e-3 * a.abs().max(1.0);
    let differs = one.options.len() != other.options.len() || pairs.clone().any(|(a, b)| apart(a.loglik, b.loglik));
    let logliks = |reply: &Reply| reply.options.iter().map(|option| option.loglik).collect::<Vec<_>>();
    differs.then(|| format!("{:?}, and {:?}", logliks(one), logliks(other)))
}
