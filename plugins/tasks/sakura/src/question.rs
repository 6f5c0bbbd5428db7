//! One question: the instruction as published, its options, and which of them is right.

use data::Row;
use plugin_api::Result;
use serde_json::{Value, json};

/// What to listen for in a clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Track {
    Gender,
    Language,
    Emotion,
    Animal,
}

impl Track {
    /// The tracks, in the order of the published figures.
    pub const ALL: [Track; 4] = [Track::Gender, Track::Language, Track::Emotion, Track::Animal];

    /// The track as a word.
    pub fn word(self) -> &'static str {
        match self {
            Track::Gender => "gender",
            Track::Language => "language",
            Track::Emotion => "emotion",
            Track::Animal => "animal",
        }
    }

    /// The folder that it is published in: `Animal`.
    pub fn folder(self) -> &'static str {
        match self {
            Track::Gender => "Gender",
            Track::Language => "Language",
            Track::Emotion => "Emotion",
            Track::Animal => "Animal",
        }
    }

    /// Its data set's name on the hub: `AnimalQA`.
    pub fn hub_name(self) -> &'static str {
        match self {
            Track::Gender => "GenderQA",
            Track::Language => "LanguageQA",
            Track::Emotion => "EmotionQA",
            Track::Animal => "AnimalQA",
        }
    }

    /// The track of this word, or of a folder of this name.
    pub fn from_word(word: &str) -> Option<Track> {
        let same = |name: &str| name.eq_ignore_ascii_case(word);
        let mut all = Track::ALL.into_iter();
        all.find(|track| same(track.word()) || same(track.hub_name()))
    }

    /// The track whose clips have this label.
    fn of_label(label: &str) -> Option<Track> {
        Some(match label.trim().to_lowercase().as_str() {
            "female" | "male" => Track::Gender,
            "german" | "english" | "spanish" | "french" | "italian" | "japanese" | "korean" | "chinese" => {
                Track::Language
            }
            "angry" | "sad" | "fear" | "disgust" | "happy" => Track::Emotion,
            "dog" | "cat" | "frog" | "cow" | "sheep" | "pig" | "hen" | "rooster" | "crow" => Track::Animal,
            _ => return None,
        })
    }

    /// The track of a row: what it says, what its clip's path says, or what its label says.
    pub(crate) fn of_row(row: &Row) -> Option<Track> {
        let said = ["track", "attribute"].iter().find_map(|field| row.at(field)?.as_str());
        let path = || clip_name(row)?.split('/').find_map(Track::from_word);
        let label = || Track::of_label(row.at("attribute_label")?.as_str()?);
        let id = || Track::from_word(parts_of_id(row)?.0);
        said.and_then(Track::from_word).or_else(path).or_else(label).or_else(id)
    }
}

/// How far a question goes beyond what is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hop {
    /// It asks for what is heard.
    Single,
    /// It asks for what follows from that.
    Multi,
}

impl Hop {
    /// Both, in order.
    pub const ALL: [Hop; 2] = [Hop::Single, Hop::Multi];

    /// The hop as a word.
    pub fn word(self) -> &'static str {
        match self {
            Hop::Single => "single",
            Hop::Multi => "multi",
        }
    }

    /// The hop of this word.
    pub fn from_word(word: &str) -> Option<Hop> {
        let word = word.trim().to_lowercase();
        Hop::ALL.into_iter().find(|hop| word.starts_with(hop.word()))
    }

    /// The hop that a row of a manifest says it is.
    pub(crate) fn of_row(row: &Row) -> Option<Hop> {
        let said = ["hop", "type"].iter().find_map(|field| row.at(field)?.as_str());
        let id = || Hop::from_word(parts_of_id(row)?.1);
        said.and_then(Hop::from_word).or_else(id)
    }
}

/// The track and the hop in a manifest's ids: `sakura_animal_0_single`.
fn parts_of_id(row: &Row) -> Option<(&str, &str)> {
    let (track, rest) = row.at("id")?.as_str()?.strip_prefix("sakura_")?.split_once('_')?;
    let (_, hop) = rest.rsplit_once('_')?;
    Some((track, hop))
}

/// Field names of a clip's path in files, and of a question's answer in manifests.
const CLIP_FIELDS: [&str; 6] = ["file", "audio.path", "audio", "audio_path", "path", "key"];
const ANSWER_FIELDS: [&str; 2] = ["answer", "label"];

/// Some manifests have this placeholder for the folder of the setting `data_root`.
const ROOT: &str = "{DATA_ROOT}";

