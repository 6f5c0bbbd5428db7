//! Progress for people who watch: steps, loss, rate, remaining time.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use plugin_api::LearnEvent;
use std::time::Duration;

pub struct Progress(ProgressBar);

impl Progress {
    pub fn new(name: &str, shown: bool) -> Progress {
        let target = match shown {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(None, target);
        let style = ProgressStyle::with_template("{prefix} {bar:24} step {pos}/{len} ETA {eta} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(name.to_owned());
        bar.enable_steady_tick(Duration::from_millis(500));
        Progress(bar)
    }

    pub fn take(&self, event: &LearnEvent) {
        if let Some(steps) = event.steps {
            self.0.set_length(steps);
        }
        match event.split.as_str() {
            "step" => {
                self.0.set_position(event.step);
                self.0.set_message(words(event));
            }
            "resumed" => {
                self.0.set_position(event.step);
                self.0.reset_eta();
            }
            _ => {}
        }
    }

    /// Prints a line above the bar.
    pub fn over(&self, say: impl FnOnce()) {
        self.0.suspend(say);
    }

    pub fn end(&self) {
        self.0.finish_and_clear();
    }
}

/// `loss 0.6931 rate 1.00e-4 1234 tokens/s`.
fn words(event: &LearnEvent) -> String {
    let mut words = Vec::new();
    if let Some(loss) = event.loss {
        words.push(format!("loss {loss:.4}"));
    }
    if let Some(rate) = event.learning_rate {
        words.push(format!("rate {rate:.2e}"));
    }
    if let Some(speed) = event.tokens_per_second {
        words.push(format!("{speed:.0} tokens/s"));
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_said() {
        let event = LearnEvent {
            loss: Some(0.7131),
            learning_rate: Some(1e-4),
            ..LearnEvent::default()
        };
        assert_eq!(words(&event), "loss 0.7131 rate 1.00e-4");
    }
}
