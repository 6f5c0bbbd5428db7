//! Whether a model reads each option's letter as one token: otherwise comparing likelihoods of letters is unfair, and a
//! lesson that teaches a letter teaches several tokens.

use plugin_api::client::ModelClient;
use plugin_api::{Lesson, Message, Result, Turn};
use std::collections::BTreeSet;

/// The letters seen so far.
#[derive(Debug, Default)]
pub struct Letters(BTreeSet<String>);

impl Letters {
    /// Notes an answer or an option that is a single letter.
    pub fn meet(&mut self, text: &str) {
        let text = text.trim();
        let mut letters = text.chars();
        if let (Some(letter), None) = (letters.next(), letters.next())
            && letter.is_alphanumeric()
        {
            self.0.insert(text.to_owned());
        }
    }

    /// The letters that are not one token, as answers to a question; none if there is nothing to compare.
    ///
    /// A model doesn't tell which tokens belong to a letter. But two answers of one token each differ in one place.
    pub fn in_pieces(&self, model: &ModelClient) -> Result<Vec<&str>> {
        let mut cut = Vec::new();
        for letter in &self.0 {
            let other = if letter == "A" { "B" } else { "A" };
            let (ids, others) = (answer(model, letter)?, answer(model, other)?);
            let different = ids.iter().zip(&others).filter(|(id, other)| id != other).count();
            if ids.len() != others.len() || different != 1 {
                cut.push(letter.as_str());
            }
        }
        Ok(cut)
    }

    /// The letters, as a list for a sentence.
    pub fn words(&self) -> String {
        self.0.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn answer(model: &ModelClient, letter: &str) -> Result<Vec<u32>> {
    let lesson = Lesson {
        turns: vec![
            Turn {
                message: Message::user("Which one?"),
                learn: false,
            },
            Turn {
                message: Message::assistant(letter),
                learn: true,
            },
        ],
        ..Lesson::default()
    };
    Ok(model.lesson_tokens(&lesson)?.ids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugin_api::{Adapter, Callbacks, Envelope, LessonTokens};
    use std::sync::Arc;

    /// A model that has a token for each letter up to `D` and writes others in bytes, between two tokens of its own.
    struct Cutter;

    impl Adapter for Cutter {
        fn call(&self, _method: &str, input: Envelope, _host: &dyn Callbacks) -> Result<Envelope> {
            let lesson: Lesson = input.read()?;
            let said = lesson.turns[1].message.joined_text();
            let mut ids = vec![1];
            ids.extend(said.bytes().flat_map(|byte| match byte {
                b'A'..=b'D' => vec![u32::from(byte)],
                other => vec![200, u32::from(other)],
            }));
            ids.push(2);
            let learn = vec![true; ids.len()];
            Envelope::of(&LessonTokens {
                ids,
                learn,
                ..LessonTokens::default()
            })
        }
    }

    #[test]
    fn a_letter_in_pieces_is_found() {
        let mut letters = Letters::default();
        for text in ["A", " C ", "E", "yes", "", "?", "1"] {
            letters.meet(text);
        }
        assert_eq!(letters.words(), "1, A, C, E");
        assert_eq!(letters.in_pieces(&ModelClient(Arc::new(Cutter))).unwrap(), ["1", "E"]);
    }
}
