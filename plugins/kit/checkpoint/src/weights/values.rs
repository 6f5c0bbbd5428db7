//! Decodes numbers from bytes, and draws random ones.

use crate::Result;
use rayon::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::ops::Range;

/// The bytes of some rows of a matrix.
pub(super) fn rows_of<'a>(view: &TensorView<'a>, rows: Range<usize>) -> Result<&'a [u8]> {
    let all = view.shape().first().copied().unwrap_or(0).max(1);
    let of_row = view.data().len() / all;
    let bytes = view.data().get(rows.start * of_row..rows.end * of_row);
    bytes.ok_or_else(|| candle_core::Error::Msg(format!("rows {rows:?} of {all}")).into())
}

pub(super) fn widened(dtype: Dtype, bytes: &[u8]) -> Result<Vec<f32>> {
    let (pairs, _) = bytes.as_chunks::<2>();
    let (fours, _) = bytes.as_chunks::<4>();
    Ok(match dtype {
        Dtype::F32 => fours.iter().map(|four| f32::from_le_bytes(*four)).collect(),
        Dtype::BF16 => pairs
            .iter()
            .map(|two| half::bf16::from_le_bytes(*two).to_f32())
            .collect(),
        Dtype::F16 => pairs
            .iter()
            .map(|two| half::f16::from_le_bytes(*two).to_f32())
            .collect(),
        other => return Err(candle_core::Error::Msg(format!("values of {other:?} are not supported")).into()),
    })
}

/// Part of an endless random tensor: mean 0, deviation 0.02, determined by its name.
pub(super) fn random(name: &str, places: Range<usize>) -> Vec<f32> {
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    const DEVIATION: f32 = 0.02;
    let value = |place: usize| {
        // The mixing function of splitmix64.
        let mut bits = (seed ^ place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let unit = ((bits ^ (bits >> 31)) >> 40) as f32 / (1u32 << 24) as f32;
        (unit - 0.5) * 12f32.sqrt() * DEVIATION
    };
    places.into_par_iter().with_min_len(1 << 16).map(value).collect()
}
