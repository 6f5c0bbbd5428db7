//! How quantised blocks are laid out in lines, so that the data for one step of a product are adjacent.
//!
//! Sixteen outputs form a panel; in it, the four inputs of one instruction form a word of each output. In every file
//! type the values are codes, integers from 0 on, and scales say what they stand for.

use super::{LANES, Line};
use candle_core::quantized::GgmlDType;
use half::f16;

/// Rows that a tile has at most.
pub(super) const MOST_ROWS: usize = 8;

/// The part of x that a tile reads.
pub(super) struct Some8<'a> {
    pub words: &'a [u32],
    pub scales: &'a [f32],
    pub sums: &'a [i32],
    pub firsts: &'a [i32],
}

/// Inputs that share a scale of x; scales of weights are applied in steps of this.
pub const BLOCK: usize = 32;
const HALF: usize = BLOCK / 2;

/// The block type of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
}

/// How codes become values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scales {
    /// An fp16 scale for each block; this code stands for 0.
    Centred(u8),
    /// An fp16 scale and an fp16 offset for each block.
    Raised,
    /// For each block a scale and a subtrahend of six bits, each with an fp16 scale for the unit.
    Stepped,
    /// For half a block a scale of a signed byte, with an fp16 scale for the unit; code 32 stands for 0.
    Halved,
}

/// How a unit of weights, which is this many blocks, is stored in lines: first scales, then each block.
///
/// A block's codes are bytes in eight lines. Or their lower four bits are in four lines, whose upper half-bytes are
/// the codes half a block later, and each further bit has a line of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    pub blocks: usize,
    pub head: usize,
    pub bits: u8,
    pub scales: Scales,
    /// Bytes of a unit in files.
    bytes: usize,
}

impl Kind {
    #[cfg(target_arch = "x86_64")] // the kernels of other processors do not use it
    pub const ALL: [Kind; 8] = [
        Kind::Q4_0,
        Kind::Q4_1,
        Kind::Q5_0,
        Kind::Q5_1,
        Kind::Q8_0,
        Kind::Q4K,
        Kind::Q5K,
        Kind::Q6K,
    ];

    pub fn of(dtype: GgmlDType) -> Option<Kind> {
        Some(match dtype {
            GgmlDType::Q4_0 => Kind::Q4_0,
            GgmlDType::Q4_1 => Kind::Q4_1,
            GgmlDType::Q5_0 => Kind::Q5_0,
            GgmlDType::Q5_1 => Kind::Q5_1,
            GgmlDType::Q8_0 => Kind::Q8_0,
            GgmlDType::Q4K => Kind::Q4K,
            GgmlDType::Q5K => Kind::Q5K,
            GgmlDType::Q6K => Kind::Q6K,
            _ => return None,
        })
    }

    pub fn dtype(self) -> GgmlDType {
        match self {
            Kind::Q4_0 => GgmlDType::Q4_0,
            Kind::Q4_1 => GgmlDType::Q4_1,
            Kind::Q5_0 => GgmlDType::Q5_0,
            Kind::Q5_1 => GgmlDType::Q5_1,
            Kind::Q8_0 => GgmlDType::Q8_0,
            Kind::Q4K => GgmlDType::Q4K,
            Kind::Q5K => GgmlDType::Q5K,
            Kind::Q6K => GgmlDType::Q6K,
        }
    }

    pub const fn form(self) -> Form {
        // Two of the smallest blocks form a unit, so that their scales fill a line.
        let (blocks, head, bits, scales, bytes) = match self {
            Kind::Q4_0 => (2, 1, 4, Scales::Centred(8), 2 * 18),
            Kind::Q4_1 => (2, 2, 4, Scales::Raised, 2 * 20),
            Kind::Q5_0 => (2, 1, 5, Scales::Centred(16), 2 * 22),
            Kind::Q5_1 => (2, 2, 5, Scales::Raised, 2 * 24),
            Kind::Q8_0 => (2, 1, 8, Scales::Centred(128), 2 * 34),
            Kind::Q4K => (8, 5, 4, Scales::Stepped, 144),
            Kind::Q5K => (8, 5, 5, Scales::Stepped, 176),
            Kind::Q6K => (8, 5, 6, Scales::Halved, 210),
        };
        Form {
            blocks,
            head,
            bits,
            scales,
            bytes,
        }
    }
}

impl Form {
    pub const fn inputs(self) -> usize {
        self.blocks * BLOCK
    }

    /// Lines of a block.
    pub const fn of_block(self) -> usize {
        self.bits as usize
    }

