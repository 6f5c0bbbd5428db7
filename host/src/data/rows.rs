//! Training rows: a lesson's words, or its tokens.

use plugin_api::client::{ModelClient, TaskClient};
use plugin_api::{Code, Error, Lesson, Message, Part, Result, Role, Sample, Turn};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// The row of a sample: the task's own form, or else its lesson's words.
pub fn prepared(task: &TaskClient, sample: &Sample) -> Result<Value> {
    match task.prepared(sample) {
        Err(error) if error.code == Code::NOT_IMPLEMENTED => words(&task.lesson(sample)?, sample),
        other => other,
    }
}

/// One question and one answer are `user_text` and `assistant_text`; anything else is a conversation. Clips are listed
/// next to the words, in the order in which the words refer to them.
fn words(lesson: &Lesson, sample: &Sample) -> Result<Value> {
    let mut row = Map::new();
    match lesson.turns.as_slice() {
        [asked, said] if is_plain(asked, Role::User) && is_plain(said, Role::Assistant) && lesson.tools.is_empty() => {
            row.insert("user_text".to_owned(), json!(shown(&asked.message)));
            row.insert("assistant_text".to_owned(), json!(shown(&said.message)));
        }
        turns => {
            row.insert("id".to_owned(), json!(lesson.id));
            let messages = turns.iter().map(message);
            row.insert("messages".to_owned(), messages.collect());
            if !lesson.tools.is_empty() {
                row.insert("tools".to_owned(), json!(lesson.tools));
            }
        }
    }
    let parts = lesson.turns.iter().flat_map(|turn| &turn.message.parts);
    let clips = parts.filter_map(|part| match part {
        Part::Clip { clip, .. } => Some(*clip),
        _ => None,
    });
    let clips: Vec<Value> = clips
        .map(|clip| {
            let source = sample.clips.get(clip).ok_or_else(|| {
                let have = sample.clips.len();
                Error::new(
                    Code::DATA,
                    format!("the lesson names clip {clip}, but the sample has {have}"),
                )
            })?;
            match (&source.path, source.start.is_some() || source.end.is_some()) {
                (Some(path), false) => Ok(json!(path)),
                (Some(path), true) => Ok(json!({ "path": path, "start": source.start, "end": source.end })),
                (None, _) => {
                    let message = format!(
                        "the sound of sample `{}` is embedded in its data and not a file",
                        sample.id
                    );
                    Err(Error::new(Code::UNSUPPORTED, message))
                }
            }
        })
        .collect::<Result<_>>()?;
    if !clips.is_empty() {
        row.insert("audio".to_owned(), Value::Array(clips));
    }
    Ok(Value::Object(row))
}

/// The words, with a mark in the place of each clip.
fn shown(message: &Message) -> String {
    let part = |part: &Part| match part {
        Part::Text { text } => text.clone(),
        Part::Clip { .. } => "<audio>".to_owned(),
        _ => String::new(),
    };
    message.parts.iter().map(part).collect()
}

fn is_plain(turn: &Turn, role: Role) -> bool {
    let message = &turn.message;
    message.role == role && message.tool_calls.is_empty() && message.thinking.is_none()
}

fn message(turn: &Turn) -> Value {
    let message = &turn.message;
    let mut json = Map::new();
    json.insert("role".to_owned(), json!(message.role));
    json.insert("content".to_owned(), json!(shown(message)));
    for (name, value) in [
        ("reasoning_content", json!(message.thinking)),
        ("tool_calls", json!(message.tool_calls)),
        ("name", json!(message.name)),
    ] {
        if !value.is_null() && value != json!([]) {
            json.insert(name.to_owned(), value);
        }
    }
    Value::Object(json)
}

/// The label of a token that is not learnt.
const IGNORED: i64 = -100;

#[derive(Serialize)]
struct TokenRow<'a> {
    input_ids: &'a [u32],
    labels: Vec<i64>,
    attention_mask: Vec<u8>,
}

/// The tokens of a lesson, as trainers read them; everything that is not learnt is masked.
pub fn tokens(model: &ModelClient, lesson: &Lesson) -> Result<(usize, String)> {
    let mut parts = lesson.turns.iter().flat_map(|turn| &turn.message.parts);
    if parts.any(|part| matches!(part, Part::Clip { .. })) {
        // Their tokens stand for sound, which such a row can't hold.
        let error = Error::unsupported(format!(
            "lesson `{}` has a clip, whose tokens mean nothing without it",
            lesson.id
        ));
        return Err(error.help("choose an input of the task without clips, or use `host data prepare`"));
    }
    let tokens = model.lesson_tokens(lesson)?;
    if tokens.ids.len() != tokens.learn.len() {
        let (ids, marks) = (tokens.ids.len(), tokens.learn.len());
        return Err(Error::new(
            Code::ENVELOPE,
            format!("the model gave {ids} tokens and {marks} marks"),
        ));
    }
    let labels = tokens.ids.iter().zip(&tokens.learn);
    let labels: Vec<i64> = labels
        .map(|(id, learn)| if *learn { i64::from(*id) } else { IGNORED })
        .collect();
    let mask = vec![1; tokens.ids.len()];
    let row = TokenRow {
        input_ids: &tokens.ids,
        labels,
        attention_mask: mask,
    };
    Ok((tokens.ids.len(), serde_json::to_string(&row)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugin_api::ClipSource;

    fn turn(message: Message, learn: bool) -> Turn {
        Turn { message, learn }
    }

    #[track_caller]
    fn check(turns: Vec<Turn>, clips: Vec<ClipSource>, expected: Value) {
        let lesson = Lesson {
            id: "s".to_owned(),
            turns,
            ..Lesson::default()
        };
        let sample = Sample {
            clips,
            ..Sample::default()
        };
        let row = words(&lesson, &sample).unwrap_or_else(|error| json!(error.message));
        assert_eq!(row, expected);
    }

    #[test]
    fn a_question_and_its_answer_are_two_texts() {
        let turns = || vec![turn(Message::user("q"), false), turn(Message::assistant("a"), true)];
        check(turns(), vec![], json!({ "user_text": "q", "assistant_text": "a" }));
        let mut heard = turns();
        heard[0].message.parts.push(Part::clip(0));
        let row = json!({ "user_text": "q<audio>", "assistant_text": "a", "audio": ["/a.wav"] });
        check(heard.clone(), vec![ClipSource::file("/a.wav")], row);
        check(heard, vec![], json!("the lesson names clip 0, but the sample has 0"));
    }

    #[test]
    fn all_else_is_a_conversation() {
        let mut said = Message::assistant("a");
        said.thinking = Some("hm".to_owned());
        check(
            vec![
                turn(Message::system("s"), false),
                turn(Message::user("q"), false),
                turn(said, true),
            ],
            vec![],
            json!({ "id": "s", "messages": [
                { "role": "system", "content": "s" },
                { "role": "user", "content": "q" },
                { "role": "assistant", "content": "a", "reasoning_content": "hm" },
            ] }),
        );
    }
}
