//! The files that people exchange about a task: answers that other tools made, and those that a run is written as.

use super::Rows;
use crate::wire::{unknown_method, Adapter, Callbacks, Envelope};
use crate::{Code, Error, Result, Settings};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::PathBuf;

/// A task's files.
///
/// It is separate from the [`crate::Task`] of the same name, since scoring a file needs none of the data that a task
/// is created with. Whatever a task's official scorer reads and writes belongs here, in its format and by its rules.
/// All methods may be called from several threads at once.
///
/// ```
/// use plugin_api::{register_files, FileAnswers, FileKind, FileScores, FilesCard, Result, OfficialFiles};
///
/// struct Sums;
///
/// impl OfficialFiles for Sums {
///     fn card(&self) -> FilesCard {
///         FilesCard::default().reads(FileKind::new("predictions", "lines of `1 + 2 = 3`"))
///     }
///
///     fn score(&self, answers: &FileAnswers) -> Result<FileScores> {
///         let text = std::fs::read_to_string(&answers.file)?;
///         let right = |line: &str| {
///             let (sum, said) = line.split_once(" = ")?;
///             let (a, b) = sum.split_once(" + ")?;
///             let number = |text: &str| text.parse::<u64>().ok();
///             Some(number(a)?.checked_add(number(b)?)? == number(said)?)
///         };
///         let verdicts: Vec<bool> = text.lines().map(|line| right(line) == Some(true)).collect();
///         let correct = verdicts.iter().filter(|right| **right).count();
///         let accuracy = correct as f64 / verdicts.len().max(1) as f64;
///         Ok(FileScores::of(verdicts.len()).metric("accuracy", accuracy))
///     }
/// }
///
/// register_files!("sums", "lines of `1 + 2 = 3`", |_settings| Ok(Sums));
/// # fn main() {}
/// ```
pub trait OfficialFiles: Send + Sync {
    /// What can be read and written.
    fn card(&self) -> FilesCard;

    /// Scores the answers in a file as the official scorer does.
    ///
    /// Every row that can be judged gets a verdict, whatever its content; a malformed file is an error that names the
    /// file and the row.
    fn score(&self, _answers: &FileAnswers) -> Result<FileScores> {
        Err(Error::not_implemented("this task scores no files"))
    }

    /// Writes a run in a format of [`FilesCard::exports`]. The rows are the answered samples with their replies.
    fn export(&self, _format: &str, _rows: &mut Rows, _out: &mut Output) -> Result<()> {
        Err(Error::not_implemented("this task writes no files"))
    }

    /// Converts other tools' files, by a conversion of [`FilesCard::conversions`].
    fn convert(&self, _conversion: &str, _files: &[PathBuf], _out: &mut Output) -> Result<()> {
        Err(Error::not_implemented("this task converts no files"))
    }
}

/// One kind of file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FileKind {
    /// What it is called on the command line: `predictions`, `judge_replies`, `loglikelihoods`.
    pub name: String,
    /// What is in it, in a line.
    pub about: String,
    /// True when the data with the right answers must be given as well.
    pub needs_gold: bool,
}

impl FileKind {
    /// A kind of file that can be read without the data.
    pub fn new(name: impl Into<String>, about: impl Into<String>) -> Self {
        FileKind {
            name: name.into(),
            about: about.into(),
            needs_gold: false,
        }
    }

    /// The same kind, which needs the data with the right answers beside it.
    pub fn with_gold(mut self) -> Self {
        self.needs_gold = true;
        self
    }
}

/// What a task's files can be.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FilesCard {
    /// Answers that [`OfficialFiles::score`] reads.
    pub scores: Vec<FileKind>,
    /// Formats that [`OfficialFiles::export`] writes.
    pub exports: Vec<FileKind>,
    /// What [`OfficialFiles::convert`] can do.
    pub conversions: Vec<FileKind>,
    /// Fields that this version doesn't know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl FilesCard {
    /// Adds a kind of answers.
    pub fn reads(mut self, kind: FileKind) -> Self {
        self.scores.push(kind);
        self
    }

    /// Adds a format.
    pub fn writes(mut self, kind: FileKind) -> Self {
        self.exports.push(kind);
        self
    }

    /// Adds a conversion.
    pub fn converts(mut self, kind: FileKind) -> Self {
        self.conversions.push(kind);
        self
    }
}

/// A file of answers.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FileAnswers {
    /// Which of [`FilesCard::scores`] they are.
    pub kind: String,
    /// The file.
    pub file: PathBuf,
    /// Files with the right answers, read one after another.
    pub gold: Vec<PathBuf>,
    /// True if [`FileScores::rows`] should be filled.
    pub rows: bool,
}

