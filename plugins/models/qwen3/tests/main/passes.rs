//! The logits are the same however tokens are distributed over passes.

use candle_core::quantized::GgmlDType;
use candle_core::{DType, Device, Tensor};
use nn::dense::{Config, Decoder};
use nn::{Decoder as _, KvCache, Past, Segment, Step, Weights};
use plugin_api::client::ModelClient;
use plugin_api::serde_json::{Value, json};
use plugin_api::{
    Call, Code, Jobs, Kind, Model, ModelCard, NoCallbacks, Prompt, Reply, Sampling, Settings, Usage, make,
    register_model,
};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common;

/// Products of other shapes sum in another order; logits here are around ten.
const CLOSE: f32 = 5e-5;

fn decoder(name: &str) -> Decoder {
    let folder = common::golden(name);
    let weights = Weights::open(&folder, DType::F32, &Device::Cpu).unwrap();
    Decoder::load(&Config::from_folder(&folder).unwrap(), &weights).unwrap()
}

fn run(decoder: &Decoder, ids: &[u32], mut step: Step) -> Vec<Vec<f32>> {
    let x = decoder.embed(&Tensor::new(ids, &Device::Cpu).unwrap()).unwrap();
    let hidden = decoder.forward(&x, &mut step).unwrap();
    step.finish();
    decoder.logits(&hidden).unwrap().to_vec2().unwrap()
}

/// The logits of each token if the whole text is read in one pass.
fn whole(decoder: &Decoder, ids: &[u32]) -> Vec<Vec<f32>> {
    run(decoder, ids, Step::whole(ids.len()).unwrap())
}

#[track_caller]
fn check(got: &[Vec<f32>], expected: &[Vec<f32>]) {
    assert_eq!(got.len(), expected.len());
    for (token, (got, expected)) in got.iter().zip(expected).enumerate() {
        let worst = got.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= CLOSE, "token {token} is off by {worst}");
    }
}

fn text(seed: u32, tokens: u32) -> Vec<u32> {
    (0..tokens).map(|n| (seed + 1) * (n + 3) * 7919 % 280).collect()
}

/// All checkpoints: each class, one of them with a window of nine tokens.
fn each(test: impl Fn(&Decoder)) {
    ["tied", "sharded", "qwen2", "llama"]
        .iter()
        .for_each(|name| test(&decoder(name)));
}

fn row(tokens: usize, row: usize) -> Segment {
    Segment {
        tokens,
        past: Past::Row(row),
    }
}

#[test]
fn step_by_step_equals_one_go() {
    each(|decoder| {
        let ids = text(1, 150); // beyond the cache's first size
        let expected = whole(decoder, &ids);
        for piece in [1, 7, 64] {
            let mut cache = KvCache::default();
            let mut got = Vec::new();
            for part in ids.chunks(piece) {
                got.extend(run(
                    decoder,
                    part,
                    Step::new(vec![row(part.len(), 0)], vec![&mut cache]).unwrap(),
                ));
            }
            assert_eq!(cache.len(), ids.len());
            check(&got, &expected);
        }
    });
}

#[test]
fn a_batch_equals_its_rows() {
    each(|decoder| {
        let (a, b, c) = (text(1, 20), text(2, 3), text(3, 11));
        let (mut one, mut two, mut three) = (KvCache::default(), KvCache::default(), KvCache::default());
        // The second row joins while another is in the middle of its answer; the third leaves.
        run(
            decoder,
            &[&a[..15], &c[..]].concat(),
            Step::new(vec![row(15, 0), row(11, 1)], vec![&mut one, &mut three]).unwrap(),
        );
        let mixed = [&a[15..16], &b[..]].concat();
        let got = run(
            decoder,
            &mixed,
            Step::new(vec![row(1, 0), row(3, 1)], vec![&mut one, &mut two]).unwrap(),
        );
        check(&got[..1], &whole(decoder, &a)[15..16]);
        check(&got[1..], &whole(decoder, &b));
    });
}

