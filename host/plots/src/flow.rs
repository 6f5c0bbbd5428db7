//! Changes between categories: a column before, a column after, and bands between them.

use crate::Plot;
use crate::text::{escaped, shortened};
use std::collections::BTreeMap;
use std::fmt::Write;

const TALL: f64 = 300.0;
const TOP: f64 = 40.0;
const GAP: f64 = 8.0;
const WIDTH: f64 = 500.0;
const LEFT: f64 = 100.0;
const RIGHT: f64 = 400.0;

/// A flow: how many went from each name on the left to each name on the right. What stayed is green, what changed red.
pub fn flow(title: &str, counts: &BTreeMap<(String, String), usize>) -> Plot {
    let all = counts.values().sum::<usize>().max(1) as f64;
    let height = |count: usize| TALL * count as f64 / all;
    let sums = |name: fn(&(String, String)) -> &String| {
        let mut sums: BTreeMap<String, usize> = BTreeMap::new();
        for (pair, count) in counts {
            *sums.entry(name(pair).clone()).or_default() += count;
        }
        sums
    };
    let (before, after) = (sums(|pair| &pair.0), sums(|pair| &pair.1));
    let mut body = format!("<text x=\"20\" y=\"24\" font-size=\"14\">{}</text>\n", escaped(title));
    let mut column = |sums: &BTreeMap<String, usize>, x: f64, words: (f64, &str)| -> BTreeMap<String, f64> {
        let mut y = TOP;
        let mut tops = BTreeMap::new();
        for (name, count) in sums {
            let _ = writeln!(
                body,
                "<rect x=\"{x}\" y=\"{y:.1}\" width=\"10\" height=\"{:.1}\" class=\"ink\" fill=\"#333\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"{}\" font-size=\"12\">{} ({count})</text>",
                height(*count),
                words.0,
                y + height(*count) / 2.0 + 4.0,
                words.1,
                escaped(&shortened(name, 12)),
            );
            tops.insert(name.clone(), y);
            y += height(*count) + GAP;
        }
        tops
    };
    let mut from = column(&before, LEFT - 10.0, (LEFT - 16.0, "end"));
    let mut to = column(&after, RIGHT, (RIGHT + 16.0, "start"));
    for ((old, new), count) in counts {
        let (Some(a), Some(b)) = (from.get_mut(old), to.get_mut(new)) else {
            continue;
        };
        let (colour, tall) = (if old == new { "#2ca02c" } else { "#d62728" }, height(*count));
        let _ = writeln!(
            body,
            "<path d=\"M{LEFT} {a:.1}C250 {a:.1} 250 {b:.1} {RIGHT} {b:.1}v{tall:.1}C250 {:.1} 250 {:.1} {LEFT} {:.1}z\" \
             fill=\"{colour}\" fill-opacity=\"0.3\"/>",
            *b + tall,
            *a + tall,
            *a + tall
        );
        *a += tall;
        *b += tall;
    }
    let rows = before.len().max(after.len()) as f64;
    Plot::new(WIDTH, TOP + TALL + GAP * rows + 20.0, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_are_as_tall_as_their_share() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let counts = [(pair("A", "A"), 3), (pair("A", "B"), 1)].into();
        let text = flow("answers", &counts).document();
        assert!(text.contains("M100 40.0C250 40.0 250 40.0 400 40.0v225.0"), "{text}");
        assert!(text.contains("M100 265.0C250 265.0 250 273.0 400 273.0v75.0"), "{text}");
        assert!(text.contains("A (4)") && text.contains("B (1)"), "{text}");
    }
}
