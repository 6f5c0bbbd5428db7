//! AMX on this processor if it has it, else emulated.

use super::emulator::{self, Instruction, Memory, Registers, State, decode};
use super::tiles::{Shapes, allowed, load};
use super::*;
use crate::packed::{Blocks, Kind, avx512, suits_blocks};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use half::bf16;

/// Whether tiles can be tested here: the processor's, or emulated ones.
pub fn ready() -> bool {
    if !allowed() {
        emulator::install();
    }
    avx512::has_f32()
}

const REGISTERS: Registers = {
    let mut registers = [0; 16];
    let mut number = 0;
    while number < 16 {
        registers[number] = 0x10_0000 * (number as u64 + 1);
        number += 1;
    }
    registers
};

#[track_caller]
fn check(code: &[u8], expected: Option<Instruction>) {
    let mut followed = code.to_vec();
    followed.resize(code.len() + 5, 0x90);
    let expected = expected.map(|instruction| (instruction, code.len()));
    assert_eq!(decode(&followed, &REGISTERS), expected, "{code:02x?}");
}

// The bytes are what binutils' assembler makes from the comments.
#[test]
fn shapes_are_decoded() {
    let at = |address| Some(Instruction::LoadShapes { address });
    check(&[0xc4, 0xe2, 0x78, 0x49, 0x00], at(0x10_0000)); // ldtilecfg [rax]
    check(&[0xc4, 0xe2, 0x78, 0x49, 0x44, 0x24, 0x40], at(0x50_0040)); // ldtilecfg [rsp+64]
    check(&[0xc4, 0xc2, 0x78, 0x49, 0x85, 0, 4, 0, 0], at(0xe0_0400)); // ldtilecfg [r13+1024]
    check(&[0xc4, 0xe2, 0x78, 0x49, 0xc0], Some(Instruction::Release)); // tilerelease
    check(&[0xc4, 0xe2, 0x7b, 0x49, 0xe8], Some(Instruction::Zero { tile: 5 })); // tilezero tmm5
}

#[test]
fn loads_and_stores_are_decoded() {
    let load = |tile, address, stride| Some(Instruction::Load { tile, address, stride });
    let store = |tile, address, stride| Some(Instruction::Store { tile, address, stride });
    // tileloadd tmm3, [rcx+r9]; tmm7, [r12+2*rsi+64]; tmm4, [rbp+r12+1024]
    check(&[0xc4, 0xa2, 0x7b, 0x4b, 0x1c, 0x09], load(3, 0x20_0000, 0xa0_0000));
    check(
        &[0xc4, 0xc2, 0x7b, 0x4b, 0x7c, 0x74, 0x40],
        load(7, 0xd0_0040, 2 * 0x70_0000),
    );
    check(
        &[0xc4, 0xa2, 0x7b, 0x4b, 0xa4, 0x25, 0, 4, 0, 0],
        load(4, 0x60_0400, 0xd0_0000),
    );
    // tilestored [rdi+4*rbx-128], tmm6; [r8+8*r15], tmm0
    check(
        &[0xc4, 0xe2, 0x7a, 0x4b, 0x74, 0x9f, 0x80],
        store(6, 0x80_0000 - 128, 4 * 0x40_0000),
    );
    check(
        &[0xc4, 0x82, 0x7a, 0x4b, 0x04, 0xf8],
        store(0, 0x90_0000, 8 * 0x100_0000),
    );
}

#[test]
fn products_are_decoded() {
    let floats = |sums, a, b| Some(Instruction::Floats { sums, a, b });
    check(&[0xc4, 0xe2, 0x6a, 0x5c, 0xc1], floats(0, 1, 2)); // tdpbf16ps tmm0, tmm1, tmm2
    check(&[0xc4, 0xe2, 0x4a, 0x5c, 0xfd], floats(7, 5, 6)); // tdpbf16ps tmm7, tmm5, tmm6
    let bytes = |sums, a, b, signs| Some(Instruction::Bytes { sums, a, b, signs });
    check(&[0xc4, 0xe2, 0x4b, 0x5e, 0xc4], bytes(0, 4, 6, [true, true])); // tdpbssd tmm0, tmm4, tmm6
    check(&[0xc4, 0xe2, 0x42, 0x5e, 0xcc], bytes(1, 4, 7, [true, false])); // tdpbsud tmm1, tmm4, tmm7
    check(&[0xc4, 0xe2, 0x49, 0x5e, 0xd5], bytes(2, 5, 6, [false, true])); // tdpbusd tmm2, tmm5, tmm6
    check(&[0xc4, 0xe2, 0x40, 0x5e, 0xdd], bytes(3, 5, 7, [false, false])); // tdpbuud tmm3, tmm5, tmm7
}

