//! What a result file's path says of its rows.

use crate::experiment::Experiment;
use std::path::Path;

const MODELS: [&str; 15] = [
    "flamingo_hf",
    "flamingo",
    "aflamingo_3",
    "qwen_omni_2.5",
    "qwen_audio_2",
    "qwen_omni",
    "qwen",
    "salmonn_audio_7b",
    "salmonn_7b",
    "salmonn",
    "audio_flamingo_3",
    "audio-flamingo-3",
    "qwen2_audio",
    "af3",
    "omni",
];
const DATASETS: [&str; 7] = [
    "sakura-animal",
    "sakura-emotion",
    "sakura-gender",
    "sakura-language",
    "mmar",
    "mmau",
    "jasco",
];

/// One of several files that hold a result together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// From 1.
    Numbered(usize),
    /// Rows of the question set, the end excluded.
    Range(usize, usize),
}

impl Part {
    pub fn number(self) -> Option<usize> {
        match self {
            Part::Numbered(number) => Some(number),
            Part::Range(..) => None,
        }
    }
}

/// `{experiment}_{model}_{dataset}` with its suffixes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Name {
    pub experiment: Option<Experiment>,
    pub model: Option<String>,
    pub dataset: Option<String>,
    /// `-restricted`, `-lorem`, `-mistral`, `-llama` in this order, whatever the file's own.
    pub variant: String,
    /// `silence_random`, `overlay_wrong`.
    pub condition: String,
    pub part: Option<Part>,
}

impl Name {
    pub fn of(path: &Path) -> Name {
        let file = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let stem = file
            .strip_suffix(".jsonl")
            .or_else(|| file.strip_suffix(".json"))
            .unwrap_or(&file);
        let (stem, part) = split_part(stem);
        let mut name = Name {
            part,
            ..Name::default()
        };
        let folders: Vec<String> = path
            .parent()
            .map(|folder| {
                folder
                    .components()
                    .map(|part| part.as_os_str().to_string_lossy().into_owned())
                    .collect()
            })
            .unwrap_or_default();
        let Some((experiment, rest)) = Experiment::prefix(stem) else {
            let mut words = folders.iter().map(String::as_str).chain([stem]).collect::<Vec<_>>();
            words.reverse();
            let known = |word: &&str| {
                MODELS
                    .iter()
                    .find(|model| word.to_lowercase().contains(**model))
                    .copied()
            };
            name.model = words.iter().find_map(known).map(str::to_owned);
            return name;
        };
        name.experiment = Some(experiment);
        // In `results/{model}/{experiment}/…` the folder says where the model's name ends.
        let named = |folder: &String| {
            rest.strip_prefix(folder.as_str())?
                .strip_prefix('_')
                .map(|rest| (folder.clone(), rest))
        };
        let by_folder = folders.iter().filter(|folder| !folder.is_empty()).rev().find_map(named);
        let by_list = || {
            let known = MODELS
                .iter()
                .find_map(|model| Some((*model, rest.strip_prefix(model)?.strip_prefix('_')?)));
            known.map(|(model, rest)| (model.to_owned(), rest))
        };
        let by_dataset = || {
            let at = DATASETS
                .iter()
                .filter_map(|dataset| rest.find(&format!("_{dataset}")))
                .min()?;
            Some((rest[..at].to_owned(), &rest[at + 1..]))
        };
        let by_mark = || rest.split_once('_').map(|(model, rest)| (model.to_owned(), rest));
        let found = by_folder.or_else(by_list).or_else(by_dataset).or_else(by_mark);
        let Some((model, rest)) = found else {
            name.model = Some(rest.to_owned());
            return name;
        };
        name.model = Some(model);
        name.read_dataset(rest);
        name
    }

    fn read_dataset(&mut self, text: &str) {
        let known = DATASETS.iter().find(|dataset| text.starts_with(*dataset));
        let length = known.map_or_else(|| text.find('_').unwrap_or(text.len()), |dataset| dataset.len());
        let (mut dataset, mut rest) = (text[..length].to_owned(), &text[length..]);
        if let Some(after) = rest.strip_prefix("-noisy") {
            dataset += "-noisy";
            rest = after;
        }
        // Unknown data sets may have the suffixes within what was taken for their name.
        let (mut suffixes, mut tail) = (Vec::new(), rest.to_owned());
        for suffix in ["-restricted", "-lorem", "-mistral", "-llama", "-dots"] {
            for text in [&mut dataset, &mut tail] {
                if let Some(at) = text.find(suffix) {
                    text.replace_range(at..at + suffix.len(), "");
                    suffixes.push(suffix);
                }
            }
        }
        self.dataset = Some(dataset);
        self.variant = suffixes.into_iter().filter(|suffix| *suffix != "-dots").collect();
        self.condition = tail.trim_start_matches(['_', '-']).to_owned();
    }
}

fn split_part(stem: &str) -> (&str, Option<Part>) {
    if let Some((rest, number)) = stem.rsplit_once(".part_")
        && let Ok(number) = number.parse()
    {
        return (rest, Some(Part::Numbered(number)));
    }
    if let Some((rest, range)) = stem.rsplit_once(".range_")
        && let Some((start, end)) = range.split_once('_')
        && let (Ok(start), Ok(end)) = (start.parse(), end.parse())
    {
        return (rest, Some(Part::Range(start, end)));
    }
    (stem, None)
}

/// The data set that an id names: `sakura_animal_0_single` is of `sakura-animal`.
pub(super) fn dataset_of_id(id: &str) -> Option<String> {
    let mut words = id.split('_');
    match (words.next()?, words.next()) {
        ("sakura", Some(track)) if !track.is_empty() => Some(format!("sakura-{track}")),
        (first @ ("mmar" | "mmau" | "jasco"), _) => Some(first.to_owned()),
        _ => None,
    }
}

/// The clip of a question: both hops of SAKURA share one.
pub fn clip_of(id: &str, audio: Option<&str>) -> String {
    for hop in ["_single", "_multi"] {
        if let Some(clip) = id.strip_suffix(hop) {
            return clip.to_owned();
        }
    }
    audio.filter(|path| !path.is_empty()).unwrap_or(id).to_owned()
}
