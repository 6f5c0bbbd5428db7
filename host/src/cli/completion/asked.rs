//! What the shell asks about: the words so far, and how bash splits them.

use clap_complete::engine::CompletionCandidate;
use std::ffi::{OsStr, OsString};

/// The words of the command line that is being written.
pub fn asked() -> Vec<OsString> {
    std::env::args_os().skip_while(|word| word != "--").skip(1).collect()
}

/// The values of a flag on the command line that is being written.
pub fn given(flags: &[&str]) -> Vec<String> {
    let words: Vec<String> = asked().into_iter().filter_map(|word| word.into_string().ok()).collect();
    // Bash gives `a=b` as three words.
    let text = words
        .join("\u{1}")
        .replace("\u{1}=\u{1}", "=")
        .replace("\u{1}:\u{1}", ":");
    let words: Vec<&str> = text.split('\u{1}').collect();
    let next = words
        .windows(2)
        .filter(|pair| flags.contains(&pair[0]))
        .map(|pair| pair[1].to_owned());
    let inline = words.iter().filter_map(|word| {
        let (flag, value) = word.split_once('=')?;
        flags.contains(&flag).then(|| value.to_owned())
    });
    next.chain(inline).collect()
}

/// Bash splits words at `=` and `:`, which our settings contain.
pub struct Bash {
    pub words: Vec<OsString>,
    pub index: usize,
    /// How much of the last word bash counts as separate words.
    before: String,
}

impl Bash {
    pub fn read(pieces: Vec<OsString>) -> Bash {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<usize>().ok());
        Bash::join(pieces, number("_CLAP_COMPLETE_INDEX").unwrap_or(0))
    }

    fn join(pieces: Vec<OsString>, at: usize) -> Bash {
        let breaks =
            |text: &OsStr| text.to_string_lossy().chars().all(|char| char == '=' || char == ':') && !text.is_empty();
        let mut asked = Bash {
            words: Vec::new(),
            index: 0,
            before: String::new(),
        };
        let mut joins = false;
        for (place, piece) in pieces.into_iter().enumerate().take(at + 1) {
            let breaks = breaks(&piece);
            match asked.words.last_mut().filter(|_| joins || breaks) {
                Some(last) => {
                    if place == at && !breaks {
                        asked.before = last.to_string_lossy().into_owned();
                    }
                    last.push(&piece);
                }
                None => asked.words.push(piece),
            }
            if place == at && breaks {
                asked.before = asked
                    .words
                    .last()
                    .map(|word| word.to_string_lossy().into_owned())
                    .unwrap_or_default();
            }
            joins = breaks;
        }
        asked.index = asked.words.len().saturating_sub(1);
        asked
    }

    /// The candidates without the part that bash has already split off.
    pub fn answer(&self, found: &[CompletionCandidate]) -> String {
        let separator = std::env::var("_CLAP_IFS").unwrap_or_else(|_| "\n".to_owned());
        let words = found.iter().map(|one| one.get_value().to_string_lossy().into_owned());
        let words = words.map(|word| word.strip_prefix(&self.before).map_or(word.clone(), str::to_owned));
        words.collect::<Vec<_>>().join(&separator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pieces: &[&str], at: usize, words: &[&str], before: &str) {
        let joined = Bash::join(pieces.iter().map(OsString::from).collect(), at);
        assert_eq!(joined.words, words);
        assert_eq!((joined.index, joined.before.as_str()), (words.len() - 1, before));
    }

    #[test]
    fn what_bash_took_apart_is_one_word() {
        check(&["host", "run", "-M", "qu"], 3, &["host", "run", "-M", "qu"], "");
        check(
            &["host", "run", "-M", "quant", "=", "q4"],
            5,
            &["host", "run", "-M", "quant=q4"],
            "quant=",
        );
        check(
            &["host", "run", "-M", "quant", "="],
            4,
            &["host", "run", "-M", "quant="],
            "quant=",
        );
        check(
            &["host", "run", "-M", "a", ":", "quant", "=", "q4", "-t", ""],
            9,
            &["host", "run", "-M", "a:quant=q4", "-t", ""],
            "",
        );
        check(
            &["host", "run", "-M", "a", ":", "qu"],
            5,
            &["host", "run", "-M", "a:qu"],
            "a:",
        );
    }
}
