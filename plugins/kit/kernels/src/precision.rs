//! The types in which weights are stored and computed, by the names in settings.

use crate::device;
use candle_core::quantized::GgmlDType;
use candle_core::{DType, Device};
use plugin_api::{Code, Error, Result, Settings};

/// The resolved settings `dtype` and `quant` of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Precision {
    /// The type of all values that are not quantised.
    pub dtype: DType,
    /// The type of the matrices of linear layers, if quantised. Norms stay as they are; a table of tokens, which may
    /// also be the head, is q8_0, since the last layer suffers most from coarse weights.
    pub quant: Option<GgmlDType>,
    /// Whether blocks of a GGUF file are unpacked: if fp32 was asked for by name, where exactness is wanted.
    pub unpack: bool,
}

/// The settings' names of block types.
pub const QUANTS: [(&str, GgmlDType); 3] = [
    ("q8_0", GgmlDType::Q8_0),
    ("q6_k", GgmlDType::Q6K),
    ("q4_k", GgmlDType::Q4K),
];

impl Precision {
    /// The default type is fp32 on a processor. On a GPU it is bf16, the type of the checkpoints, or fp32 if the GPU
    /// lacks bf16: fp16's range is too small for models that were trained in bf16.
    pub fn from_settings(settings: &Settings, device: &Device) -> Result<Precision> {
        let named = |name: &str, default: &str| settings.or(name, default.to_owned());
        let asked = named("dtype", "auto")?;
        let dtype = match asked.as_str() {
            "bf16" if device::has_bf16(device) => DType::BF16,
            "bf16" => {
                let message = format!(
                    "setting `dtype` is `bf16`, which {} does not compute in",
                    device::name(device)
                );
                return Err(Error::new(Code::SETTINGS, message).help(
                    "take `-M dtype=fp32`, and `-M quant=q8_0` for less memory, or a GPU of compute capability 8.0",
                ));
            }
            "auto" if !device.is_cpu() && device::has_bf16(device) => DType::BF16,
            _ => DType::F32,
        };
        let quant = match named("quant", "none")?.as_str() {
            "none" => None,
            name => match QUANTS.iter().find(|(known, _)| *known == name) {
                Some(&(_, quant)) => Some(quant),
                None => {
                    let known = QUANTS.map(|(known, _)| known).join(", ");
                    let message = format!("setting `quant` is `{name}`, expected none, {known}");
                    return Err(Error::new(Code::SETTINGS, message));
                }
            },
        };
        Ok(Precision {
            dtype,
            quant,
            unpack: asked == "fp32",
        })
    }
}

/// The name of a type in settings and cards.
pub fn dense_name(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "fp32",
        DType::F16 => "fp16",
        other => other.as_str(),
    }
}

pub fn block_name(dtype: GgmlDType) -> &'static str {
    match dtype {
        GgmlDType::F32 => "fp32",
        GgmlDType::F16 => "fp16",
        GgmlDType::BF16 => "bf16",
        GgmlDType::Q4_0 => "q4_0",
        GgmlDType::Q4_1 => "q4_1",
        GgmlDType::Q5_0 => "q5_0",
        GgmlDType::Q5_1 => "q5_1",
        GgmlDType::Q8_0 => "q8_0",
        GgmlDType::Q8_1 => "q8_1",
        GgmlDType::Q2K => "q2_k",
        GgmlDType::Q3K => "q3_k",
        GgmlDType::Q4K => "q4_k",
        GgmlDType::Q5K => "q5_k",
        GgmlDType::Q6K => "q6_k",
        GgmlDType::Q8K => "q8_k",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settle(dtype: &str, quant: &str) -> Result<Precision> {
        let settings = serde_json::json!({ "dtype": dtype, "quant": quant });
        Precision::from_settings(&serde_json::from_value(settings).unwrap(), &Device::Cpu)
    }

    #[track_caller]
    fn check(dtype: &str, quant: &str, expected: (DType, Option<GgmlDType>)) {
        let precision = settle(dtype, quant).unwrap();
        assert_eq!((precision.dtype, precision.quant), expected);
        assert_eq!(precision.unpack, dtype == "fp32");
    }

    #[test]
    fn settings_name_both_types() {
        check("auto", "none", (DType::F32, None));
        check("fp32", "q4_k", (DType::F32, Some(GgmlDType::Q4K)));
        check("bf16", "q8_0", (DType::BF16, Some(GgmlDType::Q8_0)));
        check("auto", "q6_k", (DType::F32, Some(GgmlDType::Q6K)));
        let message = settle("auto", "q3").unwrap_err().message;
        assert_eq!(message, "setting `quant` is `q3`, expected none, q8_0, q6_k, q4_k");
    }
}
