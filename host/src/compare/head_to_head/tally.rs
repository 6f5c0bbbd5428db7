//! Wins, losses and ties, and how far the judge can be trusted.

use plugin_api::Verdict;
use serde_json::{Value, json};

/// The side that one order, or both orders together, chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    First,
    Second,
    Tie,
    /// The two orders chose different sides.
    Inconsistent,
    Unscored,
}

/// One verdict on a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    pub outcome: Outcome,
    /// The choice with the first run's answer in the first slot.
    pub forward: Option<Outcome>,
    /// The choice with the second run's answer in the first slot.
    pub backward: Option<Outcome>,
}

impl Said {
    pub fn of(verdict: &Verdict) -> Said {
        let side = |name: &str| match verdict.other.get(name).and_then(Value::as_str) {
            Some("first") => Some(Outcome::First),
            Some("second") => Some(Outcome::Second),
            Some("tie") => Some(Outcome::Tie),
            _ => None,
        };
        let outcome = match (verdict.ruling, verdict.why.as_deref()) {
            (plugin_api::Ruling::First, _) => Outcome::First,
            (plugin_api::Ruling::Second, _) => Outcome::Second,
            (plugin_api::Ruling::Tie, _) => Outcome::Tie,
            (_, Some("inconsistent")) => Outcome::Inconsistent,
            _ => Outcome::Unscored,
        };
        Said {
            outcome,
            forward: side("winner_forward"),
            backward: side("winner_backward"),
        }
    }
}

/// The sums of all verdicts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tally {
    pub first_wins: u64,
    pub second_wins: u64,
    pub ties: u64,
    pub inconsistent: u64,
    pub unscored: u64,
    /// Pairs where both orders could be read, and those of them where both chose the same side.
    both_read: u64,
    alike: u64,
    /// Answers that chose a slot, and those that chose the first one.
    slots: u64,
    first_slot: u64,
    /// Decided pairs whose texts differ in length, and those won by the longer one.
    of_other_length: u64,
    longer: u64,
}

impl Tally {
    /// Adds a verdict on two answers, with how many characters each has.
    pub fn add(&mut self, said: Said, first_length: usize, second_length: usize) {
        let count = match said.outcome {
            Outcome::First => &mut self.first_wins,
            Outcome::Second => &mut self.second_wins,
            Outcome::Tie => &mut self.ties,
            Outcome::Inconsistent => &mut self.inconsistent,
            Outcome::Unscored => &mut self.unscored,
        };
        *count += 1;
        if let (Some(forward), Some(backward)) = (said.forward, said.backward) {
            self.both_read += 1;
            self.alike += u64::from(forward == backward);
        }
        for (order, in_first_slot) in [(said.forward, Outcome::First), (said.backward, Outcome::Second)] {
            if let Some(side @ (Outcome::First | Outcome::Second)) = order {
                self.slots += 1;
                self.first_slot += u64::from(side == in_first_slot);
            }
        }
        if first_length != second_length {
            let longer_is_first = first_length > second_length;
            match said.outcome {
                Outcome::First => self.longer += u64::from(longer_is_first),
                Outcome::Second => self.longer += u64::from(!longer_is_first),
                _ => return,
            }
            self.of_other_length += 1;
        }
    }

    fn decided(&self) -> u64 {
        self.first_wins + self.second_wins
    }

    /// The share of decided pairs that the second run won.
    pub fn win_rate_decided(&self) -> Option<f64> {
        share(self.second_wins, self.decided())
    }

    /// The second run's mean when a tie and an inconsistent pair count as half, with its standard error.
    pub fn win_rate_half(&self) -> Option<(f64, f64)> {
        let times = |count: u64, value: f64| (0..count).map(move |_| value);
        let values: Vec<f64> = times(self.second_wins, 1.0)
            .chain(times(self.first_wins, 0.0))
            .chain(times(self.ties + self.inconsistent, 0.5))
            .collect();
        statistics::mean_and_error(&values).map(|estimate| (estimate.value, estimate.stderr))
    }

    /// The sign test of the decided pairs.
    pub fn p_sign(&self) -> f64 {
        statistics::sign_test(self.second_wins, self.first_wins)
    }

    /// The share of pairs on which both orders chose alike.
    pub fn order_consistency(&self) -> Option<f64> {
        share(self.alike, self.both_read)
    }

    /// The share of choices for the first slot; one half means that an answer's place does not matter.
    pub fn first_slot_share(&self) -> Option<f64> {
        share(self.first_slot, self.slots)
    }

