//! When clips are encoded, and which of them together.

use super::{about, golden, tone};
use candle_core::{DType, Device, Tensor};
use model::{Defaults, Generator, Limits};
use nn::dense::{AudioLanguageModel, AudioTower};
use nn::{AudioChunks, AudioEmbeds, Decoder, Input, Step, Weights};
use plugin_api::client::{Given, ModelClient, Serving};
use plugin_api::serde_json::{self, Value, json};
use plugin_api::{
    Call, Clip, Code, Error, Jobs, Kind, Model, ModelCard, NoCallbacks, Prompt, PromptTokens, Reply, Result, Sampling,
    Settings, make, register_model,
};
use qwen2_audio::architecture;
use qwen2_audio::config::Config;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use text::Chat;

/// A model that records its calls. Encoding fails if a clip of this many samples is among the given ones.
struct Watched {
    inner: AudioLanguageModel<AudioTower>,
    /// The clips of each encoding, in samples; an empty list stands for a pass of the decoder.
    seen: Mutex<Vec<Vec<usize>>>,
    fails_at: usize,
}

impl Decoder for Watched {
    fn embed(&self, ids: &Tensor) -> candle_core::Result<Tensor> {
        self.inner.embed(ids)
    }

    fn forward(&self, x: &Tensor, step: &mut Step) -> candle_core::Result<Tensor> {
        self.seen.lock().unwrap().push(Vec::new());
        self.inner.forward(x, step)
    }

    fn logits(&self, hidden: &Tensor) -> candle_core::Result<Tensor> {
        self.inner.logits(hidden)
    }

    fn device(&self) -> &Device {
        self.inner.device()
    }

    fn context(&self) -> usize {
        self.inner.context()
    }

    fn placeholder(&self) -> Option<u32> {
        self.inner.placeholder()
    }

    fn audio_chunks(&self, clips: &[&Clip]) -> Result<AudioChunks> {
        self.inner.audio_chunks(clips)
    }

    fn encode_audio(&self, sounds: &[&[f32]]) -> Result<Vec<AudioEmbeds>> {
        let lengths: Vec<usize> = sounds.iter().map(|sound| sound.len()).collect();
        let fails = lengths.contains(&self.fails_at);
        self.seen.lock().unwrap().push(lengths);
        match fails {
            true => Err(Error::new(Code::MEMORY, "too much of it")),
            false => self.inner.encode_audio(sounds),
        }
    }

    fn input(&self, prompt: &Prompt, tokens: Vec<u32>) -> Result<Input> {
        Input::of(self, prompt, tokens)
    }
}

struct Served(Generator<Watched>);

impl Model for Served {
    fn card(&self) -> ModelCard {
        ModelCard::audio("watched", 16_000).with_choices()
    }

    fn reply(&mut self, prompt: &Prompt, call: &mut Call) -> Result<Reply> {
        self.0.reply(prompt, call)
    }

    fn serve(&mut self, jobs: &mut Jobs) -> Result<()> {
        self.0.serve(jobs)
    }

    fn tokens(&mut self, prompt: &Prompt) -> Result<PromptTokens> {
        self.0.tokens(prompt)
    }

    /// The calls so far.
    fn replay(&mut self, _request: &Value) -> Result<Value> {
        Ok(json!(*self.0.decoder().seen.lock().unwrap()))
    }
}

fn watch(settings: &Settings) -> Result<Served> {
    let folder = golden();
    let config = Config::from_folder(&folder).unwrap();
    let weights = Weights::open(&folder, DType::F32, &Device::Cpu).unwrap();
    let watched = Watched {
        inner: architecture::load(&config, &weights).unwrap(),
        seen: Mutex::default(),
        fails_at: settings.or("fails_at", 0)?,
    };
    let (chat, defaults) = (
        Chat::from_folder(&folder).unwrap(),
        Defaults::from_folder(&folder).unwrap(),
    );
    let limits = Limits::default();
    Ok(Served(Generator::new(watched, chat, defaults, limits, 0)))
}

register_model!("watched", "the checkpoint, watched", watch, { fails_at: integer, "clips of so many samples can't be heard"; });

