//! The authors' evaluation of a judge's reply: how it is parsed, and the verdict.
//!
//! The decision a newcomer would question: replies without a judgement, including `correct.` with a full stop, are
//! invalid, neither right nor wrong, but count in the denominator. The published figures are computed so; a more
//! lenient rule would give others.

/// The verdict of a judge's reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    Correct,
    Incorrect,
    /// The reply does not have the requested form.
    Invalid,
}

impl Verdict {
    /// The verdict as a word.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Correct => "correct",
            Verdict::Incorrect => "incorrect",
            Verdict::Invalid => "invalid",
        }
    }
}

/// The parts of a judge's reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement<'a> {
    pub explanation: &'a str,
    pub judgement: &'a str,
}

/// The result if nothing has the requested form.
pub const NOTHING: Judgement<'static> = Judgement {
    explanation: "No extracted explanation",
    judgement: "No extracted judgement",
};

const EXPLANATION: &str = "Explanation: ";
const JUDGEMENT: &str = "\nJudgement: ";

impl Judgement<'_> {
    /// Reads a judge's words: from the first `Explanation: ` to the next line that starts with `Judgement: `, and from
    /// there to an empty line or the end.
    ///
    /// ```
    /// use sakura::official::{Judgement, Verdict};
    ///
    /// let read = Judgement::read("Explanation: (a) is named.\nJudgement: Correct\n\nBye");
    /// assert_eq!((read.explanation, read.judgement), ("(a) is named.", "Correct"));
    /// assert_eq!(read.verdict(), Verdict::Correct);
    /// assert_eq!(Judgement::read("Judgement: correct").verdict(), Verdict::Invalid);
    /// ```
    pub fn read(reply: &str) -> Judgement<'_> {
        let found = reply
            .split_once(EXPLANATION)
            .and_then(|(_, rest)| rest.split_once(JUDGEMENT));
        let Some((explanation, rest)) = found else {
            return NOTHING;
        };
        let judgement = match rest.split_once("\n\n") {
            Some((judgement, _)) => judgement,
            None => rest.strip_suffix('\n').unwrap_or(rest),
        };
        Judgement { explanation, judgement }
    }

    /// What it comes to.
    pub fn verdict(&self) -> Verdict {
        // White space as Python's `strip` has it.
        let is_space = |letter: char| letter.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&letter);
        match self.judgement.to_lowercase().trim_matches(is_space) {
            "correct" => Verdict::Correct,
            "incorrect" => Verdict::Incorrect,
            _ => Verdict::Invalid,
        }
    }
}

/// How many verdicts there are of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub correct: u64,
    pub incorrect: u64,
    pub invalid: u64,
}

impl Count {
    /// Adds one.
    pub fn add(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Correct => self.correct += 1,
            Verdict::Incorrect => self.incorrect += 1,
            Verdict::Invalid => self.invalid += 1,
        }
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.correct + self.incorrect + self.invalid
    }

    /// The share of correct ones among all, invalid ones included; none of nothing.
    pub fn accuracy(&self) -> Option<f64> {
        (self.total() > 0).then(|| self.correct as f64 / self.total() as f64)
    }
}

#[cfg(test)]
mod tests;
