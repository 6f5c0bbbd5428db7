//! Emulates the instructions of AMX on processors that lack them: each raises SIGILL, whose handler computes it.
//!
//! It follows Intel's Software Developer's Manual, volume 2, and its exception classes AMX-E1 to E6: one tile palette,
//! the checks of shapes, rows and bytes beyond a shape that become zero, and the order and rounding of every sum. What
//! would raise an exception ends the tests with a reason.
#![allow(unsafe_code)] // registers and memory of the interrupted code

use std::cell::UnsafeCell;
use std::sync::Once;

/// Registers in the order of their numbers in instructions.
pub type Registers = [u64; 16];

/// Their places in a signal's context.
const ORDER: [i32; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instruction {
    LoadShapes {
        address: u64,
    },
    Release,
    Zero {
        tile: usize,
    },
    Load {
        tile: usize,
        address: u64,
        stride: u64,
    },
    Store {
        tile: usize,
        address: u64,
        stride: u64,
    },
    Floats {
        sums: usize,
        a: usize,
        b: usize,
    },
    /// Whether the bytes of `a` and of `b` have signs.
    Bytes {
        sums: usize,
        a: usize,
        b: usize,
        signs: [bool; 2],
    },
}

/// The instruction and its length, if it is one of AMX.
pub fn decode(code: &[u8], registers: &Registers) -> Option<(Instruction, usize)> {
    let &[0xc4, one, two, opcode, modrm, ..] = code else {
        return None;
    };
    // The upper bit of each register's number is inverted, and so is the whole number of one register.
    let upper = |bit: u8| usize::from(one >> bit & 1 == 0) << 3;
    let (reg, index, base) = (upper(7), upper(6), upper(5));
    let third = usize::from(!two >> 3 & 15);
    let (wide, long, prefix) = (two >> 7, two >> 2 & 1, two & 3);
    if one & 31 != 2 || wide != 0 || long != 0 {
        return None; // not in map 0F38, or not 128 bits and W0
    }
    let (mode, middle, low) = (modrm >> 6, usize::from(modrm >> 3 & 7), usize::from(modrm & 7));
    if mode == 3 {
        let tile = middle;
        let instruction = match (opcode, prefix) {
            (0x49, 0) if third == 0 && modrm == 0xc0 => Instruction::Release,
            (0x49, 3) if third == 0 && low == 0 && reg == 0 => Instruction::Zero { tile },
            (0x5c | 0x5e, _) if reg + base == 0 && third < 8 => {
                let (sums, a, b) = (tile, low, third);
                match (opcode, prefix) {
                    (0x5c, 2) => Instruction::Floats { sums, a, b },
                    (0x5e, _) => {
                        let signs = [prefix & 2 != 0, prefix & 1 != 0];
                        Instruction::Bytes { sums, a, b, signs }
                    }
                    _ => return None,
                }
            }
            _ => return None,
        };
        return Some((instruction, 5));
    }
    let (mut length, mut address, mut stride) = (5, 0u64, None);
    if low == 4 {
        let sib = *code.get(5)?;
        length += 1;
        let (scale, at, from) = (sib >> 6, usize::from(sib >> 3 & 7) + index, usize::from(sib & 7) + base);
        if at != 4 {
            stride = Some(registers[at] << scale);
        }
        if from & 7 == 5 && mode == 0 {
            return None; // an address without a base: our code has none
        }
        address = address.wrapping_add(registers[from]);
        stride = stride.or(Some(0));
    } else if low == 5 && mode == 0 {
        return None; // relative to the instruction: our code has none
    } else {
        address = address.wrapping_add(registers[low + base]);
    }
    let bytes = [0, 1, 4][usize::from(mode)];
    let offset = code.get(length..length + bytes)?;
    length += bytes;
    let offset = match *offset {
        [one] => i64::from(one as i8),
        [a, b, c, d] => i64::from(i32::from_le_bytes([a, b, c, d])),
        _ => 0,
    };
    let address = address.wrapping_add_signed(offset);
    let tile = middle;
    let instruction = match (opcode, prefix, stride) {
        (0x49, 0, _) if third == 0 && middle == 0 => Instruction::LoadShapes { address },
        (0x4b, 3, Some(stride)) if third == 0 && reg == 0 => Instruction::Load { tile, address, stride },
        (0x4b, 2, Some(stride)) if third == 0 && reg == 0 => Instruction::Store { tile, address, stride },
        _ => return None,
    };
    Some((instruction, length))
}

/// The memory that an instruction reads and writes.
pub trait Memory {
    fn read(&self, address: u64, bytes: &mut [u8]);
    fn write(&mut self, address: u64, bytes: &[u8]);
}

/// A thread's tiles.
pub struct State {
    set_up: bool,
    rows: [usize; 8],
    width: [usize; 8],
    tiles: [[[u8; 64]; 16]; 8],
    /// Products and loads so far.
    pub products: usize,
    pub loads: usize,
}

impl State {
    pub const fn new() -> State {
        State {
            set_up: false,
            rows: [0; 8],
            width: [0; 8],
            tiles: [[[0; 64]; 16]; 8],
            products: 0,
            loads: 0,
        }
    }

    /// Executes the instruction, or returns the exception that it raises.
    pub fn run(&mut self, instruction: Instruction, memory: &mut impl Memory) -> Result<(), &'static str> {
        match instruction {
            Instruction::LoadShapes { address } => {
                let mut bytes = [0; 64];
                memory.read(address, &mut bytes);
                self.set_up(&bytes)?;
            }
            Instruction::Release => {
                (self.set_up, self.rows, self.width) = (false, [0; 8], [0; 8]);
                self.tiles.as_flattened_mut().fill([0; 64]);
            }
            Instruction::Zero { tile } => {
                self.check(tile)?;
                self.tiles[tile] = [[0; 64]; 16];
            }
            Instruction::Load { tile, address, stride } => {
                self.check(tile)?;
                self.loads += 1;
                let mut loaded = [[0; 64]; 16];
                for (row, loaded) in loaded[..self.rows[tile]].iter_mut().enumerate() {
                    let address = address.wrapping_add(stride.wrapping_mul(row as u64));
                    memory.read(address, &mut loaded[..self.width[tile]]);
                }
                self.tiles[tile] = loaded;
            }
            Instruction::Store { tile, address, stride } => {
                self.check(tile)?;
                for (row, stored) in self.tiles[tile][..self.rows[tile]].iter().enumerate() {
                    let address = address.wrapping_add(stride.wrapping_mul(row as u64));
                    memory.write(address, &stored[..self.width[tile]]);
                }
            }
            Instruction::Floats { sums, a, b } => {
                self.check_product(sums, a, b)?;
                self.products += 1;
                self.floats(sums, a, b);
            }
            Instruction::Bytes { sums, a, b, signs } => {
                self.check_product(sums, a, b)?;
                self.products += 1;
                self.bytes(sums, a, b, signs);
            }
        }
        Ok(())
    }

    fn set_up(&mut self, bytes: &[u8; 64]) -> Result<(), &'static str> {
        if bytes[0] == 0 {
            return self.run(Instruction::Release, &mut Nothing);
        }
        if bytes[0] != 1 || bytes[1] != 0 {
            return Err("#GP: LDTILECFG with an unknown palette or a start row");
        }
        let reserved = bytes[2..16].iter().chain(&bytes[32..48]).chain(&bytes[56..64]);
        if reserved.into_iter().any(|byte| *byte != 0) {
            return Err("#GP: LDTILECFG with reserved bytes, or more than eight tiles");
        }
        for tile in 0..8 {
            let width = usize::from(u16::from_le_bytes([bytes[16 + 2 * tile], bytes[17 + 2 * tile]]));
            let rows = usize::from(bytes[48 + tile]);
            if width > 64 || rows > 16 || (width == 0) != (rows == 0) {
                return Err("#GP: LDTILECFG with an invalid shape");
            }
            (self.rows[tile], self.width[tile]) = (rows, width);
        }
        self.set_up = true;
        self.tiles.as_flattened_mut().fill([0; 64]);
        Ok(())
    }

    fn check(&self, tile: usize) -> Result<(), &'static str> {
        match self.set_up && self.rows[tile] > 0 {
            true => Ok(()),
            false => Err("#UD: the tile is not set up on this thread"),
        }
    }

    fn check_product(&self, sums: usize, a: usize, b: usize) -> Result<(), &'static str> {
        for tile in [sums, a, b] {
            self.check(tile)?;
            if !self.width[tile].is_multiple_of(4) {
                return Err("#UD: a product of a tile whose rows are not whole words");
            }
        }
        if sums == a || a == b || sums == b {
            return Err("#UD: a product of a tile with itself");
        }
        let fits = self.rows[sums] == self.rows[a] && self.width[a] / 4 == self.rows[b];
        match fits && self.width[sums] == self.width[b] {
            true => Ok(()),
            false => Err("#UD: a product of shapes that do not fit"),
        }
    }

    fn word(&self, tile: usize, row: usize, column: usize) -> u32 {
        let (words, _) = self.tiles[tile][row].as_chunks::<4>();
        u32::from_le_bytes(words[column])
    }

    /// Writes a row of sums; the rest of the row, and rows below the last one, become zero.
    fn put(&mut self, tile: usize, row: usize, sums: [u32; 16]) {
        let width = self.width[tile] / 4;
        let (words, _) = self.tiles[tile][row].as_chunks_mut::<4>();
        for (column, word) in words.iter_mut().enumerate() {
            *word = if column < width {
                sums[column].to_le_bytes()
            } else {
                [0; 4]
            };
        }
        self.tiles[tile][self.rows[tile]..].fill([0; 64]);
    }

    fn floats(&mut self, sums: usize, a: usize, b: usize) {
        let half = |word: u32, which: usize| flushed(f32::from_bits(word >> (16 * which) << 16));
        for row in 0..self.rows[sums] {
            let mut parts = [[0f32; 2]; 16];
            for group in 0..self.width[a] / 4 {
                let x = self.word(a, row, group);
                for (column, parts) in parts[..self.width[sums] / 4].iter_mut().enumerate() {
                    let weight = self.word(b, group, column);
                    for (which, part) in parts.iter_mut().enumerate() {
                        *part = flushed(half(x, which).mul_add(half(weight, which), *part));
                    }
                }
            }
            let mut all = [0u32; 16];
            for (column, all) in all[..self.width[sums] / 4].iter_mut().enumerate() {
                let [even, odd] = parts[column];
                let before = flushed(f32::from_bits(self.word(sums, row, column)));
                *all = flushed(before + flushed(even + odd)).to_bits();
            }
            self.put(sums, row, all);
        }
    }

    fn bytes(&mut self, sums: usize, a: usize, b: usize, signs: [bool; 2]) {
        let wide = |byte: u8, signed: bool| if signed { i32::from(byte as i8) } else { i32::from(byte) };
        for row in 0..self.rows[sums] {
            let mut all = [0u32; 16];
            for (column, all) in all[..self.width[sums] / 4].iter_mut().enumerate() {
                let mut sum = self.word(sums, row, column) as i32;
                for group in 0..self.width[a] / 4 {
                    let x = self.word(a, row, group).to_le_bytes();
                    let weight = self.word(b, group, column).to_le_bytes();
                    for (x, weight) in x.into_iter().zip(weight) {
                        sum = sum.wrapping_add(wide(x, signs[0]) * wide(weight, signs[1]));
                    }
                }
                *all = sum as u32;
            }
            self.put(sums, row, all);
        }
    }
}

