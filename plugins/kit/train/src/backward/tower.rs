//! The audio tower: an encoder like Whisper's, its steps averaged in pairs, a norm and a projector.

use super::Texts;
use super::attention::{Plan, Rule};
use super::gated::{activate, activate_backward};
use super::linear::{Between, Given, Linear};
use super::norm::LayerNorm;
use super::rope::{by_head, by_token};
use crate::engine::parameters::{Gradients, Pass};
use crate::products::vector::add;
use crate::products::{Into, Scratch};
use audio::{LogMel, MelExtractor};
use nn::Activation;
use nn::encoder::{LEAST_SAMPLES, steps};
use plugin_api::{Clip, Result};

pub(crate) struct Tower {
    pub mel: MelExtractor,
    /// Convolutions over three frames, as products: a row is (channels, 3).
    pub conv1: Linear,
    pub conv2: Linear,
    pub positions: Vec<f32>, // (positions, width)
    pub layers: Vec<Layer>,
    pub norm: LayerNorm,
    pub projector: Vec<Linear>,
    pub between: Option<Activation>,
    pub window: usize,
    pub longest: usize,
    pub block: Option<usize>,
}

pub(crate) struct Layer {
    pub attention_norm: LayerNorm,
    pub q_proj: Linear,
    pub k_proj: Linear,
    pub v_proj: Linear,
    pub out_proj: Linear,
    pub mlp_norm: LayerNorm,
    pub fc1: Linear,
    pub fc2: Linear,
    pub heads: usize,
}

/// Frames that depend on no frame outside of their block.
struct Block {
    rows: Vec<f32>, // (frames, bins)
    frames: usize,
    steps: usize,
}

impl Block {
    /// Outputs of the first convolution that the second one uses.
    fn looked_at(&self) -> usize {
        self.frames.min(2 * self.steps)
    }
}

/// What a pass keeps for the backward pass.
pub(crate) struct Kept {
    blocks: Vec<Block>,
    columns1: Vec<f32>, // (frames looked at, bins * 3)
    conv1: Out,         // before GELU
    columns2: Vec<f32>, // (steps, width * 3)
    conv2: Out,         // before GELU
    /// Empty if only the norm and the projector are learnt, or nothing.
    layers: Vec<KeptLayer>,
    /// Steps of each chunk.
    steps: Vec<usize>,
    pooled: Vec<f32>, // (tokens, width)
    normed: Vec<f32>,
    /// The inputs of the projector's layers after the first, before the activation.
    between: Vec<Vec<f32>>,
    /// The values between the factors of each of the projector's layers.
    of_factors: Vec<Between>,
}

struct KeptLayer {
    x: Vec<f32>,
    qkv: [Out; 3], // each (heads, steps, size)
    out: Vec<f32>,
    sums: Vec<f32>,
    of_factors_o: Between,
    middle: Vec<f32>,
    inner: Out, // before GELU
    of_factors_2: Between,
}

/// The output of a layer, and the values between its factors.
struct Out {
    y: Vec<f32>,
    of_factors: Between,
}

impl Tower {
    fn width(&self) -> usize {
        self.conv2.outputs
    }

    /// Whether the convolutions or the encoder's layers are learnt; with `projector`, or what follows them.
    pub fn learns(&self, projector: bool) -> bool {
        use crate::engine::parameters::Vector::Learnt;
        let convolutions = self.conv1.learns() || self.conv2.learns();
        let norm = |norm: &LayerNorm| matches!(norm.weight, Learnt(_)) || matches!(norm.bias, Learnt(_));
        let layer = |layer: &Layer| {
            layer.linears().iter().any(|linear| linear.learns()) || norm(&layer.attention_norm) || norm(&layer.mlp_norm)
        };
        let behind = projector && (norm(&self.norm) || self.projector.iter().any(Linear::learns));
        convolutions || behind || self.layers.iter().any(layer)
    }

