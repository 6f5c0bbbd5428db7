//! Triangular filters on Slaney's mel scale, each of the same area.

use crate::lanes::LANES;
use std::array::from_fn;

/// Where the scale stops being linear in frequency, in Hz and in mels, and the mels of a factor e above it.
const LINEAR_HZ: f64 = 1000.0;
const LINEAR_MELS: f64 = 15.0;

fn mels(hertz: f64) -> f64 {
    match hertz < LINEAR_HZ {
        true => hertz * LINEAR_MELS / LINEAR_HZ,
        false => LINEAR_MELS + (hertz / LINEAR_HZ).ln() * 27.0 / 6.4f64.ln(),
    }
}

fn hertz(mels: f64) -> f64 {
    match mels < LINEAR_MELS {
        true => mels * LINEAR_HZ / LINEAR_MELS,
        false => LINEAR_HZ * ((mels - LINEAR_MELS) * 6.4f64.ln() / 27.0).exp(),
    }
}

/// One filter: the first frequency bin with a weight, and the weights from there on.
pub(crate) struct Filter {
    pub first: usize,
    pub weights: Vec<f32>,
}

impl Filter {
    /// From the weights of all frequency bins.
    pub fn of(all: Vec<f32>) -> Filter {
        let first = all.iter().position(|&weight| weight > 0.0).unwrap_or(0);
        let last = all.iter().rposition(|&weight| weight > 0.0);
        let end = last.map_or(first, |last| last + 1);
        Filter {
            first,
            weights: all[first..end].to_vec(),
        }
    }
}

/// Applies the filters to the powers of some frames, into rows (frames, filters).
#[inline(always)]
pub(crate) fn pass(filters: &[Filter], powers: &[[f32; LANES]], rows: &mut [f32]) {
    let mut rows = rows.chunks_exact_mut(filters.len());
    let mut rows: [&mut [f32]; LANES] = from_fn(|_| rows.next().unwrap_or_default());
    for (place, filter) in filters.iter().enumerate() {
        let mut energies = [0f32; LANES];
        for (powers, weight) in powers[filter.first..].iter().zip(&filter.weights) {
            for (energy, power) in energies.iter_mut().zip(powers) {
                *energy += power * weight;
            }
        }
        for (row, energy) in rows.iter_mut().zip(energies) {
            if let Some(value) = row.get_mut(place) {
                *value = energy;
            }
        }
    }
}

/// Filters from 0 Hz to half the rate, over a spectrum of `bins` frequencies from 0 Hz to half the rate.
pub(crate) fn slaney(count: usize, bins: usize, rate: usize) -> Vec<Filter> {
    let top = rate as f64 / 2.0;
    let edge = |n: usize| hertz(mels(top) * n as f64 / (count + 1) as f64);
    let filter = |n: usize| {
        let (low, middle, high) = (edge(n), edge(n + 1), edge(n + 2));
        let weight = |bin: usize| {
            let frequency = top * bin as f64 / (bins - 1) as f64;
            let slopes = ((frequency - low) / (middle - low)).min((high - frequency) / (high - middle));
            (slopes.max(0.0) * 2.0 / (high - low)) as f32
        };
        Filter::of((0..bins).map(weight).collect())
    };
    (0..count).map(filter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_is_linear_below_a_kilohertz_and_goes_back() {
        assert_eq!(mels(200.0), 3.0);
        for frequency in [0.0, 440.0, 1000.0, 1001.0, 7999.0] {
            assert!((hertz(mels(frequency)) - frequency).abs() < 1e-9, "{frequency}");
        }
    }

    #[test]
    fn wide_filters_have_the_area_of_narrow_ones() {
        let filters = slaney(80, 201, 16_000);
        for filter in &filters[60..] {
            let area: f32 = filter.weights.iter().sum::<f32>() * 40.0;
            assert!((area - 1.0).abs() < 0.02, "{area}");
        }
    }
}
