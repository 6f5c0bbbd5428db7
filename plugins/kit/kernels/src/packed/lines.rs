//! Memory of packed weights.
//!
//! One new token reads all weights once, so memory decides how long it takes. With pages of four kilobytes, a fifth or
//! more of that time is address translation. So large pages are used, which Linux gives on request
//! (`/sys/kernel/mm/transparent_hugepage/enabled`: `madvise` or `always`).

use super::LANES;
use bytemuck::{Pod, Zeroable};
use candle_core::Result;
use memmap2::MmapMut;
use std::ops::{Deref, DerefMut};

/// The size of a large page on common processors.
const LARGE: usize = 2 << 20;

/// The size and alignment of a cache line. Words are one fp32 or two bf16, the first of them lower.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(super) struct Line(pub [u32; LANES]);

/// A buffer of lines, zero at first. Pages that are never touched take no memory.
pub(super) struct Lines {
    /// None if there are no lines.
    map: Option<MmapMut>,
    start: usize,
    bytes: usize,
}

impl Lines {
    pub fn zeroed(count: usize) -> Result<Lines> {
        let bytes = count * size_of::<Line>();
        if bytes == 0 {
            return Ok(Lines {
                map: None,
                start: 0,
                bytes,
            });
        }
        let whole = bytes / LARGE * LARGE;
        let room = bytes + if whole > 0 { LARGE } else { 0 };
        let map = MmapMut::map_anon(room)
            .map_err(|error| candle_core::Error::Msg(format!("no memory for {bytes} bytes of weights: {error}")))?;
        let start = match whole {
            0 => 0,
            _ => map.as_ptr().align_offset(LARGE).min(LARGE),
        };
        // Only whole large pages, so that a matrix takes no more memory than it has. A kernel without large pages
        // refuses, and pages stay small.
        #[cfg(target_os = "linux")]
        if whole > 0 {
            let _ = map.advise_range(memmap2::Advice::HugePage, start, whole);
        }
        Ok(Lines {
            map: Some(map),
            start,
            bytes,
        })
    }
}

impl Deref for Lines {
    type Target = [Line];

    fn deref(&self) -> &[Line] {
        match &self.map {
            Some(map) => bytemuck::cast_slice(&map[self.start..self.start + self.bytes]),
            None => &[],
        }
    }
}

impl DerefMut for Lines {
    fn deref_mut(&mut self) -> &mut [Line] {
        match &mut self.map {
            Some(map) => bytemuck::cast_slice_mut(&mut map[self.start..self.start + self.bytes]),
            None => &mut [],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_zero_and_one_s_own_whatever_their_number() {
        let large = LARGE / size_of::<Line>();
        for count in [0, 1, 63, large - 1, large, large + 1, 3 * large + 7] {
            let mut lines = Lines::zeroed(count).unwrap();
            let other = Lines::zeroed(count).unwrap();
            assert_eq!(lines.len(), count);
            lines.iter_mut().enumerate().for_each(|(number, line)| {
                assert_eq!(line.0, [0; LANES]);
                line.0[LANES - 1] = number as u32;
            });
            assert!(
                lines
                    .iter()
                    .enumerate()
                    .all(|(number, line)| line.0[LANES - 1] == number as u32)
            );
            assert!(other.iter().all(|line| line.0 == [0; LANES]));
            if count >= large {
                assert!(lines.as_ptr().align_offset(LARGE) == 0);
            }
        }
    }
}
