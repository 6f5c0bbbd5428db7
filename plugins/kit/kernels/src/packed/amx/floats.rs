//! The product of a block of rows with bf16 weights.
#![allow(unsafe_code)] // the processor's own instructions, on lines and words that are counted beforehand

use super::tiles::Tiles;
use super::{BLOCK, ROWS};
use crate::packed::rows::{SomeRows, Words};
use crate::packed::stripe::Corner;
use crate::packed::{LANES, Line, PANEL};
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use std::arch::asm;

/// Bytes by which weights are asked for ahead of their use: two steps, about what memory takes to answer.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
const AHEAD: usize = 2 * 2048;

/// Tiles for blocks of this many rows.
pub struct Floats {
    rows: usize,
    _tiles: Tiles,
}

impl Floats {
    /// Sums are tiles 0 to 3, x (sixteen rows, and those below) 4 and 5, and weights (sixteen outputs, and the next) 6
    /// and 7.
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

    /// Adds the product of some steps of x and as many of a panel to `y`, or begins it with it.
    pub fn multiply(&self, x: SomeRows, panel: &[Line], y: Corner<PANEL>, begin: bool) {
        let Words::Bf16(words) = x.words else {
            panic!("tiles of something else than bf16")
        };
        let steps = panel.len() / PANEL;
        let enough = words.len() >= (self.rows - 1) * x.stride + steps * LANES;
        assert!(
            steps > 0 && panel.len() == steps * PANEL && x.count == self.rows && enough,
            "lines that make no whole steps, or words that don't fit them"
        );
        assert_eq!(y.rows(), self.rows, "a product beside its place");
        // SAFETY: the tiles are set up for this many rows, which `y` has, and `x` with a line for each step; of the panel
        // there are two tiles for each. This thread alone has what `y` stands for.
        unsafe { multiply(words.as_ptr(), x.stride, panel, y, begin, self.rows > ROWS) }
    }
}

/// # Safety
/// This thread's tiles are set up for blocks of this many rows as `y` and x have; `below` says whether these are more than
/// 16. Of x there is a line in each row for each step of the panel.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
unsafe fn multiply(x: *const u32, stride: usize, panel: &[Line], mut y: Corner<PANEL>, begin: bool, below: bool) {
    let of_y = y.stride() * size_of::<f32>();
    macro_rules! run {
        ([$($line:literal),*] $($operand:tt)*) => {
            // The tiles are no registers that the compiler knows how to use: between these instructions they stay.
            asm!(
                $($line,)*
                // The weights of a coming step.
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
        // SAFETY: the caller's; what is asked for ahead need not be there.
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
    unreachable!("no tiles are allowed here")
}
