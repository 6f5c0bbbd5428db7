//! Clips on their way to the model of `--ears`, several at a time.
//!
//! Whoever needs the words of a clip waits for them here. One of those who wait serves the model with the clips of all,
//! so that it works on them together; when nobody waits, nobody holds it.

use crate::plugin::WorkerControl;
use plugin_api::client::{Given, ModelClient, Serving};
use plugin_api::{Callbacks, Code, Error, Prompt, Reply, Result};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Nothing waits longer than this without looking around.
const GLANCE: Duration = Duration::from_millis(20);
/// What a model gets beyond its deadline before its worker is ended.
const GRACE: Duration = Duration::from_millis(500);

/// A model, and the prompts of several threads for it.
pub struct Listening {
    model: ModelClient,
    control: Option<Arc<dyn WorkerControl>>,
    /// The time that each answer may take.
    deadline: Option<Duration>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    next_id: u64,
    waiting: VecDeque<(u64, Prompt)>,
    at_work: HashMap<u64, (Instant, Prompt)>,
    settled: HashMap<u64, Settled>,
    /// Whether one of those who wait serves the model.
    served: bool,
}

enum Settled {
    Replied(Result<Reply>),
    /// To be asked by itself: the model died of it, or of another.
    Alone(Prompt),
}

impl Listening {
    pub fn new(model: ModelClient, control: Option<Arc<dyn WorkerControl>>, deadline: Option<Duration>) -> Listening {
        Listening {
            model,
            control,
            deadline,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// The model's reply to a prompt, at work together with those of other threads.
    pub fn ask(&self, prompt: Prompt, host: &dyn Callbacks) -> Result<Reply> {
        let mut state = self.lock();
        let own = state.next_id;
        state.next_id += 1;
        state.waiting.push_back((own, prompt));
        self.changed.notify_all();
        loop {
            match state.settled.remove(&own) {
                Some(Settled::Replied(reply)) => return reply,
                Some(Settled::Alone(prompt)) => {
                    drop(state);
                    return self.model.reply(&prompt, host);
                }
                None if host.stop_asked() && !state.at_work.contains_key(&own) => {
                    state.waiting.retain(|(id, _)| *id != own);
                    return Err(Error::new(Code::CANCELLED, "stopped because the host asked for it"));
                }
                None if state.served => state = self.wait(state, GLANCE),
                None => {
                    state.served = true;
                    drop(state);
                    let round = Round {
                        listening: self,
                        host,
                        gave: AtomicBool::new(false),
                    };
                    let ended = self.model.serve(&round);
                    let gave = round.gave.into_inner();
                    state = self.lock();
                    state.served = false;
                    self.left_behind(&mut state, ended);
                    if let Some(place) = state.waiting.iter().position(|(id, _)| *id == own && !gave) {
                        // It did not even pull; asked directly, it says why.
                        let prompt = state.waiting.remove(place).map(|(_, prompt)| prompt);
                        state.settled.extend(prompt.map(|prompt| (own, Settled::Alone(prompt))));
                    }
                    self.changed.notify_all();
                }
            }
        }
    }

    /// Settles what the model left unanswered.
    fn left_behind(&self, state: &mut State, ended: Result<()>) {
        let left: Vec<_> = state.at_work.drain().collect();
        let single = left.len() == 1;
        for (id, (since, prompt)) in left {
            let late = self.deadline.is_some_and(|deadline| since.elapsed() > deadline);
            let settled = match &ended {
                Ok(()) => Settled::Replied(Err(Error::msg("the model ended without answering this prompt"))),
                Err(error) if single || late => Settled::Replied(Err(error.clone())),
                Err(_) => Settled::Alone(prompt),
            };
            state.settled.insert(id, settled);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        let waited = self.changed.wait_timeout(state, time);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// The model at work for all who wait. It ends when nothing waits and nothing is at work.
struct Round<'a> {
    listening: &'a Listening,
    host: &'a dyn Callbacks,
    gave: AtomicBool,
}

impl Serving for Round<'_> {
    fn give(&self, wait: Duration) -> Given {
        let until = Instant::now() + wait;
        let mut state = self.listening.lock();
        loop {
            if self.host.stop_asked() {
                return Given::End;
            }
            if let Some((id, prompt)) = state.waiting.pop_front() {
                self.gave.store(true, Ordering::Relaxed);
                state.at_work.insert(id, (Instant::now(), prompt.clone()));
                return Given::Job {
                    id,
                    prompt: Box::new(prompt),
                    deadline: self.listening.deadline,
                };
            }
            if state.at_work.is_empty() {
                return Given::End;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Given::Later;
            }
            state = self.listening.wait(state, left.min(GLANCE));
        }
    }

    fn take(&self, job: u64, reply: Result<Reply>) -> bool {
        let mut state = self.listening.lock();
        if state.at_work.remove(&job).is_some() {
            state.settled.insert(job, Settled::Replied(reply));
        }
        self.listening.changed.notify_all();
        !self.host.stop_asked()
    }

    fn token(&self, _job: Option<u64>, _text: &str) -> bool {
        !self.host.stop_asked()
    }

    /// Asked every now and then while the model is at work, so this is also where a worker that hangs is ended.
    fn stop_asked(&self) -> bool {
        let Listening { control, deadline, .. } = self.listening;
        if let (Some(control), Some(deadline)) = (control, *deadline) {
            let late = |(since, _): &(Instant, Prompt)| since.elapsed() > deadline + GRACE;
            if self.listening.lock().at_work.values().any(late) {
                let message = format!("no answer within {deadline:?}, so its worker was ended");
                let help = "when it needs longer, raise the plugin's `deadline` in the registry";
                control.kill(Error::new(Code::DEADLINE, message).help(help));
            }
        }
        self.host.stop_asked()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugin_api::{Adapter, Jobs, Parcel, Pulled, Silent};

    /// A model that answers once it has so many prompts, and dies of those that it cannot bear.
    struct Choir {
        voices: usize,
        bears: bool,
    }

    impl Adapter for Choir {
        fn call(&self, method: &str, input: Parcel, host: &dyn Callbacks) -> Result<Parcel> {
            let dies = |prompt: &Prompt| !self.bears && prompt.last_user_text() == "bad";
            if method == "reply" {
                let prompt: Prompt = input.read()?;
                return match dies(&prompt) {
                    true => Err(Error::new(Code::DIED, "died of it")),
                    false => Parcel::of(&Reply::text(format!("{} alone", prompt.last_user_text()))),
                };
            }
            let (mut jobs, mut held) = (Jobs::new(host), Vec::new());
            loop {
                match jobs.poll(Duration::from_millis(1)) {
                    Pulled::Job(job) => held.push(job),
                    Pulled::Later => {}
                    Pulled::End => return Parcel::of(&()),
                }
                if held.iter().any(|job| dies(&job.prompt)) && held.len() == self.voices {
                    return Err(Error::new(Code::DIED, "died of one of them"));
                }
                if held.len() == self.voices {
                    for job in held.drain(..) {
                        let text = format!("{} of {}", job.prompt.last_user_text(), self.voices);
                        jobs.done(job.id, Ok(Reply::text(text)));
                    }
                }
            }
        }
    }

    /// Asks all of it at once.
    fn ask(choir: Choir, texts: &[&str]) -> Vec<String> {
        let listening = Listening::new(ModelClient(Arc::new(choir)), None, None);
        std::thread::scope(|scope| {
            let asked: Vec<_> = texts
                .iter()
                .map(|text| scope.spawn(|| listening.ask(Prompt::plain(*text), &Silent)))
                .collect();
            let words = |reply: Result<Reply>| reply.map_or_else(|error| error.message, |reply| reply.text);
            asked.into_iter().map(|it| words(it.join().unwrap())).collect()
        })
    }

    #[test]
    fn what_several_want_is_at_work_together() {
        let choir = Choir { voices: 3, bears: true };
        assert_eq!(ask(choir, &["a", "b", "c"]), ["a of 3", "b of 3", "c of 3"]);
        let choir = Choir { voices: 1, bears: true };
        assert_eq!(ask(choir, &["a", "b"]), ["a of 1", "b of 1"]);
    }

    #[test]
    fn one_that_kills_the_model_costs_the_others_nothing() {
        let choir = Choir {
            voices: 3,
            bears: false,
        };
        assert_eq!(ask(choir, &["a", "bad", "c"]), ["a alone", "died of it", "c alone"]);
        let choir = Choir {
            voices: 1,
            bears: false,
        };
        assert_eq!(ask(choir, &["bad"]), ["died of one of them"]);
    }

    #[test]
    fn a_stop_ends_the_waiting() {
        struct Stopped;
        impl Callbacks for Stopped {
            fn ask(&self, what: &str, input: Parcel) -> Result<Parcel> {
                Silent.ask(what, input)
            }
            fn emit(&self, _what: &str, _note: Parcel) -> bool {
                false
            }
            fn stop_asked(&self) -> bool {
                true
            }
        }
        let choir = Choir { voices: 9, bears: true };
        let listening = Listening::new(ModelClient(Arc::new(choir)), None, None);
        let error = listening.ask(Prompt::plain("a"), &Stopped).unwrap_err();
        assert_eq!(error.code, Code::CANCELLED);
    }
}
