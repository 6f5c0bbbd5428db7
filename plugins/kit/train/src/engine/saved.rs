//! Saves a run's model and states, and restores them.

use super::failed;
use super::files::{Written, write_safetensors, write_values};
use super::trainer::Trainer;
use super::{Engine, Method};
use crate::lora::folder;
use crate::optim::State;
use half::{bf16, f16};
use plugin_api::{Code, Error, Result};
use safetensors::{Dtype, SafeTensors};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// The file of a checkpoint's weights.
const WEIGHTS: &str = "model.safetensors";

impl Trainer {
    pub(super) fn save_weights(&self, folder: &Path) -> Result<Vec<String>> {
        match self.settings.method {
            Method::Full => self.save_checkpoint(folder),
            Method::Lora | Method::Qlora => {
                let mut tensors: Vec<(String, Vec<usize>, &[f32])> = self
                    .named_values()
                    .map(|(name, shape, values)| (name.to_owned(), shape.to_vec(), values))
                    .collect();
                tensors.sort_by(|a, b| a.0.cmp(&b.0));
                let base = std::path::absolute(&self.base.folder).unwrap_or_else(|_| self.base.folder.clone());
                folder::write(folder, &self.settings.lora, &base.display().to_string(), &tensors)
            }
        }
    }

    /// All tensors of the base, with the current values of learnt ones, in the base's types.
    fn save_checkpoint(&self, folder: &Path) -> Result<Vec<String>> {
        let root = self.base.weights.root();
        let learnt: BTreeMap<&str, (&[usize], &[f32])> = self
            .named_values()
            .map(|(name, shape, values)| (name, (shape, values)))
            .collect();
        let mut tensors = Vec::new();
        for name in root.names() {
            let (dtype, shape) = root.stored(&name).map_err(failed)?;
            let values = learnt.get(name.as_str()).map(|(_, values)| *values);
            let root = &root;
            let tensor = name.clone();
            // Exact fp32 weights are saved in fp32, or a resumed run would begin with other values.
            let dtype = match values {
                Some(_) if !self.optim.narrow => Dtype::F32,
                _ => dtype,
            };
            tensors.push(Written {
                name,
                dtype,
                shape,
                bytes: Box::new(move |file: &mut dyn Write| match values {
                    Some(values) => write_as(file, dtype, values),
                    None => root
                        .with_stored(&tensor, |bytes| file.write_all(bytes))
                        .map_err(|why| std::io::Error::other(why.to_string()))?,
                }),
            });
        }
        write_safetensors(&folder.join(WEIGHTS), &tensors, &json!({ "format": "pt" }))?;
        let mut written = vec![WEIGHTS.to_owned()];
        for name in ["config.json", "generation_config.json"] {
            let from = self.base.folder.join(name);
            if let Ok(text) = std::fs::read(&from) {
                super::files::write_synced(&folder.join(name), &text)?;
                written.push(name.to_owned());
            }
        }
        Ok(written)
    }

    pub(super) fn write_state(&self, path: &Path) -> Result<()> {
        let mut tensors: Vec<Written> = Vec::new();
        for (learnt, state) in self.parameters.learnt.iter().zip(&self.optim.states) {
            let (name, shape) = (&learnt.parameter.name, &learnt.parameter.shape);
            tensors.push(floats(
                format!("weight.{name}"),
                shape,
                &self.parameters.values[learnt.range.clone()],
            ));
            match state {
                State::None => {}
                State::Moments { first, second } => {
                    tensors.push(floats(format!("exp_avg.{name}"), shape, first));
                    tensors.push(floats(format!("exp_avg_sq.{name}"), shape, second));
                }
                State::Halves(states) => {
                    tensors.push(halves(format!("exp_avg.{name}"), shape, &states.first));
                    tensors.push(halves(format!("exp_avg_sq.{name}"), shape, &states.second));
                }
                State::Bytes(states) => {
                    tensors.push(bytes(format!("exp_avg.{name}"), shape, &states.first));
                    tensors.push(bytes(format!("exp_avg_sq.{name}"), shape, &states.second));
                    let blocks = [states.first_absmax.len()];
                    tensors.push(floats(format!("exp_avg_absmax.{name}"), &blocks, &states.first_absmax));
                    tensors.push(floats(
                        format!("exp_avg_sq_absmax.{name}"),
                        &blocks,
                        &states.second_absmax,
                    ));
                }
                State::Factored(states) => {
                    tensors.push(floats(
                        format!("exp_avg_sq_row.{name}"),
                        &[states.rows.len()],
                        &states.rows,
                    ));
                    tensors.push(floats(
                        format!("exp_avg_sq_col.{name}"),
                        &[states.columns.len()],
                        &states.columns,
                    ));
                }
            }
        }
        let mut metadata = json!({
            "format": "pt", "step": self.optim.steps.to_string(), "batches": self.batches.to_string(),
            "seed": self.settings.seed.to_string(),
        });
        if self.parameters.hear() {
            metadata["heard_step"] = json!(self.optim.heard_steps.to_string());
        }
        write_safetensors(path, &tensors, &metadata)
    }

