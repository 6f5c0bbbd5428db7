//! Integer products of a block of rows, which are then scaled.
#![allow(unsafe_code)] // the processor's instructions, on lines and words whose number is checked

use super::tiles::Tiles;
use super::{BLOCK, ROWS};
use crate::packed::layout::{self, Form, Scales};
use crate::packed::output_block::Corner;
use crate::packed::{LANES, Line};
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use std::arch::asm;

/// Blocks of inputs that are computed at a time.
pub const SOME: usize = 8;
/// Lines of a block's codes, and words of a row of x.
const WORDS: usize = layout::BLOCK / 4;

/// Integer sums of a step, for each row and output.
type Sums = [[i32; LANES]; BLOCK];

/// Tiles for blocks of this many rows, and for steps of a whole block of inputs, or half of one.
pub struct Bytes {
    rows: usize,
    words: usize,
    /// Sums of each step in turn.
    sums: Box<[Sums; 2 * SOME]>,
    _tiles: Tiles,
}

/// Rows of x in eight bits, each row contiguous: for each block its words, its scale and the sum of its numbers.
#[derive(Clone, Copy)]
pub struct X<'a> {
    pub words: &'a [u32],
    pub scales: &'a [f32],
    pub sums: &'a [i32],
    /// Blocks of a row.
    pub blocks: usize,
}

impl<'a> X<'a> {
    /// The part from this row and block on.
    pub fn from(&self, row: usize, block: usize) -> X<'a> {
        let first = row * self.blocks + block;
        X {
            words: &self.words[first * WORDS..],
            scales: &self.scales[first..],
            sums: &self.sums[first..],
            blocks: self.blocks,
        }
    }

    /// Whether there are this many blocks of this many rows.
    fn holds(&self, rows: usize, blocks: usize) -> bool {
        let count = (rows - 1) * self.blocks + blocks;
        blocks <= self.blocks && self.words.len() >= count * WORDS && self.scales.len().min(self.sums.len()) >= count
    }
}

/// Some blocks of a panel, with codes as signed bytes.
pub struct Unpacked {
    blocks: usize,
    codes: [Line; SOME * WORDS],
    /// Scales, for each half of a block.
    scales: [[[f32; LANES]; 2]; SOME],
    /// The offset for each input.
    added: [[f32; LANES]; SOME],
}

impl Unpacked {
    pub fn empty() -> Unpacked {
        Unpacked {
            blocks: 0,
            codes: [Line([0; LANES]); SOME * WORDS],
            scales: [[[0.0; LANES]; 2]; SOME],
            added: [[0.0; LANES]; SOME],
        }
    }

    /// Unpacks whole units.
    pub fn fill(&mut self, form: Form, lines: &[Line]) {
        let units = lines.len() / form.lines();
        self.blocks = units * form.blocks;
        assert!(
            lines.len() == units * form.lines() && self.blocks <= SOME,
            "{units} units"
        );
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has tiles, and so AVX-512; there are lines for this many units, and room for the
        // result.
        unsafe {
            x86::unpack(form, units, lines.as_ptr(), self)
        };
    }
}

impl Bytes {
    /// Sums are tiles 0 to 3 (two steps; the first sixteen rows and the rest), x is 4 and 5, weights are 6 and 7.
    pub fn new(rows: usize, form: Form) -> Bytes {
        assert!((1..=BLOCK).contains(&rows), "a block of {rows} rows");
        // Half a block has its own sums if it has its own scale.
        let words = if form.scales == Scales::Halved {
            WORDS / 2
        } else {
            WORDS
        };
        let (above, below) = (rows.min(ROWS), rows.saturating_sub(ROWS));
        // If there are no rows beyond sixteen, their tile holds x of the second step.
        let next = if below == 0 { above } else { below };
        let below = if below == 0 { (0, 0) } else { (below, 64) };
        let (x, weights) = (4 * words, (words, 64));
        let shapes = [
            (above, 64),
            below,
            (above, 64),
            below,
            (above, x),
            (next, x),
            weights,
            weights,
        ];
        Bytes {
            rows,
            words,
            sums: Box::new([[[0; LANES]; BLOCK]; 2 * SOME]),
            _tiles: Tiles::new(shapes),
        }
    }

