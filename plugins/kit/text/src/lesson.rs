//! Tokenises conversations in which some messages are learnt.

use crate::Error;
use crate::chat::{Chat, plain_text};
use plugin_api::{Lesson, LessonTokens, Message, Piece, Prompt, Result, Role, Turn};
use serde_json::Map;
use std::ops::Range;

impl Chat {
    /// The tokens of a lesson, and which of them are learnt.
    ///
    /// Of a learnt message, the model learns what it would have to generate: everything after the header that a prompt
    /// supplies, including the token that ends the turn. If a message has no reasoning, the empty block that a
    /// template inserts for it counts as part of the prompt.
    pub fn encode_lesson(&self, lesson: &Lesson) -> Result<LessonTokens> {
        let mut tokens = match &lesson.tokens {
            Some(tokens) => tokens.clone(),
            None if !lesson.pieces.is_empty() => self.encode_pieces(lesson)?,
            None => self.encode_turns(lesson)?,
        };
        if lesson.with_texts {
            let mut place = 0;
            while place < tokens.ids.len() {
                let learn = tokens.learn.get(place).copied().unwrap_or_default();
                let same = tokens
                    .learn
                    .iter()
                    .skip(place)
                    .take_while(|next| **next == learn)
                    .count();
                let end = (place + same.max(1)).min(tokens.ids.len());
                let text = self
                    .tokenizer
                    .decode_all(&tokens.ids[place..end])
                    .map_err(Error::into_plugin_error)?;
                tokens.texts.push(Piece {
                    learn,
                    ..Piece::read(text)
                });
                place = end;
            }
        }
        Ok(tokens)
    }

    fn encode_turns(&self, lesson: &Lesson) -> Result<LessonTokens> {
        let messages: Vec<Message> = lesson.turns.iter().map(|turn| turn.message.clone()).collect();
        let mut extra = Map::new();
        if !lesson.tools.is_empty() {
            extra.insert("tools".into(), lesson.tools.clone().into());
        }
        let json = self.lesson_messages(&messages)?;
        let added = json.len() - messages.len();
        let text = match lesson.plain {
            true => plain_text(&messages, self.clip_words.as_deref())?,
            false => self
                .template()
                .and_then(|t| t.render(&json, false, &extra))
                .map_err(Error::into_plugin_error)?,
        };
        let mut learnt: Vec<Range<usize>> = Vec::new();
        let mut from = 0;
        for (index, turn) in lesson.turns.iter().enumerate() {
            let words = turn.message.joined_text();
            let words = if lesson.plain { words.as_str() } else { words.trim() };
            if let Some(range) = self.after_opening(&text, from, turn, words, lesson.plain) {
                from = range.end;
                learnt.push(range);
                continue;
            }
            let Some(at) = text[from..].find(words) else {
                // A template may drop a message; that is an error only if the message should be learnt.
                if turn.learn {
                    let error = plugin_api::Error::msg(format!(
                        "the chat template did not keep message {} of lesson `{}`",
                        index + 1,
                        lesson.id
                    ));
                    return Err(error.help("it is marked as learnt; mark another one, or split the conversation"));
                }
                continue;
            };
            let end = from + at + words.len();
            if turn.learn {
                let header = match lesson.plain {
                    true => None,
                    false => self
                        .template()
                        .and_then(|t| t.render(&json[..added + index], true, &extra))
                        .ok(),
                };
                // If the template renders history differently from the end of a prompt, learning starts at the words
                // themselves.
                let start = header
                    .filter(|h| text.starts_with(h.as_str()) && h.len() <= from + at)
                    .map_or(from + at, |h| h.len());
                learnt.push(start..end);
            }
            from = end;
        }
        self.mark(&text, lesson.plain, &learnt)
    }

    /// The tokens of a prompt and of each piece after it.
    fn encode_pieces(&self, lesson: &Lesson) -> Result<LessonTokens> {
        let strange = |mark: &&String| !self.tokenizer.id(mark).is_some_and(|id| self.tokenizer.is_special(id));
        if let Some(mark) = lesson.marks.iter().find(strange) {
            let message = format!(
                "this model has no special token `{mark}`, which lesson `{}` spells",
                lesson.id
            );
            return Err(plugin_api::Error::unsupported(message)
                .help("choose lessons that the chat template writes: `-T mask=prompt`, or `-T style=template`"));
        }
        let mut tokens = LessonTokens::default();
        if !lesson.turns.is_empty() {
            let prompt = Prompt {
                messages: lesson.turns.iter().map(|turn| turn.message.clone()).collect(),
                plain: lesson.plain,
                tools: lesson.tools.clone(),
                thinking: self.without_reasoning(),
                ..Prompt::default()
            };
            tokens.ids = self.encode(&prompt)?.ids;
            tokens.learn = vec![false; tokens.ids.len()];
        }
        for piece in &lesson.pieces {
            tokens.ids.extend(
                self.known(self.tokenizer.encode(&piece.text))
                    .map_err(Error::into_plugin_error)?,
            );
            if piece.end {
                tokens.ids.push(self.end_token()?);
            }
            tokens.learn.resize(tokens.ids.len(), piece.learn);
        }
        Ok(tokens)
    }

    /// Finds an answer whose words directly follow the header that a prompt supplies.
    ///
    /// Most answers are found this way: it needs no second rendering, and does not confuse an answer of a letter or
    /// two with the template's own words.
    fn after_opening(&self, text: &str, from: usize, turn: &Turn, words: &str, plain: bool) -> Option<Range<usize>> {
        if plain || !turn.learn || turn.message.role != Role::Assistant || words.is_empty() {
            return None;
        }
        let openings = self.template().ok()?.openings().iter();
        let found = openings.filter_map(|opening| {
            let at = from + text[from..].find(opening.as_str())?;
            let start = at + opening.len();
            text[start..].starts_with(words).then_some((at, start))
        });
        // The first answer found; of two possible headers before it, the longer one.
        let (_, start) = found.min_by_key(|(at, start)| (*at, usize::MAX - start))?;
        Some(start..start + words.len())
    }

    fn mark(&self, text: &str, plain: bool, learnt: &[Range<usize>]) -> Result<LessonTokens> {
        let tokens = self.places(text, plain).map_err(Error::into_plugin_error)?;
        let inside = |place: &Range<usize>| {
            learnt
                .iter()
                .any(|range| place.start < place.end && range.start <= place.start && place.start < range.end)
        };
        let mut marks: Vec<bool> = tokens.iter().map(|(_, place)| inside(place)).collect();
        for index in 1..tokens.len() {
            // The token that ends a turn belongs to the turn.
            if marks[index - 1]
                && !marks[index]
                && self.tokenizer.is_special(tokens[index].0)
                && inside(&tokens[index - 1].1)
            {
                marks[index] = true;
            }
        }
        Ok(LessonTokens {
            ids: tokens.into_iter().map(|(id, _)| id).collect(),
            learn: marks,
            ..LessonTokens::default()
        })
    }
}