    pub const fn lines(self) -> usize {
        self.head + self.blocks * self.of_block()
    }

    /// Bytes of a unit in files.
    pub const fn bytes(self) -> usize {
        self.bytes
    }
}

impl Line {
    fn set_byte(&mut self, place: usize, byte: u8) {
        let shift = 8 * (place % 4);
        self.0[place / 4] = self.0[place / 4] & !(0xff << shift) | u32::from(byte) << shift;
    }

    fn byte(&self, place: usize) -> u8 {
        (self.0[place / 4] >> (8 * (place % 4))) as u8
    }

    fn set_half(&mut self, place: usize, bytes: &[u8]) {
        self.set_byte(2 * place, bytes[0]);
        self.set_byte(2 * place + 1, bytes[1]);
    }

    fn half(&self, place: usize) -> f32 {
        f16::from_le_bytes([self.byte(2 * place), self.byte(2 * place + 1)]).to_f32()
    }
}

/// Writes the bytes of a unit of one output to its lines, which must be zero. `lane` is the output's place in the
/// panel.
///
/// A row may end within a unit: then the other blocks stay zero, including their scales.
pub fn put(kind: Kind, lines: &mut [Line], lane: usize, bytes: &[u8]) {
    let form = kind.form();
    put_scales(kind, lines, lane, bytes);
    for block in 0..form.blocks * bytes.len() / form.bytes {
        let codes = codes(kind, bytes, block);
        let lines = &mut lines[form.head + block * form.of_block()..][..form.of_block()];
        let word = |byte: &dyn Fn(usize) -> u8| u32::from_le_bytes([0, 1, 2, 3].map(byte));
        if form.bits == 8 {
            for (step, line) in lines.iter_mut().enumerate() {
                line.0[lane] = word(&|input| codes[4 * step + input]);
            }
            continue;
        }
        for (step, line) in lines[..4].iter_mut().enumerate() {
            line.0[lane] = word(&|input| {
                let input = 4 * step + input;
                codes[input] & 15 | codes[HALF + input] << 4
            });
        }
        match form.bits {
            // Bit by bit, in the order of the steps.
            5 => {
                let bit = |step: usize, input: usize| codes[4 * step + input] >> 4 << step;
                lines[4].0[lane] = word(&|input| (0..8).fold(0, |all, step| all | bit(step, input)));
            }
            // In a line, of two steps: the two bits of one half and those of the other.
            6 => {
                for (pair, line) in lines[4..].iter_mut().enumerate() {
                    line.0[lane] = word(&|input| {
                        let two = |step: usize, half: usize| {
                            codes[HALF * half + 4 * (2 * pair + step) + input] >> 4 << (4 * step + 2 * half)
                        };
                        two(0, 0) | two(0, 1) | two(1, 0) | two(1, 1)
                    });
                }
            }
            _ => {}
        }
    }
}

fn put_scales(kind: Kind, lines: &mut [Line], lane: usize, bytes: &[u8]) {
    let form = kind.form();
    match form.scales {
        Scales::Centred(_) | Scales::Raised => {
            for (block, bytes) in bytes.chunks_exact(form.bytes / form.blocks).enumerate() {
                lines[0].set_half(block * LANES + lane, &bytes[..2]);
                if form.scales == Scales::Raised {
                    lines[1].set_half(block * LANES + lane, &bytes[2..4]);
                }
            }
        }
        Scales::Stepped => {
            lines[0].set_half(lane, &bytes[..2]);
            lines[0].set_half(LANES + lane, &bytes[2..4]);
            let packed = &bytes[4..16];
            for block in 0..form.blocks {
                // Six bits each; of the last four blocks, the upper two are stored above those of the first four.
                let (scale, least) = match block {
                    0..4 => (packed[block] & 63, packed[block + 4] & 63),
                    _ => (
                        packed[block + 4] & 15 | packed[block - 4] >> 6 << 4,
                        packed[block + 4] >> 4 | packed[block] >> 6 << 4,
                    ),
                };
                put_pair(lines, block, lane, [scale, least]);
            }
        }
        Scales::Halved => {
            lines[0].set_half(lane, &bytes[208..210]);
            for block in 0..form.blocks {
                put_pair(lines, block, lane, [bytes[192 + 2 * block], bytes[193 + 2 * block]]);
            }
        }
    }
}

/// Writes the two bytes of a block's scale.
fn put_pair(lines: &mut [Line], block: usize, lane: usize, pair: [u8; 2]) {
    for (number, byte) in pair.into_iter().enumerate() {
        lines[1 + block / 2].set_byte(32 * (block % 2) + LANES * number + lane, byte);
    }
}

