//! What the targets share: a task over a file of any bytes, and the demo's task with replies of any words.
//!
//! Each target that is about a task is linked with that task alone: every plugin exports the same symbol.

use plugin_api::client::{FilesClient, TaskClient};
use plugin_api::{FileAnswers, Kind, NoCallbacks, Reply, Settings, make, make_files};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// This many samples of a file are read.
const MOST_SAMPLES: usize = 8;

/// A task, its demo, and the files that its official scorer takes.
pub struct Subject {
    pub task: &'static str,
    /// Settings that the demo is loaded with, beside its data; one task for each.
    pub demos: &'static [&'static str],
    pub data: &'static str,
    /// What is right, for files of answers.
    pub gold: &'static str,
}

fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// A file of these bytes. One a process and a kind: the next bytes take its place.
pub fn file_of(bytes: &[u8], end: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let base = Path::new("/dev/shm");
        let base = if base.is_dir() {
            base.to_owned()
        } else {
            std::env::temp_dir()
        };
        let folder = base.join(format!("host-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder to write in");
        folder
    });
    let path = folder.join(format!("rows.{end}"));
    std::fs::write(&path, bytes).expect("a file is written");
    path
}

/// A file of rows, named as what the bytes look like.
fn rows_of(bytes: &[u8]) -> PathBuf {
    let end = match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'P') => "parquet",
        Some(b'[') => "json",
        Some(b'{') => "jsonl",
        Some(0x1f) => "jsonl.gz",
        _ => "csv",
    };
    file_of(bytes, end)
}

/// An archive whose files lie in it as they are.
pub fn zip_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut archive, mut listing) = (Vec::new(), Vec::new());
    for (name, bytes) in files {
        let place = archive.len() as u32;
        let mut about = vec![20, 0, 0, 0, 0, 0, 0, 0, 0, 0]; // version, flags, method, time, date
        about.extend(crc32(bytes).to_le_bytes());
        about.extend([(bytes.len() as u32).to_le_bytes(); 2].concat());
        about.extend([(name.len() as u16).to_le_bytes(), [0; 2]].concat());
        archive.extend([b"PK\x03\x04".as_slice(), &about, name.as_bytes(), bytes].concat());
        listing.extend(
            [
                b"PK\x01\x02\x14\0".as_slice(),
                &about,
                &[0; 10],
                &place.to_le_bytes(),
                name.as_bytes(),
            ]
            .concat(),
        );
    }
    let (count, start) = ((files.len() as u16).to_le_bytes(), (archive.len() as u32).to_le_bytes());
    let length = (listing.len() as u32).to_le_bytes();
    archive.extend(listing);
    archive.extend(
        [
            b"PK\x05\x06\0\0\0\0".as_slice(),
            &count,
            &count,
            &length,
            &start,
            &[0; 2],
        ]
        .concat(),
    );
    archive
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
        })
    })
}

impl Subject {
    fn make(&self, more: &str, data: &Path) -> plugin_api::Result<TaskClient> {
        let mut settings: Value = serde_json::from_str(more).expect("settings");
        settings["data"] = json!(data);
        let settings: Settings = serde_json::from_value(settings).expect("settings");
        Ok(TaskClient(Arc::from(make(Kind::Task, self.task, &settings)?)))
    }

    /// Reads a reply after `>`, predictions after `<`, and data after anything else.
    pub fn run(&self, bytes: &[u8]) {
        match bytes {
            [b'>', reply @ ..] => self.reply(&String::from_utf8_lossy(reply)),
            [b'<', predictions @ ..] => self.predictions(predictions),
            data => self.data(data),
        }
    }

    fn data(&self, bytes: &[u8]) {
        let path = rows_of(bytes);
        for more in self.demos {
            let Ok(task) = self.make(more, &path) else { continue };
            let count = task.count().expect("a count");
            for index in 0..count.min(MOST_SAMPLES) {
                let Ok(sample) = task.sample(index) else { continue };
                let _ = task.prompt(&sample);
                let _ = task.lesson(&sample);
                let _ = task.score(&sample, &Reply::text("The answer is (A) 1."), &NoCallbacks);
            }
        }
    }

    fn reply(&self, text: &str) {
        static DEMOS: OnceLock<Vec<TaskClient>> = OnceLock::new();
        let demos = DEMOS.get_or_init(|| {
            let data = repository().join(self.data);
            let demos = self.demos.iter().map(|more| self.make(more, &data));
            demos.filter_map(Result::ok).collect()
        });
        assert!(!demos.is_empty(), "the demo of `{}` can't be loaded", self.task);
        for task in demos {
            for index in 0..task.count().expect("a count").min(3) {
                let sample = task.sample(index).expect("the demo's samples are sound");
                let _ = task.score(&sample, &Reply::text(text), &NoCallbacks);
            }
        }
    }

    fn predictions(&self, bytes: &[u8]) {
        static FILES: OnceLock<FilesClient> = OnceLock::new();
        let files = FILES.get_or_init(|| {
            let files = make_files(self.task, &Settings::default()).expect("the task reads files");
            FilesClient(Arc::from(files))
        });
        let file = rows_of(bytes);
        for kind in files.card().expect("a card").scores {
            let gold = kind.needs_gold.then(|| repository().join(self.gold));
            let _ = files.score(&FileAnswers {
                kind: kind.name,
                file: file.clone(),
                gold: gold.into_iter().collect(),
                rows: true,
            });
        }
    }
}
