//! A question's attachment, as far as a model can take it.
//!
//! Text goes into the prompt up to a limit, and audio as a clip. Other files (spreadsheets, pictures, archives) are
//! reported as not read, and the run counts such questions.

use data::Row;
use plugin_api::{Context, Result};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

const SOUND: [&str; 7] = ["mp3", "wav", "m4a", "flac", "ogg", "aac", "aiff"];

/// Extensions of plain text files. Other files may be text, but their names do not say so.
#[rustfmt::skip]
const TEXT: [&str; 36] = [
    "txt", "md", "csv", "tsv", "json", "jsonl", "jsonld", "ndjson", "xml", "html", "htm", "yaml", "yml", "toml", "ini", "cfg",
    "log", "rst", "tex", "py", "js", "ts", "java", "c", "h", "cpp", "rs", "go", "rb", "sh", "sql", "r", "pdb", "fasta", "srt",
    "svg",
];

/// What a question has attached to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Attachment {
    None,
    Text {
        name: String,
        text: String,
        cut: bool,
    },
    Sound {
        name: String,
        path: PathBuf,
    },
    /// Of a type that is not read.
    NotRead {
        name: String,
    },
    /// Not in the folder.
    Missing {
        name: String,
    },
}

impl Attachment {
    /// The attachment of a row, with at most `most` bytes of text.
    pub fn of(row: &Row, folders: &[PathBuf], most: usize) -> Result<Attachment> {
        let Some(given) = named(row)? else {
            return Ok(Attachment::None);
        };
        let name = given.rsplit('/').next().unwrap_or(given).to_owned();
        // Newer copies name it by its path from the data set's root.
        let found = data::beside(folders, given).or_else(|| data::beside(folders, &name));
        let Some(path) = found else {
            return Ok(Attachment::Missing { name });
        };
        let ending = Path::new(&name)
            .extension()
            .map(|ending| ending.to_string_lossy().to_lowercase());
        let is_one_of = |endings: &[&str]| ending.as_deref().is_some_and(|ending| endings.contains(&ending));
        if is_one_of(&SOUND) {
            return Ok(Attachment::Sound { name, path });
        }
        if !is_one_of(&TEXT) {
            return Ok(Attachment::NotRead { name });
        }
        let bytes =
            beginning(&path, most).with_context(|| format!("{}: cannot read `{}`", row.place, path.display()))?;
        Ok(match text(bytes, most) {
            Some((text, cut)) => Attachment::Text { name, text, cut },
            None => Attachment::NotRead { name },
        })
    }

    /// Its group in results.
    pub fn word(&self) -> &'static str {
        match self {
            Attachment::None => "none",
            Attachment::Text { cut: false, .. } => "text",
            Attachment::Text { cut: true, .. } => "text, cut short",
            Attachment::Sound { .. } => "sound",
            Attachment::NotRead { .. } => "not read",
            Attachment::Missing { .. } => "missing",
        }
    }

    pub fn name(&self) -> Option<&str> {
        match self {
            Attachment::None => None,
            Attachment::Text { name, .. }
            | Attachment::Sound { name, .. }
            | Attachment::NotRead { name }
            | Attachment::Missing { name } => Some(name),
        }
    }

    pub fn text(&self) -> Option<&str> {
        match self {
            Attachment::Text { text, .. } => Some(text),
            _ => None,
        }
    }
}

/// The attachment's name or path, as the row has it.
fn named(row: &Row) -> Result<Option<&str>> {
    for field in ["file_path", "file_name"] {
        if row.at(field).is_some() {
            let name = row.text(field)?.trim();
            if !name.is_empty() {
                return Ok(Some(name));
            }
        }
    }
    Ok(None)
}

/// Reads one byte more than needed, to know whether there is more.
fn beginning(path: &Path, most: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The text of these bytes, and whether it was cut; none if they are not text.
fn text(mut bytes: Vec<u8>, most: usize) -> Option<(String, bool)> {
    let cut = bytes.len() > most;
    bytes.truncate(most);
    if bytes.contains(&0) {
        return None;
    }
    let whole = match std::str::from_utf8(&bytes) {
        Ok(text) => text.len(),
        // A character that the limit splits is left out.
        Err(error) if cut && error.error_len().is_none() => error.valid_up_to(),
        Err(_) => return None,
    };
    bytes.truncate(whole);
    let text = String::from_utf8(bytes).ok()?;
    Some((text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text), cut))
}

#[cfg(test)]
mod tests {
    use super::*;
    use data::Place;
    use serde_json::json;

    #[track_caller]
    fn check(name: &str, bytes: &[u8], word: &str, text: Option<&str>) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name.rsplit('/').next().unwrap()), bytes).unwrap();
        let row = Row::new(json!({"file_name": name}), Place::Sample("x".to_owned()));
        let found = Attachment::of(&row, &[folder.path().to_owned()], 8).unwrap();
        assert_eq!((found.word(), found.text()), (word, text), "{name}");
    }

    #[test]
    fn text_goes_into_the_prompt_up_to_a_bound() {
        check("a.csv", b"a,b\n1,2", "text", Some("a,b\n1,2"));
        check("a.TXT", b"", "text", Some(""));
        check("a.md", b"123456789", "text, cut short", Some("12345678"));
        check("a.txt", "1234567é8".as_bytes(), "text, cut short", Some("1234567"));
        check("a.txt", "\u{feff}x".as_bytes(), "text", Some("x"));
        check("2023/validation/a.txt", b"x", "text", Some("x"));
    }

    #[test]
    fn what_is_no_text_is_not_read() {
        check("a.txt", b"\xff\xfe", "not read", None);
        check("a.csv", b"a\0b", "not read", None);
        check("a.xlsx", b"PK", "not read", None);
        check("a", b"x", "not read", None);
        check("a.mp3", b"", "sound", None);
    }

    #[test]
    fn what_is_not_there_is_missing() {
        let row = |value| Row::new(value, Place::Sample("x".to_owned()));
        let word = |value| Attachment::of(&row(value), &["/nowhere".into()], 8).unwrap().word();
        assert_eq!(word(json!({"file_name": "a.txt"})), "missing");
        assert_eq!(word(json!({"file_name": "../../etc/passwd"})), "missing");
        assert_eq!(word(json!({"file_name": "", "file_path": null})), "none");
        assert!(Attachment::of(&row(json!({"file_name": 3})), &[], 8).is_err());
    }
}
