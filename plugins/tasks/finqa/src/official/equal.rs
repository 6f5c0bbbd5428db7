//! Whether two programs compute the same, by the official rules.
//!
//! The decision a newcomer would question: numbers are not evaluated. The texts of the gold program's arguments are
//! symbols, and `100` is a different one from `const_100`; a prediction may use only texts of the gold program. What
//! is compared is the last step of both as an expression over these symbols, exactly. The official scorer leaves that
//! to a computer algebra system, whose verdict is the identity of rational functions wherever there is no power and no
//! comparison; for those two the rules stand in [`Outcome`].

use crate::official::algebra::{Algebra, Fraction, NoValue};
use crate::official::program::{Step, is_reference, is_well_formed, joined, steps};
use crate::official::python::integer;
use std::collections::HashMap;

/// Whether a prediction's tokens are a program that equals the gold one.
pub fn equal<G: AsRef<str>, P: AsRef<str>>(gold: &[G], predicted: &[P]) -> bool {
    if !is_well_formed(predicted) {
        return false;
    }
    let (gold, predicted) = (joined(gold), joined(predicted));
    let whole = |steps: Vec<Result<_, _>>| steps.into_iter().collect::<Result<Vec<Step>, _>>().ok();
    let (Some(gold), Some(predicted)) = (whole(steps(&gold)), whole(steps(&predicted))) else {
        return false;
    };
    let symbols = Symbols::of(&gold);
    let (Some(gold), Some(predicted)) = (symbols.nodes(&gold), symbols.nodes(&predicted)) else {
        return false;
    };
    let mut algebra = Algebra::new(symbols.0.len());
    let outcomes = |algebra: &mut Algebra| -> Result<bool, NoValue> {
        let (gold, predicted) = (last(&gold, algebra)?, last(&predicted, algebra)?);
        match (gold, predicted) {
            (Some(gold), Some(predicted)) => gold.is(&predicted, algebra),
            _ => Ok(false),
        }
    };
    match outcomes(&mut algebra) {
        Ok(same) => same,
        Err(NoValue::ZeroBelow) => false,
        // Too large to be computed, but possibly equal step by step.
        Err(NoValue::TooLarge) => gold == predicted,
    }
}

/// The texts of the gold program that are symbols.
struct Symbols<'a>(HashMap<&'a str, usize>);

/// An operand: a symbol, or an earlier step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operand {
    Symbol(usize),
    Step(usize),
    /// A reference to no earlier step: harmless unless the last step needs it.
    Nowhere,
}

/// A step whose texts are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node<'a> {
    Table(usize),
    Operation(&'a str, [Operand; 2]),
}

impl<'a> Symbols<'a> {
    fn of(gold: &[Step<'a>]) -> Self {
        let mut symbols = HashMap::new();
        for step in gold {
            let texts = match step.is_of_table() {
                true => [Some(step.text), None],
                false => step.arguments.map(|text| (!is_reference(text)).then_some(text)),
            };
            for text in texts.into_iter().flatten() {
                let next = symbols.len();
                symbols.entry(text).or_insert(next);
            }
        }
        Symbols(symbols)
    }

    /// The steps, when every text in them is a symbol and every reference goes back, whether or not they are used.
    fn nodes<'s>(&self, steps: &[Step<'s>]) -> Option<Vec<Node<'s>>> {
        let nodes = steps.iter().enumerate().map(|(index, step)| {
            if step.is_of_table() {
                return self.0.get(step.text).map(|symbol| Node::Table(*symbol));
            }
            let [first, second] = step.arguments.map(|text| self.operand(text, index));
            Some(Node::Operation(step.operator, [first?, second?]))
        });
        nodes.collect()
    }

    fn operand(&self, text: &str, at: usize) -> Option<Operand> {
        if !is_reference(text) {
            return self.0.get(text).map(|symbol| Operand::Symbol(*symbol));
        }
        let index = integer(text.trim_matches('#'))?;
        match usize::try_from(index) {
            Ok(index) => (index < at).then_some(Operand::Step(index)),
            Err(_) => Some(Operand::Nowhere),
        }
    }
}

