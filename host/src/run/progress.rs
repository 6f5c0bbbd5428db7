//! Progress on standard error: rate, time left and the running score. Nothing if it is not a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;

/// One bar.
pub struct Progress(ProgressBar);

impl Progress {
    /// A bar over a number of samples; `done` of them are from an earlier session and do not count for rate and time
    /// left.
    pub fn samples(name: &str, total: u64, quiet: bool) -> Progress {
        let bar = bar(total, quiet);
        let shape = "{prefix} {bar:24} {pos}/{len} {per_sec} ETA {eta} {msg}";
        bar.set_style(style(shape));
        bar.set_prefix(name.to_owned());
        bar.enable_steady_tick(Duration::from_millis(500));
        Progress(bar)
    }

    /// A bar over work that reports what share is done.
    pub fn share(name: &str, quiet: bool) -> Progress {
        let bar = bar(1000, quiet);
        bar.set_style(style("{prefix} {bar:24} {percent}% ETA {eta}"));
        bar.set_prefix(name.to_owned());
        Progress(bar)
    }

    pub fn reach(&self, share: f64) {
        self.0.set_position((share.clamp(0.0, 1.0) * 1000.0) as u64);
    }

    /// Samples that are done already.
    pub fn skip(&self) {
        self.0.set_position(self.0.position() + 1);
        self.0.reset_eta();
    }

    pub fn tick(&self) {
        self.0.inc(1);
    }

    pub fn say(&self, message: String) {
        self.0.set_message(message);
    }

    pub fn end(&self) {
        self.0.finish_and_clear();
    }
}

fn bar(total: u64, quiet: bool) -> ProgressBar {
    let target = if quiet {
        ProgressDrawTarget::hidden()
    } else {
        ProgressDrawTarget::stderr()
    };
    ProgressBar::with_draw_target(Some(total), target)
}

fn style(shape: &str) -> ProgressStyle {
    ProgressStyle::with_template(shape).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Draws downloads, one bar for each repository.
pub fn download_bar(quiet: bool) -> impl Fn(&str, hub::Progress<'_>) + Sync {
    let bar = bar(0, quiet);
    bar.set_style(style(
        "{prefix} {bar:24} {bytes}/{total_bytes} {bytes_per_sec} ETA {eta} {msg}",
    ));
    move |id, progress| {
        bar.set_prefix(id.to_owned());
        bar.set_length(progress.total_bytes);
        bar.set_position(progress.done_bytes);
        bar.set_message(format!(
            "{} ({}/{})",
            progress.file, progress.done_files, progress.total_files
        ));
        if progress.done_bytes >= progress.total_bytes && progress.done_files >= progress.total_files {
            bar.finish_and_clear();
        }
    }
}
