//! Equal to what the reference recorded. `golden/make.py` makes the folders, and any number of others:
//! `ZOO_GOLDEN=DIR cargo test -p zoo` tries those too.

use crate::golden;
use plugin_api::serde_json::json;
use testkit::parity::{check_text, checkpoints, given};

#[test]
fn recorded_checkpoints_are_reproduced() {
    let others = given("ZOO_GOLDEN");
    let others = others.iter().flat_map(|folder| checkpoints(folder));
    for folder in checkpoints(&golden("")).into_iter().chain(others) {
        check_text("zoo", &folder, &folder.join("golden"));
    }
}
