//! Random numbers for dropout, which depend only on the place that they are drawn for.

use rayon::prelude::*;

/// Mixes the bits of a number (the last step of SplitMix64).
#[inline(always)]
pub(crate) fn scattered(n: u64) -> u64 {
    let n = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// A sequence of random numbers from a seed.
pub(crate) struct Stream(u64, u64);

impl Stream {
    /// A separate sequence for each name.
    pub fn of(seed: u64, name: &str) -> Stream {
        let start = name
            .bytes()
            .fold(scattered(seed), |hash, byte| scattered(hash ^ u64::from(byte)));
        Stream(start, 0)
    }

    /// From 0 to 1.
    pub fn uniform(&mut self) -> f64 {
        self.1 += 1;
        (scattered(self.0.wrapping_add(self.1)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Normally distributed with mean 0 and deviation 1.
    pub fn normal(&mut self) -> f64 {
        let (u, v) = (1.0 - self.uniform(), self.uniform());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }
}

/// The dropout of one pass before one layer's factors.
pub(crate) struct Draws {
    seed: u64,
    /// A value is kept if its draw, out of 65,536, is at least this.
    bound: u16,
    factor: f32,
}

const TASK: usize = 1 << 14;

impl Draws {
    /// For a layer's number, from the pass's seed. None without dropout.
    pub fn of(seed: Option<u64>, number: u64, dropout: f32) -> Option<Draws> {
        let seed = seed.filter(|_| dropout > 0.0)?;
        Some(Draws {
            seed: scattered(seed ^ scattered(number)),
            bound: (dropout * 65_536.0).round().min(65_535.0) as u16,
            factor: 1.0 / (1.0 - dropout),
        })
    }

    /// Calls `at` for each place of a part with the factor of its value: 0 if dropped.
    #[inline(always)]
    fn each(&self, part: usize, count: usize, mut at: impl FnMut(usize, f32)) {
        for quad in 0..count.div_ceil(4) {
            let bits = scattered(self.seed.wrapping_add((part * TASK / 4 + quad) as u64));
            for n in 0..4.min(count - 4 * quad) {
                let kept = (bits >> (16 * n)) as u16 >= self.bound;
                at(4 * quad + n, if kept { self.factor } else { 0.0 });
            }
        }
    }

    /// Drops some values and scales the others.
    pub fn drop(&self, x: &[f32]) -> Vec<f32> {
        let mut y = vec![0.0; x.len()];
        let parts = y.par_chunks_mut(TASK).zip(x.par_chunks(TASK)).enumerate();
        parts.for_each(|(part, (y, x))| self.each(part, x.len(), |n, factor| y[n] = x[n] * factor));
        y
    }

    /// Adds the gradients of the values that were kept.
    pub fn add_kept(&self, dx: &mut [f32], dy: &[f32]) {
        let parts = dx.par_chunks_mut(TASK).zip(dy.par_chunks(TASK)).enumerate();
        parts.for_each(|(part, (dx, dy))| self.each(part, dy.len(), |n, factor| dx[n] += dy[n] * factor));
    }
}
