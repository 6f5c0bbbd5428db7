/// The type of a tensor, by its number in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind(pub u32);

impl Kind {
    /// Values and bytes of a block, if the type is known.
    pub fn block(self) -> Option<(u64, u64)> {
        Some(match self.0 {
            0 => (1, 4),      // f32
            1 | 30 => (1, 2), // f16, bf16
            2 => (32, 18),    // q4_0
            3 => (32, 20),    // q4_1
            6 => (32, 22),    // q5_0
            7 => (32, 24),    // q5_1
            8 => (32, 34),    // q8_0
            9 => (32, 36),    // q8_1
            10 => (256, 84),  // q2_k
            11 => (256, 110), // q3_k
            12 => (256, 144), // q4_k
            13 => (256, 176), // q5_k
            14 => (256, 210), // q6_k
            15 => (256, 292), // q8_k
            other => return super::blocks::size(other),
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub kind: Kind,
    /// The innermost dimension last, unlike in the file.
    pub shape: Vec<usize>,
    pub start: u64,
    /// 0 if the type is not known.
    pub length: u64,
    /// The number of the file, if the model is split.
    pub(super) part: usize,
}