#[test]
fn continuations_share_their_context() {
    each(|decoder| {
        let (context, a, b) = (text(4, 30), text(5, 4), text(6, 9));
        let behind = |tokens| Segment {
            tokens,
            past: Past::Segment(0),
        };
        let segments = vec![
            Segment {
                tokens: 30,
                past: Past::Nothing,
            },
            behind(4),
            behind(9),
        ];
        let got = run(
            decoder,
            &[&context[..], &a, &b].concat(),
            Step::new(segments, vec![]).unwrap(),
        );
        check(&got[30..34], &whole(decoder, &[&context[..], &a].concat())[30..]);
        check(&got[34..], &whole(decoder, &[&context[..], &b].concat())[30..]);
    });
}

#[test]
fn branches_leave_a_row_between_the_pieces_that_join_it() {
    each(|decoder| {
        let (trunk, a, b, more) = (text(4, 40), text(5, 4), text(6, 9), text(7, 3));
        let mut cache = KvCache::default();
        run(
            decoder,
            &trunk[..10],
            Step::new(vec![row(10, 0)], vec![&mut cache]).unwrap(),
        );
        let behind = |tokens, earlier| Segment {
            tokens,
            past: Past::Segment(earlier),
        };
        // The trunk, a branch, the rest of the trunk, a branch of that, and one after the first branch.
        let segments = vec![row(12, 0), behind(4, 0), row(18, 0), behind(9, 2), behind(3, 1)];
        let tokens = [&trunk[10..22], &a, &trunk[22..], &b, &more].concat();
        let got = run(decoder, &tokens, Step::new(segments, vec![&mut cache]).unwrap());
        let long = whole(decoder, &[&trunk[..], &b].concat());
        let short = whole(decoder, &[&trunk[..22], &a, &more].concat());
        check(&got[..12], &long[10..22]);
        check(&got[12..16], &short[22..26]);
        check(&got[16..43], &long[22..]);
        check(&got[43..], &short[26..]);
        assert_eq!(cache.len(), 40);
        let next = run(decoder, &b, Step::new(vec![row(9, 0)], vec![&mut cache]).unwrap());
        check(&next, &long[40..]);
    });
}

#[test]
fn a_fork_grows_on_its_own() {
    let decoder = decoder("tied");
    let (start, a, b) = (text(7, 9), text(8, 4), text(9, 4));
    let mut first = KvCache::default();
    run(&decoder, &start, Step::new(vec![row(9, 0)], vec![&mut first]).unwrap());
    let mut second = first.fork().unwrap();
    let one = run(&decoder, &a, Step::new(vec![row(4, 0)], vec![&mut first]).unwrap());
    let two = run(&decoder, &b, Step::new(vec![row(4, 0)], vec![&mut second]).unwrap());
    check(&one, &whole(&decoder, &[&start[..], &a].concat())[9..]);
    check(&two, &whole(&decoder, &[&start[..], &b].concat())[9..]);
}

#[test]
fn segments_that_make_no_sense_are_refused() {
    let mut cache = KvCache::default();
    assert!(Step::new(vec![row(1, 1)], vec![&mut cache]).is_err());
    assert!(
        Step::new(
            vec![Segment {
                tokens: 1,
                past: Past::Segment(0)
            }],
            vec![]
        )
        .is_err()
    );
}