    pub(super) fn read_state(&mut self, _folder: &Path, path: &Path) -> Result<()> {
        let malformed = |why: String| {
            let error = Error::new(Code::DATA, format!("`{}` is not the state of this run", path.display()));
            error.cause(why)
        };
        let content = std::fs::read(path).map_err(|why| {
            Error::new(Code::MISSING, format!("cannot read `{}`", path.display())).cause(why.to_string())
        })?;
        let file = SafeTensors::deserialize(&content).map_err(|why| malformed(why.to_string()))?;
        let (_, header) = SafeTensors::read_metadata(&content).map_err(|why| malformed(why.to_string()))?;
        let number = |key: &str| {
            let text = header.metadata().as_ref().and_then(|all| all.get(key));
            let number = text.and_then(|text| text.parse::<u64>().ok());
            number.ok_or_else(|| malformed(format!("it lacks `{key}`")))
        };
        let (steps, batches) = (number("step")?, number("batches")?);
        // Older files lack the count of parts that hear: every step updated them.
        let counted = header
            .metadata()
            .as_ref()
            .is_some_and(|all| all.contains_key("heard_step"));
        let heard_steps = if counted { number("heard_step")? } else { steps };
        let stored = |name: String, dtype: Dtype, bytes: usize| -> Result<&[u8]> {
            let view = file.tensor(&name).map_err(|why| malformed(why.to_string()))?;
            match view.dtype() == dtype && view.data().len() == bytes {
                true => Ok(view.data()),
                false => Err(malformed(format!("`{name}` has another type or shape"))),
            }
        };
        let read = |name: String, into: &mut [f32]| -> Result<()> {
            let (values, _) = stored(name, Dtype::F32, size_of_val(into))?.as_chunks::<4>();
            into.iter_mut()
                .zip(values)
                .for_each(|(into, value)| *into = f32::from_le_bytes(*value));
            Ok(())
        };
        let read_halves = |name: String, into: &mut [bf16]| -> Result<()> {
            let (values, _) = stored(name, Dtype::BF16, size_of_val(into))?.as_chunks::<2>();
            into.iter_mut()
                .zip(values)
                .for_each(|(into, value)| *into = bf16::from_le_bytes(*value));
            Ok(())
        };
        let read_bytes = |name: String, into: &mut [u8]| -> Result<()> {
            into.copy_from_slice(stored(name, Dtype::U8, into.len())?);
            Ok(())
        };
        for (learnt, state) in self.parameters.learnt.iter().zip(&mut self.optim.states) {
            let name = &learnt.parameter.name;
            read(
                format!("weight.{name}"),
                &mut self.parameters.values[learnt.range.clone()],
            )?;
            match state {
                State::None => {}
                State::Moments { first, second } => {
                    read(format!("exp_avg.{name}"), first)?;
                    read(format!("exp_avg_sq.{name}"), second)?;
                }
                State::Halves(states) => {
                    read_halves(format!("exp_avg.{name}"), &mut states.first)?;
                    read_halves(format!("exp_avg_sq.{name}"), &mut states.second)?;
                }
                State::Bytes(states) => {
                    read_bytes(format!("exp_avg.{name}"), &mut states.first)?;
                    read_bytes(format!("exp_avg_sq.{name}"), &mut states.second)?;
                    read(format!("exp_avg_absmax.{name}"), &mut states.first_absmax)?;
                    read(format!("exp_avg_sq_absmax.{name}"), &mut states.second_absmax)?;
                }
                State::Factored(states) => {
                    read(format!("exp_avg_sq_row.{name}"), &mut states.rows)?;
                    read(format!("exp_avg_sq_col.{name}"), &mut states.columns)?;
                }
            }
        }
        (self.optim.steps, self.optim.heard_steps, self.batches) = (steps, heard_steps, batches);
        self.forget();
        Ok(())
    }
}

fn floats<'a>(name: String, shape: &[usize], values: &'a [f32]) -> Written<'a> {
    Written {
        name,
        dtype: Dtype::F32,
        shape: shape.to_vec(),
        bytes: Box::new(move |file| write_values(file, values)),
    }
}

fn halves<'a>(name: String, shape: &[usize], values: &'a [bf16]) -> Written<'a> {
    Written {
        name,
        dtype: Dtype::BF16,
        shape: shape.to_vec(),
        bytes: Box::new(move |file| {
            values.chunks(1 << 14).try_for_each(|some| {
                let bytes: Vec<u8> = some.iter().flat_map(|value| value.to_le_bytes()).collect();
                file.write_all(&bytes)
            })
        }),
    }
}

fn bytes<'a>(name: String, shape: &[usize], values: &'a [u8]) -> Written<'a> {
    Written {
        name,
        dtype: Dtype::U8,
        shape: shape.to_vec(),
        bytes: Box::new(move |file| file.write_all(values)),
    }
}

fn write_as(file: &mut dyn Write, dtype: Dtype, values: &[f32]) -> std::io::Result<()> {
    let narrow: fn(f32) -> [u8; 2] = match dtype {
        Dtype::BF16 => |x| bf16::from_f32(x).to_le_bytes(),
        Dtype::F16 => |x| f16::from_f32(x).to_le_bytes(),
        _ => return write_values(file, values),
    };
    values.chunks(1 << 14).try_for_each(|some| {
        let bytes: Vec<u8> = some.iter().flat_map(|&x| narrow(x)).collect();
        file.write_all(&bytes)
    })
}
