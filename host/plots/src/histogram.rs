//! Histograms.

use crate::text::{escaped, number};
use crate::{Plot, ticks};
use std::fmt::Write;

/// Counts of numbers in bins of one width, on the numbers themselves or on their logarithms.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// The bins' ends, one more than there are counts.
    pub edges: Vec<f64>,
    pub counts: Vec<u64>,
    pub median: f64,
    pub log: bool,
    /// Numbers that are not finite, or not above zero on a logarithmic scale.
    pub left_out: u64,
}

/// The most bins.
const MOST: usize = 40;
/// The axis becomes logarithmic when the largest number is this many times the smallest.
const WIDE: f64 = 100.0;

impl Histogram {
    /// None if there is nothing to count. The scale is logarithmic if positive numbers span two powers of ten.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Histogram> {
        let all: Vec<f64> = values.into_iter().collect();
        let total = all.len() as u64;
        let mut values: Vec<f64> = all.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (first, last) = (*values.first()?, *values.last()?);
        let log = first > 0.0 && last / first >= WIDE;
        let count = values.len();
        let median = (values[(count - 1) / 2] + values[count / 2]) / 2.0;
        let scale = |value: f64| if log { value.log10() } else { value };
        let back = |value: f64| if log { 10f64.powf(value) } else { value };
        let (low, high) = (scale(first), scale(last));
        let whole = values.iter().all(|value| value.fract() == 0.0);
        let bins = match high > low {
            false => 1,
            // Whole numbers have bins of a whole width, or every second one would be empty.
            true if whole && !log => {
                let span = high - low + 1.0;
                (span / (span / MOST as f64).ceil()).ceil() as usize
            }
            true => MOST.min(((count as f64).sqrt().ceil() as usize).max(5)),
        };
        let (low, width) = match () {
            () if high <= low => (low - 0.5, 1.0),
            () if whole && !log => (low - 0.5, ((high - low + 1.0) / MOST as f64).ceil()),
            () => (low, (high - low) / bins as f64),
        };
        let mut counts = vec![0; bins];
        for value in &values {
            let bin = ((scale(*value) - low) / width).floor();
            counts[(bin.max(0.0) as usize).min(bins - 1)] += 1;
        }
        Some(Histogram {
            edges: (0..=bins).map(|bin| back(low + bin as f64 * width)).collect(),
            counts,
            median,
            log,
            left_out: total - count as u64,
        })
    }
}

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 44.0;

/// The picture of a histogram, with a line at the median.
pub fn histogram(title: &str, axis: &str, found: &Histogram) -> Plot {
    let scale = |value: f64| if found.log { value.log10() } else { value };
    let (low, high) = (scale(found.edges[0]), scale(found.edges[found.counts.len()]));
    let most = found.counts.iter().max().copied().unwrap_or(1).max(1) as f64;
    let px = |value: f64| LEFT + (scale(value) - low) / (high - low) * (WIDTH - LEFT - RIGHT);
    let base = HEIGHT - BOTTOM;
    let py = |count: f64| base - count / most * (base - TOP);
    let mut body = format!(
        "<text x=\"{LEFT}\" y=\"18\" font-size=\"13\">{}</text>\n",
        escaped(title)
    );
    for tick in ticks(0.0, most).into_iter().filter(|tick| tick.fract() == 0.0) {
        let y = py(tick);
        let _ = writeln!(
            body,
            "<path d=\"M{LEFT} {y:.1}H{:.1}\" class=\"grid\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" font-size=\"10\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y + 3.5,
            number(tick)
        );
    }
    for (bin, count) in found.counts.iter().enumerate() {
        let (from, to) = (px(found.edges[bin]), px(found.edges[bin + 1]));
        let _ = writeln!(
            body,
            "<rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"#1f77b4\" fill-opacity=\"0.75\">\
             <title>{} to {}: {count}</title></rect>",
            py(*count as f64),
            (to - from - 0.5).max(0.5),
            base - py(*count as f64),
            number(found.edges[bin]),
            number(found.edges[bin + 1])
        );
    }
    let places: Vec<f64> = match found.log {
        true => (low.ceil() as i32..=high.floor() as i32)
            .map(|power| 10f64.powi(power))
            .collect(),
        false => ticks(low, high),
    };
    for tick in places {
        let x = px(tick);
        let _ = writeln!(
            body,
            "<path d=\"M{x:.1} {base}v4\" class=\"axis\" stroke=\"#333\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"10\">{}</text>",
            base + 16.0,
            number(tick)
        );
    }
    let scale_words = if found.log { ", logarithmic" } else { "" };
    let left_out = match found.left_out {
        0 => String::new(),
        count => format!("; {count} without a number"),
    };
    let _ = writeln!(
        body,
        "<path d=\"M{LEFT} {base}H{:.1}\" class=\"axis\" stroke=\"#333\"/>\
         <path d=\"M{1:.1} {TOP}V{base}\" stroke=\"#d62728\" stroke-dasharray=\"4 3\"/>\
         <text x=\"{2:.1}\" y=\"{3:.1}\" text-anchor=\"middle\" font-size=\"11\">{4}</text>",
        WIDTH - RIGHT,
        px(found.median),
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 10.0,
        escaped(&format!(
            "{axis}{scale_words}; median {}{left_out}",
            number(found.median)
        )),
    );
    Plot::new(WIDTH, HEIGHT, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_in_one_bin() {
        let found = Histogram::of((1..=100).map(f64::from)).unwrap();
        assert_eq!(found.counts.iter().sum::<u64>(), 100);
        assert_eq!((found.log, found.median, found.counts[0]), (true, 50.5, 1));
        let found = Histogram::of([3.0, 3.0]).unwrap();
        assert_eq!((found.counts, found.edges), (vec![2], vec![2.5, 3.5]));
        let found = Histogram::of([0.0, 1.0, 2.0, f64::NAN]).unwrap();
        assert_eq!((found.counts, found.left_out), (vec![1, 1, 1], 1));
        assert_eq!(Histogram::of([f64::NAN]), None);
    }

    #[test]
    fn whole_numbers_have_bins_of_a_whole_width() {
        let found = Histogram::of((0..100).map(f64::from)).unwrap();
        assert_eq!(found.edges[1] - found.edges[0], 3.0);
        assert_eq!(found.counts[..33], vec![3; 33]);
        assert_eq!(found.counts.iter().sum::<u64>(), 100);
    }

    #[test]
    fn the_picture_has_a_bar_a_bin_and_the_median() {
        let found = Histogram::of([1.0, 2.0, 2.0, 4.0]).unwrap();
        let text = histogram("tokens", "tokens", &found).inline("tokens");
        assert_eq!(text.matches("<rect").count(), found.counts.len());
        assert!(text.contains("median 2"), "{text}");
    }
}