#[test]
fn what_is_no_instruction_of_ours_is_left_alone() {
    check(&[0xc4, 0xe2, 0x79, 0x4b, 0x0c, 0x08], None); // tileloaddt1 tmm1, [rax+rcx]
    check(&[0xc4, 0xe2, 0x79, 0x49, 0x00], None); // sttilecfg [rax]
    check(&[0xc5, 0xec, 0x58, 0xcb], None); // vaddps ymm1, ymm2, ymm3
    check(&[0xc4, 0xe2, 0xfb, 0x4b, 0x1c, 0x08], None); // W1
    check(&[0xc4, 0xe2, 0x7b, 0x4b, 0x18], None); // a load without a stride's place
    check(&[0x0f, 0x0b], None); // ud2
}

/// A few bytes at an address of their own.
struct Some64([u8; 64]);

impl Memory for Some64 {
    fn read(&self, address: u64, bytes: &mut [u8]) {
        bytes.copy_from_slice(&self.0[address as usize..][..bytes.len()]);
    }

    fn write(&mut self, address: u64, bytes: &[u8]) {
        self.0[address as usize..][..bytes.len()].copy_from_slice(bytes);
    }
}

/// A state with tiles of these rows and bytes a row.
fn set_up(shapes: &[(u8, u8)]) -> (State, Result<(), &'static str>) {
    let mut memory = Some64([0; 64]);
    memory.0[0] = 1;
    for (tile, (rows, width)) in shapes.iter().enumerate() {
        (memory.0[48 + tile], memory.0[16 + 2 * tile]) = (*rows, *width);
    }
    let mut state = State::new();
    let done = state.run(Instruction::LoadShapes { address: 0 }, &mut memory);
    (state, done)
}

#[test]
fn the_emulator_is_as_strict_as_the_processor() {
    let refused = |(mut state, done): (State, Result<(), &'static str>), instruction, why: &str| {
        let got = done.and_then(|()| state.run(instruction, &mut Some64([0; 64])));
        assert_eq!(got.unwrap_err(), why);
    };
    let zero = |tile| Instruction::Zero { tile };
    let floats = |sums, a, b| Instruction::Floats { sums, a, b };
    let not_set_up = "#UD: the tile is not set up on this thread";
    refused((State::new(), Ok(())), zero(0), not_set_up);
    refused(set_up(&[(16, 64)]), zero(1), not_set_up);
    let shape = "#GP: LDTILECFG with an invalid shape";
    for shapes in [[(17, 64)], [(16, 65)], [(0, 64)], [(16, 0)]] {
        refused(set_up(&shapes), zero(0), shape);
    }
    let reserved = "#GP: LDTILECFG with reserved bytes, or more than eight tiles";
    refused(set_up(&[(1, 4); 9]), zero(0), reserved);
    let itself = "#UD: a product of a tile with itself";
    refused(set_up(&[(16, 64); 3]), floats(0, 1, 1), itself);
    refused(set_up(&[(16, 64); 3]), floats(1, 1, 2), itself);
    let fit = "#UD: a product of shapes that do not fit";
    refused(set_up(&[(16, 64), (15, 64), (16, 64)]), floats(0, 1, 2), fit);
    refused(set_up(&[(16, 64), (16, 64), (15, 64)]), floats(0, 1, 2), fit);
    refused(set_up(&[(16, 60), (16, 64), (16, 64)]), floats(0, 1, 2), fit);
    let words = "#UD: a product of a tile whose rows are not whole words";
    refused(set_up(&[(16, 64), (16, 62), (16, 64)]), floats(0, 1, 2), words);
}

/// The sum of one output of one row, given these inputs and weights.
fn one(before: f32, x: &[f32], weights: &[f32]) -> f32 {
    let (mut state, done) = set_up(&[
        (1, 4),
        (1, 4 * x.len().div_ceil(2) as u8),
        (x.len().div_ceil(2) as u8, 4),
    ]);
    done.unwrap();
    let mut memory = Some64([0; 64]);
    let mut load = |tile, bytes: Vec<u8>, stride| {
        memory.0[..bytes.len()].copy_from_slice(&bytes);
        let instruction = Instruction::Load {
            tile,
            address: 0,
            stride,
        };
        state.run(instruction, &mut memory).unwrap();
    };
    let narrow = |values: &[f32]| values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect();
    load(0, before.to_le_bytes().to_vec(), 64);
    load(1, narrow(x), 64);
    load(2, narrow(weights), 4);
    state
        .run(Instruction::Floats { sums: 0, a: 1, b: 2 }, &mut memory)
        .unwrap();
    let store = Instruction::Store {
        tile: 0,
        address: 0,
        stride: 64,
    };
    state.run(store, &mut memory).unwrap();
    f32::from_le_bytes(memory.0[..4].try_into().unwrap())
}

