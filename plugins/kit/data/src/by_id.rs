//! Rows of several files by their ids, to look up expected answers.

use crate::{Row, Rows};
use plugin_api::Result;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;

/// Applies `read` to every row of these files and returns the results by the row's id.
///
/// It is an error if a file has an id twice, if two files differ on an id, or if a row cannot be read: silently
/// picking one would give wrong figures that look plausible.
pub fn by_id<P, T, F>(files: &[P], read: F) -> Result<HashMap<String, T>>
where
    P: AsRef<Path>,
    T: PartialEq,
    F: Fn(&Row) -> Result<(String, T)>,
{
    let mut found: HashMap<String, (usize, T)> = HashMap::new();
    for (file, path) in files.iter().enumerate() {
        for row in Rows::open(path)?.iter() {
            let row = row?;
            let (id, value) = read(&row)?;
            match found.entry(id) {
                Entry::Vacant(place) => drop(place.insert((file, value))),
                Entry::Occupied(former) => {
                    let (before, known) = former.get();
                    if *before == file || *known != value {
                        let why = format!("has the id `{}`, which an earlier row has", former.key());
                        return Err(row.place.broken(why).help("ids must be unique"));
                    }
                }
            }
        }
    }
    Ok(found.into_iter().map(|(id, (_, value))| (id, value)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(files: &[&str], expected: std::result::Result<usize, &str>) {
        let folder = tempfile::tempdir().unwrap();
        let mut paths = Vec::new();
        for (index, text) in files.iter().enumerate() {
            paths.push(folder.path().join(format!("{index}.jsonl")));
            std::fs::write(&paths[index], text).unwrap();
        }
        let read = |row: &Row| Ok((row.word("id")?.into_owned(), row.number("x")?));
        match (by_id(&paths, read), expected) {
            (Ok(found), Ok(count)) => assert_eq!(found.len(), count),
            (Err(error), Err(words)) => assert!(error.message.contains(words), "{error}"),
            (found, _) => panic!("{files:?}: {found:?}"),
        }
    }

    #[test]
    fn an_id_says_one_thing() {
        let (one, two) = ("{\"id\": \"a\", \"x\": 1}\n", "{\"id\": \"a\", \"x\": 2}\n");
        check(&[one, one], Ok(1));
        check(&[one, "{\"id\": 7, \"x\": 1}"], Ok(2));
        check(&[one, two], Err("line 1 of `"));
        check(&[&one.repeat(2)], Err("line 2 of `"));
        check(&[one, "{\"id\": \"b\"}"], Err("field `x` is missing"));
        check(&[], Ok(0));
    }
}
