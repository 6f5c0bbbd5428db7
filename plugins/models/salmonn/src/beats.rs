//! BEATs, the encoder of sounds other than speech, in the order a clip meets its layers. Its classifier is left out.

use crate::config::BeatsConfig;
use audio::Fbank;
use candle_core::{D, Device, Tensor};
use nn::device::own_kernels;
use nn::{Activation, LayerNorm, Linear, Matrix, Result, Weights};
use rayon::prelude::*;

/// The mean of the filter banks in the published model's data, and twice their standard deviation.
const MEAN: f32 = 15.41663;
const SPREAD: f32 = 2.0 * 6.55582;
const BINS: usize = 128;
const EPS: f64 = 1e-5;

pub struct Beats {
    fbank: Fbank,
    patch: usize,
    patch_embedding: Linear,
    patch_bias: Option<Tensor>,
    layer_norm: LayerNorm,
    post_extract_proj: Linear,
    pos_conv: PositionConv,
    encoder_norm: LayerNorm,
    biases: DistanceBiases,
    layers: Vec<Layer>,
    device: Device,
}

impl Beats {
    pub fn load(config: &BeatsConfig, weights: &Weights) -> Result<Beats> {
        let (patch, width) = (config.input_patch_size, config.encoder_embed_dim);
        let embed = weights.at("patch_embedding");
        let kernel = embed.get("weight", &[config.embed_dim, 1, patch, patch])?;
        // Patches do not overlap, so the convolution is a product.
        let patch_embedding = Linear::over(Matrix::new(kernel.flatten_from(1)?)?, embed.path(""));
        let patch_bias = config
            .conv_bias
            .then(|| embed.get("bias", &[config.embed_dim]))
            .transpose()?;
        let encoder = weights.at("encoder");
        let layers = (0..config.encoder_layers).map(|index| Layer::load(config, &encoder.at("layers").at(index)));
        Ok(Beats {
            fbank: Fbank::new(BINS),
            patch,
            patch_embedding,
            patch_bias,
            layer_norm: LayerNorm::load(&weights.at("layer_norm"), config.embed_dim, EPS)?,
            post_extract_proj: Linear::load(&weights.at("post_extract_proj"), config.embed_dim, width, true)?,
            pos_conv: PositionConv::load(config, &encoder.at("pos_conv.0"))?,
            encoder_norm: LayerNorm::load(&encoder.at("layer_norm"), width, EPS)?,
            biases: DistanceBiases::load(config, &encoder.at("layers.0.self_attn.relative_attention_bias"))?,
            layers: layers.collect::<Result<_>>()?,
            device: weights.device().clone(),
        })
    }

    /// Normalised filter banks of 16 kHz samples: (frames, bins).
    pub fn features(&self, samples: &[f32]) -> Vec<f32> {
        let mut features = self.fbank.log_energies(samples);
        for value in &mut features {
            *value = (*value - MEAN) / SPREAD;
        }
        features
    }

    /// How many steps this many samples become.
    pub fn steps(&self, samples: usize) -> usize {
        Fbank::frames(samples) / self.patch * (BINS / self.patch)
    }

    /// Turns features into (steps, width): one step for each patch, all patches of a stretch of time together.
    pub fn forward(&self, features: &[f32]) -> candle_core::Result<Tensor> {
        let (patch, across) = (self.patch, BINS / self.patch);
        let stretches = features.len() / BINS / patch;
        let whole = features[..stretches * patch * BINS].to_vec();
        let patches = Tensor::from_vec(whole, (stretches, patch, across, patch), &self.device)?
            .transpose(1, 2)?
            .reshape((stretches * across, patch * patch))?;
        let mut x = self.patch_embedding.forward(&patches)?;
        if let Some(bias) = &self.patch_bias {
            x = x.broadcast_add(bias)?;
        }
        let x = self.layer_norm.forward(&x)?;
        let x = self.post_extract_proj.forward(&x)?;
        let x = (&x + self.pos_conv.forward(&x)?)?;
        let mut x = self.encoder_norm.forward(&x)?;
        let biases = self.biases.up_to(x.dim(0)?);
        let biases = match own_kernels(&self.device) {
            true => Biases::OfDistances(biases),
            false => Biases::OfPairs(biases_of_pairs(&biases, &self.device)?),
        };
        for layer in &self.layers {
            x = layer.forward(&x, &biases)?;
        }
        Ok(x)
    }
}

/// Encodes positions by a step's surroundings: a long grouped convolution, then GELU.
struct PositionConv {
    /// For each group (taps * inputs, outputs).
    kernels: Vec<Tensor>,
    bias: Tensor,
    taps: usize,
}

