//! One layer of a dense decoder.

use super::Texts;
use super::attention::{Plan, Rule};
use super::gated;
use super::linear::{Given, Linear};
use super::norm::RmsNorm;
use super::rope::{Angles, by_head, by_token};
use crate::engine::parameters::{Gradients, Pass, Vector};
use crate::products::vector::add;
use nn::Activation;

pub(crate) struct Layer {
    pub before_attention: Option<RmsNorm>,
    pub q_proj: Linear,
    pub k_proj: Linear,
    pub v_proj: Linear,
    pub q_norm: Option<RmsNorm>,
    pub k_norm: Option<RmsNorm>,
    pub o_proj: Linear,
    /// Behind attention, before its output is added, where a model has one.
    pub behind_attention: Option<RmsNorm>,
    pub before_mlp: Option<RmsNorm>,
    pub gate_proj: Linear,
    pub up_proj: Linear,
    pub down_proj: Linear,
    /// The same behind the feed-forward.
    pub behind_mlp: Option<RmsNorm>,
    /// What the outputs of both halves are multiplied by before they are added.
    pub residual_scale: f32,
    pub activation: Activation,
    pub rule: Rule,
    /// Which of the model's ropes turns its queries and keys.
    pub rope: usize,
}

/// What a layer keeps of a pass for the way back.
pub(crate) enum Kept {
    /// Its input alone: the rest is computed again.
    Input(Vec<f32>),
    All(Box<All>),
}

pub(crate) struct All {
    x: Vec<f32>,    // (tokens, hidden)
    q: Vec<f32>,    // (asking, heads * size), as they leave the projections
    k: Vec<f32>,    // (tokens, key heads * size)
    v: Vec<f32>,    // (tokens, key heads * size)
    out: Vec<f32>,  // (heads, asking, size)
    sums: Vec<f32>, // (heads, asking)
    /// Where it is normalised behind.
    attended: Vec<f32>, // (asking, hidden)
    middle: Vec<f32>, // (asking, hidden)
    gate: Vec<f32>, // (asking, inner)
    up: Vec<f32>,   // (asking, inner)
    fed: Vec<f32>,  // (asking, hidden)
}

/// Keys and values of the tokens that a layer read before, as they leave the projections.
#[derive(Default)]
pub(crate) struct Earlier {
    k: Vec<f32>, // (tokens, key heads * size)
    v: Vec<f32>, // (tokens, key heads * size)
}

/// The tokens of a pass, alike for all layers.
pub(crate) struct Tokens<'a> {
    pub texts: &'a Texts,
    pub angles: &'a [Angles],
    pub all: &'a [usize],
}

impl Layer {
    /// Whether anything in it is learnt.
    pub fn learns(&self) -> bool {
        let behind = [&self.behind_attention, &self.behind_mlp];
        let norms = [&self.before_attention, &self.before_mlp, &self.q_norm, &self.k_norm];
        let norms = norms.into_iter().chain(behind).flatten();
        self.linears().iter().any(|layer| layer.learns()) || norms.into_iter().any(learnt)
    }

    fn linears(&self) -> [&Linear; 7] {
        [
            &self.q_proj,
            &self.k_proj,
            &self.v_proj,
            &self.o_proj,
            &self.gate_proj,
            &self.up_proj,
            &self.down_proj,
        ]
    }

    fn hidden(&self) -> usize {
        self.q_proj.inputs
    }

    /// x (tokens, hidden) to (asking, hidden): those of the tokens that what follows looks at.
    pub fn forward(
        &self,
        pass: &Pass,
        tokens: &Tokens,
        x: Vec<f32>,
        asking: &[usize],
        whole: bool,
    ) -> (Vec<f32>, Kept) {
        let (y, all) = self.through(pass, tokens, x, asking, Earlier::default());
        match whole {
            true => (y, Kept::All(Box::new(all))),
            false => (y, Kept::Input(all.x)),
        }
    }

