//! The names of settings: those of `TrainingArguments`, `LoraConfig` and the scripts whose users come from there.

use crate::failure::{Failure, Result};
use crate::registry::nearest_hint;
use serde_json::{Map, Value, json};

/// The type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    Number,
    Whole,
    Flag,
    Text,
    /// Names separated by commas, or a list.
    List,
    Json,
}

/// The effect of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It is passed to the plugin under its first name.
    Learning,
    /// `host` uses it itself.
    Host,
    /// It changes no number here; the text says why.
    None(&'static str),
    /// It would change the result and is not implemented: only values that turn it off are accepted.
    Refused(&'static str),
}

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its name, and synonyms.
    pub names: &'static [&'static str],
    pub kind: Type,
    pub effect: Effect,
}

use Effect::{Host, Learning, None as Nothing, Refused};
use Type::{Flag, Json, List, Number, Text, Whole};

const fn of(names: &'static [&'static str], kind: Type, effect: Effect) -> Setting {
    Setting { names, kind, effect }
}

const LOADER: Effect = Nothing("rows are read as they are needed");
const SPEED: Effect = Nothing("it is a matter of PyTorch's speed");
const HUB: Effect = Nothing("nothing is uploaded");

/// All settings, by topic.
pub const SETTINGS: &[Setting] = &[
    // Length, batch and rate.
    of(&["num_train_epochs", "epochs"], Number, Host),
    of(&["max_steps"], Whole, Host),
    of(
        &["per_device_train_batch_size", "batch_size", "train_batch_size"],
        Whole,
        Host,
    ),
    of(&["per_device_eval_batch_size", "eval_batch_size"], Whole, Learning),
    of(&["gradient_accumulation_steps"], Whole, Host),
    of(&["learning_rate", "lr"], Number, Host),
    of(&["seed"], Whole, Host),
    of(&["data_seed"], Whole, Learning),
    of(&["lr_scheduler_type"], Text, Learning),
    of(&["lr_scheduler_kwargs"], Json, Learning),
    of(&["min_lr"], Number, Host),
    of(&["min_lr_rate"], Number, Host),
    of(&["num_cycles"], Number, Host),
    of(&["warmup_steps"], Number, Learning),
    of(&["warmup_ratio"], Number, Learning),
    // The optimiser.
    of(&["optim"], Text, Learning),
    of(&["weight_decay"], Number, Learning),
    of(&["adam_beta1"], Number, Learning),
    of(&["adam_beta2"], Number, Learning),
    of(&["adam_epsilon"], Number, Learning),
    of(&["max_grad_norm"], Number, Learning),
    of(&["label_smoothing_factor"], Number, Learning),
    of(&["loraplus_lr_ratio"], Number, Learning),
    of(&["lr_ratios"], Json, Learning),
    // Precision and memory.
    of(&["bf16"], Flag, Host),
    of(&["fp16"], Flag, Host),
    of(&["precision"], Text, Learning),
    of(&["gradient_checkpointing"], Flag, Learning),
    of(&["bnb_4bit_quant_type"], Text, Host),
    of(&["bnb_4bit_compute_dtype"], Text, Host),
    of(&["bnb_4bit_use_double_quant"], Flag, Learning),
    // What is trained.
    of(&["peft"], Text, Host),
    of(&["r", "lora_r"], Whole, Learning),
    of(&["lora_alpha"], Number, Learning),
    of(&["lora_dropout"], Number, Learning),
    of(&["target_modules", "lora_target_modules"], List, Learning),
    of(&["exclude_modules"], List, Learning),
    of(&["bias", "lora_bias"], Text, Learning),
    of(&["modules_to_save", "lora_modules_to_save"], List, Learning),
    of(&["use_rslora"], Flag, Learning),
    of(&["init_lora_weights"], Json, Learning),
    of(&["layers_to_transform"], Json, Learning),
    of(&["layers_pattern"], Json, Learning),
    of(&["rank_pattern"], Json, Learning),
    of(&["alpha_pattern"], Json, Learning),
    of(&["use_dora"], Flag, Refused("DoRA is not there")),
    // Training data.
    of(&["max_length", "max_seq_length"], Whole, Learning),
    of(&["truncation"], Text, Learning),
    of(&["train_sampling_strategy"], Text, Host),
    of(&["group_by_length"], Flag, Learning),
    of(&["batch_by_kind"], Flag, Learning),
    of(&["dataloader_drop_last"], Flag, Learning),
    of(
        &["model_name", "model_name_or_path", "pretrained_model_name_or_path"],
        Text,
        Host,
    ),
    of(&["output_dir"], Text, Host),
    of(&["train_file", "data_train_path", "train_path"], Text, Host),
    of(&["eval_file", "val_file", "validation_file", "val_path"], Text, Host),
    of(&["test_file"], Text, Host),
    of(&["audio_dir"], Text, Host),
    of(&["max_train_samples"], Whole, Host),
    of(&["max_eval_samples"], Whole, Host),
    of(&["max_test_samples"], Whole, Host),
    of(&["max_samples"], Whole, Host),
    of(&["smoke"], Flag, Host),
    of(&["add_text_only"], Flag, Host),
    of(&["strict_audio_missing"], Flag, Host),
    of(&["no_text_fallback_when_audio_missing"], Flag, Host),
    of(
        &["export_label_eval"],
        Flag,
        Nothing("labels alone and their figures are always written"),
    ),
    of(&["input_mode"], Text, Host),
    of(&["target_field"], Text, Host),
    of(&["task_instruction"], Text, Host),
    of(&["noisy_text_distractors"], Whole, Host),
    of(&["noisy_table_distractors"], Whole, Host),
    of(&["noisy_context_seed"], Whole, Host),
    of(&["do_train"], Flag, Nothing("`host train` always learns")),
    of(&["do_eval"], Flag, Host),
    of(&["do_test", "do_predict"], Flag, Host),
    // Logs, evaluations, checkpoints.
    of(&["logging_strategy"], Text, Learning),
    of(&["logging_steps"], Number, Learning),
    of(&["logging_first_step"], Flag, Learning),
    of(&["eval_strategy", "evaluation_strategy"], Text, Host),
    of(&["eval_steps"], Number, Host),
    of(&["eval_on_start"], Flag, Learning),
    of(&["eval_delay"], Number, Learning),
    of(&["eval_generations"], Whole, Learning),
    of(&["eval_generation_tokens"], Whole, Learning),
    of(&["save_strategy"], Text, Host),
    of(&["save_steps"], Number, Host),
    of(&["save_total_limit"], Whole, Learning),
    of(&["load_best_model_at_end"], Flag, Learning),
    of(&["metric_for_best_model"], Text, Learning),
    of(&["greater_is_better"], Flag, Learning),
    of(&["early_stopping_patience"], Whole, Learning),
    of(&["early_stopping_threshold"], Number, Learning),
    of(&["resume_from_checkpoint"], Text, Host),
    of(&["hearing_cache_bytes"], Whole, Learning),
    of(&["report_to"], List, Host),
    of(&["run_name", "wandb_run_name"], Text, Host),
    of(&["project", "wandb_project"], Text, Host),
    of(&["wandb_group"], Text, Host),
    of(&["wandb_tags"], List, Host),
    of(&["wandb_mode"], Text, Host),
    of(&["wandb_id"], Text, Host),
    of(&["wandb_resume"], Text, Host),
    of(&["logging_dir"], Text, Host),
    // The test after training.
    of(&["generation_max_new_tokens", "max_new_tokens"], Whole, Host),
    of(&["generation_num_beams"], Whole, Host),
    of(&["generation_temperature"], Number, Host),
    of(&["generation_top_p"], Number, Host),
    of(&["generation_do_sample"], Flag, Host),
    // Settings of the reference that change no number of this program.
    of(&["attn_implementation"], Text, SPEED),
    of(&["device_map"], Text, Nothing("`-M device=…` says where a model runs")),
    of(
        &["torch_dtype", "dtype"],
        Text,
        Nothing("`-M dtype=…` and `precision` say what a model computes in"),
    ),
    of(&["trust_remote_code"], Flag, Nothing("no code of a checkpoint is run")),
    of(&["use_fast"], Flag, SPEED),
    of(&["tf32"], Flag, SPEED),
    of(&["torch_compile"], Flag, SPEED),
    of(&["torch_compile_backend"], Text, SPEED),
    of(&["torch_compile_mode"], Text, SPEED),
    of(&["use_liger_kernel"], Flag, SPEED),
    of(&["liger_kernel_config"], Json, SPEED),
    of(&["use_cache"], Flag, SPEED),
    of(&["torch_empty_cache_steps"], Whole, SPEED),
    of(&["gradient_checkpointing_kwargs"], Json, SPEED),
    of(&["jit_mode_eval"], Flag, SPEED),
    of(&["half_precision_backend"], Text, SPEED),
    of(&["bf16_full_eval"], Flag, SPEED),
    of(&["fp16_full_eval"], Flag, SPEED),
    of(&["full_determinism"], Flag, Nothing("a run always repeats to the bit")),
    of(
        &["average_tokens_across_devices"],
        Flag,
        Nothing("tokens are always counted over all processes"),
    ),
    of(
        &["auto_find_batch_size"],
        Flag,
        Nothing("a batch that does not fit is always taken in parts"),
    ),
    of(
        &["include_num_input_tokens_seen"],
        Json,
        Nothing("they are always logged"),
    ),
    of(
        &["logging_nan_inf_filter"],
        Flag,
        Nothing("a loss that is not a number ends the run"),
    ),
    of(&["log_on_each_node"], Flag, Nothing("process 0 alone logs")),
    of(&["log_level"], Text, Nothing("`--quiet` keeps notes away")),
    of(&["log_level_replica"], Text, Nothing("`--quiet` keeps notes away")),
    of(&["disable_tqdm"], Flag, Nothing("`--quiet` keeps progress away")),
    of(&["prediction_loss_only"], Flag, Nothing("evaluations keep sums alone")),
    of(
        &["eval_accumulation_steps"],
        Whole,
        Nothing("evaluations keep sums alone"),
    ),
    of(
        &["eval_do_concat_batches"],
        Flag,
        Nothing("evaluations keep sums alone"),
    ),
    of(
        &["eval_use_gather_object"],
        Flag,
        Nothing("evaluations keep sums alone"),
    ),
    of(&["include_for_metrics"], List, Nothing("evaluations keep sums alone")),
    of(&["batch_eval_metrics"], Flag, Nothing("evaluations keep sums alone")),
    of(
        &["save_only_model"],
        Flag,
        Nothing("a checkpoint always has what resuming needs"),
    ),
    of(&["save_on_each_node"], Flag, Nothing("process 0 alone saves")),
    of(
        &["save_safetensors"],
        Flag,
        Nothing("weights are always written as safetensors"),
    ),
    of(&["overwrite_output_dir"], Flag, Nothing("`--fresh` begins again")),
    of(&["enable_jit_checkpoint"], Flag, Nothing("Ctrl-C always saves")),
    of(
        &["ignore_data_skip"],
        Flag,
        Nothing("no row is read again when a run goes on"),
    ),
    of(
        &["restore_callback_states_from_checkpoint"],
        Flag,
        Nothing("they always are"),
    ),
    of(
        &["use_cpu", "no_cuda"],
        Flag,
        Nothing("`-M device=…` says where a model runs"),
    ),
    of(
        &["use_mps_device"],
        Flag,
        Nothing("`-M device=…` says where a model runs"),
    ),
    of(&["accelerator_config"], Json, LOADER),
    of(
        &["parallelism_config"],
        Json,
        Refused("processes share the rows and nothing else"),
    ),
    of(&["dataloader_num_workers"], Whole, LOADER),
    of(&["dataloader_pin_memory"], Flag, LOADER),
    of(&["dataloader_persistent_workers"], Flag, LOADER),
    of(&["dataloader_prefetch_factor"], Whole, LOADER),
    of(&["remove_unused_columns"], Flag, LOADER),
    of(&["label_names"], List, LOADER),
    of(&["length_column_name"], Text, LOADER),
    of(&["preprocessing_num_workers"], Whole, LOADER),
    of(&["overwrite_cache"], Flag, LOADER),
    of(&["ddp_find_unused_parameters"], Flag, SPEED),
    of(&["ddp_bucket_cap_mb"], Whole, SPEED),
    of(&["ddp_broadcast_buffers"], Flag, SPEED),
    of(&["ddp_backend"], Text, Nothing("`--collective` names the engine")),
    of(
        &["ddp_timeout"],
        Whole,
        Nothing("a process that ends is noticed at once"),
    ),
    of(&["local_rank"], Whole, Nothing("the launcher's environment says it")),
    of(
        &["skip_memory_metrics"],
        Flag,
        Nothing("the peak of memory is always measured"),
    ),
    of(&["push_to_hub"], Flag, HUB),
    of(&["hub_model_id"], Text, HUB),
    of(&["hub_strategy"], Text, HUB),
    of(&["hub_token"], Text, HUB),
    of(&["hub_private_repo"], Flag, HUB),
    of(&["hub_always_push"], Flag, HUB),
    of(&["hub_revision"], Text, HUB),
    of(&["trackio_space_id"], Text, HUB),
    of(
        &["optim_args"],
        Text,
        Refused("no optimiser here takes further arguments"),
    ),
    of(
        &["optim_target_modules"],
        List,
        Refused("GaLore and its like are not there"),
    ),
    of(&["neftune_noise_alpha"], Number, Refused("NEFTune is not there")),
    of(&["fsdp"], Json, Refused("parameters are not sharded")),
    of(&["fsdp_config"], Json, Refused("parameters are not sharded")),
    of(&["deepspeed"], Text, Refused("DeepSpeed is not there")),
    of(&["debug"], Text, Refused("there is nothing like it")),
    of(
        &["packing"],
        Flag,
        Nothing("rows are never padded, and none sees another"),
    ),
    of(&["past_index"], Whole, Refused("there is nothing like it")),
];

