//! Bytes equal candle's, also for rows that look like no weights.

use super::*;

const DTYPES: [GgmlDType; 3] = [GgmlDType::Q8_0, GgmlDType::Q4K, GgmlDType::Q6K];

#[track_caller]
fn check(values: &[f32]) {
    for dtype in DTYPES {
        let (got, expected) = (quantise(values, dtype).unwrap(), by_candle(values, dtype).unwrap());
        let differs = got
            .chunks(dtype.type_size())
            .zip(expected.chunks(dtype.type_size()))
            .position(|(got, expected)| got != expected);
        if let Some(block) = differs {
            let size = dtype.block_size();
            panic!(
                "{dtype:?}, block {block} of {:?}",
                &values[block * size..(block + 1) * size]
            );
        }
        assert_eq!(got.len(), expected.len());
    }
}

/// Random numbers from 0 to 1, the same for the same seed.
struct Random(u64);

impl Random {
    fn share(&mut self) -> f32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 24) as f32
    }

    /// Roughly distributed like weights.
    fn bell(&mut self) -> f32 {
        (0..6).map(|_| self.share()).sum::<f32>() - 3.0
    }
}

#[test]
fn weights_become_candle_s_bytes() {
    let mut random = Random(1);
    // Odd numbers of blocks as well, and as many as real layers have.
    for blocks in [1, 2, 3, 64] {
        for spread in [1e-3, 0.02, 1.0, 300.0] {
            let values: Vec<f32> = (0..blocks * LARGE).map(|_| spread * random.bell()).collect();
            check(&values);
            // Rounded to bf16, so that values repeat.
            let coarse: Vec<f32> = values
                .iter()
                .map(|x| f32::from_bits(x.to_bits() & 0xffff_0000))
                .collect();
            check(&coarse);
        }
    }
    // Small blocks that have little in common.
    let values: Vec<f32> = (0..200 * LARGE)
        .map(|at| random.bell() * 10f32.powi((at / 16 * 7 % 9) as i32 - 6) + ((at / 32) % 3) as f32 - 1.0)
        .collect();
    check(&values);
}

#[test]
fn rows_that_no_layer_has_become_candle_s_bytes() {
    let of = |value: fn(usize) -> f32| (0..3 * LARGE).map(value).collect::<Vec<f32>>();
    check(&of(|_| 0.0));
    check(&of(|_| -0.0));
    check(&of(|at| if at % 2 == 0 { 0.0 } else { -0.0 }));
    check(&of(|_| 1.0));
    check(&of(|_| -0.375));
    check(&of(|at| if at == 300 { 5.0 } else { 0.0 }));
    check(&of(|at| if at % 32 == 31 { -1.0 } else { 0.0 }));
    check(&of(|at| if at / 16 % 2 == 0 { 0.0 } else { at as f32 }));
    check(&of(|at| at as f32));
    check(&of(|at| -(at as f32) - 1.0));
    // Halfway between two codes.
    check(&of(|at| (at % 31) as f32 - 15.5));
    check(&of(|at| (at % 63) as f32 / 2.0));
    check(&of(|at| if at % 7 == 0 { f32::MAX } else { f32::MIN }));
    check(&of(|at| f32::MAX / (at + 1) as f32));
    check(&of(|at| f32::MIN_POSITIVE * at as f32));
    check(&of(|at| f32::from_bits(at as u32)));
    check(&of(|at| -f32::from_bits(1 + at as u32 % 3)));
    check(&of(|at| if at == 5 { 1e30 } else { 1e-30 * at as f32 }));
    check(&of(|at| 1e-20 * (at % 17) as f32));
    check(&of(|at| 6e6 * (at % 19) as f32)); // scales beyond fp16
    check(&of(|at| if at == 40 { f32::NAN } else { at as f32 }));
    check(&of(|at| if at == 400 { f32::INFINITY } else { at as f32 }));
    check(&of(|at| if at == 600 { f32::NEG_INFINITY } else { at as f32 }));
}

#[test]
fn any_bits_become_candle_s_bytes() {
    let mut random = Random(7);
    for _ in 0..300 {
        let values: Vec<f32> = (0..LARGE)
            .map(|_| {
                let bits = (random.share() * 65536.0) as u32;
                let value = f32::from_bits(bits << 16 | (random.share() * 65536.0) as u32);
                if value.is_finite() { value } else { 0.0 }
            })
            .collect();
        check(&values);
    }
    // A few powers of ten away from zero in both directions.
    for power in -44..38 {
        let values: Vec<f32> = (0..LARGE)
            .map(|_| (10f64.powi(power) * f64::from(random.bell())) as f32)
            .collect();
        check(&values);
    }
}

#[test]
fn what_is_no_whole_block_is_refused() {
    let message = quantise(&[0.0; 40], GgmlDType::Q8_0).unwrap_err().to_string();
    assert!(
        message.starts_with("40 values are not whole blocks of Q8_0"),
        "{message}"
    );
    // Types without a quantiser of their own here.
    let values = [1.0; LARGE];
    assert_eq!(
        quantise(&values, GgmlDType::Q5K).unwrap(),
        by_candle(&values, GgmlDType::Q5K).unwrap()
    );
}