    /// The same for a text that goes on: x are its last tokens, and those before them are not read again.
    pub fn go_on(
        &self,
        pass: &Pass,
        tokens: &Tokens,
        x: Vec<f32>,
        asking: &[usize],
        earlier: &mut Earlier,
    ) -> Vec<f32> {
        let (y, all) = self.through(pass, tokens, x, asking, std::mem::take(earlier));
        *earlier = Earlier { k: all.k, v: all.v };
        y
    }

    /// x (the tokens behind the earlier ones, hidden) to (asking, hidden), and all that comes between.
    fn through(
        &self,
        pass: &Pass,
        tokens: &Tokens,
        x: Vec<f32>,
        asking: &[usize],
        earlier: Earlier,
    ) -> (Vec<f32>, All) {
        let hidden = self.hidden();
        let rows = x.len() / hidden;
        let before = tokens.all.len() - rows;
        // Where those that ask stand among the rows of x.
        let places: Vec<usize> = asking.iter().map(|token| token - before).collect();
        let h = normed(pass, self.before_attention.as_ref(), &x);
        let mut q = vec![0.0; asking.len() * self.q_proj.outputs];
        let (mut k, new_k) = longer(earlier.k, rows * self.k_proj.outputs);
        let (mut v, new_v) = longer(earlier.v, rows * self.v_proj.outputs);
        {
            let shared = [&self.q_proj, &self.k_proj, &self.v_proj];
            let given = Given::forward(&shared, pass, &h, hidden);
            self.k_proj.forward(pass, &given, &mut k[new_k..]);
            self.v_proj.forward(pass, &given, &mut v[new_v..]);
            match asking.len() == rows {
                true => self.q_proj.forward(pass, &given, &mut q),
                false => {
                    let some = select(&h, hidden, &places);
                    let given = Given::forward(&[&self.q_proj], pass, &some, hidden);
                    self.q_proj.forward(pass, &given, &mut q);
                }
            }
        }
        let heads = self.heads(pass, tokens, (&q, &k, &v), asking);
        let plan = Plan::new(self.rule, tokens.texts, asking);
        let count = self.q_proj.outputs / self.rule.size;
        let (mut out, mut sums) = (vec![0.0; q.len()], vec![0.0; count * asking.len()]);
        plan.forward(&heads.q, &heads.k, &heads.v, &mut out, &mut sums);
        drop(heads);
        let mut attended = vec![0.0; asking.len() * hidden];
        {
            let heard = self.heard(&out, asking);
            let given = Given::forward(&[&self.o_proj], pass, &heard, self.o_proj.inputs);
            self.o_proj.forward(pass, &given, &mut attended);
        }
        let mut middle = match asking.len() == rows {
            true => x.clone(),
            false => select(&x, hidden, &places),
        };
        let attended = self.added(pass, &mut middle, attended, self.behind_attention.as_ref());
        let (mut gate, mut up) = (
            vec![0.0; asking.len() * self.gate_proj.outputs],
            vec![0.0; asking.len() * self.up_proj.outputs],
        );
        {
            let h = normed(pass, self.before_mlp.as_ref(), &middle);
            let given = Given::forward(&[&self.gate_proj, &self.up_proj], pass, &h, hidden);
            self.gate_proj.forward(pass, &given, &mut gate);
            self.up_proj.forward(pass, &given, &mut up);
        }
        let mut fed = vec![0.0; middle.len()];
        {
            let mut product = vec![0.0; gate.len()];
            gated::forward(self.activation, &gate, &up, &mut product);
            let given = Given::forward(&[&self.down_proj], pass, &product, self.down_proj.inputs);
            self.down_proj.forward(pass, &given, &mut fed);
        }
        let mut y = middle.clone();
        let fed = self.added(pass, &mut y, fed, self.behind_mlp.as_ref());
        let all = All {
            x,
            q,
            k,
            v,
            out,
            sums,
            attended,
            middle,
            gate,
            up,
            fed,
        };
        (y, all)
    }

