//! Four-bit weights in bitsandbytes' format: 16 values, blocks of 64 with a scale each, and scales optionally in
//! bytes.

use std::ops::Range;

/// Values of a block, which share a scale. Blocks may span rows.
pub const BLOCK: usize = 64;
/// Scales that share a second scale.
pub const NESTED: usize = 256;

/// The values of the codes.
pub const CODES: [f32; 16] = [
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

/// Codes of many values, and their scales. The codes are owned, or lie in a mapped file.
#[derive(Debug, Clone)]
pub struct Nf4<B = Vec<u8>> {
    /// Two codes a byte, the first in the upper half.
    pub bytes: B,
    pub scales: Scales,
}

/// The largest magnitude of each block.
#[derive(Debug, Clone, PartialEq)]
pub enum Scales {
    Plain(Vec<f32>),
    /// A byte for each, relative to the others.
    Double {
        codes: Vec<u8>,
        absmax: Vec<f32>,
        offset: f32,
        /// The values of the bytes, from the file's own table.
        table: Box<[f32; 256]>,
    },
}

impl<B: AsRef<[u8]>> Nf4<B> {
    /// Some of the values, widened. Exact: a code's value times its block's scale, in fp32.
    #[inline(always)]
    pub fn read(&self, some: Range<usize>, out: &mut [f32]) {
        let stored = self.bytes.as_ref();
        let mut at = some.start;
        let mut out = out;
        while at < some.end {
            let block = at / BLOCK;
            let count = some.end.min((block + 1) * BLOCK) - at;
            let (now, later) = out.split_at_mut(count);
            let scale = self.scales.of(block);
            if at.is_multiple_of(2) && count.is_multiple_of(2) {
                let bytes = &stored[at / 2..][..count / 2];
                let (pairs, _) = now.as_chunks_mut::<2>();
                for (pair, &byte) in pairs.iter_mut().zip(bytes) {
                    *pair = [
                        CODES[usize::from(byte >> 4)] * scale,
                        CODES[usize::from(byte & 15)] * scale,
                    ];
                }
            } else {
                for (n, value) in (at..).zip(now.iter_mut()) {
                    *value = CODES[usize::from(code(stored, n))] * scale;
                }
            }
            out = later;
            at += count;
        }
    }

    pub fn size_in_bytes(&self) -> u64 {
        self.bytes.as_ref().len() as u64 + self.scales.size_in_bytes()
    }
}

#[inline(always)]
fn code(bytes: &[u8], n: usize) -> u8 {
    let byte = bytes[n / 2];
    if n.is_multiple_of(2) { byte >> 4 } else { byte & 15 }
}

impl Scales {
    #[inline(always)]
    fn of(&self, block: usize) -> f32 {
        match self {
            Scales::Plain(scales) => scales[block],
            Scales::Double {
                codes,
                absmax,
                offset,
                table,
            } => table[usize::from(codes[block])] * absmax[block / NESTED] + offset,
        }
    }

    fn size_in_bytes(&self) -> u64 {
        match self {
            Scales::Plain(scales) => 4 * scales.len() as u64,
            Scales::Double { codes, absmax, .. } => (codes.len() + 4 * absmax.len() + 1024) as u64,
        }
    }
}
