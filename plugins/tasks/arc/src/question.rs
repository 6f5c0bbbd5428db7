//! One row, in either of the two published forms.

use data::Row;
use plugin_api::Result;
use score::letter_of;
use std::borrow::Cow;
use std::collections::HashSet;

/// A question with its options; the row's labels are no longer needed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Question {
    pub id: String,
    pub text: String,
    pub options: Vec<String>,
    /// The index of the right option.
    pub right: usize,
}

impl Question {
    /// Reads the flat form (`question`, `choices.text`, `choices.label`) or the nested one (`question.stem`,
    /// `question.choices`, a list of `text` and `label`).
    pub fn read(row: &Row) -> Result<Question> {
        let nested = row.at("question").is_some_and(|question| question.is_object());
        let text_path = if nested { "question.stem" } else { "question" };
        let (options_path, options, labels) = if nested {
            let list = "question.choices";
            let member = |name: &str| -> Result<Vec<Cow<'_, str>>> {
                let items = 0..row.list(list)?.len();
                items.map(|index| row.word(&format!("{list}.{index}.{name}"))).collect()
            };
            (list, member("text")?, member("label")?)
        } else {
            ("choices.text", row.words("choices.text")?, row.words("choices.label")?)
        };
        let question = Question {
            id: row.word("id")?.into_owned(),
            text: row.text(text_path)?.to_owned(),
            right: right_one(row, &options, &labels, options_path)?,
            options: options.into_iter().map(Cow::into_owned).collect(),
        };
        for (path, text) in [("id", &question.id), (text_path, &question.text)] {
            if text.trim().is_empty() {
                return Err(row.wrong(path, "is empty"));
            }
        }
        Ok(question)
    }

    /// The letter that stands for an option.
    pub fn letter(&self, index: usize) -> String {
        letter_of(index).map(String::from).unwrap_or_default()
    }

    /// All letters, in order.
    pub fn letters(&self) -> impl Iterator<Item = String> + '_ {
        (0..self.options.len()).map(|index| self.letter(index))
    }
}

/// Checks the options and finds the right one by its label.
fn right_one(row: &Row, options: &[Cow<str>], labels: &[Cow<str>], path: &str) -> Result<usize> {
    if options.len() != labels.len() {
        let why = format!("has {} texts, but there are {} labels", options.len(), labels.len());
        return Err(row.wrong(path, why).help("each option needs a text and a label"));
    }
    if !(2..=26).contains(&options.len()) {
        return Err(row.wrong(path, format!("has {} options, expected 2 to 26", options.len())));
    }
    // An empty option would be the most likely one, and has no length to divide by.
    if let Some(index) = options.iter().position(|option| option.trim().is_empty()) {
        return Err(row.wrong(path, format!("has no text for option `{}`", labels[index])));
    }
    let mut seen = HashSet::new();
    if let Some(twice) = labels.iter().find(|label| !seen.insert(label.trim())) {
        return Err(row.wrong(path, format!("has the label `{twice}` twice")));
    }
    let key = row.word("answerKey")?;
    labels
        .iter()
        .position(|label| label.trim() == key.trim())
        .ok_or_else(|| {
            let known: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
            let error = row.wrong("answerKey", format!("is `{key}`, expected one of {}", known.join(", ")));
            match key.trim().is_empty() {
                true => error.help("this part of the data may be published without its answers"),
                false => error,
            }
        })
}
