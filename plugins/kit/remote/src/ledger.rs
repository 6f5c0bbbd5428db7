//! `calls.jsonl`: what was sent, what came back, and what it cost. It is also a cache of answers.
//!
//! Each attempt has two lines, each written by a single system call, the first before the request is sent. So even
//! after a kill, every answer that arrived is there, and so is every attempt that may have been charged without an
//! answer.

use crate::price::Tokens;
use plugin_api::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// The line before an attempt.
#[derive(Debug, Serialize)]
pub struct SentLine<'a> {
    pub call: &'a str,
    pub attempt: u32,
    pub role: &'a str,
    pub model: &'a str,
    pub most_dollars: Option<f64>,
}

/// The line after an attempt.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GotLine {
    pub call: String,
    pub attempt: u32,
    pub status: u16,
    pub class: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Tokens>,
    /// The cost, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dollars: Option<f64>,
    /// The price: its first day and its source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<String>,
    /// The most that it may have cost, if it is unknown whether it was charged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maybe_dollars: Option<f64>,
    pub latency_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(skip_serializing_if = "Value::is_null")]
    pub reply: Value,
}

/// Sums over calls.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// Attempts that were sent.
    pub sent: u64,
    pub answered: u64,
    /// Attempts that may or may not have been charged.
    pub maybe: u64,
    pub failed: u64,
    /// Answers without a price.
    pub unpriced: u64,
    pub dollars: f64,
    /// An upper bound on the cost of those attempts.
    pub maybe_dollars: f64,
    /// The number of answers by model version.
    pub versions: std::collections::BTreeMap<String, u64>,
}

impl Summary {
    fn got(&mut self, line: &GotLine) {
        match line.class.as_str() {
            "answered" => {
                self.answered += 1;
                match line.dollars {
                    Some(dollars) => self.dollars += dollars,
                    None => self.unpriced += 1,
                }
                if let Some(version) = &line.model_version {
                    *self.versions.entry(version.clone()).or_default() += 1;
                }
            }
            "maybe" | "garbage" => {
                self.maybe += 1;
                self.maybe_dollars += line.maybe_dollars.unwrap_or(0.0);
            }
            _ => self.failed += 1,
        }
    }
}

/// An answer in the ledger.
pub type Known = GotLine;

#[derive(Debug, Default)]
struct State {
    /// Where a call's answer is. The first 16 bytes of keys suffice, and save memory.
    answered: HashMap<u128, (Source, u64)>,
    /// How often a call was tried, including earlier processes.
    attempts: HashMap<u128, u32>,
    /// Attempts without a result: call, number, and the most that it may cost.
    open: HashMap<(u128, u32), f64>,
    summary: Summary,
    end: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Run,
    Shared,
}

/// The ledger of a run, and the answers that runs share.
#[derive(Debug)]
pub struct Ledger {
    file: File,
    shared: Option<File>,
    role: String,
    state: Mutex<State>,
    began_ms: u64,
}

fn short(call: &str) -> u128 {
    call.get(..32)
        .and_then(|start| u128::from_str_radix(start, 16).ok())
        .unwrap_or(0)
}

