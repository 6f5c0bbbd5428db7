//! What training would learn of a checkpoint, and how it would hold the rest, from the names and shapes of its tensors.

use super::{EngineSettings, Method, Precision, failed};
use crate::lora::targets::Targets;
use crate::lora::{folder, module_name};
use crate::optim::state_bytes;
use checkpoint::plain_name;
use nn::Weights;
use plugin_api::Result;
use safetensors::Dtype;
use serde_json::Value;

/// Modules that are frozen unless `unfreeze` names them.
const TOWERS: [&str; 2] = ["audio_tower.", "multi_modal_projector."];

/// The parts of a checkpoint that training reads, below all wrappings.
const READ: [&str; 6] = ["embed_tokens.", "layers.", "norm.", "lm_head.", TOWERS[0], TOWERS[1]];

/// A table among the tower's tensors that no lesson reads.
const UNREAD: &str = "audio_tower.audio_bos_eos_token.";

/// What follows the layers of a tower, under the names of its kinds.
const BEHIND_LAYERS: [&str; 3] = ["layer_norm", "ln_post", "proj"];

/// Where the shape of a matrix in four bits stands.
const STATE: &str = "quant_state.bitsandbytes__nf4";

/// Whether the tensor of this full name is learnt itself, not by factors. `module` is what PEFT calls its module.
pub(super) fn is_learnt(settings: &EngineSettings, targets: Option<&Targets>, tensor: &str, module: &str) -> bool {
    let has = |names: &[String]| names.iter().any(|part| tensor.contains(part.as_str()));
    if has(&settings.unfreeze) {
        return true;
    }
    match targets {
        None => match &settings.freeze {
            Some(names) => !has(names),
            None => !TOWERS.iter().any(|part| tensor.contains(part)),
        },
        Some(targets) => {
            let is_bias = tensor.ends_with(".bias");
            let own = match settings.lora.bias.as_str() {
                "all" => is_bias,
                "lora_only" => is_bias && targets.has(module, false),
                _ => false,
            };
            own || targets.is_whole(module)
        }
    }
}

/// Values and bytes of a run's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    /// Learnt values, those of factors included.
    pub learnt: u64,
    /// Bytes of the optimiser's states.
    pub states: u64,
    /// Bytes of frozen weights.
    pub frozen: u64,
    /// Whether any part of an audio tower or its projector is learnt, so that each step hears all of its clips.
    pub hears: bool,
    /// Whether convolutions or layers of the tower are, so that they keep what their backward pass needs.
    pub tower: bool,
}

impl Counted {
    /// Reads the names and shapes of a checkpoint's tensors, and none of its values.
    pub fn of(weights: &Weights, settings: &EngineSettings, tied: bool) -> Result<Counted> {
        let mut settings = settings.clone();
        if settings.method == Method::Qlora && weights.any_in_four_bits() {
            settings.method = Method::Lora; // what such a base leaves plain stays plain
        }
        if let Some(adapter) = &settings.adapter {
            settings.lora = folder::read_settings(adapter)?;
        }
        let targets = match settings.method {
            Method::Full => None,
            Method::Lora | Method::Qlora => Some(Targets::read(&settings.lora)?),
        };
        let root = weights.root();
        let names = root.names();
        let hears = names.iter().any(|name| plain_name(name).starts_with(TOWERS[0]));
        let mut counted = Counted::default();
        for name in &names {
            let plain = plain_name(name);
            let unread = !READ.iter().any(|part| plain.starts_with(part))
                || plain.starts_with(UNREAD)
                || plain.starts_with(TOWERS[1]) && !hears
                || plain.starts_with("lm_head.") && tied
                || root.belongs_to_four_bits(name);
            if !unread {
                counted.take(&root, name, &settings, targets.as_ref())?;
            }
        }
        // A tied head that a LoRA learns whole is a copy of the table.
        let copy = tied && targets.as_ref().is_some_and(|targets| targets.is_whole("lm_head"));
        if let (true, Some(table)) = (
            copy,
            names.iter().find(|name| plain_name(name) == "embed_tokens.weight"),
        ) {
            counted.learn(&settings, &root.stored(table).map_err(failed)?.1, false);
        }
        Ok(counted)
    }

    fn take(&mut self, root: &Weights, name: &str, settings: &EngineSettings, targets: Option<&Targets>) -> Result<()> {
        let blocks = root.matrix_of_blocks(name);
        let name = blocks.as_ref().map_or(name, |(matrix, _)| matrix);
        let (dtype, mut shape) = match &blocks {
            Some((_, shape)) => (Dtype::F32, shape.to_vec()),
            None => root.stored(name).map_err(failed)?,
        };
        let four_bits = root.has_four_bits(name);
        if four_bits {
            let state = root.with_stored(&format!("{name}.{STATE}"), |bytes| {
                serde_json::from_slice::<Value>(bytes)
            });
            let state = state.map_err(failed)?.unwrap_or_default();
            let sizes = state["shape"].as_array().into_iter().flatten();
            shape = sizes.filter_map(Value::as_u64).map(|size| size as usize).collect();
        }
        let (module, what) = name.rsplit_once('.').unwrap_or((name, ""));
        let is_table = module.ends_with("embed_tokens");
        let is_position = module.ends_with("embed_positions");
        let count = shape.iter().product::<usize>() as u64;
        let matrix = shape.len() > 1 && !is_position;
        let linear = shape.len() == 2 && what == "weight" && !is_table && !is_position;
        let is_head = module.ends_with("lm_head");
        let plain = plain_name(name);
        let in_audio = TOWERS.iter().any(|part| plain.starts_with(part));
        let in_tower = plain_name(module)
            .strip_prefix(TOWERS[0])
            .is_some_and(|inside| !BEHIND_LAYERS.contains(&inside));
        let factors = targets.filter(|_| linear);
        let module = module_name(module);
        if let Some(targets) = factors.filter(|targets| targets.has(&module, is_head)) {
            let rank = targets.rank(&module);
            self.learn(settings, &[rank, shape[1]], false);
            self.learn(settings, &[shape[0], rank], false);
            (self.hears, self.tower) = (self.hears || in_audio, self.tower || in_tower);
        }
        if !is_position && is_learnt(settings, targets, name, &module) {
            self.learn(settings, &shape, is_table);
            (self.hears, self.tower) = (self.hears || in_audio, self.tower || in_tower);
            return Ok(());
        }
        self.frozen += match dtype {
            _ if four_bits => in_four_bits(count, root.has(&format!("{name}.nested_absmax"))),
            _ if linear && !is_head && settings.method == Method::Qlora => {
                in_four_bits(count, settings.bnb_4bit_use_double_quant)
            }
            Dtype::BF16 | Dtype::F16 if matrix => 2 * count,
            _ => 4 * count,
        };
        Ok(())
    }

    fn learn(&mut self, settings: &EngineSettings, shape: &[usize], is_table: bool) {
        let narrow = settings.precision == Precision::PureBf16 && settings.method == Method::Full;
        self.learnt += shape.iter().product::<usize>() as u64;
        self.states += state_bytes(settings.optim.optim, shape, is_table, narrow);
    }
}

/// Bytes of a matrix in four bits: codes, and the scales of blocks of 64, which may be bytes with scales of their own.
fn in_four_bits(count: u64, double: bool) -> u64 {
    let scales = count.div_ceil(64);
    let of_scales = match double {
        true => scales + 4 * scales.div_ceil(256) + 1024,
        false => 4 * scales,
    };
    count.div_ceil(2) + of_scales
}
