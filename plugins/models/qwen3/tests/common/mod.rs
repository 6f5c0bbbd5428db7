//! A model to ask, and a host that hands it prompts.
#![allow(dead_code)] // each test file uses its own part of this

extern crate qwen3 as _; // or its registration would not be linked in

use plugin_api::client::{Given, ModelClient, Serving};
use plugin_api::serde_json::{Value, json};
use plugin_api::{Kind, Message, Prompt, Reply, Result, Sampling, Settings, make};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)
}

/// A checkpoint as a model; `settings` beside `weights`.
pub fn open(folder: &Path, settings: Value) -> Result<ModelClient> {
    let mut all = Settings::default();
    all.0.insert("weights".into(), json!(folder));
    all.0.extend(settings.as_object().unwrap().clone());
    Ok(ModelClient(make(Kind::Model, "qwen3", &all)?.into()))
}

pub fn model(settings: Value) -> ModelClient {
    open(&golden("tied"), settings).unwrap()
}

pub fn ask(text: &str, sampling: Sampling) -> Prompt {
    Prompt::new([Message::user(text)]).sample(sampling)
}

/// Gives out prompts, sometimes only after making the model wait, and keeps what comes back.
pub struct Host {
    pub waiting: Mutex<Vec<(u64, Prompt, Option<Duration>)>>,
    pub asked: Mutex<u64>,
    /// Every so many pulls find nothing yet.
    pub hesitate: u64,
    /// Tokens of each job that are wanted; none for all of them.
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
        for (id, _, limit) in self.waiting.lock().unwrap().iter_mut().filter(|(id, ..)| *id == job) {
            assert_eq!(*id, job);
            *limit = Some(deadline);
        }
        self
    }

    /// Serves all prompts and returns the answers in their order.
    pub fn serve(self, model: &ModelClient) -> Vec<Result<Reply>> {
        model.serve(&self).unwrap();
        self.replies.into_inner().unwrap().into_values().collect()
    }
}

impl Serving for Host {
    fn give(&self, wait: Duration) -> Given {
        let mut asked = self.asked.lock().unwrap();
        *asked += 1;
        if self.hesitate > 0 && asked.is_multiple_of(self.hesitate) && wait.is_zero() {
            return Given::Later;
        }
        match self.waiting.lock().unwrap().pop() {
            Some((id, prompt, deadline)) => Given::Job {
                id,
                prompt: Box::new(prompt),
                deadline,
            },
            None => Given::End,
        }
    }

    fn take(&self, job: u64, reply: Result<Reply>) -> bool {
        self.order.lock().unwrap().push(job);
        assert!(
            self.replies.lock().unwrap().insert(job, reply).is_none(),
            "job {job} was answered twice"
        );
        true
    }

    fn token(&self, job: Option<u64>, text: &str) -> bool {
        let mut said = self.said.lock().unwrap();
        let pieces = said.entry(job.unwrap()).or_default();
        pieces.push(text.to_owned());
        self.patience.is_none_or(|patience| pieces.len() < patience)
    }
}

/// A copy of a checkpoint that may be spoilt.
pub fn copy(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(golden(name)).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    folder
}

/// Changes a JSON file in place.
pub fn edit(folder: &Path, file: &str, change: impl FnOnce(&mut Value)) {
    let path = folder.join(file);
    let mut value = plugin_api::serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}
