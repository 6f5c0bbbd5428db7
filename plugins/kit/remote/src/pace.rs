//! Adapts the number of concurrent calls: more after successes, fewer when a service reports too many requests.
//!
//! Services do not publish exact limits, so they are found by additive increase and multiplicative decrease.

use plugin_api::{Code, Error, Result};

/// After a decrease there is no other for this many seconds, since several calls may be refused at the same moment.
const SETTLE: f64 = 15.0;

/// Minimum, initial and maximum number of concurrent calls: `start` or `min-start-max`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub min: u32,
    pub start: u32,
    pub max: u32,
}

impl Default for Spread {
    fn default() -> Self {
        Spread {
            min: 1,
            start: 4,
            max: 64,
        }
    }
}

impl Spread {
    pub fn parse(text: &str, default: Spread) -> Result<Spread> {
        let wrong = || {
            let error = Error::new(
                Code::SETTINGS,
                format!("setting `concurrency` is `{text}`, expected `START` or `MIN-START-MAX`"),
            );
            error.help("as in `concurrency=16` or `concurrency=1-4-64`")
        };
        let numbers: Vec<u32> = text
            .split('-')
            .map(|part| part.trim().parse())
            .collect::<std::result::Result<_, _>>()
            .map_err(|_| wrong())?;
        let spread = match numbers[..] {
            [start] => Spread {
                start,
                max: default.max.max(start),
                ..default
            },
            [min, start, max] => Spread { min, start, max },
            _ => return Err(wrong()),
        };
        match 1 <= spread.min && spread.min <= spread.start && spread.start <= spread.max && spread.max <= 4096 {
            true => Ok(spread),
            false => Err(wrong()),
        }
    }
}

/// The limit for one model at one address. Times are seconds of a monotonic clock.
#[derive(Debug, Clone)]
pub struct Pace {
    spread: Spread,
    limit: f64,
    /// Until the first 429, the limit grows by one with each success.
    first_phase: bool,
    /// No request is sent before this time.
    gate: f64,
    /// No decrease before this time.
    settled: f64,
}

impl Pace {
    pub fn new(spread: Spread) -> Pace {
        Pace {
            spread,
            limit: f64::from(spread.start),
            first_phase: true,
            gate: 0.0,
            settled: 0.0,
        }
    }

    /// How many calls may be in progress.
    pub fn allowed(&self) -> usize {
        self.limit.floor().max(1.0) as usize
    }

    /// The time before which no request is sent.
    pub fn gate(&self) -> f64 {
        self.gate
    }

    /// A call succeeded at its first attempt.
    pub fn success(&mut self) {
        let more = if self.first_phase { 1.0 } else { 1.0 / self.limit };
        self.limit = (self.limit + more).min(f64::from(self.spread.max));
    }

    /// The service reported too many requests and asked to wait this many seconds.
    pub fn too_many(&mut self, now: f64, wait: f64) {
        self.first_phase = false;
        self.gate = self.gate.max(now + wait);
        if now >= self.settled {
            self.limit = (self.limit * 0.7).max(f64::from(self.spread.min));
            self.settled = now + wait.max(SETTLE);
        }
    }
}

/// The user's limits: one call in this many seconds, and this many tokens a minute.
#[derive(Debug, Clone, Default)]
pub struct Rate {
    /// Seconds from a call to the next, from `rpm`.
    call: f64,
    /// Seconds for each token, from `tpm`.
    token: f64,
    next: f64,
}

impl Rate {
    pub fn new(rpm: Option<f64>, tpm: Option<f64>) -> Rate {
        let each = |a_minute: Option<f64>| a_minute.filter(|most| *most > 0.0).map_or(0.0, |most| 60.0 / most);
        Rate {
            call: each(rpm),
            token: each(tpm),
            next: 0.0,
        }
    }

    /// Takes the next place in the queue for a call of this many tokens, and returns its time.
    pub fn turn(&mut self, now: f64, tokens: f64) -> f64 {
        let turn = self.next.max(now);
        self.next = turn + self.call.max(self.token * tokens);
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(min: u32, start: u32, max: u32) -> Spread {
        Spread { min, start, max }
    }

    /// The example of the specification.
    #[test]
    fn the_limit_grows_by_steps_and_shrinks_by_a_share() {
        let mut pace = Pace::new(spread(1, 2, 8));
        let mut seen = Vec::new();
        let ok = |pace: &mut Pace, seen: &mut Vec<f64>| {
            pace.success();
            seen.push(pace.limit);
        };
        let busy = |pace: &mut Pace, seen: &mut Vec<f64>, at: f64, wait: f64| {
            pace.too_many(at, wait);
            seen.push(pace.limit);
        };
        (0..3).for_each(|_| ok(&mut pace, &mut seen));
        busy(&mut pace, &mut seen, 10.0, 2.0);
        busy(&mut pace, &mut seen, 12.0, 0.0);
        (0..3).for_each(|_| ok(&mut pace, &mut seen));
        busy(&mut pace, &mut seen, 26.0, 40.0);
        busy(&mut pace, &mut seen, 60.0, 0.0);
        busy(&mut pace, &mut seen, 66.0, 0.0);
        (0..2).for_each(|_| ok(&mut pace, &mut seen));
        let golden = [
            3.0, 4.0, 5.0, 3.5, 3.5, 3.785714, 4.049865, 4.296787, 3.007751, 3.007751, 2.105426, 2.580389, 2.967927,
        ];
        assert_eq!(seen.len(), golden.len());
        for (found, golden) in seen.iter().zip(golden) {
            assert!((found - golden).abs() < 1e-6, "{seen:?}");
        }
        assert_eq!(pace.allowed(), 2);
        assert_eq!(pace.gate(), 66.0);
    }

    #[test]
    fn spreads_are_read() {
        let read = |text: &str| Spread::parse(text, Spread::default());
        assert_eq!(read("16").unwrap(), spread(1, 16, 64));
        assert_eq!(read("100").unwrap(), spread(1, 100, 100));
        assert_eq!(read("2-4-8").unwrap(), spread(2, 4, 8));
        for wrong in ["", "0", "4-2-8", "1-2", "x", "1-4-9999"] {
            assert!(read(wrong).unwrap_err().message.contains("MIN-START-MAX"), "{wrong}");
        }
    }

    #[test]
    fn calls_are_spaced_by_the_rates_that_the_user_gave() {
        let mut rate = Rate::new(Some(60.0), Some(6000.0));
        assert_eq!(
            [rate.turn(0.0, 10.0), rate.turn(0.0, 500.0), rate.turn(0.0, 1.0)],
            [0.0, 1.0, 6.0]
        );
        let mut free = Rate::new(None, None);
        assert_eq!([free.turn(3.0, 9.0), free.turn(3.0, 9.0)], [3.0, 3.0]);
    }
}
