//! The tokens of a conversation in which some messages are learnt.

use crate::Error;
use crate::chat::{Chat, plain_text, to_json};
use plugin_api::{Lesson, LessonTokens, Message, Result};
use serde_json::{Map, Value};
use std::ops::Range;

impl Chat {
    /// The tokens of a lesson, and which of them are learnt.
    ///
    /// What is learnt of a message is what the model would have to say itself: everything behind the header that a
    /// prompt supplies, up to and with the token that ends the turn. The empty block that a template puts in place of
    /// reasoning is a prompt's, when the message has none.
    pub fn encode_lesson(&self, lesson: &Lesson) -> Result<LessonTokens> {
        let messages: Vec<Message> = lesson.turns.iter().map(|turn| turn.message.clone()).collect();
        let mut extra = Map::new();
        if !lesson.tools.is_empty() {
            extra.insert("tools".into(), lesson.tools.clone().into());
        }
        let json = messages.iter().map(to_json).collect::<Result<Vec<Value>>>()?;
        let text = match lesson.plain {
            true => plain_text(&messages, self.clip_words.as_deref())?,
            false => self
                .template()
                .and_then(|t| t.render(&json, false, &extra))
                .map_err(Error::told)?,
        };
        let mut learnt: Vec<Range<usize>> = Vec::new();
        let mut from = 0;
        for (index, turn) in lesson.turns.iter().enumerate() {
            let words = turn.message.joined_text();
            let words = if lesson.plain { words.as_str() } else { words.trim() };
            let Some(at) = text[from..].find(words) else {
                // A template may drop a message; that is a mistake only if it should be learnt.
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
                let header = |extra: &Map<String, Value>| -> Option<usize> {
                    let header = self.template().ok()?.render(&json[..index], true, extra).ok()?;
                    (text.starts_with(&header) && header.len() <= from + at).then_some(header.len())
                };
                // Words without reasoning answer a prompt that has it switched off, whose empty block is the prompt's.
                let off = turn.message.thinking.is_none() && self.thinks() && !lesson.plain;
                let header_off = || {
                    let mut extra = extra.clone();
                    extra.insert("enable_thinking".into(), false.into());
                    header(&extra)
                };
                let supplied = off.then(header_off).flatten();
                let supplied = supplied.or_else(|| (!lesson.plain).then(|| header(&extra)).flatten());
                // Where history is rendered differently from a prompt's end, the words themselves are the safe choice.
                let start = supplied.unwrap_or(from + at);
                learnt.push(start..end);
            }
            from = end;
        }
        self.mark(&text, lesson.plain, &learnt)
    }

    fn mark(&self, text: &str, plain: bool, learnt: &[Range<usize>]) -> Result<LessonTokens> {
        let tokens = self.tokenizer.encode_with_places(text, plain).map_err(Error::told)?;
        let inside = |place: &Range<usize>| {
            learnt
                .iter()
                .any(|range| place.start < place.end && range.start <= place.start && place.start < range.end)
        };
        let mut marks: Vec<bool> = tokens.iter().map(|(_, place)| inside(place)).collect();
        for index in 1..tokens.len() {
            // The end of a turn belongs to it.
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
        })
    }
}
