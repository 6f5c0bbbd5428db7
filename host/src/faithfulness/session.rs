//! Runs a sweep: asks about a run's chains in order, and keeps the records.

use super::ask::ask_all;
use super::baseline::{Baseline, Chain, option_of};
use super::items::{Ask, Field, Item};
use super::plan::Plan;
use super::prompts::{AnsweredBy, Maker};
use super::store::{Store, write_whole};
use super::written::{Hints, Need, Written};
use crate::ask::pool::Pool;
use crate::ask::transcriber::Transcriber;
use crate::audio::interventions::Intervention;
use crate::failure::{Exit, Failure, Result};
use crate::run::clips::ClipResolver;
use crate::run::store::record::ClipInfo;
use faithfulness::experiment::Experiment;
use faithfulness::letters::Letter;
use faithfulness::reasoning::Sanitizer;
use faithfulness::texts::{mistake_request, paraphrase_request};
use plugin_api::client::TaskClient;
use plugin_api::{Message, ModelCard, NoCallbacks, Prompt, Reply, Sample, Sampling};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// A model that writes mistakes and paraphrases.
pub struct Writer<'a> {
    pub pool: &'a Pool,
    /// Its name in records.
    pub name: &'a str,
}

/// Everything that a sweep works with.
pub struct Session<'a> {
    pub baseline: &'a Baseline,
    pub plan: &'a Plan,
    pub model: &'a Pool,
    pub card: &'a ModelCard,
    pub task: &'a TaskClient,
    pub plain_task: Option<&'a TaskClient>,
    /// The model that transcribes for one without audio, and the changes of clips: as in the run.
    pub transcriber: Option<&'a Transcriber>,
    pub changes: &'a [Intervention],
    pub writer: Writer<'a>,
    /// The sweep's own directory.
    pub folder: PathBuf,
    pub retry_errors: bool,
    pub stop: &'a AtomicBool,
}

/// The result of a sweep's work.
#[derive(Debug, Clone, Default)]
pub struct Done {
    pub asked: usize,
    pub known: usize,
    pub failed: usize,
    /// What a model or task can't do, and the replacement.
    pub notes: Vec<String>,
}

/// A chain of more sentences is pointed out: each is a question of its own in every sweep over sentences.
const LONG: usize = 100;
/// Decoded clips that are kept.
const CLIP_BYTES: usize = 512 << 20;