/// The path of a row's clip, relative to the folder of clips.
pub(crate) fn clip_name(row: &Row) -> Option<&str> {
    let name = CLIP_FIELDS.iter().find_map(|field| row.at(field)?.as_str())?;
    Some(
        name.strip_prefix(ROOT)
            .map_or(name, |rest| rest.trim_start_matches('/')),
    )
}

/// True when a row holds two questions about its clip, as published.
pub(crate) fn is_pair(row: &Row) -> bool {
    Hop::ALL
        .iter()
        .any(|hop| row.at(&format!("{}_instruction", hop.word())).is_some())
}

/// A question and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The whole instruction, options included.
    pub instruction: String,
    /// The instruction up to its first option.
    pub stem: String,
    /// The options' words, as they stand; none for a question without options.
    pub options: Vec<String>,
    /// The right answer as published, letter and words; none where it is not known.
    pub truth: Option<String>,
    /// Which option that is.
    pub right: Option<usize>,
}

impl Question {
    /// The question of a row: one of two, or the only one of a manifest's row.
    pub(crate) fn read(row: &Row, hop: Option<Hop>) -> Result<Question> {
        let field = |name: &str| match hop.filter(|_| is_pair(row)) {
            Some(hop) => format!("{}_{name}", hop.word()),
            None => name.to_owned(),
        };
        let instruction = row.text(&field("instruction"))?.trim().to_owned();
        if instruction.is_empty() {
            return Err(row.wrong(&field("instruction"), "is empty"));
        }
        let (stem, options) = options(&instruction);
        let answer = match is_pair(row) {
            true => Some(field("answer")),
            false => ANSWER_FIELDS
                .iter()
                .find(|name| row.at(name).is_some())
                .map(|name| (*name).to_owned()),
        };
        let mut question = Question {
            stem: stem.to_owned(),
            options: options.into_iter().map(str::to_owned).collect(),
            truth: None,
            right: None,
            instruction,
        };
        if let Some(path) = answer {
            // Most of one track's answers are published with a blank before them.
            let truth = row.word(&path)?.trim().to_owned();
            question.right = question.option_of(&truth);
            if question.right.is_none() && !question.options.is_empty() {
                let shown: Vec<_> = question.options.iter().map(|option| format!("`{option}`")).collect();
                let error = row.wrong(&path, format!("is `{truth}`, which is none of the question's options"));
                return Err(error.help(format!("the options are {}", shown.join(", "))));
            }
            question.truth = Some(truth);
        }
        Ok(question)
    }

    /// The option of an answer: by letter and words, by words, or by letter.
    fn option_of(&self, truth: &str) -> Option<usize> {
        let same = |text: &str| {
            let plain = plain(text);
            self.options.iter().position(|option| self::plain(option) == plain)
        };
        let letter = |text: &str| {
            let mut letters = text.chars().map(|letter| letter.to_ascii_lowercase());
            let index = (letters.next()? as usize).checked_sub('a' as usize)?;
            (letters.next().is_none() && index < self.options.len()).then_some(index)
        };
        if let Some((mark, rest)) = truth.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
            let index = letter(mark.trim())?;
            return (rest.trim().is_empty() || plain(rest) == plain(&self.options[index])).then_some(index);
        }
        same(truth).or_else(|| letter(truth))
    }

    /// An option as published: `(b) crow`.
    pub fn option(&self, index: usize) -> Option<String> {
        let words = self.options.get(index)?;
        Some(format!("({}) {words}", letter(index)))
    }
}

/// The small letter of an option.
pub(crate) fn letter(index: usize) -> char {
    score::letter_of(index).unwrap_or('?').to_ascii_lowercase()
}

/// A text without what makes no difference: case and runs of blanks.
pub(crate) fn plain(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(" ").to_lowercase()
}

/// The question's words, and its options: `(a) … (b) …` up to the end. They begin with the last `(a)` that a `(b)`
/// follows, so brackets in the question itself do not matter.
pub fn options(instruction: &str) -> (&str, Vec<&str>) {
    let mark = |from: usize, index: usize| {
        let letters = [letter(index), letter(index).to_ascii_uppercase()];
        let found = letters.iter().filter_map(|letter| {
            let rest = instruction.get(from..)?;
            Some(from + rest.find(&format!("({letter})"))?)
        });
        found.min()
    };
    let last = |text: &str, index: usize| {
        let letters = [letter(index), letter(index).to_ascii_uppercase()];
        letters
            .iter()
            .filter_map(|letter| text.rfind(&format!("({letter})")))
            .max()
    };
    let Some(start) = last(instruction, 1).and_then(|second| last(&instruction[..second], 0)) else {
        return (instruction, Vec::new());
    };
    let marks: Vec<usize> =
        std::iter::successors(Some((start, 0)), |(at, index)| Some((mark(*at, index + 1)?, index + 1)))
            .take(26)
            .map(|(at, _)| at)
            .collect();
    let ends = marks[1..].iter().copied().chain([instruction.len()]);
    let texts = marks
        .iter()
        .zip(ends)
        .map(|(start, end)| instruction[start + 3..end].trim());
    (instruction[..start].trim_end(), texts.collect())
}