#[test]
fn sums_are_in_the_manual_s_order_and_rounded_as_it_says() {
    let large = 16_777_216.0; // beyond it, fp32 has no odd numbers
    assert_eq!(one(1.0, &[2.0, 3.0], &[5.0, 7.0]), 32.0);
    // Even and odd inputs are added to each other before the total: one after the other, each 1 would be lost.
    assert_eq!(one(large, &[1.0, 1.0], &[1.0, 1.0]), large + 2.0);
    assert_eq!(one(0.0, &[large, 1.0, 0.0, 1.0], &[1.0; 4]), large + 2.0);
    assert_eq!(one(0.0, &[large, 0.0, 1.0, 0.0, 1.0, 0.0], &[1.0; 6]), large);
    // To the nearest, ties to even.
    assert_eq!(one(large, &[3.0, 0.0], &[1.0, 0.0]), large + 4.0);
    // Subnormal numbers are zero as inputs, as results and in between.
    let least = f32::MIN_POSITIVE;
    assert_eq!(one(least / 2.0, &[1.0, 0.0], &[0.0, 0.0]), 0.0);
    assert_eq!(one(0.0, &[least / 2.0, 0.0], &[4.0, 0.0]), 0.0);
    assert_eq!(one(0.0, &[least, 0.0], &[0.5, 0.0]), 0.0);
    assert_eq!(one(least, &[least, 0.0], &[-0.5, 0.0]), least);
    assert!(one(0.0, &[f32::INFINITY, 1.0], &[0.0, 1.0]).is_nan());
}

fn random(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next() * (8.0 * next()).exp2()).collect()
}

fn weights(outputs: usize, inputs: usize) -> Packed {
    let values = random(outputs * inputs, 7);
    let rows =
        |some: Range<usize>| Ok::<_, candle_core::Error>(values[some.start * inputs..some.end * inputs].to_vec());
    Packed::from_rows(DType::BF16, (outputs, inputs), &rows).unwrap()
}

#[test]
fn the_first_product_is_tried() {
    if ready() {
        assert!(agree(crate::packed::blocks::tiles_agree));
    }
}

/// Rows that use tiles together equal, to the bit, each row alone, which uses AVX-512.
#[test]
fn a_row_does_not_feel_what_multiplies_it() {
    if !ready() {
        return;
    }
    for (inputs, outputs) in [(31, 5), (32, 32), (1200, 40), (93, 70)] {
        let weight = weights(outputs, inputs);
        let x = random(37 * inputs, 3);
        let together = weight.product_by(Kernel::Amx, &x);
        for few in [1, 3, 4] {
            for (x, together) in x.chunks(few * inputs).zip(together.chunks(few * outputs)) {
                assert_eq!(
                    weight.product_by(Kernel::Amx, x),
                    together,
                    "{few} x {inputs} x {outputs}"
                );
            }
        }
    }
}

/// The bound is stated in the module's documentation.
#[test]
fn sums_are_as_near_as_their_order_lets_them_be() {
    if !ready() {
        return;
    }
    for (rows, inputs, outputs) in [(1, 640, 32), (20, 2000, 32)] {
        let values = random(outputs * inputs, 7);
        let x = random(rows * inputs, 17);
        let got = weights(outputs, inputs).product_by(Kernel::Amx, &x);
        let narrow = |x: &f32| bf16::from_f32(*x).to_f64();
        for (row, x) in x.chunks(inputs).enumerate() {
            for (output, weight) in values.chunks(inputs).enumerate() {
                let products = x.iter().zip(weight).map(|(x, w)| narrow(x) * narrow(w));
                let (sum, sizes) = products.fold((0.0, 0.0), |(sum, sizes), product| {
                    (sum + product, sizes + product.abs())
                });
                let apart = (f64::from(got[row * outputs + output]) - sum).abs();
                let bound = (16.0 + (inputs as f64 / 32.0).ceil()) * (-24f64).exp2() * sizes;
                assert!(apart <= bound, "{row} {output}: {apart}, at most {bound}");
            }
        }
    }
}

