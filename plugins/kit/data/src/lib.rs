//! Reads the rows of data sets: JSON lines, JSON, CSV and Parquet; text formats also as `.gz`.
//!
//! The decision a newcomer would question: a row is a [`serde_json::Value`] and not the task's own struct. Published
//! layouts differ in small ways, and with the value an error can name the file, line and field at fault. A broken row
//! does not fail the file: [`Rows::get`] fails for it alone, so a run records it and goes on.
//!
//! ```
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("birds.jsonl");
//! std::fs::write(&path, "{\"name\": \"wren\", \"eggs\": 6}\nnot json\n").unwrap();
//!
//! let rows = data::Rows::open(&path).unwrap();
//! assert_eq!(rows.len(), 2);
//! let wren = rows.get(0).unwrap();
//! assert_eq!(wren.text("name").unwrap(), "wren");
//! assert!(wren.text("eggs").unwrap_err().message.ends_with("field `eggs` is the number 6, expected text"));
//! assert!(rows.get(1).unwrap_err().message.starts_with("line 2 of "));
//! ```

mod beside;
mod by_id;
mod bytes;
mod find;
mod json;
mod lines;
mod parquet;
mod python;
mod row;
mod rows;
mod source;
mod table;

pub use beside::{beside, sound_beside};
pub use by_id::by_id;
pub use find::{Part, find};
pub use row::{Place, Row};
pub use rows::{Format, Rows};

#[cfg(test)]
mod junk;
