//! The leaderboard's scorer: quasi exact match of two texts.
//!
//! Only the expected answer decides how the two are compared: as numbers if it is one, as lists if it has a comma or a
//! semicolon, else as texts. The decision a newcomer would question: nothing here is more lenient than the
//! leaderboard. `1,000` as the truth is a list of two, so `1000` is wrong, and `17 units` is wrong where 17 is right.

mod python; // what Python's `float`, `\s` and `lower` make of a text

pub use python::float;
use python::is_space;

/// Whether an answer is right.
///
/// ```
/// use gaia::official::is_right;
///
/// assert!(is_right("$1,234.50", "1234.5"));
/// assert!(is_right("Sea Gull.", "seagull"));
/// assert!(is_right("a;2%", "A, 2"));
/// assert!(!is_right("17 units", "17"));
/// ```
pub fn is_right(answer: &str, truth: &str) -> bool {
    if let Some(truth) = float(truth) {
        return number(answer) == truth;
    }
    if truth.contains(SEPARATORS) {
        let (answers, truths): (Vec<_>, Vec<_>) = (parts(answer), parts(truth));
        return answers.len() == truths.len()
            && answers
                .into_iter()
                .zip(truths)
                .all(|(answer, truth)| part(answer, truth));
    }
    bare(answer).eq(bare(truth))
}

/// The text from `FINAL ANSWER:` to the end of its line; the last one counts. None if it is empty.
///
/// It must be spelt exactly as the prompt asks: a lenient harness gives other figures than the leaderboard.
pub fn final_answer(reply: &str) -> Option<&str> {
    let (_, rest) = reply.rsplit_once(FINAL_ANSWER)?;
    let answer = rest.split('\n').next().unwrap_or_default().trim();
    (!answer.is_empty()).then_some(answer)
}

/// Precedes an answer.
pub const FINAL_ANSWER: &str = "FINAL ANSWER:";

const SEPARATORS: [char; 2] = [',', ';'];

fn parts(text: &str) -> Vec<&str> {
    text.split(SEPARATORS).collect()
}

fn part(answer: &str, truth: &str) -> bool {
    match float(truth) {
        Some(truth) => number(answer) == truth,
        None => lower(answer) == lower(truth),
    }
}

/// An answer as a number. Other text counts as infinity, so an expected `inf` accepts anything.
fn number(answer: &str) -> f64 {
    float(&answer.replace(['$', '%', ','], "")).unwrap_or(f64::INFINITY)
}

/// A text in small letters, without any space.
fn lower(text: &str) -> String {
    let spaceless: String = text.chars().filter(|letter| !is_space(*letter)).collect();
    spaceless.to_lowercase()
}

/// The same, without ASCII punctuation.
fn bare(text: &str) -> impl Iterator<Item = char> {
    let letters: Vec<char> = lower(text).chars().collect();
    letters.into_iter().filter(|letter| !letter.is_ascii_punctuation())
}

#[cfg(test)]
mod tests;
