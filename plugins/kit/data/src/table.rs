//! CSV and TSV: a row is an object with the header's names. Every cell is text, which the task interprets.

use crate::bytes::{MOST_TEXT, read_text, utf8};
use crate::row::{Place, Row, short};
use crate::source::Source;
use csv::{ByteRecord, ReaderBuilder};
use plugin_api::{Code, Error, Result};
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) struct Table {
    path: Arc<PathBuf>,
    head: Vec<String>,
    /// Each with its first line number.
    records: Vec<(usize, ByteRecord)>,
}

impl Table {
    pub fn open(path: &Path, packed: bool, delimiter: u8) -> Result<Self> {
        let text = read_text(path, packed, MOST_TEXT)?;
        let failed = |why: csv::Error| {
            Error::new(Code::DATA, format!("cannot read `{}`", path.display())).cause(why.to_string())
        };
        let path = Arc::new(path.to_owned());
        // Rows of uneven length are accepted here, so that one of them does not fail the file.
        let mut reader = ReaderBuilder::new()
            .delimiter(delimiter)
            .flexible(true)
            .from_reader(text.as_slice());
        let place = Place::Line(1, path.clone());
        let names = reader.byte_headers().map_err(failed)?;
        let head = names.iter().map(|name| utf8(name, &place).map(str::to_owned));
        let head: Vec<String> = head.collect::<Result<_>>()?;
        let mut seen = HashSet::new();
        if let Some(twice) = head.iter().find(|name| !seen.insert(name.as_str())) {
            return Err(place.broken(format!("names the column `{}` twice", short(twice))));
        }
        let mut records = Vec::new();
        for record in reader.into_byte_records() {
            let record = record.map_err(failed)?;
            let line = record.position().map_or(records.len() + 2, |position| {
                // When a record begins, the reader may have consumed only the first half of the `\r\n` before it.
                let half = usize::try_from(position.byte()).is_ok_and(|byte| text.get(byte) == Some(&b'\n'));
                position.line() as usize + usize::from(half)
            });
            records.push((line, record));
        }
        Ok(Table { path, head, records })
    }
}

impl Source for Table {
    fn len(&self) -> usize {
        self.records.len()
    }

    fn get(&self, index: usize) -> Result<Row> {
        let (line, record) = &self.records[index];
        let place = Place::Line(*line, self.path.clone());
        if record.len() != self.head.len() {
            let message = format!("has {} cells, its header has {}", record.len(), self.head.len());
            return Err(place
                .broken(message)
                .help("a cell with a comma or a quote in it must be quoted"));
        }
        let mut fields = Map::new();
        for (name, cell) in self.head.iter().zip(record) {
            fields.insert(name.clone(), Value::from(utf8(cell, &place)?));
        }
        Ok(Row::new(Value::Object(fields), place))
    }
}