/// A name in the form that is compared: lower case, with `_` for `-`.
pub fn plain(name: &str) -> String {
    name.trim_start_matches('-').replace('-', "_").to_lowercase()
}

/// The setting of this name.
pub fn find(name: &str) -> Option<&'static Setting> {
    let name = plain(name);
    SETTINGS.iter().find(|setting| setting.names.contains(&name.as_str()))
}

/// Every name, for suggestions to those who mistyped one.
pub fn all() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().flat_map(|setting| setting.names.iter().copied())
}

/// Settings by their first names, and notes about some of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Given {
    pub map: Map<String, Value>,
    pub notes: Vec<String>,
}

impl Given {
    /// Adds a setting.
    pub fn put(&mut self, name: &str, value: &Value) -> Result<()> {
        let Some(setting) = find(name) else {
            let failure = Failure::usage(format!("unknown setting `{name}`"));
            return Err(failure.help(nearest_hint(&plain(name), all())));
        };
        let first = setting.names[0];
        let value = typed(setting.kind, value).ok_or_else(|| {
            let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            Failure::usage(format!("`{name}` cannot be `{shown}`")).help(format!("it is {}", words(setting.kind)))
        })?;
        match setting.effect {
            Nothing(why) => self.notes.push(format!("`{name}` has no effect: {why}")),
            Refused(_) if is_off(&value) => {}
            Refused(why) => return Err(Failure::usage(format!("`{name}` is not supported: {why}"))),
            Learning | Host => drop(self.map.insert(first.to_owned(), value)),
        }
        Ok(())
    }

