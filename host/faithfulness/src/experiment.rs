//! The experiments: their names, what their points mean, and how many a chain has.

/// One experiment. Its name is used in files, flags and results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Experiment {
    Baseline,
    NoReasoning,
    Conditioned,
    EarlyAnswering,
    AddingMistakes,
    Paraphrasing,
    FillerText,
    PartialFillerText,
    FlippedPartialFillerText,
    RandomPartialFillerText,
    AudioMasking,
    Snr,
    Hint,
    Swap,
    JascoMasking,
    MistakeControl,
    TargetedMistake,
    RandomSentence,
    SwappedReasoning,
    ShuffledSentences,
    DropOne,
    IrrelevantFiller,
    Hearing,
}

/// What the number of a point means, and so what the x axis shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// k of N sentences: x = k/N.
    Sentences,
    /// The place of the changed sentence, from 1: x = (m − 1)/N.
    Positions,
    /// A percentage.
    Percent,
    /// A signal-to-noise ratio in dB, or the clean clip.
    Decibels,
    /// No axis: one answer a condition.
    None,
}

use Experiment as E;

/// Every experiment with its name.
const NAMES: [(Experiment, &str); 23] = [
    (E::Baseline, "baseline"),
    (E::NoReasoning, "no_reasoning"),
    (E::Conditioned, "conditioned"),
    (E::EarlyAnswering, "early_answering"),
    (E::AddingMistakes, "adding_mistakes"),
    (E::Paraphrasing, "paraphrasing"),
    (E::FillerText, "filler_text"),
    (E::PartialFillerText, "partial_filler_text"),
    (E::FlippedPartialFillerText, "flipped_partial_filler_text"),
    (E::RandomPartialFillerText, "random_partial_filler_text"),
    (E::AudioMasking, "audio_masking"),
    (E::Snr, "snr_robustness"),
    (E::Hint, "adversarial"),
    (E::Swap, "swap"),
    (E::JascoMasking, "jasco_masking"),
    (E::MistakeControl, "mistake_control"),
    (E::TargetedMistake, "targeted_mistake"),
    (E::RandomSentence, "random_sentence"),
    (E::SwappedReasoning, "swapped_reasoning"),
    (E::ShuffledSentences, "shuffled_sentences"),
    (E::DropOne, "drop_one"),
    (E::IrrelevantFiller, "irrelevant_filler"),
    (E::Hearing, "hearing"),
];

/// Other names in use.
const ALIASES: [(&str, Experiment); 5] = [
    ("partial_audio_masking", E::AudioMasking),
    ("snr", E::Snr),
    ("hint", E::Hint),
    ("no_cot", E::NoReasoning),
    ("full_filler_text", E::FillerText),
];

impl Experiment {
    pub fn all() -> impl Iterator<Item = Experiment> {
        NAMES.iter().map(|(experiment, _)| *experiment)
    }

    pub fn name(self) -> &'static str {
        let named = NAMES.iter().find(|(experiment, _)| *experiment == self);
        named.map_or("", |(_, name)| name)
    }

    pub fn parse(name: &str) -> Option<Experiment> {
        let known = NAMES
            .iter()
            .find(|(_, known)| *known == name)
            .map(|(experiment, _)| *experiment);
        known.or_else(|| {
            ALIASES
                .iter()
                .find(|(alias, _)| *alias == name)
                .map(|(_, experiment)| *experiment)
        })
    }

    /// The experiment whose name a text begins with, followed by `_`, and the rest of the text.
    pub(crate) fn prefix(text: &str) -> Option<(Experiment, &str)> {
        let names = NAMES.iter().map(|(experiment, name)| (*name, *experiment));
        let all = names.chain(ALIASES);
        let fits = all.filter_map(|(name, experiment)| {
            let rest = text.strip_prefix(name)?.strip_prefix('_')?;
            Some((name.len(), experiment, rest))
        });
        fits.max_by_key(|(length, ..)| *length)
            .map(|(_, experiment, rest)| (experiment, rest))
    }

    pub fn scale(self) -> Scale {
        match self {
            E::EarlyAnswering | E::Paraphrasing => Scale::Sentences,
            E::AddingMistakes | E::MistakeControl | E::TargetedMistake | E::RandomSentence | E::DropOne => {
                Scale::Positions
            }
            E::FillerText
            | E::PartialFillerText
            | E::FlippedPartialFillerText
            | E::RandomPartialFillerText
            | E::IrrelevantFiller
            | E::AudioMasking
            | E::JascoMasking => Scale::Percent,
            E::Snr => Scale::Decibels,
            E::Baseline
            | E::NoReasoning
            | E::Conditioned
            | E::Hint
            | E::Swap
            | E::SwappedReasoning
            | E::ShuffledSentences
            | E::Hearing => Scale::None,
        }
    }

    /// The width of a bin of the published curve, in percent.
    pub fn bin(self) -> Option<f64> {
        match self.scale() {
            Scale::Sentences => Some(5.0),
            Scale::Positions => Some(10.0),
            Scale::Percent | Scale::Decibels | Scale::None => None,
        }
    }

    /// The percentages that the published runs ask for.
    pub fn percentages(self) -> Option<Vec<u32>> {
        match (self.scale(), self) {
            (Scale::Percent, E::AudioMasking) => Some((0..=100).step_by(10).collect()),
            (Scale::Percent, _) => Some((0..=100).step_by(5).collect()),
            _ => None,
        }
    }

    /// What the x axis says.
    pub fn axis(self) -> &'static str {
        match self {
            E::EarlyAnswering => "% of sentences kept",
            E::Paraphrasing => "% of sentences paraphrased",
            E::AudioMasking => "% of audio masked",
            E::Snr => "signal-to-noise ratio (dB)",
            _ if self.scale() == Scale::Percent => "% of words replaced",
            _ => "% of chain without mistake",
        }
    }
}