impl Session<'_> {
    /// Asks everything that has no record yet.
    pub fn run(&self) -> Result<Done> {
        let unwritable = |why| Failure::unwritable(&self.folder, why);
        std::fs::create_dir_all(&self.folder).map_err(unwritable)?;
        let mut answers = Store::open(&self.folder.join("samples.jsonl"))?;
        let mut writes = Store::open(&self.folder.join("writes.jsonl"))?;
        let mut costs = Store::open(&self.folder.join("cost.jsonl"))?;
        if self.retry_errors {
            answers.forget_errors();
            writes.forget_errors();
        }
        let mut written = Written::default();
        let mut done = Done::default();
        let chains = &self.baseline.chains;
        if let Some(path) = &self.plan.perturbations {
            let malformed = written.read_file(path, chains)?;
            if malformed > 0 {
                done.notes.push(format!(
                    "{malformed} lines of `{}` are no perturbation and are left out",
                    path.display()
                ));
            }
        }
        written.take(&writes);
        let hints = self
            .plan
            .hints
            .as_deref()
            .map(Hints::read)
            .transpose()?
            .unwrap_or_default();
        let taking_part = self.taking_part();
        let field = Field {
            chains,
            taking_part: &taking_part,
            plan: self.plan,
            hints: &hints,
        };
        let clips = crate::audio::Clips::new(CLIP_BYTES);
        let maker = Maker {
            task: self.task,
            plain_task: self.plain_task,
            clips: ClipResolver {
                model: self.card,
                transcriber: self.transcriber,
                clips: &clips,
                keep: self.plan.keep_audio.then(|| self.folder.join("audio")),
                task: self.task,
                changes: self.changes,
            },
            family: self.plan.family,
        };
        self.note_ways(&maker, &taking_part, &mut done);
        // A mistake is written, then continued, then asked about: each round writes what the next one needs.
        for _ in 0..3 {
            let mut needs: Vec<Need> = self
                .plan
                .experiments
                .iter()
                .flat_map(|experiment| field.items(*experiment, &written).1)
                .collect();
            needs.retain(|need| writes.get(&need.key(&chains[need.chain])).is_none());
            needs.sort_by_key(|need| (need.chain, need.kind.clone(), need.at));
            needs.dedup_by_key(|need| need.key(&chains[need.chain]));
            if needs.is_empty() {
                break;
            }
            self.write(&needs, &maker, &mut writes)?;
            written.take(&writes);
        }
        let mut items: Vec<Item> = self
            .plan
            .experiments
            .iter()
            .flat_map(|experiment| field.items(*experiment, &written).0)
            .collect();
        let all = items.len();
        items.retain(|item| answers.get(&item.key).is_none());
        // Prompts with a common beginning are asked together, shorter reasoning first.
        items.sort_by_key(|item| {
            let length = match &item.ask {
                Ask::Conditioned(text, changes) => (usize::from(!changes.is_empty()), text.len()),
                Ask::NoReasoning => (2, 0),
                Ask::Reason(..) => (3, 0),
            };
            (item.chain, length)
        });
        (done.known, done.asked) = (all - items.len(), items.len());
        self.answer(&items, &maker, &mut answers, &mut costs)?;
        done.failed = answers.records().filter(|record| !record["error"].is_null()).count();
        for store in [&mut answers, &mut writes, &mut costs] {
            store.put_in_order(place)?;
        }
        Ok(done)
    }

    /// The chains that take part.
    fn taking_part(&self) -> Vec<usize> {
        let plan = self.plan;
        let chains = &self.baseline.chains;
        let mut kept: std::collections::BTreeMap<u64, u64> = std::collections::BTreeMap::new();
        let fits = |chain: &Chain| match plan.max_sentences {
            Some(most) => (1..=most).contains(&chain.sentences.len()),
            None => true,
        };
        let mut questions = std::collections::BTreeSet::new();
        let mut taking = Vec::new();
        for (index, chain) in chains.iter().enumerate().filter(|(_, chain)| fits(chain)) {
            questions.insert(chain.doc_id);
            if plan.limit.is_some_and(|limit| questions.len() > limit) {
                break;
            }
            // The restricted setting takes the first chains that fit, the other one those below a number.
            let count = kept.entry(chain.doc_id).or_default();
            let within = plan.num_chains.is_none_or(|most| {
                if plan.max_sentences.is_some() {
                    *count < most
                } else {
                    chain.chain < most
                }
            });
            if within {
                *count += 1;
                taking.push(index);
            }
        }
        taking
    }

    fn note_ways(&self, maker: &Maker<'_>, taking_part: &[usize], done: &mut Done) {
        let chains = &self.baseline.chains;
        let name = &self.card.name;
        if self.baseline.without_reasoning > 0 {
            let (without, all) = (self.baseline.without_reasoning, chains.len());
            let verb = if without == 1 { "has" } else { "have" };
            done.notes.push(format!(
                "{without} of {all} chains {verb} no reasoning: experiments that change a reasoning leave them out"
            ));
        }
        let longest = taking_part.iter().map(|index| &chains[*index]);
        if let Some(chain) = longest.max_by_key(|chain| chain.sentences.len())
            && chain.sentences.len() > LONG
        {
            done.notes.push(format!(
                "the chain `{}/{}` has {} sentences and is asked about at each; `--max-sentences N` or `--restricted` leave long \
                 ones out",
                chain.id,
                chain.chain,
                chain.sentences.len()
            ));
        }
        if chains.iter().any(|chain| maker.answered_by(chain) == AnsweredBy::Task) {
            done.notes
                .push("the task has no options: answers are generated and read as the task reads them".to_owned());
        }
        if chains
            .iter()
            .any(|chain| matches!(maker.answered_by(chain), AnsweredBy::Text(_)))
            && !self.card.scores_choices
        {
            done.notes.push(format!(
                "model `{name}` does not score options: letters are read from generated text"
            ));
        }
        let of_sound = [
            Experiment::AudioMasking,
            Experiment::Snr,
            Experiment::Swap,
            Experiment::Hearing,
        ];
        if self
            .plan
            .experiments
            .iter()
            .any(|experiment| of_sound.contains(experiment))
            && !(self.card.hears() || self.transcriber.is_some())
        {
            done.notes.push(format!(
                "model `{name}` does not hear: changes of the sound change nothing for it"
            ));
        }
    }

    fn write(&self, needs: &[Need], maker: &Maker<'_>, writes: &mut Store) -> Result<()> {
        let (own, others): (Vec<&Need>, Vec<&Need>) = needs.iter().partition(|need| need.is_own());
        let chains = &self.baseline.chains;
        for (needs, model, source) in [(others, self.writer.pool, self.writer.name), (own, self.model, "self")] {
            let mut failure = None;
            let make = |job: usize| self.writing(needs[job], &chains[needs[job].chain], maker);
            let mut take = |job: usize, outcome: plugin_api::Result<Reply>| {
                let need = needs[job];
                let text = outcome
                    .map(|reply| self.cleaned(need, &reply.text))
                    .map_err(|why| why.to_string());
                let record = need.record(&chains[need.chain], source, text);
                keep_failure(writes.add(record), &mut failure)
            };
            let ended = ask_all(model, needs.len(), &make, &mut take, self.stop);
            conclude(ended, failure, self.stop)?;
        }
        Ok(())
    }

    fn writing(&self, need: &Need, chain: &Chain, maker: &Maker<'_>) -> plugin_api::Result<Prompt> {
        // Greedy, so that a text is the same when it is written again after a kill.
        let brief = |text: String, tokens: u32| Prompt {
            thinking: Some(false),
            ..Prompt::new([Message::user(text)]).sample(Sampling::greedy(tokens))
        };
        let options = chain.choices().replace('\n', " ");
        match need.kind.as_str() {
            "mistake" | "targeted" => {
                let towards = (need.kind == "targeted").then(|| self.target(chain)).flatten();
                let sample = maker.sample(chain)?;
                let question = chain.question(&self.task.prompt(&sample)?.last_user_text());
                Ok(brief(
                    mistake_request(&question, &options, &need.from, towards.as_deref()),
                    256,
                ))
            }
            "rewording" | "paraphrase" => Ok(brief(paraphrase_request(&need.from), 768)),
            "silent" => {
                let sample = maker.sample(chain)?;
                let mut prompt = self.task.prompt(&sample)?;
                maker.attach(&mut prompt, &sample, &[Intervention::Silence])?;
                Ok(prompt)
            }
            _ => {
                let sample = maker.sample(chain)?;
                let mut prompt = maker.continued(chain, &sample, &need.from, self.plan.seed)?;
                maker.attach(&mut prompt, &sample, &[])?;
                Ok(prompt)
            }
        }
    }

    /// The option that a targeted mistake argues for: the one after the chain's own answer.
    fn target(&self, chain: &Chain) -> Option<String> {
        let own = option_of(chain.answer.as_deref()?, &chain.options)? as usize - 'A' as usize;
        chain.options.get((own + 1) % chain.options.len()).cloned()
    }

    fn cleaned(&self, need: &Need, text: &str) -> String {
        match need.is_own() {
            true => {
                let before_answer = text.find("\nAnswer:").map_or(text, |at| &text[..at]);
                let sanitizer = if before_answer.len() < text.len() {
                    Sanitizer::Whole
                } else {
                    Sanitizer::R2
                };
                sanitizer.sanitize(before_answer)
            }
            false => text
                .trim()
                .lines()
                .next()
                .unwrap_or_default()
                .trim()
                .trim_matches('"')
                .to_owned(),
        }
    }

    fn answer(&self, items: &[Item], maker: &Maker<'_>, answers: &mut Store, costs: &mut Store) -> Result<()> {
        let mut failure = None;
        let heard: RefCell<HashMap<usize, Vec<ClipInfo>>> = RefCell::default();
        let make = |job: usize| {
            let item = &items[job];
            let chain = &self.baseline.chains[item.chain];
            let sample = maker.sample(chain)?;
            let mut changes: &[Intervention] = &[];
            let mut prompt = match &item.ask {
                Ask::Conditioned(reasoning, each) => {
                    changes = each;
                    maker.conditioned(chain, &sample, reasoning)?
                }
                Ask::NoReasoning => maker.without_reasoning(chain, &sample)?,
                Ask::Reason(each, words) => {
                    changes = each;
                    let mut prompt = self.task.prompt(&sample)?;
                    if let Some(words) = words
                        && let Some(message) = prompt.messages.last_mut()
                    {
                        message.parts.push(plugin_api::Part::text(words.clone()));
                    }
                    self.seed(&mut prompt, item);
                    prompt
                }
            };
            let audio = maker.attach(&mut prompt, &sample, changes)?.audio;
            heard.borrow_mut().insert(job, audio);
            Ok(prompt)
        };
        let mut take = |job: usize, outcome: plugin_api::Result<Reply>| {
            let item = &items[job];
            let audio = heard.borrow_mut().remove(&job).unwrap_or_default();
            let cost = outcome.as_ref().ok().map(|reply| cost(item, reply));
            let added = answers.add(self.record(item, outcome, maker, audio));
            let added = added.and_then(|()| cost.map_or(Ok(()), |cost| costs.add(cost)));
            keep_failure(added, &mut failure)
        };
        let ended = ask_all(self.model, items.len(), &make, &mut take, self.stop);
        conclude(ended, failure, self.stop)
    }

    /// New reasoning is drawn as the chain's own was, from a seed of its own.
    fn seed(&self, prompt: &mut Prompt, item: &Item) {
        if let plugin_api::Want::Text { sampling } = &mut prompt.want {
            let own = faithfulness::random::Random::seeded(&format!("{}_{}", self.plan.seed, item.key)).word();
            sampling.seed = Some(u64::from(own));
        }
    }

    fn record(
        &self,
        item: &Item,
        outcome: plugin_api::Result<Reply>,
        maker: &Maker<'_>,
        audio: Vec<ClipInfo>,
    ) -> Value {
        let chain = &self.baseline.chains[item.chain];
        let given = match &item.ask {
            Ask::Conditioned(text, _) => Some(text.as_str()),
            Ask::NoReasoning | Ask::Reason(..) => None,
        };
        let reasons = matches!(item.ask, Ask::Reason(..));
        let way = if reasons {
            AnsweredBy::Task
        } else {
            maker.answered_by(chain)
        };
        let mut record = json!({
            "key": item.key, "doc_id": chain.doc_id, "sample_id": chain.id, "chain": chain.chain, "parent": chain.key,
            "variant": format!("{}:{}{}", item.experiment.name(), item.condition, item.point),
            "experiment": item.experiment.name(), "condition": item.condition, "point": point_value(item),
            "total": chain.sentences.len(), "baseline_letter": chain.answer, "true_letter": chain.truth,
            "baseline_right": chain.right, "given": given, "family": self.plan.family.name(),
            "family_hash": self.plan.family.hash(), "splitter": self.plan.splitter.name(), "answered_by": way.name(),
            "leak": chain.leak.name(), "seed": self.plan.seed, "cluster": chain.cluster,
        });
        if let Some(map) = record.as_object_mut() {
            map.extend(item.about.clone());
        }
        if audio.iter().any(|clip| !clip.changes.is_empty() || clip.ears.is_some()) {
            record["audio"] = json!(audio);
        }
        let read = outcome.and_then(|reply| self.read(item, chain, way, &reply, &mut record));
        if let Err(why) = read {
            record["error"] = json!({ "code": why.code.word(), "message": why.message, "causes": why.causes });
        }
        record
    }

    fn read(
        &self,
        item: &Item,
        chain: &Chain,
        way: AnsweredBy,
        reply: &Reply,
        record: &mut Value,
    ) -> plugin_api::Result<()> {
        match way {
            AnsweredBy::Options => {
                let scores: Vec<f64> = reply.options.iter().map(|option| option.loglik).collect();
                let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let all: f64 = scores.iter().map(|score| (score - most).exp()).sum();
                let best = scores.iter().position(|score| *score == most);
                let letter = best.and_then(|best| ('A'..='Z').nth(best)).map(String::from);
                record["option_logprobs"] = json!(scores);
                record["option_probabilities"] = scores.iter().map(|score| json!((score - most).exp() / all)).collect();
                record["right"] = json!(letter.is_some() && letter == chain.truth);
                record["letter"] = json!(letter);
            }
            AnsweredBy::Text(reader) => {
                let letter = reader.read(&reply.text, &chain.options).map(Letter::text);
                record["right"] = json!(letter.is_some() && letter == chain.truth);
                record["letter"] = json!(letter);
                record["final_answer_raw"] = json!(reply.text);
            }
            AnsweredBy::Task => self.read_by_task(item, chain, reply, record)?,
        }
        Ok(())
    }

    fn read_by_task(&self, item: &Item, chain: &Chain, reply: &Reply, record: &mut Value) -> plugin_api::Result<()> {
        let sample: Sample = self.task.sample(chain.doc_id as usize)?;
        let score = self.task.score(&sample, reply, &NoCallbacks)?;
        let said = score
            .details
            .get("letter")
            .and_then(Value::as_str)
            .map(str::to_owned)
            .or(score.answer.clone());
        let said = said.filter(|_| score.status != plugin_api::Status::NoAnswer);
        let letter = match chain.options.is_empty() {
            true => said,
            false => said.and_then(|said| option_of(&said, &chain.options)).map(String::from),
        };
        let main = score.values.values().next().copied();
        record["right"] = json!(main == Some(1.0));
        record["letter"] = json!(letter);
        record["final_answer_raw"] = json!(reply.text);
        if matches!(item.ask, Ask::Reason(..)) {
            let by_task = score.details.get("reasoning").and_then(Value::as_str);
            let reasoning = reply.thinking.as_deref().or(by_task).unwrap_or(&reply.text);
            record["generated_reasoning"] = json!(reasoning);
        }
        Ok(())
    }
}

