//! Judges: they rule on replies.

use crate::adapter::{unknown_method, Adapter};
use crate::call::{Call, Callbacks};
use crate::parcel::{Packed, Parcel};
use crate::{Case, JudgeCard, Result, Verdict};

/// A judge: it is shown a sample and a reply, and rules.
///
/// It holds no model of its own; one that needs a model asks the host through [`Call::generate`]. A verdict that
/// can't be understood is [`Verdict::unscored`], never a guess.
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
}

/// The methods of a judge by their names on the wire.
pub(crate) struct JudgeAdapter(pub Box<dyn Judge>);

impl Adapter for JudgeAdapter {
    fn call(&self, method: &str, input: Parcel, host: &dyn Callbacks) -> Result<Parcel> {
        match method {
            "card" => Parcel::of(&self.0.card()),
            "judge" => {
                let case = Case::unpack(input)?;
                Parcel::of(&self.0.judge(&case, &mut Call::new(host))?)
            }
            _ => Err(unknown_method("judge", method)),
        }
    }
}
