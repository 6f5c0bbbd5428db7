//! The tile from integer sums: what scales and offsets make of them.
//!
//! `by_twos` and `by_fours` alone name the instructions. What they call is inlined into them: helpers that were
//! functions of their own would pass registers through memory.
#![allow(unsafe_code)] // the processor's instructions, on lines and words that `tile` counts
#![allow(clippy::needless_range_loop)] // an index selects from several arrays

use super::sums::{Bytes, Fours, HALVES, Sums, Twos, sums};
use crate::packed::layout::{BLOCK, Form, Kind, Scales, Some8};
use crate::packed::{LANES, Line};
use std::arch::x86_64::*;

/// How many lines ahead to prefetch: one row is then read as fast as memory is.
const fn ahead(form: Form) -> usize {
    if form.bits == 8 { 34 } else { 68 }
}

/// Outputs of a register.
const WIDTH: usize = LANES / HALVES;

/// How to decode a block's codes, for half a panel.
struct Worth {
    /// Scales of the first and second half of the inputs; equal if a block has one scale.
    scales: [__m256; 2],
    /// An offset for each output: zero or negative.
    added: __m256,
}

/// What a block's rows of x contribute to each output alike.
struct Shared<const COUNT: usize> {
    /// What the offset of the codes adds to the sums of the first half of the inputs, and of the second. If a block
    /// has one scale, the first number is for the whole block.
    excess: [[i32; COUNT]; 2],
    /// The sum of x, scaled: what the offset of the values is multiplied by.
    sums: [f32; COUNT],
}

/// # Safety
/// x has scales and sums of COUNT rows from `at` on.
#[inline(always)]
unsafe fn shared<const COUNT: usize>(form: Form, x: &Some8, at: usize, zero_of_bytes: i32) -> Shared<COUNT> {
    let mut shared = Shared {
        excess: [[0; COUNT]; 2],
        sums: [0.0; COUNT],
    };
    for row in 0..COUNT {
        // SAFETY: the caller's.
        let [all, first] = [x.sums, x.firsts].map(|sums| unsafe { *sums.as_ptr().add(at * COUNT + row) });
        match form.scales {
            Scales::Halved => {
                shared.excess[0][row] = 32 * first;
                shared.excess[1][row] = 32 * (all - first);
            }
            Scales::Centred(_) if form.bits == 8 => shared.excess[0][row] = zero_of_bytes * all,
            Scales::Centred(zero) => shared.excess[0][row] = i32::from(zero) * all,
            // SAFETY: the caller's.
            Scales::Stepped | Scales::Raised => unsafe {
                shared.sums[row] = all as f32 * *x.scales.as_ptr().add(at * COUNT + row);
            },
        }
    }
    shared
}

/// Eight fp16 numbers in a quarter of a line.
///
/// # Safety
/// The processor has the instructions; the quarter is in bounds.
#[inline(always)]
unsafe fn of_halves(first: *const Line, quarter: usize) -> __m256 {
    // SAFETY: the caller's.
    unsafe { _mm256_cvtph_ps(_mm_load_si128(first.cast::<__m128i>().add(quarter))) }
}

/// For a block of the unit whose lines begin at `first`, and half of the panel.
///
/// # Safety
/// The processor has the instructions; the unit exists and has the block.
#[inline(always)]
unsafe fn worth(form: Form, first: *const Line, block: usize, half: usize) -> Worth {
    // SAFETY: the caller's.
    unsafe {
        let none = _mm256_setzero_ps();
        let eight = first.add(1).cast::<u8>().add(32 * block + WIDTH * half);
        let later = eight.add(LANES);
        let of_block = 2 * block + half;
        let (scales, added) = match form.scales {
            Scales::Centred(_) => ([of_halves(first, of_block); 2], none),
            Scales::Raised => ([of_halves(first, of_block); 2], of_halves(first, 4 + of_block)),
            Scales::Stepped => {
                let step = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(eight.cast())));
                let least = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(later.cast())));
                let least = _mm256_mul_ps(least, of_halves(first, 2 + half));
                (
                    [_mm256_mul_ps(step, of_halves(first, half)); 2],
                    _mm256_sub_ps(none, least),
                )
            }
            Scales::Halved => {
                let of_unit = of_halves(first, half);
                let [one, two] =
                    [eight, later].map(|bytes| _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(bytes.cast()))));
                ([_mm256_mul_ps(one, of_unit), _mm256_mul_ps(two, of_unit)], none)
            }
        };
        Worth { scales, added }
    }
}

