//! What a comparison would show if every unscored answer were wrong, and if every unscored answer were right.
//!
//! An answer that a judge cannot rule on is left out of the test, and such answers are rarely like the rest. So the
//! figure over the scored pairs comes with a range of how far the others could move it.

use super::pairing::Pair;
use super::side::{Part, Seen};
use serde::Serialize;

/// One metric over all pairs that both sides answered, the unscored ones taken as 0 and as 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bounds {
    pub of: u64,
    pub unscored_first: u64,
    pub unscored_second: u64,
    pub first: (f64, f64),
    pub second: (f64, f64),
    /// Second minus first.
    pub difference: (f64, f64),
}

/// A side's value of one metric on one sample.
#[derive(Clone, Copy)]
enum Value {
    Known(f64),
    Unscored,
}

impl Bounds {
    /// None if no answer is unscored, or if the metric does not lie between 0 and 1.
    pub fn of<'a>(name: &str, pairs: impl Iterator<Item = Pair<'a>>) -> Option<Bounds> {
        let (mut of, mut unscored, mut sums) = (0, [0_u64; 2], [0.0; 2]);
        for (first, second) in pairs {
            // A side that this scorer never scored says nothing about the pair.
            let (Some(first), Some(second)) = (value(name, first)?, value(name, second)?) else {
                continue;
            };
            of += 1;
            for (side, value) in [first, second].into_iter().enumerate() {
                match value {
                    Value::Known(value) => sums[side] += value,
                    Value::Unscored => unscored[side] += 1,
                }
            }
        }
        if unscored == [0, 0] {
            return None;
        }
        let between = |side: usize| {
            let (n, open) = (of as f64, unscored[side] as f64);
            (sums[side] / n, (sums[side] + open) / n)
        };
        let (first, second) = (between(0), between(1));
        Some(Bounds {
            of,
            unscored_first: unscored[0],
            unscored_second: unscored[1],
            first,
            second,
            difference: (second.0 - first.1, second.1 - first.0),
        })
    }

    /// A line for people.
    pub fn in_words(&self, metric: &str) -> String {
        format!(
            "{metric}: unscored are {} in the first and {} in the second of {}; were they all wrong or all right, the first \
             would be {:.4} to {:.4}, the second {:.4} to {:.4}, the difference {:+.4} to {:+.4}",
            self.unscored_first,
            self.unscored_second,
            self.of,
            self.first.0,
            self.first.1,
            self.second.0,
            self.second.1,
            self.difference.0,
            self.difference.1,
        )
    }
}

/// None if the metric has no bounds; inside, none if the record has no such score at all.
fn value(name: &str, seen: Seen) -> Option<Option<Value>> {
    match seen.value(name) {
        Some(Part::Mean(value)) if (0.0..=1.0).contains(&value) => Some(Some(Value::Known(value))),
        Some(_) => None,
        None if seen.is_unscored(name) => Some(Some(Value::Unscored)),
        None => Some(None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::side::{Entries, Figures, Key};
    use super::*;

    /// A letter per sample: `1` right, `0` wrong, `u` unscored, `-` never judged.
    fn entries(text: &str) -> Entries {
        let mut all = Entries::default();
        for (place, letter) in text.chars().enumerate() {
            let mut figures = Figures::default();
            match letter {
                'u' => figures.unscored.push("j".to_owned()),
                '-' => {}
                digit => drop(
                    figures
                        .values
                        .insert("j".to_owned(), Part::Mean(f64::from(digit == '1'))),
                ),
            }
            all.add(Key::named(&format!("s{place:02}")), figures);
        }
        all
    }

    fn bounds(first: &str, second: &str) -> Option<Bounds> {
        let (first, second) = (entries(first), entries(second));
        Bounds::of("j", (0..first.count()).map(|index| (first.at(index), second.at(index))))
    }

    #[test]
    fn what_is_unscored_moves_either_side_as_far_as_it_can() {
        let found = bounds("110u-", "1u00u").unwrap();
        assert_eq!((found.of, found.unscored_first, found.unscored_second), (4, 1, 1));
        assert_eq!((found.first, found.second), ((0.5, 0.75), (0.25, 0.5)));
        assert_eq!(found.difference, (-0.5, 0.0));
    }

    #[test]
    fn where_all_is_scored_there_are_none() {
        assert_eq!(bounds("110", "101"), None);
        assert_eq!(bounds("1-", "0u"), None);
    }
}
