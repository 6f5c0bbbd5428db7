//! Rational functions: a polynomial over a product of polynomials.
//!
//! The decision a newcomer would question: denominators stay in factors, and no greatest common divisor of polynomials
//! is computed. Equality needs none, since it cross-multiplies; a factor is cancelled only if it divides evenly, which
//! keeps real programs small.

use crate::official::algebra::polynomial::{Polynomial, common_divisor};
use crate::official::algebra::{Budget, TooLarge};
use num_bigint::BigInt;

#[derive(Debug, Clone)]
pub(crate) struct Fraction {
    above: Polynomial,
    /// The integer factor of the denominator; positive.
    below: BigInt,
    /// Its other factors with their exponents: symbols, and polynomials whose coefficients have no common divisor.
    factors: Vec<(Polynomial, u32)>,
}

impl Fraction {
    pub fn of(above: Polynomial) -> Self {
        Fraction {
            above,
            below: BigInt::from(1),
            factors: Vec::new(),
        }
    }

    pub fn is_zero(&self) -> bool {
        self.above.is_zero()
    }

    /// Its numerator and, when it is a number, its denominator.
    pub fn as_number(&self) -> Option<(BigInt, BigInt)> {
        let above = self.above.as_whole()?;
        (self.factors.is_empty() || self.is_zero()).then(|| (above, self.below.clone()))
    }

    pub fn as_whole(&self) -> Option<BigInt> {
        let (above, below) = self.as_number()?;
        let whole = &above / &below;
        (&whole * &below == above).then_some(whole)
    }

    pub fn is_linear(&self) -> bool {
        self.factors.is_empty() && self.above.is_linear()
    }

    /// Its numerator's terms, each over the denominator, with their coefficients.
    pub fn terms(&self) -> impl Iterator<Item = (Fraction, BigInt)> {
        self.above.terms().map(|(above, coefficient)| {
            let term = Fraction { above, ..self.clone() };
            (term, coefficient.clone())
        })
    }

    pub fn plus(&self, other: &Fraction, budget: &mut Budget) -> Result<Fraction, TooLarge> {
        let (left, right, below, factors) = self.over_the_same(other, budget)?;
        Fraction {
            above: left.plus(&right, budget)?,
            below,
            factors,
        }
        .reduced(budget)
    }

    pub fn negated(&self) -> Fraction {
        Fraction {
            above: self.above.negated(),
            ..self.clone()
        }
    }

    pub fn times(&self, other: &Fraction, budget: &mut Budget) -> Result<Fraction, TooLarge> {
        let mut factors = self.factors.clone();
        for (factor, exponent) in &other.factors {
            *exponent_of(&mut factors, factor) += exponent;
        }
        Fraction {
            above: self.above.times(&other.above, budget)?,
            below: &self.below * &other.below,
            factors,
        }
        .reduced(budget)
    }

    /// One over it; none of zero.
    pub fn inverted(&self, budget: &mut Budget) -> Result<Option<Fraction>, TooLarge> {
        if self.is_zero() {
            return Ok(None);
        }
        let mut above = Polynomial::whole(self.below.clone());
        for (factor, exponent) in &self.factors {
            above = above.times(&factor.to_the(*exponent, budget)?, budget)?;
        }
        let (mut rest, mut factors) = (self.above.clone(), Vec::new());
        let mut below = rest.content();
        rest = divided_evenly(&rest, &Polynomial::whole(below.clone()), budget)?;
        for (index, exponent) in self.above.common_symbols().into_iter().enumerate() {
            if exponent > 0 {
                let symbol = Polynomial::symbol(index);
                rest = divided_evenly(&rest, &symbol.to_the(exponent, budget)?, budget)?;
                factors.push((symbol, exponent));
            }
        }
        if rest.as_whole().is_none() {
            factors.push((rest, 1));
        }
        if below < BigInt::ZERO {
            (above, below) = (above.negated(), -below);
        }
        Fraction { above, below, factors }.reduced(budget).map(Some)
    }

    /// To an integer power, which may be negative; none if that divides by zero.
    pub fn to_the(&self, exponent: i32, budget: &mut Budget) -> Result<Option<Fraction>, TooLarge> {
        let base = match exponent < 0 {
            false => self.clone(),
            true => match self.inverted(budget)? {
                Some(inverse) => inverse,
                None => return Ok(None),
            },
        };
        let exponent = exponent.unsigned_abs();
        let below = Polynomial::whole(base.below).to_the(exponent, budget)?;
        let mut factors = base.factors;
        for (_, times) in &mut factors {
            *times = times.checked_mul(exponent).ok_or(TooLarge)?;
        }
        let power = Fraction {
            above: base.above.to_the(exponent, budget)?,
            below: below.content(),
            factors,
        };
        power.reduced(budget).map(Some)
    }

    /// Whether both are the same function.
    pub fn is(&self, other: &Fraction, budget: &mut Budget) -> Result<bool, TooLarge> {
        let (left, right, ..) = self.over_the_same(other, budget)?;
        Ok(left == right)
    }

    /// Both numerators over the least common denominator, and that denominator.
    #[expect(clippy::type_complexity, reason = "two callers, both of which take it apart at once")]
    fn over_the_same(
        &self,
        other: &Fraction,
        budget: &mut Budget,
    ) -> Result<(Polynomial, Polynomial, BigInt, Vec<(Polynomial, u32)>), TooLarge> {
        let below = &self.below / common_divisor(self.below.clone(), other.below.clone()) * &other.below;
        let mut factors = self.factors.clone();
        for (factor, exponent) in &other.factors {
            let common = exponent_of(&mut factors, factor);
            *common = (*common).max(*exponent);
        }
        let mut scaled = |fraction: &Fraction| {
            let mut above = fraction
                .above
                .times(&Polynomial::whole(&below / &fraction.below), budget)?;
            for (factor, exponent) in &factors {
                let own = fraction.factors.iter().find(|(own, _)| own == factor);
                let missing = exponent - own.map_or(0, |(_, exponent)| *exponent);
                above = above.times(&factor.to_the(missing, budget)?, budget)?;
            }
            Ok(above)
        };
        Ok((scaled(self)?, scaled(other)?, below, factors))
    }

    /// Cancels factors that divide the numerator evenly.
    fn reduced(mut self, budget: &mut Budget) -> Result<Fraction, TooLarge> {
        if self.is_zero() {
            return Ok(Fraction::of(Polynomial::zero()));
        }
        for (factor, exponent) in &mut self.factors {
            while *exponent > 0 {
                match self.above.divided_by(factor, budget)? {
                    Some(quotient) => (self.above, *exponent) = (quotient, *exponent - 1),
                    None => break,
                }
            }
        }
        self.factors.retain(|(_, exponent)| *exponent > 0);
        let common = common_divisor(self.above.content(), self.below.clone());
        self.above = divided_evenly(&self.above, &Polynomial::whole(common.clone()), budget)?;
        self.below /= common;
        Ok(self)
    }
}

fn exponent_of<'a>(factors: &'a mut Vec<(Polynomial, u32)>, factor: &Polynomial) -> &'a mut u32 {
    let index = factors.iter().position(|(own, _)| own == factor);
    let index = index.unwrap_or_else(|| {
        factors.push((factor.clone(), 0));
        factors.len() - 1
    });
    &mut factors[index].1
}

/// The quotient by a polynomial that is known to divide.
fn divided_evenly(polynomial: &Polynomial, by: &Polynomial, budget: &mut Budget) -> Result<Polynomial, TooLarge> {
    Ok(polynomial.divided_by(by, budget)?.unwrap_or_else(|| polynomial.clone()))
}
