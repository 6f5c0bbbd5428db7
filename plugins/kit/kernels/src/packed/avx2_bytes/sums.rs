//! The integer sums of a block's codes times x.
//!
//! All is inlined into functions that name the instructions.
#![allow(unsafe_code)] // the processor's instructions, on lines and words that `tile` counts
#![allow(clippy::needless_range_loop)] // an index selects from several arrays

use crate::packed::Line;
use crate::packed::layout::Form;
use std::arch::x86_64::*;

/// Registers of a panel.
pub const HALVES: usize = 2;
/// Words of all outputs of a panel.
type Both = [__m256i; HALVES];
/// Integer sums of each row.
pub type Sums<const COUNT: usize> = [Both; COUNT];

/// The bits of codes in each byte.
const LOW: i32 = 0x0f0f_0f0f;
const FIFTH: i32 = 0x1010_1010;
const UPPER: i32 = 0x3030_3030;

/// How often an innermost loop goes round. For several rows the compiler must not know: it would unroll the loop and
/// sum each row by itself, with more registers than there are.
#[inline(always)]
fn rounds<const COUNT: usize>(times: usize) -> usize {
    if COUNT == 1 { times } else { std::hint::black_box(times) }
}

/// # Safety
/// The processor has the instructions; the line exists.
#[inline(always)]
unsafe fn load(line: *const Line) -> Both {
    // SAFETY: the caller's.
    unsafe {
        [
            _mm256_load_si256(line.cast()),
            _mm256_load_si256(line.cast::<__m256i>().add(1)),
        ]
    }
}

/// Moves the bits of each word to the left and to the right, and keeps those of the mask.
///
/// # Safety
/// The processor has the instructions.
#[inline(always)]
unsafe fn moved(mut words: Both, left: i32, right: i32, mask: i32) -> Both {
    for words in &mut words {
        // SAFETY: the caller's.
        unsafe {
            *words = _mm256_sll_epi32(*words, _mm_cvtsi32_si128(left));
            *words = _mm256_srl_epi32(*words, _mm_cvtsi32_si128(right));
            *words = _mm256_and_si256(*words, _mm256_set1_epi32(mask));
        }
    }
    words
}

/// # Safety
/// The processor has the instructions.
#[inline(always)]
unsafe fn or(one: Both, two: Both) -> Both {
    // SAFETY: the caller's.
    unsafe { [_mm256_or_si256(one[0], two[0]), _mm256_or_si256(one[1], two[1])] }
}

/// # Safety
/// The processor has the instructions.
#[inline(always)]
unsafe fn none<const COUNT: usize>() -> Sums<COUNT> {
    // SAFETY: the caller's.
    unsafe { [[_mm256_setzero_si256(); HALVES]; COUNT] }
}

/// One of the instructions that multiply bytes.
pub trait Bytes {
    /// The code of q8_0 whose products count as 0 in the sums.
    const ZERO_OF_BYTES: i32;

    /// Adds the products of a step's codes and the words of COUNT rows.
    ///
    /// # Safety
    /// The processor has the instructions; the words exist.
    unsafe fn multiply<const COUNT: usize>(form: Form, sums: &mut Sums<COUNT>, codes: Both, words: *const u32);

    /// What has been added, in words.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn whole(form: Form, sum: __m256i) -> __m256i;
}

/// Products of pairs, summed in sixteen bits; those of q8_0 in words.
pub struct Twos;

impl Bytes for Twos {
    const ZERO_OF_BYTES: i32 = 0;