    /// Adds an output to x, normalised first where a norm stands behind; gives what the way back needs of it.
    fn added(&self, pass: &Pass, x: &mut [f32], output: Vec<f32>, norm: Option<&RmsNorm>) -> Vec<f32> {
        if norm.is_none() && self.residual_scale == 1.0 {
            add(x, &output);
            return Vec::new();
        }
        let mut y = normed(pass, norm, &output);
        scale(&mut y, self.residual_scale);
        add(x, &y);
        if norm.is_some() { output } else { Vec::new() }
    }

    /// The gradient of an output, of which `dy` is what was added.
    fn behind(
        &self,
        pass: &Pass,
        norm: Option<&RmsNorm>,
        output: &[f32],
        dy: &[f32],
        gradients: &mut Gradients,
    ) -> Option<Vec<f32>> {
        if norm.is_none() && self.residual_scale == 1.0 {
            return None;
        }
        let mut scaled = dy.to_vec();
        scale(&mut scaled, self.residual_scale);
        Some(match norm {
            None => scaled,
            Some(norm) => {
                let mut dx = vec![0.0; dy.len()];
                norm.backward(pass, output, &scaled, &mut dx, gradients);
                dx
            }
        })
    }

    /// Queries, keys and values as attention reads them.
    fn heads(&self, pass: &Pass, tokens: &Tokens, (q, k, v): (&[f32], &[f32], &[f32]), asking: &[usize]) -> Heads {
        let size = self.rule.size;
        let angles = Some(&tokens.angles[self.rope]);
        let turned = |x: &[f32], norm: &Option<RmsNorm>, outputs: usize, some: &[usize]| {
            let mut y = vec![0.0; x.len()];
            match norm {
                None => by_head(x, outputs / size, some, angles, &mut y),
                Some(norm) => {
                    let mut normed = vec![0.0; x.len()];
                    norm.forward(pass, x, &mut normed);
                    by_head(&normed, outputs / size, some, angles, &mut y);
                }
            }
            y
        };
        let mut values = vec![0.0; v.len()];
        by_head(v, self.v_proj.outputs / size, tokens.all, None, &mut values);
        Heads {
            q: turned(q, &self.q_norm, self.q_proj.outputs, asking),
            k: turned(k, &self.k_norm, self.k_proj.outputs, tokens.all),
            v: values,
        }
    }

    /// What attention gives, as the projection behind it reads it: (asking, heads * size).
    fn heard(&self, out: &[f32], asking: &[usize]) -> Vec<f32> {
        let mut heard = vec![0.0; out.len()];
        by_token(out, self.q_proj.outputs / self.rule.size, asking, None, &mut heard);
        heard
    }

    /// From the gradient of y (asking, hidden) to that of x (tokens, hidden), if that is asked for.
    #[expect(clippy::too_many_arguments, reason = "a pass, its tokens, and what is wanted of it")]
    pub fn backward(
        &self,
        pass: &Pass,
        tokens: &Tokens,
        kept: Kept,
        dy: Vec<f32>,
        asking: &[usize],
        wanted: bool,
        gradients: &mut Gradients,
    ) -> Option<Vec<f32>> {
        let mut all = match kept {
            Kept::All(all) => *all,
            Kept::Input(x) => self.through(pass, tokens, x, asking, Earlier::default()).1,
        };
        let middle = self.mlp_backward(pass, &mut all, dy, gradients);
        self.attention_backward(pass, tokens, all, middle, asking, wanted, gradients)
    }