#[test]
fn choices_are_scored_as_full_passes_would() {
    let model = common::model(json!({}));
    let decoder = decoder("tied");
    let options = [
        "B",
        " blue",
        " a long and winding answer that takes many tokens",
        "\n",
        "é🦀",
    ];
    for context in ["The sky is", "Answer: ", "Q\n\nA:", "é"] {
        let prompt = Prompt::plain(context).choose(options);
        let scored = model.reply(&prompt, &NoCallbacks).unwrap().options;
        for (option, scored) in options.iter().zip(scored) {
            // Trailing blanks of the context belong to the option.
            let start = model.tokens(&Prompt::plain(context.trim_end())).unwrap().ids;
            let all = model.tokens(&Prompt::plain(format!("{context}{option}"))).unwrap().ids;
            let logits = whole(&decoder, &all);
            let (mut sum, mut greedy) = (0.0, true);
            for place in start.len()..all.len() {
                let row = &logits[place - 1];
                let total: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
                sum += f64::from(row[all[place] as usize]) - total.ln();
                greedy &= row.iter().all(|&x| x <= row[all[place] as usize]);
            }
            assert!(
                (scored.loglik - sum).abs() < 1e-4,
                "{context:?} {option:?}: {} {sum}",
                scored.loglik
            );
            assert_eq!(
                scored.tokens as usize,
                all.len() - start.len(),
                "{context:?} {option:?}"
            );
            assert_eq!((scored.bytes as usize, scored.greedy), (option.len(), greedy));
        }
    }
}

#[test]
fn every_weight_learns_on_the_training_path() {
    use candle_core::Var;
    // Fused kernels would silently drop gradients; tensors that track their operations do not use them.
    let decoder = decoder("sharded");
    let ids = text(11, 12);
    let embedded = decoder.embed(&Tensor::new(&ids[..], &Device::Cpu).unwrap()).unwrap();
    let x = Var::from_tensor(&embedded).unwrap();
    let loss = |x: &Tensor| {
        let hidden = decoder.forward(x, &mut Step::whole(12).unwrap()).unwrap();
        let logits = decoder.logits(&hidden).unwrap();
        logits.sqr().unwrap().sum_all().unwrap().to_dtype(DType::F64).unwrap()
    };
    let gradient = loss(x.as_tensor())
        .backward()
        .unwrap()
        .get(&x)
        .unwrap()
        .flatten_all()
        .unwrap();
    let gradient = gradient.to_vec1::<f32>().unwrap();
    // Compared with a difference quotient, for an early token, which has its effect through attention alone.
    let value = |place: usize, change: f32| {
        let mut values = embedded.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        values[place] += change;
        loss(&Tensor::from_vec(values, embedded.shape(), &Device::Cpu).unwrap())
            .to_scalar::<f64>()
            .unwrap()
    };
    for place in [0, 40, 100] {
        let slope = (value(place, 0.01) - value(place, -0.01)) / 0.02;
        let learnt = f64::from(gradient[place]);
        assert!(
            (slope - learnt).abs() < 0.02 * slope.abs().max(10.0),
            "place {place}: {slope} {learnt}"
        );
    }
}

/// A model that takes prompts as vectors, like those for audio, or as tokens, and counts what it reads.
struct Watched {
    decoder: Decoder,
    hears: bool,
    read: AtomicUsize,
    /// From this number of tokens on, a pass with more than `most_tokens` is out of memory.
    fails_at: usize,
    most_tokens: usize,
}

impl nn::Decoder for Watched {
    fn embed(&self, ids: &Tensor) -> candle_core::Result<Tensor> {
        self.decoder.embed(ids)
    }

    fn forward(&self, x: &Tensor, step: &mut Step) -> candle_core::Result<Tensor> {
        if step.tokens() > self.most_tokens && self.read.load(Ordering::Relaxed) >= self.fails_at {
            candle_core::bail!("CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\"");
        }
        self.read.fetch_add(step.tokens(), Ordering::Relaxed);
        self.decoder.forward(x, step)
    }

    fn logits(&self, hidden: &Tensor) -> candle_core::Result<Tensor> {
        self.decoder.logits(hidden)
    }

    fn device(&self) -> &Device {
        self.decoder.device()
    }

    fn context(&self) -> usize {
        self.decoder.context()
    }

