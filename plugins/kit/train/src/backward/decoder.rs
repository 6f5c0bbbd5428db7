//! One layer of a dense decoder.

use super::Texts;
use super::attention::{Plan, Rule};
use super::gated;
use super::linear::{Between, Given, Linear};
use super::norm::RmsNorm;
use super::rope::{Angles, by_head, by_token};
use crate::engine::parameters::{Gradients, Pass, Vector};
use crate::products::vector::add;
use crate::products::{Into, Scratch};
use nn::Activation;

pub(crate) struct Layer {
    pub before_attention: Option<RmsNorm>,
    pub q_proj: Linear,
    pub k_proj: Linear,
    pub v_proj: Linear,
    pub q_norm: Option<RmsNorm>,
    pub k_norm: Option<RmsNorm>,
    pub o_proj: Linear,
    /// The norm after attention, before its output is added, if there is one.
    pub behind_attention: Option<RmsNorm>,
    pub before_mlp: Option<RmsNorm>,
    pub gate_proj: Linear,
    pub up_proj: Linear,
    pub down_proj: Linear,
    /// The same after the feed-forward.
    pub behind_mlp: Option<RmsNorm>,
    /// The factor of the outputs of both halves, before they are added.
    pub residual_scale: f32,
    pub activation: Activation,
    pub rule: Rule,
    /// Which of the model's ropes rotates its queries and keys.
    pub rope: usize,
}

/// What a layer keeps for the backward pass.
pub(crate) enum Kept {
    /// Its input only; the rest is recomputed.
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
    /// Attention's output, kept if a norm follows it.
    attended: Vec<f32>, // (asking, hidden)
    middle: Vec<f32>, // (asking, hidden)
    gate: Vec<f32>, // (asking, inner)
    up: Vec<f32>,   // (asking, inner)
    fed: Vec<f32>,  // (asking, hidden)
    /// The values between the factors of each linear layer.
    between: OfEach<Between>,
}

/// One for each linear layer.
struct OfEach<T> {
    q: T,
    k: T,
    v: T,
    o: T,
    gate: T,
    up: T,
    down: T,
}

/// Keys and values of the tokens that a layer read before, as they leave the projections.
#[derive(Default)]
pub(crate) struct Earlier {
    k: Vec<f32>, // (tokens, key heads * size)
    v: Vec<f32>, // (tokens, key heads * size)
}

/// The tokens of a pass, shared by all layers.
pub(crate) struct Tokens<'a> {
    pub texts: &'a Texts,
    pub angles: &'a [Angles],
    pub all: &'a [usize],
}

impl Layer {
    /// Whether any part of it is learnt.
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

    /// x (tokens, hidden) to (asking, hidden): the tokens that later layers need.
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

    /// The same for the next tokens of a text: x holds only these, and what earlier ones left is not computed again.
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

