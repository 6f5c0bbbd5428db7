//! bitsandbytes' eight-bit type, finer near zero: a decimal exponent, then a fraction in the remaining bits.

use std::sync::OnceLock;

/// The 256 values of a byte in rising order, with or without negative ones.
pub(crate) fn bytes_table(signed: bool) -> &'static [f32; 256] {
    static TABLES: [OnceLock<Box<[f32; 256]>>; 2] = [OnceLock::new(), OnceLock::new()];
    TABLES[usize::from(signed)].get_or_init(|| Box::new(table(signed)))
}

fn table(signed: bool) -> [f32; 256] {
    let mut values = vec![0.0, 1.0];
    for power in 0..7 {
        let count = if signed { 1 << power } else { 2 << power };
        let scale = 10f64.powi(power - 6) as f32;
        for n in 0..count {
            let middle = scale * ((edge(n, count) + edge(n + 1, count)) / 2.0);
            values.push(middle);
            if signed {
                values.push(-middle);
            }
        }
    }
    values.sort_by(f32::total_cmp);
    let mut table = [0.0; 256];
    table.copy_from_slice(&values);
    table
}

/// One of `count + 1` equally spaced edges from 0.1 to 1, computed in fp32 from the nearer end.
fn edge(n: usize, count: usize) -> f32 {
    let step = (1.0 - 0.1f32) / count as f32;
    match n < count.div_ceil(2) {
        true => step.mul_add(n as f32, 0.1),
        false => step.mul_add(-((count - n) as f32), 1.0),
    }
}

/// The index of the nearest value in a rising table; in a tie, the lower one.
#[inline(always)]
pub(crate) fn nearest_byte(value: f32, bounds: &[f32; 255]) -> u8 {
    // A binary search without branches: 255 bounds need 8 comparisons.
    let mut at = 0;
    for half in [128, 64, 32, 16, 8, 4, 2, 1] {
        if bounds[at + half - 1] < value {
            at += half;
        }
    }
    at as u8
}

/// Midpoints between the values of a table.
pub(crate) fn bounds(table: &[f32; 256]) -> [f32; 255] {
    std::array::from_fn(|n| (table[n] + table[n + 1]) / 2.0)
}
