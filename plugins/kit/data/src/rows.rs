//! A data set's rows over one file or many, by index.

use crate::json;
use crate::lines::Lines;
use crate::parquet::Parquet;
use crate::row::Row;
use crate::source::Source;
use crate::table::Table;
use plugin_api::{Code, Error, Result};
use std::path::Path;

/// The format, by a file's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// `.parquet`
    Parquet,
    /// `.jsonl`, `.ndjson`
    Lines,
    /// `.json`
    Json,
    /// `.csv`
    Csv,
    /// `.tsv`
    Tsv,
}

impl Format {
    /// The format of a file by its name, and whether it is compressed as `.gz`.
    pub fn of(path: &Path) -> Option<(Format, bool)> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let (name, packed) = match name.strip_suffix(".gz") {
            Some(inner) => (inner, true),
            None => (name.as_str(), false),
        };
        let format = match name.rsplit_once('.')?.1 {
            "parquet" if !packed => Format::Parquet,
            "jsonl" | "ndjson" => Format::Lines,
            "json" => Format::Json,
            "csv" => Format::Csv,
            "tsv" => Format::Tsv,
            _ => return None,
        };
        Some((format, packed))
    }
}

/// The rows of a data set. Opening reads what is needed to find them; [`Rows::get`] reads the row.
pub struct Rows {
    files: Vec<(usize, Box<dyn Source>)>, // with the index of each one's first row
    total: usize,
}

impl Rows {
    /// The rows of one file.
    pub fn open(path: impl AsRef<Path>) -> Result<Rows> {
        Rows::open_all([path])
    }

    /// The rows of several files, one after another.
    pub fn open_all<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Result<Rows> {
        let mut rows = Rows {
            files: Vec::new(),
            total: 0,
        };
        for path in paths {
            let source = open_one(path.as_ref())?;
            let first = rows.total;
            rows.total = first.saturating_add(source.len());
            rows.files.push((first, source));
        }
        Ok(rows)
    }

    /// How many there are, broken ones included.
    pub fn len(&self) -> usize {
        self.total
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// One row; an error concerns this row only.
    pub fn get(&self, index: usize) -> Result<Row> {
        if index >= self.total {
            let message = format!("there is no row {}, there are {}", index.saturating_add(1), self.total);
            return Err(Error::new(Code::DATA, message));
        }
        let after = self.files.partition_point(|(first, _)| *first <= index);
        let (first, source) = &self.files[after - 1];
        source.get(index - first)
    }

    /// All rows in order.
    pub fn iter(&self) -> impl Iterator<Item = Result<Row>> + '_ {
        (0..self.total).map(|index| self.get(index))
    }
}

