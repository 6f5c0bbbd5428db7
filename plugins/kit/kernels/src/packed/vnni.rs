//! The tile of integers with AVX-512's product of four bytes.
#![allow(unsafe_code)] // the processor's instructions, on lines and words that `tile` counts
#![allow(clippy::needless_range_loop)] // an index selects from several arrays

use super::layout::{BLOCK, Kind, MOST_ROWS, Some8};
use super::{LANES, Line};

pub fn has() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx512f") && std::arch::is_x86_feature_detected!("avx512vnni");
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
        has() && rows <= MOST_ROWS && counts == [blocks * rows; 4],
        "the words do not fit the tile"
    );
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! with_rows {
            ($($kind:ident)*; $counts:tt) => { $(with_rows!(@ $kind $counts);)* };
            (@ $kind:ident [$($count:literal)*]) => {
                match (kind, rows) {
                    $(
                        // SAFETY: the processor has the instructions, and the lines, words, scales and sums of all
                        // units and rows exist, as just checked.
                        (Kind::$kind, $count) => unsafe {
                            x86::halves::<{ Kind::$kind as usize }, $count>(units, lines, x, tile)
                        },
                    )*
                    _ => {}
                }
            };
        }
        macro_rules! with_bytes {
            ($($count:literal)*) => {
                match (kind, rows) {
                    // SAFETY: the same.
                    $((Kind::Q8_0, $count) => unsafe { x86::bytes::<$count>(units, lines, x, tile) },)*
                    _ => {}
                }
            };
        }
        with_bytes!(1 2 3 4 5 6 7 8);
        with_rows!(Q4_0 Q4_1 Q5_0 Q5_1 Q4K Q5K Q6K; [1 2 3 4 5 6 7 8]);
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use super::{BLOCK, Kind, LANES, Line, Some8};
    use crate::packed::layout::{Form, Scales};
    use std::arch::x86_64::*;

    /// How many lines ahead to prefetch.
    const AHEAD: usize = 34;

    /// How to decode a block's codes.
    pub struct Worth {
        /// Scales of the first and second half of the inputs; equal if a block has one scale.
        pub scales: [__m512; 2],
        /// An offset for each output: zero or negative.
        pub added: __m512,
    }

    /// The fp16 numbers in half a line.
    ///
    /// # Safety
    /// The processor has the feature; the half is in bounds.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub unsafe fn of_halves(first: *const Line, place: usize) -> __m512 {
        // SAFETY: the caller's.
        unsafe { _mm512_cvtph_ps(_mm256_load_si256(first.cast::<__m256i>().add(place))) }
    }

    /// For a block of the unit whose lines begin at `first`; `of_unit` are the halves of the first line.
    ///
    /// # Safety
    /// The processor has the feature; the unit exists and has the block.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub unsafe fn worth(form: Form, of_unit: [__m512; 2], first: *const Line, block: usize) -> Worth {
        let none = _mm512_setzero_ps();
        // SAFETY: the caller's.
        unsafe {
            let pair = first.add(1).cast::<__m128i>().add(2 * block);
            let (one, two) = (|| _mm_load_si128(pair), || _mm_load_si128(pair.add(1)));
            let plain = |bytes| _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
            let signed = |bytes| _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
            let (scales, added) = match form.scales {
                Scales::Centred(_) => ([of_halves(first, block); 2], none),
                Scales::Raised => ([of_halves(first, block); 2], of_halves(first, 2 + block)),
                Scales::Stepped => {
                    let least = _mm512_mul_ps(plain(two()), of_unit[1]);
                    ([_mm512_mul_ps(plain(one()), of_unit[0]); 2], _mm512_sub_ps(none, least))
                }
                Scales::Halved => {
                    let of_half = |bytes| _mm512_mul_ps(signed(bytes), of_unit[0]);
                    ([of_half(one()), of_half(two())], none)
                }
            };
            Worth { scales, added }
        }
    }

    /// The codes in a line of a block for the first half of the inputs, and for the second. `own` is where the block's
    /// lines begin.
    ///
    /// # Safety
    /// The processor has the feature; the block exists, has codes of less than eight bits, and has the step.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub unsafe fn codes(form: Form, own: *const Line, step: usize) -> [__m512i; 2] {
        let low = _mm512_set1_epi32(0x0f0f_0f0f);
        let (fifth, both_upper) = (_mm512_set1_epi32(0x1010_1010), _mm512_set1_epi32(0x3030_3030));
        let shift = |line, by: usize| _mm512_sll_epi32(line, _mm_cvtsi32_si128(by as i32));
        let back = |line, by: usize| _mm512_srl_epi32(line, _mm_cvtsi32_si128(by as i32));
        // SAFETY: the caller's.
        let line = |place: usize| unsafe { _mm512_load_si512(own.add(place).cast()) };
        let both = line(step);
        let mut lower = _mm512_and_si512(both, low);
        let mut upper = _mm512_and_si512(_mm512_srli_epi32::<4>(both), low);
        // Further bits are moved to their places; 0xea is "the first and the second, or the third".
        if form.bits == 5 {
            let bits = line(4);
            lower = _mm512_ternarylogic_epi32::<0xea>(shift(bits, 4 - step), fifth, lower);
            upper = _mm512_ternarylogic_epi32::<0xea>(back(bits, step), fifth, upper);
        }
        if form.bits == 6 {
            let bits = line(4 + step / 2);
            let (here, there) = match step % 2 {
                0 => (shift(bits, 4), shift(bits, 2)),
                _ => (bits, back(bits, 2)),
            };
            lower = _mm512_ternarylogic_epi32::<0xea>(here, both_upper, lower);
            upper = _mm512_ternarylogic_epi32::<0xea>(there, both_upper, upper);
        }
        [lower, upper]
    }

    /// Codes that are bytes: q8_0.
    ///
    /// # Safety
    /// The processor has the features; there are `lines` and `x` for this many units and COUNT rows.
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub unsafe fn bytes<const COUNT: usize>(units: usize, lines: &[Line], x: &Some8, tile: &mut [[f32; LANES]]) {
        let mut totals = [_mm512_setzero_ps(); COUNT];
        for unit in 0..units {
            // SAFETY: each unit has its lines and two blocks with words, scales and sums of all rows; prefetches may
            // be out of bounds.
            unsafe {
                let first = lines.as_ptr().add(unit * Kind::Q8_0.form().lines());
                for block in 0..2 {
                    let at = 2 * unit + block;
                    let scales = of_halves(first, block);
                    let words = x.words.as_ptr().add(at * BLOCK / 4 * COUNT);
                    let mut sums = [_mm512_setzero_si512(); COUNT];
                    for row in 0..COUNT {
                        // Weights are stored 128 too high; the contribution to the sum is subtracted beforehand.
                        sums[row] = _mm512_set1_epi32(-128 * *x.sums.as_ptr().add(at * COUNT + row));
                    }
                    for step in 0..8 {
                        let line = first.add(1 + 8 * block + step);
                        _mm_prefetch::<_MM_HINT_T0>(line.wrapping_add(AHEAD).cast());
                        let weights = _mm512_load_si512(line.cast());
                        for row in 0..COUNT {
                            let four = _mm512_set1_epi32(*words.add(step * COUNT + row) as i32);
                            sums[row] = _mm512_dpbusd_epi32(sums[row], weights, four);
                        }
                    }
                    for row in 0..COUNT {
                        let scale = _mm512_set1_ps(*x.scales.as_ptr().add(at * COUNT + row));
                        let sum = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[row]), scale);
                        totals[row] = _mm512_fmadd_ps(sum, scales, totals[row]);
                    }
                }
            }
        }
        for (tile, total) in tile.iter_mut().zip(totals) {
            // SAFETY: a row of the tile holds one register.
            unsafe { _mm512_storeu_ps(tile.as_mut_ptr(), total) };
        }
    }

    /// Codes whose lower four bits lie in halves of bytes: all but q8_0. `KIND` is a constant, so that each type gets
    /// its own code.
    ///
    /// # Safety
    /// The processor has the features; there are `lines` and `x` for this many units and COUNT rows.
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub unsafe fn halves<const KIND: usize, const COUNT: usize>(
        units: usize,
        lines: &[Line],
        x: &Some8,
        tile: &mut [[f32; LANES]],
    ) {
        let form = const { Kind::ALL[KIND].form() };
        let mut totals = [_mm512_setzero_ps(); COUNT];
        for unit in 0..units {
            // SAFETY: each unit has its lines and its blocks with words, scales and sums of all rows; prefetches may
            // be out of bounds.
            unsafe {
                let first = lines.as_ptr().add(unit * form.lines());
                let of_unit = [of_halves(first, 0), of_halves(first, 1)];
                for block in 0..form.blocks {
                    let at = form.blocks * unit + block;
                    let words = x.words.as_ptr().add(at * BLOCK / 4 * COUNT);
                    let own = first.add(form.head + form.of_block() * block);
                    // A chain of sums for the first half of the inputs, and one for the second.
                    let mut sums = [[_mm512_setzero_si512(); 2]; COUNT];
                    for row in 0..COUNT {
                        // Codes are stored with an offset; its contribution to the sum is subtracted beforehand.
                        let all = *x.sums.as_ptr().add(at * COUNT + row);
                        match form.scales {
                            Scales::Centred(zero) => sums[row][0] = _mm512_set1_epi32(-i32::from(zero) * all),
                            Scales::Halved => {
                                let begin = *x.firsts.as_ptr().add(at * COUNT + row);
                                sums[row] = [_mm512_set1_epi32(-32 * begin), _mm512_set1_epi32(-32 * (all - begin))];
                            }
                            Scales::Raised | Scales::Stepped => {}
                        }
                    }
                    for step in 0..4 {
                        let line = own.add(step);
                        _mm_prefetch::<_MM_HINT_T0>(line.wrapping_add(AHEAD).cast());
                        let [lower, upper] = codes(form, own, step);
                        for row in 0..COUNT {
                            let four = _mm512_set1_epi32(*words.add(step * COUNT + row) as i32);
                            let later = _mm512_set1_epi32(*words.add((step + 4) * COUNT + row) as i32);
                            sums[row][0] = _mm512_dpbusd_epi32(sums[row][0], lower, four);
                            sums[row][1] = _mm512_dpbusd_epi32(sums[row][1], upper, later);
                        }
                    }
                    if form.bits > 4 {
                        _mm_prefetch::<_MM_HINT_T0>(own.add(4).wrapping_add(AHEAD).cast());
                    }
                    if form.bits > 5 {
                        _mm_prefetch::<_MM_HINT_T0>(own.add(5).wrapping_add(AHEAD).cast());
                    }
                    let Worth { scales, added } = worth(form, of_unit, first, block);
                    match form.scales {
                        Scales::Halved => {
                            for row in 0..COUNT {
                                let scale = _mm512_set1_ps(*x.scales.as_ptr().add(at * COUNT + row));
                                let sum = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[row][0]), scales[0]);
                                let sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[row][1]), scales[1], sum);
                                totals[row] = _mm512_fmadd_ps(sum, scale, totals[row]);
                            }
                        }
                        _ => {
                            for row in 0..COUNT {
                                let scale = *x.scales.as_ptr().add(at * COUNT + row);
                                let sum = _mm512_cvtepi32_ps(_mm512_add_epi32(sums[row][0], sums[row][1]));
                                let sum = _mm512_mul_ps(sum, _mm512_set1_ps(scale));
                                totals[row] = _mm512_fmadd_ps(sum, scales[0], totals[row]);
                                if matches!(form.scales, Scales::Stepped | Scales::Raised) {
                                    let all = *x.sums.as_ptr().add(at * COUNT + row) as f32 * scale;
                                    totals[row] = _mm512_fmadd_ps(_mm512_set1_ps(all), added, totals[row]);
                                }
                            }
                        }
                    }
                }
            }
        }
        for (tile, total) in tile.iter_mut().zip(totals) {
            // SAFETY: a row of the tile holds one register.
            unsafe { _mm512_storeu_ps(tile.as_mut_ptr(), total) };
        }
    }
}
