//! Chooses the innermost loop for this processor.

use super::rows::SomeRows;
use super::{GROUPS, Line, MOST_ROWS, PANEL, amx, avx2, avx512, blocks, portable};
use std::sync::OnceLock;

/// The type of the values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    F32,
    Bf16,
}

impl Kind {
    /// Inputs in a word.
    pub fn inputs(self) -> usize {
        match self {
            Kind::F32 => 1,
            Kind::Bf16 => 2,
        }
    }
}

/// The innermost loops, each of which needs more from a processor than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(super) enum Kernel {
    Portable,
    Avx2,
    Avx512,
    /// For bf16 only.
    Amx,
}

impl Kernel {
    /// The best kernel of the processor for these values.
    pub fn best(kind: Kind) -> Kernel {
        static BEST: OnceLock<[Kernel; 2]> = OnceLock::new();
        let best = BEST.get_or_init(|| [Kind::F32, Kind::Bf16].map(|kind| Kernel::choose(kind, Kernel::most())));
        best[usize::from(kind == Kind::Bf16)]
    }

    pub fn choose(kind: Kind, most: Kernel) -> Kernel {
        let has = |kernel: &Kernel| match (kernel, kind) {
            (Kernel::Portable, _) => true,
            (Kernel::Avx2, _) => avx2::has(),
            (Kernel::Avx512, Kind::F32) => avx512::has_f32(),
            (Kernel::Avx512, Kind::Bf16) => avx512::has_bf16(),
            (Kernel::Amx, _) => kind == Kind::Bf16 && amx::usable(blocks::tiles_agree),
        };
        let known = [Kernel::Amx, Kernel::Avx512, Kernel::Avx2].into_iter();
        known
            .filter(|kernel| *kernel <= most)
            .find(has)
            .unwrap_or(Kernel::Portable)
    }

    /// The user's upper limit (`HOST_KERNELS`), to compare kernels or to work around a fault.
    pub fn most() -> Kernel {
        Kernel::named(std::env::var("HOST_KERNELS").as_deref().unwrap_or_default())
    }

    pub fn named(name: &str) -> Kernel {
        match name {
            "portable" => Kernel::Portable,
            "avx2" => Kernel::Avx2,
            "avx512" => Kernel::Avx512,
            _ => Kernel::Amx,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Kernel::Portable => "portable",
            Kernel::Avx2 => "avx2",
            Kernel::Avx512 => "avx512",
            Kernel::Amx => "amx",
        }
    }

    /// Rows of a tile, at most.
    pub fn rows(self, kind: Kind) -> usize {
        match self {
            Kernel::Portable => portable::ROWS,
            Kernel::Avx2 => avx2::rows(kind),
            Kernel::Avx512 => MOST_ROWS,
            Kernel::Amx => amx::FEW,
        }
    }

    pub fn groups(self) -> usize {
        match self {
            Kernel::Portable | Kernel::Avx2 | Kernel::Avx512 => GROUPS,
            Kernel::Amx => usize::MAX, // a few rows need no cache, and are summed in the same order as many
        }
    }

    /// Computes `tile` (rows, 32) from a panel, or some groups of it, and as many words of some rows.
    pub fn tile(self, x: SomeRows, lines: &[Line], tile: &mut [[f32; PANEL]]) {
        match self {
            Kernel::Portable => portable::tile(x, lines, tile),
            Kernel::Avx2 => avx2::tile(x, lines, tile),
            Kernel::Avx512 => avx512::tile(x, lines, tile),
            Kernel::Amx => amx::few_rows(x, lines, tile),
        }
    }
}

/// The class of the kernels that this process uses. Within a class a prompt gives the same bits. Classes differ in
/// the order in which products of bf16 are summed; products of fp32 and of blocks are equal in all classes except
/// `portable`.
pub fn kernel_class() -> &'static str {
    Kernel::best(Kind::Bf16).name()
}
