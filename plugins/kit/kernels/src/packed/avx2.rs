//! The tile with AVX2, which cannot multiply bf16, so bf16 is widened in registers.
#![allow(unsafe_code)] // the processor's instructions, on lines and words whose number is checked

use super::rows::{SomeRows, Words};
use super::{Kind, Line, PANEL};

/// Rows whose sums fit into sixteen registers beside the operands: two registers of sums each, for half a panel.
/// Widened, bf16 weights take four registers.
pub fn rows(kind: Kind) -> usize {
    match kind {
        Kind::F32 => 6,
        Kind::Bf16 => 4,
    }
}

pub fn has() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Computes `tile` (rows, 32) from some groups of a panel and as many words of x.
pub fn tile(x: SomeRows, lines: &[Line], tile: &mut [[f32; PANEL]]) {
    let (count, stride) = (tile.len(), x.stride);
    let groups = x.groups(lines, count, rows(x.words.kind()));
    #[cfg(target_arch = "x86_64")]
    {
        let lines = lines.as_ptr();
        macro_rules! with_rows {
            ($words:ident $kernel:ident $($count:literal)*) => {
                match count {
                    // SAFETY: this kernel is chosen only if the processor has the instructions; `groups` checked that
                    // there are a word for each row and group and two lines for each group; `tile` has this many rows.
                    $($count => unsafe {
                        x86::$kernel::<$count>(groups, $words.as_ptr().cast(), stride, lines, tile)
                    },)*
                    _ => {}
                }
            };
        }
        match x.words {
            Words::F32(words) => with_rows!(words f32_tile 1 2 3 4 5 6),
            Words::Bf16(words) => with_rows!(words bf16_tile 1 2 3 4),
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    super::portable::tile(x, lines, tile);
}

/// Scores of queries (rows, size) and `count` keys that are `apart` values from each other, summed in the order of a
/// tile. They are written as rows of scores, whose starts are a fixed number of values apart.
pub fn scores(
    queries: &[f32],
    size: usize,
    (keys, apart, count): (&[f32], usize, usize),
    (scores, of_row): (&mut [f32], usize),
) {
    let rows = queries.len() / size.max(1);
    if rows == 0 || count == 0 {
        return;
    }
    let reaches = |len: usize, last: usize, apart: usize, end: usize| len >= last * apart + end;
    assert!(
        has() && reaches(keys.len(), count - 1, apart, size) && reaches(scores.len(), rows - 1, of_row, count),
        "keys or scores out of bounds"
    );
    #[cfg(target_arch = "x86_64")]
    for (number, queries) in queries.chunks(SCORED * size).enumerate() {
        let scores = &mut scores[number * SCORED * of_row..];
        macro_rules! with_rows {
            ($($count:literal)*) => {
                match queries.len() / size {
                    // SAFETY: the processor has the features; the queries, keys and scores are in bounds, as just
                    // checked.
                    $($count => unsafe {
                        x86::scores::<$count>(queries.as_ptr(), size, keys.as_ptr(), (apart, count), scores, of_row)
                    },)*
                    _ => {}
                }
            };
        }
        with_rows!(1 2 3 4);
    }
}

/// Queries whose sums fit into the registers beside the keys'.
#[cfg(target_arch = "x86_64")]
const SCORED: usize = 4;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Line, PANEL};
    use std::arch::x86_64::*;

    /// How many lines ahead to prefetch for so many rows; 0 to leave it to the processor, which does better for one row
    /// of fp32: it reads as fast as memory is.
    const fn ahead(inputs: usize, rows: usize) -> usize {
        match (rows, inputs) {
            (..=2, 1) => 0,
            (..=2, _) => 16,
            _ => 32,
        }
    }

    macro_rules! tile {
        ($name:ident, $pass:ident, $inputs:literal, $sum:expr) => {
            /// # Safety
            /// The processor has the features. Each row has `groups` words, rows are `stride` apart, and
            /// there are two `lines` for each group.
            #[target_feature(enable = "avx2,fma")]
            pub unsafe fn $name<const COUNT: usize>(
                groups: usize,
                words: *const u32,
                stride: usize,
                lines: *const Line,
                tile: &mut [[f32; PANEL]],
            ) {
                // SAFETY: the caller's; the second line of a group follows the first.
                unsafe {
                    if COUNT <= 2 {
                        // All sums fit into the registers, and memory is read in order.
                        $pass::<COUNT, 4>(groups, words, stride, lines, 0, tile);
                    } else {
                        $pass::<COUNT, 2>(groups, words, stride, lines, 0, tile);
                        $pass::<COUNT, 2>(groups, words, stride, lines.add(1), PANEL / 2, tile);
                    }
                }
            }

            /// The sums of VECTORS registers, which are outputs of the panel from `first` on.
            ///
            /// # Safety
            /// The same, with half of the panel's lines at least from `lines` on.
            #[inline]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn $pass<const COUNT: usize, const VECTORS: usize>(
                groups: usize,
                words: *const u32,
                stride: usize,
                lines: *const Line,
                first: usize,
                tile: &mut [[f32; PANEL]],
            ) {
                let mut sums = [[_mm256_setzero_ps(); VECTORS]; COUNT];
                for group in 0..groups {
                    let mut weights = [_mm256_setzero_si256(); VECTORS];
                    for (place, weights) in weights.iter_mut().enumerate() {
                        // SAFETY: `group` is below `groups`, so its lines and the words of all rows exist. Prefetches
                        // may be out of bounds.
                        *weights = unsafe {
                            let line = lines.add(2 * group);
                            let ahead = const { ahead($inputs, COUNT) };
                            if ahead > 0 && place % 2 == 0 {
                                _mm_prefetch::<_MM_HINT_T0>(line.wrapping_add(ahead + place / 2).cast());
                            }
                            _mm256_load_si256(line.cast::<__m256i>().add(place))
                        };
                    }
                    for row in 0..COUNT {
                        // SAFETY: the same.
                        let x = _mm256_set1_epi32(unsafe { *words.add(row * stride + group) } as i32);
                        for place in 0..VECTORS {
                            sums[row][place] = $sum(sums[row][place], weights[place], x);
                        }
                    }
                }
                for (tile, sums) in tile.iter_mut().zip(sums) {
                    for (place, sum) in sums.into_iter().enumerate() {
                        // SAFETY: a row of the tile holds four registers.
                        unsafe { _mm256_storeu_ps(tile[first..].as_mut_ptr().add(8 * place), sum) };
                    }
                }
            }
        };
    }

    tile!(f32_tile, f32_pass, 1, |sum, weights, x| _mm256_fmadd_ps(
        _mm256_castsi256_ps(weights),
        _mm256_castsi256_ps(x),
        sum
    ));
    tile!(bf16_tile, bf16_pass, 2, |sum, weights, x| {
        let lower = |words| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(words));
        let upper = |words| {
            _mm256_castsi256_ps(_mm256_and_si256(
                words,
                _mm256_set1_epi32(0xffff_0000_u32.cast_signed()),
            ))
        };
        let sum = _mm256_fmadd_ps(lower(weights), lower(x), sum);
        _mm256_fmadd_ps(upper(weights), upper(x), sum)
    });

    /// Keys whose scores are computed together: two registers, or the numbers of a cache line.
    const KEYS: usize = 16;

    /// # Safety
    /// The processor has the features. There are ROWS queries, `count` keys that are `apart` values from each
    /// other, and `count` scores in each row.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn scores<const ROWS: usize>(
        queries: *const f32,
        size: usize,
        keys: *const f32,
        (apart, count): (usize, usize),
        scores: &mut [f32],
        of_row: usize,
    ) {
        for first in (0..count).step_by(KEYS) {
            // Past the last key, repeat the last one.
            let key = |number: usize| keys.wrapping_add((first + number).min(count - 1) * apart);
            let keys: [*const f32; KEYS] = std::array::from_fn(key);
            let mut sums = [[_mm256_setzero_ps(); 2]; ROWS];
            for start in (0..size).step_by(4) {
                // Prefetches a line of each of the next keys: the hardware does not predict parallel reads.
                for near in 0..4 {
                    let line = keys[start % KEYS + near].wrapping_add(KEYS * apart + start / KEYS * KEYS);
                    _mm_prefetch::<_MM_HINT_T0>(line.cast());
                }
                for half in 0..2 {
                    let some: &[*const f32; 8] = keys[8 * half..].first_chunk().unwrap_or_else(|| unreachable!());
                    // SAFETY: all keys have four numbers from here on, or as many as are left.
                    let columns = unsafe { turned(some, start, (size - start).min(4)) };
                    for (number, column) in columns.into_iter().enumerate().take(size - start) {
                        for (row, sums) in sums.iter_mut().enumerate() {
                            // SAFETY: the place is below `size`.
                            let q = _mm256_set1_ps(unsafe { *queries.add(row * size + start + number) });
                            sums[half] = _mm256_fmadd_ps(column, q, sums[half]);
                        }
                    }
                }
            }
            let some = KEYS.min(count - first);
            for (row, sums) in sums.into_iter().enumerate() {
                let mut line = [0f32; KEYS];
                // SAFETY: there is room for two registers.
                unsafe {
                    _mm256_storeu_ps(line.as_mut_ptr(), sums[0]);
                    _mm256_storeu_ps(line.as_mut_ptr().add(8), sums[1]);
                }
                scores[row * of_row + first..][..some].copy_from_slice(&line[..some]);
            }
        }
    }

    /// Transposes these numbers of eight keys.
    ///
    /// # Safety
    /// The processor has the features, and each key has this many numbers from `start` on.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn turned(keys: &[*const f32; 8], start: usize, count: usize) -> [__m256; 4] {
        if count < 4 {
            // SAFETY: the caller's.
            let number = |key: usize, place: usize| {
                if place < count {
                    unsafe { *keys[key].add(start + place) }
                } else {
                    0.0
                }
            };
            return std::array::from_fn(|place| {
                let values: [f32; 8] = std::array::from_fn(|key| number(key, place));
                // SAFETY: the array has eight numbers.
                unsafe { _mm256_loadu_ps(values.as_ptr()) }
            });
        }
        // SAFETY: the caller's.
        let four = |key: usize| unsafe { _mm_loadu_ps(keys[key].add(start)) };
        let two = |key: usize| _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(four(key)), four(key + 4));
        let (lower, upper) = ((two(0), two(1)), (two(2), two(3)));
        let (a, b) = (
            _mm256_unpacklo_ps(lower.0, lower.1),
            _mm256_unpackhi_ps(lower.0, lower.1),
        );
        let (c, d) = (
            _mm256_unpacklo_ps(upper.0, upper.1),
            _mm256_unpackhi_ps(upper.0, upper.1),
        );
        [
            _mm256_shuffle_ps::<0x44>(a, c),
            _mm256_shuffle_ps::<0xee>(a, c),
            _mm256_shuffle_ps::<0x44>(b, d),
            _mm256_shuffle_ps::<0xee>(b, d),
        ]
    }
}