impl Ledger {
    /// Opens a ledger and reads what earlier processes wrote.
    pub fn open(path: &Path, shared: Option<&Path>, role: &str) -> Result<Ledger> {
        let mut state = State::default();
        let (file, end) = open_lines(path, |offset, line| state.take(Source::Run, offset, line))?;
        state.end = end;
        // Sent by a process that was killed before the answer came: it may have been charged.
        let orphans = std::mem::take(&mut state.open);
        state.summary.maybe += orphans.len() as u64;
        state.summary.maybe_dollars += orphans.values().sum::<f64>();
        let shared = match shared {
            Some(folder) => {
                std::fs::create_dir_all(folder)
                    .with_context(|| format!("cannot make the folder `{}`", folder.display()))?;
                let mut others = State::default();
                let (file, _) = open_lines(&folder.join("calls.jsonl"), |offset, line| {
                    others.take(Source::Shared, offset, line)
                })?;
                for (call, place) in others.answered {
                    state.answered.entry(call).or_insert(place);
                }
                Some(file)
            }
            None => None,
        };
        Ok(Ledger {
            file,
            shared,
            role: role.to_owned(),
            state: Mutex::new(state),
            began_ms: crate::date::now_ms(),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer of a call, if there is one.
    pub fn known(&self, call: &str) -> Option<Known> {
        let (source, offset) = *self.lock().answered.get(&short(call))?;
        let file = match source {
            Source::Run => &self.file,
            Source::Shared => self.shared.as_ref()?,
        };
        let line = read_line_at(file, offset)?;
        // The first bytes of two keys may be equal, so compare the whole keys.
        serde_json::from_str::<GotLine>(&line)
            .ok()
            .filter(|line| line.call == call)
    }

    /// Writes that an attempt is about to be sent, and returns the number of this attempt of the call.
    pub fn sent(&self, call: &str, model: &str, most_dollars: Option<f64>) -> Result<u32> {
        let mut state = self.lock();
        let attempt = state.attempts.entry(short(call)).or_default();
        *attempt += 1;
        let attempt = *attempt;
        let line = SentLine {
            call,
            attempt,
            role: &self.role,
            model,
            most_dollars,
        };
        let mut line = serde_json::to_value(&line).unwrap_or_default();
        line["event"] = json!("sent");
        let now = crate::date::now_ms();
        line["at_ms"] = json!(now.saturating_sub(self.began_ms));
        line["unix_ms"] = json!(now);
        self.append(&mut state, &self.file, &line)?;
        state.summary.sent += 1;
        state.open.insert((short(call), attempt), most_dollars.unwrap_or(0.0));
        Ok(attempt)
    }

    /// Writes the result of an attempt.
    pub fn got(&self, line: &GotLine) -> Result<()> {
        let mut state = self.lock();
        let offset = self.append(&mut state, &self.file, &event("got", line))?;
        let call = short(&line.call);
        state.open.remove(&(call, line.attempt));
        state.summary.got(line);
        if line.class == "answered" {
            state.answered.insert(call, (Source::Run, offset));
            if let Some(shared) = &self.shared {
                write_line(shared, &event("got", line))?;
            }
        }
        Ok(())
    }

    /// The sums of this ledger, without attempts in progress.
    pub fn summary(&self) -> Summary {
        self.lock().summary.clone()
    }

    fn append(&self, state: &mut State, file: &File, line: &Value) -> Result<u64> {
        let written = write_line(file, line)?;
        // Another process may have appended, so the offset is computed from the end of this line.
        let mut file = file;
        let end = file.stream_position().unwrap_or(state.end + written);
        state.end = end;
        Ok(end.saturating_sub(written))
    }
}

fn event(name: &str, line: &GotLine) -> Value {
    let mut value = json!({ "event": name });
    if let (Some(into), Ok(Value::Object(from))) = (value.as_object_mut(), serde_json::to_value(line)) {
        into.extend(from);
    }
    value
}

/// Writes a line by a single system call, so that only the last line of the file can be incomplete.
fn write_line(mut file: &File, line: &Value) -> Result<u64> {
    let mut text = line.to_string();
    text.push('\n');
    file.write_all(text.as_bytes())
        .context("cannot write the ledger of calls")?;
    Ok(text.len() as u64)
}

fn read_line_at(file: &File, mut offset: u64) -> Option<String> {
    let (mut line, mut page) = (Vec::new(), [0; 4096]);
    loop {
        let read = file.read_at(&mut page, offset).ok().filter(|read| *read > 0)?;
        if let Some(end) = page[..read].iter().position(|byte| *byte == b'\n') {
            line.extend_from_slice(&page[..end]);
            return String::from_utf8(line).ok();
        }
        line.extend_from_slice(&page[..read]);
        offset += read as u64;
    }
}

/// Opens a file of lines for appending and passes every complete line to `show`. An incomplete last line is ended with
/// a line break.
fn open_lines(path: &Path, mut show: impl FnMut(u64, &str)) -> Result<(File, u64)> {
    let failed = || format!("cannot open the ledger of calls `{}`", path.display());
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(path)
        .with_context(failed)?;
    let (mut reader, mut line, mut offset) = (BufReader::new(&file), Vec::new(), 0);
    reader.seek(SeekFrom::Start(0)).with_context(failed)?;
    loop {
        line.clear();
        // A line is at most as long as an answer, which is limited; a longer line is not ours.
        let read = (&mut reader)
            .take(64 << 20)
            .read_until(b'\n', &mut line)
            .with_context(failed)?;
        if read == 0 {
            break;
        }
        if line.last() == Some(&b'\n')
            && let Ok(text) = std::str::from_utf8(&line)
        {
            show(offset, text);
        }
        offset += read as u64;
    }
    if offset > 0 && line_is_open(&file, offset) {
        (&file).write_all(b"\n").with_context(failed)?;
        offset += 1;
    }
    Ok((file, offset))
}

fn line_is_open(file: &File, end: u64) -> bool {
    let mut last = [0];
    file.read_at(&mut last, end - 1).is_ok_and(|read| read == 1) && last[0] != b'\n'
}

impl State {
    fn take(&mut self, source: Source, offset: u64, line: &str) {
        let Ok(value) = serde_json::from_str::<Value>(line) else {
            return;
        };
        let number = |name: &str| value[name].as_u64().unwrap_or(0);
        let (call, attempt) = (
            short(value["call"].as_str().unwrap_or_default()),
            number("attempt") as u32,
        );
        match value["event"].as_str() {
            Some("sent") => {
                let tried = self.attempts.entry(call).or_default();
                *tried = (*tried).max(attempt);
                self.open
                    .insert((call, attempt), value["most_dollars"].as_f64().unwrap_or(0.0));
                self.summary.sent += 1;
            }
            Some("got") => {
                let Ok(got) = serde_json::from_value::<GotLine>(value) else {
                    return;
                };
                self.open.remove(&(call, attempt));
                self.summary.got(&got);
                if got.class == "answered" {
                    self.answered.insert(call, (source, offset));
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical::sha256_hex;

    fn answer(call: &str, attempt: u32, text: &str) -> GotLine {
        GotLine {
            call: call.to_owned(),
            attempt,
            status: 200,
            class: "answered".to_owned(),
            model_version: Some("m-1".to_owned()),
            dollars: Some(0.25),
            reply: json!({ "text": text }),
            ..GotLine::default()
        }
    }

    #[test]
    fn an_answer_is_found_again_and_an_orphan_may_have_been_charged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calls.jsonl");
        let calls: Vec<String> = ["a", "b", "c"].iter().map(|name| sha256_hex(name.as_bytes())).collect();
        let ledger = Ledger::open(&path, None, "judge").unwrap();
        for call in &calls {
            assert_eq!(ledger.sent(call, "m", Some(0.5)).unwrap(), 1);
        }
        ledger.got(&answer(&calls[0], 1, "yes")).unwrap();
        ledger
            .got(&GotLine {
                class: "maybe".to_owned(),
                maybe_dollars: Some(0.5),
                attempt: 1,
                call: calls[1].clone(),
                ..GotLine::default()
            })
            .unwrap();
        assert_eq!(ledger.known(&calls[0]).unwrap().reply["text"], "yes");
        drop(ledger);
        // Killed in the middle of a line.
        OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"{\"event\": \"go")
            .unwrap();
        let ledger = Ledger::open(&path, None, "judge").unwrap();
        assert_eq!(ledger.known(&calls[0]).unwrap(), answer(&calls[0], 1, "yes"));
        assert_eq!((ledger.known(&calls[1]), ledger.known(&calls[2])), (None, None));
        let summary = ledger.summary();
        assert_eq!((summary.sent, summary.answered, summary.maybe), (3, 1, 2));
        assert_eq!((summary.dollars, summary.maybe_dollars), (0.25, 1.0));
        assert_eq!(ledger.sent(&calls[2], "m", None).unwrap(), 2);
        ledger.got(&answer(&calls[2], 2, "no")).unwrap();
        assert_eq!(ledger.known(&calls[2]).unwrap().reply["text"], "no");
        assert_eq!(
            Ledger::open(&path, None, "").unwrap().known(&calls[2]).unwrap().reply["text"],
            "no"
        );
    }

    #[test]
    fn runs_share_answers_by_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let (shared, call) = (folder.path().join("shared"), sha256_hex(b"a"));
        let one = Ledger::open(&folder.path().join("one.jsonl"), Some(&shared), "model").unwrap();
        one.sent(&call, "m", None).unwrap();
        one.got(&answer(&call, 1, "yes")).unwrap();
        let two = Ledger::open(&folder.path().join("two.jsonl"), Some(&shared), "model").unwrap();
        assert_eq!(two.known(&call).unwrap().reply["text"], "yes");
        assert_eq!(two.summary(), Summary::default());
    }

    #[test]
    fn lines_have_the_keys_of_the_specification_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calls.jsonl");
        let ledger = Ledger::open(&path, None, "judge").unwrap();
        ledger.sent(&sha256_hex(b"a"), "m", Some(0.5)).unwrap();
        ledger.got(&answer(&sha256_hex(b"a"), 1, "yes")).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        for key in ["event", "call", "attempt", "role", "model", "at_ms", "most_dollars"] {
            assert!(keys(&lines[0]).contains(&key.to_owned()), "{key}");
        }
        for key in [
            "event",
            "call",
            "attempt",
            "status",
            "class",
            "model_version",
            "dollars",
            "latency_ms",
            "reply",
        ] {
            assert!(keys(&lines[1]).contains(&key.to_owned()), "{key}");
        }
    }
}
