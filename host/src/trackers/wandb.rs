//! W&B's offline runs: one file of records in the blocks of LevelDB's log, each a protobuf `Record`.

use super::crc::crc32;
use super::protobuf::Message;
use super::{Tracker, now, text};
use crate::dates::Moment;
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::{Result, Write};
use std::path::{Path, PathBuf};

const BLOCK: usize = 32_768;
const HEADER: usize = 7;

/// A run's names and place.
#[derive(Clone)]
pub struct Settings {
    folder: PathBuf,
    id: String,
    project: String,
    name: String,
    group: Option<String>,
    tags: Vec<String>,
    config: Map<String, Value>,
    online: bool,
}

impl Settings {
    pub fn new(out: &Path, given: &Map<String, Value>, args: &Value, online: bool) -> Settings {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let folder = variable("WANDB_DIR")
            .map_or_else(|| out.to_owned(), PathBuf::from)
            .join("wandb");
        let name = out.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Settings {
            id: variable("WANDB_RUN_ID")
                .or_else(|| text(given, "wandb_id"))
                .unwrap_or_else(|| kept_id(&folder)),
            project: variable("WANDB_PROJECT")
                .or_else(|| text(given, "project"))
                .unwrap_or_else(|| "huggingface".to_owned()),
            name: variable("WANDB_NAME")
                .or_else(|| text(given, "run_name"))
                .unwrap_or(name),
            group: variable("WANDB_RUN_GROUP").or_else(|| text(given, "wandb_group")),
            tags: match given.get("wandb_tags") {
                Some(Value::Array(tags)) => tags.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
                Some(Value::String(tag)) => vec![tag.clone()],
                _ => Vec::new(),
            },
            config: args.as_object().cloned().unwrap_or_default(),
            online,
            folder,
        }
    }
}

/// The id of an earlier part of this run, or one of its own: letters and digits, as W&B draws them.
fn kept_id(folder: &Path) -> String {
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let ids = names.filter_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        Some(name.strip_prefix("offline-run-")?.rsplit('-').next()?.to_owned())
    });
    ids.max().unwrap_or_else(|| {
        let mut state = (now() * 1e6) as u64 ^ u64::from(std::process::id()) << 40;
        let letters = b"0123456789abcdefghijklmnopqrstuvwxyz";
        let draw = |_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            letters[(state >> 33) as usize % letters.len()] as char
        };
        (0..8).map(draw).collect()
    })
}

pub struct Run {
    file: Log,
    folder: PathBuf,
    records: u64,
    rows: u64,
    began: f64,
    summary: Map<String, Value>,
    online: bool,
}

impl Run {
    pub fn create(settings: &Settings) -> Result<Run> {
        let began = now();
        let folder = settings
            .folder
            .join(format!("offline-run-{}-{}", stamp(began as u64), settings.id));
        std::fs::create_dir_all(folder.join("files"))?;
        let file = Log::create(&folder.join(format!("run-{}.wandb", settings.id)))?;
        let mut run = Run {
            file,
            folder,
            records: 0,
            rows: 0,
            began,
            summary: Map::new(),
            online: settings.online,
        };
        let version = Message::new().text(1, "host").text(2, "0.70.0");
        run.write(21, &Message::new().message(1, &version))?;
        let mut about = Message::new().text(1, &settings.id).text(3, &settings.project);
        let mut config = Message::new();
        for (key, value) in &settings.config {
            config = config.message(1, &item(key, value));
        }
        about = about.message(4, &config);
        if let Some(group) = &settings.group {
            about = about.text(6, group);
        }
        about = about.text(8, &settings.name);
        for tag in &settings.tags {
            about = about.text(10, tag);
        }
        let start = Message::new().int(1, began as u64);
        run.write(17, &about.message(17, &start))?;
        Ok(run)
    }

    fn write(&mut self, field: u64, content: &Message) -> Result<()> {
        self.records += 1;
        self.file
            .add(Message::new().int(1, self.records).message(field, content).encoded())
    }
}

fn item(key: &str, value: &Value) -> Message {
    Message::new().text(1, key).text(16, &value.to_string())
}

