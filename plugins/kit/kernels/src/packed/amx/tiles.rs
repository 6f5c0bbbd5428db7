//! The processor's tiles: whether they may be used, and how they are set up.
//!
//! A thread's tiles are set up only while a [`Tiles`] lives, so that they do not interfere with other users of tiles,
//! and context switches of idle threads are faster.
#![allow(unsafe_code)] // the processor's instructions, and a system call

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use std::arch::{asm, x86_64};
use std::marker::PhantomData;

/// Whether the processor has tiles and products of bf16 and of bytes, and the operating system saves them for this
/// process.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub fn allowed() -> bool {
    const TILES: u32 = 0x1d; // the CPUID leaf of the tile palette
    if x86_64::__cpuid(0).eax < TILES {
        return false;
    }
    let features = x86_64::__cpuid_count(7, 0).edx;
    let has = |bit: u32| features >> bit & 1 == 1;
    let (bf16, tiles, bytes) = (has(22), has(24), has(25));
    let shape = x86_64::__cpuid_count(TILES, 1);
    let large = shape.ebx == 8 << 16 | 64 && shape.ecx & 0xffff == 16; // eight tiles of sixteen rows of 64 bytes
    // XGETBV exists only if the system uses XSAVE.
    let saves = x86_64::__cpuid(1).ecx >> 27 & 1 == 1;
    if !(bf16 && tiles && bytes && large && saves) {
        return false;
    }
    let (low, _high): (u32, u32);
    // SAFETY: the processor has the instruction, as just checked; it changes nothing but these two registers.
    unsafe { asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") _high, options(nomem, nostack, preserves_flags)) };
    let kept = 0b11 << 17; // the tiles' configuration and contents
    low & kept == kept && ask_for_tiles()
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub fn allowed() -> bool {
    false
}

/// Tiles are so large that Linux saves them only for a process that asks, for all its threads. Asking again is
/// harmless. The request fails if a thread's signal stack is too small for them.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn ask_for_tiles() -> bool {
    const ARCH_PRCTL: usize = 158;
    const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
    const TILE_DATA: usize = 18;
    let mut answer = ARCH_PRCTL;
    // SAFETY: this system call neither reads nor writes our memory; these registers are all that it changes.
    unsafe {
        asm!("syscall", inout("rax") answer, in("rdi") ARCH_REQ_XCOMP_PERM, in("rsi") TILE_DATA,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    answer == 0
}

/// The configuration of a thread's tiles, as LDTILECFG reads it.
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

/// This thread's configured tiles. A thread has at most one of these at a time.
pub struct Tiles {
    /// Not `Send`: the tiles belong to this thread.
    stays: PhantomData<*mut ()>,
}

impl Tiles {
    /// Configures the rows and bytes a row of each tile. Requires that [`allowed`] returned true.
    pub fn new(shapes: [(usize, usize); 8]) -> Tiles {
        load(&Shapes::new(shapes));
        Tiles { stays: PhantomData }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        // SAFETY: this only clears the tiles of this thread, which nothing else configured.
        unsafe {
            asm!("tilerelease", options(nostack, preserves_flags))
        };
    }
}

pub fn load(shapes: &Shapes) {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    // SAFETY: it reads 64 bytes. The compiler must assume that memory is read here: without that, it dropped the
    // stores that fill them.
    unsafe {
        asm!("ldtilecfg [{}]", in(reg) shapes, options(nostack, readonly, preserves_flags));
    }
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    let _ = shapes;
}
