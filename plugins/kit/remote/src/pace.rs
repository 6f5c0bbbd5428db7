//! How many calls are under way: more while all is well, fewer when a service says that it is too many.
//!
//! Limits are nowhere written down for certain, so they are learnt: additive increase, multiplicative decrease.

use plugin_api::{Code, Error, Result};

/// After a cut no other follows for this many seconds: one moment's crowd must not be punished call by call.
const SETTLE: f64 = 15.0;

/// Least, first and most calls under way: `start` or `min-start-max`.
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

/// The limit of one model at one address. Times are seconds of any clock that only goes forward.
#[derive(Debug, Clone)]
pub struct Pace {
    spread: Spread,
    limit: f64,
    /// No 429 has come yet: the limit grows by one a success.
    first_phase: bool,
    /// Nothing goes out before this moment.
    gate: f64,
    /// No cut before this moment.
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

    /// How many calls may be under way.
    pub fn allowed(&self) -> usize {
        self.limit.floor().max(1.0) as usize
    }

    /// The moment before which nothing goes out.
    pub fn gate(&self) -> f64 {
        self.gate
    }

    /// A call was answered at its first try.
    pub fn success(&mut self) {
        let more = if self.first_phase { 1.0 } else { 1.0 / self.limit };
        self.limit = (self.limit + more).min(f64::from(self.spread.max));
    }

    /// The service said that it is too many, and to wait this many seconds.
    pub fn too_many(&mut self, now: f64, wait: f64) {
        self.first_phase = false;
        self.gate = self.gate.max(now + wait);
        if now >= self.settled {
            self.limit = (self.limit * 0.7).max(f64::from(self.spread.min));
            self.settled = now + wait.max(SETTLE);
        }
    }
}

/// One call in this many seconds, and this many tokens in a minute, at most.
#[derive(Debug, Clone, Default)]
pub struct Rate {
    /// Seconds from a call to the next, by `rpm`.
    call: f64,
    /// Seconds that a token takes, by `tpm`.
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

    /// Takes the next place in line for a call of this many tokens, and says when its turn is.
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

    /// The golden run of the specification.
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