    /// The samples of a clip, in chunks that are encoded independently.
    fn pieces<'c>(&self, clip: &'c Clip) -> Result<Vec<&'c [f32]>> {
        let sounds = audio::sounds(&[clip], LEAST_SAMPLES..=self.longest)?;
        Ok(sounds
            .each
            .iter()
            .flat_map(|samples| samples.chunks(self.window))
            .collect())
    }

    /// How many vectors a clip becomes.
    pub fn places(&self, clip: &Clip) -> Result<usize> {
        let tokens = |samples: &&[f32]| {
            let frames = audio::frames(samples.len());
            match self.block {
                None => steps(frames) / 2,
                Some(block) => (frames / block * steps(block) + steps(frames % block)) / 2,
            }
        };
        Ok(self.pieces(clip)?.iter().map(tokens).sum())
    }

    fn blocks_of(&self, mel: &LogMel) -> Vec<Block> {
        let bins = mel.bins();
        match self.block {
            None => {
                let steps = steps(mel.heard());
                // The last step depends on two frames and one on either side.
                let rows = mel.rows(2 * steps + 1).into_owned();
                let frames = rows.len() / bins.max(1);
                vec![Block { rows, frames, steps }]
            }
            Some(length) => {
                let rows = mel.rows(mel.heard());
                let block = |rows: &[f32]| Block {
                    frames: rows.len() / bins,
                    steps: steps(rows.len() / bins),
                    rows: rows.to_vec(),
                };
                rows.chunks(length * bins).map(block).collect()
            }
        }
    }

    /// Clips to vectors of the model's width, and what the backward pass needs.
    pub fn forward(&self, pass: &Pass, clips: &[&Clip]) -> Result<(Vec<f32>, Kept)> {
        let mut pieces = Vec::new();
        for clip in clips {
            pieces.extend(self.pieces(clip)?);
        }
        let (mut blocks, mut piece_steps) = (Vec::new(), Vec::new());
        for mel in self.mel.log_mels(&pieces, self.window) {
            let own = self.blocks_of(&mel);
            piece_steps.push(own.iter().map(|block| block.steps).sum::<usize>());
            blocks.extend(own);
        }
        Ok(self.through(pass, blocks, piece_steps))
    }

    fn through(&self, pass: &Pass, blocks: Vec<Block>, piece_steps: Vec<usize>) -> (Vec<f32>, Kept) {
        let width = self.width();
        let frames: Vec<f32> = blocks.iter().flat_map(|block| block.rows.iter().copied()).collect();
        let seen1: Vec<Windows> = windows(&blocks, |block| (block.frames, block.looked_at()), 1);
        let columns1 = columns(&frames, self.conv1.inputs / 3, &seen1);
        let conv1 = through(&self.conv1, pass, &columns1);
        let mut active = vec![0.0; conv1.y.len()];
        activate(Activation::GeluErf, &conv1.y, &mut active);
        let seen2 = windows(&blocks, |block| (block.looked_at(), block.steps), 2);
        let columns2 = columns(&active, width, &seen2);
        let conv2 = through(&self.conv2, pass, &columns2);
        let mut x = vec![0.0; conv2.y.len()];
        activate(Activation::GeluErf, &conv2.y, &mut x);
        let places = blocks.iter().flat_map(|block| 0..block.steps);
        for (x, place) in x.chunks_exact_mut(width).zip(places) {
            let position = &self.positions[place * width..][..width];
            x.iter_mut().zip(position).for_each(|(x, position)| *x += position);
        }
        let texts = Texts::of(blocks.iter().map(|block| block.steps));
        let mut layers = Vec::with_capacity(self.layers.len());
        let keeps = self.learns(false);
        for layer in &self.layers {
            let (y, kept) = layer.forward(pass, &texts, x);
            if keeps {
                layers.push(kept);
            }
            x = y;
        }
        let pooled = pool(&x, width, &piece_steps);
        let mut normed = vec![0.0; pooled.len()];
        self.norm.forward(pass, &pooled, &mut normed);
        let (mut between, mut of_factors) = (Vec::new(), Vec::new());
        let mut y = normed.clone();
        for (number, layer) in self.projector.iter().enumerate() {
            if number > 0 {
                between.push(y.clone());
                if let Some(activation) = self.between {
                    let x = y.clone();
                    activate(activation, &x, &mut y);
                }
            }
            let out = through(layer, pass, &y);
            of_factors.push(out.of_factors);
            y = out.y;
        }
        let kept = Kept {
            blocks,
            columns1,
            conv1,
            columns2,
            conv2,
            layers,
            steps: piece_steps,
            pooled,
            normed,
            between,
            of_factors,
        };
        (y, kept)
    }

    /// From the gradient of the vectors to those of the parameters.
    pub fn backward(&self, pass: &Pass, kept: Kept, dy: Vec<f32>, gradients: &mut Gradients) {
        let width = self.width();
        let mut dy = dy;
        for (number, layer) in self.projector.iter().enumerate().rev() {
            let mut x = match number {
                0 => kept.normed.clone(),
                _ => kept.between[number - 1].clone(),
            };
            if let (Some(activation), true) = (self.between, number > 0) {
                activate(activation, &kept.between[number - 1], &mut x);
            }
            let mut dx = vec![0.0; x.len()];
            let into = Some((&mut dx[..], Into::Set));
            layer.backward(pass, &x, &kept.of_factors[number], &dy, into, gradients);
            if let (Some(activation), true) = (self.between, number > 0) {
                activate_backward(activation, &kept.between[number - 1], &mut dx);
            }
            dy = dx;
        }
        let mut dpooled = vec![0.0; kept.pooled.len()];
        self.norm.backward(pass, &kept.pooled, &dy, &mut dpooled, gradients);
        if !self.learns(false) {
            return;
        }
        let mut dx = spread(&dpooled, width, &kept.steps);
        let texts = Texts::of(kept.blocks.iter().map(|block| block.steps));
        for (layer, kept) in self.layers.iter().zip(kept.layers).rev() {
            dx = layer.backward(pass, &texts, kept, dx, gradients);
        }
        if !self.conv1.learns() && !self.conv2.learns() {
            return;
        }
        let (conv1, conv2) = (&kept.conv1, &kept.conv2);
        activate_backward(Activation::GeluErf, &conv2.y, &mut dx);
        let mut dcolumns = vec![0.0; kept.columns2.len()];
        let into = Some((&mut dcolumns[..], Into::Set));
        self.conv2
            .backward(pass, &kept.columns2, &conv2.of_factors, &dx, into, gradients);
        let seen = windows(&kept.blocks, |block| (block.looked_at(), block.steps), 2);
        let mut dactive = vec![0.0; conv1.y.len()];
        add_columns(&mut dactive, &dcolumns, width, &seen);
        activate_backward(Activation::GeluErf, &conv1.y, &mut dactive);
        self.conv1
            .backward(pass, &kept.columns1, &conv1.of_factors, &dactive, None, gradients);
    }
}