/// Adds a block's integer sums, scaled, to the totals of each row; `scales` are those of x.
///
/// # Safety
/// The processor has the instructions; there are scales of COUNT rows, and the totals have room.
#[inline(always)]
unsafe fn add<const COUNT: usize>(
    form: Form,
    worth: Worth,
    shared: &Shared<COUNT>,
    scales: *const f32,
    sums: &[Sums<COUNT>; 2],
    totals: *mut [f32; LANES],
    half: usize,
) {
    // SAFETY: the caller's; a row of totals has room for two registers.
    unsafe {
        for row in 0..COUNT {
            let total = totals.add(row).cast::<f32>().add(WIDTH * half);
            let scale = _mm256_set1_ps(*scales.add(row));
            let [one, two] = [0, 1].map(|part: usize| {
                let excess = _mm256_set1_epi32(shared.excess[part][row]);
                _mm256_cvtepi32_ps(_mm256_sub_epi32(sums[part][row][half], excess))
            });
            let mut value = _mm256_loadu_ps(total);
            match form.scales {
                Scales::Halved => {
                    let sum = _mm256_mul_ps(one, worth.scales[0]);
                    let sum = _mm256_fmadd_ps(two, worth.scales[1], sum);
                    value = _mm256_fmadd_ps(sum, scale, value);
                }
                Scales::Centred(_) => {
                    value = _mm256_fmadd_ps(_mm256_mul_ps(one, scale), worth.scales[0], value);
                }
                Scales::Stepped | Scales::Raised => {
                    value = _mm256_fmadd_ps(_mm256_mul_ps(one, scale), worth.scales[0], value);
                    value = _mm256_fmadd_ps(_mm256_set1_ps(shared.sums[row]), worth.added, value);
                }
            }
            _mm256_storeu_ps(total, value);
        }
    }
}

/// Computes the tile.
///
/// # Safety
/// The processor has the instructions; there are `lines`, `x` and rows of the tile for this many units and COUNT
/// rows.
#[inline(always)]
unsafe fn product<const COUNT: usize, B: Bytes>(
    form: Form,
    units: usize,
    lines: &[Line],
    x: &Some8,
    tile: &mut [[f32; LANES]],
) {
    tile.iter_mut().for_each(|row| *row = [0.0; LANES]);
    for unit in 0..units {
        // SAFETY: each unit has its lines and its blocks with words, scales and sums of all rows; prefetches may be
        // out of bounds.
        unsafe {
            let first = lines.as_ptr().add(unit * form.lines());
            for block in 0..form.blocks {
                let at = form.blocks * unit + block;
                let words = x.words.as_ptr().add(at * BLOCK / 4 * COUNT);
                let scales = x.scales.as_ptr().add(at * COUNT);
                let own = first.add(form.head + form.of_block() * block);
                for line in 0..form.of_block() {
                    _mm_prefetch::<_MM_HINT_T0>(own.add(line).wrapping_add(ahead(form)).cast());
                }
                let sums = sums::<COUNT, B>(form, own, words);
                let shared = shared::<COUNT>(form, x, at, B::ZERO_OF_BYTES);
                for half in 0..HALVES {
                    let worth = worth(form, first, block, half);
                    add::<COUNT>(form, worth, &shared, scales, &sums, tile.as_mut_ptr(), half);
                }
            }
        }
    }
}

macro_rules! with_instructions {
    ($name:ident, $features:literal, $bytes:ty) => {
        /// Computes the tile. `KIND` is a constant, so that each type gets its own code.
        ///
        /// # Safety
        /// The processor has the features; the rest as for `product`.
        #[target_feature(enable = $features)]
        pub unsafe fn $name<const KIND: usize, const COUNT: usize>(
            units: usize,
            lines: &[Line],
            x: &Some8,
            tile: &mut [[f32; LANES]],
        ) {
            let form = const { Kind::ALL[KIND].form() };
            // SAFETY: the caller's.
            unsafe { product::<COUNT, $bytes>(form, units, lines, x, tile) }
        }
    };
}

with_instructions!(by_twos, "avx2,fma,f16c", Twos);
with_instructions!(by_fours, "avx2,fma,f16c,avxvnni", Fours);

