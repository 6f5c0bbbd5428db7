//! Linear layers, with or without LoRA factors.

use crate::backward::norm::sum_rows;
use crate::engine::draws::Draws;
use crate::engine::parameters::{Gradients, Pass, Vector, Weight, within};
use crate::products::vector::each_row;
use crate::products::{ByDepth, ByLane, Into, Left, Operand, Rounded, Scratch, product};
use std::ops::Range;

/// `y = x W^T + b + s (dropout(x) A^T) B^T`.
pub(crate) struct Linear {
    pub weight: Weight,
    pub bias: Option<Vector>,
    pub factors: Option<Factors>,
    pub inputs: usize,
    pub outputs: usize,
}

/// Two thin matrices in the buffer of learnt values.
#[derive(Debug, Clone)]
pub(crate) struct Factors {
    pub a: Range<usize>, // (rank, in)
    pub b: Range<usize>, // (out, rank)
    pub rank: usize,
    pub scale: f32,
    pub dropout: f32,
    /// Its number among all factors, which seeds its dropout.
    pub number: u64,
}

impl Factors {
    /// The dropout of this pass.
    fn draws(&self, pass: &Pass) -> Option<Draws> {
        Draws::of(pass.draws, self.number, self.dropout)
    }
}

/// The input of one or several layers, packed for their products.
pub(crate) struct Given<'x> {
    x: &'x [f32],
    rows: usize,
    /// For factors, whose inputs are not rounded, and for weights if nothing is rounded.
    left: Option<Left>,
    /// For weights if inputs are rounded.
    rounded: Option<Left>,
}

impl<'x> Given<'x> {
    /// Packs x (rows, inputs).
    pub fn new(layers: &[&Linear], pass: &Pass, x: &'x [f32], inputs: usize) -> Given<'x> {
        let rows = x.len() / inputs.max(1);
        let operand = ByLane::new(x, inputs);
        let exact = !pass.rounded || layers.iter().any(|layer| layer.reads_exactly(pass));
        Given {
            x,
            rows,
            left: exact.then(|| Left::pack(&operand, rows, inputs)),
            rounded: pass.rounded.then(|| Left::pack(&Rounded(&operand), rows, inputs)),
        }
    }
}

/// The values between a layer's two factors in the forward pass, (rows, rank), which the backward pass needs. Empty if
/// there are no factors.
pub(crate) struct Between(Vec<f32>);

/// Passes a weight to `take` as the right side of a product.
fn with_weight(layer: &Linear, pass: &Pass, turned: bool, take: impl FnOnce(&dyn Operand)) {
    // bf16 weights need no rounding.
    let narrow = matches!(&layer.weight, Weight::Frozen(stored) if stored.is_bf16());
    let rounded = pass.rounded && !narrow;
    let take = |operand: &dyn Operand| match rounded {
        true => take(&Rounded(operand)),
        false => take(operand),
    };
    match (&layer.weight, turned) {
        (Weight::Frozen(stored), false) => take(&stored.by_lane()),
        (Weight::Frozen(stored), true) => take(&stored.by_depth()),
        (Weight::Learnt(range), false) => take(&ByLane::new(&pass.values[range.clone()], layer.inputs)),
        (Weight::Learnt(range), true) => take(&ByDepth::new(&pass.values[range.clone()], layer.inputs)),
    }
}

impl Linear {
    /// The layers of consecutive outputs of this one, over the same weights and factors: projections that a checkpoint
    /// has as one matrix, such as `qkv_proj`. Dropout is the same in all of them, but for the queries of the last layer,
    /// which are those of learnt positions only.
    pub fn parts<const COUNT: usize>(&self, outputs: [usize; COUNT]) -> [Linear; COUNT] {
        let mut end = 0;
        outputs.map(|outputs| {
            let some = end..end + outputs;
            end += outputs;
            Linear {
                weight: self.weight.part(&some, self.inputs),
                bias: self.bias.as_ref().map(|bias| bias.part(&some)),
                factors: self.factors.as_ref().map(|factors| Factors {
                    b: within(&factors.b, &some, factors.rank),
                    ..factors.clone()
                }),
                inputs: self.inputs,
                outputs,
            }
        })
    }

    /// Whether any part of it is learnt.
    pub fn learns(&self) -> bool {
        self.factors.is_some()
            || matches!(self.weight, Weight::Learnt(_))
            || matches!(self.bias, Some(Vector::Learnt(_)))
    }

    /// Whether factors read unrounded inputs.
    fn reads_exactly(&self, pass: &Pass) -> bool {
        let factors = self.factors.as_ref();
        factors.is_some_and(|factors| factors.draws(pass).is_none())
    }

    /// To y (rows, outputs), from the packed input.
    pub fn forward(&self, pass: &Pass, given: &Given, y: &mut [f32]) -> Between {
        let into = match &self.bias {
            None => Into::Set,
            Some(bias) => {
                let bias = pass.vector(bias);
                each_row(
                    y,
                    self.outputs,
                    #[inline(always)]
                    |_, y| y.copy_from_slice(bias),
                );
                Into::Add
            }
        };
        if let Some(left) = given.rounded.as_ref().or(given.left.as_ref()) {
            with_weight(self, pass, false, |weight| {
                product(y, left, weight, self.outputs, 1.0, into);
            });
        }
        let Some(factors) = &self.factors else {
            return Between(Vec::new());
        };
        let mut between = vec![0.0; given.rows * factors.rank];
        let a = ByLane::new(&pass.values[factors.a.clone()], self.inputs);
        let mut through = |left: &Left| product(&mut between, left, &a, factors.rank, 1.0, Into::Set);
        match (factors.draws(pass), &given.left) {
            (None, Some(left)) => through(left),
            (draws, _) => {
                let dropped = draws.map(|draws| draws.drop(given.x));
                let x = ByLane::new(dropped.as_deref().unwrap_or(given.x), self.inputs);
                through(&Left::pack(&x, given.rows, self.inputs));
            }
        }
        let left = Left::pack(&ByLane::new(&between, factors.rank), given.rows, factors.rank);
        let b = ByLane::new(&pass.values[factors.b.clone()], factors.rank);
        product(y, &left, &b, self.outputs, factors.scale, Into::Add);
        Between(between)
    }

