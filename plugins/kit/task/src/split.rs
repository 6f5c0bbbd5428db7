use data::Rows;
use plugin_api::{Code, Error, Result};
use std::path::Path;

/// The value of a setting; without one, what the name of the file or of its folder says.
///
/// The setting and the name must not contradict each other: results under the wrong name would look plausible. A known
/// word of several parts (`train_synthetic`) counts before one of its parts (`train`).
pub fn agreed<T: Copy + PartialEq>(
    name: &str,
    given: Option<T>,
    file: &Path,
    known: &[(&str, T)],
) -> Result<Option<T>> {
    let named = file.iter().rev().take(2).find_map(|component| {
        let spelled = component.to_string_lossy().to_lowercase();
        let parts: Vec<&str> = spelled.split(|letter: char| !letter.is_alphanumeric()).collect();
        // Ranked by the number of parts, then by where the word ends: the last of the longest counts.
        let found = known.iter().filter_map(|(word, value)| {
            let wanted: Vec<&str> = word.split('_').collect();
            let place = parts.windows(wanted.len()).rposition(|window| *window == wanted[..])?;
            Some(((wanted.len(), place), (*word, *value)))
        });
        found.max_by_key(|(rank, _)| *rank).map(|(_, found)| found)
    });
    match (given, named) {
        (Some(given), Some((word, says))) if given != says => {
            let file = file.display();
            let message = format!("setting `{name}` contradicts the name of `{file}`, which says `{word}`");
            Err(Error::new(Code::SETTINGS, message).help(format!("leave `{name}` out, or name another file")))
        }
        (given, named) => Ok(given.or(named.map(|(_, value)| value))),
    }
}

/// Adds a hint to the error of a search that found no file.
pub fn found_or<T>(found: Result<T>, help: &str) -> Result<T> {
    found.map_err(|error| match error.help {
        None if error.code == Code::MISSING => error.help(help),
        _ => error,
    })
}

/// Refuses data without rows.
pub fn not_empty(rows: Rows, data: &Path) -> Result<Rows> {
    match rows.is_empty() {
        true => Err(Error::new(Code::DATA, format!("`{}` holds no rows", data.display()))),
        false => Ok(rows),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [(&str, u8); 4] = [("test", 0), ("train", 1), ("train_synthetic", 2), ("private_test", 3)];

    #[test]
    fn a_name_says_the_split_by_its_longest_known_word() {
        let named = |file: &str| agreed("split", None, Path::new(file), &KNOWN).unwrap();
        assert_eq!(named("ARC-Easy-Test.jsonl"), Some(0));
        assert_eq!(named("train_synthetic.jsonl"), Some(2));
        assert_eq!(named("private_test.json"), Some(3));
        assert_eq!(named("train/rows.jsonl"), Some(1));
        assert_eq!(named("trained.jsonl"), None);
    }

    #[test]
    fn a_setting_must_not_contradict_the_name() {
        let error = agreed("split", Some(1), Path::new("test.jsonl"), &KNOWN).unwrap_err();
        assert_eq!(
            error.message,
            "setting `split` contradicts the name of `test.jsonl`, which says `test`"
        );
    }
}