impl Tracker for Run {
    fn add(&mut self, _step: u64, entry: &[(String, f64)]) -> Result<()> {
        let time = now();
        let mut history = Message::new();
        let mut put = |summary: &mut Map<String, Value>, key: &str, value: Value| {
            history = history.clone().message(1, &item(key, &value));
            summary.insert(key.to_owned(), value);
        };
        for (key, value) in entry {
            let whole = value.fract() == 0.0 && key.ends_with("step");
            put(
                &mut self.summary,
                key,
                if whole { json!(*value as u64) } else { json!(value) },
            );
        }
        put(&mut self.summary, "_step", json!(self.rows));
        put(&mut self.summary, "_timestamp", json!(time));
        put(&mut self.summary, "_runtime", json!(time - self.began));
        let history = history.message(2, &Message::new().int(1, self.rows));
        self.rows += 1;
        self.write(2, &history)
    }

    fn finish(&mut self, whole: bool) -> Result<Option<String>> {
        let mut summary = Message::new();
        for (key, value) in &self.summary {
            summary = summary.message(1, &item(key, value));
        }
        self.write(3, &summary)?;
        self.write(18, &Message::new().int(1, u64::from(!whole)))?;
        self.file.0.sync_all()?;
        let shown = self.folder.display();
        let words = match self.online {
            true => format!("note: runs are written for upload; `wandb sync {shown}` uploads this one"),
            false => format!("note: `wandb sync {shown}` uploads this run"),
        };
        Ok(Some(words))
    }
}

/// Records in blocks, cut where a block ends.
struct Log(File, usize);

impl Log {
    fn create(path: &Path) -> Result<Log> {
        let mut file = File::create(path)?;
        let magic = [&b":W&B"[..], &0xbee1_u16.to_le_bytes(), &[0]].concat();
        file.write_all(&magic)?;
        Ok(Log(file, magic.len()))
    }

    fn add(&mut self, mut data: &[u8]) -> Result<()> {
        let mut bytes = Vec::new();
        let mut first = true;
        loop {
            let mut room = BLOCK - self.1 % BLOCK;
            if room < HEADER {
                bytes.extend(std::iter::repeat_n(0, room));
                self.1 += room;
                room = BLOCK;
            }
            let (part, rest) = data.split_at(data.len().min(room - HEADER));
            let kind: u8 = match (first, rest.is_empty()) {
                (true, true) => 1,
                (true, false) => 2,
                (false, false) => 3,
                (false, true) => 4,
            };
            bytes.extend(crc32(&[&[kind], part]).to_le_bytes());
            bytes.extend((part.len() as u16).to_le_bytes());
            bytes.push(kind);
            bytes.extend(part);
            self.1 += HEADER + part.len();
            (data, first) = (rest, false);
            if data.is_empty() {
                return self.0.write_all(&bytes);
            }
        }
    }
}

/// `YYYYMMDD_HHMMSS` of seconds since 1970, in UTC.
fn stamp(seconds: u64) -> String {
    Moment::of(seconds as f64)
        .iso(':')
        .replace(['-', ':'], "")
        .replace('T', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_a_date() {
        assert_eq!(stamp(1_700_000_000), "20231114_221320");
    }

    /// Reads the records back, as LevelDB's rules have it.
    fn records(bytes: &[u8]) -> Vec<Vec<u8>> {
        assert_eq!(bytes[..HEADER], *b":W&B\xe1\xbe\0");
        let (mut at, mut all, mut current) = (HEADER, Vec::new(), Vec::new());
        while at < bytes.len() {
            let room = BLOCK - at % BLOCK;
            if room < HEADER {
                assert!(bytes[at..at + room].iter().all(|byte| *byte == 0));
                at += room;
                continue;
            }
            let length = u16::from_le_bytes([bytes[at + 4], bytes[at + 5]]) as usize;
            let (kind, data) = (bytes[at + 6], &bytes[at + HEADER..at + HEADER + length]);
            let sum = u32::from_le_bytes(std::array::from_fn(|index| bytes[at + index]));
            assert_eq!(sum, crc32(&[&[kind], data]));
            current.extend(data);
            if kind == 1 || kind == 4 {
                all.push(std::mem::take(&mut current));
            }
            at += HEADER + length;
        }
        all
    }

    #[test]
    fn records_go_over_the_ends_of_blocks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.wandb");
        let mut log = Log::create(&path).unwrap();
        let written: Vec<Vec<u8>> = [10, 32_740, 100_000, 0, 32_747, 5]
            .into_iter()
            .map(|length| vec![7; length])
            .collect();
        written.iter().for_each(|data| log.add(data).unwrap());
        assert_eq!(records(&std::fs::read(path).unwrap()), written);
    }
}
