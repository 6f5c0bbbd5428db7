//! Writes files for experiment trackers, without their libraries: TensorBoard's event files, and W&B's offline runs.

mod crc;
mod protobuf;
mod tensorboard;
mod wandb;

use crate::failure::{Failure, Result};
use serde_json::{Map, Value};
use std::path::Path;

/// A tracker.
trait Tracker: Send {
    /// Takes a log line, at a step.
    fn add(&mut self, step: u64, entry: &[(String, f64)]) -> std::io::Result<()>;

    /// Ends the run. Returns notes for the user.
    fn finish(&mut self, whole: bool) -> std::io::Result<Option<String>>;
}

/// The trackers of a run. One whose files can't be written warns once and does not stop the run.
pub struct Trackers {
    make: Vec<Maker>,
    open: Vec<Box<dyn Tracker>>,
    trouble: Option<String>,
}

type Maker = Box<dyn Fn() -> std::io::Result<Box<dyn Tracker>> + Send>;

impl Trackers {
    /// None at all.
    pub fn none() -> Trackers {
        Trackers {
            make: Vec::new(),
            open: Vec::new(),
            trouble: None,
        }
    }

    /// The trackers that `report_to`, W&B's settings and its environment name, in this folder.
    pub fn new(out: &Path, given: &Map<String, Value>, args: &Value) -> Result<Trackers> {
        let mut trackers = Trackers::none();
        let wanted = match given.get("report_to") {
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            Some(Value::String(name)) => vec![name.clone()],
            _ => Vec::new(),
        };
        check(&wanted, "report_to")?;
        let all = wanted.iter().any(|name| name == "all");
        if all || wanted.iter().any(|name| name == "tensorboard") {
            let folder = text(given, "logging_dir").map_or_else(|| out.join("tensorboard"), Into::into);
            trackers
                .make
                .push(Box::new(move || Ok(Box::new(tensorboard::Events::create(&folder)?))));
        }
        let mode = std::env::var("WANDB_MODE").ok().or_else(|| text(given, "wandb_mode"));
        let asked = all || wanted.iter().any(|name| name == "wandb");
        let on = match mode.as_deref() {
            Some("disabled" | "dryrun_off") => false,
            Some("offline" | "online" | "dryrun") => true,
            _ => asked,
        };
        if on {
            let settings = wandb::Settings::new(out, given, args, mode.as_deref() == Some("online"));
            trackers
                .make
                .push(Box::new(move || Ok(Box::new(wandb::Run::create(&settings)?))));
        }
        Ok(trackers)
    }

    /// Starts with everything that was logged before.
    pub fn begin(&mut self, history: &[Map<String, Value>]) {
        self.open.clear();
        for make in &self.make {
            match make() {
                Ok(tracker) => self.open.push(tracker),
                Err(why) => self.trouble = Some(format!("warning: a tracker cannot be written: {why}")),
            }
        }
        history.iter().for_each(|entry| self.add(entry));
    }

    /// Passes a log line on, under the names that the reference has for trackers.
    pub fn add(&mut self, entry: &Map<String, Value>) {
        let step = entry.get("step").and_then(Value::as_u64).unwrap_or_default();
        let mut named: Vec<(String, f64)> = Vec::new();
        for (name, value) in entry.iter().filter(|(name, _)| *name != "step") {
            let Some(value) = value.as_f64() else { continue };
            named.push(match name.strip_prefix("eval_") {
                Some(rest) => (format!("eval/{rest}"), value),
                None => (format!("train/{name}"), value),
            });
        }
        named.push(("train/global_step".to_owned(), step as f64));
        self.add_named(step, &named);
    }

    /// Passes numbers on under these names.
    pub fn add_named(&mut self, step: u64, named: &[(String, f64)]) {
        let trouble = &mut self.trouble;
        self.open.retain_mut(|tracker| {
            let added = tracker.add(step, named);
            added
                .inspect_err(|why| *trouble = Some(format!("warning: a tracker cannot be written: {why}")))
                .is_ok()
        });
    }

    /// Ends them, and returns notes for the user.
    pub fn finish(&mut self, whole: bool) -> Option<String> {
        let mut words: Vec<String> = self.trouble.take().into_iter().collect();
        for tracker in &mut self.open {
            match tracker.finish(whole) {
                Ok(said) => words.extend(said),
                Err(why) => words.push(format!("warning: a tracker cannot be written: {why}")),
            }
        }
        (!words.is_empty()).then(|| words.join("\n"))
    }
}

/// An error for a name that is no tracker's.
pub fn check(names: &[String], flag: &str) -> Result<()> {
    let known = ["all", "none", "tensorboard", "wandb"];
    match names.iter().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(other) => {
            let failure = Failure::usage(format!("`{flag}` names `{other}`, which is not supported"));
            Err(failure.help("it is `tensorboard`, `wandb`, `all` or `none`"))
        }
    }
}

fn text(given: &Map<String, Value>, name: &str) -> Option<String> {
    given.get(name).and_then(Value::as_str).map(str::to_owned)
}

fn now() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0.0, |time| time.as_secs_f64())
}