    pub fn get(&self, name: &str) -> Option<&Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    pub fn text(&self, name: &str) -> Option<String> {
        self.get(name).and_then(Value::as_str).map(str::to_owned)
    }

    pub fn number(&self, name: &str) -> Option<f64> {
        self.get(name).and_then(Value::as_f64)
    }

    pub fn whole(&self, name: &str) -> Option<u64> {
        self.get(name).and_then(Value::as_u64)
    }

    pub fn flag(&self, name: &str) -> bool {
        self.get(name).and_then(Value::as_bool).unwrap_or_default()
    }
}

/// Whether a value is empty or turns its setting off.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::String(text) => matches!(text.to_lowercase().as_str(), "" | "false" | "none" | "no" | "[]"),
        Value::Array(list) => list.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0) || number.as_f64() == Some(-1.0),
        Value::Object(map) => map.is_empty(),
    }
}

fn words(kind: Type) -> &'static str {
    match kind {
        Number => "a number",
        Whole => "a whole number from 0 on",
        Flag => "`true` or `false`",
        Text => "a text",
        List => "a list, or names separated by commas",
        Json => "JSON",
    }
}

/// A value of this type, from a file's value or the text of a flag.
fn typed(kind: Type, value: &Value) -> Option<Value> {
    let text = value.as_str().map(str::trim);
    if text.is_some_and(|text| matches!(text, "None" | "null")) {
        return Some(Value::Null);
    }
    match (kind, text) {
        (Number, None) => value.as_f64().map(|_| value.clone()),
        (Number, Some(text)) => text
            .parse::<f64>()
            .ok()
            .filter(|number| number.is_finite())
            .map(|number| json!(number)),
        (Whole, None) => {
            let whole = value
                .as_f64()
                .filter(|number| number.fract() == 0.0 && *number >= -1.0)?;
            // The reference writes -1 for no `max_steps`.
            Some(json!(whole.max(0.0) as u64))
        }
        (Whole, Some(text)) => match text.parse::<i64>() {
            Ok(number) => (number >= -1).then(|| json!(number.max(0))),
            Err(_) => text.parse::<u64>().ok().map(|number| json!(number)),
        },
        (Flag, None) => match value {
            Value::Bool(_) => Some(value.clone()),
            Value::Number(number) => Some(json!(number.as_f64() != Some(0.0))),
            _ => None,
        },
        (Flag, Some(text)) => match text.to_lowercase().as_str() {
            "true" | "1" | "yes" | "on" | "" => Some(json!(true)),
            "false" | "0" | "no" | "off" => Some(json!(false)),
            _ => None,
        },
        (Text, None) => (!value.is_object() && !value.is_array()).then(|| json!(value.to_string())),
        (Text, Some(_)) => Some(value.clone()),
        (List, None) => (value.is_array() || value.is_null()).then(|| value.clone()),
        (List, Some("")) => Some(Value::Null),
        (List, Some(text)) if text.starts_with('[') => serde_json::from_str(text).ok(),
        (List, Some(text)) if text.eq_ignore_ascii_case("all-linear") || is_pattern(text) => Some(json!(text)),
        (List, Some(text)) => Some(text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect()),
        (Json, None) => Some(value.clone()),
        (Json, Some(text)) => Some(serde_json::from_str(text).unwrap_or_else(|_| json!(text))),
    }
}

