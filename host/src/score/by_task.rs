//! Scores a finished run again by its task: the answers stay, and the results are rewritten.

use crate::ask::roles::{Noted, Roles};
use crate::failure::{Exit, Failure, Result};
use crate::run::finish::{View, marks, suspicions};
use crate::run::report;
use crate::run::results::{self, Setting, Summary};
use crate::run::store::directory::{Appender, RunDirectory, read_if_there, unwritable};
use crate::run::store::hash::hash_json;
use crate::run::store::record::Record;
use crate::run::store::score::{ScoreEntry, ScoreStatus};
use crate::run::store::scores::{LaterScore, Records, Scorer, Scores, for_each_record};
use crate::run::tally::Tally;
use plugin_api::client::TaskClient;
use plugin_api::{Callbacks, TaskCard};
use serde_json::Value;
use std::sync::{Mutex, PoisonError};

/// A task that scores recorded answers.
pub struct Scoring<'a> {
    pub task: &'a TaskClient,
    pub scorer: Scorer<'a>,
    /// Score again what this scorer has scored.
    pub fresh: bool,
    /// Score again what this scorer failed on.
    pub retry_errors: bool,
    /// Models that the task may ask, and the command's request to stop.
    pub roles: &'a Roles,
}

impl Scoring<'_> {
    /// Scores the answers at these places that this scorer has not scored yet, and returns all of its scores.
    pub fn run(&self, run: &RunDirectory, places: &[u64]) -> Result<Scores> {
        let known = Scores::open(run, &[self.scorer])?;
        if places.is_empty() {
            return Ok(known);
        }
        // Opened when the first score is written.
        let file: Mutex<Option<Appender>> = Mutex::default();
        let cores = std::thread::available_parallelism().map_or(2, usize::from).min(4);
        let threads = cores.max(self.roles.at_once());
        let stop = || self.roles.stop_asked();
        for_each_record(run, &known, places, threads, stop, |record| {
            if record.reply.is_none() || (self.done(&record) && !self.fresh) {
                return Ok(());
            }
            let Some(entry) = score(self.task, self.scorer.hash, &record, self.roles) else {
                return Ok(());
            };
            let line = LaterScore {
                key: &record.key,
                name: self.scorer.name,
                score: &entry,
            };
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            let file = match &mut *file {
                Some(file) => file,
                none => none.insert(Scores::appender(run)?),
            };
            file.append(&line)
        })?;
        Scores::open(run, &[self.scorer])
    }

    fn done(&self, record: &Record) -> bool {
        record.own().is_some_and(|own| {
            self.scorer.gave(&own.scorer, &own.graders) && !(self.retry_errors && own.status == ScoreStatus::Failed)
        })
    }
}

/// Scores a record's reply by the task. None if the command is to stop.
pub fn score(task: &TaskClient, scorer: &str, record: &Record, roles: &Roles) -> Option<ScoreEntry> {
    let noted = Noted::new(roles);
    let entry = match task.score(&record.sample(), record.reply.as_ref()?, &noted) {
        Ok(score) => ScoreEntry::of_score(score),
        Err(_) if roles.stop_asked() => return None,
        Err(error) => ScoreEntry::failed(&error),
    };
    Some(entry.by(scorer, None, noted.graders()))
}

/// Scores a run without its model.
pub struct Rescoring<'a> {
    pub run: &'a RunDirectory,
    /// The records that count, in the order of the data.
    pub places: &'a [u64],
    pub client: &'a TaskClient,
    pub card: &'a TaskCard,
    /// What the scores depend on, as a run's identity has it.
    pub task: Value,
    /// What `run.toml` says of the whole run.
    pub identity: Value,
    pub roles: &'a Roles,
    /// Score again what the same scorer has scored.
    pub fresh: bool,
    /// Score again what the same scorer failed on.
    pub retry_errors: bool,
    /// The mark of a demo.
    pub demo: Option<String>,
}

