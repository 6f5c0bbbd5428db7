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

/// How many lines ahead to prefetch.
const AHEAD: usize = 34;
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
                    _mm_prefetch::<_MM_HINT_T0>(own.add(line).wrapping_add(AHEAD).cast());
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
