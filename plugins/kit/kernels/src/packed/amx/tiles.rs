//! The processor's tiles: whether they may be used, and how they are set up.
//!
//! A thread has its tiles set up only while a [`Tiles`] lives: nobody else's use of them can be disturbed, nor ours, and
//! a thread that has none in use is switched faster.
#![allow(unsafe_code)] // the processor's own instructions, and a question to the operating system

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use std::arch::{asm, x86_64};
use std::marker::PhantomData;

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

/// This thread's tiles, set up. A thread has at most one of these at a time.
pub struct Tiles {
    /// They are this thread's.
    stays: PhantomData<*mut ()>,
}

impl Tiles {
    /// Rows and bytes a row of each tile. Only where [`allowed`] said yes.
    pub fn new(shapes: [(usize, usize); 8]) -> Tiles {
        load(&Shapes::new(shapes));
        Tiles { stays: PhantomData }
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
