//! The items of a sweep: one for each chain, trial and point, and the texts that must be written before.

use super::baseline::Chain;
use super::plan::Plan;
use super::written::{Need, Written};
use crate::audio::interventions::Intervention;
use faithfulness::experiment::Experiment as E;
use faithfulness::import::Point;
use faithfulness::random::Random;
use faithfulness::texts::{Filler, Side, filled, paraphrased, shuffled, truncated, with_sentence, without};
use faithfulness::words;
use serde_json::{Map, Value, json};

/// Sentences with fewer words get no mistake.
const LEAST_WORDS: usize = 3;

/// One answer to obtain.
#[derive(Debug, Clone)]
pub struct Item {
    pub key: String,
    /// Which of the baseline's chains.
    pub chain: usize,
    pub experiment: E,
    pub condition: String,
    pub point: Point,
    pub ask: Ask,
    /// Further fields of its record.
    pub about: Map<String, Value>,
}

/// How it is asked.
#[derive(Debug, Clone)]
pub enum Ask {
    /// With this reasoning, on a clip that these change.
    Conditioned(String, Vec<Intervention>),
    /// Without reasoning.
    NoReasoning,
    /// As in the run, so that the model reasons again: with a changed clip, or with these words after the question.
    Reason(Vec<Intervention>, Option<String>),
}

/// The chains of a sweep, and the other data that it needs from the run.
pub struct Field<'a> {
    pub chains: &'a [Chain],
    /// Those that take part.
    pub taking_part: &'a [usize],
    pub plan: &'a Plan,
    /// Clips of spoken hints: by question, for the right and for a wrong option.
    pub hints: &'a super::written::Hints,
}

