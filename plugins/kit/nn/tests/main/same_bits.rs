//! A prompt's numbers are the same to the bit, whatever other texts are in the pass and however it is split.
//!
//! Bits are compared, so no bound needs a justification. Pieces and other texts are drawn from a seed, so that
//! failures are reproducible.

use candle_core::quantized::GgmlDType;
use candle_core::{DType, Device, Tensor};
use nn::dense::{Config, Decoder};
use nn::encoder::{Block, Encoder, EncoderConfig};
use nn::{
    Attention, Decoder as _, Factors, KvCache, LoraPlan, LoraSet, Loras, Past, Rope, RopeScaling, Segment, Step,
    Weights,
};
use plugin_api::LoraUse;
use std::process::Command;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }

    /// Between -2 and 2.
    fn tensor(&mut self, shape: &[usize]) -> Tensor {
        let values: Vec<f32> = (0..shape.iter().product())
            .map(|_| self.below(1 << 20) as f32 / (1 << 18) as f32 - 2.0)
            .collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn tokens(&mut self, count: usize) -> Vec<u32> {
        (0..count).map(|_| self.below(VOCABULARY) as u32).collect()
    }

    /// Splits this many into pieces: single ones, a few, or most of the rest.
    fn pieces(&mut self, mut left: usize) -> Vec<usize> {
        let mut pieces = Vec::new();
        while left > 0 {
            let most = [1, 3, 9, 40, 700][self.below(5)];
            pieces.push(1 + self.below(most.min(left)));
            left -= pieces[pieces.len() - 1];
        }
        pieces
    }
}

const VOCABULARY: usize = 300;

fn bits(x: &Tensor) -> Vec<u32> {
    let values = x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

#[track_caller]
fn same(got: &[u32], expected: &[u32], what: &str) {
    assert_eq!(got.len(), expected.len());
    let other = got
        .iter()
        .zip(expected)
        .filter(|(got, expected)| got != expected)
        .count();
    assert!(other == 0, "{what}: {other} of {} numbers differ", got.len());
}

/// Runs `work` on this many threads.
fn on<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(work)
}

fn decoder_of(weights: &Weights) -> Decoder {
    let folder = tempfile::tempdir().unwrap();
    // The second of the two layers has a window of 40.
    let config = serde_json::json!({
        "model_type": "qwen2", "vocab_size": VOCABULARY, "hidden_size": 256, "intermediate_size": 512,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64,
        "max_position_embeddings": 4096, "use_sliding_window": true, "sliding_window": 40, "max_window_layers": 1,
    });
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    Decoder::load(&Config::from_folder(folder.path()).unwrap(), weights).unwrap()
}

/// A decoder and the LoRAs of its prompts.
struct Model {
    weights: Weights,
    decoder: Decoder,
    loras: Vec<LoraSet>,
}

impl Model {
    fn new(weights: Weights) -> Model {
        let decoder = decoder_of(&weights);
        let loras = vec![LoraSet::default()];
        Model {
            weights,
            decoder,
            loras,
        }
    }

