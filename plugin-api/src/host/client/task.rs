//! Calls to a task and to its files.

use crate::task::{Asked, IndexRequest, Next, NextAnswer, NextRequest, Piece, ScoreRequest, WriteRequest};
use crate::wire::{Adapter, Callbacks, Envelope, Packed};
use crate::{
    Code, Error, FileAnswers, FileScores, FilesCard, Lesson, Message, Metric, NoCallbacks, Prompt, Reply, Result, Row,
    Sample, Score, TaskCard,
};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

/// A task, called by a host.
#[derive(Clone)]
pub struct TaskClient(pub Arc<dyn Adapter>);

impl TaskClient {
    /// [`crate::Task::card`]
    pub fn card(&self) -> Result<TaskCard> {
        self.0.call("card", Envelope::default(), &NoCallbacks)?.read()
    }

    /// [`crate::Task::len`]
    pub fn count(&self) -> Result<usize> {
        self.0.call("len", Envelope::default(), &NoCallbacks)?.read()
    }

    /// [`crate::Task::sample`]
    pub fn sample(&self, index: usize) -> Result<Sample> {
        Sample::unpack(
            self.0
                .call("sample", Envelope::of(&IndexRequest { index })?, &NoCallbacks)?,
        )
    }

    /// [`crate::Task::prompt`]; the sample's encoded audio stays here.
    pub fn prompt(&self, sample: &Sample) -> Result<Prompt> {
        Prompt::unpack(self.0.call("prompt", Envelope::of(sample)?, &NoCallbacks)?)
    }

    /// [`crate::Task::ask`]
    pub fn ask(&self, index: usize) -> Result<(Sample, Prompt)> {
        let asked = self
            .0
            .call("ask", Envelope::of(&IndexRequest { index })?, &NoCallbacks)?;
        Asked::unpack(asked).map(|asked| (asked.sample, asked.prompt))
    }

    /// [`crate::Task::next`]
    pub fn next(&self, sample: &Sample, said: &[Message]) -> Result<Next> {
        let sample = Sample {
            blobs: Vec::new(),
            ..sample.clone()
        };
        let said = said.to_vec();
        let request = NextRequest { sample, said };
        let answer = NextAnswer::unpack(self.0.call("next", Envelope::of(&request)?, &NoCallbacks)?)?;
        Ok(answer.prompt.map_or(Next::Done, |prompt| Next::Ask(Box::new(prompt))))
    }

    /// [`crate::Task::score`]
    pub fn score(&self, sample: &Sample, reply: &Reply, host: &dyn Callbacks) -> Result<Score> {
        let sample = Sample {
            blobs: Vec::new(),
            ..sample.clone()
        };
        let request = ScoreRequest {
            sample,
            reply: reply.clone(),
        };
        self.0.call("score", Envelope::of(&request)?, host)?.read()
    }

    /// [`crate::Task::metrics`]; `pages` hands out the rows, an empty page at their end.
    pub fn metrics(&self, pages: &dyn Pages) -> Result<Vec<Metric>> {
        self.0
            .call("metrics", Envelope::default(), &PageCallbacks(pages))?
            .read()
    }

    /// [`crate::Task::lesson`]
    pub fn lesson(&self, sample: &Sample) -> Result<Lesson> {
        Lesson::unpack(self.0.call("lesson", Envelope::of(sample)?, &NoCallbacks)?)
    }

    /// [`crate::Task::prepared`]
    pub fn prepared(&self, sample: &Sample) -> Result<Value> {
        self.0.call("prepared", Envelope::of(sample)?, &NoCallbacks)?.read()
    }
}

/// A task's files, called by a host.
#[derive(Clone)]
pub struct FilesClient(pub Arc<dyn Adapter>);

impl FilesClient {
    /// [`crate::OfficialFiles::card`]
    pub fn card(&self) -> Result<FilesCard> {
        self.0.call("card", Envelope::default(), &NoCallbacks)?.read()
    }

    /// [`crate::OfficialFiles::score`]
    pub fn score(&self, answers: &FileAnswers) -> Result<FileScores> {
        self.0.call("score", Envelope::of(answers)?, &NoCallbacks)?.read()
    }

    /// [`crate::OfficialFiles::export`]; `pages` hands out the rows, `write` takes the text of the named files. When it returns
    /// false, no more comes.
    pub fn export(&self, format: &str, pages: &dyn Pages, write: &(dyn Fn(&str, &str) -> bool + Sync)) -> Result<()> {
        let request = WriteRequest {
            format: format.to_owned(),
            ..WriteRequest::default()
        };
        let host = WriteCallbacks::new(pages, write);
        host.finish(self.0.call("export", Envelope::of(&request)?, &host))
    }

    /// [`crate::OfficialFiles::convert`]
    pub fn convert(
        &self,
        conversion: &str,
        files: &[PathBuf],
        write: &(dyn Fn(&str, &str) -> bool + Sync),
    ) -> Result<()> {
        let request = WriteRequest {
            format: conversion.to_owned(),
            files: files.to_vec(),
        };
        let host = WriteCallbacks::new(&NoPages, write);
        host.finish(self.0.call("convert", Envelope::of(&request)?, &host))
    }
}

struct NoPages;

impl Pages for NoPages {
    fn page(&self) -> Result<Vec<Row>> {
        Ok(Vec::new())
    }
}

struct WriteCallbacks<'a> {
    pages: &'a dyn Pages,
    write: &'a (dyn Fn(&str, &str) -> bool + Sync),
    /// Set when a piece could not be written. The plugin learns of it some pieces later, or not at all if that was the
    /// last piece.
    stopped: AtomicBool,
}

impl<'a> WriteCallbacks<'a> {
    fn new(pages: &'a dyn Pages, write: &'a (dyn Fn(&str, &str) -> bool + Sync)) -> Self {
        let stopped = AtomicBool::new(false);
        WriteCallbacks { pages, write, stopped }
    }

    fn finish(&self, outcome: Result<Envelope>) -> Result<()> {
        match outcome {
            Ok(_) if self.stopped.load(Ordering::Acquire) => {
                Err(Error::new(Code::CANCELLED, "stopped because the host could not write"))
            }
            other => other.map(drop),
        }
    }
}

impl Callbacks for WriteCallbacks<'_> {
    fn ask(&self, what: &str, input: Envelope) -> Result<Envelope> {
        PageCallbacks(self.pages).ask(what, input)
    }

    fn emit(&self, what: &str, note: Envelope) -> bool {
        match (what, note.read::<Piece>()) {
            ("write", Ok(piece)) => {
                let written = !self.stopped.load(Ordering::Acquire) && (self.write)(&piece.file, &piece.text);
                self.stopped.fetch_or(!written, Ordering::AcqRel);
                written
            }
            ("write", Err(_)) => false,
            _ => true,
        }
    }

    fn stop_asked(&self) -> bool {
        false
    }
}

/// A host that hands out finished rows, a page at a time.
pub trait Pages: Send + Sync {
    /// The next page; empty at the end.
    fn page(&self) -> Result<Vec<Row>>;
}

struct PageCallbacks<'a>(&'a dyn Pages);

impl Callbacks for PageCallbacks<'_> {
    fn ask(&self, what: &str, input: Envelope) -> Result<Envelope> {
        match what {
            "rows" => Envelope::of(&self.0.page()?),
            _ => NoCallbacks.ask(what, input),
        }
    }

    fn emit(&self, _what: &str, _note: Envelope) -> bool {
        true
    }

    fn stop_asked(&self) -> bool {
        false
    }
}