/// The scores of answers. The report shows `other` beside `n`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FileScores {
    /// The answers that count in the metrics.
    pub n: u64,
    /// The examples in the data; none where there is no data.
    pub gold_total: Option<u64>,
    /// The figures, by the names of the official scorer.
    pub metrics: Map<String, Value>,
    /// A verdict an answer, in the order of the file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<Value>,
    /// Warnings for readers, one sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Further counts.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl FileScores {
    /// The scores of this many answers.
    pub fn of(n: usize) -> Self {
        FileScores {
            n: n as u64,
            ..FileScores::default()
        }
    }

    /// Adds a figure.
    pub fn metric(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.metrics.insert(name.into(), value.into());
        self
    }

    /// Adds a further count.
    pub fn count(mut self, name: impl Into<String>, count: impl Into<Value>) -> Self {
        self.other.insert(name.into(), count.into());
        self
    }
}

/// The files that an export or a conversion writes. The host decides where they are, so a name is not a path.
pub struct Output<'a> {
    host: &'a dyn Callbacks,
    file: String,
    text: String,
}

/// The size at which text is handed to the host.
const PAGE_BYTES: usize = 1 << 16;

impl<'a> Output<'a> {
    /// The files of this host.
    pub fn new(host: &'a dyn Callbacks) -> Self {
        Output {
            host,
            file: String::new(),
            text: String::new(),
        }
    }

    /// Adds text to the file of this name, which is made when it isn't there.
    pub fn write(&mut self, file: &str, text: &str) -> Result<()> {
        if file != self.file || self.text.len() + text.len() > PAGE_BYTES {
            self.flush()?;
            file.clone_into(&mut self.file);
        }
        self.text.push_str(text);
        Ok(())
    }

    /// Adds a line of JSON to the file of this name.
    pub fn line<T: Serialize + ?Sized>(&mut self, file: &str, value: &T) -> Result<()> {
        let line = serde_json::to_string(value)
            .map_err(|why| Error::msg(format!("cannot write a line of `{file}`")).cause(why.to_string()))?;
        self.write(file, &(line + "\n"))
    }