    /// Packs x, which no other layer reads, and applies [`Self::forward`].
    pub fn forward_of(&self, pass: &Pass, x: &[f32], y: &mut [f32]) -> Between {
        self.forward(pass, &Given::new(&[self], pass, x, self.inputs), y)
    }

    /// From the gradient of y to that of x, which is written or added to `dx` if it is given. The input x is read only
    /// if some part of this layer is learnt.
    pub fn backward(
        &self,
        pass: &Pass,
        x: &[f32],
        between: &Between,
        dy: &[f32],
        mut dx: Option<(&mut [f32], Into)>,
        gradients: &mut Gradients,
    ) {
        let (inputs, outputs) = (self.inputs, self.outputs);
        let rows = dy.len() / outputs.max(1);
        if rows == 0 {
            return;
        }
        let by_row = ByLane::new(dy, outputs);
        // Factors read it unrounded, and so do weights if nothing is rounded.
        let exact =
            (self.factors.is_some() || !pass.rounded && dx.is_some()).then(|| Left::pack(&by_row, rows, outputs));
        if let Some((dx, into)) = &mut dx {
            let rounded = pass.rounded.then(|| Left::pack(&Rounded(&by_row), rows, outputs));
            if let Some(left) = rounded.as_ref().or(exact.as_ref()) {
                with_weight(self, pass, true, |weight| {
                    product(dx, left, weight, inputs, 1.0, *into);
                });
            }
        }
        let turned = ByDepth::new(dy, outputs);
        if let Some(gradient) = gradients.weight(&self.weight) {
            let x = ByDepth::new(x, inputs);
            match pass.rounded {
                false => {
                    let left = Left::pack(&turned, outputs, rows);
                    product(gradient, &left, &x, inputs, 1.0, Into::Add);
                }
                true => {
                    let left = Left::pack(&Rounded(&turned), outputs, rows);
                    product(gradient, &left, &Rounded(&x), inputs, 1.0, Into::Add);
                }
            }
        }
        if let Some(gradient) = self.bias.as_ref().and_then(|bias| gradients.vector(bias)) {
            sum_rows(gradient, dy);
        }
        if let (Some(factors), Some(left)) = (&self.factors, &exact) {
            let dx = dx.map(|(dx, _)| dx);
            self.backward_of_factors(factors, pass, (x, between), (dy, left), dx, gradients);
        }
    }

    fn backward_of_factors(
        &self,
        factors: &Factors,
        pass: &Pass,
        (x, Between(forward)): (&[f32], &Between),
        (dy, left): (&[f32], &Left),
        dx: Option<&mut [f32]>,
        gradients: &mut Gradients,
    ) {
        let (rows, inputs, outputs, rank) = (left.rows(), self.inputs, self.outputs, factors.rank);
        // Computed transposed and then turned, so that the wide dy is packed where it is used.
        let thin = Left::pack(&ByDepth::new(forward, rank), rank, rows);
        let mut db = Scratch::new(rank * outputs);
        product(
            &mut db,
            &thin,
            &ByDepth::new(dy, outputs),
            outputs,
            factors.scale,
            Into::Set,
        );
        add_turned(&mut gradients.0[factors.b.clone()], &db, rank);

        let b = ByDepth::new(&pass.values[factors.b.clone()], rank);
        let mut between = Scratch::new(rows * rank);
        product(&mut between, left, &b, rank, factors.scale, Into::Set);
        let draws = factors.draws(pass);
        let dropped = draws.as_ref().map(|draws| draws.drop(x));
        let x = ByDepth::new(dropped.as_deref().unwrap_or(x), inputs);
        let da = &mut gradients.0[factors.a.clone()];
        let thin = Left::pack(&ByDepth::new(&between, rank), rank, rows);
        product(da, &thin, &x, inputs, 1.0, Into::Add);

        if let Some(dx) = dx {
            let left = Left::pack(&ByLane::new(&between, rank), rows, rank);
            let a = ByDepth::new(&pass.values[factors.a.clone()], inputs);
            match draws {
                None => product(dx, &left, &a, inputs, 1.0, Into::Add),
                Some(draws) => {
                    let mut branch = Scratch::new(dx.len());
                    product(&mut branch, &left, &a, inputs, 1.0, Into::Set);
                    draws.add_kept(dx, &branch);
                }
            }
        }
    }
}

/// Adds x (rank, outputs) to y (outputs, rank).
fn add_turned(y: &mut [f32], x: &[f32], rank: usize) {
    let outputs = y.len() / rank.max(1);
    for (output, y) in y.chunks_exact_mut(rank).enumerate() {
        for (n, y) in y.iter_mut().enumerate() {
            *y += x[n * outputs + output];
        }
    }
}
