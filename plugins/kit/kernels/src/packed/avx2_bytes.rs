//! The tile of integers with AVX2, which multiplies pairs of bytes into sixteen bits; or with AVX-VNNI, which is
//! AVX-512's product of four bytes in registers of half the width.
//!
//! The sums of a block are exact integers; scaled, they are summed in the order of the AVX-512 kernel, so both give
//! the same bits.
#![allow(unsafe_code)] // the processor's instructions, on lines and words that `tile` counts
#![allow(clippy::needless_range_loop)] // an index selects from several arrays

use super::layout::{BLOCK, Kind, Some8};
use super::{LANES, Line};

/// Rows whose sums fit into sixteen registers beside the operands.
pub const ROWS: usize = 4;

pub fn has() -> bool {
    #[cfg(target_arch = "x86_64")]
    return super::avx2::has() && std::arch::is_x86_feature_detected!("f16c");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Computes `tile` (rows, 16) from a panel and some rows of x.
pub fn tile(kind: Kind, lines: &[Line], x: &Some8, tile: &mut [[f32; LANES]]) {
    let form = kind.form();
    let (units, rows) = (lines.len() / form.lines(), tile.len());
    let blocks = units * form.blocks;
    let counts = [
        x.words.len() / (BLOCK / 4),
        x.scales.len(),
        x.sums.len(),
        x.firsts.len(),
    ];
    assert!(
        has() && rows <= ROWS && counts == [blocks * rows; 4],
        "the words do not fit the tile"
    );
    #[cfg(target_arch = "x86_64")]
    {
        let fours = std::arch::is_x86_feature_detected!("avxvnni");
        macro_rules! with_rows {
            ($($kind:ident)*; $counts:tt) => { $(with_rows!(@ $kind $counts);)* };
            (@ $kind:ident [$($count:literal)*]) => {
                match (kind, rows, fours) {
                    $(
                        // SAFETY: the processor has the instructions, and the lines, words, scales and sums of all
                        // units and rows exist, as just checked.
                        (Kind::$kind, $count, false) => unsafe {
                            x86::by_twos::<{ Kind::$kind as usize }, $count>(units, lines, x, tile)
                        },
                        // SAFETY: the same.
                        (Kind::$kind, $count, true) => unsafe {
                            x86::by_fours::<{ Kind::$kind as usize }, $count>(units, lines, x, tile)
                        },
                    )*
                    _ => {}
                }
            };
        }
        with_rows!(Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q4K Q5K Q6K; [1 2 3 4]);
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{BLOCK, Kind, LANES, Line, Some8};
    use crate::packed::layout::{Form, Scales};
    use std::arch::x86_64::*;

    /// How many lines ahead to prefetch.
    const AHEAD: usize = 34;
    /// Outputs of a register; a panel has two registers.
    const WIDTH: usize = 8;
    const HALVES: usize = LANES / WIDTH;
    /// Integer sums of each row, for half a panel.
    type Sums<const COUNT: usize> = [__m256i; COUNT];

    /// How to decode a block's codes, for half a panel.
    struct Worth {
        /// Scales of the first and second half of the inputs; equal if a block has one scale.
        scales: [__m256; 2],
        /// An offset for each output: zero or negative.
        added: __m256,
    }

    /// Eight fp16 numbers in a quarter of a line.
    ///
    /// # Safety
    /// The processor has the features; the quarter is in bounds.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn of_halves(first: *const Line, quarter: usize) -> __m256 {
        // SAFETY: the caller's.
        unsafe { _mm256_cvtph_ps(_mm_load_si128(first.cast::<__m128i>().add(quarter))) }
    }

    /// For a block of the unit whose lines begin at `first`, and half of the panel.
    ///
    /// # Safety
    /// The processor has the features; the unit exists and has the block.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn worth(form: Form, first: *const Line, block: usize, half: usize) -> Worth {
        let none = _mm256_setzero_ps();
        // SAFETY: the caller's.
        unsafe {
            let eight = first.add(1).cast::<u8>().add(32 * block + WIDTH * half);
            let (one, two) = (
                || _mm_loadl_epi64(eight.cast()),
                || _mm_loadl_epi64(eight.add(LANES).cast()),
            );
            let plain = |bytes| _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
            let signed = |bytes| _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
            let of_block = |place: usize| of_halves(first, 2 * place + half);
            let (scales, added) = match form.scales {
                Scales::Centred(_) => ([of_block(block); 2], none),
                Scales::Raised => ([of_block(block); 2], of_block(2 + block)),
                Scales::Stepped => {
                    let least = _mm256_mul_ps(plain(two()), of_block(1));
                    (
                        [_mm256_mul_ps(plain(one()), of_block(0)); 2],
                        _mm256_sub_ps(none, least),
                    )
                }
                Scales::Halved => {
                    let of_unit = of_block(0);
                    let of_half = |bytes| _mm256_mul_ps(signed(bytes), of_unit);
                    ([of_half(one()), of_half(two())], none)
                }
            };
            Worth { scales, added }
        }
    }

    /// The codes in half a line of a block for the first or second half of the inputs. `own` is where the block's
    /// lines begin.
    ///
    /// # Safety
    /// The processor has the features; the block exists, has codes of less than eight bits, and has the step.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn codes(form: Form, own: *const Line, step: usize, half: usize, later: bool) -> __m256i {
        let low = _mm256_set1_epi32(0x0f0f_0f0f);
        let shift = |line, by: usize| _mm256_sll_epi32(line, _mm_cvtsi32_si128(by as i32));
        let back = |line, by: usize| _mm256_srl_epi32(line, _mm_cvtsi32_si128(by as i32));
        // SAFETY: the caller's.
        let line = |place: usize| unsafe { _mm256_load_si256(own.add(place).cast::<__m256i>().add(half)) };
        let both = line(step);
        let four = match later {
            false => _mm256_and_si256(both, low),
            true => _mm256_and_si256(_mm256_srli_epi32::<4>(both), low),
        };
        // Further bits are moved to their places.
        let with = |bits, mask: i32| _mm256_or_si256(four, _mm256_and_si256(bits, _mm256_set1_epi32(mask)));
        match (form.bits, later, step % 2) {
            (5, false, _) => with(shift(line(4), 4 - step), 0x1010_1010),
            (5, true, _) => with(back(line(4), step), 0x1010_1010),
            (6, false, 0) => with(shift(line(4 + step / 2), 4), 0x3030_3030),
            (6, false, _) => with(line(4 + step / 2), 0x3030_3030),
            (6, true, 0) => with(shift(line(4 + step / 2), 2), 0x3030_3030),
            (6, true, _) => with(back(line(4 + step / 2), 2), 0x3030_3030),
            _ => four,
        }
    }

    /// Sums neighbouring pairs of 16-bit numbers.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn pairs(sums: __m256i) -> __m256i {
        _mm256_madd_epi16(sums, _mm256_set1_epi16(1))
    }

    /// Adds a block's integer sums, scaled, to the sums of each row.
    ///
    /// # Safety
    /// The processor has the features; the unit exists and has the block; x has its scales and sums from `at`
    /// on.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn add<const COUNT: usize>(
        form: Form,
        (first, block, half): (*const Line, usize, usize),
        (x, at): (&Some8, usize),
        sums: [Sums<COUNT>; 2],
        zero_of_bytes: i32,
        totals: &mut [[f32; LANES]],
    ) {
        // SAFETY: the caller's; a row of totals has room for two registers.
        unsafe {
            let Worth { scales, added } = worth(form, first, block, half);
            for row in 0..COUNT {
                let total = totals.get_unchecked_mut(row).as_mut_ptr().add(WIDTH * half);
                let scale = *x.scales.as_ptr().add(at * COUNT + row);
                let all = *x.sums.as_ptr().add(at * COUNT + row);
                let [one, two] = [sums[0][row], sums[1][row]];
                // Codes are stored with an offset; its contribution to the sum is subtracted.
                let without = |sum, off: i32| _mm256_cvtepi32_ps(_mm256_sub_epi32(sum, _mm256_set1_epi32(off)));
                let mut value = _mm256_loadu_ps(total);
                match form.scales {
                    Scales::Halved => {
                        let begin = *x.firsts.as_ptr().add(at * COUNT + row);
                        let sum = _mm256_mul_ps(without(one, 32 * begin), scales[0]);
                        let sum = _mm256_fmadd_ps(without(two, 32 * (all - begin)), scales[1], sum);
                        value = _mm256_fmadd_ps(sum, _mm256_set1_ps(scale), value);
                    }
                    Scales::Centred(zero) => {
                        let zero = if form.bits == 8 { zero_of_bytes } else { i32::from(zero) };
                        let sum = without(_mm256_add_epi32(one, two), zero * all);
                        value = _mm256_fmadd_ps(_mm256_mul_ps(sum, _mm256_set1_ps(scale)), scales[0], value);
                    }
                    Scales::Stepped | Scales::Raised => {
                        let sum = _mm256_cvtepi32_ps(_mm256_add_epi32(one, two));
                        value = _mm256_fmadd_ps(_mm256_mul_ps(sum, _mm256_set1_ps(scale)), scales[0], value);
                        value = _mm256_fmadd_ps(_mm256_set1_ps(all as f32 * scale), added, value);
                    }
                }
                _mm256_storeu_ps(total, value);
            }
        }
    }

    macro_rules! product {
        ($name:ident, $features:literal, $sum:ident, $zero_of_bytes:literal) => {
            /// Computes the tile. `KIND` is a constant, so that each type gets its own code.
            ///
            /// # Safety
            /// The processor has the features; there are `lines`, `x` and rows of the tile for this many units and
            /// COUNT rows.
            #[target_feature(enable = $features)]
            pub unsafe fn $name<const KIND: usize, const COUNT: usize>(
                units: usize,
                lines: &[Line],
                x: &Some8,
                tile: &mut [[f32; LANES]],
            ) {
                let form = const { Kind::ALL[KIND].form() };
                tile.iter_mut().for_each(|row| *row = [0.0; LANES]);
                for unit in 0..units {
                    // SAFETY: each unit has its lines and its blocks with words, scales and sums of all rows;
                    // prefetches may be out of bounds.
                    unsafe {
                        let first = lines.as_ptr().add(unit * form.lines());
                        for block in 0..form.blocks {
                            let at = form.blocks * unit + block;
                            let words = x.words.as_ptr().add(at * BLOCK / 4 * COUNT);
                            let own = first.add(form.head + form.of_block() * block);
                            for line in 0..form.of_block() {
                                _mm_prefetch::<_MM_HINT_T0>(own.add(line).wrapping_add(AHEAD).cast());
                            }
                            for half in 0..HALVES {
                                let sums = $sum::<COUNT>(form, own, words, half);
                                add::<COUNT>(form, (first, block, half), (x, at), sums, $zero_of_bytes, tile);
                            }
                        }
                    }
                }
            }
        };
    }

    product!(by_twos, "avx2,fma,f16c", sums_by_twos, 0);
    product!(by_fours, "avx2,fma,f16c,avxvnni", sums_by_fours, 128);

    /// Integer sums of a block's codes times x, for half a panel: of the first half of its inputs, and of the second.
    /// For q8_0 all are in the first, and are sums of the weights themselves.
    ///
    /// # Safety
    /// The processor has the features; the block's lines and the words of COUNT rows exist.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn sums_by_twos<const COUNT: usize>(
        form: Form,
        own: *const Line,
        words: *const u32,
        half: usize,
    ) -> [Sums<COUNT>; 2] {
        let mut sums = [[_mm256_setzero_si256(); COUNT]; 2];
        // SAFETY: the caller's.
        let four = |step: usize, row: usize| _mm256_set1_epi32(unsafe { *words.add(step * COUNT + row) } as i32);
        if form.bits == 8 {
            for step in 0..8 {
                // SAFETY: the caller's.
                let codes = unsafe { _mm256_load_si256(own.add(step).cast::<__m256i>().add(half)) };
                let weights = _mm256_xor_si256(codes, _mm256_set1_epi8(-128));
                let sizes = _mm256_abs_epi8(weights);
                for row in 0..COUNT {
                    // The sum of two products is at most 2 * 128 * 127, which fits into sixteen bits.
                    let twos = _mm256_maddubs_epi16(sizes, _mm256_sign_epi8(four(step, row), weights));
                    sums[0][row] = _mm256_add_epi32(sums[0][row], pairs(twos));
                }
            }
            return sums;
        }
        // The sums of two products of this many steps fit into sixteen bits: 4 * 2 * 31 * 127, or 2 * 2 * 63 * 127.
        let together = if form.bits == 6 { 2 } else { 4 };
        for later in [false, true] {
            let sums = &mut sums[usize::from(later)];
            for start in (0..4).step_by(together) {
                let mut twos = [_mm256_setzero_si256(); COUNT];
                for step in start..start + together {
                    // SAFETY: the caller's.
                    let codes = unsafe { codes(form, own, step, half, later) };
                    for row in 0..COUNT {
                        let products = _mm256_maddubs_epi16(codes, four(step + 4 * usize::from(later), row));
                        twos[row] = _mm256_add_epi16(twos[row], products);
                    }
                }
                for row in 0..COUNT {
                    sums[row] = _mm256_add_epi32(sums[row], pairs(twos[row]));
                }
            }
        }
        sums
    }

    /// The same, but for q8_0 also of its codes.
    ///
    /// # Safety
    /// The same.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
    unsafe fn sums_by_fours<const COUNT: usize>(
        form: Form,
        own: *const Line,
        words: *const u32,
        half: usize,
    ) -> [Sums<COUNT>; 2] {
        let mut sums = [[_mm256_setzero_si256(); COUNT]; 2];
        // SAFETY: the caller's.
        let four = |step: usize, row: usize| _mm256_set1_epi32(unsafe { *words.add(step * COUNT + row) } as i32);
        for step in 0..8 {
            // SAFETY: the caller's.
            let codes = match form.bits {
                8 => unsafe { _mm256_load_si256(own.add(step).cast::<__m256i>().add(half)) },
                _ => unsafe { codes(form, own, step % 4, half, step >= 4) },
            };
            let sums = &mut sums[if form.bits == 8 { 0 } else { step / 4 }];
            for row in 0..COUNT {
                sums[row] = _mm256_dpbusd_avx_epi32(sums[row], codes, four(step, row));
            }
        }
        sums
    }
}