fn through(layer: &Linear, pass: &Pass, x: &[f32]) -> Out {
    let mut y = vec![0.0; x.len() / layer.inputs.max(1) * layer.outputs];
    let of_factors = layer.forward_of(pass, x, &mut y);
    Out { y, of_factors }
}

/// The frames under an output: its middle one, and the range of its block.
type Windows = (usize, std::ops::Range<usize>);

fn windows(blocks: &[Block], counts: impl Fn(&Block) -> (usize, usize), step: usize) -> Vec<Windows> {
    let mut end = 0;
    let of_block = |block: &Block| {
        let (frames, count) = counts(block);
        let all = end..end + frames;
        end += frames;
        let middles = (all.start..).step_by(step).take(count);
        middles.map(|middle| (middle, all.clone())).collect::<Vec<_>>()
    };
    blocks.iter().flat_map(of_block).collect()
}

/// Windows of three frames as rows (channels, 3). Beyond both ends of a block there are zeros.
fn columns(x: &[f32], channels: usize, windows: &[Windows]) -> Vec<f32> {
    let mut y = vec![0.0; windows.len() * channels * 3];
    for ((middle, block), y) in windows.iter().zip(y.chunks_exact_mut(channels * 3)) {
        for place in 0..3 {
            let frame = (middle + place).wrapping_sub(1);
            if block.contains(&frame) {
                let x = &x[frame * channels..][..channels];
                y.iter_mut().skip(place).step_by(3).zip(x).for_each(|(y, x)| *y = *x);
            }
        }
    }
    y
}

/// The backward pass: adds up each frame's gradients over its windows.
fn add_columns(dx: &mut [f32], dy: &[f32], channels: usize, windows: &[Windows]) {
    for ((middle, block), dy) in windows.iter().zip(dy.chunks_exact(channels * 3)) {
        for place in 0..3 {
            let frame = (middle + place).wrapping_sub(1);
            if block.contains(&frame) {
                let dx = &mut dx[frame * channels..][..channels];
                dx.iter_mut()
                    .zip(dy.iter().skip(place).step_by(3))
                    .for_each(|(dx, dy)| *dx += dy);
            }
        }
    }
}

/// The mean of each two consecutive steps within a chunk; an odd last step is dropped.
fn pool(x: &[f32], width: usize, pieces: &[usize]) -> Vec<f32> {
    let mut y = Vec::new();
    let mut start = 0;
    for &steps in pieces {
        for pair in 0..steps / 2 {
            let at = (start + 2 * pair) * width;
            let (one, two) = (&x[at..at + width], &x[at + width..at + 2 * width]);
            y.extend(one.iter().zip(two).map(|(one, two)| (one + two) / 2.0));
        }
        start += steps;
    }
    y
}

/// The backward pass of [`pool`].
fn spread(dy: &[f32], width: usize, pieces: &[usize]) -> Vec<f32> {
    let mut dx = vec![0.0; pieces.iter().sum::<usize>() * width];
    let (mut start, mut tokens) = (0, dy.chunks_exact(width));
    for &steps in pieces {
        for (pair, dy) in (0..steps / 2).zip(&mut tokens) {
            let at = (start + 2 * pair) * width;
            for dx in dx[at..at + 2 * width].chunks_exact_mut(width) {
                dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx = dy / 2.0);
            }
        }
        start += steps;
    }
    dx
}

impl Layer {
    fn linears(&self) -> [&Linear; 6] {
        [
            &self.q_proj,
            &self.k_proj,
            &self.v_proj,
            &self.out_proj,
            &self.fc1,
            &self.fc2,
        ]
    }