    /// Tests whether the first slot was chosen more or less often than by chance.
    pub fn p_first_slot(&self) -> f64 {
        statistics::binomial_two_sided(self.first_slot, self.slots)
    }

    /// The share of decided pairs that the longer answer won.
    pub fn longer_wins_share(&self) -> Option<f64> {
        share(self.longer, self.of_other_length)
    }

    /// For `--json`: the figures with their names.
    pub fn as_json(&self) -> Value {
        let half = self.win_rate_half();
        let slots =
            (self.slots > 0).then(|| statistics::wilson(self.first_slot as f64 / self.slots as f64, self.slots as f64));
        json!({
            "first_wins": self.first_wins, "second_wins": self.second_wins, "ties": self.ties,
            "inconsistent": self.inconsistent, "unscored": self.unscored,
            "win_rate_half": half.map(|half| half.0), "win_rate_half_stderr": half.map(|half| half.1),
            "win_rate_decided": self.win_rate_decided(), "p_sign": self.p_sign(),
            "order_consistency": self.order_consistency(),
            "first_slot_share": self.first_slot_share(), "first_slot_ci95": slots, "p_first_slot": self.p_first_slot(),
            "longer_wins_share": self.longer_wins_share(),
        })
    }

    /// The figures as text for a terminal.
    pub fn text(&self, judge: &str) -> String {
        let percent =
            |share: Option<f64>| share.map_or_else(|| "–".to_owned(), |share| format!("{:.1}%", 100.0 * share));
        let half = self
            .win_rate_half()
            .map_or_else(|| "–".to_owned(), |(value, error)| format!("{value:.4} ± {error:.4}"));
        format!(
            "\nHead to head, by {judge}: the second wins {}, the first wins {}, {} ties, {} inconsistent, {} unscored\n\
             win rate with ties as half {half}; of decided pairs {}; sign test p {:.4}\n\
             both orders alike {}; first slot chosen {} (p {:.4}); longer answer wins {}\n",
            self.second_wins,
            self.first_wins,
            self.ties,
            self.inconsistent,
            self.unscored,
            percent(self.win_rate_decided()),
            self.p_sign(),
            percent(self.order_consistency()),
            percent(self.first_slot_share()),
            self.p_first_slot(),
            percent(self.longer_wins_share()),
        )
    }
}

fn share(of: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| of as f64 / all as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both orders of each pair in letters: `b` the first run, `l` the second, `t` a tie, `u` not read.
    const GAMES: &str = "ll ll bb tt lt bl lb ll ul tb bb ll";

    fn side(letter: char) -> Option<Outcome> {
        match letter {
            'b' => Some(Outcome::First),
            'l' => Some(Outcome::Second),
            't' => Some(Outcome::Tie),
            _ => None,
        }
    }

    fn tally() -> Tally {
        let mut tally = Tally::default();
        for game in GAMES.split(' ') {
            let orders: Vec<Option<Outcome>> = game.chars().map(side).collect();
            let outcome = match (orders[0], orders[1]) {
                (None, _) | (_, None) => Outcome::Unscored,
                (Some(one), Some(two)) if one == two => one,
                (Some(Outcome::Tie), _) | (_, Some(Outcome::Tie)) => Outcome::Tie,
                _ => Outcome::Inconsistent,
            };
            let said = Said {
                outcome,
                forward: orders[0],
                backward: orders[1],
            };
            tally.add(said, 10, 12);
        }
        tally
    }

    #[test]
    fn a_known_series_of_games_gives_the_known_figures() {
        let tally = tally();
        assert_eq!(
            (
                tally.second_wins,
                tally.first_wins,
                tally.ties,
                tally.inconsistent,
                tally.unscored
            ),
            (4, 2, 3, 2, 1)
        );
        let (half, error) = tally.win_rate_half().unwrap();
        assert!(
            (half - 0.590_909).abs() < 1e-6 && (error - 0.113_181).abs() < 1e-6,
            "{half} {error}"
        );
        assert!((tally.win_rate_decided().unwrap() - 0.666_667).abs() < 1e-6);
        assert!((tally.order_consistency().unwrap() - 7.0 / 11.0).abs() < 1e-12);
        assert!((tally.first_slot_share().unwrap() - 9.0 / 19.0).abs() < 1e-12);
        assert!((tally.p_first_slot() - 1.0).abs() < 1e-9);
        assert!((tally.p_sign() - 0.6875).abs() < 1e-9);
        assert!((tally.longer_wins_share().unwrap() - 4.0 / 6.0).abs() < 1e-12);
    }
}
