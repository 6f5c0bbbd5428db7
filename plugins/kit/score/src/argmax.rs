//! The largest of several numbers, by the rules of published results.

/// The index of the largest number, by the rules of numpy's `argmax`: the first of equal ones, and the first NaN
/// before all numbers.
pub fn argmax(numbers: &[f64]) -> Option<usize> {
    if let Some(nan) = numbers.iter().position(|number| number.is_nan()) {
        return Some(nan);
    }
    let mut best: Option<usize> = None;
    for (index, number) in numbers.iter().enumerate() {
        if best.is_none_or(|best| *number > numbers[best]) {
            best = Some(index);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(numbers: &[f64], expected: Option<usize>) {
        assert_eq!(argmax(numbers), expected, "{numbers:?}");
    }

    #[test]
    fn as_numpy_has_it() {
        check(&[], None);
        check(&[-7.0], Some(0));
        check(&[-7.0, -2.0, -3.0], Some(1));
        check(&[-2.0, -7.0, -2.0], Some(0));
        check(&[0.0, -0.0], Some(0));
        check(&[-0.0, 0.0], Some(0));
        check(&[f64::NEG_INFINITY, f64::NEG_INFINITY], Some(0));
        check(&[f64::INFINITY, f64::NAN, f64::NAN], Some(1));
    }
}