    #[inline(always)]
    unsafe fn multiply<const COUNT: usize>(form: Form, sums: &mut Sums<COUNT>, codes: Both, words: *const u32) {
        // SAFETY: the caller's.
        unsafe {
            let (mut sizes, mut weights) = (codes, codes);
            if form.bits == 8 {
                for half in 0..HALVES {
                    weights[half] = _mm256_xor_si256(codes[half], _mm256_set1_epi8(-128));
                    sizes[half] = _mm256_abs_epi8(weights[half]);
                }
            }
            for row in 0..COUNT {
                let four = _mm256_set1_epi32(*words.add(row) as i32);
                for half in 0..HALVES {
                    let sum = &mut sums[row][half];
                    if form.bits == 8 {
                        // The sum of two products is at most 2 * 128 * 127, which fits into sixteen bits.
                        let twos = _mm256_maddubs_epi16(sizes[half], _mm256_sign_epi8(four, weights[half]));
                        *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(twos, _mm256_set1_epi16(1)));
                    } else {
                        *sum = _mm256_add_epi16(*sum, _mm256_maddubs_epi16(codes[half], four));
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn whole(form: Form, sum: __m256i) -> __m256i {
        match form.bits {
            8 => sum,
            // SAFETY: the caller's.
            _ => unsafe { _mm256_madd_epi16(sum, _mm256_set1_epi16(1)) },
        }
    }
}

/// Products of four, summed in words.
pub struct Fours;

impl Bytes for Fours {
    const ZERO_OF_BYTES: i32 = 128;

    #[inline(always)]
    unsafe fn multiply<const COUNT: usize>(_: Form, sums: &mut Sums<COUNT>, codes: Both, words: *const u32) {
        for row in 0..COUNT {
            // SAFETY: the caller's.
            unsafe {
                let four = _mm256_set1_epi32(*words.add(row) as i32);
                for half in 0..HALVES {
                    sums[row][half] = _mm256_dpbusd_avx_epi32(sums[row][half], codes[half], four);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn whole(_: Form, sum: __m256i) -> __m256i {
        sum
    }
}

/// Adds what has been summed for some steps.
///
/// # Safety
/// The processor has the instructions.
#[inline(always)]
unsafe fn flush<const COUNT: usize, B: Bytes>(form: Form, sums: &mut Sums<COUNT>, some: Sums<COUNT>) {
    for row in 0..COUNT {
        for half in 0..HALVES {
            // SAFETY: the caller's.
            unsafe { sums[row][half] = _mm256_add_epi32(sums[row][half], B::whole(form, some[row][half])) };
        }
    }
}

/// Adds the products of four steps whose codes have four or five bits: of the first half of a block's inputs, or of
/// the LATER one.
///
/// # Safety
/// The processor has the instructions; the block's lines and the words of COUNT rows exist.
#[inline(always)]
unsafe fn four_steps<const LATER: i32, const COUNT: usize, B: Bytes>(
    form: Form,
    own: *const Line,
    words: *const u32,
    sums: &mut Sums<COUNT>,
) {
    // SAFETY: the caller's.
    unsafe {
        let words = words.add(4 * LATER as usize * COUNT);
        if form.bits == 4 {
            for step in 0..rounds::<COUNT>(4) {
                let codes = moved(load(own.add(step)), 0, 4 * LATER, LOW);
                B::multiply(form, sums, codes, words.add(step * COUNT));
            }
            return;
        }
        let mut fifth = moved(load(own.add(4)), 4 - 4 * LATER, 0, !0);
        for step in 0..rounds::<COUNT>(4) {
            let codes = moved(load(own.add(step)), 0, 4 * LATER, LOW);
            let codes = or(codes, moved(fifth, 0, 0, FIFTH));
            fifth = moved(fifth, 0, 1, !0);
            B::multiply(form, sums, codes, words.add(step * COUNT));
        }
    }
}

/// Integer sums of a block's codes times x: of the first half of its inputs and of the second if these have scales
/// of their own, else all in the first. `own` is where the block's lines begin.
///
/// Steps 0 to 3 are the first half of the inputs, 4 to 7 the second. Products are summed for so many steps as
/// sixteen bits have room for.
///
/// # Safety
/// The processor has the instructions; the block's lines and the words of COUNT rows exist.
#[inline(always)]
pub unsafe fn sums<const COUNT: usize, B: Bytes>(form: Form, own: *const Line, words: *const u32) -> [Sums<COUNT>; 2] {
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [none::<COUNT>(); 2];
        match form.bits {
            8 => {
                for step in 0..rounds::<COUNT>(8) {
                    B::multiply(form, &mut sums[0], load(own.add(step)), words.add(step * COUNT));
                }
            }
            4 => {
                let mut some = none(); // up to 8 * 2 * 15 * 127
                four_steps::<0, COUNT, B>(form, own, words, &mut some);
                four_steps::<1, COUNT, B>(form, own, words, &mut some);
                flush::<COUNT, B>(form, &mut sums[0], some);
            }
            5 => {
                let mut some = none(); // up to 4 * 2 * 31 * 127
                four_steps::<0, COUNT, B>(form, own, words, &mut some);
                flush::<COUNT, B>(form, &mut sums[0], some);
                let mut some = none();
                four_steps::<1, COUNT, B>(form, own, words, &mut some);
                flush::<COUNT, B>(form, &mut sums[0], some);
            }
            _ => {
                for pair in 0..rounds::<COUNT>(4) {
                    let (later, step) = (pair / 2, 2 * (pair % 2));
                    let shift = later as i32;
                    let upper = load(own.add(4 + step / 2));
                    let words = words.add(2 * pair * COUNT);
                    let mut some = none(); // up to 2 * 2 * 63 * 127
                    let codes = moved(load(own.add(step)), 0, 4 * shift, LOW);
                    let codes = or(codes, moved(upper, 4 - 2 * shift, 0, UPPER));
                    B::multiply(form, &mut some, codes, words);
                    let codes = moved(load(own.add(step + 1)), 0, 4 * shift, LOW);
                    let codes = or(codes, moved(upper, 0, 2 * shift, UPPER));
                    B::multiply(form, &mut some, codes, words.add(COUNT));
                    flush::<COUNT, B>(form, &mut sums[later], some);
                }
            }
        }
        sums
    }
}