/// As the module's documentation states: one load for each product, and sums are loaded and stored once for each
/// chunk.
#[test]
fn a_product_takes_one_load() {
    if !ready() || allowed() {
        return; // the processor's own instructions are not counted
    }
    let (rows, inputs, outputs) = (2 * BLOCK, 2 * CHUNK * 2 * GROUPS, 2 * PANEL);
    let weight = weights(outputs, inputs);
    let x = random(rows * inputs, 5);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let (products, loads) = pool.install(|| {
        weight.product_by(Kernel::Amx, &x);
        emulator::counted()
    });
    assert_eq!(products, rows / 16 * (outputs / 16) * (inputs / 32));
    let sums = rows / 16 * (outputs / 16); // loaded for the second chunk
    assert_eq!(loads, products + sums);
}

#[test]
fn each_thread_has_tiles_of_its_own() {
    if !ready() {
        return;
    }
    let weight = weights(PANEL, 64);
    let expected = |x: &[f32]| weight.product_by(Kernel::Amx, x);
    std::thread::scope(|scope| {
        for rows in [1, 5, 16, 17, 32, 9] {
            let weight = &weight;
            let x = random(rows * 64, rows as u64);
            let expected = expected(&x);
            scope.spawn(move || {
                let wide = Rows::new(&x, 64, Kind::Bf16);
                let tiles = Floats::new(rows);
                for _ in 0..20 {
                    let mut y = vec![[0f32; PANEL]; rows];
                    for step in 0..2 {
                        let panel = &weight.panel(0)[step * LINES..(step + 1) * LINES];
                        let x = wide.some(0, rows, step * GROUPS);
                        tiles.multiply(x, panel, Corner::of(&mut y), step == 0);
                        std::thread::yield_now();
                    }
                    assert_eq!(y.as_flattened(), expected);
                }
            });
        }
    });
}

#[test]
fn tiles_that_were_another_s_do_not_matter() {
    if !ready() {
        return;
    }
    // As if a library had left its own shapes on this thread.
    load(&Shapes::new([(1, 4); 8]));
    let weight = weights(40, 100);
    let x = random(20 * 100, 9);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let apart = pool.install(|| weight.product_by(Kernel::Amx, &x));
    let here = pool.install(|| {
        load(&Shapes::new([(3, 8); 8]));
        weight.product_by(Kernel::Amx, &x)
    });
    assert_eq!(apart, here);
}

/// A model's quantised weights by tiles equal those by AVX-512 to the bit.
#[track_caller]
fn check_blocks(dtype: GgmlDType, rows: usize, inputs: usize, outputs: usize) {
    if !ready() || !suits_blocks(dtype, &Device::Cpu) {
        return;
    }
    let values = Tensor::from_vec(random(outputs * inputs, 11), (outputs, inputs), &Device::Cpu).unwrap();
    let blocks = QTensor::quantize(&values, dtype).unwrap();
    let bytes = blocks.data().unwrap();
    let of_row = bytes.len() / outputs;
    let some = |some: Range<usize>| Ok::<_, candle_core::Error>(&bytes[some.start * of_row..some.end * of_row]);
    let weight = Blocks::new(dtype, (outputs, inputs), some).unwrap();
    let x = random(rows * inputs, 13);
    let [tiles, plain] = [Kernel::Amx, Kernel::Avx512].map(|kernel| weight.product_by(kernel, &x));
    for (place, (tiles, plain)) in tiles.iter().zip(&plain).enumerate() {
        assert_eq!(
            tiles.to_bits(),
            plain.to_bits(),
            "{dtype:?} {rows} x {inputs} x {outputs}: value {place} is {tiles}, not {plain}"
        );
    }
}

#[test]
fn quantised_weights_are_the_same_by_tiles() {
    let small = [
        GgmlDType::Q4_0,
        GgmlDType::Q4_1,
        GgmlDType::Q5_0,
        GgmlDType::Q5_1,
        GgmlDType::Q8_0,
    ];
    for dtype in small {
        check_blocks(dtype, 9, 64, 16);
        check_blocks(dtype, 35, 32 * 11, 50); // units and chunks that end early, and partial blocks of rows and outputs
        check_blocks(dtype, 64, 512, 32);
    }
    for dtype in [GgmlDType::Q4K, GgmlDType::Q5K, GgmlDType::Q6K] {
        check_blocks(dtype, 9, 256, 16);
        check_blocks(dtype, 35, 768, 50);
        check_blocks(dtype, 64, 512, 32);
    }
}