fn watched(fails_at: usize) -> ModelClient {
    let settings = serde_json::from_value(json!({ "fails_at": fails_at })).unwrap();
    ModelClient(make(Kind::Model, "watched", &settings).unwrap().into())
}

fn seen(model: &ModelClient) -> Vec<Vec<usize>> {
    serde_json::from_value(model.replay(&json!({})).unwrap()).unwrap()
}

/// Gives out prompts; with `waits`, the second and later ones only after a piece of the first answer has come.
struct Host {
    waiting: Mutex<Vec<(u64, Prompt)>>,
    replies: Mutex<BTreeMap<u64, Result<Reply>>>,
    waits: AtomicBool,
}

fn serve(model: &ModelClient, prompts: Vec<Prompt>, waits: bool) -> Vec<Result<Reply>> {
    let mut waiting: Vec<_> = (0..).zip(prompts).collect();
    waiting.reverse();
    let host = Host {
        waiting: Mutex::new(waiting),
        replies: Mutex::default(),
        waits: waits.into(),
    };
    model.serve(&host).unwrap();
    host.replies.into_inner().unwrap().into_values().collect()
}

impl Serving for Host {
    fn give(&self, _wait: Duration) -> Given {
        let mut waiting = self.waiting.lock().unwrap();
        match waiting.last() {
            Some((1.., _)) if self.waits.load(Ordering::Relaxed) => Given::Later,
            None => Given::End,
            Some(_) => {
                let (id, prompt) = waiting.pop().unwrap();
                Given::Job {
                    id,
                    prompt: Box::new(prompt),
                    deadline: None,
                }
            }
        }
    }

    fn take(&self, job: u64, reply: Result<Reply>) -> bool {
        self.replies.lock().unwrap().insert(job, reply).is_none()
    }

    fn token(&self, _job: Option<u64>, _text: &str) -> bool {
        self.waits.store(false, Ordering::Relaxed);
        true
    }
}

/// Of this many samples.
fn clip(samples: usize) -> Clip {
    tone(samples as f64 / 16_000.0, 0.1)
}

#[test]
fn to_count_tokens_is_not_to_hear() {
    let model = watched(0);
    for samples in [[321, 500], [640, 9_599], [16_000, 20_000]] {
        let prompt = about(samples.map(clip).to_vec());
        let counted = model.tokens(&prompt).unwrap().ids.len();
        assert_eq!(seen(&model).len(), 0);
        let reply = watched(0).reply(&prompt, &NoCallbacks).unwrap();
        assert_eq!(reply.usage.prompt_tokens as usize, counted, "{samples:?}");
    }
}

#[test]
fn clips_of_several_prompts_are_heard_together() {
    let model = watched(0);
    let prompts = [vec![4_000, 8_000], vec![], vec![1_600], vec![30_000]];
    let prompts = prompts.map(|clips| about(clips.into_iter().map(clip).collect()));
    for reply in serve(&model, prompts[..1].to_vec(), false) {
        reply.unwrap();
    }
    assert_eq!(seen(&model)[0], [4_000, 8_000]);
    let model = watched(0);
    let choose = |prompt: &Prompt| prompt.clone().choose(["A", "B"]);
    for reply in serve(&model, prompts[2..].iter().map(choose).collect(), false) {
        reply.unwrap();
    }
    // One clip is cut at the window; both prompts are then scored in one pass.
    assert_eq!(seen(&model), [vec![1_600, 16_000], vec![]]);
}

#[test]
fn an_answer_in_progress_waits_for_one_piece_at_a_time() {
    let model = watched(0);
    let mut first = about(vec![]);
    first.want = Prompt::default().sample(Sampling::greedy(12)).want;
    let prompts = vec![first, about(vec![clip(1_600), clip(3_200)]), about(vec![clip(4_800)])];
    let together = serve(&model, prompts.clone(), true);
    let heard: Vec<_> = seen(&model).into_iter().skip_while(|it| it.is_empty()).collect();
    // The shorter prompt goes first.
    let begins = [vec![4_800], vec![], vec![1_600], vec![], vec![3_200], vec![]];
    assert_eq!(heard[..6], begins);
    for (prompt, reply) in prompts.iter().zip(together) {
        let (alone, reply) = (watched(0).reply(prompt, &NoCallbacks).unwrap(), reply.unwrap());
        assert_eq!((reply.text, reply.usage), (alone.text, alone.usage));
    }
}

