//! Chooses among several addresses of one model.
//!
//! The address with the fewest calls in progress is used; among equals a hash of the prompt's beginning decides, so
//! that prompts with the same beginning reach the same server's prefix cache. Each address has its own pace. One that
//! cannot be reached three times in a row is left out, and retried from time to time by a single call.

use crate::address::Address;
use crate::canonical::sha256_hex;
use crate::pace::{Pace, Rate, Spread};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const FAILURES: u32 = 3;
const LONGEST_REST: f64 = 10.0;
const GLANCE: Duration = Duration::from_millis(50);

#[derive(Debug)]
struct Place {
    pace: Pace,
    under_way: usize,
    failures: u32,
    /// Left out until this time.
    rests_until: f64,
    /// Since when it cannot be reached.
    dead_since: Option<f64>,
}

#[derive(Debug)]
struct State {
    places: Vec<Place>,
    rate: Rate,
    last_success: f64,
}

/// The addresses of a model.
#[derive(Debug)]
pub struct Pool {
    addresses: Vec<Address>,
    state: Mutex<State>,
    changed: Condvar,
    began: Instant,
    first_rest: f64,
}

/// The right to one call at one address; returned when dropped.
#[derive(Debug)]
pub struct Slot<'a> {
    pool: &'a Pool,
    pub place: usize,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.pool.lock().places[self.place].under_way -= 1;
        self.pool.changed.notify_one();
    }
}

/// Why no slot was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSlot {
    /// The caller was asked to stop, or its time is over.
    Stopped,
    /// No address could be reached for too long.
    AllDown,
}

