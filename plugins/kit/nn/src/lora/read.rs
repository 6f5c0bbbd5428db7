//! A LoRA's folder as PEFT writes it: `adapter_config.json` and `adapter_model.safetensors`.

use super::config::Config;
use super::{Factors, Site, plain_name};
use crate::{Error, Result, Weights};
use candle_core::{DType, Tensor};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

const SETTINGS: &str = "adapter_config.json";
const TENSORS: [&str; 2] = ["adapter_model.safetensors", "adapter_model.bin"];

/// PEFT's prefix of a model's module names.
const WRAPPED: &str = "base_model.model.";

/// Vision modules. No model here has them, and a LoRA that includes them is used for the rest of the model.
const UNSEEN: [&str; 3] = ["vision_tower", "vision_model", "visual"];

/// The tensors of one module.
#[derive(Default)]
struct Pair {
    a: Option<String>,
    b: Option<String>,
}

/// The factors of each layer in a folder's LoRA.
///
/// A LoRA that does not fit completely is refused: ignoring a tensor would silently give another model.
pub(super) fn layers(folder: &Path, sites: &BTreeMap<String, Arc<Site>>) -> Result<Vec<(Arc<Site>, Factors)>> {
    let there = |name: &&'static str| folder.join(name).is_file();
    let missing = |name| Error::NoLora {
        folder: folder.to_owned(),
        name,
    };
    let settings = Some(SETTINGS).filter(there).ok_or_else(|| missing(SETTINGS))?;
    let tensors = TENSORS.into_iter().find(there).ok_or_else(|| missing(TENSORS[0]))?;
    let (config, file) = (Config::read(&folder.join(settings))?, folder.join(tensors));
    let device = sites.values().next().map(|site| site.device.clone());
    let weights = Weights::of_file(&file, DType::F32, &device.unwrap_or(candle_core::Device::Cpu))?;
    let fault = |tensor: &str, why: String| Error::LoraTensor {
        file: file.clone(),
        tensor: tensor.to_owned(),
        why,
    };

    let mut pairs: BTreeMap<String, Pair> = BTreeMap::new();
    for tensor in weights.names() {
        // If a LoRA includes the head, PEFT also writes the base's own weights of it.
        if let Some(module) = tensor
            .strip_prefix(WRAPPED)
            .and_then(|rest| rest.strip_suffix(".base_layer.weight"))
            && let Some(site) = sites.get(plain_name(module))
        {
            let copy = get(&weights, &tensor, &[site.outputs, site.inputs])?;
            if !is_copy(&copy, site)? {
                return Err(fault(&tensor, "is not a copy of this model's own weights".to_owned()));
            }
            continue;
        }
        let Some((module, is_a)) = parse(&tensor) else {
            return Err(fault(&tensor, "is not a known part of a LoRA".to_owned()));
        };
        let pair = pairs.entry(module.to_owned()).or_default();
        let half = if is_a { &mut pair.a } else { &mut pair.b };
        if let Some(other) = half.replace(tensor.clone()) {
            return Err(fault(&tensor, format!("occurs twice, also as `{other}`")));
        }
    }

    let (mut found, mut idle) = (Vec::new(), true);
    let (mut seen, mut wrappings) = (BTreeSet::new(), BTreeSet::new());
    for (module, pair) in &pairs {
        let name = plain_name(module);
        let any = pair.a.as_ref().or(pair.b.as_ref()).map_or("", String::as_str);
        let Some(site) = sites.get(name) else {
            match name.split('.').any(|part| UNSEEN.contains(&part)) {
                true => continue,
                false => {
                    return Err(fault(
                        any,
                        format!("fits no layer: this model has no linear layer `{name}`"),
                    ));
                }
            }
        };
        if !config.is_for(module) {
            return Err(fault(any, format!("is left over: {SETTINGS} is not for `{module}`")));
        }
        if !seen.insert(name) {
            return Err(fault(
                any,
                format!("is for `{name}`, which other tensors in the file already cover"),
            ));
        }
        wrappings.insert(&module[..module.len() - name.len()]);
        let rank = config.rank(module)?;
        let need = |half: &Option<String>, is: &str, other: &Option<String>, of: &str| {
            let missing = || other.as_deref().unwrap_or_default().replacen(of, is, 1);
            half.clone().ok_or_else(|| fault(&missing(), "is missing".to_owned()))
        };
        let (name_a, name_b) = (
            need(&pair.a, ".lora_A.", &pair.b, ".lora_B.")?,
            need(&pair.b, ".lora_B.", &pair.a, ".lora_A.")?,
        );
        let a = get(&weights, &name_a, &[rank, site.inputs])?;
        let b = get(&weights, &name_b, &[site.outputs, rank])?;
        let (largest_a, largest_b) = (largest(&a)?, largest(&b)?);
        for (name, largest) in [(&name_a, largest_a), (&name_b, largest_b)] {
            if !largest.is_finite() {
                return Err(fault(name, "holds a value that is not finite".to_owned()));
            }
        }
        let scale = config.scale(module)?;
        idle &= scale == 0.0 || largest_a == 0.0 || largest_b == 0.0;
        found.push((site.clone(), Factors { a, b, scale }));
    }

    // A layer that the settings name but the file lacks: an incomplete download, or settings of another training. But
    // if the file has nothing for the audio tower, the training may have covered the language model only.
    let speaks = |name: &str| name.starts_with("layers.") || name == "lm_head";
    let hears = seen.iter().any(|name| !speaks(name));
    let expected = sites.keys().filter(|name| hears || speaks(name));
    for (name, wrapping) in expected.flat_map(|name| wrappings.iter().map(move |it| (name, it))) {
        let module = format!("{wrapping}{name}");
        if config.is_for(&module) && !seen.contains(name.as_str()) {
            let tensor = format!("{WRAPPED}{module}.lora_A.weight");
            return Err(fault(
                &tensor,
                format!("is missing, though {SETTINGS} is for this layer"),
            ));
        }
    }
    match idle {
        true => Err(Error::LoraIdle { file }),
        false => Ok(found),
    }
}