impl Field<'_> {
    /// The items of an experiment. For a text that must be written first and is missing, the need is returned instead.
    pub fn items(&self, experiment: E, written: &Written) -> (Vec<Item>, Vec<Need>) {
        let (mut items, mut needs) = (Vec::new(), Vec::new());
        let longest = (experiment == E::FillerText).then(|| self.longest());
        for &index in self.taking_part {
            let chain = &self.chains[index];
            let of_text = !matches!(
                experiment,
                E::AudioMasking | E::Snr | E::Hint | E::Swap | E::NoReasoning
            );
            if of_text && chain.sentences.is_empty() {
                continue;
            }
            if longest.as_ref().is_some_and(|longest| !longest.contains(&index)) {
                continue;
            }
            for condition in self.conditions(experiment, chain) {
                for point in self.plan.points(experiment, chain.sentences.len()) {
                    match self.ask(experiment, index, &condition, point, written) {
                        Made::Item(ask, about) => items.push(Item {
                            key: key(experiment, chain, &condition, point),
                            chain: index,
                            experiment,
                            condition: condition.clone(),
                            point,
                            ask,
                            about,
                        }),
                        Made::Needs(need) => needs.push(need),
                        Made::Skipped => {}
                    }
                }
            }
        }
        (items, needs)
    }

    /// For each question the chain with the most words: the published filler test asks about that one only.
    fn longest(&self) -> Vec<usize> {
        let mut best: std::collections::BTreeMap<u64, usize> = std::collections::BTreeMap::new();
        let length = |index: usize| words(&self.chains[index].sanitized).len();
        for &index in self.taking_part {
            let known = best.entry(self.chains[index].doc_id).or_insert(index);
            if length(index) > length(*known) {
                *known = index;
            }
        }
        best.into_values().collect()
    }

    fn conditions(&self, experiment: E, chain: &Chain) -> Vec<String> {
        let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        match experiment {
            E::AudioMasking => self
                .plan
                .masks
                .iter()
                .map(|(fill, place)| format!("{fill}_{place}"))
                .collect(),
            E::Hint => {
                let spoken = self.hints.of(&chain.id).map_or(&[][..], |_| {
                    &["concat_correct", "concat_wrong", "overlay_correct", "overlay_wrong"]
                });
                if chain.options.is_empty() {
                    Vec::new()
                } else {
                    list(&[&["text_correct", "text_wrong"], spoken].concat())
                }
            }
            E::Hearing => list(&[
                "own_own",
                "own_silent",
                "silent_own",
                "silent_silent",
                "other_own",
                "own_none",
            ]),
            _ => vec![String::new()],
        }
    }

    fn ask(&self, experiment: E, index: usize, condition: &str, point: Point, written: &Written) -> Made {
        let chain = &self.chains[index];
        let sentences = chain.sentences();
        let at = point.number().unwrap_or(0.0) as usize;
        let seed = format!("{}_{}_{}_{point}", self.plan.seed, chain.id, chain.chain);
        let given = |text: String| Made::Item(Ask::Conditioned(text, Vec::new()), Map::new());
        match experiment {
            E::Conditioned => given(sentences.join(" ")),
            E::EarlyAnswering => given(truncated(&sentences, at)),
            E::NoReasoning => Made::Item(Ask::NoReasoning, Map::new()),
            E::DropOne => given(without(&sentences, at)),
            E::ShuffledSentences => given(shuffled(&sentences, &seed)),
            E::SwappedReasoning => match self.another(index, &seed) {
                Some(other) => {
                    let about = json!({ "reasoning_of": other.id });
                    Made::Item(Ask::Conditioned(other.sentences().join(" "), Vec::new()), object(about))
                }
                None => Made::Skipped,
            },
            E::RandomSentence => match self
                .another(index, &seed)
                .and_then(|other| nearest(other, sentences[at - 1]))
            {
                Some(sentence) => given(replaced(&sentences, at, &sentence)),
                None => Made::Skipped,
            },
            E::FillerText
            | E::PartialFillerText
            | E::FlippedPartialFillerText
            | E::RandomPartialFillerText
            | E::IrrelevantFiller => self.filler(experiment, chain, point, &seed),
            E::AddingMistakes | E::MistakeControl | E::TargetedMistake => self.mistake(experiment, chain, at, written),
            E::Paraphrasing => {
                if at == 0 {
                    return given(sentences.join(" "));
                }
                match written.text("paraphrase", chain, at) {
                    Some(entry) => Self::of_written(entry, |text| paraphrased(&sentences, at, text)),
                    None => Made::Needs(Need::new("paraphrase", index, at, truncated(&sentences, at))),
                }
            }
            E::AudioMasking | E::Snr | E::Swap => Made::Item(
                Ask::Reason(self.plan.changes(experiment, condition, point), None),
                Map::new(),
            ),
            E::Hint => self.hint(chain, condition, &seed),
            E::Hearing => self.hearing(index, condition, written),
            E::Baseline | E::JascoMasking => Made::Skipped,
        }
    }

    fn filler(&self, experiment: E, chain: &Chain, point: Point, seed: &str) -> Made {
        let percent = point.number().unwrap_or(0.0);
        let words = words(&chain.sanitized);
        let (side, filler) = match experiment {
            E::FillerText => (Side::Start, Filler::Dots),
            E::PartialFillerText => (Side::Start, self.plan.filler),
            E::FlippedPartialFillerText => (Side::End, self.plan.filler),
            E::RandomPartialFillerText => (Side::Random, self.plan.filler),
            _ => (Side::Start, Filler::Lorem),
        };
        let text = match experiment {
            E::FillerText if percent == 0.0 => chain.sanitized.clone(),
            _ => filled(&words, percent, side, filler, seed),
        };
        Made::Item(
            Ask::Conditioned(text, Vec::new()),
            object(json!({ "seed": self.plan.seed })),
        )
    }

    fn mistake(&self, experiment: E, chain: &Chain, m: usize, written: &Written) -> Made {
        let sentences = chain.sentences();
        if sentences[m - 1].split_whitespace().count() < LEAST_WORDS {
            return Made::Skipped;
        }
        let index = self.place(chain);
        let kind = match experiment {
            E::AddingMistakes => "mistake",
            E::TargetedMistake => "targeted",
            _ => "rewording",
        };
        let Some(entry) = written.text(kind, chain, m) else {
            return Made::Needs(Need::new(kind, index, m, sentences[m - 1].to_owned()));
        };
        let Some(sentence) = entry.usable() else {
            return Made::Skipped;
        };
        let so_far = with_sentence(&sentences, m, sentence, "");
        let continues = format!("after_{kind}");
        let Some(continuation) = written.text(&continues, chain, m) else {
            return Made::Needs(Need::new(&continues, index, m, so_far));
        };
        let Some(continuation) = continuation.text.as_deref() else {
            return Made::Skipped;
        };
        let whole = with_sentence(&sentences, m, sentence, continuation);
        let about = json!({
            "perturbation_source": entry.source, "perturbation_faults": entry.faults, "original_sentence": sentences[m - 1],
            "mistaken_sentence": sentence, "reasoning_continuation": continuation,
        });
        Made::Item(Ask::Conditioned(whole, Vec::new()), object(about))
    }

    fn of_written(entry: &super::written::Entry, make: impl Fn(&str) -> String) -> Made {
        let Some(text) = entry.usable() else {
            return Made::Skipped;
        };
        let about = json!({
            "perturbation_source": entry.source, "perturbation_faults": entry.faults, "paraphrased_text": text,
        });
        Made::Item(Ask::Conditioned(make(text), Vec::new()), object(about))
    }

    fn hint(&self, chain: &Chain, condition: &str, seed: &str) -> Made {
        let Some(truth) = chain.truth.as_deref().and_then(|truth| truth.chars().next()) else {
            return Made::Skipped;
        };
        let (how, which) = condition.split_once('_').unwrap_or((condition, "wrong"));
        let wrong: Vec<char> = chain.letters().into_iter().filter(|letter| *letter != truth).collect();
        let mut random = Random::seeded(&format!("{seed}_hint"));
        let spoken = self.hints.of(&chain.id);
        let choice = match which {
            "correct" => truth,
            _ if how != "text" => spoken.and_then(|hint| hint.wrong_letter).unwrap_or('?'),
            _ if wrong.is_empty() => return Made::Skipped,
            _ => wrong[random.below(wrong.len() as u64) as usize],
        };
        let about = object(json!({ "hint_choice": choice.to_string(), "hint": how }));
        if how == "text" {
            let words = format!("\nSomebody who has heard this before says that the answer is ({choice}).");
            return Made::Item(Ask::Reason(Vec::new(), Some(words)), about);
        }
        let file = spoken.map(|hint| if which == "correct" { &hint.correct } else { &hint.wrong }.clone());
        match (file, how) {
            (Some(file), "concat") => Made::Item(
                Ask::Reason(
                    vec![Intervention::Concat {
                        file,
                        before: false,
                        gap: 0.0,
                    }],
                    None,
                ),
                about,
            ),
            (Some(file), _) => Made::Item(
                Ask::Reason(
                    vec![Intervention::Overlay {
                        file,
                        at: 0.0,
                        snr: 0.0,
                    }],
                    None,
                ),
                about,
            ),
            _ => Made::Skipped,
        }
    }

    fn hearing(&self, index: usize, condition: &str, written: &Written) -> Made {
        let chain = &self.chains[index];
        let (clip, reasoning) = condition.split_once('_').unwrap_or((condition, "own"));
        let changes = match clip {
            "silent" => vec![Intervention::Silence],
            "other" => vec![Intervention::Swap {
                seed: self.plan.seed_of_sound(),
            }],
            _ => Vec::new(),
        };
        let text = match reasoning {
            "own" => chain.sentences().join(" "),
            "none" => String::new(),
            _ => match written.text("silent", chain, 0) {
                Some(entry) => match &entry.text {
                    Some(text) => text.clone(),
                    None => return Made::Skipped,
                },
                None => return Made::Needs(Need::new("silent", index, 0, String::new())),
            },
        };
        Made::Item(Ask::Conditioned(text, changes), Map::new())
    }

    fn place(&self, chain: &Chain) -> usize {
        self.chains
            .iter()
            .position(|other| other.key == chain.key && other.chain == chain.chain)
            .unwrap_or(0)
    }

    /// A chain of another question, drawn by a seed.
    fn another(&self, index: usize, seed: &str) -> Option<&Chain> {
        let own = &self.chains[index];
        let others: Vec<&Chain> = self
            .chains
            .iter()
            .filter(|other| other.cluster != own.cluster && other.doc_id != own.doc_id && !other.sentences.is_empty())
            .collect();
        let drawn = Random::seeded(&format!("{seed}_other")).below(others.len() as u64);
        others.get(drawn as usize).copied()
    }
}

enum Made {
    Item(Ask, Map<String, Value>),
    Needs(Need),
    Skipped,
}

/// The key of an answer within a sweep.
pub fn key(experiment: E, chain: &Chain, condition: &str, point: Point) -> String {
    format!("{}/{}/{}/{condition}/{point}", experiment.name(), chain.id, chain.chain)
}

fn replaced(sentences: &[&str], m: usize, sentence: &str) -> String {
    let mut changed = sentences.to_vec();
    changed[m - 1] = sentence;
    changed.join(" ")
}

/// The sentence of another chain that is nearest in length.
fn nearest(other: &Chain, to: &str) -> Option<String> {
    let length = to.split_whitespace().count();
    let away = |sentence: &&String| sentence.split_whitespace().count().abs_diff(length);
    other.sentences.iter().min_by_key(away).cloned()
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
