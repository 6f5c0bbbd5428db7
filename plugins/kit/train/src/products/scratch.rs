//! Buffers that a thread reuses: clearing memory that is overwritten anyway, and getting pages from the system, takes
//! up to a tenth of a step.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// This many values, which are left over from the last use.
#[derive(Debug)]
pub(crate) struct Scratch {
    values: Vec<f32>,
    count: usize,
}

/// Idle buffers that a thread keeps.
const IDLE: usize = 16;

thread_local! {
    static WAITING: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

impl Scratch {
    pub fn new(count: usize) -> Scratch {
        let fits = |values: &&Vec<f32>| (count..=2 * count).contains(&values.len());
        let values = WAITING.with_borrow_mut(|waiting| {
            let smallest = waiting.iter().filter(fits).map(Vec::len).min()?;
            let place = waiting.iter().position(|values| values.len() == smallest)?;
            Some(waiting.remove(place))
        });
        Scratch {
            values: values.unwrap_or_else(|| kernels::memory::zeros(count)),
            count,
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let values = std::mem::take(&mut self.values);
        // On a thread that is ending, the buffer is freed.
        let _ = WAITING.try_with(|waiting| {
            let mut waiting = waiting.borrow_mut();
            waiting.push(values);
            if waiting.len() > IDLE {
                waiting.remove(0);
            }
        });
    }
}

impl Deref for Scratch {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values[..self.count]
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[..self.count]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_about_the_same_size_are_used_again_and_not_all_are_kept() {
        let first = Scratch::new(1000).as_ptr();
        assert_eq!(Scratch::new(600).as_ptr(), first, "the same piece");
        assert_eq!(Scratch::new(600).len(), 600);
        assert_ne!(Scratch::new(400).len(), 1000);
        let many: Vec<Scratch> = (0..2 * IDLE).map(|_| Scratch::new(10)).collect();
        drop(many);
        assert!(WAITING.with_borrow(Vec::len) <= IDLE);
    }
}
