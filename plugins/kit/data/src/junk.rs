//! Runs each reader on files that were damaged at random: it may fail, but must not panic.

use crate::Rows;
use ::parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use ::parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use ::parquet::schema::parser::parse_message_type;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

fn texts(
    group: &mut SerializedRowGroupWriter<'_, &mut Vec<u8>>,
    values: &[&str],
    definition: &[i16],
    repetition: Option<&[i16]>,
) {
    let values: Vec<ByteArray> = values.iter().map(|value| ByteArray::from(*value)).collect();
    let mut column = group.next_column().unwrap().unwrap();
    let typed = column.typed::<ByteArrayType>();
    typed.write_batch(&values, Some(definition), repetition).unwrap();
    column.close().unwrap();
}

/// A file as the hub writes it: nested lists, bytes, several groups.
pub(crate) fn parquet_bytes(groups: usize) -> Vec<u8> {
    let schema = "message schema {
        optional binary id (UTF8);
        optional int64 level;
        optional group choices {
            optional group text (LIST) { repeated group list { optional binary element (UTF8); } }
            optional group label (LIST) { repeated group list { optional binary element (UTF8); } }
        }
        optional group audio { optional binary bytes; optional binary path (UTF8); }
    }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::default()).unwrap();
    for number in 0..groups {
        let mut group = writer.next_row_group().unwrap();
        texts(
            &mut group,
            &[&format!("{number}-a"), &format!("{number}-b")],
            &[1, 1],
            None,
        );
        let mut level = group.next_column().unwrap().unwrap();
        level
            .typed::<Int64Type>()
            .write_batch(&[2], Some(&[1, 0]), None)
            .unwrap();
        level.close().unwrap();
        // The first row has two options, the second has one.
        texts(&mut group, &["wren", "robin", "finch"], &[4, 4, 4], Some(&[0, 1, 0]));
        texts(&mut group, &["A", "B", "A"], &[4, 4, 4], Some(&[0, 1, 0]));
        texts(&mut group, &["RIFF"], &[2, 0], None);
        texts(&mut group, &["w.wav"], &[2, 0], None);
        group.close().unwrap();
    }
    writer.close().unwrap();
    bytes
}

pub(crate) fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Random numbers, the same in every run of the test.
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound.max(1)
    }

    fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            match self.below(4) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, self.below(256) as u8),
                2 if !bytes.is_empty() => drop(bytes.remove(at)),
                _ if !bytes.is_empty() => bytes[at] = self.below(256) as u8,
                _ => {}
            }
        }
    }
}

fn read_all(path: &Path) -> usize {
    match Rows::open(path) {
        Ok(rows) => rows.iter().take(50).filter(Result::is_ok).count(),
        Err(error) => {
            assert!(!error.message.is_empty());
            0
        }
    }
}

#[test]
fn damaged_files_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let lines = b"\xef\xbb\xbf{\"id\": \"a\", \"n\": 1}\r\n\n{\"id\": \"b\\u00e9\"}\n[1, [2, [3]]]".to_vec();
    let json = br#"{"version": 1, "data": [{"id": "a"}, {"id": "b", "list": [1, 2.5e3, null]}]}"#.to_vec();
    let csv = b"id,text\na,\"one, two\"\nb,\"three \"\"quoted\"\"\nlines\"\n".to_vec();
    let whole = [
        ("x.jsonl", lines.clone()),
        ("x.json", json),
        ("x.csv", csv.clone()),
        ("x.tsv", csv),
        ("x.jsonl.gz", packed(&lines)),
        ("x.parquet", parquet_bytes(2)),
    ];
    // Panics of the Parquet crate are caught; their messages on stderr would only alarm the reader.
    let (here, usual) = (std::thread::current().id(), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().id() != here {
            usual(panic);
        }
    }));
    let mut draws = Draws(1);
    for (name, bytes) in whole {
        let path = folder.path().join(name);
        std::fs::write(&path, &bytes).unwrap();
        assert!(read_all(&path) >= 1, "{name} is whole");
        for _ in 0..100 {
            let mut damaged = bytes.clone();
            draws.damage(&mut damaged);
            std::fs::write(&path, &damaged).unwrap();
            if std::panic::catch_unwind(|| read_all(&path)).is_err() {
                drop(std::panic::take_hook());
                panic!("{name}: {damaged:?}");
            }
        }
    }
    drop(std::panic::take_hook());
}
