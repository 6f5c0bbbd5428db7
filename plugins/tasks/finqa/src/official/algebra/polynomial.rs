//! Polynomials in any number of symbols, with whole coefficients of any size.

use crate::official::algebra::{Budget, TooLarge};
use num_bigint::BigInt;
use std::collections::BTreeMap;

/// The exponent of each symbol, without zeros at the end. Their order as lists is the lexicographic one of monomials.
type Monomial = Vec<u32>;

/// A sum of monomials with coefficients, none of them zero.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Polynomial(BTreeMap<Monomial, BigInt>);

impl Polynomial {
    pub fn zero() -> Self {
        Polynomial::default()
    }

    pub fn whole(number: impl Into<BigInt>) -> Self {
        Polynomial::term(Monomial::new(), number.into())
    }

    pub fn symbol(index: usize) -> Self {
        let mut monomial = vec![0; index + 1];
        monomial[index] = 1;
        Polynomial::term(monomial, BigInt::from(1))
    }

    fn term(monomial: Monomial, coefficient: BigInt) -> Self {
        let is_zero = coefficient == BigInt::ZERO;
        Polynomial((!is_zero).then_some((monomial, coefficient)).into_iter().collect())
    }

    pub fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    /// The number that it is, when it holds no symbol.
    pub fn as_whole(&self) -> Option<BigInt> {
        match self.0.first_key_value() {
            None => Some(BigInt::ZERO),
            Some((monomial, coefficient)) if self.0.len() == 1 && monomial.is_empty() => Some(coefficient.clone()),
            Some(_) => None,
        }
    }

    /// Whether no symbol stands beside another or in a power.
    pub fn is_linear(&self) -> bool {
        self.0.keys().all(|monomial| monomial.iter().sum::<u32>() <= 1)
    }

    /// Its terms as polynomials of one monomial each, with their coefficients.
    pub fn terms(&self) -> impl Iterator<Item = (Polynomial, &BigInt)> {
        let one = BigInt::from(1);
        self.0
            .iter()
            .map(move |(monomial, coefficient)| (Polynomial::term(monomial.clone(), one.clone()), coefficient))
    }

    pub fn plus(&self, other: &Polynomial, budget: &mut Budget) -> Result<Polynomial, TooLarge> {
        let mut sum = self.clone();
        for (monomial, coefficient) in &other.0 {
            budget.spend(coefficient)?;
            sum.add_term(monomial.clone(), coefficient);
        }
        Ok(sum)
    }

    pub fn negated(&self) -> Polynomial {
        Polynomial(
            self.0
                .iter()
                .map(|(monomial, coefficient)| (monomial.clone(), -coefficient))
                .collect(),
        )
    }

    pub fn times(&self, other: &Polynomial, budget: &mut Budget) -> Result<Polynomial, TooLarge> {
        let mut product = Polynomial::zero();
        for (left, coefficient) in &self.0 {
            for (right, factor) in &other.0 {
                let coefficient = coefficient * factor;
                budget.spend(&coefficient)?;
                product.add_term(multiplied(left, right)?, &coefficient);
            }
        }
        Ok(product)
    }

    pub fn to_the(&self, exponent: u32, budget: &mut Budget) -> Result<Polynomial, TooLarge> {
        let (mut power, mut square, mut left) = (Polynomial::whole(1), self.clone(), exponent);
        while left > 0 {
            if left & 1 == 1 {
                power = power.times(&square, budget)?;
            }
            left >>= 1;
            if left > 0 {
                square = square.times(&square, budget)?;
            }
        }
        Ok(power)
    }

    /// The quotient, when there is no remainder.
    pub fn divided_by(&self, divisor: &Polynomial, budget: &mut Budget) -> Result<Option<Polynomial>, TooLarge> {
        let Some((lead, lead_factor)) = divisor.0.last_key_value() else {
            return Ok(None);
        };
        let (mut left, mut quotient) = (self.clone(), Polynomial::zero());
        while let Some((monomial, coefficient)) = left.0.last_key_value() {
            let Some(monomial) = divided(monomial, lead) else {
                return Ok(None);
            };
            let factor = coefficient / lead_factor;
            if &factor * lead_factor != *coefficient {
                return Ok(None);
            }
            for (other, other_factor) in &divisor.0 {
                let product = -(&factor * other_factor);
                budget.spend(&product)?;
                left.add_term(multiplied(&monomial, other)?, &product);
            }
            quotient.add_term(monomial, &factor);
        }
        Ok(Some(quotient))
    }

