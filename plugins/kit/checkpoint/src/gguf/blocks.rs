//! Decodes the block types that candle does not: points of a grid (`iq`), two or three values (`q1_0`, `tq`), and
//! four-bit floating point (`mxfp4`, `nvfp4`).
//!
//! They become plain values, which are then stored as fp32 or bf16, or quantised.

use half::f16;

/// Appends the values of one block.
type Read = fn(&[u8], &mut Vec<f32>);

/// The supported types: number, values of a block, bytes of a block, and decoder.
const TYPES: [(u32, usize, usize, Read); 14] = [
    (16, 256, 66, iq2_xxs),
    (17, 256, 74, iq2_xs),
    (18, 256, 98, iq3_xxs),
    (19, 256, 50, iq1_s),
    (20, 32, 18, iq4_nl),
    (21, 256, 110, iq3_s),
    (22, 256, 82, iq2_s),
    (23, 256, 136, iq4_xs),
    (29, 256, 56, iq1_m),
    (34, 256, 54, tq1_0),
    (35, 256, 66, tq2_0),
    (39, 32, 17, mxfp4),
    (40, 64, 36, nvfp4),
    (41, 128, 18, q1_0),
];

/// Points of all grids, 16 bits each; `golden/blocks.py` wrote them.
static GRIDS: &[u8] = include_bytes!("grids.bin");
const IQ2_XXS: usize = 0;
const IQ2_XS: usize = 256;
const IQ2_S: usize = 768;
const IQ3_XXS: usize = 1792;
const IQ3_S: usize = 2048;
const IQ1: usize = 2560;

/// Twice the values of four-bit floating point.
const FP4: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];
const STEPS: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Values and bytes of a block.
pub(super) fn size(number: u32) -> Option<(u64, u64)> {
    let found = TYPES.iter().find(|(known, ..)| *known == number);
    found.map(|(_, values, bytes, _)| (*values as u64, *bytes as u64))
}

/// Whether blocks of the type with this number are supported.
pub fn reads(number: u32) -> bool {
    size(number).is_some()
}

/// The values of whole blocks, if the type is supported.
pub fn values(number: u32, bytes: &[u8]) -> Option<Vec<f32>> {
    let (_, values, size, read) = TYPES.iter().find(|(known, ..)| *known == number)?;
    let mut out = Vec::with_capacity(bytes.len() / size * values);
    bytes.chunks_exact(*size).for_each(|block| read(block, &mut out));
    Some(out)
}

fn point(grid: usize, index: usize) -> u16 {
    word(GRIDS, grid + index)
}

fn word(bytes: &[u8], number: usize) -> u16 {
    u16::from_le_bytes([bytes[2 * number], bytes[2 * number + 1]])
}

fn long(bytes: &[u8], number: usize) -> u32 {
    u32::from(word(bytes, 2 * number)) | u32::from(word(bytes, 2 * number + 1)) << 16
}

fn scale(bytes: &[u8]) -> f32 {
    f16::from_bits(word(bytes, 0)).to_f32()
}

/// Eight signs from seven bits: the number of negative signs is even.
fn signs(seven: u32) -> u8 {
    let seven = (seven & 127) as u8;
    seven | ((seven.count_ones() as u8 & 1) << 7)
}

fn signed(value: f32, signs: u8, at: usize) -> f32 {
    if signs >> at & 1 == 1 { -value } else { value }
}

/// Eight values at a grid point of three steps.
fn eight(scale: f32, point: u16, signs: u8, out: &mut Vec<f32>) {
    const MAP: [f32; 4] = [8.0, 25.0, 43.0, 0.0];
    out.extend((0..8).map(|at| signed(scale * MAP[usize::from(point >> (2 * at) & 3)], signs, at)));
}

/// Four values at a grid point of eight steps.
fn four(scale: f32, point: u16, map: [f32; 8], signs: u8, first: usize, out: &mut Vec<f32>) {
    out.extend((0..4).map(|at| signed(scale * map[usize::from(point >> (4 * at) & 7)], signs, first + at)));
}

