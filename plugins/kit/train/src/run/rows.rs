//! Makes rows from lessons: tokenises them, shortens them, and replaces clips by cached vectors.

use super::settings::{Cut, RunSettings};
use super::student::Student;
use super::tower_cache::TowerCache;
use crate::{Engine, Row, Sound};
use plugin_api::{Code, Error, Lesson, LessonTokens, Lessons, Result, Split};

/// A row and the lesson that it was made from.
pub struct Named {
    pub id: String,
    pub row: Row,
}

/// Makes rows.
pub struct RowMaker {
    pub run: RunSettings,
    pub hearing: TowerCache,
}

impl RowMaker {
    /// The row of a lesson by its number.
    pub fn row(
        &mut self,
        student: &mut dyn Student,
        engine: &mut dyn Engine,
        lessons: &Lessons,
        split: Split,
        index: u64,
    ) -> Result<Named> {
        let lesson = lessons.at(split, index)?.ok_or_else(|| {
            let message = format!("there is no lesson {index}, though the host counted it");
            Error::new(Code::DATA, message)
        })?;
        self.made(student, engine, &lesson)
            .map(|row| Named {
                id: name(&lesson, index),
                row,
            })
            .map_err(|error| {
                let (code, name) = (error.code, name(&lesson, index));
                error.context(format!("lesson `{name}` cannot be learnt")).code(code)
            })
    }

    fn made(&mut self, student: &mut dyn Student, engine: &mut dyn Engine, lesson: &Lesson) -> Result<Row> {
        let mut tokens = student.cut(lesson)?;
        if tokens.ids.len() != tokens.learn.len() {
            let message = format!("it has {} tokens and {} marks", tokens.ids.len(), tokens.learn.len());
            return Err(Error::new(Code::DATA, message));
        }
        let mut sounds = Vec::with_capacity(lesson.clips.len());
        if !lesson.clips.is_empty() {
            let mark = engine.facts().placeholder.ok_or_else(deaf)?;
            let lengths = lesson.clips.iter().map(|clip| engine.places(clip));
            tokens = expanded(tokens, mark, &lengths.collect::<Result<Vec<_>>>()?)?;
            for clip in &lesson.clips {
                sounds.push(match self.hearing.hear(engine, clip)? {
                    Some(heard) => Sound::Heard(heard),
                    None => Sound::Clip(clip.clone()),
                });
            }
        }
        let (mut ids, mut learn) = (tokens.ids, tokens.learn);
        let facts = engine.facts();
        let most = self.run.max_length.unwrap_or(usize::MAX);
        let cut = match self.run.max_length {
            Some(_) => self.run.truncation,
            None => Cut::Refuse,
        };
        if ids.len() > most.min(facts.context) {
            if !sounds.is_empty() || cut == Cut::Refuse {
                let message = format!(
                    "it has {} tokens, and at most {} fit",
                    ids.len(),
                    most.min(facts.context)
                );
                let error = Error::new(Code::TOO_LONG, message);
                return Err(error.help(
                    "give `--max-length N` with `--truncation right`, `left` or `prompt`, or leave it out of the data",
                ));
            }
            (ids, learn) = shortened(ids, learn, most.min(facts.context), cut);
        }
        if let Some(id) = ids.iter().find(|id| **id as usize >= facts.vocabulary) {
            let message = format!(
                "token {id} is outside of the model's vocabulary of {}",
                facts.vocabulary
            );
            return Err(Error::new(Code::DATA, message).help("the rows may come from another tokenizer"));
        }
        Ok(Row {
            sounds,
            ..Row::masked(ids, &learn)
        })
    }
}

/// The error for a lesson with a clip where a model cannot learn from one.
pub fn deaf() -> Error {
    Error::unsupported("it has a clip, and this model is trained on text only")
        .help("leave the clips out of the lessons")
}

fn name(lesson: &Lesson, index: u64) -> String {
    match lesson.id.is_empty() {
        true => format!("row {index}"),
        false => lesson.id.clone(),
    }
}

/// Expands the one placeholder of each clip to one for each vector of the clip, given how many there are.
pub fn expanded(tokens: LessonTokens, mark: u32, lengths: &[usize]) -> Result<LessonTokens> {
    let LessonTokens { ids, learn, texts } = tokens;
    let found = ids.iter().filter(|id| **id == mark).count();
    if found == lengths.iter().sum::<usize>() {
        return Ok(LessonTokens { ids, learn, texts });
    }
    if found != lengths.len() {
        let message = format!(
            "it has {found} placeholders for {} clips of {lengths:?} vectors",
            lengths.len()
        );
        return Err(Error::new(Code::DATA, message));
    }
    let (mut more, mut lengths) = (LessonTokens::default(), lengths.iter());
    for (id, learn) in ids.into_iter().zip(learn) {
        let times = if id == mark {
            lengths.next().map_or(1, |times| *times)
        } else {
            1
        };
        more.ids.extend(std::iter::repeat_n(id, times));
        more.learn.extend(std::iter::repeat_n(learn && id != mark, times));
    }
    Ok(LessonTokens { texts, ..more })
}

/// Shortens the tokens of a row to at most `most`.
pub fn shortened(mut ids: Vec<u32>, mut learn: Vec<bool>, most: usize, cut: Cut) -> (Vec<u32>, Vec<bool>) {
    let over = ids.len().saturating_sub(most);
    let gone = match cut {
        Cut::Right | Cut::Refuse => most.min(ids.len())..ids.len(),
        Cut::Left => 0..over,
        Cut::Prompt => {
            let prompt = learn.iter().position(|learn| *learn).unwrap_or(ids.len());
            // A target that is too long by itself keeps its last tokens, and nothing of the prompt.
            match prompt >= over {
                true => prompt - over..prompt,
                false => 0..over,
            }
        }
    };
    ids.drain(gone.clone());
    learn.drain(gone);
    (ids, learn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(cut: Cut, most: usize, kept: &[u32]) {
        let ids: Vec<u32> = (0..8).collect();
        let learn: Vec<bool> = (0..8).map(|place| place >= 5).collect();
        let (ids, learn) = shortened(ids, learn, most, cut);
        assert_eq!(ids, kept);
        assert!(ids.iter().zip(&learn).all(|(id, learn)| *learn == (*id >= 5)));
    }

    #[test]
    fn a_long_row_loses_the_end_that_it_is_told_to() {
        check(Cut::Right, 6, &[0, 1, 2, 3, 4, 5]);
        check(Cut::Left, 6, &[2, 3, 4, 5, 6, 7]);
        check(Cut::Prompt, 6, &[0, 1, 2, 5, 6, 7]);
        check(Cut::Prompt, 3, &[5, 6, 7]);
        check(Cut::Prompt, 2, &[6, 7]);
        check(Cut::Prompt, 9, &[0, 1, 2, 3, 4, 5, 6, 7]);
    }
}
