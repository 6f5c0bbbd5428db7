//! Calls tasks and their files as a host does.

use plugin_api::client::{FilesClient, Pages, TaskClient};
use plugin_api::serde_json::{Value, from_value};
use plugin_api::{
    Callbacks, Envelope, FileAnswers, FileScores, Kind, Message, NoCallbacks, Prompt, Reply, Result, Row, Score,
    Settings, make, make_files,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use tempfile::TempDir;

/// The task with this name in the plugin that is linked into the test. Settings that are `null` are left out.
pub fn make_task(name: &str, mut settings: Value) -> Result<TaskClient> {
    if let Some(settings) = settings.as_object_mut() {
        settings.retain(|_, value| !value.is_null());
    }
    let settings = from_value(settings).expect("settings are an object");
    Ok(TaskClient(make(Kind::Task, name, &settings)?.into()))
}

/// The plugin's reader and writer of other tools' files.
pub fn make_files_client(name: &str) -> FilesClient {
    FilesClient(
        make_files(name, &Settings::default())
            .expect("the plugin has files")
            .into(),
    )
}

/// A new folder with these files: a path and a text each.
pub fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("its folder");
        std::fs::write(path, text).expect("the file");
    }
    folder
}

/// The ids of all samples.
pub fn ids(task: &TaskClient) -> Vec<String> {
    let all = 0..task.count().expect("a count");
    all.map(|index| task.sample(index).expect("a sample").id).collect()
}

/// The prompt for a sample.
pub fn prompt_for(task: &TaskClient, index: usize) -> Prompt {
    task.prompt(&task.sample(index).expect("a sample")).expect("a prompt")
}

/// The only message of the prompt for a sample.
#[track_caller]
pub fn only_message(task: &TaskClient, index: usize) -> Message {
    let mut messages = prompt_for(task, index).messages;
    assert_eq!(messages.len(), 1, "{messages:?}");
    messages.remove(0)
}

/// The score of a reply with this text.
pub fn score_text(task: &TaskClient, index: usize, text: &str) -> Score {
    row(task, index, Reply::text(text), &NoCallbacks).score
}

/// A sample with its reply and score, as in a finished run.
pub fn row(task: &TaskClient, index: usize, reply: Reply, host: &dyn Callbacks) -> Row {
    let sample = task.sample(index).expect("a sample");
    let score = task.score(&sample, &reply, host).expect("a score");
    Row {
        sample,
        score,
        reply: Some(reply),
    }
}

/// Hands out all rows of a run in one page.
pub struct OnePage(Mutex<Vec<Row>>);

impl OnePage {
    pub fn new(rows: impl IntoIterator<Item = Row>) -> OnePage {
        OnePage(Mutex::new(rows.into_iter().collect()))
    }
}

impl Pages for OnePage {
    fn page(&self) -> Result<Vec<Row>> {
        Ok(std::mem::take(&mut *self.0.lock().expect("a lock")))
    }
}

/// The files that an export or a conversion writes, by name.
pub fn written(
    write: impl FnOnce(&(dyn Fn(&str, &str) -> bool + Sync)) -> Result<()>,
) -> Result<BTreeMap<String, String>> {
    let files = Mutex::new(BTreeMap::<String, String>::new());
    write(&|name: &str, text: &str| {
        let mut files = files.lock().expect("a lock");
        files.entry(name.to_owned()).or_default().push_str(text);
        true
    })?;
    Ok(files.into_inner().expect("a lock"))
}

/// The scores of `answers.file` and `answers.gold`, which are names in `folder`; errors show names without the folder.
pub fn score_file(name: &str, folder: &Path, answers: FileAnswers) -> Result<FileScores> {
    let answers = FileAnswers {
        file: folder.join(answers.file),
        gold: answers.gold.iter().map(|gold| folder.join(gold)).collect(),
        rows: true,
        ..answers
    };
    make_files_client(name).score(&answers).map_err(|mut error| {
        error.message = error.message.replace(&format!("{}/", folder.display()), "");
        error
    })
}

/// A grader that always gives this reply, and keeps the requests.
pub struct FixedGrader {
    reply: &'static str,
    pub asked: Mutex<Vec<Prompt>>,
}

impl FixedGrader {
    pub fn new(reply: &'static str) -> FixedGrader {
        FixedGrader {
            reply,
            asked: Mutex::default(),
        }
    }
}

impl Callbacks for FixedGrader {
    fn ask(&self, what: &str, input: Envelope) -> Result<Envelope> {
        assert_eq!(what, "generate:judge");
        self.asked.lock().expect("a lock").push(input.read()?);
        Envelope::of(&Reply::text(self.reply))
    }

    fn emit(&self, _what: &str, _note: Envelope) -> bool {
        true
    }

    fn stop_asked(&self) -> bool {
        false
    }
}
