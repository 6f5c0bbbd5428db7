//! Linear layers, with LoRA factors beside them where there are some.

use crate::backward::norm::sum_rows;
use crate::engine::draws::Draws;
use crate::engine::parameters::{Gradients, Pass, Vector, Weight};
use crate::engine::stored::Form;
use crate::products::vector::each_row;
use crate::products::{ByDepth, ByLane, Into, Left, Operand, Rounded, product};
use std::ops::Range;

/// `y = x W^T + b + s (dropout(x) A^T) B^T`.
pub(crate) struct Linear {
    pub weight: Weight,
    pub bias: Option<Vector>,
    pub factors: Option<Factors>,
    pub inputs: usize,
    pub outputs: usize,
}

/// Two thin matrices, in the buffer of learnt values.
#[derive(Debug, Clone)]
pub(crate) struct Factors {
    pub a: Range<usize>, // (rank, in)
    pub b: Range<usize>, // (out, rank)
    pub rank: usize,
    pub scale: f32,
    pub dropout: f32,
    /// Its number among all, by which dropout's draws differ.
    pub number: u64,
}

impl Factors {
    /// What this pass leaves out in front of them.
    fn draws(&self, pass: &Pass) -> Option<Draws> {
        Draws::of(pass.draws, self.number, self.dropout)
    }
}

/// What goes into one or several layers, packed as they read it.
pub(crate) struct Given<'x> {
    pub x: &'x [f32],
    rows: usize,
    /// For factors, which read it exactly, and for weights where nothing is rounded.
    left: Option<Left>,
    /// For weights where it is.
    rounded: Option<Left>,
}

impl<'x> Given<'x> {
    /// x (rows, inputs) on its way through layers.
    pub fn forward(layers: &[&Linear], pass: &Pass, x: &'x [f32], inputs: usize) -> Given<'x> {
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

    /// The same on the way back, where only factors read it so.
    pub fn backward(layers: &[&Linear], pass: &Pass, x: &'x [f32], inputs: usize) -> Given<'x> {
        let rows = x.len() / inputs.max(1);
        let exact = layers.iter().any(|layer| layer.reads_exactly(pass));
        Given {
            x,
            rows,
            left: exact.then(|| Left::pack(&ByLane::new(x, inputs), rows, inputs)),
            rounded: None,
        }
    }
}

/// Lends a weight as the right side of a product.
fn with_weight(layer: &Linear, pass: &Pass, turned: bool, take: impl FnOnce(&dyn Operand)) {
    // What is stored as bf16 is rounded already.
    let narrow = matches!(&layer.weight, Weight::Frozen(stored) if matches!(stored.form, Form::Bf16(_)));
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
    /// Whether anything of it is learnt.
    pub fn learns(&self) -> bool {
        self.factors.is_some()
            || matches!(self.weight, Weight::Learnt(_))
            || matches!(self.bias, Some(Vector::Learnt(_)))
    }

    /// Whether factors read what goes in as it is.
    fn reads_exactly(&self, pass: &Pass) -> bool {
        let factors = self.factors.as_ref();
        factors.is_some_and(|factors| factors.draws(pass).is_none())
    }

    /// To y (rows, outputs), of what [`Given::forward`] packed.
    pub fn forward(&self, pass: &Pass, given: &Given, y: &mut [f32]) {
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
        if let Some(factors) = &self.factors {
            let kept = self.kept(factors, pass, given);
            let left = Left::pack(&ByLane::new(&kept, factors.rank), given.rows, factors.rank);
            let b = ByLane::new(&pass.values[factors.b.clone()], factors.rank);
            product(y, &left, &b, self.outputs, factors.scale, Into::Add);
        }
    }

    /// What stands between the two factors: (rows, rank).
    fn kept(&self, factors: &Factors, pass: &Pass, given: &Given) -> Vec<f32> {
        let mut kept = vec![0.0; given.rows * factors.rank];
        let a = ByLane::new(&pass.values[factors.a.clone()], self.inputs);
        let mut through = |left: &Left| product(&mut kept, left, &a, factors.rank, 1.0, Into::Set);
        match (factors.draws(pass), &given.left) {
            (None, Some(left)) => through(left),
            (draws, _) => {
                let dropped = draws.map(|draws| draws.drop(given.x));
                let x = ByLane::new(dropped.as_deref().unwrap_or(given.x), self.inputs);
                through(&Left::pack(&x, given.rows, self.inputs));
            }
        }
        kept
    }

    /// From the gradient of y to that of x, which is added to `dx` if it is asked for.
    pub fn backward(
        &self,
        pass: &Pass,
        given: &Given,
        dy: &[f32],
        mut dx: Option<&mut [f32]>,
        gradients: &mut Gradients,
    ) {
        let (rows, inputs, outputs) = (given.rows, self.inputs, self.outputs);
        if rows == 0 {
            return;
        }
        let by_row = ByLane::new(dy, outputs);
        // Factors read it exactly, and so do weights where nothing is rounded.
        let exact =
            (self.factors.is_some() || !pass.rounded && dx.is_some()).then(|| Left::pack(&by_row, rows, outputs));
        if let Some(dx) = dx.as_deref_mut() {
            let rounded = pass.rounded.then(|| Left::pack(&Rounded(&by_row), rows, outputs));
            if let Some(left) = rounded.as_ref().or(exact.as_ref()) {
                with_weight(self, pass, true, |weight| {
                    product(dx, left, weight, inputs, 1.0, Into::Add)
                });
            }
        }
        let turned = ByDepth::new(dy, outputs);
        if let Some(gradient) = gradients.weight(&self.weight) {
            let x = ByDepth::new(given.x, inputs);
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
            self.backward_of_factors(factors, pass, given, left, dy, dx, gradients);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what `backward` has at hand")]
    fn backward_of_factors(
        &self,
        factors: &Factors,
        pass: &Pass,
        given: &Given,
        left: &Left,
        dy: &[f32],
        dx: Option<&mut [f32]>,
        gradients: &mut Gradients,
    ) {
        let (rows, inputs, outputs, rank) = (left.rows(), self.inputs, self.outputs, factors.rank);
        let kept = self.kept(factors, pass, given);
        let turned = Left::pack(&ByDepth::new(dy, outputs), outputs, rows);
        let db = &mut gradients.0[factors.b.clone()];
        product(db, &turned, &ByDepth::new(&kept, rank), rank, factors.scale, Into::Add);

        let b = ByDepth::new(&pass.values[factors.b.clone()], rank);
        let mut between = vec![0.0; rows * rank];
        product(&mut between, left, &b, rank, factors.scale, Into::Set);
        let draws = factors.draws(pass);
        let dropped = draws.as_ref().map(|draws| draws.drop(given.x));
        let x = ByDepth::new(dropped.as_deref().unwrap_or(given.x), inputs);
        let da = &mut gradients.0[factors.a.clone()];
        let turned = Left::pack(&ByDepth::new(&between, rank), rank, rows);
        product(da, &turned, &x, inputs, 1.0, Into::Add);

        if let Some(dx) = dx {
            let left = Left::pack(&ByLane::new(&between, rank), rows, rank);
            let a = ByDepth::new(&pass.values[factors.a.clone()], inputs);
            match draws {
                None => product(dx, &left, &a, inputs, 1.0, Into::Add),
                Some(draws) => {
                    let mut branch = vec![0.0; dx.len()];
                    product(&mut branch, &left, &a, inputs, 1.0, Into::Set);
                    draws.add_kept(dx, &branch);
                }
            }
        }
    }
}