impl PositionConv {
    /// The stored kernel is a direction, and a length for each tap.
    fn load(config: &BeatsConfig, weights: &Weights) -> Result<PositionConv> {
        let (width, taps, groups) = (config.encoder_embed_dim, config.conv_pos, config.conv_pos_groups);
        let inputs = width / groups;
        let direction = weights.get("weight_v", &[width, inputs, taps])?;
        let length = weights.get("weight_g", &[1, 1, taps])?;
        let norm = direction.sqr()?.sum_keepdim((0, 1))?.sqrt()?;
        let kernel = direction.broadcast_mul(&length.broadcast_div(&norm)?)?;
        let of_group = |group: usize| {
            let own = kernel.narrow(0, group * inputs, inputs)?; // as many outputs as inputs
            own.permute((2, 1, 0))?.reshape((taps * inputs, inputs))
        };
        Ok(PositionConv {
            kernels: (0..groups).map(of_group).collect::<candle_core::Result<_>>()?,
            bias: weights.get("bias", &[width])?,
            taps,
        })
    }

    /// Each group is one product with its steps side by side; candle's own grouped convolution gathers the same values
    /// one at a time.
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let (steps, width) = x.dims2()?;
        let inputs = width / self.kernels.len();
        // An even kernel has one more step before its centre than after it.
        let padded = x.pad_with_zeros(0, self.taps / 2, self.taps - 1 - self.taps / 2)?;
        let of_group = |(group, kernel): (usize, &Tensor)| {
            let own = padded.narrow(1, group * inputs, inputs)?.contiguous()?;
            let seen: Vec<Tensor> = (0..self.taps)
                .map(|tap| own.narrow(0, tap, steps))
                .collect::<candle_core::Result<_>>()?;
            Tensor::cat(&seen, 1)?.matmul(kernel)
        };
        let groups: candle_core::Result<Vec<Tensor>> = match own_kernels(x.device()) {
            true => self.kernels.par_iter().enumerate().map(of_group).collect(),
            false => self.kernels.iter().enumerate().map(of_group).collect(),
        };
        Tensor::cat(&groups?, 1)?.broadcast_add(&self.bias)?.gelu_erf()
    }
}

/// What attention adds to a score, by the distance of two steps. All layers share it, each with its own factor.
struct DistanceBiases {
    table: Vec<Vec<f32>>, // (buckets, heads)
    farthest: usize,
    heads: usize,
}

impl DistanceBiases {
    fn load(config: &BeatsConfig, weights: &Weights) -> Result<DistanceBiases> {
        let heads = config.encoder_attention_heads;
        let table = weights.get("weight", &[config.num_buckets, heads])?;
        Ok(DistanceBiases {
            table: table.to_dtype(candle_core::DType::F32)?.to_vec2()?,
            farthest: config.max_distance,
            heads,
        })
    }

    /// For each head the biases of all distances in this many steps, from the farthest before to the farthest after.
    fn up_to(&self, steps: usize) -> Vec<Vec<f32>> {
        let most = steps as i64 - 1;
        let buckets: Vec<usize> = (-most..=most).map(|distance| self.bucket(distance)).collect();
        let of_head = |head: usize| buckets.iter().map(|&bucket| self.table[bucket][head]).collect();
        (0..self.heads).map(of_head).collect()
    }

    /// T5's two-sided buckets: half of them exact, the others growing. In fp32, because the table was trained with
    /// that.
    fn bucket(&self, distance: i64) -> usize {
        let side = self.table.len() / 2;
        let exact = side / 2;
        let far = distance.unsigned_abs() as usize;
        let one_sided = if far < exact {
            far
        } else {
            let widening = (self.farthest as f64 / exact as f64).ln() as f32;
            let log = (far as f32 / exact as f32).ln() / widening * (side - exact) as f32;
            (exact + log as usize).min(side - 1)
        };
        one_sided + if distance > 0 { side } else { 0 }
    }
}

/// The biases of a clip.
enum Biases {
    /// By head and distance, for this file's own loops.
    OfDistances(Vec<Vec<f32>>),
    /// For each pair of steps, (heads, steps, steps), for devices where loops over numbers are impossible.
    OfPairs(Tensor),
}

/// The biases of pairs, from those of distances.
fn biases_of_pairs(of_distances: &[Vec<f32>], device: &Device) -> candle_core::Result<Tensor> {
    let (heads, distances) = (of_distances.len(), of_distances.first().map_or(0, Vec::len));
    let steps = distances.div_ceil(2);
    let table = Tensor::from_vec(of_distances.concat(), (heads, distances), device)?;
    let from = (0..steps).flat_map(|step| (0..steps).map(move |other| (steps - 1 - step + other) as u32));
    let places = Tensor::from_iter(from, device)?;
    table.index_select(&places, 1)?.reshape((heads, steps, steps))
}

struct Layer {
    attention: Attention,
    self_attn_layer_norm: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    final_layer_norm: LayerNorm,
    /// The share of a layer's input in its output.
    keep: f64,
}

impl Layer {
    fn load(config: &BeatsConfig, weights: &Weights) -> Result<Layer> {
        let (width, inner) = (config.encoder_embed_dim, config.encoder_ffn_embed_dim);
        let norm = |name| LayerNorm::load(&weights.at(name), width, EPS);
        Ok(Layer {
            attention: Attention::load(config, &weights.at("self_attn"))?,
            self_attn_layer_norm: norm("self_attn_layer_norm")?,
            fc1: Linear::load(&weights.at("fc1"), width, inner, true)?,
            fc2: Linear::load(&weights.at("fc2"), inner, width, true)?,
            final_layer_norm: norm("final_layer_norm")?,
            keep: match config.deep_norm {
                true => (2.0 * config.encoder_layers as f64).powf(0.25),
                false => 1.0,
            },
        })
    }