    /// With two LoRAs of ranks 3 and 40 on all its layers.
    fn with_loras(mut self) -> Model {
        let loras = Loras::of(&self.weights);
        let mut random = Random(7);
        for (name, rank) in [("small", 3), ("large", 40)] {
            let layers = loras.layers().into_iter().map(|(layer, inputs, outputs)| {
                let (a, b) = (random.tensor(&[rank, inputs]), random.tensor(&[outputs, rank]));
                (layer, Factors { a, b, scale: 0.01 })
            });
            loras.add(name, layers.collect(), false).unwrap();
        }
        let set = |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            loras.choose(&LoraUse::Only(names)).unwrap()
        };
        self.loras = vec![set(&["small", "large"]), set(&[]), set(&["large"])];
        self
    }

    /// The logits after each token of a prompt that is read in these pieces, each together with other texts.
    fn logits(&self, prompt: &[u32], pieces: &[usize], mut company: Option<&mut Random>) -> Vec<u32> {
        let mut cache = KvCache::default();
        let (mut all, mut start) = (Vec::new(), 0);
        for (number, &piece) in pieces.iter().enumerate() {
            let own = &prompt[start..start + piece];
            start += piece;
            let (mut ids, mut segments, mut runs) = (Vec::new(), Vec::new(), Vec::new());
            let mut put = |tokens: &[u32], past, lora: &LoraSet| {
                ids.extend_from_slice(tokens);
                segments.push(Segment {
                    tokens: tokens.len(),
                    past,
                });
                runs.push((lora.clone(), tokens.len()));
                ids.len() - tokens.len()
            };
            let mut others = |count: usize, put: &mut dyn FnMut(&[u32], Past, &LoraSet) -> usize| {
                let Some(random) = company.as_deref_mut() else { return };
                for _ in 0..random.below(count) {
                    let most = [1, 5, 60][random.below(3)];
                    let count = 1 + random.below(most);
                    let tokens = random.tokens(count);
                    put(&tokens, Past::Nothing, &self.loras[random.below(self.loras.len())]);
                }
            };
            others(3, &mut put);
            let place = put(own, Past::Row(0), &self.loras[0]);
            others(3, &mut put);
            let caches = vec![&mut cache];
            let mut step = Step::new(segments, caches).unwrap();
            let plan = LoraPlan::of_runs(&runs, &Device::Cpu).unwrap();
            let entered = Loras::of(&self.weights).enter(plan);
            let x = self.decoder.embed(&Tensor::new(ids, &Device::Cpu).unwrap()).unwrap();
            let hidden = self.decoder.forward(&x, &mut step).unwrap();
            drop(entered);
            step.finish();
            let _entered = Loras::of(&self.weights).enter(LoraPlan::all(&self.loras[0]));
            // The head computes a position alone, or together with the whole step.
            let of_step = match number % 2 {
                0 => self.decoder.logits(&hidden).unwrap().narrow(0, place, piece).unwrap(),
                _ => self.decoder.logits(&hidden.narrow(0, place, piece).unwrap()).unwrap(),
            };
            all.extend(bits(&of_step));
        }
        all
    }

    #[track_caller]
    fn check(&self, tokens: usize, tries: u64, what: &str) {
        let prompt = Random(1).tokens(tokens);
        let expected = on(1, || self.logits(&prompt, &[tokens], None));
        for seed in 0..tries {
            let mut random = Random(seed);
            let pieces = match seed {
                0 => vec![tokens],
                1 => vec![1; tokens],
                _ => random.pieces(tokens),
            };
            let threads = [1, 2, 3, 7][random.below(4)];
            let got = on(threads, || self.logits(&prompt, &pieces, Some(&mut random)));
            same(&got, &expected, &format!("{what}, {threads} threads, {pieces:?}"));
        }
    }
}

fn random_weights(dtype: DType, quant: Option<GgmlDType>) -> Weights {
    Weights::random(dtype, &Device::Cpu).unwrap().quantised(quant)
}

const BLOCKS: [GgmlDType; 10] = [
    GgmlDType::Q8_0,
    GgmlDType::Q4_0,
    GgmlDType::Q4_1,
    GgmlDType::Q5_0,
    GgmlDType::Q5_1,
    GgmlDType::Q2K,
    GgmlDType::Q3K,
    GgmlDType::Q4K,
    GgmlDType::Q5K,
    GgmlDType::Q6K,
];

#[test]
fn logits_of_plain_weights_do_not_feel_cuts_and_company() {
    for dtype in [DType::F32, DType::BF16] {
        Model::new(random_weights(dtype, None)).check(90, 6, &format!("{dtype:?}"));
    }
    // More keys than are packed at a time.
    Model::new(random_weights(DType::F32, None)).check(560, 4, "a long prompt");
}

