//! Merges a LoRA into its base: writes a checkpoint of the same files, in which the product of the factors is added to
//! the weights.
//!
//! The base is read from its files, one tensor at a time, not from the model in memory: the result keeps the published
//! type, whatever the model computes in, and a large base needs no second copy.
//!
//! A matrix that bitsandbytes stored in four bits is written in the type from which it was made. Quantised again, it
//! would lose much of what the LoRA learnt.

use candle_core::safetensors::Load;
use candle_core::{DType, Device};
use checkpoint::{FourBits, Mapped};
use generate::Generator;
use half::{bf16, f16};
use nn::lora::Site;
use nn::{Decoder, Error, Factors, Result, Weights};
use plugin_api::{Call, Code, LoraUse, Message, Prompt};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Runs [`plugin_api::Model::run_command`] for a model of this kit: the command `merge`.
pub fn run<D: Decoder>(
    generator: &Generator<D>,
    command: &str,
    request: &Value,
    call: &Call,
) -> plugin_api::Result<Value> {
    if command != "merge" {
        return Err(plugin_api::Error::unsupported(format!(
            "this model can't run `{command}`, only `merge`"
        )));
    }
    let request: Request = serde_json::from_value(request.clone())
        .map_err(|why| plugin_api::Error::new(Code::SETTINGS, format!("cannot read the request `merge`: {why}")))?;
    let set = generator.loras().choose(&LoraUse::Only(request.loras.clone()))?;
    let changes = generator.loras().changes(&set);
    let base = generator.loras().folder();
    let files = checkpoint::mapped(base).map_err(Error::into_plugin_error)?;
    let weights = Weights::open(base, DType::F32, &Device::Cpu).map_err(Error::into_plugin_error)?;
    let changes = by_tensor(changes, &files, base).map_err(Error::into_plugin_error)?;
    if let Some(folder) = &request.record {
        let told = |prompt: &Prompt| generator.tokens(prompt).map(|tokens| tokens.ids);
        let prompts: Vec<Vec<u32>> = probes().iter().filter_map(|prompt| told(prompt).ok()).collect();
        parity::record(generator, &set, prompts, folder).map_err(Error::into_plugin_error)?;
    }
    let whole = Whole::begin(&request.out, request.force)?;
    let (layers, bytes) = write_files(&files, &weights, &changes, &whole.part, call)?;
    if layers == 0 {
        return Err(Error::LoraRounded {
            folder: base.to_owned(),
        }
        .into_plugin_error());
    }
    copy_others(base, &whole.part).map_err(Error::into_plugin_error)?;
    if weights.any_in_four_bits() {
        describe_unquantised(&weights, &whole.part, bytes)?;
    }
    whole.finish()?;
    Ok(json!({ "out": request.out, "layers": layers, "files": files.len() }))
}

#[derive(Deserialize)]
struct Request {
    /// Names of added LoRAs.
    loras: Vec<String>,
    out: PathBuf,
    #[serde(default)]
    force: bool,
    /// A folder for the answers of the base with its LoRAs, to compare the merged checkpoint with.
    record: Option<PathBuf>,
}

/// The prompts that both answer.
fn probes() -> [Prompt; 4] {
    [
        Prompt::plain("The capital of France is"),
        Prompt::plain("1, 2, 3, 4, 5, 6,"),
        Prompt::plain("def main(args):\n    return"),
        Prompt::new([Message::user("Which planet is the largest? Answer in one word.")]),
    ]
}

type Files = Vec<(PathBuf, Mapped)>;
type Changes = HashMap<String, Vec<Factors>>;

/// The changes by tensor; all tensors must exist.
fn by_tensor(changes: Vec<(Arc<Site>, Vec<Factors>)>, files: &Files, base: &Path) -> Result<Changes> {
    let mut by_tensor = Changes::new();
    for (site, factors) in changes {
        let tensor = format!("{}.weight", site.name);
        if site.tied {
            return Err(Error::TiedHead {
                folder: base.to_owned(),
            });
        }
        if !files.iter().any(|(_, file)| file.has(&tensor)) {
            return Err(Error::MissingTensor {
                folder: base.to_owned(),
                tensor,
            });
        }
        by_tensor.insert(tensor, factors);
    }
    Ok(by_tensor)
}

/// A tensor of the result.
struct Tensor<'f> {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    stored: TensorView<'f>,
    /// If these are the codes of a matrix in four bits.
    four_bits: Option<FourBits<'f>>,
}

