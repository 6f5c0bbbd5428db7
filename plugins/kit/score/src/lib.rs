//! Reading answers: option letters, option texts, numbers and JSON out of free text, their comparison
//! with a target, and figures over many of them.
//!
//! The decision a newcomer would question: every rule here would rather find no answer than guess one. A reply that
//! names several options, or none clearly, gives nothing, and the task counts it apart; a lenient rule would turn
//! a model's way of talking into points.
//!
//! ```
//! assert_eq!(score::option_letter("A seemed right at first, but the answer is C.", 4), Some('C'));
//! assert_eq!(score::option_letter("A dog barks twice.", 4), None);
//! assert_eq!(score::number("$1,234.50"), Some(1234.5));
//! assert_eq!(score::argmax(&[-3.0, -1.0, -1.0]), Some(1));
//! ```

mod argmax;
mod call_check;
pub mod calls;
mod distance;
mod json;
mod letter;
mod number;
mod option_text;
mod ratio;
mod text;

pub use argmax::argmax;
pub use call_check::{CallCheck, overlap};
pub use distance::edit_distance;
pub use json::{FoundObject, JsonObjects, json_objects, strict_json};
pub use letter::{letter_of, option, option_letter};
pub use number::{is_close, number, only_number};
pub use option_text::option_text;
pub use ratio::{Ratio, Z};
pub use text::normalised;
