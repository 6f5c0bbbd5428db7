//! Exact algebra over symbols that stand for the texts of a program, to decide whether two programs are equal.
//!
//! Sums, products and quotients become rational functions, and a power whose exponent is no whole number becomes a
//! symbol of its own, so that `x^a · x^b` is `x^(a+b)` and nothing else is assumed of it. Nothing is sampled or
//! rounded. A [`Budget`] limits the work for a hostile program; one that exceeds it is [`TooLarge`].

mod fraction;
mod polynomial;

pub(crate) use fraction::Fraction;
pub(crate) use polynomial::Polynomial;

use num_bigint::BigInt;

/// The program exceeds the limits on work, exponents or lengths of numbers, far above any program of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLarge;

/// The remaining work.
#[derive(Debug, Clone)]
pub(crate) struct Budget(u64);

impl Default for Budget {
    /// Far more than real programs need, and little enough to be quick.
    fn default() -> Self {
        Budget(100_000)
    }
}

impl Budget {
    /// Pays for one term with this coefficient.
    fn spend(&mut self, coefficient: &BigInt) -> Result<(), TooLarge> {
        let words = 1 + coefficient.bits() / 64;
        self.0 = self.0.checked_sub(words * words).ok_or(TooLarge)?;
        Ok(())
    }
}

/// Why an expression has no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoValue {
    TooLarge,
    /// A division by zero, whatever the symbols are.
    ZeroBelow,
}

impl From<TooLarge> for NoValue {
    fn from(_: TooLarge) -> Self {
        NoValue::TooLarge
    }
}

/// Expressions of two programs over the same symbols.
#[derive(Debug)]
pub(crate) struct Algebra {
    symbols: usize,
    /// The powers that are symbols, as base and exponent: the first one is symbol number `symbols`.
    powers: Vec<(Fraction, Fraction)>,
    budget: Budget,
}

/// The most powers that become symbols: each sum of powers is another one. No gold program comes near.
const MOST_POWERS: usize = 64;

impl Algebra {
    pub fn new(symbols: usize) -> Self {
        Algebra {
            symbols,
            powers: Vec::new(),
            budget: Budget::default(),
        }
    }

    pub fn symbol(&self, index: usize) -> Fraction {
        Fraction::of(Polynomial::symbol(index))
    }

    pub fn sum(&mut self, left: &Fraction, right: &Fraction) -> Result<Fraction, NoValue> {
        Ok(left.plus(right, &mut self.budget)?)
    }

    pub fn difference(&mut self, left: &Fraction, right: &Fraction) -> Result<Fraction, NoValue> {
        self.sum(left, &right.negated())
    }

    pub fn product(&mut self, left: &Fraction, right: &Fraction) -> Result<Fraction, NoValue> {
        Ok(left.times(right, &mut self.budget)?)
    }

    pub fn quotient(&mut self, left: &Fraction, right: &Fraction) -> Result<Fraction, NoValue> {
        let inverse = right.inverted(&mut self.budget)?.ok_or(NoValue::ZeroBelow)?;
        self.product(left, &inverse)
    }

    pub fn power(&mut self, base: &Fraction, exponent: &Fraction) -> Result<Fraction, NoValue> {
        let one = Fraction::of(Polynomial::whole(1));
        let mut power = one.clone();
        if base.is(&one, &mut self.budget)? {
            return Ok(power);
        }
        if exponent.is_zero() {
            return Ok(power);
        }
        for (term, times) in exponent.terms() {
            let whole = self.product(&term, &Fraction::of(Polynomial::whole(times.clone())))?;
            let (base, times) = match whole.as_whole() {
                Some(times) => (base.clone(), times),
                None => (self.opaque_power(base, &term)?, times),
            };
            let times = i32::try_from(times).map_err(|_| NoValue::TooLarge)?;
            let factor = base.to_the(times, &mut self.budget)?.ok_or(NoValue::ZeroBelow)?;
            power = self.product(&power, &factor)?;
        }
        Ok(power)
    }

    pub fn are_same(&mut self, left: &Fraction, right: &Fraction) -> Result<bool, NoValue> {
        Ok(left.is(right, &mut self.budget)?)
    }

    fn opaque_power(&mut self, base: &Fraction, exponent: &Fraction) -> Result<Fraction, NoValue> {
        for (index, (known_base, known_exponent)) in self.powers.iter().enumerate() {
            let budget = &mut self.budget;
            if known_base.is(base, budget)? && known_exponent.is(exponent, budget)? {
                return Ok(self.symbol(self.symbols + index));
            }
        }
        if self.powers.len() == MOST_POWERS {
            return Err(NoValue::TooLarge);
        }
        self.powers.push((base.clone(), exponent.clone()));
        Ok(self.symbol(self.symbols + self.powers.len() - 1))
    }
}
