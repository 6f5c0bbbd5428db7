//! Linear layers, with or without LoRA factors.

use crate::backward::norm::sum_rows;
use crate::engine::draws::Draws;
use crate::engine::parameters::{Gradients, Pass, Vector, Weight};
use crate::products::vector::each_row;
use crate::products::{ByDepth, ByLane, Into, Left, Operand, Rounded, Scratch, product};

/// `y = x W^T + b`, and `s (dropout(x) A^T) B^T` for each LoRA.
pub(crate) struct Linear {
    pub weight: Weight,
    pub bias: Option<Vector>,
    /// Those of LoRAs that stay as they are, and behind them those that are learnt.
    pub factors: Vec<Factors>,
    pub inputs: usize,
    pub outputs: usize,
}

/// The two thin matrices of a LoRA, both learnt or both frozen.
#[derive(Clone)]
pub(crate) struct Factors {
    pub a: Weight, // (rank, in)
    pub b: Weight, // (out, rank)
    pub rank: usize,
    pub scale: f32,
    pub dropout: f32,
    /// Its number among all factors, which seeds its dropout.
    pub number: u64,
}

impl Factors {
    fn learns(&self) -> bool {
        matches!(self.a, Weight::Learnt(_))
    }

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

/// The values between the two factors of each LoRA in the forward pass, (rows, rank), which the backward pass needs. Empty
/// for factors that are frozen.
pub(crate) struct Between(Vec<Vec<f32>>);

/// Passes a weight (any, columns) to `take` as the right side of a product.
fn with_weight(weight: &Weight, columns: usize, pass: &Pass, turned: bool, take: impl FnOnce(&dyn Operand)) {
    match (weight, turned) {
        (Weight::Frozen(stored), false) => take(&stored.by_lane()),
        (Weight::Frozen(stored), true) => take(&stored.by_depth()),
        (Weight::Learnt(range), false) => take(&ByLane::new(&pass.values[range.clone()], columns)),
        (Weight::Learnt(range), true) => take(&ByDepth::new(&pass.values[range.clone()], columns)),
    }
}

/// The same for a layer's own weight, which is rounded where the pass rounds.
fn with_own_weight(layer: &Linear, pass: &Pass, turned: bool, take: impl FnOnce(&dyn Operand)) {
    // bf16 weights need no rounding.
    let narrow = matches!(&layer.weight, Weight::Frozen(stored) if stored.is_bf16());
    with_weight(&layer.weight, layer.inputs, pass, turned, |operand| {
        match pass.rounded && !narrow {
            true => take(&Rounded(operand)),
            false => take(operand),
        }
    });
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
                factors: (self.factors.iter())
                    .map(|factors| Factors {
                        b: factors.b.part(&some, factors.rank),
                        ..factors.clone()
                    })
                    .collect(),
                inputs: self.inputs,
                outputs,
            }
        })
    }

    /// Whether any part of it is learnt.
    pub fn learns(&self) -> bool {
        self.factors.iter().any(Factors::learns)
            || matches!(self.weight, Weight::Learnt(_))
            || matches!(self.bias, Some(Vector::Learnt(_)))
    }

    /// Whether factors read unrounded inputs.
    fn reads_exactly(&self, pass: &Pass) -> bool {
        self.factors.iter().any(|factors| factors.draws(pass).is_none())
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
            with_own_weight(self, pass, false, |weight| {
                product(y, left, weight, self.outputs, 1.0, into);
            });
        }
        let between = self.factors.iter().map(|factors| {
            let between = self.between(factors, pass, given);
            let left = Left::pack(&ByLane::new(&between, factors.rank), given.rows, factors.rank);
            with_weight(&factors.b, factors.rank, pass, false, |b| {
                product(y, &left, b, self.outputs, factors.scale, Into::Add);
            });
            if factors.learns() { between } else { Vec::new() }
        });
        Between(between.collect())
    }

    /// The values between two factors.
    fn between(&self, factors: &Factors, pass: &Pass, given: &Given) -> Vec<f32> {
        let mut between = vec![0.0; given.rows * factors.rank];
        let mut through = |left: &Left| {
            with_weight(&factors.a, self.inputs, pass, false, |a| {
                product(&mut between, left, a, factors.rank, 1.0, Into::Set);
            });
        };
        match (factors.draws(pass), &given.left) {
            (None, Some(left)) => through(left),
            (draws, _) => {
                let dropped = draws.map(|draws| draws.drop(given.x));
                let x = ByLane::new(dropped.as_deref().unwrap_or(given.x), self.inputs);
                through(&Left::pack(&x, given.rows, self.inputs));
            }
        }
        between
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
        let by_factors = self.factors.iter().any(|factors| factors.learns() || dx.is_some());
        let exact = (by_factors || !pass.rounded && dx.is_some()).then(|| Left::pack(&by_row, rows, outputs));
        if let Some((dx, into)) = &mut dx {
            let rounded = pass.rounded.then(|| Left::pack(&Rounded(&by_row), rows, outputs));
            if let Some(left) = rounded.as_ref().or(exact.as_ref()) {
                with_own_weight(self, pass, true, |weight| {
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
        let mut dx = dx.map(|(dx, _)| dx);
        for (factors, between) in self.factors.iter().zip(&between.0) {
            if let Some(left) = exact.as_ref().filter(|_| factors.learns() || dx.is_some()) {
                self.backward_of_factors(factors, pass, (x, between), (dy, left), dx.as_deref_mut(), gradients);
            }
        }
    }

    fn backward_of_factors(
        &self,
        factors: &Factors,
        pass: &Pass,
        (x, forward): (&[f32], &[f32]),
        (dy, left): (&[f32], &Left),
        dx: Option<&mut [f32]>,
        gradients: &mut Gradients,
    ) {
        let (rows, inputs, outputs, rank) = (left.rows(), self.inputs, self.outputs, factors.rank);
        if let Some(gradient) = gradients.weight(&factors.b) {
            // Computed transposed and then turned, so that the wide dy is packed where it is used.
            let thin = Left::pack(&ByDepth::new(forward, rank), rank, rows);
            let dy = ByDepth::new(dy, outputs);
            let mut db = Scratch::new(rank * outputs);
            product(&mut db, &thin, &dy, outputs, factors.scale, Into::Set);
            add_turned(gradient, &db, rank);
        }
        let mut between = Scratch::new(rows * rank);
        with_weight(&factors.b, rank, pass, true, |b| {
            product(&mut between, left, b, rank, factors.scale, Into::Set);
        });
        let draws = factors.draws(pass);
        if let Some(gradient) = gradients.weight(&factors.a) {
            let dropped = draws.as_ref().map(|draws| draws.drop(x));
            let x = ByDepth::new(dropped.as_deref().unwrap_or(x), inputs);
            let thin = Left::pack(&ByDepth::new(&between, rank), rank, rows);
            product(gradient, &thin, &x, inputs, 1.0, Into::Add);
        }
        if let Some(dx) = dx {
            let left = Left::pack(&ByLane::new(&between, rank), rows, rank);
            with_weight(&factors.a, inputs, pass, true, |a| match draws {
                None => product(dx, &left, a, inputs, 1.0, Into::Add),
                Some(draws) => {
                    let mut branch = Scratch::new(dx.len());
                    product(&mut branch, &left, a, inputs, 1.0, Into::Set);
                    draws.add_kept(dx, &branch);
                }
            });
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
