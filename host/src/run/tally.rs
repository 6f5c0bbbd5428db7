//! Sums over many records: means, counts, times, and signs that something is wrong with them.

use super::graded::GradedBy;
use super::statistics::{Estimate, Latency, Mean};
use super::store::record::{Input, Record};
use super::store::score::ScoreStatus;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Everything behind the results and the table. Adding a record keeps none of its text.
#[derive(Debug, Default)]
pub struct Tally {
    pub finished: u64,
    pub failed: u64,
    pub no_answer: u64,
    pub unscored: u64,
    /// Answers without a score so far.
    pub pending: u64,
    pub prompt_tokens: u64,
    pub generated_tokens: u64,
    pub inputs: BTreeMap<Input, u64>,
    pub errors: BTreeMap<String, (u64, String)>,
    pub flags: BTreeMap<String, u64>,
    /// The models that the task asked while it scored.
    pub graded_by: GradedBy,
    /// Answers to each question; they are not independent of each other.
    chains: u32,
    /// Samples with a damaged clip, and what was wrong with the first.
    pub damaged: (u64, String),
    means: BTreeMap<(String, Option<String>), Mean>,
    latencies: Vec<f64>,
    first_tokens: Vec<f64>,
    sessions: BTreeMap<u64, f64>,
    sameness: Sameness,
    alike: Alike,
}

/// Whether the chains of each question gave one answer.
#[derive(Debug, Default)]
struct Alike {
    /// The hash of each question's first answer: the texts would take as much memory as the run itself.
    first: BTreeMap<u64, u64>,
    compared: u64,
    differ: bool,
}

impl Alike {
    fn add(&mut self, record: &Record) {
        let text = record
            .reply
            .as_ref()
            .map(|reply| reply.text.as_str())
            .unwrap_or_default();
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let hash = hasher.finish();
        match self.first.get(&record.doc_id) {
            Some(first) => {
                self.compared += 1;
                self.differ |= *first != hash;
            }
            None => drop(self.first.insert(record.doc_id, hash)),
        }
        if self.differ {
            self.first.clear(); // nothing more to find out, and nothing to keep
        }
    }
}

/// Whether all answers are the same although the targets differ.
#[derive(Debug, Default)]
struct Sameness {
    answer: Option<String>,
    target: Option<String>,
    answers_differ: bool,
    targets_differ: bool,
    count: u64,
}

impl Sameness {
    fn add(&mut self, answer: &str, target: &str) {
        self.count += 1;
        let first = self.answer.get_or_insert_with(|| answer.to_owned());
        self.answers_differ |= first != answer;
        let first = self.target.get_or_insert_with(|| target.to_owned());
        self.targets_differ |= first != target;
    }
}

/// With fewer samples than this, equal answers say nothing about the model.
const ENOUGH_TO_JUDGE: u64 = 8;

impl Tally {
    /// A tally of a run with this number of answers to each question.
    pub fn of_chains(chains: u32) -> Tally {
        Tally {
            chains,
            ..Tally::default()
        }
    }

    pub fn add(&mut self, record: &Record) {
        self.finished += 1;
        let last = self.sessions.entry(record.session).or_default();
        *last = last.max(record.at_ms);
        if let Some(own) = record.own() {
            self.graded_by.add(own);
        }
        if let Some(error) = record.failure() {
            self.failed += 1;
            let (count, example) = self.errors.entry(error.code.clone()).or_default();
            *count += 1;
            if example.is_empty() {
                *example = format!("{}: {}", record.sample_id, error.message);
            }
            return;
        }
        *self.inputs.entry(record.input).or_default() += 1;
        if let Some(warning) = record.audio.iter().find_map(|clip| clip.warnings.first()) {
            self.damaged.0 += 1;
            if self.damaged.1.is_empty() {
                self.damaged.1 = format!("{}: {warning}", record.sample_id);
            }
        }
        self.latencies.push(record.latency_ms);
        self.first_tokens.extend(record.ttft_ms);
        self.prompt_tokens += u64::from(record.prompt_tokens);
        self.generated_tokens += u64::from(record.generated_tokens);
        for flag in &record.flags {
            *self.flags.entry(flag.clone()).or_default() += 1;
        }
        self.pending += u64::from(record.pending());
        let status = record.own().map(|own| own.status);
        self.no_answer += u64::from(status == Some(ScoreStatus::NoAnswer));
        self.unscored += u64::from(status == Some(ScoreStatus::Unscored));
        if self.chains > 1 && !self.alike.differ && record.variant.is_none() {
            self.alike.add(record);
        }
        if let Some(answer) = settled_answer(record) {
            self.sameness.add(&answer, &record.target.to_string());
        }
        if status == Some(ScoreStatus::Unscored) {
            return;
        }
        for (name, value) in record.metrics() {
            self.add_value(name, value, record);
        }
    }

    /// The number of answers to each question, if the answers to one question never differ: without sampling, a model
    /// gives the same answer each time.
    pub fn alike_chains(&self) -> Option<u32> {
        (self.alike.compared > 0 && !self.alike.differ).then_some(self.chains)
    }

    /// Adds a number that isn't in the record itself, such as a judge's.
    pub fn add_value(&mut self, name: &str, value: f64, record: &Record) {
        let cluster = record.cluster_among(self.chains);
        let of = |group: Option<String>| (name.to_owned(), group);
        self.means.entry(of(None)).or_default().add(value, cluster);
        for (group, member) in &record.groups {
            let key = of(Some(format!("{group}={member}")));
            self.means.entry(key).or_default().add(value, cluster);
        }
    }

