//! Judges: they rule on replies.

mod card;
mod cases;
mod verdict;

pub use card::JudgeCard;
#[cfg(feature = "host")]
pub(crate) use cases::{CaseAnswer, VerdictNote};
pub use cases::{Cases, Pending, Verdicts};
pub use verdict::{Case, Cost, Ruling, Verdict};

use crate::guard::caught;
use crate::wire::{unknown_method, Adapter, Callbacks, Envelope, Packed};
use crate::{Call, Error, Result};
use std::sync::{Mutex, PoisonError};

/// A judge rules on replies to samples.
///
/// It holds no model of its own; one that needs a model asks the host through [`Call::generate`] and names the role in
/// [`JudgeCard::asks`]. A verdict that can't be understood is [`Verdict::unscored`], never a guess.
///
/// ```
/// use plugin_api::{register_judge, Call, Case, Judge, JudgeCard, Result, Verdict};
///
/// struct Exact;
///
/// impl Judge for Exact {
///     fn card(&self) -> JudgeCard {
///         JudgeCard::new("exact", "1")
///     }
///
///     fn judge(&self, case: &Case, _call: &mut Call) -> Result<Verdict> {
///         let equal = case.sample.target == case.reply.text.trim();
///         Ok(Verdict::of(equal, "compared letter by letter"))
///     }
/// }
///
/// register_judge!("exact", "Right when equal to the target", |_settings| Ok(Exact));
/// # fn main() {}
/// ```
pub trait Judge: Send + Sync {
    /// What it says of itself.
    fn card(&self) -> JudgeCard;

    /// Rules on one case.
    fn judge(&self, case: &Case, call: &mut Call) -> Result<Verdict>;

    /// Rules on cases until there are no more. The default works on [`JudgeCard::batch`] of them at a time, each on a
    /// thread that asks [`Judge::judge`], so that the model behind a role sees as many prompts at once. A judge that
    /// can rule on several cases together writes its own.
    fn serve(&self, cases: &Cases) -> Result<()> {
        let workers = self.card().batch.clamp(1, MOST_AT_A_TIME);
        let panicked = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 1..workers {
                scope.spawn(|| one_by_one(self, cases, &panicked));
            }
            one_by_one(self, cases, &panicked);
        });
        let panicked = panicked.into_inner().unwrap_or_else(PoisonError::into_inner);
        panicked.map_or(Ok(()), Err)
    }
}

/// The most threads that the default of [`Judge::serve`] starts, whatever a card says.
const MOST_AT_A_TIME: u32 = 256;

fn one_by_one<J: Judge + ?Sized>(judge: &J, cases: &Cases, panicked: &Mutex<Option<Error>>) {
    while let Some(pending) = cases.next() {
        let ruled = caught("judge", || judge.judge(&pending.case, &mut cases.call(&pending)));
        let ruled = ruled.unwrap_or_else(|panic| {
            // The judge's state can't be trusted any more. The host creates a new one after this call has failed.
            cases.end();
            *panicked.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic.clone());
            Err(panic)
        });
        cases.verdicts().done(pending.id, ruled);
    }
}

/// The methods of a judge by their names on the wire.
pub(crate) struct JudgeAdapter(pub Box<dyn Judge>);

impl Adapter for JudgeAdapter {
    fn call(&self, method: &str, input: Envelope, host: &dyn Callbacks) -> Result<Envelope> {
        match method {
            "card" => Envelope::of(&self.0.card()),
            "judge" => {
                let case = Case::unpack(input)?;
                Envelope::of(&self.0.judge(&case, &mut Call::new(host))?)
            }
            "serve" => {
                self.0.serve(&Cases::new(host))?;
                Ok(Envelope::default())
            }
            _ => Err(unknown_method("judge", method)),
        }
    }
}

#[cfg(all(test, feature = "host"))]
mod tests;