/// What a step computes, over the symbols.
#[derive(Debug, Clone)]
enum Outcome {
    Amount(Fraction),
    /// That the first is greater than the second. Two of them are equal if both sides are; if the differences of their
    /// sides are linear and one is a positive multiple of the other; or if the differences are plain numbers that are
    /// both positive or both not. The algebra system simplifies comparisons no further.
    Greater(Fraction, Fraction),
}

impl Outcome {
    fn is(&self, other: &Outcome, algebra: &mut Algebra) -> Result<bool, NoValue> {
        match (self, other) {
            (Outcome::Amount(amount), Outcome::Amount(other)) => algebra.are_same(amount, other),
            (Outcome::Greater(left, right), Outcome::Greater(other_left, other_right)) => {
                let difference = algebra.difference(left, right)?;
                let other_difference = algebra.difference(other_left, other_right)?;
                let truths = [&difference, &other_difference].map(|difference| {
                    let (above, _) = difference.as_number()?;
                    Some(above > num_bigint::BigInt::ZERO)
                });
                if let [Some(truth), Some(other_truth)] = truths {
                    return Ok(truth == other_truth);
                }
                if algebra.are_same(left, other_left)? && algebra.are_same(right, other_right)? {
                    return Ok(true);
                }
                if !difference.is_linear() || !other_difference.is_linear() || difference.is_zero() {
                    return Ok(false);
                }
                let ratio = algebra.quotient(&other_difference, &difference)?;
                Ok(ratio
                    .as_number()
                    .is_some_and(|(above, _)| above > num_bigint::BigInt::ZERO))
            }
            _ => Ok(false),
        }
    }
}

/// What the last step computes; none where that is nothing.
fn last(nodes: &[Node], algebra: &mut Algebra) -> Result<Option<Outcome>, NoValue> {
    let mut needed = vec![false; nodes.len()];
    let Some(last) = needed.last_mut() else {
        return Ok(None);
    };
    *last = true;
    for index in (0..nodes.len()).rev() {
        if let (true, Node::Operation(_, operands)) = (needed[index], &nodes[index]) {
            for operand in operands {
                match operand {
                    Operand::Symbol(_) => {}
                    Operand::Step(earlier) => needed[*earlier] = true,
                    Operand::Nowhere => return Ok(None),
                }
            }
        }
    }
    let mut outcomes: Vec<Option<Outcome>> = Vec::with_capacity(nodes.len());
    for (node, needed) in nodes.iter().zip(needed) {
        let outcome = match (needed, node) {
            (false, _) => None,
            (true, Node::Table(symbol)) => Some(Outcome::Amount(algebra.symbol(*symbol))),
            (true, Node::Operation(operator, operands)) => {
                let [first, second] = operands.map(|operand| match operand {
                    Operand::Symbol(symbol) => Some(algebra.symbol(symbol)),
                    Operand::Step(earlier) => match outcomes.get(earlier)? {
                        Some(Outcome::Amount(amount)) => Some(amount.clone()),
                        _ => None,
                    },
                    Operand::Nowhere => None,
                });
                // A comparison is not a number, so nothing can be computed from it.
                let (Some(first), Some(second)) = (first, second) else {
                    return Ok(None);
                };
                match *operator {
                    "add" => Some(Outcome::Amount(algebra.sum(&first, &second)?)),
                    "subtract" => Some(Outcome::Amount(algebra.difference(&first, &second)?)),
                    "multiply" => Some(Outcome::Amount(algebra.product(&first, &second)?)),
                    "divide" => Some(Outcome::Amount(algebra.quotient(&first, &second)?)),
                    "exp" => Some(Outcome::Amount(algebra.power(&first, &second)?)),
                    "greater" => Some(Outcome::Greater(first, second)),
                    _ => return Ok(None),
                }
            }
        };
        outcomes.push(outcome);
    }
    Ok(outcomes.pop().flatten())
}