fn open_one(path: &Path) -> Result<Box<dyn Source>> {
    let Some((format, packed)) = Format::of(path) else {
        let message = format!("cannot tell the format of `{}` from its name", path.display());
        let help = "expected `.jsonl`, `.json`, `.csv`, `.tsv` (each also with `.gz`) or `.parquet`";
        return Err(Error::new(Code::DATA, message).help(help));
    };
    Ok(match format {
        Format::Parquet => Box::new(Parquet::open(path)?),
        Format::Lines => Box::new(Lines::open(path, packed)?),
        Format::Json => json::open(path, packed)?,
        Format::Csv => Box::new(Table::open(path, packed, b',')?),
        Format::Tsv => Box::new(Table::open(path, packed, b'\t')?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::read_text;
    use crate::junk::{packed, parquet_bytes};
    use serde_json::json;

    /// Each row as its JSON or its error, without the folder's name.
    fn rows_of(name: &str, bytes: &[u8]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let plain = |error: Error| error.to_string().replace(&format!("{}/", folder.path().display()), "");
        match Rows::open(&path) {
            Ok(rows) => rows
                .iter()
                .map(|row| row.map_or_else(plain, |row| row.value.to_string()))
                .collect(),
            Err(error) => vec![plain(error)],
        }
    }

    #[track_caller]
    fn check(name: &str, bytes: impl AsRef<[u8]>, expected: &[&str]) {
        assert_eq!(rows_of(name, bytes.as_ref()), expected);
    }

    #[test]
    fn json_lines() {
        check("x.jsonl", "{\"a\": 1}\n{\"a\": 2}\n", &[r#"{"a":1}"#, r#"{"a":2}"#]);
        check(
            "x.jsonl",
            "{\"a\": 1}\r\n\r\n  \n{\"a\": 2}",
            &[r#"{"a":1}"#, r#"{"a":2}"#],
        );
        check("x.ndjson", "\u{feff}{\"a\": 1}\n", &[r#"{"a":1}"#]);
        check("x.jsonl", "\u{feff}\n\n1", &["1"]);
        check("x.jsonl.gz", packed(b"{\"a\": 1}\n2"), &[r#"{"a":1}"#, "2"]);
        check("x.jsonl", "", &[]);
    }

    #[test]
    fn a_broken_line_is_that_rows_error_alone() {
        let broken = "line 2 of `x.jsonl` is not JSON: EOF while parsing an object at column 7";
        check(
            "x.jsonl",
            "{\"a\": 1}\n{\"a\": 2\n{\"a\": 3}\n",
            &[r#"{"a":1}"#, broken, r#"{"a":3}"#],
        );
        check(
            "x.jsonl",
            b"1\n\n\"\xff\"\n",
            &["1", "line 3 of `x.jsonl` is not UTF-8 text after 1 bytes"],
        );
        let deep = rows_of("x.jsonl", &[b'['; 100_000]);
        assert_eq!(
            deep,
            ["line 1 of `x.jsonl` is not JSON: recursion limit exceeded at column 128"]
        );
    }

    #[test]
    fn json_files() {
        check("x.json", "[{\"a\": 1}, 2]", &[r#"{"a":1}"#, "2"]);
        check("x.json", "\u{feff}[1]", &["1"]);
        check("x.json", "{\"version\": 3, \"test\": [{\"a\": 1}]}", &[r#"{"a":1}"#]);
        check("x.json", "{\"labels\": [{}], \"data\": [{\"a\": 1}]}", &[r#"{"a":1}"#]);
        check("x.json", "{\"a\": [1]}\n{\"a\": 2}\n", &[r#"{"a":[1]}"#, r#"{"a":2}"#]);
        check(
            "x.json",
            "{\"b/1\": {\"a\": 1}, \"b/0\": {\"key\": 2}}",
            &[r#"{"a":1,"key":"b/1"}"#, r#"{"key":2}"#],
        );
        check(
            "x.json",
            "{\"type\": \"t\", \"results\": {\"b/1\": {\"a\": 1}}, \"none\": {}}",
            &[r#"{"a":1,"key":"b/1"}"#],
        );
        check(
            "x.json",
            "{\"a\": 1}",
            &["`x.json` holds an object without a list of rows"],
        );
        check(
            "x.json",
            "{\"a\": [{}], \"b\": [{}]}",
            &["`x.json` holds several lists: `a`, `b`"],
        );
        check(
            "x.json",
            "3",
            &["`x.json` holds a single value, expected a list of rows"],
        );
        check(
            "x.json",
            "[1,\n2",
            &["`x.json` is not JSON: EOF while parsing a list at line 2 column 1"],
        );
    }

    #[test]
    fn tables() {
        check(
            "x.csv",
            "id,n\na,1\n\"b, c\",\n",
            &[r#"{"id":"a","n":"1"}"#, r#"{"id":"b, c","n":""}"#],
        );
        check("x.csv", "\u{feff}id\r\na\r\n", &[r#"{"id":"a"}"#]);
        check("x.tsv", "id\tn\na,b\t1\n", &[r#"{"id":"a,b","n":"1"}"#]);
        check(
            "x.csv",
            "id,n\na\nb,2\n",
            &[
                "line 2 of `x.csv` has 1 cells, its header has 2",
                r#"{"id":"b","n":"2"}"#,
            ],
        );
        check(
            "x.csv",
            "id,n\r\na\r\n\r\n\"b\r\nc\",2\r\nd\r\n",
            &[
                "line 2 of `x.csv` has 1 cells, its header has 2",
                r#"{"id":"b\r\nc","n":"2"}"#,
                "line 6 of `x.csv` has 1 cells, its header has 2",
            ],
        );
        check(
            "x.csv",
            b"id\n\xff\n",
            &["line 2 of `x.csv` is not UTF-8 text after 0 bytes"],
        );
        check(
            "x.csv",
            "id,id\n1,2\n",
            &["line 1 of `x.csv` names the column `id` twice"],
        );
        check("x.csv", "", &[]);
    }

    #[test]
    fn parquet_in_the_hubs_layout() {
        let first = r#"{"id":"0-a","level":2,"choices":{"text":["wren","robin"],"label":["A","B"]},"audio":{"bytes":{"blob":0},"path":"w.wav"}}"#;
        let rows = rows_of("x.parquet", &parquet_bytes(3));
        assert_eq!(rows.len(), 6);
        assert_eq!(rows[0], first);
        assert!(
            rows[5].starts_with(r#"{"id":"2-b","level":null,"choices":{"text":["finch"]"#),
            "{}",
            rows[5]
        );

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        std::fs::write(&path, parquet_bytes(3)).unwrap();
        let rows = Rows::open_all([&path, &path]).unwrap();
        for index in [11, 0, 4, 3, 10] {
            let id = format!("{}-{}", index % 6 / 2, ["a", "b"][index % 2]);
            assert_eq!(rows.get(index).unwrap().text("id").unwrap(), id);
        }
        assert_eq!(rows.get(6).unwrap().blobs, [b"RIFF".to_vec()]);
        assert_eq!(rows.get(12).unwrap_err().message, "there is no row 13, there are 12");
        assert!(
            rows.get(8)
                .unwrap()
                .wrong("level", "is odd")
                .message
                .starts_with("row 3 of `")
        );
    }

    #[test]
    fn files_that_are_not_what_they_are_called() {
        let broken = rows_of("x.parquet", b"PAR1 and nothing more");
        assert!(
            broken[0].starts_with("`x.parquet` is not a Parquet file: "),
            "{broken:?}"
        );
        let cut = &packed(&[b'x'; 1000])[..20];
        assert!(rows_of("x.jsonl.gz", cut)[0].starts_with("cannot read `x.jsonl.gz`: "));
        assert_eq!(
            rows_of("x.txt", b"")[0],
            "cannot tell the format of `x.txt` from its name"
        );
        assert_eq!(Rows::open("/no/such.jsonl").err().unwrap().code, Code::MISSING);
    }

    #[test]
    fn what_unpacks_without_end_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bomb.jsonl.gz");
        std::fs::write(&path, packed(&[b' '; 1 << 20])).unwrap();
        assert!(read_text(&path, true, 1 << 20).is_ok());
        let error = read_text(&path, true, (1 << 20) - 1).unwrap_err();
        assert!(
            error.message.ends_with("holds more than 1048575 bytes of text"),
            "{error}"
        );
    }

    #[test]
    fn a_file_that_shrinks_while_in_use_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.jsonl");
        std::fs::write(&path, "{\"a\": 1}\n{\"a\": 2}\n").unwrap();
        let rows = Rows::open(&path).unwrap();
        std::fs::write(&path, "{\"a\": 3}").unwrap();
        assert_eq!(rows.get(0).unwrap().value, json!({"a": 3}));
        assert!(rows.get(1).unwrap_err().message.ends_with("can't be read"));
    }
}
