//! Parses answers: option letters, option texts, numbers and JSON in free text; compares them with a target, and
//! computes figures over many.
//!
//! The decision a newcomer would question: every rule here would rather find no answer than guess one. A reply that
//! names several options, or none clearly, has no answer, and the task counts it separately; a lenient rule would
//! reward a model's style.
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