    /// Hands the rest to the host. Done by the caller of [`OfficialFiles`]; only tests need it.
    pub fn flush(&mut self) -> Result<()> {
        if self.file.is_empty() {
            return Ok(());
        }
        let piece = Piece {
            file: std::mem::take(&mut self.file),
            text: std::mem::take(&mut self.text),
        };
        match self.host.emit("write", Envelope::of(&piece)?) {
            true => Ok(()),
            false => Err(Error::new(Code::CANCELLED, "the host takes no more of the file")),
        }
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Piece {
    pub file: String,
    pub text: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct WriteRequest {
    pub format: String,
    pub files: Vec<PathBuf>,
}

/// The word under which layer 1 creates a task's files. It is not a [`crate::Kind`]: older hosts would refuse a plugin
/// with an unknown kind, but ignore an unknown record.
pub const WORD: &str = "files";

/// Makes a task's files from settings.
pub type MakeFiles = fn(&Settings) -> Result<Box<dyn OfficialFiles>>;

/// A task's files, as `inventory` keeps them.
pub struct FilesRegistration {
    #[doc(hidden)]
    pub task: &'static str,
    #[doc(hidden)]
    pub make: MakeFiles,
}

inventory::collect!(FilesRegistration);

/// Makes the files of one of this library's tasks. The host does this through layer 1; a plugin's own tests do it
/// directly.
pub fn make_files(task: &str, settings: &Settings) -> Result<Box<dyn Adapter>> {
    let mut all = inventory::iter::<FilesRegistration>.into_iter();
    match all.find(|found| found.task == task) {
        Some(found) => Ok(Box::new(FilesAdapter((found.make)(settings)?))),
        None => Err(Error::new(
            Code::MISSING,
            format!("this plugin holds no files of a task `{task}`"),
        )),
    }
}

/// The methods of a task's files by their names on the wire.
struct FilesAdapter(Box<dyn OfficialFiles>);

impl Adapter for FilesAdapter {
    fn call(&self, method: &str, input: Envelope, host: &dyn Callbacks) -> Result<Envelope> {
        let files = &self.0;
        let mut out = Output::new(host);
        match method {
            "card" => Envelope::of(&files.card()),
            "score" => Envelope::of(&files.score(&input.read()?)?),
            "export" => {
                let request: WriteRequest = input.read()?;
                files.export(&request.format, &mut Rows::new(host), &mut out)?;
                out.flush()?;
                Ok(Envelope::of(&())?)
            }
            "convert" => {
                let request: WriteRequest = input.read()?;
                files.convert(&request.format, &request.files, &mut out)?;
                out.flush()?;
                Ok(Envelope::of(&())?)
            }
            _ => Err(unknown_method("task's files", method)),
        }
    }
}

/// Announces a task's [`OfficialFiles`]: the task's name, a line about them, and a function from [`Settings`] (which
/// are empty so far) to them. Older hosts ignore it.
#[macro_export]
macro_rules! register_files {
    ($task:literal, $about:literal, $make:expr $(,)?) => {
        const _: () = {
            fn make(settings: &$crate::Settings) -> $crate::Result<::std::boxed::Box<dyn $crate::OfficialFiles>> {
                fn given<T, F: Fn(&$crate::Settings) -> $crate::Result<T>>(make: F) -> F {
                    make
                }
                match given($make)(settings) {
                    Ok(files) => Ok(::std::boxed::Box::new(files)),
                    Err(error) => Err(error),
                }
            }
            $crate::__private::inventory::submit! {
                $crate::__private::FilesRegistration { task: $task, make }
            }
            $crate::__note!(
                "{\"record\":\"files\",\"task\":",
                stringify!($task),
                ",\"about\":",
                stringify!($about),
                "}"
            );
        };
    };
}

#[cfg(all(test, feature = "host"))]
mod tests {
    use super::*;
    use crate::client::{FilesClient, Pages};
    use crate::{NoCallbacks, Reply, Row};
    use std::sync::{Arc, Mutex};

    struct Lines;

    impl OfficialFiles for Lines {
        fn card(&self) -> FilesCard {
            FilesCard::default().writes(FileKind::new("lines", "what was said"))
        }

        fn export(&self, format: &str, rows: &mut Rows, out: &mut Output) -> Result<()> {
            for row in rows {
                let text = row?.reply.unwrap_or_default().text;
                out.line(&format!("{format}.jsonl"), &text)?;
                out.write("count.txt", "x")?;
            }
            Ok(())
        }

        fn convert(&self, _conversion: &str, files: &[PathBuf], out: &mut Output) -> Result<()> {
            out.write("big.txt", &"é".repeat(PAGE_BYTES * 2))?;
            out.line("names.jsonl", files)
        }
    }

    struct Three(Mutex<u32>);

    impl Pages for Three {
        fn page(&self) -> Result<Vec<Row>> {
            let mut given = self.0.lock().unwrap();
            *given += 1;
            let reply = Some(Reply::text(format!("{given}\n")));
            let row = Row {
                reply,
                ..Row::default()
            };
            Ok(if *given <= 3 { vec![row] } else { Vec::new() })
        }
    }

    fn client() -> FilesClient {
        FilesClient(Arc::new(FilesAdapter(Box::new(Lines))))
    }

    #[test]
    fn what_is_written_arrives_in_order_and_file_by_file() {
        let texts = Mutex::new(std::collections::BTreeMap::<String, String>::new());
        let write = |file: &str, text: &str| {
            texts.lock().unwrap().entry(file.to_owned()).or_default().push_str(text);
            true
        };
        client().export("said", &Three(Mutex::default()), &write).unwrap();
        client().convert("any", &["a".into()], &write).unwrap();
        let texts = texts.into_inner().unwrap();
        assert_eq!(texts["said.jsonl"], "\"1\\n\"\n\"2\\n\"\n\"3\\n\"\n");
        assert_eq!(
            (texts["count.txt"].as_str(), texts["names.jsonl"].as_str()),
            ("xxx", "[\"a\"]\n")
        );
        assert_eq!(texts["big.txt"].chars().count(), PAGE_BYTES * 2);
    }

    #[test]
    fn a_host_that_can_not_write_ends_it() {
        let error = client().convert("any", &[], &|_, _| false).unwrap_err();
        assert_eq!(error.code, Code::CANCELLED);
    }

    #[test]
    fn what_is_not_written_is_told_from_what_is_unsupported() {
        assert_eq!(
            client().score(&FileAnswers::default()).unwrap_err().code,
            Code::NOT_IMPLEMENTED
        );
        let call = client().0.call("dance", Envelope::default(), &NoCallbacks);
        assert_eq!(call.unwrap_err().code, Code::NOT_IMPLEMENTED);
        assert_eq!(
            make_files("none", &Settings::default()).err().unwrap().code,
            Code::MISSING
        );
    }

    #[test]
    fn scores_keep_what_a_later_version_adds() {
        let scores = FileScores::of(2).metric("accuracy", 0.5).count("unknown", 3);
        let text = serde_json::to_string(&scores).unwrap();
        assert_eq!(
            text,
            r#"{"n":2,"gold_total":null,"metrics":{"accuracy":0.5},"unknown":3}"#
        );
        assert_eq!(serde_json::from_str::<FileScores>(&text).unwrap(), scores);
    }
}
