//! Operands of a product: numbers in memory, in either order and any type.

use super::AHEAD;
use kernels::memory::prefetch;
use kernels::packed::passing::Panel;
use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;
use std::borrow::Cow;
use std::ops::Range;

/// One side of a product. A lane is a row of the left matrix or a column of the right one, with one value for each
/// term of a sum.
pub(crate) trait Operand: Sync {
    /// Writes at most `width` lanes over a range of depth: the value of lane `l` at depth `d` goes to `out[d * width +
    /// l]`, both counted from the start of their range. Missing lanes become zeros.
    fn pack(&self, lanes: Range<usize>, depth: Range<usize>, width: usize, out: &mut [f32]);

    /// The same for several panels of `width` lanes.
    fn pack_panels(&self, lanes: Range<usize>, depth: Range<usize>, width: usize, out: &mut [f32]) {
        let panels = out.chunks_exact_mut(width * depth.len());
        for (first, out) in lanes.clone().step_by(width).zip(panels) {
            self.pack(first..lanes.end.min(first + width), depth.clone(), width, out);
        }
    }

    /// Adds some lanes to a panel of AMX tiles, if values are stored in a form that tiles can read. Otherwise returns
    /// false.
    fn add_stored(&self, _lanes: Range<usize>, _depth: Range<usize>, _panel: &mut Panel) -> bool {
        false
    }

    /// The operand before rounding, if this one rounds to bf16.
    fn unrounded(&self) -> Option<&dyn Operand> {
        None
    }

    /// All lanes over this depth, concatenated.
    fn lanes(&self, count: usize, depth: usize) -> Cow<'_, [f32]> {
        let mut all = vec![0.0; count * depth];
        all.par_chunks_mut(depth * TOGETHER)
            .enumerate()
            .for_each(|(number, some)| {
                let (first, count) = (number * TOGETHER, some.len() / depth);
                let mut turned = vec![0.0; some.len()];
                self.pack(first..first + count, 0..depth, count, &mut turned);
                let rows: Vec<&[f32]> = turned.chunks_exact(count).collect();
                for (place, rows) in rows.chunks(32).enumerate() {
                    // 32 values of each lane.
                    let mut block = [0.0; TOGETHER * 32];
                    kernels::turn(rows, count, rows.len(), &mut block);
                    for (lane, values) in some.chunks_exact_mut(depth).zip(block.chunks_exact(rows.len())) {
                        lane[place * 32..][..rows.len()].copy_from_slice(values);
                    }
                }
            });
        Cow::Owned(all)
    }
}

/// Lanes that one task transposes.
const TOGETHER: usize = 16;

/// Values stored lane after lane.
pub(crate) struct ByLane<'a> {
    values: &'a [f32],
    depth: usize,
}

impl<'a> ByLane<'a> {
    pub fn new(values: &'a [f32], depth: usize) -> ByLane<'a> {
        ByLane { values, depth }
    }
}

impl Operand for ByLane<'_> {
    fn pack(&self, lanes: Range<usize>, depth: Range<usize>, width: usize, out: &mut [f32]) {
        let rows = lanes.map(|lane| &self.values[lane * self.depth..][depth.clone()]);
        turn(rows, depth.len(), width, out);
    }

    fn lanes(&self, count: usize, depth: usize) -> Cow<'_, [f32]> {
        debug_assert_eq!(depth, self.depth);
        Cow::Borrowed(&self.values[..count * depth])
    }
}

/// Values stored depth after depth.
pub(crate) struct ByDepth<'a> {
    values: &'a [f32],
    lanes: usize,
}

impl<'a> ByDepth<'a> {
    pub fn new(values: &'a [f32], lanes: usize) -> ByDepth<'a> {
        ByDepth { values, lanes }
    }
}

impl Operand for ByDepth<'_> {
    fn pack(&self, lanes: Range<usize>, depth: Range<usize>, width: usize, out: &mut [f32]) {
        self.pack_panels(lanes, depth, width, out);
    }

    fn pack_panels(&self, lanes: Range<usize>, depth: Range<usize>, width: usize, out: &mut [f32]) {
        let deep = depth.len();
        for (place, at) in depth.enumerate() {
            let start = at * self.lanes + lanes.start;
            if let Some(later) = self.values.get(start + AHEAD * self.lanes..) {
                prefetch(&later[..later.len().min(lanes.len())]);
            }
            let row = &self.values[start..][..lanes.len()];
            for (panel, values) in row.chunks(width).enumerate() {
                copy(values, &mut out[(panel * deep + place) * width..][..width]);
            }
        }
    }
}

/// Copies a row of a panel, with zeros for missing values.
#[inline(always)]
fn copy(values: &[f32], out: &mut [f32]) {
    #[inline(always)]
    fn whole<const N: usize>(values: &[f32], out: &mut [f32]) -> bool {
        let both = (<&[f32; N]>::try_from(values), <&mut [f32; N]>::try_from(out));
        let (Ok(values), Ok(out)) = both else {
            return false;
        };
        *out = *values;
        true
    }
    // Calls of `memcpy` would cost more than the copies.
    if whole::<32>(values, out) || whole::<16>(values, out) || whole::<12>(values, out) || whole::<6>(values, out) {
        return;
    }
    let (filled, rest) = out.split_at_mut(values.len());
    filled.copy_from_slice(values);
    rest.fill(0.0);
}

/// The same values, rounded to bf16.
pub(crate) struct Rounded<'a>(pub &'a dyn Operand);

impl Operand for Rounded<'_> {
    fn pack(&self, lanes: Range<usize>, depth: Range<usize>, width: usize, out: &mut [f32]) {
        self.0.pack(lanes, depth, width, out);
        Arch::new().dispatch(RoundAll(out));
    }

    fn pack_panels(&self, lanes: Range<usize>, depth: Range<usize>, width: usize, out: &mut [f32]) {
        self.0.pack_panels(lanes, depth, width, out);
        Arch::new().dispatch(RoundAll(out));
    }

    fn unrounded(&self) -> Option<&dyn Operand> {
        Some(self.0)
    }
}

struct RoundAll<'a>(&'a mut [f32]);

impl NullaryFnOnce for RoundAll<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for x in self.0 {
            *x = round(*x);
        }
    }
}

/// To the nearest bf16, ties to even. Without branches, so that it is vectorised.
#[inline(always)]
pub(crate) fn round(x: f32) -> f32 {
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000;
    // NaN stays NaN; rounding up could turn it into infinity.
    f32::from_bits(if x.is_nan() { bits } else { nearest })
}

/// Transposes rows of equal length, with zeros for missing rows.
#[inline]
pub(crate) fn turn<'a>(rows: impl Iterator<Item = &'a [f32]>, depth: usize, width: usize, out: &mut [f32]) {
    let mut all = [&[][..]; 32];
    let mut count = 0;
    for (place, row) in all.iter_mut().zip(rows) {
        *place = row;
        count += 1;
    }
    kernels::turn(&all[..count], depth, width, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    #[test]
    fn rounding_is_the_library_s() {
        let some = (0..1u32 << 16).map(|n| f32::from_bits(n.wrapping_mul(0x9e37_79b9)));
        let ties = (0..1u32 << 12).map(|n| f32::from_bits(n << 20 | 0x8000));
        for x in some.chain(ties).chain([0.0, -0.0, f32::INFINITY, f32::MAX]) {
            let expected = bf16::from_f32(x).to_f32();
            let equal = round(x).to_bits() == expected.to_bits();
            assert!(equal || round(x).is_nan() && expected.is_nan(), "{x}: {}", round(x));
        }
    }
}
