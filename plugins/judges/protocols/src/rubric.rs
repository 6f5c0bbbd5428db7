//! The protocol `rubric`: how good is a reply by a rubric of the user's, or by the reference answer?

use crate::ask::{Asking, Question, in_words};
use crate::identity;
use crate::marks::{Marks, RULE};
use crate::panel::Protocol;
use plugin_api::{Call, Case, Code, Context, Error, Judge, JudgeCard, Result, Ruling, Settings, Verdict};
use serde_json::{Value, json};
use std::path::PathBuf;

pub(crate) struct Rubric {
    asking: Asking,
    text: String,
    highest: u32,
}

/// A rubric is shown with every case, so its size is limited.
const LONGEST_RUBRIC: u64 = 1 << 20;

const BUILT_IN: &str = "The answer is right when it says the same as the reference answer: the same entity, number, date \
    or choice, in whatever words. Give the highest score to a right answer and 0 to any other.";

impl Rubric {
    pub fn load(settings: &Settings) -> Result<Rubric> {
        let text = match settings.get::<PathBuf>("rubric")? {
            None => BUILT_IN.to_owned(),
            Some(path) => {
                let place = || format!("cannot read the rubric `{}`", path.display());
                let size = std::fs::metadata(&path).with_context(place)?.len();
                if size > LONGEST_RUBRIC {
                    let message = format!(
                        "the rubric `{}` has {size} bytes, expected at most {LONGEST_RUBRIC}",
                        path.display()
                    );
                    return Err(Error::new(Code::SETTINGS, message));
                }
                std::fs::read_to_string(&path).with_context(place)?
            }
        };
        let highest: u32 = settings.or("highest", 1)?;
        if !(1..=100).contains(&highest) {
            let message = format!("setting `highest` is {highest}, expected 1 to 100");
            return Err(Error::new(Code::SETTINGS, message));
        }
        Ok(Rubric {
            asking: Asking::load(settings)?,
            text,
            highest,
        })
    }
}

impl Protocol for Rubric {
    fn asking(&mut self) -> &mut Asking {
        &mut self.asking
    }
}

impl Judge for Rubric {
    fn card(&self) -> JudgeCard {
        // Another text in the same file is another rubric.
        let version = format!("1+{}", identity::short_hash(&self.text));
        identity::card("rubric", &version, &self.question(&Case::default()))
    }

    fn judge(&self, case: &Case, call: &mut Call) -> Result<Verdict> {
        let asked = self.asking.ask(&self.question(case), call)?;
        let opinion = asked.majority();
        let score = opinion.word.as_deref().and_then(|word| word.parse::<u32>().ok());
        let Some(score) = score else {
            let reason = in_words(opinion.why);
            return Ok(asked.rule(Ruling::Unscored, None, opinion.why, reason));
        };
        let value = f64::from(score) / f64::from(self.highest);
        let ruling = if score == self.highest {
            Ruling::Right
        } else {
            Ruling::Wrong
        };
        Ok(asked.rule(ruling, Some(value), "ok", opinion.reason()))
    }
}

impl Rubric {
    fn question(&self, case: &Case) -> Question {
        let asked = case.prompt.as_ref().map(|prompt| prompt.last_user_text());
        let task = asked.unwrap_or_else(|| case.sample.doc.to_string());
        let gold = match &case.sample.target {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        let answer = case.reply.text.trim();
        let mut marks = Marks::of([task.as_str(), &gold, answer], self.asking.longest);
        let mut user = format!("The task:\n{}\n", marks.around(&task));
        if !gold.is_empty() {
            user += &format!("\nThe reference answer:\n{}\n", marks.around(&gold));
        }
        user += &format!("\nThe answer to grade:\n{}\n", marks.around(answer));
        user += &format!(
            "\nThe rubric:\n{}\n\nAnswer with JSON only: {{\"reason\": \"…\", \"score\": 0}} where score is a whole \
             number from 0 to {}.",
            self.text.trim(),
            self.highest
        );
        Question {
            system: format!("You grade an answer by a rubric. {RULE}"),
            user,
            schema: json!({
                "type": "object", "additionalProperties": false, "required": ["reason", "score"],
                "properties": {
                    "reason": { "type": "string" },
                    "score": { "type": "integer", "enum": (0..=self.highest).collect::<Vec<_>>() },
                },
            }),
            field: "score",
            menu: (0..=self.highest).map(|score| score.to_string()).collect(),
            shortened: marks.shortened,
        }
    }
}
