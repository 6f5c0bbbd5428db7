//! LoRA: which layers have factors, and folders as PEFT reads and writes them.

pub(crate) mod folder;
pub(crate) mod targets;

/// The name of a module in the reference's current classes, which PEFT's files and patterns use, from its name in a
/// checkpoint.
pub(crate) fn module_name(name: &str) -> String {
    let parts = ["thinker.", "vicuna."]; // of checkpoints that hold other models besides
    let name = parts.iter().find_map(|part| name.strip_prefix(part)).unwrap_or(name);
    for (published, now) in [
        ("language_model.model.", "model.language_model."),
        ("language_model.lm_head", "lm_head"),
        ("audio_tower.", "model.audio_tower."),
        ("multi_modal_projector.", "model.multi_modal_projector."),
    ] {
        if let Some(rest) = name.strip_prefix(published) {
            return format!("{now}{rest}");
        }
    }
    name.to_owned()
}