    /// Means by metric and group; the whole stands before its groups.
    pub fn estimates(&self) -> impl Iterator<Item = (&str, Option<&str>, Estimate)> {
        self.means
            .iter()
            .map(|((name, group), mean)| (name.as_str(), group.as_deref(), mean.estimate()))
    }

    pub fn estimate(&self, name: &str) -> Option<Estimate> {
        self.means.get(&(name.to_owned(), None)).map(Mean::estimate)
    }

    /// How long models were at work, over all sessions of the run.
    pub fn inference_seconds(&self) -> f64 {
        self.sessions.values().sum::<f64>() / 1000.0
    }

    pub fn latency(&mut self) -> Option<Latency> {
        Latency::of(&mut self.latencies)
    }

    pub fn first_token(&mut self) -> Option<Latency> {
        Latency::of(&mut self.first_tokens)
    }

    /// Why these numbers should not be trusted; empty if nothing was noticed.
    pub fn suspicions(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        let answered = self.finished - self.failed;
        for (flag, count) in &self.flags {
            let what = match flag.as_str() {
                "nan-logits" => "NaN logits",
                "repetition" if count * 5 < answered => continue, // one reply in five may ramble
                "repetition" => "one token or phrase repeated to the end",
                _ => continue,
            };
            reasons.push(format!("{what} in {count} of {answered} replies"));
        }
        let same = &self.sameness;
        if same.count >= ENOUGH_TO_JUDGE && !same.answers_differ && same.targets_differ {
            let answer: String = same.answer.iter().flat_map(|text| text.chars()).take(40).collect();
            reasons.push(format!("the same answer (`{answer}`) to all {} samples", same.count));
        }
        if self.finished > 0 && answered == 0 {
            reasons.push("every sample failed".to_owned());
        }
        if self
            .estimates()
            .any(|(_, group, estimate)| group.is_none() && estimate.value.is_nan() && estimate.count > 0)
        {
            reasons.push("a score was not a number".to_owned());
        }
        reasons
    }
}

/// The answer in the reply: the parsed answer, the likeliest option, or the text.
fn settled_answer(record: &Record) -> Option<String> {
    let reply = record.reply.as_ref()?;
    record
        .answer()
        .or_else(|| reply.best_option().map(|best| format!("option {}", best + 1)))
        .or_else(|| Some(reply.text.clone()))
}

/// True for text that ends in one token or phrase over and over, as broken weights produce.
pub fn repeats_itself(text: &str) -> bool {
    const LEAST_REPEATS: usize = 8;
    let words: Vec<&str> = text.split_whitespace().collect();
    let repeated = |period: usize| {
        let tail = words.len().saturating_sub(period * LEAST_REPEATS);
        words.len() >= period * LEAST_REPEATS
            && words[tail..]
                .chunks(period)
                .all(|chunk| chunk == &words[words.len() - period..])
    };
    if (1..=4).any(repeated) {
        return true;
    }
    let characters: Vec<char> = text.trim().chars().rev().take(64).collect();
    let run = characters.iter().take_while(|c| Some(*c) == characters.first()).count();
    run >= 24
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::store::score::ScoreEntry;
    use plugin_api::{Reply, Score};

    fn record(answer: &str, target: &str, right: bool) -> Record {
        let mut record = Record {
            target: target.into(),
            task: "t".to_owned(),
            ..Record::default()
        };
        record.of_reply(Reply::text(answer));
        record.score_by_task(ScoreEntry::of_score(Score::graded(right).with_answer(answer)));
        record
    }

    fn tally(records: impl IntoIterator<Item = Record>) -> Tally {
        let mut tally = Tally::default();
        records.into_iter().for_each(|record| tally.add(&record));
        tally
    }

    #[test]
    fn the_same_answer_to_everything_is_suspect() {
        let always_a = (0..8).map(|i| record("A", ["A", "B"][i % 2], i % 2 == 0));
        assert_eq!(tally(always_a).suspicions(), ["the same answer (`A`) to all 8 samples"]);
        let varied = (0..8).map(|i| record(["A", "B"][i % 2], ["A", "B"][i % 2], true));
        assert!(tally(varied).suspicions().is_empty());
        let rightly_a = (0..8).map(|_| record("A", "A", true));
        assert!(tally(rightly_a).suspicions().is_empty());
    }

    #[test]
    fn nan_logits_and_repetition_are_suspect() {
        let nan = Record {
            flags: vec!["nan-logits".to_owned()],
            ..record("A", "A", true)
        };
        assert_eq!(tally([nan]).suspicions(), ["NaN logits in 1 of 1 replies"]);
    }

    #[test]
    fn errors_count_apart_and_give_no_numbers() {
        let mut failed = record("A", "A", true);
        failed.failed(&plugin_api::Error::new(plugin_api::Code::CLIP, "it holds no samples"));
        let tally = tally([failed, record("A", "B", false)]);
        assert_eq!((tally.finished, tally.failed), (2, 1));
        assert_eq!(tally.inputs.values().sum::<u64>(), 1);
        let estimate = tally.estimate("acc").unwrap();
        assert_eq!((estimate.value, estimate.count), (0.0, 1));
    }

    #[test]
    fn text_that_never_ends_is_told_from_text_that_repeats_a_little() {
        for text in [
            "no no no no no no no no",
            "the cat the cat the cat the cat the cat the cat the cat the cat",
            &"!".repeat(30),
            &"好".repeat(40),
        ] {
            assert!(repeats_itself(text), "{text}");
        }
        for text in [
            "",
            "A",
            "no no no",
            "The answer is A because A is what the question asks for.",
            "-----",
        ] {
            assert!(!repeats_itself(text), "{text}");
        }
    }
}
