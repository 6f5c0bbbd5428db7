//! Four-bit weights in bitsandbytes' format: 16 values, blocks of 64 with a scale each, and scales optionally in
//! bytes.

mod quantise;
mod table;

pub(crate) use quantise::{Scales, quantise};
pub(crate) use table::{bounds, bytes_table, nearest_byte};

use std::ops::Range;

/// Values of a block, which share a scale. Blocks may span rows.
pub(crate) const BLOCK: usize = 64;
/// Scales that share a second scale.
pub(crate) const NESTED: usize = 256;

/// The values of the codes.
pub(crate) const CODES: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// Codes of many values, and their scales.
#[derive(Debug, Clone)]
pub(crate) struct Nf4 {
    /// Two codes a byte, the first in the upper half.
    pub bytes: Vec<u8>,
    pub scales: Scales,
}

impl Nf4 {
    /// Some of the values, widened.
    #[inline(always)]
    pub fn read(&self, some: Range<usize>, out: &mut [f32]) {
        let mut at = some.start;
        let mut out = out;
        while at < some.end {
            let block = at / BLOCK;
            let count = some.end.min((block + 1) * BLOCK) - at;
            let (now, later) = out.split_at_mut(count);
            let scale = self.scales.of(block);
            if at.is_multiple_of(2) && count.is_multiple_of(2) {
                let bytes = &self.bytes[at / 2..][..count / 2];
                let (pairs, _) = now.as_chunks_mut::<2>();
                for (pair, &byte) in pairs.iter_mut().zip(bytes) {
                    *pair = [
                        CODES[usize::from(byte >> 4)] * scale,
                        CODES[usize::from(byte & 15)] * scale,
                    ];
                }
            } else {
                for (n, value) in (at..).zip(now.iter_mut()) {
                    *value = CODES[usize::from(self.code(n))] * scale;
                }
            }
            out = later;
            at += count;
        }
    }

    pub fn code(&self, n: usize) -> u8 {
        let byte = self.bytes[n / 2];
        if n.is_multiple_of(2) { byte >> 4 } else { byte & 15 }
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.len() as u64 + self.scales.bytes()
    }
}
