/// What a tensor is stored as, by the number that files have for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind(pub u32);

impl Kind {
    /// Values in a block and bytes of a block, of the kinds known here.
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

/// A tensor and where its bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub kind: Kind,
    /// As everywhere but in these files: the innermost dimension last.
    pub shape: Vec<usize>,
    pub start: u64,
    /// 0 for a kind that is not known.
    pub length: u64,
    /// Which of the files it is in, where a model is split.
    pub(super) part: usize,
}