    fn input(&self, _prompt: &Prompt, tokens: Vec<u32>) -> plugin_api::Result<nn::Input> {
        let embedded = self.decoder.embed(&Tensor::new(&tokens[..], &Device::Cpu)?)?;
        Ok(nn::Input {
            embedded: self.hears.then_some(embedded),
            ..nn::Input::text(tokens)
        })
    }
}

struct Served(model::Generator<Watched>);

impl Model for Served {
    fn card(&self) -> ModelCard {
        ModelCard::text("watched").with_choices()
    }

    fn reply(&mut self, prompt: &Prompt, call: &mut Call) -> plugin_api::Result<Reply> {
        self.0.reply(prompt, call)
    }

    fn serve(&mut self, jobs: &mut Jobs) -> plugin_api::Result<()> {
        self.0.serve(jobs)
    }

    /// The number of tokens that went through the layers.
    fn replay(&mut self, _request: &Value) -> plugin_api::Result<Value> {
        Ok(self.0.decoder().read.load(Ordering::Relaxed).into())
    }
}

fn watch(settings: &Settings) -> plugin_api::Result<Served> {
    let folder = common::golden("tied");
    let decoder = Watched {
        decoder: decoder("tied"),
        hears: settings.or("hears", false)?,
        read: AtomicUsize::new(0),
        fails_at: settings.or("fails_at", 0)?,
        most_tokens: settings.or("most_tokens", usize::MAX)?,
    };
    let chat = text::Chat::from_folder(&folder).unwrap();
    let defaults = model::Defaults::from_folder(&folder).unwrap();
    let limits = model::Limits {
        cache_bytes: settings.or("cache_bytes", usize::MAX)?,
        ..model::Limits::from_settings(settings)?
    };
    Ok(Served(model::Generator::new(decoder, chat, defaults, limits, 0)))
}

register_model!("watched", "the checkpoint `tied`, watched", watch, {
    hears: flag, "prompts go in as vectors";
    fails_at: integer, "";
    most_tokens: integer, "a pass with more is out of memory";
    max_batch: integer, "";
    step_tokens: integer, "";
    prefix_mb: integer, "";
    cache_bytes: integer, "";
});

fn watched(settings: Value) -> ModelClient {
    let settings = plugin_api::serde_json::from_value(settings).unwrap();
    ModelClient(make(Kind::Model, "watched", &settings).unwrap().into())
}

#[test]
fn a_prompt_of_vectors_is_answered_as_its_tokens_are() {
    let hearing = watched(json!({ "hears": true, "step_tokens": 5 })); // the prompt is read in pieces
    let tokens = common::model(json!({}));
    for (beams, n_best, temperature) in [(None, None, 0.0), (Some(3), Some(2), 0.0), (None, Some(3), 1.0)] {
        let prompt = common::ask(
            "Which is heavier?",
            Sampling {
                beams,
                n_best,
                temperature: Some(temperature),
                ..Sampling::greedy(9)
            },
        );
        let heard = hearing.reply(&prompt, &NoCallbacks).unwrap();
        let read = tokens.reply(&prompt, &NoCallbacks).unwrap();
        assert_eq!(heard.text, read.text);
        let texts = |reply: &Reply| reply.alternatives.iter().map(|a| a.text.clone()).collect::<Vec<_>>();
        assert_eq!(texts(&heard), texts(&read));
    }
}

fn examples() -> String {
    "Q: Which conducts?\nA: Copper\n\nQ: Which floats?\nA: Wood\n\n".repeat(3)
}

/// Questions after the same examples, as text to continue, to search for and to choose from; and two of another kind.
fn few_shot() -> Vec<Prompt> {
    let examples = examples();
    let behind = |question: &str| Prompt::plain(format!("{examples}Q: {question}\nA:"));
    let searched = Sampling {
        beams: Some(2),
        ..Sampling::greedy(5)
    };
    let drawn = Sampling {
        temperature: Some(1.0),
        seed: Some(4),
        n_best: Some(2),
        ..Sampling::greedy(7)
    };
    vec![
        behind("Which is a planet?").sample(Sampling::greedy(6)),
        behind("Which melts first?").choose([" Ice", " Iron and steel"]),
        behind("Which?").sample(searched),
        Prompt::plain("Something else altogether, and long enough to be worth keeping").choose([" a", " b"]),
        behind("Which melts last?").choose([" Ice", " Iron and steel"]),
        behind("").sample(drawn),
        Prompt::plain("Q: Which").sample(Sampling::greedy(4)),
        behind("Which is a planet?").sample(Sampling::greedy(6)), // the same again
        behind("Which is a moon?").choose([" Io", " Mars"]),
    ]
}