/// The module of a tensor, and whether it is the first factor.
fn parse(tensor: &str) -> Option<(&str, bool)> {
    let tensor = tensor.strip_prefix(WRAPPED).unwrap_or(tensor);
    let (module, rest, is_a) = match (tensor.rsplit_once(".lora_A."), tensor.rsplit_once(".lora_B.")) {
        (Some((module, rest)), None) => (module, rest, true),
        (None, Some((module, rest))) => (module, rest, false),
        _ => return None,
    };
    // Some files keep the adapter's name: `lora_A.default.weight`.
    let plain = rest == "weight" || rest.strip_suffix(".weight").is_some_and(|name| !name.contains('.'));
    plain.then_some((module, is_a))
}

fn get(weights: &Weights, tensor: &str, shape: &[usize]) -> Result<Tensor> {
    weights.get(tensor, shape).map_err(|error| match error {
        Error::Shape {
            file,
            tensor,
            expected,
            got,
        } => Error::LoraTensor {
            file,
            tensor,
            why: format!("has shape {got:?}, expected {expected:?}"),
        },
        other => other,
    })
}

/// Whether these equal a layer's weights, as far as their types allow a comparison: some are stored in few bits.
fn is_copy(weights: &Tensor, site: &Site) -> candle_core::Result<bool> {
    let own = site.base.values()?.to_dtype(DType::F32)?;
    Ok(largest(&(weights - &own)?)? <= 0.05 * largest(&own)?)
}

/// The largest absolute value; infinite if there is a NaN.
fn largest(tensor: &Tensor) -> candle_core::Result<f32> {
    let values = tensor.flatten_all()?.to_vec1::<f32>()?;
    let worse = |worst: f32, x: f32| if x.is_nan() { f32::INFINITY } else { worst.max(x.abs()) };
    Ok(values.into_iter().fold(0.0, worse))
}