/// Whether this is a regular expression rather than names: these may have dots.
fn is_pattern(text: &str) -> bool {
    text.contains(['(', '|', '*', '+', '?', '[', '\\', '^', '$', '{'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_name_means_two_things() {
        let mut seen = HashSet::new();
        for name in all() {
            assert!(seen.insert(name), "`{name}` stands twice");
            assert_eq!(plain(name), name);
        }
    }

    #[track_caller]
    fn check(name: &str, value: Value, expected: Value) {
        let mut given = Given::default();
        given.put(name, &value).unwrap_or_else(|failure| panic!("{failure}"));
        let first = find(name).unwrap().names[0];
        assert_eq!(given.map.get(first), Some(&expected), "{name}");
    }

    #[test]
    fn names_are_taken_as_scripts_write_them() {
        check("--per_device_train_batch_size", json!("4"), json!(4));
        check("per-device-train-batch-size", json!(4), json!(4));
        check("lora_r", json!("16"), json!(16));
        check("max_steps", json!("-1"), json!(0));
        check("warmup_ratio", json!("0.03"), json!(0.03));
        check("gradient_checkpointing", json!("true"), json!(true));
        check(
            "lora_target_modules",
            json!("q_proj, v_proj"),
            json!(["q_proj", "v_proj"]),
        );
        check("lora_target_modules", json!("all-linear"), json!("all-linear"));
        check("lora_target_modules", json!("qkv_proj"), json!(["qkv_proj"]));
        check("lora_target_modules", json!(r"mlp\.\w+"), json!(r"mlp\.\w+"));
        check(
            "target_modules",
            json!(r".*\.(q_proj|v_proj)"),
            json!(r".*\.(q_proj|v_proj)"),
        );
        check(
            "lr_scheduler_kwargs",
            json!(r#"{"min_lr": 5e-5}"#),
            json!({ "min_lr": 5e-5 }),
        );
        check("lora_modules_to_save", json!(""), Value::Null);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let put = |name: &str, value: &str| Given::default().put(name, &json!(value));
        let unknown = put("learning_rat", "1").unwrap_err();
        assert!(unknown.error.help.unwrap().contains("learning_rate"));
        assert!(
            put("max_length", "many")
                .unwrap_err()
                .error
                .message
                .contains("cannot be `many`")
        );
        assert!(put("deepspeed", "zero3.json").is_err() && put("deepspeed", "").is_ok());
        assert!(put("seed", "-5").is_err() && put("max_length", "1.5").is_err());
        let mut given = Given::default();
        given.put("dataloader_num_workers", &json!("4")).unwrap();
        assert!(given.notes[0].contains("has no effect") && given.map.is_empty());
    }
}
