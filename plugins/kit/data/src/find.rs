//! Finds the files of one part of a data set, in the layouts in which data sets are published.

use crate::rows::Format;
use plugin_api::{Code, Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One part of a data set.
///
/// ```
/// use data::Part;
///
/// let dev = Part { subset: Some("ARC-Easy"), split: &["validation", "dev"] };
/// assert!(dev.is_named_by("ARC-Easy/validation-00000-of-00001.parquet")); // the hub's snapshot
/// assert!(dev.is_named_by("ARC-Easy/validation/0000.parquet")); // the hub's converted branch
/// assert!(dev.is_named_by("ARC-V1/ARC-Easy/ARC-Easy-Dev.jsonl")); // as its authors packed it
/// assert!(!dev.is_named_by("ARC-Easy/test-00000-of-00001.parquet"));
/// assert!(!dev.is_named_by("ARC-Challenge/validation.jsonl"));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// The configuration, where there are several: `ARC-Easy`.
    pub subset: Option<&'a str>,
    /// The names of the split, the usual one first.
    pub split: &'a [&'a str],
}

/// How deep folders are searched, and how many entries are looked at: enough for any published layout, with a limit in
/// case somebody names a home folder.
const DEEPEST: usize = 4;
const MOST_ENTRIES: usize = 20_000;

/// The files of a part: `path` itself if it is a file, else those of the folder that are named after the part.
///
/// If a part exists in several formats, Parquet is taken before JSON lines, JSON and CSV. A set of numbered files must
/// be complete.
pub fn find(path: &Path, part: Part) -> Result<Vec<PathBuf>> {
    let failed = |why: std::io::Error| {
        let code = match why.kind() {
            std::io::ErrorKind::NotFound => Code::MISSING,
            _ => Code::DATA,
        };
        Error::new(code, format!("cannot open `{}`", path.display())).cause(why.to_string())
    };
    if path.metadata().map_err(failed)?.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    collect(path, 0, &mut 0, &mut files).map_err(failed)?;
    files.sort();
    // The folder's own name may name the subset.
    let above = path.parent().unwrap_or(path);
    let mut sets: BTreeMap<(Format, PathBuf, String), Vec<PathBuf>> = BTreeMap::new();
    for file in &files {
        let Some((format, packed)) = Format::of(file) else {
            continue;
        };
        let name = file.strip_prefix(above).unwrap_or(file).to_string_lossy().into_owned();
        if part.is_named_by(&name) {
            let folder = file.parent().unwrap_or(path).to_owned();
            let name = shard(&stem(file)).map_or_else(|| stem(file), |(name, _)| name.to_owned());
            let set = (format, folder, format!("{name}{}", if packed { ".gz" } else { "" }));
            sets.entry(set).or_default().push(file.clone());
        }
    }
    let Some(best) = sets.keys().next().map(|(format, ..)| *format) else {
        return Err(part.not_in(path, &files));
    };
    let mut fitting: Vec<Vec<PathBuf>> = sets
        .into_iter()
        .filter(|((format, ..), _)| *format == best)
        .map(|(_, files)| files)
        .collect();
    if fitting.len() > 1 {
        let names: Vec<_> = fitting
            .iter()
            .map(|files| format!("`{}`", files[0].display()))
            .collect();
        let message = format!("several files are named after {part}: {}", names.join(", "));
        return Err(Error::new(Code::DATA, message).help("name one of them as the data"));
    }
    let files = fitting.swap_remove(0);
    complete(&files)?;
    Ok(files)
}

impl Part<'_> {
    /// Whether a path, relative to the data set's folder, names this part. Case, `-` and `_` don't matter.
    pub fn is_named_by(&self, path: &str) -> bool {
        let path = Path::new(path);
        let stem = stem(path);
        let name = shard(&stem).map_or(stem.as_str(), |(name, _)| name);
        let folders: Vec<String> = path
            .parent()
            .into_iter()
            .flat_map(Path::components)
            .map(plain_component)
            .collect();
        let mut name = name.to_owned();
        if let Some(subset) = self.subset.map(plain) {
            match name
                .strip_prefix(&subset)
                .map(|rest| rest.trim_start_matches('-').to_owned())
            {
                Some(rest) => name = rest,
                None if folders.contains(&subset) => {}
                None => return false,
            }
        }
        let split = self.split.iter().map(|split| plain(split));
        let numbered = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
        let folder = folders.last().filter(|_| numbered);
        split.into_iter().any(|split| split == name || folder == Some(&split))
    }

    fn not_in(&self, path: &Path, files: &[PathBuf]) -> Error {
        let message = format!("`{}` holds no file for {self}", path.display());
        let data: Vec<_> = files.iter().filter(|file| Format::of(file).is_some()).collect();
        let error = Error::new(Code::MISSING, message);
        match data.as_slice() {
            [] => error.help("it holds no data file at all; was the data set fetched whole?"),
            some => {
                let names = some.iter().take(6).map(|file| file.strip_prefix(path).unwrap_or(file));
                let names: Vec<_> = names.map(|name| format!("`{}`", name.display())).collect();
                error.help(format!(
                    "it holds {}; a single file can be named as the data",
                    names.join(", ")
                ))
            }
        }
    }
}