/// What must not depend on batches: texts and counts, log-likelihoods, and how many tokens were read.
type Essence = (Vec<(String, Vec<String>, Usage)>, Vec<f64>, u64);

fn essence(settings: Value) -> Essence {
    let model = watched(settings);
    let (mut texts, mut scores) = (Vec::new(), Vec::new());
    for reply in common::Host::new(few_shot()).serve(&model) {
        let reply = reply.unwrap();
        let others = reply.alternatives.into_iter().map(|a| a.text).collect();
        texts.push((reply.text, others, reply.usage));
        scores.extend(reply.options.iter().map(|option| option.loglik));
    }
    (texts, scores, model.replay(&json!({})).unwrap().as_u64().unwrap())
}

#[track_caller]
fn same(got: &Essence, expected: &Essence, when: &str) {
    assert_eq!(got.0, expected.0, "{when}");
    let apart = got.1.iter().zip(&expected.1).map(|(a, b)| (a - b).abs());
    let apart = apart.fold(0.0, f64::max);
    assert!(apart < 1e-3, "{when}: log-likelihoods are {apart} apart");
}

#[test]
fn what_prompts_begin_with_alike_is_read_once() {
    let expected = essence(json!({ "prefix_mb": 0, "max_batch": 1 }));
    let all = expected.2;
    // The end of the examples may be tokenized differently before a question.
    let shared = common::model(json!({}))
        .tokens(&Prompt::plain(examples()))
        .unwrap()
        .ids
        .len() as u64
        - 2;
    for (rows, step_tokens) in [(1, 1024), (8, 1024), (3, 20), (8, 1)] {
        let settings = json!({ "max_batch": rows, "step_tokens": step_tokens });
        let got = essence(settings);
        same(&got, &expected, &format!("{rows} rows, {step_tokens} tokens a pass"));
        let read = got.2;
        // Seven prompts share it. With one row, the first prompt is read before it is known that it shares anything.
        let saved = if rows == 1 { 5 } else { 6 };
        assert!(
            read <= all - saved * shared,
            "{read} of {all} tokens, {shared} are shared"
        );
    }
    // Without memory for the shared part it is read again each time, and nothing else changes.
    let got = essence(json!({ "prefix_mb": 0 }));
    same(&got, &expected, "without room");
    assert_eq!(got.2, all);
}

#[test]
fn letters_are_chosen_from_the_logits_of_one_pass_over_the_prompt() {
    let model = watched(json!({}));
    let prompt = common::ask("Which conducts? A: wood, B: copper", Sampling::greedy(1)).choose(["A", "B", "C", "D"]);
    let reply = model.reply(&prompt, &NoCallbacks).unwrap();
    assert!(reply.options.iter().all(|option| option.tokens == 1));
    assert_eq!(model.replay(&json!({})).unwrap(), json!(reply.usage.prompt_tokens));
}