impl Pool {
    pub fn new(addresses: Vec<Address>, spread: Spread, rate: Rate, first_rest: Duration) -> Pool {
        let place = |_: &Address| Place {
            pace: Pace::new(spread),
            under_way: 0,
            failures: 0,
            rests_until: 0.0,
            dead_since: None,
        };
        let places = addresses.iter().map(place).collect();
        Pool {
            addresses,
            state: Mutex::new(State {
                places,
                rate,
                last_success: 0.0,
            }),
            changed: Condvar::new(),
            began: Instant::now(),
            first_rest: first_rest.as_secs_f64(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// How many calls may be in progress at all reachable addresses; at least one.
    pub fn allowed(&self) -> usize {
        let state = self.lock();
        let alive = state.places.iter().filter(|place| place.dead_since.is_none());
        alive.map(|place| place.pace.allowed()).sum::<usize>().max(1)
    }

    /// Waits for the right to one call.
    pub fn enter(
        &self,
        beginning: &str,
        tokens: f64,
        patience: Duration,
        stop: &dyn Fn() -> bool,
    ) -> Result<Slot<'_>, NoSlot> {
        let mut state = self.lock();
        loop {
            if stop() {
                return Err(NoSlot::Stopped);
            }
            let now = self.now();
            if let Some(place) = self.choose(&state, beginning, now) {
                state.places[place].under_way += 1;
                let turn = state.rate.turn(now, tokens);
                drop(state);
                let slot = Slot { pool: self, place };
                return self.until(turn, stop).map(|()| slot);
            }
            let down = |place: &Place| {
                place
                    .dead_since
                    .is_some_and(|since| now - since > patience.as_secs_f64())
            };
            if state.places.iter().all(down) {
                return Err(NoSlot::AllDown);
            }
            state = self
                .changed
                .wait_timeout(state, GLANCE)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn choose(&self, state: &State, beginning: &str, now: f64) -> Option<usize> {
        let free = |place: &Place| {
            let most = if place.dead_since.is_some() {
                1
            } else {
                place.pace.allowed()
            };
            now >= place.pace.gate() && now >= place.rests_until && place.under_way < most
        };
        let free = state.places.iter().enumerate().filter(|(_, place)| free(place));
        if self.addresses.len() == 1 {
            return free.map(|(number, _)| number).next();
        }
        let rank = |number: usize| sha256_hex(format!("{}\n{beginning}", self.addresses[number].base).as_bytes());
        free.min_by_key(|(number, place)| (place.under_way, rank(*number)))
            .map(|(number, _)| number)
    }

    /// Waits until this time in small steps.
    fn until(&self, moment: f64, stop: &dyn Fn() -> bool) -> Result<(), NoSlot> {
        loop {
            let left = moment - self.now();
            if left <= 0.0 {
                return Ok(());
            }
            if stop() {
                return Err(NoSlot::Stopped);
            }
            std::thread::sleep(Duration::from_secs_f64(left.min(GLANCE.as_secs_f64())));
        }
    }

    /// An address answered; `clean` if at the first attempt.
    pub fn success(&self, place: usize, clean: bool) {
        let now = self.now();
        let mut state = self.lock();
        state.last_success = now;
        let place = &mut state.places[place];
        if clean {
            place.pace.success();
        }
        Self::alive(place);
        drop(state);
        self.changed.notify_all();
    }

    /// An address can be reached, whatever its answer.
    pub fn reached(&self, place: usize) {
        Self::alive(&mut self.lock().places[place]);
    }

    fn alive(place: &mut Place) {
        place.failures = 0;
        place.dead_since = None;
        place.rests_until = 0.0;
    }

    /// An address reported too many requests, and asks to wait.
    pub fn too_many(&self, place: usize, wait: Duration) {
        let now = self.now();
        self.lock().places[place].pace.too_many(now, wait.as_secs_f64());
    }

    /// An address could not be reached.
    pub fn unreachable(&self, place: usize) {
        let now = self.now();
        let mut state = self.lock();
        let place = &mut state.places[place];
        place.failures += 1;
        if place.failures >= FAILURES {
            place.dead_since.get_or_insert(now);
        }
        let doubled = self.first_rest * 2_f64.powi((place.failures - 1).min(10) as i32);
        place.rests_until = now + doubled.min(LONGEST_REST);
    }

    /// The time since the last answer.
    pub fn silent_for(&self) -> Duration {
        Duration::from_secs_f64((self.now() - self.lock().last_success).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(count: usize, start: u32) -> Pool {
        let addresses =
            (0..count).map(|number| Address::parse(&format!("http://127.0.0.1:{}", 1000 + number), "").unwrap());
        let spread = Spread { min: 1, start, max: 8 };
        Pool::new(addresses.collect(), spread, Rate::default(), Duration::from_millis(5))
    }

    fn enter<'a>(pool: &'a Pool, beginning: &str) -> Slot<'a> {
        pool.enter(beginning, 1.0, Duration::from_secs(9), &|| false).unwrap()
    }

    #[test]
    fn work_is_spread_evenly_and_prompts_that_begin_alike_meet_again() {
        let pool = pool(3, 2);
        let first = enter(&pool, "a").place;
        assert!((0..9).all(|_| enter(&pool, "a").place == first));
        let slots: Vec<Slot> = (0..6).map(|_| enter(&pool, "a")).collect();
        for place in 0..3 {
            assert_eq!(slots.iter().filter(|slot| slot.place == place).count(), 2);
        }
        assert_eq!(
            pool.enter("a", 1.0, Duration::ZERO, &|| true).unwrap_err(),
            NoSlot::Stopped
        );
    }

    #[test]
    fn an_address_that_is_down_is_left_out_and_comes_back() {
        let pool = pool(2, 4);
        (0..3).for_each(|_| pool.unreachable(0));
        assert_eq!(pool.allowed(), 4);
        assert_eq!(enter(&pool, "x").place, 1);
        std::thread::sleep(Duration::from_millis(40));
        let slots = [enter(&pool, "x"), enter(&pool, "x"), enter(&pool, "x")];
        assert_eq!(
            slots.iter().filter(|slot| slot.place == 0).count(),
            1,
            "one call tries it again"
        );
        pool.reached(0);
        assert_eq!(pool.allowed(), 8);
    }

    #[test]
    fn when_all_are_down_patience_ends() {
        let pool = pool(1, 4);
        (0..3).for_each(|_| pool.unreachable(0));
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(
            pool.enter("x", 1.0, Duration::from_millis(1), &|| false).unwrap_err(),
            NoSlot::AllDown
        );
    }
}
