//! Transposes rows. Values are only moved, so the result is the same on every processor.
#![allow(unsafe_code)] // the processor's own instructions, on slices whose lengths are checked beforehand

/// Writes rows of equal length as columns: value `d` of row `l` to `out[d * width + l]`.
pub fn turn(rows: &[&[f32]], depth: usize, width: usize, out: &mut [f32]) {
    let fits = rows.iter().all(|row| row.len() >= depth);
    assert!(
        fits && rows.len() <= width && out.len() >= depth * width,
        "the rows do not fit"
    );
    if rows.len() < width {
        out[..depth * width].fill(0.0);
    }
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_mut, reason = "set by x86 loops only"))]
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        if let (&[a, b, c, d, e, f], 6) = (rows, width) {
            // Eight rows at a time: the last two are overwritten by the next column. The last columns have no next
            // one.
            let eight = [a, b, c, d, e, f, f, f];
            let mut whole = depth.saturating_sub(1) / 8 * 8;
            // SAFETY: the processor has AVX2; each row has more than `whole` values, and after the six places of each
            // of the first `whole` columns there are six of the next.
            unsafe { x86::turn8(&eight, whole, width, out.as_mut_ptr()) };
            if depth - whole == 8 {
                let (last, mut columns) = (eight.map(|row| &row[whole..depth]), [0.0; 8 * 6 + 2]);
                // SAFETY: the same for eight columns and room for one more.
                unsafe { x86::turn8(&last, 8, width, columns.as_mut_ptr()) };
                out[whole * width..depth * width].copy_from_slice(&columns[..48]);
                whole = depth;
            }
            for (column, d) in out[whole * width..depth * width].chunks_exact_mut(width).zip(whole..) {
                column.iter_mut().zip(rows).for_each(|(out, row)| *out = row[d]);
            }
            return;
        }
        let (eights, rest) = rows.as_chunks::<8>();
        let (fours, _) = rest.as_chunks::<4>();
        // SAFETY: the processor has AVX2; each row has `depth` values, and `out` has `width` places for each depth.
        unsafe {
            for eight in eights {
                x86::turn8(eight, depth, width, out.as_mut_ptr().add(done));
                done += 8;
            }
            for four in fours {
                x86::turn4(four, depth, width, out.as_mut_ptr().add(done));
                done += 4;
            }
        }
    }
    for (lane, row) in rows.iter().enumerate().skip(done) {
        for (d, &x) in row[..depth].iter().enumerate() {
            out[d * width + lane] = x;
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    /// # Safety
    /// The processor has AVX2; each row has `depth` values, and `out` has `width` places for each.
    #[target_feature(enable = "avx2")]
    pub unsafe fn turn8(rows: &[&[f32]; 8], depth: usize, width: usize, out: *mut f32) {
        let mut d = 0;
        // SAFETY: the caller's.
        unsafe {
            while d + 8 <= depth {
                let r = rows.map(|row| _mm256_loadu_ps(row.as_ptr().add(d)));
                let (a, b) = (_mm256_unpacklo_ps(r[0], r[1]), _mm256_unpackhi_ps(r[0], r[1]));
                let (c, e) = (_mm256_unpacklo_ps(r[2], r[3]), _mm256_unpackhi_ps(r[2], r[3]));
                let (f, g) = (_mm256_unpacklo_ps(r[4], r[5]), _mm256_unpackhi_ps(r[4], r[5]));
                let (h, i) = (_mm256_unpacklo_ps(r[6], r[7]), _mm256_unpackhi_ps(r[6], r[7]));
                let low = [
                    _mm256_shuffle_ps::<0x44>(a, c),
                    _mm256_shuffle_ps::<0xee>(a, c),
                    _mm256_shuffle_ps::<0x44>(b, e),
                    _mm256_shuffle_ps::<0xee>(b, e),
                ];
                let high = [
                    _mm256_shuffle_ps::<0x44>(f, h),
                    _mm256_shuffle_ps::<0xee>(f, h),
                    _mm256_shuffle_ps::<0x44>(g, i),
                    _mm256_shuffle_ps::<0xee>(g, i),
                ];
                // In order, since each column may overwrite the end of the previous one.
                for n in 0..4 {
                    let values = _mm256_permute2f128_ps::<0x20>(low[n], high[n]);
                    _mm256_storeu_ps(out.add((d + n) * width), values);
                }
                for n in 0..4 {
                    let values = _mm256_permute2f128_ps::<0x31>(low[n], high[n]);
                    _mm256_storeu_ps(out.add((d + n + 4) * width), values);
                }
                d += 8;
            }
            for d in d..depth {
                for (lane, row) in rows.iter().enumerate() {
                    *out.add(d * width + lane) = *row.as_ptr().add(d);
                }
            }
        }
    }

    /// # Safety
    /// As for eight.
    #[target_feature(enable = "avx2")]
    pub unsafe fn turn4(rows: &[&[f32]; 4], depth: usize, width: usize, out: *mut f32) {
        let mut d = 0;
        // SAFETY: the caller's.
        unsafe {
            while d + 4 <= depth {
                let [mut a, mut b, mut c, mut e] = rows.map(|row| _mm_loadu_ps(row.as_ptr().add(d)));
                _MM_TRANSPOSE4_PS(&mut a, &mut b, &mut c, &mut e);
                for (n, x) in [a, b, c, e].into_iter().enumerate() {
                    _mm_storeu_ps(out.add((d + n) * width), x);
                }
                d += 4;
            }
            for d in d..depth {
                for (lane, row) in rows.iter().enumerate() {
                    *out.add(d * width + lane) = *row.as_ptr().add(d);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize) -> Vec<f32> {
        (0..count).map(|n| (n * 7919 % 1000) as f32).collect()
    }

    #[test]
    fn rows_become_columns_whatever_their_number() {
        for (count, depth, width) in [
            (1, 1, 1),
            (6, 1, 6),
            (6, 8, 6),
            (6, 19, 6),
            (12, 8, 12),
            (13, 33, 16),
            (32, 64, 32),
            (31, 7, 32),
        ] {
            let all = values(count * depth);
            let rows: Vec<&[f32]> = all.chunks_exact(depth).collect();
            let mut out = vec![f32::NAN; depth * width];
            turn(&rows, depth, width, &mut out);
            for (place, &got) in out.iter().enumerate() {
                let (d, lane) = (place / width, place % width);
                let expected = rows.get(lane).map_or(0.0, |row| row[d]);
                assert_eq!(got, expected, "{count} rows of {depth}, place {place}");
            }
        }
    }
}
