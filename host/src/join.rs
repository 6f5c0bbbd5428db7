//! `host join`: joins the shards of a run into one run.
//!
//! Records and later scores are copied as they are, in the order of the data; every figure is computed again from them,
//! since means of means and percentiles of percentiles are wrong. What doesn't belong together is refused by name:
//! shards of other runs, missing, repeated and unfinished ones, a sample with two different records.

use crate::failure::{Failure, Result};
use crate::run::recorded::Recorded;
use crate::run::shard::Shard;
use crate::run::store::directory::{AHEAD, LineReader, RunDirectory, read_if_there, unwritable};
use crate::run::store::hash::{hash_json, short_hash};
use crate::run::store::places::{Asked, Found};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// One shard, read.
pub struct Part {
    pub path: PathBuf,
    pub shard: Shard,
    recorded: Recorded,
    results: Value,
}

/// Shards that belong together.
pub struct Parts {
    parts: Vec<Part>,
    /// Samples of the whole run.
    selected: u64,
}

impl Parts {
    /// Reads shards, and refuses what doesn't belong together. With `partial` some may be missing or unfinished.
    pub fn read(paths: &[PathBuf], partial: bool) -> Result<Parts> {
        let mut parts = paths.iter().map(|path| read(path)).collect::<Result<Vec<Part>>>()?;
        parts.sort_by_key(|part| part.shard);
        let first = parts.first().ok_or_else(|| Failure::usage("no shard is given"))?;
        for part in &parts[1..] {
            same(first, part)?;
        }
        for pair in parts.windows(2) {
            if pair[0].shard == pair[1].shard {
                let (a, b) = (pair[0].path.display(), pair[1].path.display());
                return Err(Failure::usage(format!(
                    "shard {} is given twice: `{a}` and `{b}`",
                    pair[0].shard
                )));
            }
        }
        let of = first.shard.of;
        let missing: Vec<String> = (0..of)
            .filter(|index| !parts.iter().any(|part| part.shard.index == *index))
            .map(|index| Shard { index, of }.to_string())
            .collect();
        if !missing.is_empty() && !partial {
            let failure = Failure::missing(format!(
                "{} of {of} shards are missing: {}",
                missing.len(),
                missing.join(", ")
            ));
            return Err(failure.help("run them with `--shard`, or join what there is with `--partial`"));
        }
        for part in &parts {
            let (done, wanted) = (part.finished(), part.wanted());
            if done < wanted && !partial {
                let path = part.path.display();
                let failure = Failure::missing(format!(
                    "shard {} in `{path}` is not finished: {done} of {wanted} samples are done",
                    part.shard
                ));
                return Err(failure.help(format!("resume it: `host run --config {path}/run.toml`")));
            }
        }
        let selected = first.results["host"]["shard"]["selected"].as_u64().unwrap_or(0);
        Ok(Parts { parts, selected })
    }

    /// The name of the whole run's directory.
    pub fn name(&self) -> String {
        let first = &self.parts[0];
        let whole = first.path.canonicalize().unwrap_or_else(|_| first.path.clone());
        let name = whole.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.strip_suffix(&first.shard.suffix()).unwrap_or(&name).to_owned()
    }

    /// What the whole run was made with.
    pub fn identity(&self) -> Value {
        self.parts[0].results["host"]["identity"].clone()
    }

    /// Writes the whole run's records and everything that its results are computed from. Returns the number of
    /// records.
    pub fn write(&self, run: &RunDirectory) -> Result<usize> {
        let count = self.write_records(run)?;
        for name in ["scores.jsonl", "calls.jsonl"] {
            self.append_all(run, name)?;
        }
        let first = &self.parts[0];
        let hearing = self
            .parts
            .iter()
            .map(|part| part.path.join("hearing.json"))
            .find(|file| file.exists());
        if let Some(text) = hearing.and_then(|file| read_if_there(&file)) {
            run.write_file("hearing.json", text.as_bytes())?;
        }
        let settings = read_if_there(&first.path.join("run.toml")).unwrap_or_default();
        let (flags, tables) = settings.split_at(settings.find("\n[").unwrap_or(settings.len()));
        let flags = flags.lines().filter(|line| !line.starts_with("shard = "));
        let whole: String = flags.map(|line| format!("{line}\n")).collect::<String>() + tables;
        run.write_file("run.toml", whole.as_bytes())?;
        let mut former = first.results.clone();
        if let Some(map) = former.as_object_mut() {
            // The first shard's numbers must not be mistaken for the whole run's.
            ["results", "breakdown"]
                .iter()
                .for_each(|key| drop(map.shift_remove(*key)));
        }
        for counts in former["n-samples"]
            .as_object_mut()
            .into_iter()
            .flat_map(|map| map.values_mut())
        {
            counts["effective"] = json!(self.selected);
        }
        former["total_evaluation_time_seconds"] = json!(self.seconds().iter().copied().fold(0.0, f64::max));
        run.write_file("results.json", former.to_string().as_bytes())?;
        let shards: Vec<Value> = self
            .parts
            .iter()
            .map(|part| {
                let seconds = &part.results["total_evaluation_time_seconds"];
                json!({ "shard": part.shard.to_string(), "directory": part.path, "records": part.recorded.len(), "seconds": seconds })
            })
            .collect();
        let text = serde_json::to_string_pretty(&json!({ "shards": shards })).unwrap_or_default() + "\n";
        run.write_file("join.json", text.as_bytes())?;
        Ok(count)
    }

    /// How long each shard took.
    pub fn seconds(&self) -> Vec<f64> {
        let seconds = |part: &Part| part.results["total_evaluation_time_seconds"].as_f64().unwrap_or(0.0);
        self.parts.iter().map(seconds).collect()
    }

