use std::path::PathBuf;

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read `{path}`")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("`{path}` is malformed: {reason}")]
    Malformed { path: PathBuf, reason: String },
    #[error("`{folder}` holds several GGUF files: {names}")]
    Several { folder: PathBuf, names: String },
}

pub type Result<T> = std::result::Result<T, Error>;