impl Rescoring<'_> {
    /// Scores the answers and rewrites `results.json` and `report.html`. The old results get another name.
    pub fn run(mut self) -> Result<(Summary, Value)> {
        let (hash, graders) = (hash_json(&self.task), self.roles.graders());
        let scorer = Scorer {
            name: &self.card.name,
            hash: &hash,
            graders: &graders,
        };
        let scoring = Scoring {
            task: self.client,
            scorer,
            fresh: self.fresh,
            retry_errors: self.retry_errors,
            roles: self.roles,
        };
        let scores = scoring.run(self.run, self.places)?;
        if self.roles.stop_asked() {
            // Some answers have this score and others another one; scores so far are kept.
            return Err(Failure::new(Exit::Interrupted, "interrupted").help("the same command goes on from here"));
        }
        let former: Value = read_if_there(&self.run.path.join("results.json"))
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default();
        let chains = former["host"]["chains"]
            .as_u64()
            .map_or(1, |chains| chains.clamp(1, 1 << 20) as u32);
        let mut tally = Tally::of_chains(chains);
        let mut reader = Records::open(self.run, &scores)?;
        for place in self.places {
            tally.add(&reader.read_at(*place)?);
        }
        let view = View {
            client: self.client,
            card: self.card,
            scores: &scores,
            chains,
        };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let known = |number: &Value| number.as_u64().and_then(|number| usize::try_from(number).ok());
        let counts = &former["n-samples"][&self.card.name];
        let selected = known(&counts["effective"])
            .unwrap_or(0)
            .max(self.places.len() / chains as usize);
        let hearing = serde_json::from_value(former["host"]["hearing_test"].clone())
            .ok()
            .flatten();
        let ears = text(&self.identity["transcriber"]["model"]["name"]);
        let ears = ears.or_else(|| text(&self.identity["ears"]["model"]["name"]));
        let mut summary = Summary {
            model: text(&self.identity["model"]["name"]).unwrap_or_default(),
            suspicions: suspicions(&tally, hearing.as_ref()),
            marks: marks(&tally, self.demo.take(), ears.as_deref(), selected * chains as usize),
            ..view.summary(self.run, &tally, self.places)?
        };
        self.identity["task"] = self.task.take();
        let config = &former["config"];
        summary.marks.extend(results::texts(&config["model_marks"]));
        let setting = Setting {
            card: self.card,
            identity: &self.identity,
            samples: known(&counts["original"]).unwrap_or(selected),
            selected,
            chains,
            batch_size: text(&config["batch_size"]).unwrap_or_else(|| "auto".to_owned()),
            limit: text(&config["limit"]),
            seed: self.identity["seed"].as_u64().unwrap_or(0),
            device: config["device"].as_str(),
            precision: config["model_dtype"].as_str(),
            kernels: config.get("kernels"),
            seconds: former["total_evaluation_time_seconds"].as_f64().unwrap_or(0.0),
            hearing: hearing.as_ref(),
        };
        let mut results = results::results(&summary, &tally, &setting);
        results::keep_marks(&mut results, &config["model_marks"]);
        crate::run::ledger::note(&mut results, self.run);
        self.keep_former(&former, &results)?;
        report::write(self.run, &summary, &results, &report::timing_of(self.run))?;
        Ok((summary, results))
    }

    /// Results that say something else are kept under another name.
    fn keep_former(&self, former: &Value, results: &Value) -> Result<()> {
        let same = |key: &str| former[key] == results[key];
        if former["results"].is_null() || (same("results") && same("versions") && same("configs")) {
            return Ok(());
        }
        let path = self.run.path.join("results.json");
        let free = (1..).map(|n| path.with_extension(format!("old-{n}.json")));
        match free.into_iter().find(|aside| !aside.exists()) {
            Some(aside) => std::fs::copy(&path, &aside)
                .map(drop)
                .map_err(|why| unwritable(&aside, why)),
            None => Ok(()),
        }
    }
}
