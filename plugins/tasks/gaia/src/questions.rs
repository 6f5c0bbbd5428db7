//! The benchmark's questions with their attachments.

use crate::attachment::Attachment;
use crate::official;
use crate::question::Question;
use data::Rows;
use plugin_api::{
    ClipSource, Code, Error, Lesson, Message, Part, Prompt, Reply, Result, Sample, Score, Settings, Status,
};
use serde_json::json;
use std::path::{Path, PathBuf};
use task::{Answering, row_of};
use template::{CLIP, Template, unmarked};

/// The figure of a run on questions.
pub(crate) const ACCURACY: &str = "accuracy";

pub(crate) struct Questions {
    rows: Rows,
    places: Vec<usize>,
    folders: Vec<PathBuf>,
    most: usize,
}

impl Questions {
    pub fn load(settings: &Settings, data: &Path, files: Vec<PathBuf>) -> Result<Questions> {
        let given: Option<PathBuf> = settings.get("attachments")?;
        let folders = match given {
            Some(folder) if folder.is_dir() => vec![folder],
            Some(folder) => {
                let message = format!("setting `attachments`: `{}` is not a folder", folder.display());
                return Err(Error::new(Code::MISSING, message));
            }
            None => {
                let beside = files.first().and_then(|file| file.parent()).unwrap_or(data);
                vec![beside.to_owned(), data.to_owned()]
            }
        };
        let level: Option<String> = settings.get::<String>("level")?.filter(|level| level != "all");
        let rows = Rows::open_all(files)?;
        let is_wanted = |index: &usize| {
            let Some(level) = &level else { return true };
            // A broken row is a sample as well; its error says what is wrong.
            let row = rows.get(*index);
            row.map_or(true, |row| {
                crate::question::level(&row).map_or(true, |own| own.as_ref() == Some(level))
            })
        };
        let places: Vec<usize> = (0..rows.len()).filter(is_wanted).collect();
        if places.is_empty() {
            let of = level.map_or(String::new(), |level| format!(" of level {level}"));
            return Err(Error::new(
                Code::DATA,
                format!("`{}` holds no questions{of}", data.display()),
            ));
        }
        Ok(Questions {
            rows,
            places,
            folders,
            most: settings.or("attachment_bytes", 32_768)?,
        })
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn sample(&self, index: usize) -> Result<Sample> {
        let Some(place) = self.places.get(index) else {
            let message = format!(
                "there is no sample {}, there are {}",
                index.saturating_add(1),
                self.len()
            );
            return Err(Error::new(Code::DATA, message));
        };
        let row = self.rows.get(*place)?;
        let question = Question::read(&row)?;
        let attachment = Attachment::of(&row, &self.folders, self.most)?;
        let mut sample = Sample {
            id: question.id,
            target: question.truth.into(),
            ..Sample::default()
        };
        if let Attachment::Sound { path, .. } = &attachment {
            sample.clips.push(ClipSource::file(path));
        }
        sample
            .groups
            .insert("attachment".to_owned(), attachment.word().to_owned());
        if let Some(level) = question.level {
            sample.groups.insert("level".to_owned(), level);
        }
        sample.doc = row.value;
        Ok(sample)
    }

    fn message(&self, sample: &Sample, template: &Template) -> Result<Message> {
        let row = row_of(sample);
        let question = Question::read(&row)?;
        let attachment = Attachment::of(&row, &self.folders, self.most)?;
        let hears = matches!(attachment, Attachment::Sound { .. }) && !sample.clips.is_empty();
        let text = template.render(json!({
            "question": unmarked(&question.question),
            "attachment": attachment.name().map(unmarked),
            "text": attachment.text().map(unmarked),
            "cut": matches!(attachment, Attachment::Text { cut: true, .. }),
            "clip": hears.then_some(CLIP),
        }))?;
        let text = text.trim();
        Ok(Message {
            parts: if hears {
                template::with_clip(text, Part::clip(0))
            } else {
                vec![Part::text(text)]
            },
            ..Message::default()
        })
    }

    pub fn prompt(&self, sample: &Sample, template: &Template, answering: Answering) -> Result<Prompt> {
        Ok(answering.prompt([self.message(sample, template)?]))
    }

    pub fn lesson(&self, sample: &Sample, template: &Template) -> Result<Lesson> {
        let question = Question::read(&row_of(sample))?;
        let Some(truth) = &question.truth else {
            let message = format!("sample `{}` has no answer to learn", sample.id);
            return Err(Error::new(Code::DATA, message).help("the hidden split is published without answers"));
        };
        let steps = question.steps.filter(|steps| !steps.trim().is_empty());
        let said = match steps {
            Some(steps) => format!("{}\nFINAL ANSWER: {truth}", steps.trim()),
            None => format!("FINAL ANSWER: {truth}"),
        };
        Ok(task::lesson(&sample.id, self.message(sample, template)?, said))
    }
}

/// The score of a reply by the leaderboard's scorer.
pub(crate) fn score(sample: &Sample, reply: &Reply) -> Result<Score> {
    let truth = crate::question::truth(&row_of(sample))?;
    let answer = official::final_answer(&reply.text);
    let score = match (&truth, answer) {
        (None, _) => Score::unscored(),
        (Some(truth), Some(answer)) => Score::value(ACCURACY, f64::from(u8::from(official::is_right(answer, truth)))),
        (Some(_), None) => Score {
            status: Status::NoAnswer,
            ..Score::value(ACCURACY, 0.0)
        },
    };
    Ok(match answer {
        Some(answer) => score.with_answer(answer),
        None => score,
    })
}
