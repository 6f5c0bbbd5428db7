//! Limits the total cost of calls: each reserves the most that it can cost, and returns what it did not spend.

use crate::budget::Budget;
use plugin_api::{Code, Error, Result};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The limit, if there is one, and the calls that reserved money.
#[derive(Default)]
pub struct Spending(Mutex<State>);

#[derive(Default)]
struct State {
    limit: Option<Limit>,
    reservations: usize,
}

#[derive(Clone)]
struct Limit {
    budget: Arc<Budget>,
    unpriced: bool,
}

impl Spending {
    /// Sets the limit. Models without a price are then refused, unless `unpriced` allows them.
    pub fn limit(&self, budget: Budget, unpriced: bool) {
        let budget = Arc::new(budget);
        self.lock().limit = Some(Limit { budget, unpriced });
    }

    /// Reserves the most that a call can cost. None if other calls must finish first, which may be cheaper than
    /// reserved.
    pub fn reserve(&self, most: Option<f64>, model: &str) -> Result<Option<Reservation<'_>>> {
        let mut state = self.lock();
        let Some(Limit { budget, unpriced }) = state.limit.clone() else {
            return Ok(Some(Reservation(None)));
        };
        let Some(most) = most else {
            if unpriced {
                return Ok(Some(Reservation(None)));
            }
            let error = Error::new(
                Code::SETTINGS,
                format!("model `{model}` has no price, and spending is limited"),
            );
            return Err(
                error.help("give its price in a file with `-M prices=FILE`, or allow it with `--allow-unpriced`")
            );
        };
        if budget.reserve(most)? {
            state.reservations += 1;
            let spending = self;
            return Ok(Some(Reservation(Some(Held { spending, budget, most }))));
        }
        if state.reservations > 0 {
            return Ok(None);
        }
        let error = Error::new(
            Code::RATE_LIMITED,
            format!(
                "the next call may cost {most:.6} dollars, more than is left of {} dollars",
                budget.most()
            ),
        );
        Err(error.help("finished answers are kept; raise `--max-cost-usd` and run the same command again"))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Money reserved for one call; none if there is no limit.
pub struct Reservation<'a>(Option<Held<'a>>);

struct Held<'a> {
    spending: &'a Spending,
    budget: Arc<Budget>,
    most: f64,
}

impl Reservation<'_> {
    /// Books the cost of the call and returns the rest. If that fails, less can be spent, never more.
    pub fn settle(self, spent: f64) {
        if let Some(held) = &self.0 {
            let _ = held.budget.add(spent - held.most);
        }
    }
}

/// A reservation that is never settled counts as spent.
impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.spending.lock().reservations -= 1;
    }
}
