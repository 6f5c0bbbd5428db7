//! Frames between the plugin and Python: two lengths, JSON, and the samples of clips beside it.

use plugin_api::{Clip, Code, Error, Result};
use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// The longest frame accepted from Python.
const MOST: usize = 256 << 20;

/// The result of waiting for a frame.
#[derive(Debug)]
pub enum Came {
    Frame(Value),
    /// None within the time.
    Nothing,
    /// The other side closed the socket.
    End,
}

/// Reads frames from a socket, however they are split.
#[derive(Debug)]
pub struct Frames {
    socket: UnixStream,
    pending: Vec<u8>,
}

impl Frames {
    pub fn new(socket: UnixStream) -> Frames {
        Frames {
            socket,
            pending: Vec::new(),
        }
    }

    /// Waits for the next frame, at most for this time.
    pub fn next(&mut self, wait: Duration) -> Result<Came> {
        let until = Instant::now() + wait;
        loop {
            if let Some(frame) = self.whole()? {
                return Ok(Came::Frame(frame));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Came::Nothing);
            }
            self.socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            let mut page = [0; 64 << 10];
            match self.socket.read(&mut page) {
                Ok(0) => return Ok(Came::End),
                Ok(read) => self.pending.extend_from_slice(&page[..read]),
                Err(why)
                    if matches!(
                        why.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut | std::io::ErrorKind::Interrupted
                    ) => {}
                Err(_) => return Ok(Came::End),
            }
        }
    }

    fn whole(&mut self) -> Result<Option<Value>> {
        let number = |at: usize| Some(u32::from_le_bytes(self.pending.get(at..at + 4)?.try_into().ok()?) as usize);
        let (Some(json), Some(raw)) = (number(0), number(4)) else {
            return Ok(None);
        };
        if json.saturating_add(raw) > MOST {
            return Err(Error::new(
                Code::ENVELOPE,
                "the script sent a frame that is too long to be one",
            ));
        }
        if self.pending.len() < 8 + json + raw {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&self.pending[8..8 + json]).into_owned();
        self.pending.drain(..8 + json + raw);
        let read = serde_json::from_str(&without_words(&text));
        read.map(Some).map_err(|why| {
            Error::new(Code::ENVELOPE, "the script sent a frame that is not JSON").cause(why.to_string())
        })
    }
}

/// Replaces the numbers that Python writes and JSON lacks by null.
fn without_words(text: &str) -> String {
    let words = ["NaN", "-Infinity", "Infinity"];
    if !words.iter().any(|word| text.contains(word)) {
        return text.to_owned();
    }
    let (mut clean, mut quoted, mut escaped, mut rest) = (String::with_capacity(text.len()), false, false, text);
    while let Some(letter) = rest.chars().next() {
        if !quoted && let Some(word) = words.iter().find(|word| rest.starts_with(**word)) {
            clean.push_str("null");
            rest = &rest[word.len()..];
            continue;
        }
        (quoted, escaped) = match (quoted, escaped, letter) {
            (true, true, _) => (true, false),
            (true, false, '\\') => (true, true),
            (quoted, _, '"') => (!quoted, false),
            (quoted, _, _) => (quoted, false),
        };
        clean.push(letter);
        rest = &rest[letter.len_utf8()..];
    }
    clean
}

/// Sends a frame with these clips.
pub fn send(mut socket: &UnixStream, head: &Value, clips: &[Clip]) -> std::io::Result<()> {
    let json = head.to_string();
    let samples: usize = clips.iter().map(|clip| clip.samples().len()).sum();
    let size = |length: usize| u32::try_from(length).map_err(|_| std::io::Error::other("a frame of more than 4 GiB"));
    let mut bytes = Vec::with_capacity(8 + json.len() + 4 * samples);
    bytes.extend(size(json.len())?.to_le_bytes());
    bytes.extend(size(4 * samples)?.to_le_bytes());
    bytes.extend_from_slice(json.as_bytes());
    for sample in clips.iter().flat_map(|clip| clip.samples()) {
        bytes.extend(sample.to_le_bytes());
    }
    socket.write_all(&bytes)
}

/// Sends a program's text, before the first frame.
pub fn send_text(mut socket: &UnixStream, text: &str) -> std::io::Result<()> {
    let length = u32::try_from(text.len()).unwrap_or(0);
    socket.write_all(&[&length.to_le_bytes()[..], &0_u32.to_le_bytes(), text.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn frames_come_whole_and_with_their_words_as_nulls() {
        let (one, two) = UnixStream::pair().unwrap();
        let mut frames = Frames::new(two);
        assert!(matches!(frames.next(Duration::ZERO).unwrap(), Came::Nothing));
        send(&one, &json!({ "a": "NaN" }), &[Clip::new(16_000, vec![0.5; 3])]).unwrap();
        send_text(&one, r#"{"b": [NaN, -Infinity]}"#).unwrap();
        let mut next = || match frames.next(Duration::from_secs(1)).unwrap() {
            Came::Frame(frame) => frame,
            other => panic!("{other:?}"),
        };
        assert_eq!((next(), next()), (json!({ "a": "NaN" }), json!({ "b": [null, null] })));
        drop(one);
        assert!(matches!(frames.next(Duration::from_secs(1)).unwrap(), Came::End));
    }
}