impl std::fmt::Display for Part<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let split = self.split.first().unwrap_or(&"its only split");
        match self.subset {
            Some(subset) => write!(f, "{subset}, {split}"),
            None => f.write_str(split),
        }
    }
}

fn collect(folder: &Path, depth: usize, seen: &mut usize, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in folder.read_dir()? {
        let path = entry?.path();
        *seen += 1;
        if *seen > MOST_ENTRIES {
            break;
        }
        let hidden = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        // The hub's cache consists of links, so check their targets.
        match path.metadata() {
            Ok(about) if about.is_file() && !hidden => files.push(path),
            Ok(about) if about.is_dir() && !hidden && depth < DEEPEST => collect(&path, depth + 1, seen, files)?,
            _ => {}
        }
    }
    Ok(())
}

/// The number and the count in `test-00001-of-00003`.
fn shard(stem: &str) -> Option<(&str, (usize, usize))> {
    let (rest, of) = stem.rsplit_once("-of-")?;
    let (name, index) = rest.rsplit_once('-')?;
    Some((name, (index.parse().ok()?, of.parse().ok()?)))
}

fn complete(files: &[PathBuf]) -> Result<()> {
    let Some((_, (_, of))) = shard(&stem(&files[0])).map(|(name, at)| (name.to_owned(), at)) else {
        return Ok(());
    };
    if files.len() == of {
        return Ok(());
    }
    let message = format!(
        "there are {} of {of} files beside `{}`",
        files.len(),
        files[0].display()
    );
    Err(Error::new(Code::MISSING, message).help("fetch the data set again"))
}

/// The file's name without extensions, normalised for comparison.
fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    plain(name.split('.').next().unwrap_or_default())
}

fn plain_component(component: std::path::Component) -> String {
    plain(&component.as_os_str().to_string_lossy())
}

fn plain(name: &str) -> String {
    name.to_lowercase().replace(['_', ' '], "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    const EASY_TEST: Part = Part {
        subset: Some("ARC-Easy"),
        split: &["test"],
    };

    #[track_caller]
    fn check(files: &[&str], expected: std::result::Result<&[&str], &str>) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("set");
        std::fs::create_dir(&root).unwrap();
        for file in files {
            let path = root.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        match (find(&root, EASY_TEST), expected) {
            (Ok(found), Ok(expected)) => {
                let found: Vec<_> = found
                    .iter()
                    .map(|path| path.strip_prefix(&root).unwrap().to_str().unwrap())
                    .collect();
                assert_eq!(found, expected);
            }
            (Err(error), Err(words)) => assert!(error.message.contains(words), "{error}"),
            (found, _) => panic!("{files:?}: {found:?}"),
        }
    }

    #[test]
    fn every_published_layout_is_found() {
        check(
            &["ARC-Easy-Test.jsonl", "ARC-Easy-Dev.jsonl", "ARC-Challenge-Test.jsonl"],
            Ok(&["ARC-Easy-Test.jsonl"]),
        );
        check(&["arc_easy_test.jsonl.gz"], Ok(&["arc_easy_test.jsonl.gz"]));
        check(&["README.md", "ARC-Easy/test.json"], Ok(&["ARC-Easy/test.json"]));
        let authors = [
            "ARC-V1/ARC-Easy/ARC-Easy-Test.csv",
            "ARC-V1/ARC-Easy/ARC-Easy-Test.jsonl",
        ];
        check(&authors, Ok(&["ARC-V1/ARC-Easy/ARC-Easy-Test.jsonl"]));
        let hub = [
            "ARC-Easy/test-00000-of-00002.parquet",
            "ARC-Easy/test-00001-of-00002.parquet",
        ];
        check(&hub, Ok(&hub));
        let converted = [
            "ARC-Easy/test/0000.parquet",
            "ARC-Easy/test/0001.parquet",
            "ARC-Easy/train/0000.parquet",
        ];
        check(&converted[..1], Ok(&converted[..1]));
    }

    #[test]
    fn what_is_not_there_or_not_whole_or_not_clear_is_said() {
        check(&[], Err("holds no file for ARC-Easy, test"));
        check(
            &["ARC-Challenge/test.jsonl", "test.jsonl"],
            Err("holds no file for ARC-Easy, test"),
        );
        check(&["ARC-Easy-Test-part.jsonl"], Err("holds no file for ARC-Easy, test"));
        check(&["ARC-Easy/test-00001-of-00002.parquet"], Err("1 of 2 files"));
        check(
            &["a/ARC-Easy/test.jsonl", "b/ARC-Easy/test.jsonl"],
            Err("several files are named after ARC-Easy, test"),
        );
    }

    #[test]
    fn the_folder_itself_may_be_the_subset() {
        let folder = tempfile::tempdir().unwrap();
        let (easy, challenge) = (folder.path().join("ARC-Easy"), folder.path().join("ARC-Challenge"));
        for root in [&easy, &challenge] {
            std::fs::create_dir(root).unwrap();
            std::fs::write(root.join("test.jsonl"), "").unwrap();
        }
        assert_eq!(find(&easy, EASY_TEST).unwrap(), [easy.join("test.jsonl")]);
        assert_eq!(find(&challenge, EASY_TEST).unwrap_err().code, Code::MISSING);
        assert_eq!(
            find(&folder.path().join("none"), EASY_TEST).unwrap_err().code,
            Code::MISSING
        );
    }
}