#[cfg(test)]
mod tests {
    use super::*;

    /// AVX-VNNI's instruction in plain arithmetic: few processors have it.
    struct ByHand;

    impl Bytes for ByHand {
        const ZERO_OF_BYTES: i32 = Fours::ZERO_OF_BYTES;

        unsafe fn multiply<const COUNT: usize>(
            _: Form,
            sums: &mut Sums<COUNT>,
            codes: [__m256i; HALVES],
            words: *const u32,
        ) {
            for row in 0..COUNT {
                // SAFETY: the caller's; registers and arrays of eight words have the same bits.
                let four = unsafe { *words.add(row) }.to_le_bytes().map(u8::cast_signed);
                for half in 0..HALVES {
                    let codes: [[u8; 4]; WIDTH] = unsafe { std::mem::transmute(codes[half]) };
                    let mut words: [i32; WIDTH] = unsafe { std::mem::transmute(sums[row][half]) };
                    for (sum, codes) in words.iter_mut().zip(codes) {
                        *sum += (0..4).map(|n| i32::from(codes[n]) * i32::from(four[n])).sum::<i32>();
                    }
                    sums[row][half] = unsafe { std::mem::transmute::<[i32; WIDTH], __m256i>(words) };
                }
            }
        }

        unsafe fn whole(_: Form, sum: __m256i) -> __m256i {
            sum
        }
    }

    with_instructions!(by_hand, "avx2,fma,f16c", ByHand);

    #[test]
    fn products_of_four_bytes_give_the_bits_of_products_of_two() {
        if !super::super::has() {
            return;
        }
        const UNITS: usize = 3;
        const COUNT: usize = 4;
        fn compare<const KIND: usize>() {
            let form = Kind::ALL[KIND].form();
            let mut seed = 1 + KIND as u32;
            let mut next = || {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                seed >> 8
            };
            let mut lines = vec![Line([0; LANES]); UNITS * form.lines()];
            for (place, line) in lines.iter_mut().enumerate() {
                // Lines with fp16 numbers get small ones.
                let small = place % form.lines() < form.head.min(2);
                line.0.fill_with(|| match small {
                    true => 0x2c00_2c00 | next() & 0x03ff_03ff,
                    false => next() << 16 ^ next(),
                });
            }
            let blocks = UNITS * form.blocks;
            let bytes: Vec<i8> = (0..blocks * BLOCK * COUNT)
                .map(|_| (next() % 255) as i8)
                .map(|byte| byte.max(-127))
                .collect();
            let words: Vec<u32> = bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|four| u32::from_le_bytes(four.map(i8::cast_unsigned)))
                .collect();
            let sum = |block: usize, row: usize, steps: std::ops::Range<usize>| -> i32 {
                let word = |step: usize| (block * BLOCK / 4 + step) * COUNT + row;
                steps
                    .flat_map(|step| &bytes[4 * word(step)..][..4])
                    .map(|&x| i32::from(x))
                    .sum()
            };
            let of_rows = |steps: std::ops::Range<usize>| -> Vec<i32> {
                let places = (0..blocks).flat_map(|block| (0..COUNT).map(move |row| (block, row)));
                places.map(|(block, row)| sum(block, row, steps.clone())).collect()
            };
            let (sums, firsts) = (of_rows(0..8), of_rows(0..4));
            let scales: Vec<f32> = (0..blocks * COUNT).map(|n| 0.01 + n as f32 * 1e-3).collect();
            let x = Some8 {
                words: &words,
                scales: &scales,
                sums: &sums,
                firsts: &firsts,
            };
            let (mut twos, mut fours) = ([[0.0; LANES]; COUNT], [[0.0; LANES]; COUNT]);
            // SAFETY: the processor has the instructions, and all units and rows are there.
            unsafe {
                by_twos::<KIND, COUNT>(UNITS, &lines, &x, &mut twos);
                by_hand::<KIND, COUNT>(UNITS, &lines, &x, &mut fours);
            }
            assert!(twos.as_flattened().iter().all(|x| x.is_finite()));
            assert_eq!(twos, fours, "{:?}", Kind::ALL[KIND]);
        }
        compare::<0>();
        compare::<1>();
        compare::<2>();
        compare::<3>();
        compare::<4>();
        compare::<5>();
        compare::<6>();
        compare::<7>();
    }
}