#[test]
fn when_memory_runs_out_less_is_done_at_a_time() {
    let expected = essence(json!({}));
    for most_tokens in [100, 40, 17] {
        let got = essence(json!({ "most_tokens": most_tokens }));
        same(&got, &expected, &format!("at most {most_tokens} tokens a pass"));
    }
    // Also in the middle of answers: of twenty prompts, some lose their caches and are read again later.
    let prompts = || (3..23).map(|tokens| common::ask("Go", Sampling::greedy(tokens)));
    let answers = |settings: Value| {
        let model = watched(settings);
        let replies = common::Host::new(prompts()).serve(&model);
        let texts: Vec<_> = replies.into_iter().map(|reply| reply.unwrap().text).collect();
        (texts, model.replay(&json!({})).unwrap().as_u64().unwrap())
    };
    let (expected, read) = answers(json!({}));
    let (got, read_again) = answers(json!({ "fails_at": 400, "most_tokens": 16 }));
    assert_eq!(got, expected);
    assert!(read_again > read + 100, "{read_again} {read}");
    // Prompts that do not fit even alone are errors.
    let replies = common::Host::new(few_shot()).serve(&watched(json!({ "most_tokens": 0 })));
    assert_eq!(replies.len(), few_shot().len());
    assert!(
        replies
            .iter()
            .all(|reply| reply.as_ref().unwrap_err().code == Code::MEMORY)
    );
    let model = watched(json!({ "most_tokens": 1, "step_tokens": 1024 }));
    let error = model
        .reply(&common::ask("Go", Sampling::greedy(3)), &NoCallbacks)
        .unwrap_err();
    assert_eq!(error.code, Code::MEMORY, "{error}");
}

#[test]
fn answers_begin_when_their_caches_fit_and_shorter_prompts_first() {
    let order = |cache_bytes: usize| {
        let model = watched(json!({ "cache_bytes": cache_bytes }));
        model
            .reply(&common::ask("Go", Sampling::greedy(1)), &NoCallbacks)
            .unwrap(); // what a token takes is known
        let prompts = [(30, "a long prompt"), (2, "short"), (9, "of a middle size")];
        let host =
            common::Host::new(prompts.map(|(tokens, text)| common::ask(&text.repeat(2), Sampling::greedy(tokens))));
        model.serve(&host).unwrap();
        host.order.into_inner().unwrap()
    };
    assert_eq!(order(usize::MAX >> 1), [1, 2, 0]); // by the length of the answers
    assert_eq!(order(1), [1, 0, 2]); // one after the other, by the length of the prompts
}

#[test]
fn what_weights_will_take_is_known_before_they_are_read() {
    let check = |weights: PathBuf, dtype, quant, stored_as: &str| {
        let opened = Weights::open(&weights, dtype, &Device::Cpu).unwrap().quantised(quant);
        let (expected, said) = opened.estimate(&[]);
        Decoder::load(&Config::from_folder(&weights).unwrap(), &opened).unwrap();
        // Packed matrices are padded to whole panels, and rows to whole units, which may double matrices as small as
        // these.
        let (loaded, most) = (opened.loaded_bytes(), 2 * expected);
        assert!(
            (expected..most).contains(&loaded),
            "{}: {loaded} {expected}",
            weights.display()
        );
        assert_eq!(said, stored_as, "{}", weights.display());
    };
    for name in ["tied", "sharded", "llama", "gguf/llama.gguf"] {
        check(common::golden(name), DType::F32, None, "fp32");
        check(common::golden(name), DType::BF16, None, "bf16");
        check(common::golden(name), DType::F32, Some(GgmlDType::Q8_0), "q8_0");
    }
    let opened = Weights::open(&common::golden("tied"), DType::F32, &Device::Cpu).unwrap();
    // The estimate includes what is kept from being quantised.
    let quantised = opened.quantised(Some(GgmlDType::Q8_0));
    let [all, one, none] =
        [&[][..], &["model.layers.0."], &["model."]].map(|kept| quantised.keeping(kept).estimate(&[]).0);
    assert!(all < one && one < none, "{all} {one} {none}");
    assert_eq!(none, opened.estimate(&[]).0);
    assert!(opened.clone().fitting(&[], 1 << 20).is_ok());
    let told = opened.fitting(&[], 1 << 60).err().unwrap().to_string();
    assert!(told.contains("would take 140 kB as fp32"), "{told}");
}
