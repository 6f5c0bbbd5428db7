//! The batches of an epoch.

use crate::Engine;
use crate::run::order::{Order, batches, batches_by_kind, by_length};
use crate::run::rows::RowMaker;
use crate::run::settings::Settings;
use crate::run::student::Student;
use plugin_api::{Lessons, Result, Split};

/// The batches of an epoch, in the order of the steps.
pub(super) fn epoch_batches(
    settings: &Settings,
    rows: usize,
    heard: &[bool],
    lengths: &[usize],
    epoch: u64,
) -> Vec<Vec<u32>> {
    let (run, size) = (&settings.run, settings.plan.batch_size as usize);
    let seed = settings.order_seed();
    if run.batch_by_kind && heard.contains(&true) && heard.contains(&false) {
        return batches_by_kind(heard, size, run.order, seed, epoch);
    }
    let mut order = run.order.rows(rows, seed, epoch);
    if run.group_by_length && run.order != Order::Given {
        order = by_length(order, lengths, size * settings.plan.accumulate as usize);
    }
    batches(&order, size, run.dataloader_drop_last)
}

/// For each row, whether it has a clip.
pub(super) fn kinds(lessons: &Lessons, rows: u64) -> Result<Vec<bool>> {
    let heard = |row| Ok(lessons.glance(Split::Train, row)?.is_some_and(|(_, clips)| clips > 0));
    (0..rows).map(heard).collect()
}

/// The number of tokens of each row.
pub(super) fn lengths(
    maker: &mut RowMaker,
    student: &mut dyn Student,
    engine: &mut dyn Engine,
    lessons: &Lessons,
    rows: u64,
) -> Result<Vec<usize>> {
    let length = |row| Ok(maker.row(student, engine, lessons, Split::Train, row)?.row.ids.len());
    (0..rows).map(length).collect()
}
