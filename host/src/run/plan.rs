//! What a command is to run: its flags, resolved. Nothing below asks the command line again.

use super::Options;
use crate::catalog::{Flags, Resolved};
use crate::score::judges::Wanted;
use plugin_api::LoraUse;
use serde_json::{Map, Value, json};

/// The flags of `host run`, resolved.
pub struct RunPlan {
    pub models: Vec<String>,
    pub tasks: Vec<String>,
    pub judges: Vec<Wanted>,
    pub model_flags: Flags,
    pub task_flags: Flags,
    pub judge_flags: Flags,
    /// `ROLE=MODEL`, as given.
    pub roles: Vec<String>,
    /// Which LoRAs answer: a run for each.
    pub loras: Vec<LoraUse>,
    pub transcriber: Option<String>,
    pub transcriber_prompt: Option<String>,
    /// Copies of each model.
    pub workers: usize,
    pub options: Options,
}

impl RunPlan {
    /// The flags in `run.toml` that repeat this pair.
    pub fn repeat(&self, model: &Resolved, task: &Resolved, lora: &LoraUse) -> Value {
        let options = &self.options;
        let given = |flags: &Flags, resolved: &Resolved| -> Map<String, Value> {
            let keys = flags.of(&resolved.spec.name);
            // As resolved: absolute, so that the file works from any folder.
            keys.into_keys()
                .filter_map(|key| Some((key.clone(), resolved.settings.0.get(&key)?.clone())))
                .collect()
        };
        let judge_settings: Map<String, Value> = match self.judges.first() {
            Some(wanted) => {
                let flags = self.judge_flags.of(wanted.text()).into_iter();
                flags.map(|(key, given)| (key, given.value)).collect()
            }
            None => Map::new(),
        };
        let judges: Vec<&str> = self.judges.iter().map(Wanted::text).collect();
        json!({
            "model": model.spec.name, "task": task.spec.name,
            "judge": if judges.is_empty() { Value::Null } else { json!(judges) },
            "limit": options.limit_text, "sample-id": options.sample_ids, "shard": options.shard.map(|shard| shard.to_string()), "seed": options.seed,
            "chains": (options.chains > 1).then_some(options.chains), "batch-size": options.batch_size,
            "workers": self.workers, "role": self.roles,
            "lora": match lora {
                LoraUse::AsLoaded => Value::Null,
                LoraUse::Off => json!("none"),
                LoraUse::Only(names) => json!(names),
            },
            "transcriber": self.transcriber, "transcriber-prompt": self.transcriber_prompt,
            "predict-only": options.predict_only, "skip-hearing-test": !options.audio_check, "demo": options.demo,
            "keep-audio": options.keep_audio.then_some(true),
            "audio": (!options.audio.is_empty())
                .then(|| options.audio.iter().map(ToString::to_string).collect::<Vec<_>>()),
            "report-to": (!options.report_to.is_empty()).then_some(&options.report_to),
            "model-settings": given(&self.model_flags, model),
            "task-settings": given(&self.task_flags, task),
            "judge-settings": judge_settings,
        })
    }
}
