//! fp32 to bf16, two numbers to a word.

use pulp::NullaryFnOnce;

/// Rounds a row to bf16.
pub(super) struct Round<'a> {
    pub x: &'a [f32],
    pub words: &'a mut [u32],
}

impl NullaryFnOnce for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        round(self.x, self.words);
    }
}

/// Two to a word. Inlined into functions that are compiled for the processor's registers.
#[inline(always)]
pub(super) fn round(x: &[f32], words: &mut [u32]) {
    let (pairs, rest) = x.as_chunks::<2>();
    for (word, [low, high]) in words.iter_mut().zip(pairs) {
        *word = bf16_bits(*low) | bf16_bits(*high) << 16;
    }
    if let ([last], Some(word)) = (rest, words.get_mut(pairs.len())) {
        *word = bf16_bits(*last);
    }
}

/// To the nearest, ties to even. Without branches, so that it is vectorised.
#[inline(always)]
pub(super) fn bf16_bits(x: f32) -> u32 {
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    let none = bits >> 16 | 0x40; // stays NaN, which rounding up could turn into infinity
    if bits & 0x7fff_ffff > 0x7f80_0000 {
        none
    } else {
        nearest
    }
}
