//! A host that was built against the frozen plugin-api and never again.
//!
//! `old-host FILE…` loads the files one after the other into this one process, in the order given, and prints a JSON
//! list with what came of each: its first model's reply and its first task's score, or why it was refused.

use plugin_api::client::{ModelClient, TaskClient};
use plugin_api::loading::{AbiHeaderRef, Plugin, Refusal, ROOT_SYMBOL};
use plugin_api::serde_json::{json, Value};
use plugin_api::{AdapterNote, Kind, Message, Prompt, Reply, Result, Settings, NoCallbacks};

fn main() {
    let files = std::env::args().skip(1);
    let outcomes: Vec<Value> = files.map(|file| outcome(&file)).collect();
    println!("{}", Value::from(outcomes));
}

fn outcome(file: &str) -> Value {
    let plugin = match open(file) {
        Ok(plugin) => plugin,
        Err(Refusal::Layout { theirs, differences }) => {
            return json!({ "ours": plugin_api::VERSION, "theirs": theirs, "differences": differences });
        }
        Err(Refusal::Unusable(why)) => return json!({ "unusable": why }),
    };
    match answers(plugin) {
        Ok(answers) => answers,
        Err(error) => json!({ "error": error.to_string() }),
    }
}

fn open(file: &str) -> std::result::Result<Plugin, Refusal> {
    let unusable = |why: libloading::Error| Refusal::Unusable(why.to_string());
    // SAFETY: the symbol has this type in every plugin, and the library is never closed.
    let header = unsafe {
        let library = libloading::Library::new(file).map_err(unusable)?;
        let header = *library.get::<AbiHeaderRef>(ROOT_SYMBOL.as_bytes()).map_err(unusable)?;
        std::mem::forget(library);
        header
    };
    let header = header.upgrade().map_err(|why| Refusal::Unusable(why.to_string()))?;
    Plugin::open(header)
}

fn answers(plugin: Plugin) -> Result<Value> {
    plugin.init(Box::new(NoCallbacks))?;
    let notes: Vec<AdapterNote> = plugin_api::serde_json::from_str(&plugin.about())?;
    let mut answers = json!({ "ours": plugin_api::VERSION });
    for note in &notes {
        let made = || plugin.make(note.kind, &note.name, &Settings::default());
        match note.kind {
            Kind::Model if answers.get("reply").is_none() => {
                let prompt = Prompt::new([Message::user("hello, old host")]);
                answers["reply"] = ModelClient(made()?).reply(&prompt, &NoCallbacks)?.text.into();
            }
            Kind::Task if answers.get("score").is_none() => {
                let task = TaskClient(made()?);
                let sample = task.sample(0)?;
                let target = sample.target.as_str().map(str::to_owned);
                let right = Reply::text(target.unwrap_or_else(|| sample.target.to_string()));
                let score = task.score(&sample, &right, &NoCallbacks)?;
                answers["score"] = plugin_api::serde_json::to_value(score.values)?;
            }
            _ => {}
        }
    }
    Ok(answers)
}
