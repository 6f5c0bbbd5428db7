//! JSON lines: one row a line. Only the offsets of lines are kept, so that a line is decoded when it is asked for.

use crate::bytes::{BYTE_ORDER_MARK, LONGEST_LINE, MOST_TEXT, open, read_text, utf8};
use crate::python;
use crate::row::{Place, Row};
use crate::source::Source;
use plugin_api::{Code, Context, Error, Result};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) struct Lines {
    path: Arc<PathBuf>,
    text: Text,
    starts: Vec<Line>,
}

enum Text {
    /// Read again for each row, so a data set may be larger than memory.
    File(File),
    /// Decompressed: a `.gz` cannot be read from the middle.
    Memory(Vec<u8>),
}

/// A line that is not blank.
struct Line {
    start: u64,
    bytes: u64,
    number: usize, // from 1, blank lines counted
}

impl Lines {
    pub fn open(path: &Path, packed: bool) -> Result<Self> {
        if packed {
            return Lines::of_text(path, read_text(path, true, MOST_TEXT)?);
        }
        let file = open(path)?;
        let starts = index(BufReader::with_capacity(1 << 16, &file))
            .with_context(|| format!("cannot read `{}`", path.display()))
            .map_err(|error| error.code(Code::DATA))?;
        Ok(Lines {
            path: Arc::new(path.to_owned()),
            text: Text::File(file),
            starts,
        })
    }

    pub fn of_text(path: &Path, text: Vec<u8>) -> Result<Self> {
        let starts = index(text.as_slice()).with_context(|| format!("cannot read `{}`", path.display()))?;
        Ok(Lines {
            path: Arc::new(path.to_owned()),
            text: Text::Memory(text),
            starts,
        })
    }
}

impl Source for Lines {
    fn len(&self) -> usize {
        self.starts.len()
    }

    fn get(&self, index: usize) -> Result<Row> {
        let line = &self.starts[index];
        let place = Place::Line(line.number, self.path.clone());
        if line.bytes > LONGEST_LINE {
            return Err(place.broken(format!("has {} bytes, more than {LONGEST_LINE}", line.bytes)));
        }
        let (start, length) = (line.start as usize, line.bytes as usize);
        match &self.text {
            Text::Memory(text) => decode(&text[start..start + length], place),
            Text::File(file) => {
                let mut bytes = vec![0; length];
                file.read_exact_at(&mut bytes, line.start).map_err(|why| {
                    let error = Error::new(Code::DATA, format!("{place} can't be read")).cause(why.to_string());
                    error.help("the file changed while it was in use")
                })?;
                decode(&bytes, place)
            }
        }
    }
}

fn decode(bytes: &[u8], place: Place) -> Result<Row> {
    let text = utf8(bytes, &place)?;
    match python::parse(text.as_bytes()) {
        Ok(value) => Ok(Row::new(value, place)),
        Err(why) => Err(place.broken(format!("is not JSON: {}", json_reason(&why, true)))),
    }
}

/// The parser's message, without the line number if each row is one line, where that number would mislead.
pub(crate) fn json_reason(why: &serde_json::Error, one_line: bool) -> String {
    let text = why.to_string();
    let at = format!(" at line {} column {}", why.line(), why.column());
    match text.strip_suffix(&at) {
        Some(reason) if one_line => format!("{reason} at column {}", why.column()),
        _ => text,
    }
}

fn index(mut from: impl BufRead) -> std::io::Result<Vec<Line>> {
    let mut lines = Vec::new();
    let (mut start, mut number) = (0u64, 1usize);
    let mut line = Span::default();
    loop {
        let buffer = from.fill_buf()?;
        if buffer.is_empty() {
            break;
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let piece = &buffer[..end.unwrap_or(buffer.len())];
        line.add(piece);
        let used = piece.len() + usize::from(end.is_some());
        from.consume(used);
        if end.is_some() {
            line.finish(&mut start, &mut number, &mut lines, 1);
        }
    }
    line.finish(&mut start, &mut number, &mut lines, 0);
    Ok(lines)
}

/// What is known of a line that is read in pieces.
#[derive(Default)]
struct Span {
    bytes: u64,
    inked: bool,
    head: Vec<u8>,
}

impl Span {
    fn add(&mut self, piece: &[u8]) {
        let wanted = BYTE_ORDER_MARK.len().saturating_sub(self.head.len()).min(piece.len());
        self.head.extend_from_slice(&piece[..wanted]);
        self.bytes += piece.len() as u64;
        self.inked |= piece.iter().any(|byte| !byte.is_ascii_whitespace());
    }

    fn finish(&mut self, start: &mut u64, number: &mut usize, lines: &mut Vec<Line>, newline: u64) {
        let mark = match *start == 0 && self.head == BYTE_ORDER_MARK {
            true => BYTE_ORDER_MARK.len() as u64,
            false => 0,
        };
        if self.inked && self.bytes > mark {
            lines.push(Line {
                start: *start + mark,
                bytes: self.bytes - mark,
                number: *number,
            });
        }
        *start += self.bytes + newline;
        *number += 1;
        *self = Span::default();
    }
}
