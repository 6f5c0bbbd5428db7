//! Large pages for large arrays, and prefetching.
//!
//! If a matrix is in pages of four kilobytes and is read across rows, address translation costs more than the
//! arithmetic. Linux gives large pages on request (`/sys/kernel/mm/transparent_hugepage/enabled`).
#![allow(unsafe_code)] // advice about memory that is owned, which changes no value

use std::mem::MaybeUninit;

/// The size of a large page on common processors.
const LARGE: usize = 2 << 20;

/// An empty vector with this capacity, in large pages if available.
pub fn with_room<T>(count: usize) -> Vec<T> {
    let mut values = Vec::with_capacity(count);
    advise(values.spare_capacity_mut());
    values
}

/// Zeros, in large pages if available.
pub fn zeros(count: usize) -> Vec<f32> {
    let mut values = vec![0.0; count];
    // Zeros that were never written have no pages yet, so the advice still takes effect.
    let memory = values.as_mut_ptr().cast::<MaybeUninit<f32>>();
    // SAFETY: the vector's own values, borrowed for the call.
    advise(unsafe { std::slice::from_raw_parts_mut(memory, count) });
    values
}

fn advise<T>(memory: &mut [MaybeUninit<T>]) {
    let bytes = size_of_val(memory);
    let start = memory.as_mut_ptr().cast::<u8>();
    let skipped = start.align_offset(LARGE);
    if skipped >= bytes || bytes - skipped < LARGE {
        return;
    }
    #[cfg(target_os = "linux")]
    // SAFETY: whole pages inside memory that the caller owns. A kernel without large pages refuses, and pages stay
    // small.
    unsafe {
        let whole = (bytes - skipped) / LARGE * LARGE;
        libc::madvise(start.add(skipped).cast(), whole, libc::MADV_HUGEPAGE);
    }
}

/// Makes the allocator keep freed memory for the next request instead of returning it to the system, which would clear
/// it again. For processes that allocate the same sizes all the time, as in training.
pub fn keep_what_is_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: sets parameters of the C library's allocator, which is allowed at any time.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}

/// Prefetches values that will be read soon.
#[inline(always)]
pub fn prefetch<T>(values: &[T]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let start = values.as_ptr().cast::<i8>();
        for at in (0..size_of_val(values)).step_by(64) {
            // SAFETY: inside the slice, and a prefetch has no other effect.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(start.add(at)) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_with_advice_is_memory_like_any_other() {
        for count in [0, 1, LARGE / 4, LARGE, 3 * LARGE + 5] {
            let mut room = with_room::<u16>(count);
            assert!(room.is_empty() && room.capacity() >= count);
            room.extend((0..count).map(|n| n as u16));
            assert!(room.iter().enumerate().all(|(n, &x)| x == n as u16));
            let zeros = zeros(count);
            assert!(zeros.len() == count && zeros.iter().all(|&x| x == 0.0));
            prefetch(&zeros);
        }
    }
}