/// The codes of a block, from the bytes of its unit.
fn codes(kind: Kind, bytes: &[u8], block: usize) -> [u8; BLOCK] {
    // Each small block has its own bytes.
    let own = |size: usize| &bytes[block * size..(block + 1) * size];
    let halves = |bytes: &[u8], input: usize| match input < HALF {
        true => bytes[input] & 15,
        false => bytes[input - HALF] >> 4,
    };
    let bit = |bits: &[u8], input: usize| bits[input / 8] >> (input % 8) & 1;
    // Two blocks of a large one share the bytes of their lower bits.
    let shared = |start: usize, input: usize| bytes[start + block / 2 * BLOCK + input] >> (4 * (block % 2)) & 15;
    std::array::from_fn(|input| match kind {
        Kind::Q4_0 => halves(&own(18)[2..], input),
        Kind::Q4_1 => halves(&own(20)[4..], input),
        Kind::Q5_0 => halves(&own(22)[6..], input) | bit(&own(22)[2..6], input) << 4,
        Kind::Q5_1 => halves(&own(24)[8..], input) | bit(&own(24)[4..8], input) << 4,
        Kind::Q8_0 => own(34)[2 + input] ^ 0x80,
        Kind::Q4K => shared(16, input),
        Kind::Q5K => shared(48, input) | (bytes[16 + input] >> block & 1) << 4,
        Kind::Q6K => {
            // Four blocks are interleaved: two in lower halves of bytes, two in upper ones.
            let (four, within) = (block / 4, block % 4);
            let lower = bytes[64 * four + BLOCK * (within % 2) + input] >> (4 * (within / 2)) & 15;
            lower | (bytes[128 + BLOCK * four + input] >> (2 * within) & 3) << 4
        }
    })
}

/// The values of a unit of one output.
pub fn take(kind: Kind, lines: &[Line], lane: usize, values: &mut [f32]) {
    let form = kind.form();
    for (input, value) in values.iter_mut().enumerate() {
        let (block, input) = (input / BLOCK, input % BLOCK);
        let code = f32::from(code(form, lines, lane, block, input));
        let byte = |place: usize| lines[1 + block / 2].byte(32 * (block % 2) + place + lane);
        let half = |line: usize, place: usize| lines[line].half(place * LANES + lane);
        *value = match form.scales {
            Scales::Centred(zero) => half(0, block) * (code - f32::from(zero)),
            Scales::Raised => half(0, block) * code + half(1, block),
            Scales::Stepped => half(0, 0) * f32::from(byte(0)) * code - half(0, 1) * f32::from(byte(LANES)),
            Scales::Halved => half(0, 0) * f32::from(byte(LANES * (input / HALF)) as i8) * (code - 32.0),
        };
    }
}

/// A block's scales in the first and second half of its inputs, and its offset, as kernels compute them, for
/// comparison.
#[cfg(test)]
pub fn worth(kind: Kind, lines: &[Line], lane: usize, block: usize) -> ([f32; 2], f32) {
    let byte = |place: usize| lines[1 + block / 2].byte(32 * (block % 2) + place + lane);
    let half = |line: usize, place: usize| lines[line].half(place * LANES + lane);
    match kind.form().scales {
        Scales::Centred(_) => ([half(0, block); 2], 0.0),
        Scales::Raised => ([half(0, block); 2], half(1, block)),
        Scales::Stepped => {
            let least = f32::from(byte(LANES)) * half(0, 1);
            ([f32::from(byte(0)) * half(0, 0); 2], 0.0 - least)
        }
        Scales::Halved => ([0, LANES].map(|place| f32::from(byte(place) as i8) * half(0, 0)), 0.0),
    }
}

/// The code of one input, from the lines of its unit.
pub fn code(form: Form, lines: &[Line], lane: usize, block: usize, input: usize) -> u8 {
    let lines = &lines[form.head + block * form.of_block()..];
    if form.bits == 8 {
        return lines[input / 4].byte(4 * lane + input % 4);
    }
    let (half, within) = (input / HALF, input % HALF);
    let (step, place) = (within / 4, 4 * lane + input % 4);
    let lower = lines[step].byte(place) >> (4 * half) & 15;
    lower
        | match form.bits {
            5 => (lines[4].byte(place) >> (input / 4) & 1) << 4,
            6 => (lines[4 + step / 2].byte(place) >> (4 * (step % 2) + 2 * half) & 3) << 4,
            _ => 0,
        }
}
