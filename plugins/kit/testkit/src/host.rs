//! A host that serves prompts to a model.

use plugin_api::client::{Given, ModelClient, Serving};
use plugin_api::{Prompt, Reply, Result};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

/// Hands out prompts, sometimes with a delay, and collects the replies.
pub struct Host {
    pub waiting: Mutex<Vec<(u64, Prompt, Option<Duration>)>>,
    pub asked: Mutex<u64>,
    /// Every `hesitate`th request for a job finds none yet.
    pub hesitate: u64,
    /// How many tokens of each job are wanted; none for all.
    pub patience: Option<usize>,
    pub replies: Mutex<BTreeMap<u64, Result<Reply>>>,
    pub said: Mutex<BTreeMap<u64, Vec<String>>>,
    pub order: Mutex<Vec<u64>>,
}

impl Host {
    pub fn new(prompts: impl IntoIterator<Item = Prompt>) -> Host {
        let numbered = prompts
            .into_iter()
            .enumerate()
            .map(|(id, prompt)| (id as u64, prompt, None));
        let mut waiting: Vec<_> = numbered.collect();
        waiting.reverse();
        Host {
            waiting: Mutex::new(waiting),
            asked: Mutex::new(0),
            hesitate: 0,
            patience: None,
            replies: Mutex::default(),
            said: Mutex::default(),
            order: Mutex::default(),
        }
    }

    pub fn with_deadline(self, job: u64, deadline: Duration) -> Host {
        for (id, _, limit) in self
            .waiting
            .lock()
            .expect("a lock")
            .iter_mut()
            .filter(|(id, ..)| *id == job)
        {
            assert_eq!(*id, job);
            *limit = Some(deadline);
        }
        self
    }

    /// Serves all prompts and returns the answers in order.
    pub fn serve(self, model: &ModelClient) -> Vec<Result<Reply>> {
        model.serve(&self).expect("it is served");
        self.replies.into_inner().expect("a lock").into_values().collect()
    }
}

impl Serving for Host {
    fn give(&self, wait: Duration) -> Given {
        let mut asked = self.asked.lock().expect("a lock");
        *asked += 1;
        if self.hesitate > 0 && asked.is_multiple_of(self.hesitate) && wait.is_zero() {
            return Given::Later;
        }
        match self.waiting.lock().expect("a lock").pop() {
            Some((id, prompt, deadline)) => Given::Job {
                id,
                prompt: Box::new(prompt),
                deadline,
            },
            None => Given::End,
        }
    }

    fn take(&self, job: u64, reply: Result<Reply>) -> bool {
        self.order.lock().expect("a lock").push(job);
        assert!(
            self.replies.lock().expect("a lock").insert(job, reply).is_none(),
            "job {job} was answered twice"
        );
        true
    }

    fn token(&self, job: Option<u64>, text: &str) -> bool {
        let mut said = self.said.lock().expect("a lock");
        let pieces = said.entry(job.expect("its job")).or_default();
        pieces.push(text.to_owned());
        self.patience.is_none_or(|patience| pieces.len() < patience)
    }
}