#[test]
fn a_clip_that_can_not_be_heard_fails_by_itself() {
    let model = watched(4_800);
    let prompts = [1_600, 4_800, 8_000].map(|samples| about(vec![clip(samples)]));
    let replies = serve(&model, prompts.to_vec(), false);
    assert_eq!(
        replies.iter().map(Result::is_ok).collect::<Vec<_>>(),
        [true, false, true]
    );
    assert_eq!(replies[1].as_ref().unwrap_err().message, "too much of it");
}

#[test]
fn a_sweep_over_a_growing_reasoning_hears_the_clip_once_and_reads_each_sentence_once() {
    let sentence = |number: usize| format!("Sentence number {number} says what can be heard there. ");
    let prompts: Vec<Prompt> = (0..=8)
        .map(|kept| {
            let mut prompt = about(vec![clip(30_000)]);
            let reasoning: String = (0..kept).map(sentence).collect();
            prompt
                .messages
                .push(plugin_api::Message::assistant(format!("{reasoning}The answer is: (")));
            prompt.choose(["A", "B"])
        })
        .collect();
    let model = watched(0);
    let replies: Vec<Reply> = serve(&model, prompts.clone(), false)
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let heard: Vec<_> = seen(&model).into_iter().filter(|samples| !samples.is_empty()).collect();
    assert_eq!(heard.len(), 1, "the clip is encoded once: {heard:?}");
    // As few passes as it takes to receive nine prompts, not one for each.
    assert!(seen(&model).len() <= 3, "{} passes", seen(&model).len());
    let reused = |reply: &Reply| reply.other.get("reused_tokens").and_then(Value::as_u64).unwrap_or(0);
    let all: u64 = replies.iter().map(|reply| u64::from(reply.usage.prompt_tokens)).sum();
    let read = all - replies.iter().map(reused).sum::<u64>();
    let longest = u64::from(replies[8].usage.prompt_tokens);
    assert!(
        2 * read <= 3 * longest,
        "{read} tokens read, the longest prompt has {longest}"
    );
    assert!(all >= 4 * read, "{read} tokens read of {all}");
    for (prompt, reply) in prompts.iter().zip(&replies) {
        let alone = watched(0).reply(prompt, &NoCallbacks).unwrap();
        for (one, other) in reply.options.iter().zip(&alone.options) {
            assert_eq!(one.loglik.to_bits(), other.loglik.to_bits());
        }
    }
}

/// If the reasoning is part of the question, the prompts differ before the clip.
#[test]
fn a_clip_behind_other_words_is_encoded_once_and_heard_as_it_is_alone() {
    let behind = |words: &str, samples: usize, options: bool| {
        let mut prompt = about(vec![clip(samples)]);
        prompt.messages[0].parts.insert(0, plugin_api::Part::text(words));
        match options {
            true => prompt.choose(["A", "B"]),
            false => prompt,
        }
    };
    let prompts: Vec<Prompt> = (0..9)
        .map(|number| behind(&format!("Reason {number} says so. "), 12_000, number % 2 == 0))
        .chain([behind("Another clip. ", 8_000, true), behind("Late. ", 12_000, false)])
        .collect();
    let model = watched(0);
    let replies = serve(&model, prompts.clone(), false);
    let mut heard = seen(&model).concat();
    heard.sort_unstable();
    assert_eq!(heard, [8_000, 12_000], "{:?}", seen(&model));
    for (prompt, reply) in prompts.iter().zip(replies) {
        let (alone, reply) = (watched(0).reply(prompt, &NoCallbacks).unwrap(), reply.unwrap());
        assert_eq!((reply.text, reply.usage), (alone.text, alone.usage));
        for (one, other) in reply.options.iter().zip(&alone.options) {
            assert_eq!(one.loglik.to_bits(), other.loglik.to_bits());
        }
    }
}