#[test]
fn logits_of_blocks_do_not_feel_cuts_and_company() {
    for quant in BLOCKS {
        Model::new(random_weights(DType::F32, Some(quant))).check(40, 4, &format!("{quant:?}"));
    }
}

#[test]
fn logits_behind_loras_do_not_feel_other_loras() {
    for (dtype, quant) in [
        (DType::F32, None),
        (DType::BF16, None),
        (DType::F32, Some(GgmlDType::Q8_0)),
    ] {
        let model = Model::new(random_weights(dtype, quant)).with_loras();
        model.check(50, 5, &format!("LoRAs over {dtype:?} {quant:?}"));
    }
}

/// Two options after a context that is read with them, in pieces before them, or was read for others.
#[test]
fn options_do_not_feel_where_their_context_was_read() {
    let model = Model::new(random_weights(DType::F32, None));
    let mut random = Random(5);
    let (context, options) = (random.tokens(70), [random.tokens(1), random.tokens(9)]);
    let hidden = |ids: Vec<u32>, step: &mut Step| {
        let x = model.decoder.embed(&Tensor::new(ids, &Device::Cpu).unwrap()).unwrap();
        model.decoder.forward(&x, step).unwrap()
    };
    let behind = |read: usize| {
        let mut cache = KvCache::default();
        if read > 0 {
            let (tokens, past) = (read, Past::Row(0));
            let mut step = Step::new(vec![Segment { tokens, past }], vec![&mut cache]).unwrap();
            hidden(context[..read].to_vec(), &mut step);
            step.finish();
        }
        let mut past = vec![if read > 0 { Past::Row(0) } else { Past::Nothing }];
        past.extend([Past::Segment(0); 2]);
        let parts = [&context[read..], &options[0], &options[1]];
        let segments = parts.iter().zip(past).map(|(part, past)| Segment {
            tokens: part.len(),
            past,
        });
        let caches = if read > 0 { vec![&mut cache] } else { Vec::new() };
        let mut step = Step::new(segments.collect(), caches).unwrap();
        let hidden = hidden(parts.concat(), &mut step);
        bits(&hidden.narrow(0, context.len() - read - 1, 11).unwrap())
    };
    let expected = behind(0);
    for read in [1, 8, 40, 64, 69] {
        same(&behind(read), &expected, &format!("{read} tokens were read before"));
    }
    // An option alone, as the end of one text.
    let whole = [&context[..], &options[1]].concat();
    let mut step = Step::whole(whole.len()).unwrap();
    let alone = bits(&hidden(whole, &mut step).narrow(0, 70, 9).unwrap());
    same(&alone, &expected[2 * 256..], "the option alone");
}

