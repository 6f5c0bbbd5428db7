//! Which samples of a clip are masked: the published rules, to the sample.

use crate::random::Random;

/// A stretch of samples, `[start, end)`.
pub type Segment = [u64; 2];

/// Where the mask lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    Start,
    End,
    Random,
    Scattered,
}

impl Place {
    pub const ALL: [Place; 4] = [Place::Start, Place::End, Place::Random, Place::Scattered];
    pub const NAMES: [&str; 4] = ["start", "end", "random", "scattered"];

    pub fn parse(name: &str) -> Option<Place> {
        let known = Place::NAMES.iter().position(|known| *known == name);
        known.map(|index| Place::ALL[index])
    }

    pub fn name(self) -> &'static str {
        Place::NAMES[self as usize]
    }
}

/// The masked segments of a clip of `length` samples. `id` is the question's, which seeds the random places.
pub fn segments(place: Place, length: u64, percent: f64, rate: u32, id: &str, seed: u64) -> Vec<Segment> {
    let masked = ((length as f64 * percent / 100.0) as u64).min(length);
    let said = said(percent);
    match place {
        _ if masked == 0 => Vec::new(),
        Place::Start => vec![[0, masked]],
        Place::End => vec![[length - masked, length]],
        Place::Random => {
            let start = Random::seeded(&format!("{seed}_{id}_{said}")).between(0, length - masked);
            vec![[start, start + masked]]
        }
        Place::Scattered => {
            let random = Random::seeded(&format!("{seed}_{id}_{said}_scattered"));
            scattered(random, length, masked, rate)
        }
    }
}

/// A percentage as the seeds spell it: `30`, `12.5`.
fn said(percent: f64) -> String {
    format!("{percent}")
}

fn scattered(mut random: Random, length: u64, total: u64, rate: u32) -> Vec<Segment> {
    if total >= length {
        return vec![[0, length]];
    }
    let most = (500 * u64::from(rate) / 1000).min(total);
    let least = (50 * u64::from(rate) / 1000).min(most);
    let mut lengths: Vec<u64> = Vec::new();
    let mut rest = total;
    while rest > 0 {
        if rest <= most {
            match lengths.last_mut() {
                Some(last) if rest < least => *last += rest,
                _ => lengths.push(rest),
            }
            break;
        }
        let drawn = random.between(least, least.max(most.min(rest - least.min(rest))));
        // At a very low rate a segment would have no length, and the loop would not end.
        let drawn = drawn.max(1);
        lengths.push(drawn);
        rest -= drawn;
    }
    if let [only] = lengths[..] {
        let start = random.between(0, length - only);
        return vec![[start, start + only]];
    }
    let n = lengths.len() as u64;
    let unmasked = length - total;
    if unmasked < n - 1 {
        return vec![[0, total]];
    }
    // Each gap between two segments has at least one sample; the others are shared out by stars and bars.
    let shared = unmasked - (n - 1);
    let mut slots: Vec<u64> = (0..=n).map(|slot| u64::from(slot > 0 && slot < n)).collect();
    if shared > 0 {
        let mut bars = random.sample(shared + n, n);
        bars.sort_unstable();
        slots[0] += bars[0];
        for index in 1..bars.len() {
            slots[index] += bars[index] - bars[index - 1] - 1;
        }
        let last = slots.len() - 1;
        slots[last] += shared + n - 1 - bars[bars.len() - 1];
    }
    let mut at = 0;
    let placed = slots.iter().zip(&lengths).map(|(slot, length)| {
        let start = at + slot;
        at = start + length;
        [start, at]
    });
    placed.collect()
}