fn iq2_xxs(block: &[u8], out: &mut Vec<f32>) {
    let (d, words) = (scale(block), &block[2..]);
    for group in 0..8 {
        let (points, last) = (long(words, 2 * group), long(words, 2 * group + 1));
        let scale = d * (0.5 + (last >> 28) as f32) * 0.25;
        for part in 0..4 {
            let index = (points >> (8 * part) & 255) as usize;
            eight(scale, point(IQ2_XXS, index), signs(last >> (7 * part)), out);
        }
    }
}

fn iq2_xs(block: &[u8], out: &mut Vec<f32>) {
    let (d, words, scales) = (scale(block), &block[2..66], &block[66..]);
    for number in 0..32 {
        let scale = d * (0.5 + f32::from(scales[number / 4] >> (4 * (number / 2 % 2)) & 15)) * 0.25;
        let word = word(words, number);
        let index = usize::from(word & 511);
        eight(scale, point(IQ2_XS, index), signs(u32::from(word >> 9)), out);
    }
}

fn iq2_s(block: &[u8], out: &mut Vec<f32>) {
    let (d, low, sign) = (scale(block), &block[2..34], &block[34..66]);
    let (high, scales) = (&block[66..74], &block[74..]);
    for number in 0..32 {
        let scale = d * (0.5 + f32::from(scales[number / 4] >> (4 * (number / 2 % 2)) & 15)) * 0.25;
        let index = usize::from(low[number]) | usize::from(high[number / 4] >> (2 * (number % 4)) & 3) << 8;
        eight(scale, point(IQ2_S, index), sign[number], out);
    }
}

fn iq3_xxs(block: &[u8], out: &mut Vec<f32>) {
    const MAP: [f32; 8] = [4.0, 12.0, 20.0, 28.0, 36.0, 44.0, 52.0, 62.0];
    let (d, points, words) = (scale(block), &block[2..66], &block[66..]);
    for (number, &index) in points.iter().enumerate() {
        let last = long(words, number / 8);
        let scale = d * (0.5 + (last >> 28) as f32) * 0.5;
        let sign = signs(last >> (7 * (number / 2 % 4)));
        four(scale, point(IQ3_XXS, index.into()), MAP, sign, 4 * (number % 2), out);
    }
}

fn iq3_s(block: &[u8], out: &mut Vec<f32>) {
    const MAP: [f32; 8] = [1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 15.0];
    let (d, low, high) = (scale(block), &block[2..66], &block[66..74]);
    let (sign, scales) = (&block[74..106], &block[106..]);
    for number in 0..64 {
        let scale = d * f32::from(1 + 2 * (scales[number / 16] >> (4 * (number / 8 % 2)) & 15));
        let index = usize::from(low[number]) | usize::from(high[number / 8] >> (number % 8) & 1) << 8;
        four(scale, point(IQ3_S, index), MAP, sign[number / 2], 4 * (number % 2), out);
    }
}

/// Eight ternary values, shifted by an eighth.
fn ternary(scale: f32, index: usize, down: bool, out: &mut Vec<f32>) {
    let (point, delta) = (point(IQ1, index), if down { -0.125 } else { 0.125 });
    out.extend((0..8).map(|at| scale * (f32::from(point >> (2 * at) & 3) - 1.0 + delta)));
}

fn iq1_s(block: &[u8], out: &mut Vec<f32>) {
    let (d, low, words) = (scale(block), &block[2..34], &block[34..]);
    for (number, &low) in low.iter().enumerate() {
        let high = word(words, number / 4);
        let scale = d * f32::from(2 * (high >> 12 & 7) + 1);
        let index = usize::from(low) | usize::from(high >> (3 * (number % 4)) & 7) << 8;
        ternary(scale, index, high & 0x8000 != 0, out);
    }
}

fn iq1_m(block: &[u8], out: &mut Vec<f32>) {
    let (low, high, scales) = (&block[..32], &block[32..48], &block[48..]);
    let bits = (0..4).fold(0, |bits, number| {
        bits | (word(scales, number) & 0xf000) >> (12 - 4 * number)
    });
    let d = f16::from_bits(bits).to_f32();
    for (number, &low) in low.iter().enumerate() {
        let scale = d * f32::from(2 * (word(scales, number / 8) >> (3 * (number / 2 % 4)) & 7) + 1);
        let high = high[number / 2] >> (4 * (number % 2));
        ternary(scale, usize::from(low) | usize::from(high & 7) << 8, high & 8 != 0, out);
    }
}