impl Tensor<'_> {
    fn size_in_bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }

    /// The bytes of the result, and whether these factors changed any.
    fn bytes(&self, file: &Path, factors: &[Factors]) -> Result<(Cow<'_, [u8]>, bool)> {
        let stored = match &self.four_bits {
            None => Cow::Borrowed(self.stored.data()),
            Some(found) => Cow::Owned(narrowed(self.dtype, &found.all_values())),
        };
        if factors.is_empty() {
            return Ok((stored, false));
        }
        let sum = match &self.four_bits {
            None => self.stored.load(&Device::Cpu)?.to_dtype(DType::F32)?,
            Some(found) => candle_core::Tensor::from_vec(found.all_values(), &self.shape[..], &Device::Cpu)?,
        };
        if !matches!(self.dtype, Dtype::F32 | Dtype::BF16 | Dtype::F16) {
            return Err(Error::StoredAs {
                file: file.to_owned(),
                tensor: self.name.clone(),
                got: format!("{:?}", self.dtype),
                expected: checkpoint::KNOWN,
            });
        }
        let merged = narrowed(self.dtype, &merged(sum, factors)?);
        let changed = merged != *stored;
        Ok((Cow::Owned(merged), changed))
    }
}

/// The tensors that the result has in place of a file's.
fn tensors_of<'f>(file: &'f Mapped, weights: &'f Weights) -> Result<Vec<Tensor<'f>>> {
    let stored = file.tensors().into_iter();
    let kept = stored.filter(|(name, _)| !weights.belongs_to_four_bits(name));
    kept.map(|(name, stored)| {
        let four_bits = weights.four_bits(&name)?;
        let (dtype, shape) = match &four_bits {
            Some(found) => (found.dtype, found.shape.clone()),
            None => (stored.dtype(), stored.shape().to_vec()),
        };
        Ok(Tensor {
            name,
            dtype,
            shape,
            stored,
            four_bits,
        })
    })
    .collect()
}

/// Writes the base's files under their names, and counts the tensors that changed and the bytes of all.
fn write_files(
    files: &Files,
    weights: &Weights,
    changes: &Changes,
    out: &Path,
    call: &Call,
) -> plugin_api::Result<(usize, usize)> {
    let total: usize = files
        .iter()
        .flat_map(|(_, file)| file.tensors())
        .map(|(_, view)| view.data().len())
        .sum();
    let (mut read, mut written, mut changed) = (0, 0, 0);
    for (path, file) in files {
        let target = out.join(path.file_name().unwrap_or_default());
        let failed = |why: std::io::Error| unwritable(&target, &why);
        let tensors = tensors_of(file, weights).map_err(Error::into_plugin_error)?;
        let mut writer = BufWriter::new(fs::File::create(&target).map_err(failed)?);
        writer.write_all(&header(&tensors)?).map_err(failed)?;
        for tensor in &tensors {
            call.check()?;
            let factors = changes.get(&tensor.name).map(Vec::as_slice).unwrap_or_default();
            let (bytes, differs) = tensor.bytes(path, factors).map_err(Error::into_plugin_error)?;
            changed += usize::from(differs);
            writer.write_all(&bytes).map_err(failed)?;
            written += bytes.len();
            file.done_with(tensor.stored.data());
            read += tensor.stored.data().len();
            call.progress(read as f64 / total.max(1) as f64, &tensor.name);
        }
        let file = writer.into_inner().map_err(|why| failed(why.into_error()))?;
        file.sync_all().map_err(failed)?;
    }
    Ok((changed, written))
}