/// Subnormal numbers count as zero, as inputs and as results.
fn flushed(number: f32) -> f32 {
    if number.is_subnormal() {
        0f32.copysign(number)
    } else {
        number
    }
}

struct Nothing;

impl Memory for Nothing {
    fn read(&self, _: u64, _: &mut [u8]) {}
    fn write(&mut self, _: u64, _: &[u8]) {}
}

/// The memory of this process, at any address.
struct Everything;

impl Memory for Everything {
    fn read(&self, address: u64, bytes: &mut [u8]) {
        // SAFETY: the interrupted code reads there itself; an invalid address would fault there, too.
        unsafe { std::ptr::copy_nonoverlapping(address as *const u8, bytes.as_mut_ptr(), bytes.len()) };
    }

    fn write(&mut self, address: u64, bytes: &[u8]) {
        // SAFETY: the same for writing.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), address as *mut u8, bytes.len()) };
    }
}

thread_local! {
    /// Constructed before the program begins: a signal handler must not allocate.
    static TILES: UnsafeCell<State> = const { UnsafeCell::new(State::new()) };
}

/// How many products and loads of tiles this thread has executed.
pub fn counted() -> (usize, usize) {
    // SAFETY: the handler writes there only while this thread is inside an AMX instruction, and so not here.
    TILES.with(|tiles| unsafe { ((*tiles.get()).products, (*tiles.get()).loads) })
}

