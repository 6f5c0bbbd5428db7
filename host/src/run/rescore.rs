//! A finished run scored by its task again: what its model said stays, what that is worth is written anew.

use super::conclude::{View, marks, pretty, suspicions};
use super::directory::{RunDirectory, read_if_there, unwritable};
use super::record::hash_json;
use super::report;
use super::results::{self, Setting, Summary};
use super::roles::Roles;
use super::scores::Scoring;
use super::tally::Tally;
use crate::failure::{Exit, Failure, Result};
use plugin_api::client::TaskClient;
use plugin_api::{Callbacks, TaskCard};
use serde_json::Value;

/// A run that is scored without its model.
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
    /// True when that is what the run itself was scored by.
    pub own: bool,
    pub roles: &'a Roles,
    /// Score again what this very scorer has scored.
    pub fresh: bool,
    pub demo: bool,
}

impl Rescoring<'_> {
    /// Scores the answers and writes `results.json` and `report.html` anew. The former results get another name.
    pub fn run(mut self) -> Result<(Summary, Value)> {
        let scorer = hash_json(&self.task);
        let scoring = Scoring {
            task: self.client,
            scorer: &scorer,
            version: &self.card.version,
            own: self.own,
            fresh: self.fresh,
            roles: self.roles,
        };
        let scores = scoring.run(self.run, self.places)?;
        if self.roles.stop_asked() {
            // Some answers have this score and others another; what was scored is kept.
            return Err(Failure::new(Exit::Interrupted, "interrupted").help("the same command goes on from here"));
        }
        let former: Value = read_if_there(&self.run.path.join("results.json"))
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default();
        let mut tally = Tally::default();
        let mut reader = scores.reader(&self.run.samples())?;
        for place in self.places {
            tally.add(&reader.read_at(*place)?);
        }
        let view = View {
            client: self.client,
            card: self.card,
            scores: &scores,
        };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let known = |number: &Value| number.as_u64().and_then(|number| usize::try_from(number).ok());
        let counts = &former["n-samples"][&self.card.name];
        let selected = known(&counts["effective"]).unwrap_or(0).max(self.places.len());
        let hearing = serde_json::from_value(former["host"]["hearing_test"].clone())
            .ok()
            .flatten();
        let ears = text(&self.identity["ears"]["model"]["name"]);
        let summary = Summary {
            model: text(&self.identity["model"]["name"]).unwrap_or_default(),
            suspicions: suspicions(&tally, hearing.as_ref()),
            marks: marks(&tally, self.demo, ears.as_deref(), selected),
            ..view.summary(self.run, &tally, self.places)?
        };
        self.identity["task"] = self.task.take();
        let config = &former["config"];
        let setting = Setting {
            card: self.card,
            identity: &self.identity,
            samples: known(&counts["original"]).unwrap_or(selected),
            selected,
            batch_size: text(&config["batch_size"]).unwrap_or_else(|| "auto".to_owned()),
            limit: text(&config["limit"]),
            seed: self.identity["seed"].as_u64().unwrap_or(0),
            device: config["device"].as_str(),
            precision: config["model_dtype"].as_str(),
            kernels: config.get("kernels"),
            seconds: former["total_evaluation_time_seconds"].as_f64().unwrap_or(0.0),
            hearing: hearing.as_ref(),
        };
        let results = results::results(&summary, &tally, &setting);
        self.keep_former(&former, &results)?;
        let timing = read_if_there(&self.run.path.join("timing.json"));
        let timing = timing
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default();
        self.run.write_file("results.json", pretty(&results).as_bytes())?;
        let page = report::html(&summary, &results, &timing);
        self.run.write_file("report.html", page.as_bytes())?;
        Ok((summary, results))
    }

    /// Results that say something else are kept under another name.
    fn keep_former(&self, former: &Value, results: &Value) -> Result<()> {
        let same = |key: &str| former[key] == results[key];
        if former.is_null() || (same("results") && same("versions") && same("configs")) {
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
