//! How a registered model learns: by the engine of the kit, over the same checkpoint.

use generate::Generator;
use nn::Decoder;
use plugin_api::{Error, Result};
use serde_json::{Value, json};
use std::path::Path;

/// What [`plugin_api::Model::trace`] answers to `{"training": FOLDER}`.
pub(crate) fn trace<D: Decoder>(generator: &Generator<D>, folder: &Path) -> Result<Value> {
    let model = train::parity::Replayed {
        blueprint: generator.decoder().blueprint(),
        placeholder: generator.decoder().placeholder(),
        read_wav: &|path| parity::read_wav(path).map_err(nn::Error::into_plugin_error),
    };
    let cases = train::parity::replay(&model, folder)?;
    match cases.is_empty() {
        true => Err(Error::msg(format!("`{}` holds no recorded training", folder.display()))),
        false => Ok(json!({ "ok": cases.iter().all(|case| case["ok"] == true), "cases": cases })),
    }
}
