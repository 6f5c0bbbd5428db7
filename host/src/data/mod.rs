//! `host data`: a task's samples without a run, as training rows, counts and files.
//!
//! Nothing here knows any task. The task itself says, through the boundary, what a sample is, what to learn from it and
//! what it is counted under. Samples are read on several threads and passed on in the order of the data.

pub mod letters;
pub mod rows;
pub mod split;
pub mod stats;

use crate::export::Folder;
use crate::failure::{Exit, Failure, Result};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Calls a function for every sample, and passes on the results in the order of the data.
pub fn in_order<T: Send>(
    indexes: &[usize],
    stop: &AtomicBool,
    work: impl Fn(usize) -> T + Sync,
    mut tell: impl FnMut(T) -> Result<()>,
) -> Result<()> {
    // Enough to keep all threads busy, and few enough to hold in memory with their sound.
    const AT_ONCE: usize = 1024;
    let threads = std::thread::available_parallelism().map_or(2, usize::from).min(16);
    for some in indexes.chunks(AT_ONCE) {
        if stop.load(Ordering::Relaxed) {
            return Err(Failure::new(Exit::Interrupted, "interrupted").help("nothing was written"));
        }
        let share = some.len().div_ceil(threads);
        let done: Vec<Vec<T>> = std::thread::scope(|scope| {
            let work = &work;
            let parts = some.chunks(share.max(1));
            let threads: Vec<_> = parts
                .map(|part| scope.spawn(move || part.iter().map(|index| work(*index)).collect()))
                .collect();
            let joined = threads.into_iter().map(|thread| thread.join());
            joined
                .collect::<std::result::Result<_, _>>()
                .map_err(|_| Failure::new(Exit::Refused, "a thread that was reading samples panicked"))
        })?;
        done.into_iter().flatten().try_for_each(&mut tell)?;
    }
    Ok(())
}

/// Where lines go: a file that appears once it is complete, or standard output.
pub enum Lines<'a> {
    File {
        folder: Folder,
        name: String,
        path: PathBuf,
    },
    Printed {
        print: &'a dyn Fn(&str),
        waiting: RefCell<String>,
    },
}

impl<'a> Lines<'a> {
    /// Writes to this file, or else to the function that prints.
    pub fn open(path: Option<&Path>, print: &'a dyn Fn(&str)) -> Result<Lines<'a>> {
        let Some(path) = path else {
            let waiting = RefCell::default();
            return Ok(Lines::Printed { print, waiting });
        };
        let Some(name) = path.file_name() else {
            return Err(Failure::usage(format!("`{}` names no file", path.display())));
        };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        Ok(Lines::File {
            folder: Folder::new(parent.unwrap_or(Path::new(".")))?,
            name: name.to_string_lossy().into_owned(),
            path: path.to_owned(),
        })
    }

    /// Adds text, its line ends included.
    pub fn add(&self, text: &str) -> Result<()> {
        match self {
            Lines::File { folder, name, .. } => folder.add(name, text),
            Lines::Printed { print, waiting } => {
                let mut waiting = waiting.borrow_mut();
                waiting.push_str(text);
                if waiting.len() > 1 << 16 {
                    print(&std::mem::take(&mut *waiting));
                }
                Ok(())
            }
        }
    }

    /// The finished file.
    pub fn finish(self) -> Result<Option<PathBuf>> {
        match self {
            Lines::File { folder, name, path } => {
                folder.add(&name, "")?;
                folder.finish()?;
                Ok(Some(path))
            }
            Lines::Printed { print, waiting } => {
                print(&waiting.into_inner());
                Ok(None)
            }
        }
    }
}

/// Samples that could not be used, and the first reason.
#[derive(Debug, Default)]
pub struct Troubles {
    pub count: u64,
    first: Option<plugin_api::Error>,
}

impl Troubles {
    /// Notes one. Something that a task or model can't do for any sample ends the command.
    pub fn add(&mut self, error: plugin_api::Error) -> Result<()> {
        if error.code.is_inability() {
            return Err(error.into());
        }
        self.count += 1;
        self.first.get_or_insert(error);
        Ok(())
    }

    /// A sentence about them, if there are any.
    pub fn words(&self, of: usize) -> Option<String> {
        let first = self.first.as_ref()?;
        Some(format!(
            "{} of {of} samples could not be used, the first: {first}",
            self.count
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_told_in_order_until_somebody_stops() {
        let indexes: Vec<usize> = (0..5000).collect();
        let (mut told, stop) = (Vec::new(), AtomicBool::new(false));
        let tell = |index| {
            told.push(index);
            Ok(())
        };
        in_order(&indexes, &stop, |index| index, tell).unwrap();
        assert_eq!(told, indexes);
        stop.store(true, Ordering::Relaxed);
        let stopped = in_order(&indexes, &stop, |index| index, |_| Ok(()));
        assert_eq!(stopped.unwrap_err().exit, Exit::Interrupted);
        let failed = in_order(
            &indexes,
            &AtomicBool::new(false),
            |index| index,
            |_| Err(Failure::usage("full")),
        );
        assert_eq!(failed.unwrap_err().exit, Exit::Usage);
        assert!(in_order(&[], &AtomicBool::new(false), |_| (), |()| Ok(())).is_ok());
    }
}
