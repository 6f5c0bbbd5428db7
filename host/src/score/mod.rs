//! Scores finished answers without the model that gave them: by the run's own task, and by judges.

pub mod by_judge;
pub mod by_task;
pub mod judged;
pub mod judges;
pub mod labels;
pub mod panel;
pub mod probes;
pub mod run;
