//! What calls may cost together: each sets aside the most that it can cost, and gives back what it did not cost.

use crate::budget::Budget;
use plugin_api::{Code, Error, Result};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The limit, if there is one, and the calls that have money set aside.
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
    /// Limits what may be spent. Models without a price are refused then, unless `unpriced` lets them pass.
    pub fn limit(&self, budget: Budget, unpriced: bool) {
        let budget = Arc::new(budget);
        self.lock().limit = Some(Limit { budget, unpriced });
    }

    /// Sets aside what a call can cost at most. None where others must settle first: they may turn out cheaper.
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
                error.help("give its price in a file with `-M prices=FILE`, or let it pass with `--allow-unpriced`")
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
        Err(error.help("everything finished is kept; raise `--max-cost-usd` and the same command goes on"))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Money set aside for one call; none where nothing limits it.
pub struct Reservation<'a>(Option<Held<'a>>);

struct Held<'a> {
    spending: &'a Spending,
    budget: Arc<Budget>,
    most: f64,
}

impl Reservation<'_> {
    /// Says what the call cost, and gives the rest back. A sum that can't be given back leaves less to spend, never more.
    pub fn settle(self, spent: f64) {
        if let Some(held) = &self.0 {
            let _ = held.budget.add(spent - held.most);
        }
    }
}

/// What was never settled stays spent.
impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.spending.lock().reservations -= 1;
    }
}
