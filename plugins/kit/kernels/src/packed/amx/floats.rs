//! The product of a block of rows with bf16 weights.
#![allow(unsafe_code)] // the processor's instructions, on lines and words whose number is checked

use super::tiles::Tiles;
use super::{BLOCK, ROWS};
use crate::packed::output_block::Corner;
use crate::packed::rows::{SomeRows, Words};
use crate::packed::{LANES, Line, PANEL};
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use std::arch::asm;

/// How many bytes ahead to prefetch weights: two steps, about the latency of memory.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
const AHEAD: usize = 2 * 2048;

/// Tiles for blocks of this many rows.
pub struct Floats {
    rows: usize,
    _tiles: Tiles,
}

impl Floats {
    /// Sums are tiles 0 to 3, x (the first sixteen rows and the rest) is 4 and 5, weights (sixteen outputs and the
    /// next) are 6 and 7.
    pub fn new(rows: usize) -> Floats {
        assert!((1..=BLOCK).contains(&rows), "a block of {rows} rows");
        let shape = |rows: usize| if rows == 0 { (0, 0) } else { (rows, 64) };
        let (above, below) = (shape(rows.min(ROWS)), shape(rows.saturating_sub(ROWS)));
        let weights = (16, 64);
        let shapes = [above, above, below, below, above, below, weights, weights];
        Floats {
            rows,
            _tiles: Tiles::new(shapes),
        }
    }

    /// Adds the product of some steps of x and as many of a panel to `y`, or overwrites `y` with it.
    pub fn multiply(&self, x: SomeRows, panel: &[Line], y: Corner<PANEL>, begin: bool) {
        let Words::Bf16(words) = x.words else {
            panic!("tiles must be bf16")
        };
        let steps = panel.len() / PANEL;
        let enough = words.len() >= (self.rows - 1) * x.stride + steps * LANES;
        assert!(
            steps > 0 && panel.len() == steps * PANEL && x.count == self.rows && enough,
            "the lines are not whole steps, or the words do not fit them"
        );
        assert_eq!(y.rows(), self.rows, "the product does not fit its place");
        // SAFETY: the tiles are set up for the rows of `y`; x has a line for each step, and the panel two tiles. Only
        // this thread accesses `y`.
        unsafe { multiply(words.as_ptr(), x.stride, panel, y, begin, self.rows > ROWS) }
    }
}

/// # Safety
/// This thread's tiles are set up for the rows of `y` and x; `below` says whether they are more than 16. Each row of x
/// has a line for each step of the panel.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
unsafe fn multiply(x: *const u32, stride: usize, panel: &[Line], mut y: Corner<PANEL>, begin: bool, below: bool) {
    let of_y = y.stride() * size_of::<f32>();
    macro_rules! run {
        ([$($line:literal),*] $($operand:tt)*) => {
            // The compiler does not use tiles as registers, so they keep their values between these instructions.
            asm!(
                $($line,)*
                // Prefetches the weights of a coming step.
                ".irp line, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
                "prefetcht0 [{panel} + {AHEAD} + 64 * \\line]",
                ".endr",
                "add {panel}, 2048",
                "add {x}, 64",
                "dec {steps}",
                "jnz 3b",
                "tilestored [{y} + {of_y}], tmm0",
                "tilestored [{y} + {of_y} + 64], tmm1",
                x = inout(reg) x => _,
                panel = inout(reg) panel.as_ptr() => _,
                steps = inout(reg) panel.len() / PANEL => _,
                y = in(reg) y.start(),
                begin = in(reg) usize::from(begin),
                of_x = in(reg) stride * size_of::<u32>(),
                of_panel = in(reg) 2 * size_of::<Line>(),
                of_y = in(reg) of_y,
                AHEAD = const AHEAD,
                $($operand)*
                options(nostack)
            )
        };
    }
    if !below {
        // SAFETY: the caller's; prefetches may be out of bounds.
        return unsafe {
            run!([
                "test {begin}, {begin}",
                "jnz 2f",
                "tileloadd tmm0, [{y} + {of_y}]",
                "tileloadd tmm1, [{y} + {of_y} + 64]",
                "jmp 3f",
                "2:",
                "tilezero tmm0",
                "tilezero tmm1",
                "3:",
                "tileloadd tmm4, [{x} + {of_x}]",
                "tileloadd tmm6, [{panel} + {of_panel}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{panel} + {of_panel} + 64]",
                "tdpbf16ps tmm1, tmm4, tmm7"
            ])
        };
    }
    let x_below = x.wrapping_add(ROWS * stride);
    let y_below = y.start().wrapping_add(ROWS * y.stride());
    // SAFETY: the same.
    unsafe {
        run!([
            "test {begin}, {begin}",
            "jnz 2f",
            "tileloadd tmm0, [{y} + {of_y}]",
            "tileloadd tmm1, [{y} + {of_y} + 64]",
            "tileloadd tmm2, [{y_below} + {of_y}]",
            "tileloadd tmm3, [{y_below} + {of_y} + 64]",
            "jmp 3f",
            "2:",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "3:",
            "tileloadd tmm4, [{x} + {of_x}]",
            "tileloadd tmm6, [{panel} + {of_panel}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{panel} + {of_panel} + 64]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{x_below} + {of_x}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {x_below}, 64"
        ] x_below = inout(reg) x_below => _, y_below = in(reg) y_below,);
        asm!(
            "tilestored [{y} + {of_y}], tmm2",
            "tilestored [{y} + {of_y} + 64], tmm3",
            y = in(reg) y_below,
            of_y = in(reg) of_y,
            options(nostack)
        );
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
unsafe fn multiply(_: *const u32, _: usize, _: &[Line], _: Corner<PANEL>, _: bool, _: bool) {
    unreachable!("tiles are not available here")
}