/// A question as a sample stores it: without the other question about the same clip, which would give the answer away.
pub(crate) fn doc(row: &Row, track: Option<Track>, hop: Option<Hop>, question: &Question) -> Value {
    let mut doc = json!({
        "file": clip_name(row),
        "track": track.map(Track::word),
        "hop": hop.map(Hop::word),
        "attribute_label": row.at("attribute_label"),
        "instruction": question.instruction,
        "answer": question.truth,
    });
    if let Some(rationale) = row.at("rationale") {
        doc["rationale"] = rationale.clone();
    }
    doc
}

#[cfg(test)]
mod tests {
    use super::*;
    use data::Place;

    #[track_caller]
    fn check(instruction: &str, stem: &str, expected: &[&str]) {
        assert_eq!(options(instruction), (stem, expected.to_vec()), "{instruction}");
    }

    #[test]
    fn options_stand_in_the_instruction() {
        check("Who? (a) Female (b) Male", "Who?", &["Female", "Male"]);
        check("Which? (A) x, y (B) z", "Which?", &["x, y", "z"]);
        check(
            "Which (a sound) fits? (a) one (b) two  words (c) three (d)",
            "Which (a sound) fits?",
            &["one", "two  words", "three", ""],
        );
        check("As in (a), which? (a) p (b) q", "As in (a), which?", &["p", "q"]);
        check("(a)(b)", "", &["", ""]);
        check("No options here.", "No options here.", &[]);
        check("Only (a) one", "Only (a) one", &[]);
        check("(b) before (a) after", "(b) before (a) after", &[]);
    }

    fn read(value: Value, hop: Option<Hop>) -> Result<Question> {
        Question::read(&Row::new(value, Place::Sample("x".to_owned())), hop)
    }

    #[test]
    fn the_right_option_is_found_by_letter_and_words() {
        let right = |answer: &str| {
            let row = json!({"instruction": "Which? (a) crow (b) Big  dog (c) a", "answer": answer});
            read(row, None).map(|question| question.right).ok().flatten()
        };
        assert_eq!(right(" (b) Big  dog"), Some(1));
        assert_eq!(right("(B) big dog"), Some(1));
        assert_eq!(right("(b)"), Some(1));
        assert_eq!(right("CROW"), Some(0));
        assert_eq!(right("B"), Some(1));
        assert_eq!(right("a"), Some(2)); // its words come before its letter
        assert_eq!(right("(a) dog"), None);
        assert_eq!(right("(d)"), None);
        assert_eq!(right("cat"), None);
        let error = read(json!({"instruction": "Which? (a) x (b) y", "label": "z"}), None).unwrap_err();
        assert_eq!(
            error.message,
            "sample `x`: field `label` is `z`, which is none of the question's options"
        );
    }

    #[test]
    fn a_pair_gives_the_question_that_is_asked_for() {
        let pair = json!({"single_instruction": "S? (a) x (b) y", "single_answer": "(a) x",
            "multi_instruction": "M? (a) p (b) q", "multi_answer": "(b) q"});
        assert_eq!(read(pair.clone(), Some(Hop::Single)).unwrap().right, Some(0));
        assert_eq!(read(pair, Some(Hop::Multi)).unwrap().truth.as_deref(), Some("(b) q"));
        let open = read(json!({"instruction": "What is it?", "answer": "a dog"}), None).unwrap();
        assert_eq!((open.right, open.truth.as_deref()), (None, Some("a dog")));
        assert_eq!(
            read(json!({"instruction": "What? (a) x (b) y"}), None).unwrap().truth,
            None
        );
        assert!(read(json!({"instruction": " "}), None).is_err());
    }

    #[test]
    fn a_track_is_known_by_what_the_row_says() {
        let track = |value: Value| Track::of_row(&Row::new(value, Place::Sample("x".to_owned())));
        assert_eq!(track(json!({"track": "emotion"})), Some(Track::Emotion));
        assert_eq!(track(json!({"key": "data/Animal/audio/x.wav"})), Some(Track::Animal));
        assert_eq!(track(json!({"attribute_label": "Korean"})), Some(Track::Language));
        assert_eq!(track(json!({"attribute_label": "loud"})), None);
    }
}