/// The header of a safetensors file: a length, names with types, shapes and offsets, and spaces up to a multiple of
/// eight.
fn header(tensors: &[Tensor]) -> plugin_api::Result<Vec<u8>> {
    let mut entries = Map::new();
    entries.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
    let mut start = 0;
    for tensor in tensors {
        let end = start + tensor.size_in_bytes();
        let entry = json!({ "dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [start, end] });
        entries.insert(tensor.name.clone(), entry);
        start = end;
    }
    let mut text = serde_json::to_vec(&entries)?;
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut header = (text.len() as u64).to_le_bytes().to_vec();
    header.extend(text);
    Ok(header)
}

/// Values with the products added in fp32.
fn merged(mut sum: candle_core::Tensor, factors: &[Factors]) -> Result<Vec<f32>> {
    for Factors { a, b, scale } in factors {
        let (a, b) = (a.to_device(&Device::Cpu)?, b.to_device(&Device::Cpu)?);
        sum = (sum + (b.matmul(&a)? * *scale)?)?;
    }
    Ok(sum.flatten_all()?.to_vec1::<f32>()?)
}

/// Values rounded once to a type of two or four bytes.
fn narrowed(dtype: Dtype, values: &[f32]) -> Vec<u8> {
    match dtype {
        Dtype::BF16 => values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect(),
        Dtype::F16 => values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
    }
}

/// Makes the copied `config.json`, and the index of several files, those of a checkpoint that is not quantised.
fn describe_unquantised(weights: &Weights, out: &Path, bytes: usize) -> plugin_api::Result<()> {
    let change = |name: &str, change: &dyn Fn(&mut Map<String, Value>)| -> plugin_api::Result<()> {
        let path = out.join(name);
        if !path.is_file() {
            return Ok(());
        }
        let mut content: Map<String, Value> = checkpoint::read_json(&path).map_err(Error::into_plugin_error)?;
        change(&mut content);
        let text = format!("{:#}\n", Value::Object(content));
        fs::write(&path, text).map_err(|why| unwritable(&path, &why))
    };
    change("config.json", &|config| {
        config.remove("quantization_config");
        for part in config.values_mut().filter_map(Value::as_object_mut) {
            part.remove("quantization_config");
        }
    })?;
    change("model.safetensors.index.json", &|index| {
        index.insert("metadata".to_owned(), json!({ "total_size": bytes }));
        if let Some(Value::Object(files)) = index.get_mut("weight_map") {
            files.retain(|tensor, _| !weights.belongs_to_four_bits(tensor));
        }
    })
}

/// Copies the other files of the base: configuration, tokenizer, templates, licence. Folders are not copied.
fn copy_others(base: &Path, out: &Path) -> Result<()> {
    let failed = |source| Error::Read {
        path: base.to_owned(),
        source,
    };
    for entry in fs::read_dir(base).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let Some(name) = path.file_name() else { continue };
        let shown = name.to_string_lossy();
        let weights = [
            ".safetensors",
            ".bin",
            ".bin.index.json",
            ".gguf",
            ".pt",
            ".pth",
            ".h5",
            ".msgpack",
            ".onnx",
        ];
        let skipped = shown.starts_with('.') || weights.iter().any(|end| shown.ends_with(end));
        // Follows links, since the hub's cache consists of them.
        if path.is_file() && !skipped {
            fs::copy(&path, out.join(name)).map_err(|source| Error::Read {
                path: path.clone(),
                source,
            })?;
        }
    }
    Ok(())
}

/// A folder that exists complete or not at all: it is written under another name and renamed at the end.
struct Whole<'a> {
    out: &'a Path,
    part: PathBuf,
}

impl<'a> Whole<'a> {
    fn begin(out: &'a Path, force: bool) -> plugin_api::Result<Whole<'a>> {
        if out.symlink_metadata().is_ok() {
            let there = plugin_api::Error::new(Code::SETTINGS, format!("`{}` already exists", out.display()));
            match force {
                false => return Err(there.help("give another folder, or `--force` to replace a checkpoint")),
                true if !is_checkpoint(out) => {
                    return Err(there.help("it holds something other than a checkpoint, which is not replaced"));
                }
                true => {}
            }
        }
        let Some(name) = out.file_name() else {
            let message = format!("`{}` is not a name for a folder", out.display());
            return Err(plugin_api::Error::new(Code::SETTINGS, message));
        };
        let part = out.with_file_name(format!(".{}.{}.part", name.to_string_lossy(), std::process::id()));
        fs::create_dir_all(&part).map_err(|why| unwritable(&part, &why))?;
        Ok(Whole { out, part })
    }

    fn finish(self) -> plugin_api::Result<()> {
        let failed = |why: std::io::Error| unwritable(self.out, &why);
        let old = self.part.with_extension("old");
        let replaces = self.out.exists();
        if replaces {
            fs::rename(self.out, &old).map_err(failed)?;
        }
        if let Err(why) = fs::rename(&self.part, self.out) {
            let _ = fs::rename(&old, self.out);
            return Err(failed(why));
        }
        if replaces {
            fs::remove_dir_all(&old).map_err(failed)?;
        }
        Ok(())
    }
}

impl Drop for Whole<'_> {
    fn drop(&mut self) {
        // It no longer exists if all went well.
        let _ = fs::remove_dir_all(&self.part);
    }
}

/// Whether a folder holds only files, with a `config.json` among them: nothing else is ever removed.
fn is_checkpoint(folder: &Path) -> bool {
    let only_files = fs::read_dir(folder).is_ok_and(|mut entries| {
        entries.all(|entry| entry.is_ok_and(|entry| entry.file_type().is_ok_and(|kind| kind.is_file())))
    });
    only_files && folder.join("config.json").is_file()
}

fn unwritable(path: &Path, why: &std::io::Error) -> plugin_api::Error {
    plugin_api::Error::new(Code::OTHER, format!("cannot write `{}`", path.display())).cause(why.to_string())
}