    /// The second half: from the gradient of y to that of what stands between both.
    fn mlp_backward(&self, pass: &Pass, all: &mut All, dy: Vec<f32>, gradients: &mut Gradients) -> Vec<f32> {
        let hidden = self.hidden();
        let mut dproduct = vec![0.0; all.gate.len()];
        {
            let mut product = vec![0.0; all.gate.len()];
            if self.down_proj.learns() {
                gated::forward(self.activation, &all.gate, &all.up, &mut product);
            }
            let given = Given::backward(&[&self.down_proj], pass, &product, self.down_proj.inputs);
            let own = self.behind(pass, self.behind_mlp.as_ref(), &all.fed, &dy, gradients);
            let dfed = own.as_deref().unwrap_or(&dy);
            self.down_proj
                .backward(pass, &given, dfed, Some(&mut dproduct), gradients);
        }
        gated::backward(self.activation, &mut all.gate, &mut all.up, &dproduct);
        drop(dproduct);
        let mut dh = vec![0.0; dy.len()];
        {
            let h = normed(pass, self.before_mlp.as_ref(), &all.middle);
            let given = Given::backward(&[&self.gate_proj, &self.up_proj], pass, &h, hidden);
            self.gate_proj
                .backward(pass, &given, &all.gate, Some(&mut dh), gradients);
            self.up_proj.backward(pass, &given, &all.up, Some(&mut dh), gradients);
        }
        let mut dmiddle = dy;
        back_through(
            pass,
            self.before_mlp.as_ref(),
            &all.middle,
            &dh,
            &mut dmiddle,
            gradients,
        );
        dmiddle
    }

    /// The first half.
    #[expect(clippy::too_many_arguments, reason = "as for `backward`")]
    fn attention_backward(
        &self,
        pass: &Pass,
        tokens: &Tokens,
        all: All,
        dmiddle: Vec<f32>,
        asking: &[usize],
        wanted: bool,
        gradients: &mut Gradients,
    ) -> Option<Vec<f32>> {
        let (hidden, size, rows) = (self.hidden(), self.rule.size, tokens.all.len());
        let mut dheard = vec![0.0; all.out.len()];
        {
            let heard = self.heard(&all.out, asking);
            let given = Given::backward(&[&self.o_proj], pass, &heard, self.o_proj.inputs);
            let own = self.behind(pass, self.behind_attention.as_ref(), &all.attended, &dmiddle, gradients);
            let dattended = own.as_deref().unwrap_or(&dmiddle);
            self.o_proj
                .backward(pass, &given, dattended, Some(&mut dheard), gradients);
        }
        let (heads, shared) = (self.q_proj.outputs / size, self.k_proj.outputs / size);
        let mut dout = vec![0.0; dheard.len()];
        by_head(&dheard, heads, asking, None, &mut dout);
        drop(dheard);
        let (mut dq, mut dk, mut dv) = (vec![0.0; all.q.len()], vec![0.0; all.k.len()], vec![0.0; all.v.len()]);
        {
            let seen = self.heads(pass, tokens, (&all.q, &all.k, &all.v), asking);
            let plan = Plan::new(self.rule, tokens.texts, asking);
            let seen = (&seen.q[..], &seen.k[..], &seen.v[..]);
            plan.backward(seen, &all.out, &all.sums, &dout, &mut dq, &mut dk, &mut dv);
        }
        drop(dout);
        let angles = Some(&tokens.angles[self.rope]);
        let mut back = |d: Vec<f32>, x: &[f32], norm: &Option<RmsNorm>, heads: usize, some: &[usize]| {
            let mut turned = vec![0.0; d.len()];
            by_token(&d, heads, some, angles, &mut turned);
            match norm {
                None => turned,
                Some(norm) => {
                    let mut dx = d;
                    dx.fill(0.0);
                    norm.backward(pass, x, &turned, &mut dx, gradients);
                    dx
                }
            }
        };
        let dq = back(dq, &all.q, &self.q_norm, heads, asking);
        let dk = back(dk, &all.k, &self.k_norm, shared, tokens.all);
        let mut dvalues = vec![0.0; dv.len()];
        by_token(&dv, shared, tokens.all, None, &mut dvalues);

        let below = wanted || self.before_attention.as_ref().is_some_and(learnt);
        let mut dh = vec![0.0; if below { rows * hidden } else { 0 }];
        {
            let h = normed(pass, self.before_attention.as_ref(), &all.x);
            let given = Given::backward(&[&self.k_proj, &self.v_proj], pass, &h, hidden);
            self.k_proj
                .backward(pass, &given, &dk, below.then_some(&mut dh), gradients);
            self.v_proj
                .backward(pass, &given, &dvalues, below.then_some(&mut dh), gradients);
            match asking.len() == rows {
                true => {
                    let given = Given::backward(&[&self.q_proj], pass, &h, hidden);
                    self.q_proj
                        .backward(pass, &given, &dq, below.then_some(&mut dh), gradients);
                }
                false => {
                    let some = select(&h, hidden, asking);
                    let mut dsome = vec![0.0; if below { some.len() } else { 0 }];
                    let given = Given::backward(&[&self.q_proj], pass, &some, hidden);
                    self.q_proj
                        .backward(pass, &given, &dq, below.then_some(&mut dsome), gradients);
                    if below {
                        add_selected(&mut dh, &dsome, hidden, asking);
                    }
                }
            }
        }
        if !below {
            return None;
        }
        let mut dx = match asking.len() == rows {
            true => dmiddle,
            false => {
                let mut dx = vec![0.0; rows * hidden];
                add_selected(&mut dx, &dmiddle, hidden, asking);
                dx
            }
        };
        back_through(pass, self.before_attention.as_ref(), &all.x, &dh, &mut dx, gradients);
        wanted.then_some(dx)
    }
}

