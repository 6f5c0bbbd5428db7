//! The distance between two sequences.

/// Levenshtein's distance: the fewest insertions, deletions and substitutions that turn one into the other.
///
/// Memory grows with the shorter length, time with the product of both.
pub fn edit_distance<T: PartialEq>(one: &[T], other: &[T]) -> usize {
    let (short, long) = if one.len() <= other.len() {
        (one, other)
    } else {
        (other, one)
    };
    let mut row: Vec<usize> = (0..=short.len()).collect();
    for (index, item) in long.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, against) in short.iter().enumerate() {
            let substituted = diagonal + usize::from(item != against);
            diagonal = row[column + 1];
            row[column + 1] = substituted.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[short.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(one: &str, other: &str, expected: usize) {
        let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
        assert_eq!(edit_distance(&one, &other), expected);
        assert_eq!(edit_distance(&other, &one), expected);
    }

    #[test]
    fn the_fewest_edits() {
        check("", "", 0);
        check("", "abc", 3);
        check("abc", "abc", 0);
        check("kitten", "sitting", 3);
        check("flaw", "lawn", 2);
        check("éa", "ea", 1);
    }
}