    fn forward(&self, x: &Tensor, biases: &Biases) -> candle_core::Result<Tensor> {
        let x = ((x * self.keep)? + self.attention.forward(x, biases)?)?;
        let x = self.self_attn_layer_norm.forward(&x)?;
        let h = Activation::GeluErf.forward(&self.fc1.forward(&x)?)?;
        self.final_layer_norm
            .forward(&((&x * self.keep)? + self.fc2.forward(&h)?)?)
    }
}

struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    grep_linear: Linear,
    grep_a: Tensor, // (heads)
    heads: usize,
    size: usize,
}

impl Attention {
    fn load(config: &BeatsConfig, weights: &Weights) -> Result<Attention> {
        let (width, heads) = (config.encoder_embed_dim, config.encoder_attention_heads);
        let size = width / heads;
        let project = |name| Linear::load(&weights.at(name), width, width, true);
        Ok(Attention {
            q_proj: project("q_proj")?,
            k_proj: project("k_proj")?,
            v_proj: project("v_proj")?,
            out_proj: project("out_proj")?,
            grep_linear: Linear::load(&weights.at("grep_linear"), size, 8, true)?,
            grep_a: weights.get("grep_a", &[1, heads, 1, 1])?.flatten_all()?,
            heads,
            size,
        })
    }

    fn forward(&self, x: &Tensor, biases: &Biases) -> candle_core::Result<Tensor> {
        let steps = x.dim(0)?;
        let split = |y: Tensor| y.reshape((steps, self.heads, self.size));
        let q = split(self.q_proj.forward(x)?)?;
        let measures = self.measures(&q)?.t()?; // (heads, steps)
        let q = (q / (self.size as f64).sqrt())?;
        let (k, v) = (split(self.k_proj.forward(x)?)?, split(self.v_proj.forward(x)?)?);
        let heard = match biases {
            Biases::OfDistances(biases) => self.head_by_head(&q, &k, &v, &measures.to_vec2()?, biases)?,
            Biases::OfPairs(biases) => {
                let apart = |y: &Tensor| y.transpose(0, 1)?.contiguous(); // (heads, steps, size)
                let scores = apart(&q)?.matmul(&apart(&k)?.t()?)?;
                let scores = (scores + biases.broadcast_mul(&measures.unsqueeze(2)?)?)?;
                let mixed = candle_nn::ops::softmax_last_dim(&scores)?.matmul(&apart(&v)?)?;
                mixed.transpose(0, 1)?.flatten_from(1)?
            }
        };
        self.out_proj.forward(&heard)
    }

    /// Attention (steps, width), with the scores weighed in place.
    fn head_by_head(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        measures: &[Vec<f32>],
        biases: &[Vec<f32>],
    ) -> candle_core::Result<Tensor> {
        let steps = q.dim(0)?;
        let of_head = |head: usize| {
            let own = |y: &Tensor| y.narrow(1, head, 1)?.squeeze(1)?.contiguous();
            let scores = own(q)?.matmul(&own(k)?.t()?)?;
            let mut scores = scores.flatten_all()?.to_vec1::<f32>()?;
            let rows = scores.par_chunks_mut(steps).zip(&measures[head]).enumerate();
            rows.for_each(|(step, (row, measure))| {
                weigh(row, *measure, &biases[head][steps - 1 - step..]);
            });
            Tensor::from_vec(scores, (steps, steps), q.device())?.matmul(&own(v)?)
        };
        let heads: Vec<Tensor> = (0..self.heads)
            .into_par_iter()
            .map(of_head)
            .collect::<candle_core::Result<_>>()?;
        Tensor::cat(&heads, 1)
    }

    /// How much of the bias each query of each head takes: (steps, heads).
    fn measures(&self, q: &Tensor) -> candle_core::Result<Tensor> {
        let gates = self.grep_linear.forward(q)?; // (steps, heads, 8)
        let (steps, heads, _) = gates.dims3()?;
        let gates = gates.reshape((steps, heads, 2, 4))?.sum(D::Minus1)?;
        let gates = candle_nn::ops::sigmoid(&gates)?;
        let (update, reset) = (gates.narrow(2, 0, 1)?.squeeze(2)?, gates.narrow(2, 1, 1)?.squeeze(2)?);
        (update * (reset.broadcast_mul(&self.grep_a)? - 1.0)?)? + 2.0
    }
}

/// Softmax of a query's scores with its share of the biases.
fn weigh(scores: &mut [f32], measure: f32, biases: &[f32]) {
    let mut largest = f32::NEG_INFINITY;
    for (score, bias) in scores.iter_mut().zip(biases) {
        *score += measure * bias;
        largest = largest.max(*score);
    }
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - largest).exp();
        sum += *score;
    }
    for score in scores {
        *score /= sum;
    }
}