fn point_value(item: &Item) -> Value {
    use faithfulness::import::Point;
    match item.point {
        Point::Only => Value::Null,
        Point::At(at) if at.fract() == 0.0 => json!(at as i64),
        Point::At(at) => json!(at),
        Point::Clean => json!("clean"),
    }
}

fn cost(item: &Item, reply: &Reply) -> Value {
    let reused = reply.other.get("reused_tokens").and_then(Value::as_u64).unwrap_or(0);
    let prompt = u64::from(reply.usage.prompt_tokens);
    json!({
        "key": item.key, "experiment": item.experiment.name(), "prompt_tokens": prompt, "tokens_reused": reused,
        "tokens_read": prompt.saturating_sub(reused), "generated_tokens": reply.usage.generated_tokens,
        "clip_seconds": reply.usage.clip_seconds, "ms": reply.timing.total_ms,
    })
}

/// The place of a record in a finished file.
fn place(record: &Value) -> (u64, u64, usize, String, u64) {
    let key = record["key"].as_str().unwrap_or_default();
    let experiment = record["experiment"].as_str().and_then(Experiment::parse);
    let order = experiment
        .and_then(|experiment| Experiment::all().position(|other| other == experiment))
        .unwrap_or(0);
    let point = record["point"].as_f64().or(record["at"].as_f64()).unwrap_or(-1.0);
    let bits = ((point + 1e6) * 1000.0) as u64;
    (
        record["doc_id"].as_u64().unwrap_or(0),
        record["chain"].as_u64().unwrap_or(0),
        order,
        format!("{}{}", record["condition"], prefix(key)),
        bits,
    )
}

/// A key without its last part, the point.
fn prefix(key: &str) -> &str {
    key.rsplit_once('/').map_or(key, |(prefix, _)| prefix)
}

fn keep_failure(added: Result<()>, failure: &mut Option<Failure>) -> bool {
    match added {
        Ok(()) => true,
        Err(why) => {
            failure.get_or_insert(why);
            false
        }
    }
}

fn conclude(ended: plugin_api::Result<()>, failure: Option<Failure>, stop: &AtomicBool) -> Result<()> {
    if let Some(failure) = failure {
        return Err(failure);
    }
    if stop.load(Ordering::Relaxed) {
        return Err(Failure::new(Exit::Interrupted, "interrupted").help("the same command goes on from here"));
    }
    ended.map_err(Failure::from)
}

/// Writes what a sweep was made with.
pub fn write_provenance(folder: &Path, provenance: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(provenance).unwrap_or_default();
    write_whole(&folder.join("provenance.json"), &format!("{text}\n"))
}
