//! What a model that learns hears from the host, and what becomes of the events that it sends.

use super::log;
use super::options::Output;
use super::progress::Progress;
use super::record::Record;
use super::source::Lessons;
use crate::failure::Result;
use crate::trackers::Trackers;
use plugin_api::client::Teacher;
use plugin_api::{LearnEvent, Lesson, Split};
use serde_json::Value;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// The host's side while a model learns.
pub struct Class<'a> {
    lessons: &'a Lessons,
    out: &'a Path,
    stop: &'a AtomicBool,
    progress: Progress,
    output: &'a Output<'a>,
    writes: bool,
    heard: Mutex<Heard<'a>>,
}

struct Heard<'a> {
    /// What `args.json` is to say. It is written once learning has begun: a run that is refused leaves that of the run
    /// before it.
    args: Option<&'a Value>,
    record: Record,
    trackers: Trackers,
    began: Instant,
}

impl<'a> Class<'a> {
    /// Files are written by the process that has something to say in `args.json`, and by no other.
    pub fn new(
        lessons: &'a Lessons,
        out: &'a Path,
        stop: &'a AtomicBool,
        output: &'a Output<'a>,
        name: &str,
        args: Option<&'a Value>,
        trackers: Trackers,
    ) -> Class<'a> {
        Class {
            lessons,
            out,
            stop,
            progress: Progress::new(name, output.progress),
            output,
            writes: args.is_some(),
            heard: Mutex::new(Heard {
                args,
                record: Record::new(out),
                trackers,
                began: Instant::now(),
            }),
        }
    }

    pub fn say(&self, words: &str) {
        self.log(words);
        self.progress.over(|| self.output.say(words));
    }

    fn log(&self, words: &str) {
        if self.writes {
            log::add(self.out, words);
        }
    }

    /// Ends the log files, and says what could not be written.
    pub fn finish(&self, whole: bool) -> Result<()> {
        self.progress.end();
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        // A model that says nothing while it learns has learnt all the same.
        if let Some(args) = heard.args.take_if(|_| whole) {
            heard.record.args(args);
        }
        let tracked = heard.trackers.finish(whole);
        if let Some(words) = tracked {
            self.say(&words);
        }
        match heard.record.failed() {
            Some(failure) => Err(failure.clone()),
            None => Ok(()),
        }
    }
}

impl Teacher for Class<'_> {
    fn count(&self, split: Split) -> plugin_api::Result<u64> {
        Ok(self.lessons.of(split).len() as u64)
    }

    fn lesson(&self, split: Split, index: u64) -> plugin_api::Result<Option<Lesson>> {
        let source = self.lessons.of(split);
        match (index as usize) < source.len() {
            true => source.lesson(index as usize).map(Some),
            false => Ok(None),
        }
    }

    fn glance(&self, split: Split, index: u64) -> plugin_api::Result<Option<(Lesson, usize)>> {
        let source = self.lessons.of(split);
        match (index as usize) < source.len() {
            true => source.glance(index as usize).map(Some),
            false => Ok(None),
        }
    }

    fn event(&self, event: LearnEvent) -> bool {
        self.progress.take(&event);
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let Heard {
            args,
            record,
            trackers,
            began,
        } = &mut *heard;
        if let Some(args) = args.take() {
            record.args(args);
        }
        match event.split.as_str() {
            "history" if self.writes => {
                let history = event.metrics.get("history").and_then(Value::as_array);
                let entries = history
                    .into_iter()
                    .flatten()
                    .filter_map(|entry| entry.as_object().cloned());
                let entries: Vec<_> = entries.collect();
                let due = event.metrics.get("generations_due") == Some(&Value::Bool(true));
                record.begin(&entries, event.step, due);
                trackers.begin(&entries);
            }
            "train" | "eval" => {
                if self.writes {
                    record.add(&event.metrics);
                    trackers.add(&event.metrics);
                }
                let words = log::line(&event, began.elapsed().as_secs_f64());
                self.log(&words);
                if !self.output.progress {
                    self.output.say(&words);
                }
            }
            "generation" if self.writes => {
                record.add_generation(&event.metrics);
                self.say(&log::generation(&event));
            }
            "facts" => self.say(&log::facts(&event)),
            "resumed" | "note" => self.say(&format!("note: {}", event.words)),
            "saved" => {
                if let Some(folder) = &event.saved {
                    let shown = folder.strip_prefix(self.out).unwrap_or(folder);
                    self.say(&format!("saved `{}`", shown.display()));
                }
            }
            _ => {}
        }
        !self.stop_asked() && record.failed().is_none()
    }

    fn stop_asked(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
