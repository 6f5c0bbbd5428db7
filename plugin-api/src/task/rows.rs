//! A run's finished samples, which a task reads to sum up.

use crate::wire::{Callbacks, Envelope};
use crate::Result;

/// The finished samples of a run, read one by one.
pub struct Rows<'a> {
    host: &'a dyn Callbacks,
    page: std::vec::IntoIter<crate::Row>,
    ended: bool,
}

impl<'a> Rows<'a> {
    /// The rows of this host.
    pub fn new(host: &'a dyn Callbacks) -> Self {
        Rows {
            host,
            page: Vec::new().into_iter(),
            ended: false,
        }
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<crate::Row>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.page.next() {
                return Some(Ok(row));
            }
            if self.ended {
                return None;
            }
            match self
                .host
                .ask("rows", Envelope::default())
                .and_then(|envelope| envelope.read::<Vec<crate::Row>>())
            {
                Ok(page) => {
                    self.ended = page.is_empty();
                    self.page = page.into_iter();
                }
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
    }
}
