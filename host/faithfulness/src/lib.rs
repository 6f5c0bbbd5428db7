//! Does an answer depend on the reasoning that is stated for it?
//!
//! Everything about faithfulness experiments that needs no model: how a reasoning is cut and changed, how result files
//! of the published experiments are read and written, and what figures, intervals and plots come of them. The host
//! asks the models.
//!
//! The decision that a newcomer would question: answers are compared again, by letters only, whatever a file says
//! about its rows' consistency, because published files are inconsistent about missing answers.
//!
//! ```
//! use faithfulness::{Splitter, words};
//! assert_eq!(Splitter::Punkt.split("It rang at 5 p.m. or so. Then it stopped.").len(), 2);
//! assert_eq!(words("I cannot.").join(" "), "I can not .");
//! ```

pub mod experiment;
pub mod family;
pub mod import;
pub mod letters;
pub mod mask;
pub mod metrics;
pub mod plot;
pub mod random;
pub mod reasoning;
pub mod report;
mod space;
pub mod split;
pub mod texts;
pub mod verdict;
pub mod verify;
mod words;

pub use experiment::Experiment;
pub use split::Splitter;
pub use words::words;