struct Heads {
    q: Vec<f32>, // (heads, asking, size)
    k: Vec<f32>, // (key heads, tokens, size)
    v: Vec<f32>, // (key heads, tokens, size)
}

fn learnt(norm: &RmsNorm) -> bool {
    matches!(norm.weight, Vector::Learnt(_))
}

/// x behind a norm, where there is one.
/// Values with room for so many more behind them, and where these begin.
fn longer(mut values: Vec<f32>, more: usize) -> (Vec<f32>, usize) {
    let start = values.len();
    match start {
        // Fresh memory is zeros already.
        0 => (vec![0.0; more], 0),
        _ => {
            values.resize(start + more, 0.0);
            (values, start)
        }
    }
}

fn normed(pass: &Pass, norm: Option<&RmsNorm>, x: &[f32]) -> Vec<f32> {
    match norm {
        None => x.to_vec(),
        Some(norm) => {
            let mut h = vec![0.0; x.len()];
            norm.forward(pass, x, &mut h);
            h
        }
    }
}

/// Adds to `dx` the gradient in front of a norm, where there is one.
fn back_through(pass: &Pass, norm: Option<&RmsNorm>, x: &[f32], dh: &[f32], dx: &mut [f32], gradients: &mut Gradients) {
    match norm {
        None => add(dx, dh),
        Some(norm) => norm.backward(pass, x, dh, dx, gradients),
    }
}

fn scale(x: &mut [f32], by: f32) {
    if by != 1.0 {
        x.iter_mut().for_each(|x| *x *= by);
    }
}

/// Some rows of x (rows, width).
pub(crate) fn select(x: &[f32], width: usize, rows: &[usize]) -> Vec<f32> {
    let rows = rows.iter().map(|row| &x[row * width..][..width]);
    let mut y = Vec::with_capacity(rows.len() * width);
    rows.for_each(|row| y.extend_from_slice(row));
    y
}

/// Adds rows to some of those of x.
pub(crate) fn add_selected(x: &mut [f32], some: &[f32], width: usize, rows: &[usize]) {
    for (row, some) in rows.iter().zip(some.chunks_exact(width)) {
        let x = &mut x[row * width..][..width];
        x.iter_mut().zip(some).for_each(|(x, y)| *x += y);
    }
}
