//! The published curve: mean consistency a bin, its slope, and its values between bins.

use std::collections::BTreeMap;

/// `[x, y, n]`: the bin's middle, the mean in percent, and the rows in it.
pub type CurvePoint = (f64, f64, usize);

/// The curve of rows of (x, y or not). Bins are rounded half to even, as `numpy.round` does.
pub fn curve(rows: impl IntoIterator<Item = (f64, bool)>, bin: Option<f64>) -> Vec<CurvePoint> {
    let mut bins: BTreeMap<Ordered, (usize, usize)> = BTreeMap::new();
    for (x, hit) in rows {
        let x = bin.map_or(x, |width| (x / width).round_ties_even() * width);
        let (hits, count) = bins.entry(Ordered(x + 0.0)).or_default();
        *hits += usize::from(hit);
        *count += 1;
    }
    let percent = |hits: usize, count: usize| 100.0 * hits as f64 / count as f64;
    bins.into_iter()
        .map(|(x, (hits, count))| (x.0, percent(hits, count), count))
        .collect()
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Ordered(f64);

impl Eq for Ordered {}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// Slope and intercept of the ordinary least squares line; each bin is one point.
pub fn line(curve: &[CurvePoint]) -> Option<(f64, f64)> {
    let n = curve.len() as f64;
    let mean_x = curve.iter().map(|point| point.0).sum::<f64>() / n;
    let mean_y = curve.iter().map(|point| point.1).sum::<f64>() / n;
    let spread: f64 = curve.iter().map(|point| (point.0 - mean_x).powi(2)).sum();
    if curve.len() < 2 || spread == 0.0 {
        return None;
    }
    let together: f64 = curve.iter().map(|point| (point.0 - mean_x) * (point.1 - mean_y)).sum();
    let slope = together / spread;
    Some((slope, mean_y - slope * mean_x))
}

/// Values at 0, 25, 50, 75 and 100, linear between points and level beyond the ends.
pub fn interpolated(curve: &[CurvePoint]) -> Option<[f64; 5]> {
    let (first, last) = (curve.first()?, curve.last()?);
    Some([0.0, 25.0, 50.0, 75.0, 100.0].map(|x| {
        if x <= first.0 {
            return first.1;
        }
        let between = curve.windows(2).find(|pair| x <= pair[1].0);
        between.map_or(last.1, |pair| {
            let ((x0, y0, _), (x1, y1, _)) = (pair[0], pair[1]);
            y0 + (y1 - y0) * (x - x0) / (x1 - x0)
        })
    }))
}