    /// x (the tokens after the earlier ones, hidden) to (asking, hidden), with all intermediate results.
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
        let (between_q, between_k, between_v) = {
            let shared = [&self.q_proj, &self.k_proj, &self.v_proj];
            let given = Given::new(&shared, pass, &h, hidden);
            let between_k = self.k_proj.forward(pass, &given, &mut k[new_k..]);
            let between_v = self.v_proj.forward(pass, &given, &mut v[new_v..]);
            let between_q = match asking.len() == rows {
                true => self.q_proj.forward(pass, &given, &mut q),
                false => self.q_proj.forward_of(pass, &select(&h, hidden, &places), &mut q),
            };
            (between_q, between_k, between_v)
        };
        drop(h);
        let heads = self.heads(pass, tokens, (&q, &k, &v), asking);
        let plan = Plan::new(self.rule, tokens.texts, asking);
        let count = self.q_proj.outputs / self.rule.size;
        let (mut out, mut sums) = (vec![0.0; q.len()], vec![0.0; count * asking.len()]);
        plan.forward(&heads.q, &heads.k, &heads.v, &mut out, &mut sums);
        drop(heads);
        let mut attended = vec![0.0; asking.len() * hidden];
        let between_o = self.o_proj.forward_of(pass, &self.heard(&out, asking), &mut attended);
        let mut middle = match asking.len() == rows {
            true => x.clone(),
            false => select(&x, hidden, &places),
        };
        let attended = self.added(pass, &mut middle, attended, self.behind_attention.as_ref());
        let (mut gate, mut up) = (
            vec![0.0; asking.len() * self.gate_proj.outputs],
            vec![0.0; asking.len() * self.up_proj.outputs],
        );
        let (between_gate, between_up) = {
            let h = normed(pass, self.before_mlp.as_ref(), &middle);
            let given = Given::new(&[&self.gate_proj, &self.up_proj], pass, &h, hidden);
            let between_gate = self.gate_proj.forward(pass, &given, &mut gate);
            (between_gate, self.up_proj.forward(pass, &given, &mut up))
        };
        let mut fed = vec![0.0; middle.len()];
        let between_down = {
            let mut product = Scratch::new(gate.len());
            gated::forward(self.activation, &gate, &up, &mut product);
            self.down_proj.forward_of(pass, &product, &mut fed)
        };
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
            between: OfEach {
                q: between_q,
                k: between_k,
                v: between_v,
                o: between_o,
                gate: between_gate,
                up: between_up,
                down: between_down,
            },
        };
        (y, all)
    }

    /// Adds an output to x, after a norm if there is one; returns what the backward pass needs.
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

    /// The gradient of an output, given the gradient `dy` of what was added.
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

    /// Queries, keys and values in the order that attention reads.
    fn heads(&self, pass: &Pass, tokens: &Tokens, (q, k, v): (&[f32], &[f32], &[f32]), asking: &[usize]) -> Heads {
        let size = self.rule.size;
        let angles = Some(&tokens.angles[self.rope]);
        let turned = |x: &[f32], norm: &Option<RmsNorm>, outputs: usize, some: &[usize]| {
            let mut y = Scratch::new(x.len());
            match norm {
                None => by_head(x, outputs / size, some, angles, &mut y),
                Some(_) => by_head(&normed(pass, norm.as_ref(), x), outputs / size, some, angles, &mut y),
            }
            y
        };
        let mut values = Scratch::new(v.len());
        by_head(v, self.v_proj.outputs / size, tokens.all, None, &mut values);
        Heads {
            q: turned(q, &self.q_norm, self.q_proj.outputs, asking),
            k: turned(k, &self.k_norm, self.k_proj.outputs, tokens.all),
            v: values,
        }
    }

    /// Attention's output in the order that the next projection reads: (asking, heads * size).
    fn heard(&self, out: &[f32], asking: &[usize]) -> Scratch {
        let mut heard = Scratch::new(out.len());
        by_token(out, self.q_proj.outputs / self.rule.size, asking, None, &mut heard);
        heard
    }

    /// From the gradient of y (asking, hidden) to that of x (tokens, hidden), if it is needed.
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

    /// The second half of the layer: from the gradient of y to that of its input.
    fn mlp_backward(&self, pass: &Pass, all: &mut All, dy: Vec<f32>, gradients: &mut Gradients) -> Vec<f32> {
        let mut dproduct = Scratch::new(all.gate.len());
        {
            let mut product = Scratch::new(all.gate.len());
            if self.down_proj.learns() {
                gated::forward(self.activation, &all.gate, &all.up, &mut product);
            }
            let own = self.behind(pass, self.behind_mlp.as_ref(), &all.fed, &dy, gradients);
            let dfed = own.as_deref().unwrap_or(&dy);
            let dx = Some((&mut dproduct[..], Into::Set));
            self.down_proj
                .backward(pass, &product, &all.between.down, dfed, dx, gradients);
        }
        gated::backward(self.activation, &mut all.gate, &mut all.up, &dproduct);
        drop(dproduct);
        let mut dh = Scratch::new(dy.len());
        {
            let h = normed(pass, self.before_mlp.as_ref(), &all.middle);
            let dx = Some((&mut dh[..], Into::Set));
            self.gate_proj
                .backward(pass, &h, &all.between.gate, &all.gate, dx, gradients);
            let dx = Some((&mut dh[..], Into::Add));
            self.up_proj.backward(pass, &h, &all.between.up, &all.up, dx, gradients);
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

    /// The first half of the layer.
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
        let mut dheard = Scratch::new(all.out.len());
        {
            let heard = self.heard(&all.out, asking);
            let own = self.behind(pass, self.behind_attention.as_ref(), &all.attended, &dmiddle, gradients);
            let dattended = own.as_deref().unwrap_or(&dmiddle);
            let dx = Some((&mut dheard[..], Into::Set));
            self.o_proj
                .backward(pass, &heard, &all.between.o, dattended, dx, gradients);
        }
        let (heads, shared) = (self.q_proj.outputs / size, self.k_proj.outputs / size);
        let mut dout = Scratch::new(dheard.len());
        by_head(&dheard, heads, asking, None, &mut dout);
        drop(dheard);
        let [mut dq, mut dk, mut dv] = [&all.q, &all.k, &all.v].map(|x| Scratch::new(x.len()));
        {
            let seen = self.heads(pass, tokens, (&all.q, &all.k, &all.v), asking);
            let plan = Plan::new(self.rule, tokens.texts, asking);
            let seen = (&seen.q[..], &seen.k[..], &seen.v[..]);
            plan.backward(seen, &all.out, &all.sums, &dout, &mut dq, &mut dk, &mut dv);
        }
        drop(dout);
        let angles = Some(&tokens.angles[self.rope]);
        let mut back = |d: Scratch, x: &[f32], norm: &Option<RmsNorm>, heads: usize, some: &[usize]| {
            let mut turned = Scratch::new(d.len());
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
        let mut dvalues = Scratch::new(dv.len());
        by_token(&dv, shared, tokens.all, None, &mut dvalues);

        let below = wanted || self.before_attention.as_ref().is_some_and(learnt);
        let mut dh = Scratch::new(if below { rows * hidden } else { 0 });
        {
            let h = normed(pass, self.before_attention.as_ref(), &all.x);
            let between = &all.between;
            let dx = below.then_some((&mut dh[..], Into::Set));
            self.k_proj.backward(pass, &h, &between.k, &dk, dx, gradients);
            let dx = below.then_some((&mut dh[..], Into::Add));
            self.v_proj.backward(pass, &h, &between.v, &dvalues, dx, gradients);
            match asking.len() == rows {
                true => {
                    let dx = below.then_some((&mut dh[..], Into::Add));
                    self.q_proj.backward(pass, &h, &between.q, &dq, dx, gradients);
                }
                false => {
                    let some = select(&h, hidden, asking);
                    let mut dsome = Scratch::new(if below { some.len() } else { 0 });
                    let dx = below.then_some((&mut dsome[..], Into::Set));
                    self.q_proj.backward(pass, &some, &between.q, &dq, dx, gradients);
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
    q: Scratch, // (heads, asking, size)
    k: Scratch, // (key heads, tokens, size)
    v: Scratch, // (key heads, tokens, size)
}

fn learnt(norm: &RmsNorm) -> bool {
    matches!(norm.weight, Vector::Learnt(_))
}

/// Values with room for so many more after them, and where these begin.
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

/// x after a norm, if there is one.
fn normed(pass: &Pass, norm: Option<&RmsNorm>, x: &[f32]) -> Scratch {
    let mut h = Scratch::new(x.len());
    match norm {
        None => h.copy_from_slice(x),
        Some(norm) => norm.forward(pass, x, &mut h),
    }
    h
}

/// Adds to `dx` the gradient before a norm, if there is one.
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

/// Adds rows to some rows of x.
pub(crate) fn add_selected(x: &mut [f32], some: &[f32], width: usize, rows: &[usize]) {
    for (row, some) in rows.iter().zip(some.chunks_exact(width)) {
        let x = &mut x[row * width..][..width];
        x.iter_mut().zip(some).for_each(|(x, y)| *x += y);
    }
}