/// All kinds of layer, with numbers large enough that one key outweighs the others.
#[test]
fn attention_adds_up_in_one_order_however_a_text_is_cut() {
    for (heads, key_heads, size) in [(2, 2, 8), (4, 1, 33), (8, 2, 64), (3, 3, 7)] {
        for (window, softcap) in [(None, None), (Some(30), Some(20.0)), (Some(600), None)] {
            let attention = Attention {
                window,
                softcap,
                ..Attention::plain(Rope::new(size, 1e4, RopeScaling::Default), size)
            };
            let tokens = 1100;
            let mut random = Random(size as u64);
            let [q, k, v] = [heads, key_heads, key_heads].map(|heads| random.tensor(&[tokens, heads, size]));
            let attend = |pieces: &[usize], company: bool| {
                let (mut cache, mut other) = (KvCache::default(), KvCache::default());
                let (mut start, mut random, mut all) = (0, Random(3), Vec::new());
                for &piece in pieces {
                    let own = |x: &Tensor| x.narrow(0, start, piece).unwrap();
                    let segment = |tokens, row| Segment {
                        tokens,
                        past: Past::Row(row),
                    };
                    let mut step;
                    let out = match company {
                        false => {
                            step = Step::new(vec![segment(piece, 0)], vec![&mut cache]).unwrap();
                            step.enter(0, &attention, DType::F32, &Device::Cpu).unwrap();
                            step.attend(&own(&q), &own(&k), &own(&v)).unwrap()
                        }
                        true => {
                            let more = 1 + random.below(20);
                            let segments = vec![segment(more, 0), segment(piece, 1)];
                            step = Step::new(segments, vec![&mut other, &mut cache]).unwrap();
                            step.enter(0, &attention, DType::F32, &Device::Cpu).unwrap();
                            let mut with = |x: &Tensor, heads| {
                                Tensor::cat(&[random.tensor(&[more, heads, size]), own(x)], 0).unwrap()
                            };
                            let (q, k, v) = (with(&q, heads), with(&k, key_heads), with(&v, key_heads));
                            step.attend(&q, &k, &v).unwrap().narrow(0, more, piece).unwrap()
                        }
                    };
                    step.finish();
                    all.extend(bits(&out));
                    start += piece;
                }
                all
            };
            let expected = on(1, || attend(&[tokens], false));
            let what = format!("{heads} heads of {size}, {key_heads} of keys, {window:?}, {softcap:?}");
            for seed in 0..4 {
                let pieces = Random(seed).pieces(tokens);
                let got = on(1 + seed as usize, || attend(&pieces, seed % 2 == 1));
                same(&got, &expected, &format!("{what}, {pieces:?}"));
            }
            same(
                &on(3, || attend(&vec![1; tokens], false)),
                &expected,
                &format!("{what}, one by one"),
            );
        }
    }
}

#[test]
fn what_an_encoder_hears_of_a_clip_does_not_feel_other_clips() {
    let config = EncoderConfig {
        bins: 16,
        width: 96,
        layers: 2,
        heads: 6,
        inner: 200,
        positions: 700,
        stored_positions: true,
    };
    let mut random = Random(11);
    // One step more than a whole number of tasks, one whole number, and short ones.
    let blocks: Vec<Block> = [258, 1, 256, 40, 1100, 2]
        .map(|frames| {
            Block::alone(
                bits(&random.tensor(&[frames * 16]))
                    .into_iter()
                    .map(f32::from_bits)
                    .collect(),
                16,
            )
        })
        .into();
    for (dtype, quant) in [
        (DType::F32, None),
        (DType::BF16, None),
        (DType::F32, Some(GgmlDType::Q8_0)),
    ] {
        let encoder = Encoder::load(&config, &random_weights(dtype, quant)).unwrap();
        let hear = |blocks: &[Block]| bits(&encoder.forward(blocks).unwrap());
        let alone: Vec<Vec<u32>> = blocks
            .iter()
            .map(|block| on(1, || hear(std::slice::from_ref(block))))
            .collect();
        for threads in [1, 2, 5] {
            let what = |of: &str| format!("{dtype:?} {quant:?}, {threads} threads, {of}");
            same(&on(threads, || hear(&blocks)), &alone.concat(), &what("all together"));
            for (block, alone) in blocks.iter().zip(&alone) {
                same(
                    &on(threads, || hear(std::slice::from_ref(block))),
                    alone,
                    &what("one alone"),
                );
            }
            let two = [blocks[3].clone(), blocks[0].clone()];
            same(
                &on(threads, || hear(&two)),
                &[&alone[3][..], &alone[0]].concat(),
                &what("two"),
            );
        }
    }
}

/// The same tests with this machine's other kernels.
#[test]
fn every_class_of_kernels_keeps_it() {
    let best = nn::kernel_class();
    for class in ["portable", "avx2", "avx512"] {
        if class == best || std::env::var_os("HOST_KERNELS").is_some() {
            continue;
        }
        let tests = Command::new(std::env::current_exe().unwrap())
            .args(["same_bits::", "--skip", "every_class_of_kernels"])
            .env("HOST_KERNELS", class)
            .output()
            .unwrap();
        let words = String::from_utf8_lossy(&tests.stdout);
        assert!(tests.status.success(), "HOST_KERNELS={class}\n{words}");
    }
}