    /// The largest number that divides all coefficients, with the sign of the leading one; 0 of nothing.
    pub fn content(&self) -> BigInt {
        let mut content = BigInt::ZERO;
        for coefficient in self.0.values() {
            content = common_divisor(content, coefficient.clone());
        }
        match self.0.last_key_value() {
            Some((_, leading)) if *leading < BigInt::ZERO => -content,
            _ => content,
        }
    }

    /// The exponents of the symbols that stand in every term.
    pub fn common_symbols(&self) -> Vec<u32> {
        let mut monomials = self.0.keys();
        let mut common = monomials.next().cloned().unwrap_or_default();
        for monomial in monomials {
            common.truncate(monomial.len());
            for (least, exponent) in common.iter_mut().zip(monomial) {
                *least = (*least).min(*exponent);
            }
        }
        common
    }

    fn add_term(&mut self, monomial: Monomial, coefficient: &BigInt) {
        use std::collections::btree_map::Entry;
        match self.0.entry(monomial) {
            Entry::Vacant(place) => {
                place.insert(coefficient.clone());
            }
            Entry::Occupied(mut place) => {
                *place.get_mut() += coefficient;
                if *place.get() == BigInt::ZERO {
                    place.remove();
                }
            }
        }
    }
}

fn multiplied(left: &[u32], right: &[u32]) -> Result<Monomial, TooLarge> {
    let (longer, shorter) = if left.len() >= right.len() {
        (left, right)
    } else {
        (right, left)
    };
    let mut product = longer.to_vec();
    for (sum, exponent) in product.iter_mut().zip(shorter) {
        *sum = sum
            .checked_add(*exponent)
            .filter(|sum| *sum < 1 << 24)
            .ok_or(TooLarge)?;
    }
    Ok(product)
}

fn divided(monomial: &[u32], by: &[u32]) -> Option<Monomial> {
    let mut quotient = monomial.to_vec();
    if by.len() > quotient.len() {
        return None;
    }
    for (rest, exponent) in quotient.iter_mut().zip(by) {
        *rest = rest.checked_sub(*exponent)?;
    }
    while quotient.last() == Some(&0) {
        quotient.pop();
    }
    Some(quotient)
}

/// The largest number that divides both; never negative.
pub(crate) fn common_divisor(mut left: BigInt, mut right: BigInt) -> BigInt {
    while right != BigInt::ZERO {
        (left, right) = (right.clone(), left % right);
    }
    if left < BigInt::ZERO { -left } else { left }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn x() -> Polynomial {
        Polynomial::symbol(0)
    }

    fn y() -> Polynomial {
        Polynomial::symbol(1)
    }

    #[test]
    fn a_product_divides_into_its_factors_and_no_others() {
        let budget = &mut Budget::default();
        let sum = x().plus(&y(), budget).unwrap();
        let difference = x().plus(&y().negated(), budget).unwrap();
        let product = sum.times(&difference, budget).unwrap();
        let squares = x().to_the(2, budget).unwrap();
        let squares = squares.plus(&y().to_the(2, budget).unwrap().negated(), budget).unwrap();
        assert_eq!(product, squares);
        assert_eq!(product.divided_by(&sum, budget).unwrap(), Some(difference));
        assert_eq!(product.divided_by(&x(), budget).unwrap(), None);
        assert_eq!(sum.divided_by(&Polynomial::whole(2), budget).unwrap(), None);
        assert_eq!(sum.divided_by(&Polynomial::zero(), budget).unwrap(), None);
    }

    #[test]
    fn contents_and_common_symbols() {
        let budget = &mut Budget::default();
        let six = x()
            .times(&y(), budget)
            .unwrap()
            .times(&Polynomial::whole(-6), budget)
            .unwrap();
        let four = y()
            .to_the(3, budget)
            .unwrap()
            .times(&Polynomial::whole(4), budget)
            .unwrap();
        let sum = six.plus(&four, budget).unwrap();
        assert_eq!((sum.content(), sum.common_symbols()), (BigInt::from(-2), vec![0, 1]));
        assert_eq!(Polynomial::zero().content(), BigInt::ZERO);
        assert!(!sum.is_linear() && x().is_linear() && Polynomial::zero().is_linear());
    }

    #[test]
    fn what_grows_without_end_is_too_large() {
        let budget = &mut Budget::default();
        let mut power = x().plus(&y(), budget).unwrap();
        let grown = (0..64).try_for_each(|_| {
            power = power.times(&power, budget)?;
            Ok::<_, TooLarge>(())
        });
        assert_eq!(grown, Err(TooLarge));
    }
}
