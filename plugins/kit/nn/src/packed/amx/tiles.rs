//! The processor's tiles: whether they may be used, how they are set up, and the product of a block of rows.
//!
//! A thread has its tiles set up only while a [`Tiles`] lives: nobody else's use of them can be disturbed, nor ours, and
//! a thread that has none in use is switched faster.
#![allow(unsafe_code)] // the processor's own instructions, on lines and values that are counted beforehand

use super::{BLOCK, ROWS};
use crate::packed::rows::{SomeRows, Words};
use crate::packed::stripes::Corner;
use crate::packed::{LANES, Line, PANEL};
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use std::arch::{asm, x86_64};
use std::marker::PhantomData;

/// Bytes by which weights are asked for ahead of their use: two steps, about what memory takes to answer.
const AHEAD: usize = 2 * 2048;

/// Whether the processor has tiles and products of bf16 and of bytes, and the operating system keeps them for this process.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub fn allowed() -> bool {
    const TILES: u32 = 0x1d; // the leaf that says what they are
    if x86_64::__cpuid(0).eax < TILES {
        return false;
    }
    let features = x86_64::__cpuid_count(7, 0).edx;
    let has = |bit: u32| features >> bit & 1 == 1;
    let (bf16, tiles, bytes) = (has(22), has(24), has(25));
    let shape = x86_64::__cpuid_count(TILES, 1);
    let large = shape.ebx == 8 << 16 | 64 && shape.ecx & 0xffff == 16; // eight, of sixteen rows of 64 bytes
    // XGETBV itself is there only where the system uses XSAVE.
    let saves = x86_64::__cpuid(1).ecx >> 27 & 1 == 1;
    if !(bf16 && tiles && bytes && large && saves) {
        return false;
    }
    let (low, _high): (u32, u32);
    // SAFETY: the processor has the instruction, as just looked up; it changes nothing but these two registers.
    unsafe { asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") _high, options(nomem, nostack, preserves_flags)) };
    let kept = 0b11 << 17; // the tiles' set-up and their contents
    low & kept == kept && ask_for_tiles()
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub fn allowed() -> bool {
    false
}

/// Tiles are so large that Linux keeps them only for a process that asks, for all its threads at once. To ask again does
/// no harm; the answer is no where a thread's stack for signals is too small for them.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn ask_for_tiles() -> bool {
    const ARCH_PRCTL: usize = 158;
    const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
    const TILE_DATA: usize = 18;
    let mut answer = ARCH_PRCTL;
    // SAFETY: this system call reads no memory of ours and writes none; these registers are all that it changes.
    unsafe {
        asm!("syscall", inout("rax") answer, in("rdi") ARCH_REQ_XCOMP_PERM, in("rsi") TILE_DATA,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    answer == 0
}

/// What a thread tells the processor of its tiles, as LDTILECFG reads it.
#[repr(C, align(64))]
pub struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_of_row: [u16; 16],
    rows: [u8; 16],
}

impl Shapes {
    pub fn new(shapes: [(usize, usize); 8]) -> Shapes {
        let (mut bytes_of_row, mut rows) = ([0; 16], [0; 16]);
        for (tile, (height, width)) in shapes.into_iter().enumerate() {
            (rows[tile], bytes_of_row[tile]) = (height as u8, width as u16);
        }
        Shapes {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            bytes_of_row,
            rows,
        }
    }
}

/// This thread's tiles, set up for blocks of so many rows of x. A thread has at most one of these at a time.
pub struct Tiles {
    rows: usize,
    /// They are this thread's.
    stays: PhantomData<*mut ()>,
}

impl Tiles {
    /// Sums are tiles 0 to 3, x (sixteen rows, and those below) 4 and 5, and weights (sixteen outputs, and the next) 6
    /// and 7. Only where [`allowed`] said yes.
    pub fn new(rows: usize) -> Tiles {
        assert!((1..=BLOCK).contains(&rows), "a block of {rows} rows");
        let (above, below) = (rows.min(ROWS), rows.saturating_sub(ROWS));
        let shape = |rows: usize| if rows == 0 { (0, 0) } else { (rows, 64) };
        let (above, below) = (shape(above), shape(below));
        load(&Shapes::new([
            above,
            above,
            below,
            below,
            above,
            below,
            (16, 64),
            (16, 64),
        ]));
        Tiles {
            rows,
            stays: PhantomData,
        }
    }

    /// Adds the product of some steps of x and as many of a panel to `y`, or begins it with it.
    pub fn multiply(&self, x: SomeRows, panel: &[Line], y: Corner, begin: bool) {
        let Words::Bf16(words) = x.words else {
            panic!("tiles of something else than bf16")
        };
        let steps = panel.len() / PANEL;
        let enough = words.len() >= (self.rows - 1) * x.stride + steps * LANES;
        assert!(
            steps > 0 && panel.len() == steps * PANEL && x.count == self.rows && enough,
            "lines that make no whole steps, or words that don't fit them"
        );
        assert!(
            y.rows() == self.rows && y.columns() == PANEL,
            "a product beside its place"
        );
        // SAFETY: the tiles are set up for so many rows, which `y` has, and `x` with a line for each step; of the panel
        // there are two tiles for each. This thread alone has what `y` stands for.
        unsafe { multiply(words.as_ptr(), x.stride, panel, y, begin, self.rows > ROWS) }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        // SAFETY: this only empties the tiles of this thread, which nobody else set up.
        unsafe {
            asm!("tilerelease", options(nostack, preserves_flags))
        };
    }
}

pub fn load(shapes: &Shapes) {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    // SAFETY: it reads 64 bytes. The compiler must take it that memory is read here: without that, it dropped the stores
    // that fill them.
    unsafe {
        asm!("ldtilecfg [{}]", in(reg) shapes, options(nostack, readonly, preserves_flags));
    }
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    let _ = shapes;
}

/// # Safety
/// This thread's tiles are set up for blocks of so many rows as `y` and x have; `below` says whether these are more than
/// 16. Of x there is a line in each row for each step of the panel.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
unsafe fn multiply(x: *const u32, stride: usize, panel: &[Line], mut y: Corner, begin: bool, below: bool) {
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
unsafe fn multiply(_: *const u32, _: usize, _: &[Line], _: Corner, _: bool, _: bool) {
    unreachable!("no tiles are allowed here")
}
