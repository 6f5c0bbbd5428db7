//! The spending limit of a command, over all its models and processes.
//!
//! Plugins share no memory, and a model may run in a process of its own. So the sum is kept in a file: an integer in
//! billionths of a dollar, read and written under the file's lock.

use plugin_api::{Code, Context, Error, Result};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

const UNIT: f64 = 1e9;

/// The spending limit and the sum so far.
#[derive(Debug)]
pub struct Budget {
    /// The file's lock keeps other processes out, the mutex threads of this process.
    file: Mutex<File>,
    most: f64,
}

impl Budget {
    /// Opens the budget in this file; a new file begins with nothing spent.
    pub fn open(path: &Path, most: f64) -> Result<Budget> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path);
        let file = file.with_context(|| format!("cannot open the budget `{}`", path.display()))?;
        Ok(Budget {
            file: Mutex::new(file),
            most,
        })
    }

    /// Reserves money. False, without a change, if the sum would exceed the limit.
    pub fn reserve(&self, dollars: f64) -> Result<bool> {
        self.change(|spent| (spent + dollars <= self.most + 1e-12).then_some(dollars))
    }

    /// Adds to the sum without a check; a negative amount returns reserved money.
    pub fn add(&self, dollars: f64) -> Result<()> {
        self.change(|_| Some(dollars)).map(drop)
    }

    /// The limit.
    pub fn most(&self) -> f64 {
        self.most
    }

    fn change(&self, by: impl FnOnce(f64) -> Option<f64>) -> Result<bool> {
        let failed = |why: std::io::Error| Error::new(Code::OTHER, "cannot update the budget").cause(why.to_string());
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.lock().map_err(failed)?;
        let changed = change_locked(&mut file, by);
        let unlocked = file.unlock();
        let changed = changed.map_err(failed)?;
        unlocked.map_err(failed)?;
        Ok(changed)
    }
}

fn change_locked(file: &mut File, by: impl FnOnce(f64) -> Option<f64>) -> std::io::Result<bool> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_string(&mut text)?;
    let spent = match text.trim() {
        "" => 0,
        sum => sum.parse::<i64>().map_err(std::io::Error::other)?,
    };
    let Some(dollars) = by(spent as f64 / UNIT) else {
        return Ok(false);
    };
    let spent = spent + (dollars * UNIT).round() as i64;
    file.seek(SeekFrom::Start(0))?;
    // Padded to a fixed width, so that nothing of a longer number remains.
    file.write_all(format!("{spent:>20}\n").as_bytes())?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_who_share_a_budget_never_pass_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("budget");
        let [one, two] = [0, 1].map(|_| Budget::open(&path, 1.0).unwrap());
        assert!(one.reserve(0.6).unwrap());
        assert!(!two.reserve(0.6).unwrap());
        one.add(-0.5).unwrap(); // it cost only a tenth
        assert!(two.reserve(0.9).unwrap());
        assert!(!one.reserve(0.000001).unwrap());
    }

    #[test]
    fn neither_threads_nor_processes_lose_each_others_sums() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("budget");
        let shared = Budget::open(&path, 1.0).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..50).for_each(|_| shared.add(0.001).unwrap()));
                // A separate open file, as in another process.
                scope.spawn(|| {
                    let own = Budget::open(&path, 1.0).unwrap();
                    (0..50).for_each(|_| own.add(0.001).unwrap());
                });
            }
        });
        assert!(shared.reserve(0.6).unwrap() && !shared.reserve(0.001).unwrap());
    }

    #[test]
    fn a_file_that_is_no_sum_is_refused_and_not_taken_for_nothing_spent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("budget");
        std::fs::write(&path, "twelve\n").unwrap();
        assert!(Budget::open(&path, 1.0).unwrap().reserve(0.1).is_err());
    }
}