    fn rule(&self) -> Rule {
        let size = self.q_proj.outputs / self.heads;
        Rule {
            scale: (1.0 / (size as f64).sqrt()) as f32,
            window: None,
            softcap: None,
            ahead: true,
            group: 1,
            size,
        }
    }

    fn forward(&self, pass: &Pass, texts: &Texts, x: Vec<f32>) -> (Vec<f32>, KeptLayer) {
        let (width, all) = (self.q_proj.inputs, (0..texts.tokens()).collect::<Vec<_>>());
        let mut h = vec![0.0; x.len()];
        self.attention_norm.forward(pass, &x, &mut h);
        let shared = [&self.q_proj, &self.k_proj, &self.v_proj];
        let qkv = {
            let given = Given::new(&shared, pass, &h, width);
            shared.map(|layer| {
                let (mut y, mut heads) = (Scratch::new(x.len()), vec![0.0; x.len()]);
                let of_factors = layer.forward(pass, &given, &mut y);
                by_head(&y, self.heads, &all, None, &mut heads);
                Out { y: heads, of_factors }
            })
        };
        let plan = Plan::new(self.rule(), texts, &all);
        let (mut out, mut sums) = (vec![0.0; x.len()], vec![0.0; self.heads * all.len()]);
        let [q, k, v] = &qkv;
        plan.forward(&q.y, &k.y, &v.y, &mut out, &mut sums);
        by_token(&out, self.heads, &all, None, &mut h);
        let Out {
            y: mut middle,
            of_factors: of_factors_o,
        } = through(&self.out_proj, pass, &h);
        add(&mut middle, &x);
        self.mlp_norm.forward(pass, &middle, &mut h);
        let inner = through(&self.fc1, pass, &h);
        let mut active = Scratch::new(inner.y.len());
        activate(Activation::GeluErf, &inner.y, &mut active);
        let Out {
            mut y,
            of_factors: of_factors_2,
        } = through(&self.fc2, pass, &active);
        add(&mut y, &middle);
        let kept = KeptLayer {
            x,
            qkv,
            out,
            sums,
            of_factors_o,
            middle,
            inner,
            of_factors_2,
        };
        (y, kept)
    }

    fn backward(
        &self,
        pass: &Pass,
        texts: &Texts,
        kept: KeptLayer,
        dy: Vec<f32>,
        gradients: &mut Gradients,
    ) -> Vec<f32> {
        let all: Vec<usize> = (0..texts.tokens()).collect();
        let mut active = Scratch::new(kept.inner.y.len());
        activate(Activation::GeluErf, &kept.inner.y, &mut active);
        let mut dinner = Scratch::new(active.len());
        let into = Some((&mut dinner[..], Into::Set));
        self.fc2
            .backward(pass, &active, &kept.of_factors_2, &dy, into, gradients);
        activate_backward(Activation::GeluErf, &kept.inner.y, &mut dinner);
        let (mut h, mut dh) = (Scratch::new(dy.len()), Scratch::new(dy.len()));
        self.mlp_norm.forward(pass, &kept.middle, &mut h);
        let into = Some((&mut dh[..], Into::Set));
        self.fc1
            .backward(pass, &h, &kept.inner.of_factors, &dinner, into, gradients);
        let mut dmiddle = dy;
        self.mlp_norm.backward(pass, &kept.middle, &dh, &mut dmiddle, gradients);

        by_token(&kept.out, self.heads, &all, None, &mut h);
        let mut dheard = Scratch::new(h.len());
        let into = Some((&mut dheard[..], Into::Set));
        self.out_proj
            .backward(pass, &h, &kept.of_factors_o, &dmiddle, into, gradients);
        let mut dout = Scratch::new(dheard.len());
        by_head(&dheard, self.heads, &all, None, &mut dout);
        let plan = Plan::new(self.rule(), texts, &all);
        let [mut dq, mut dk, mut dv] = [0; 3].map(|_| Scratch::new(dout.len()));
        let [q, k, v] = &kept.qkv;
        let seen = (&q.y[..], &k.y[..], &v.y[..]);
        plan.backward(seen, &kept.out, &kept.sums, &dout, &mut dq, &mut dk, &mut dv);
        self.attention_norm.forward(pass, &kept.x, &mut h);
        let shared = [(&self.q_proj, dq, q), (&self.k_proj, dk, k), (&self.v_proj, dv, v)];
        let mut into = Into::Set;
        for (layer, d, out) in shared {
            by_token(&d, self.heads, &all, None, &mut dheard);
            let dx = Some((&mut dh[..], into));
            layer.backward(pass, &h, &out.of_factors, &dheard, dx, gradients);
            into = Into::Add;
        }
        self.attention_norm
            .backward(pass, &kept.x, &dh, &mut dmiddle, gradients);
        dmiddle
    }
}