    /// Adds the product of x and these blocks to `y` (rows, 16), or overwrites `y` with it.
    pub fn multiply(&mut self, form: Form, x: X, panel: &Unpacked, mut y: Corner<LANES>, begin: bool) {
        let steps = panel.blocks * WORDS / self.words;
        assert!(
            x.holds(self.rows, panel.blocks) && steps > 0 && steps.is_multiple_of(2),
            "the words do not fit the blocks"
        );
        assert_eq!(y.rows(), self.rows, "the product does not fit its place");
        // SAFETY: the tiles are set up for this many rows and words; x has as many, and the panel has codes for all
        // steps.
        unsafe { self.sum(x, &panel.codes, steps) };
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has tiles, and so AVX-512; x has scales for all rows and blocks; only this thread
        // accesses `y`.
        unsafe {
            x86::add(form, self.rows, &self.sums[..], x, panel, y.start(), y.stride(), begin)
        };
    }

    /// # Safety
    /// There are words of x and codes for an even number of steps, at most as many as sums.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    unsafe fn sum(&mut self, x: X, codes: &[Line], steps: usize) {
        let of_x = x.blocks * layout::BLOCK;
        let (x, width) = (x.words.as_ptr().cast::<u8>(), 4 * self.words);
        macro_rules! run {
            ([$($line:literal),*] $($operand:tt)*) => {
                asm!(
                    $($line,)*
                    "add {codes}, {of_codes}",
                    "add {codes}, {of_codes}",
                    "lea {x}, [{x} + 2*{width}]",
                    "add {sums}, 4096",
                    "dec {pairs}",
                    "jnz 2b",
                    x = inout(reg) x => _,
                    codes = inout(reg) codes.as_ptr() => _,
                    sums = inout(reg) self.sums.as_mut_ptr() => _,
                    pairs = inout(reg) steps / 2 => _,
                    next = out(reg) _,
                    width = in(reg) width,
                    of_codes = in(reg) 16 * width,
                    of_x = in(reg) of_x,
                    line = in(reg) size_of::<Line>(),
                    $($operand)*
                    options(nostack)
                )
            };
        }
        if self.rows <= ROWS {
            // SAFETY: the caller's.
            return unsafe {
                run!([
                    "2:",
                    "tileloadd tmm6, [{codes} + {line}]",
                    "tileloadd tmm4, [{x} + {of_x}]",
                    "tilezero tmm0",
                    "tdpbssd tmm0, tmm4, tmm6",
                    "lea {next}, [{codes} + {of_codes}]",
                    "tileloadd tmm7, [{next} + {line}]",
                    "lea {next}, [{x} + {width}]",
                    "tileloadd tmm5, [{next} + {of_x}]",
                    "tilezero tmm2",
                    "tdpbssd tmm2, tmm5, tmm7",
                    "tilestored [{sums} + {line}], tmm0",
                    "tilestored [{sums} + {line} + 2048], tmm2"
                ])
            };
        }
        // SAFETY: the same.
        unsafe {
            run!([
                "2:",
                "tileloadd tmm6, [{codes} + {line}]",
                "tileloadd tmm4, [{x} + {of_x}]",
                "tilezero tmm0",
                "tdpbssd tmm0, tmm4, tmm6",
                "tileloadd tmm5, [{x_below} + {of_x}]",
                "tilezero tmm1",
                "tdpbssd tmm1, tmm5, tmm6",
                "lea {next}, [{codes} + {of_codes}]",
                "tileloadd tmm7, [{next} + {line}]",
                "lea {next}, [{x} + {width}]",
                "tileloadd tmm4, [{next} + {of_x}]",
                "tilezero tmm2",
                "tdpbssd tmm2, tmm4, tmm7",
                "lea {next}, [{x_below} + {width}]",
                "tileloadd tmm5, [{next} + {of_x}]",
                "tilezero tmm3",
                "tdpbssd tmm3, tmm5, tmm7",
                "tilestored [{sums} + {line}], tmm0",
                "tilestored [{sums} + {line} + 1024], tmm1",
                "tilestored [{sums} + {line} + 2048], tmm2",
                "tilestored [{sums} + {line} + 3072], tmm3",
                "lea {x_below}, [{x_below} + 2*{width}]"
            ] x_below = inout(reg) x.wrapping_add(ROWS * of_x) => _,)
        };
    }

    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    unsafe fn sum(&mut self, _: X, _: &[Line], _: usize) {
        unreachable!("tiles are not available here")
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Form, LANES, Line, Scales, Sums, Unpacked, WORDS, X};
    use crate::packed::vnni::x86::{Worth, codes, of_halves, worth};
    use std::arch::x86_64::*;

    /// How many lines ahead to prefetch.
    const AHEAD: usize = 34;

    /// # Safety
    /// The processor has the feature. There are lines for this many units, and there is room for their blocks.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn unpack(form: Form, units: usize, lines: *const Line, unpacked: &mut Unpacked) {
        let sign = _mm512_set1_epi32(0x8080_8080_u32 as i32);
        let zero = match form.scales {
            Scales::Centred(zero) => zero,
            Scales::Halved => 32,
            Scales::Raised | Scales::Stepped => 0,
        };
        let zeros = _mm512_set1_epi32(i32::from_le_bytes([zero; 4]));
        // Codes have at most six bits, so subtracting in words never borrows between bytes.
        let centred = |codes| _mm512_xor_si512(_mm512_sub_epi32(_mm512_or_si512(codes, sign), zeros), sign);
        for unit in 0..units {
            // SAFETY: each unit has its lines, and each of its blocks a place; prefetches may be out of bounds.
            unsafe {
                let first = lines.add(unit * form.lines());
                for line in 0..form.lines() {
                    _mm_prefetch::<_MM_HINT_T0>(first.wrapping_add(AHEAD + line).cast());
                }
                let of_unit = [of_halves(first, 0), of_halves(first, 1)];
                for block in 0..form.blocks {
                    let place = unit * form.blocks + block;
                    let own = first.add(form.head + form.of_block() * block);
                    let there = unpacked.codes.as_mut_ptr().add(place * WORDS);
                    let put = |step: usize, line| _mm512_store_si512(there.add(step).cast(), line);
                    if form.bits == 8 {
                        for step in 0..WORDS {
                            put(step, _mm512_xor_si512(_mm512_load_si512(own.add(step).cast()), sign));
                        }
                    } else {
                        for step in 0..WORDS / 2 {
                            let [lower, upper] = codes(form, own, step);
                            put(step, centred(lower));
                            put(step + WORDS / 2, centred(upper));
                        }
                    }
                    let Worth { scales, added } = worth(form, of_unit, first, block);
                    for (there, scales) in unpacked.scales[place].iter_mut().zip(scales) {
                        _mm512_storeu_ps(there.as_mut_ptr(), scales);
                    }
                    _mm512_storeu_ps(unpacked.added[place].as_mut_ptr(), added);
                }
            }
        }
    }

    /// Scales and adds in the order of the kernel for few rows, so that both give the same bits.
    ///
    /// # Safety
    /// The processor has the feature. There are sums, scales and sums of x for all rows and blocks, and `y`
    /// has as many rows of sixteen values.
    #[target_feature(enable = "avx512f")]
    #[allow(clippy::too_many_arguments)] // the inner part of one loop
    pub unsafe fn add(
        form: Form,
        rows: usize,
        sums: &[Sums],
        x: X,
        panel: &Unpacked,
        y: *mut f32,
        stride: usize,
        begin: bool,
    ) {
        for row in 0..rows {
            let of_x = row * x.blocks;
            // SAFETY: row and blocks are in bounds.
            unsafe {
                let y = y.add(row * stride);
                let mut total = if begin { _mm512_setzero_ps() } else { _mm512_loadu_ps(y) };
                let number = |step: usize| {
                    let sums: &[i32; LANES] = &sums[step][row];
                    _mm512_cvtepi32_ps(_mm512_loadu_si512(sums.as_ptr().cast()))
                };
                for block in 0..panel.blocks {
                    let [scales, later] = &panel.scales[block];
                    let scales = _mm512_loadu_ps(scales.as_ptr());
                    let scale = *x.scales.get_unchecked(of_x + block);
                    if form.scales == Scales::Halved {
                        let sum = _mm512_mul_ps(number(2 * block), scales);
                        let sum = _mm512_fmadd_ps(number(2 * block + 1), _mm512_loadu_ps(later.as_ptr()), sum);
                        total = _mm512_fmadd_ps(sum, _mm512_set1_ps(scale), total);
                        continue;
                    }
                    let sum = _mm512_mul_ps(number(block), _mm512_set1_ps(scale));
                    total = _mm512_fmadd_ps(sum, scales, total);
                    if matches!(form.scales, Scales::Stepped | Scales::Raised) {
                        let all = *x.sums.get_unchecked(of_x + block) as f32 * scale;
                        let added = _mm512_loadu_ps(panel.added[block].as_ptr());
                        total = _mm512_fmadd_ps(_mm512_set1_ps(all), added, total);
                    }
                }
                _mm512_storeu_ps(y, total);
            }
        }
    }
}