/// From now on, AMX instructions are emulated in this process.
pub fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = done_instead;
        // SAFETY: the handler has the three arguments of SA_SIGINFO, and the zeroed fields are an empty mask and no
        // restorer.
        let answer = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            libc::sigaction(libc::SIGILL, &action, std::ptr::null_mut())
        };
        assert_eq!(answer, 0, "no handler for SIGILL");
    });
}

extern "C" fn done_instead(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the handler gets the state of the interrupted thread, which nothing else accesses
    // meanwhile.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let named = ORDER.map(|register| registers[register as usize] as u64);
    let next = &mut registers[libc::REG_RIP as usize];
    // SAFETY: the longest of these instructions has ten bytes, and more code follows each.
    let code = unsafe { std::slice::from_raw_parts(*next as *const u8, 10) };
    let done = match decode(code, &named) {
        // SAFETY: as for `counted`.
        Some((instruction, length)) => TILES
            .with(|tiles| unsafe { (*tiles.get()).run(instruction, &mut Everything) })
            .map(|()| length),
        None => Err("#UD: an instruction that neither this processor nor the emulator has"),
    };
    match done {
        Ok(length) => *next += length as i64,
        Err(why) => {
            // SAFETY: both may be called in a signal handler, and the length is that of the text.
            unsafe {
                libc::write(2, why.as_ptr().cast(), why.len());
                libc::abort()
            }
        }
    }
}