    /// How long each shard's model was busy.
    pub fn inference_seconds(&self) -> Vec<f64> {
        let seconds = |part: &Part| {
            let text = read_if_there(&part.path.join("timing.json"))?;
            let timing: Value = serde_json::from_str(&text).ok()?;
            timing["inference_total_seconds"].as_f64()
        };
        self.parts.iter().map(|part| seconds(part).unwrap_or(0.0)).collect()
    }

    /// All records in the order of the data, line by line as they are.
    fn write_records(&self, run: &RunDirectory) -> Result<usize> {
        let mut readers = self
            .parts
            .iter()
            .map(|part| LineReader::open(&part.path.join("samples.jsonl"), AHEAD))
            .collect::<Result<Vec<_>>>()?;
        let mut places: BTreeMap<Asked, (usize, u64)> = BTreeMap::new();
        let mut keys: HashMap<[u8; 16], usize> = HashMap::new();
        for (number, part) in self.parts.iter().enumerate() {
            for place in &part.recorded.places {
                let found: Found = readers[number].read_at(*place)?;
                let key = short_hash(&found.key);
                let asked = found.asked();
                let doc = asked.doc_id;
                let twice = keys
                    .insert(key, number)
                    .or(places.insert(asked, (number, *place)).map(|(other, _)| other));
                if let Some(other) = twice {
                    let (a, b) = (self.parts[other].path.display(), part.path.display());
                    let message = format!("sample {doc} has a record in `{a}` and one in `{b}`");
                    return Err(Failure::usage(message)
                        .help("each sample belongs to one shard; check that data and seed are the same"));
                }
            }
        }
        let path = run.samples();
        let failed = |why: std::io::Error| unwritable(&path, why);
        let mut out = BufWriter::with_capacity(1 << 20, File::create(&path).map_err(failed)?);
        for (number, place) in places.values() {
            let line = readers[*number].line_at(*place)?;
            out.write_all(&line).map_err(failed)?;
        }
        out.into_inner()
            .map_err(|why| failed(why.into_error()))?
            .sync_data()
            .map_err(failed)?;
        Ok(places.len())
    }

    /// Whole lines of a file of all shards, one after the other.
    fn append_all(&self, run: &RunDirectory, name: &str) -> Result<()> {
        let path = run.path.join(name);
        let failed = |why: std::io::Error| unwritable(&path, why);
        let mut out: Option<BufWriter<File>> = None;
        for part in &self.parts {
            part.recorded
                .directory
                .for_each_line(&part.path.join(name), |_, _, line| {
                    let out = match &mut out {
                        Some(out) => out,
                        none => none.insert(BufWriter::new(File::create(&path).map_err(failed)?)),
                    };
                    out.write_all(line).map_err(failed)
                })?;
        }
        match out {
            Some(out) => out.into_inner().map(drop).map_err(|why| failed(why.into_error())),
            None => Ok(()),
        }
    }
}

impl Part {
    fn finished(&self) -> u64 {
        self.results["host"]["counts"]["finished"].as_u64().unwrap_or(0)
    }

    fn wanted(&self) -> u64 {
        let counts = self.results["n-samples"]
            .as_object()
            .and_then(|map| map.values().next());
        let samples = counts
            .and_then(|counts| counts["effective"].as_u64())
            .unwrap_or(u64::MAX);
        samples.saturating_mul(self.results["host"]["chains"].as_u64().unwrap_or(1))
    }
}

fn read(path: &Path) -> Result<Part> {
    let recorded = Recorded::look(path)?;
    let results = recorded.results()?.clone();
    let shard = results["host"]["shard"]["shard"]
        .as_str()
        .and_then(|text| text.parse().ok());
    let shard = shard.ok_or_else(|| {
        let failure = Failure::usage(format!("`{}` is not a shard of a run", path.display()));
        failure.help("`host run --shard INDEX/COUNT` makes one")
    })?;
    Ok(Part {
        path: path.to_owned(),
        shard,
        recorded,
        results,
    })
}

/// An error that names what differs, when two shards are not of one run.
fn same(first: &Part, other: &Part) -> Result<()> {
    let (a, b) = (&first.results, &other.results);
    let differ = |what: &str, a: &Value, b: &Value| {
        let shown = |value: &Value| match value {
            Value::Object(_) | Value::Array(_) => hash_json(value)[..12].to_owned(),
            other => other.to_string(),
        };
        let (one, two) = (first.path.display(), other.path.display());
        let message = format!(
            "`{one}` and `{two}` are not of one run: {what} differs ({} and {})",
            shown(a),
            shown(b)
        );
        Err(Failure::usage(message))
    };
    let (mine, theirs) = (&a["host"]["identity"], &b["host"]["identity"]);
    let empty = serde_json::Map::new();
    for (name, value) in mine.as_object().unwrap_or(&empty) {
        if *value != theirs[name] {
            let part = value
                .as_object()
                .unwrap_or(&empty)
                .iter()
                .find(|(key, value)| **value != theirs[name][key.as_str()]);
            return match part {
                Some((key, value)) => differ(&format!("{name}.{key}"), value, &theirs[name][key.as_str()]),
                None => differ(name, value, &theirs[name]),
            };
        }
    }
    for (what, at) in [
        ("the identity", "/host/identity"),
        ("`--limit`", "/config/limit"),
        ("`--chains`", "/host/chains"),
        ("the number of selected samples", "/host/shard/selected"),
    ] {
        let (x, y) = (a.pointer(at), b.pointer(at));
        if x != y {
            return differ(what, x.unwrap_or(&Value::Null), y.unwrap_or(&Value::Null));
        }
    }
    match first.shard.of == other.shard.of {
        true => Ok(()),
        false => differ("the number of shards", &json!(first.shard.of), &json!(other.shard.of)),
    }
}