/// Two four-bit values in each byte: the lower halves of all bytes, then the upper ones.
fn halves(scale: f32, bytes: &[u8], steps: [i8; 16], out: &mut Vec<f32>) {
    let value = |nibble: u8| scale * f32::from(steps[usize::from(nibble)]);
    out.extend(bytes.iter().map(|byte| value(byte & 15)));
    out.extend(bytes.iter().map(|byte| value(byte >> 4)));
}

fn iq4_nl(block: &[u8], out: &mut Vec<f32>) {
    halves(scale(block), &block[2..], STEPS, out);
}

fn iq4_xs(block: &[u8], out: &mut Vec<f32>) {
    let (d, high, low) = (scale(block), word(block, 1), &block[4..8]);
    for group in 0..8 {
        let low = low[group / 2] >> (4 * (group % 2)) & 15;
        let six = u16::from(low) | (high >> (2 * group) & 3) << 4;
        let bytes = &block[8 + 16 * group..24 + 16 * group];
        halves(d * (f32::from(six) - 32.0), bytes, STEPS, out);
    }
}

fn tq1_0(block: &[u8], out: &mut Vec<f32>) {
    let d = scale(&block[52..]);
    let digits = |bytes: &[u8], count: usize, out: &mut Vec<f32>| {
        for power in [1u8, 3, 9, 27, 81].into_iter().take(count) {
            let digit = |byte: &u8| (u16::from(byte.wrapping_mul(power)) * 3) >> 8;
            out.extend(bytes.iter().map(|byte| d * (f32::from(digit(byte)) - 1.0)));
        }
    };
    digits(&block[..32], 5, out);
    digits(&block[32..48], 5, out);
    digits(&block[48..52], 4, out);
}

fn tq2_0(block: &[u8], out: &mut Vec<f32>) {
    let d = scale(&block[64..]);
    for bytes in block[..64].chunks_exact(32) {
        for shift in [0, 2, 4, 6] {
            out.extend(bytes.iter().map(|byte| d * (f32::from(byte >> shift & 3) - 1.0)));
        }
    }
}

fn mxfp4(block: &[u8], out: &mut Vec<f32>) {
    let exponent = u32::from(block[0]);
    let bits = if exponent < 2 {
        0x0020_0000 << exponent
    } else {
        (exponent - 1) << 23
    };
    halves(f32::from_bits(bits), &block[1..], FP4, out);
}

/// Four groups of sixteen values. The scale of the whole matrix is a separate tensor.
fn nvfp4(block: &[u8], out: &mut Vec<f32>) {
    for (scale, bytes) in block[..4].iter().zip(block[4..].chunks_exact(8)) {
        // Four bits of exponent and three of mantissa, never negative.
        let (exponent, mantissa) = (i32::from(scale >> 3 & 15), f32::from(scale & 7));
        let scale = match (scale, exponent) {
            (0x7f, _) => 0.0, // NaN
            (_, 0) => mantissa / 1024.0,
            _ => (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 8),
        };
        halves(scale, bytes, FP4, out);
    }
}

fn q1_0(block: &[u8], out: &mut Vec<f32>) {
    let d = scale(block);
    let of = |byte: u8| (0..8).map(move |bit| if byte >> bit & 1 == 1 { d } else { -d });
    out.extend(block[2..].iter().flat_map(|byte| of(*byte)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn bytes(hex: &Value) -> Vec<u8> {
        let hex = hex.as_str().unwrap();
        (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn blocks_stand_for_what_the_package_that_writes_them_says() {
        let recorded: Vec<Value> = serde_json::from_str(include_str!("../../golden/blocks.json")).unwrap();
        let number = |record: &Value| record["kind"].as_u64().unwrap() as u32;
        let here: Vec<Value> = recorded.into_iter().filter(|record| reads(number(record))).collect();
        assert_eq!(here.len(), TYPES.len());
        for record in here {
            let number = number(&record);
            let got = values(number, &bytes(&record["bytes"])).unwrap();
            let expected = bytes(&record["values"]);
            let expected: Vec<f32> = expected
                .as_chunks::<4>()
                .0
                .iter()
                .map(|four| f32::from_le_bytes(*four))
                .collect();
            assert_eq!(got, expected, "{}", record["name"]);
        }
    }
}
