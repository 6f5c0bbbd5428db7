//! LoRA: which layers have factors, and folders as PEFT reads and writes them.

pub(crate) mod folder;
pub(crate) mod targets;

/// The name of a module in the reference's current classes, which PEFT's files and patterns use, from its name in a
/// checkpoint.
pub(crate) fn module_name(name: &str) -> String {
    for (published, now) in [
        ("language_model.model.", "model.language_model."),
        ("language_model.lm_head", "lm_head"),
        ("audio_tower.", "model.audio_tower."),
        ("multi_modal_projector.", "model.multi_modal_projector."),
        ("thinker.model.language_model.", "model.language_model."),
        ("thinker.model.audio_tower.", "model.audio_tower."),
        ("thinker.model.", "model.language_model."),
        ("thinker.audio_tower.", "model.audio_tower."),
        ("thinker.", ""),
        ("vicuna.", ""),
    ] {
        if let Some(rest) = name.strip_prefix(published) {
            return format!("{now}{rest}");
        }
    }
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::module_name;

    #[test]
    fn modules_are_called_as_the_reference_calls_them_now() {
        for (published, now) in [
            ("model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.q_proj"),
            (
                "language_model.model.layers.0.mlp.up_proj",
                "model.language_model.layers.0.mlp.up_proj",
            ),
            ("language_model.lm_head", "lm_head"),
            ("audio_tower.layers.1.fc1", "model.audio_tower.layers.1.fc1"),
            ("multi_modal_projector.linear_1", "model.multi_modal_projector.linear_1"),
            (
                "thinker.model.layers.0.mlp.up_proj",
                "model.language_model.layers.0.mlp.up_proj",
            ),
            ("thinker.audio_tower.proj", "model.audio_tower.proj"),
            ("thinker.model.audio_tower.proj", "model.audio_tower.proj"),
            (
                "thinker.model.language_model.layers.0.mlp.up_proj",
                "model.language_model.layers.0.mlp.up_proj",
            ),
            ("thinker.lm_head", "lm_head"),
            (
                "vicuna.model.layers.0.self_attn.v_proj",
                "model.layers.0.self_attn.v_proj",
            ),
        ] {
            assert_eq!(module_name(published), now);
        }
    }
}
