//! The weights of a checkpoint: one file, or several with an index; safetensors, PyTorch's pickles or GGUF.
//!
//! Files are memory-mapped (pickled ones are read tensor by tensor) and each tensor is converted once, when a layer
//! asks for it, a matrix some rows at a time. So loading needs little more memory than the weights it ends with.

mod blocks;
mod four_bits;
mod loaded;
mod memory;
mod source;
mod values;

pub use four_bits::FourBits;
pub use source::mapped;

use crate::from_gguf;
use crate::pickle::Pickle;
use crate::{Error, Result, gguf};
use candle_core::quantized::GgmlDType;
use candle_core::safetensors::Load;
use candle_core::{DType, Device, Tensor};
use kernels::device::own_kernels;
use kernels::{Matrix, fitting};
use plugin_api::Level;
use rayon::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use source::{Files, INDEX, SINGLE, Source, one_file, open_sharded, open_single};
use std::any::{Any, TypeId};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Display;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use values::{random, rows_of, widened};

/// Supported types of tensors outside of GGUF files.
pub const KNOWN: &str = "F32, F16 or BF16";

/// Tensors by name, below a prefix.
///
/// Every layer takes its tensors from here, so adapters and quantised files work without the model's knowledge.
#[derive(Clone)]
pub struct Weights {
    store: Arc<Store>,
    prefix: String,
    /// The type of computation.
    dtype: DType,
    /// The type of matrices that are not quantised.
    matrices: DType,
    quant: Option<GgmlDType>,
    /// Tensors whose names begin with these are never quantised.
    plain: &'static [&'static str],
    /// Whether blocks of a GGUF file are unpacked.
    unpack: bool,
    device: Device,
    shared: Shared,
}

/// Values that the layers of one checkpoint share, by type.
type Shared = Arc<Mutex<HashMap<TypeId, Box<dyn Any + Send + Sync>>>>;

struct Store {
    folder: PathBuf,
    files: Vec<(PathBuf, Arc<Source>)>,
    places: HashMap<String, usize>,
    /// There are no files: every tensor exists and is random.
    random: bool,
    loaded_bytes: AtomicU64,
    loaded_values: AtomicU64,
    /// How many matrices were loaded as which type.
    matrices: Mutex<BTreeMap<&'static str, usize>>,
}

impl Store {
    fn of(folder: &Path, files: Vec<(PathBuf, Arc<Source>)>, places: HashMap<String, usize>) -> Store {
        Store {
            folder: folder.to_owned(),
            files,
            places,
            random: false,
            loaded_bytes: AtomicU64::new(0),
            loaded_values: AtomicU64::new(0),
            matrices: Mutex::default(),
        }
    }
}

impl Weights {
    /// Opens a checkpoint folder. Tensors are converted to `dtype` on `device` when they are asked for. With bf16 on a
    /// CPU, only matrices are stored as bf16, and computation is in fp32.
    pub fn open(folder: &Path, dtype: DType, device: &Device) -> Result<Weights> {
        if let Some(path) = gguf::find(folder)? {
            let file = Source::Gguf(from_gguf::Tensors::open(&path)?);
            return Weights::over(folder, one_file(path, file), dtype, device);
        }
        let is_file = |name: &&str| folder.join(name).is_file();
        let found = SINGLE.iter().zip(&INDEX).find_map(|(single, index)| {
            let single = Some(*single).filter(is_file).map(|name| open_single(folder.join(name)));
            single.or_else(|| {
                Some(*index)
                    .filter(is_file)
                    .map(|name| open_sharded(folder, &folder.join(name)))
            })
        });
        let Some(files) = found else {
            return Err(Error::NoWeights {
                folder: folder.to_owned(),
            });
        };
        Weights::over(folder, files?, dtype, device)
    }

    /// The tensors of one file saved by PyTorch: those of its dictionary, or of the dictionary's entry `key`.
    pub fn of_pickle(pickle: &Pickle, key: Option<&str>, dtype: DType, device: &Device) -> Result<Weights> {
        let source = Source::Pickled(pickle.tensors(key)?);
        let files = one_file(pickle.path().to_owned(), source);
        Weights::over(pickle.path(), files, dtype, device)
    }

    /// Random weights of any shape, to measure speed: small numbers, the same each time, and ones for vectors.
    pub fn random(dtype: DType, device: &Device) -> Result<Weights> {
        let mut weights = Weights::over(Path::new("random weights"), Files::default(), dtype, device)?;
        if let Some(store) = Arc::get_mut(&mut weights.store) {
            store.random = true;
        }
        Ok(weights)
    }

    /// The tensors of one safetensors file.
    pub fn of_file(path: &Path, dtype: DType, device: &Device) -> Result<Weights> {
        Weights::over(path, open_single(path.to_owned())?, dtype, device)
    }

    /// Replaces tensors by those of the same names in a file saved by PyTorch. Other tensors of that file are ignored
    /// with a log line, as in the reference. To be called before anything is read.
    ///
    /// Names may differ in the modules around the language model, as in LoRAs.
    pub fn changed_by(&self, changes: &Path) -> Result<Weights> {
        let mut tensors = Pickle::open(changes)?.tensors(None)?;
        let known: HashMap<&str, &String> = self.store.places.keys().map(|name| (plain_name(name), name)).collect();
        let unknown = tensors.rename(|name| known.get(plain_name(name)).map(|name| (*name).clone()));
        if let Some(first) = unknown.first() {
            let (file, count) = (changes.display(), unknown.len());
            let told =
                format!("{count} tensors of `{file}` have no place in this model and are left out, such as `{first}`");
            plugin_api::log(Level::Warning, &told);
        }
        let (mut files, mut places) = (self.store.files.clone(), self.store.places.clone());
        let replaced: HashSet<&str> = tensors.names().map(String::as_str).collect();
        // Where plain values replace four-bit codes, the scales of those are left out.
        places.retain(|name, _| !self.codes_of(name).is_some_and(|codes| replaced.contains(codes)));
        places.extend(tensors.names().map(|name| (name.clone(), files.len())));
        files.push((changes.to_owned(), Arc::new(Source::Pickled(tensors))));
        Ok(Weights {
            store: Arc::new(Store::of(&self.store.folder, files, places)),
            ..self.clone()
        })
    }

    fn over(folder: &Path, (files, places): Files, dtype: DType, device: &Device) -> Result<Weights> {
        let files = files.into_iter().map(|(path, file)| (path, Arc::new(file))).collect();
        let store = Store::of(folder, files, places);
        Ok(Weights {
            store: Arc::new(store),
            prefix: String::new(),
            // Processors multiply bf16 and sum in fp32. Rounding every sum to bf16 would cost them time and precision,
            // though it saves a GPU time. So on processors, bf16 is the type in which matrices are stored.
            dtype: if own_kernels(device) { DType::F32 } else { dtype },
            matrices: dtype,
            quant: None,
            plain: &[],
            unpack: false,
            device: device.clone(),
            shared: Shared::default(),
        })
    }

    /// The same weights, with matrices quantised as they are read, one at a time, so that loading needs little more
    /// memory than the result.
    pub fn quantised(&self, quant: Option<GgmlDType>) -> Weights {
        Weights { quant, ..self.clone() }
    }

    /// The same weights, without quantising those whose full names begin with one of `plain`.
    pub fn keeping(&self, plain: &'static [&'static str]) -> Weights {
        Weights { plain, ..self.clone() }
    }

    /// The type that a matrix of this full name is quantised to.
    fn quant_of(&self, tensor: &str) -> Option<GgmlDType> {
        let kept = self.plain.iter().any(|start| tensor.starts_with(start));
        self.quant.filter(|_| !kept)
    }

    /// The same weights. With `unpack`, blocks of a GGUF file become plain values unless [`Weights::quantised`] asks
    /// for blocks: four to eight times the memory, and exact products.
    pub fn unpacked(&self, unpack: bool) -> Weights {
        Weights { unpack, ..self.clone() }
    }

    /// The same weights, below `name`: `weights.at("model.layers.0")`.
    pub fn at(&self, name: impl Display) -> Weights {
        Weights {
            prefix: self.path(&name.to_string()),
            ..self.clone()
        }
    }

    /// The same weights, with full names.
    pub fn root(&self) -> Weights {
        Weights {
            prefix: String::new(),
            ..self.clone()
        }
    }

    /// The type that numbers are rounded to before they are multiplied, also in products without weights.
    pub fn products(&self) -> DType {
        self.matrices
    }

    /// A tensor of this shape.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let loaded = self.read(name, shape)?;
        let values = loaded.elem_count();
        self.note(values, values * self.dtype.size_in_bytes());
        Ok(loaded)
    }

    /// A matrix (outputs, inputs) to multiply with, quantised if these weights are.
    pub fn matrix(&self, name: &str, outputs: usize, inputs: usize) -> Result<Matrix> {
        self.matrix_as(name, outputs, inputs, self.quant_of(&self.path(name)))
    }

    /// A table of token vectors (rows, hidden), which may also be the head of a model.
    ///
    /// If matrices are quantised, it is stored as q8_0: coarser types lose too much precision in a head.
    pub fn table(&self, name: &str, rows: usize, hidden: usize) -> Result<Matrix> {
        self.matrix_as(name, rows, hidden, self.quant.map(|_| GgmlDType::Q8_0))
    }

    fn matrix_as(&self, name: &str, outputs: usize, inputs: usize, quant: Option<GgmlDType>) -> Result<Matrix> {
        let dims = (outputs, inputs);
        let matrix = match quant {
            None => match self.as_stored(name, dims)? {
                Some(matrix) => matrix,
                None if Matrix::packs(self.matrices, &self.device) => {
                    self.with_rows(name, dims, |rows| Matrix::of_rows(self.matrices, dims, rows))?
                }
                None => {
                    let stored = Weights {
                        dtype: self.matrices,
                        ..self.clone()
                    };
                    Matrix::new(stored.read(name, &[outputs, inputs])?)?
                }
            },
            Some(quant) => match self.in_blocks(name, dims)? {
                Some(stored) if fitting(quant, inputs) == Some(stored.dtype) => {
                    Matrix::of_blocks(stored.dtype, dims, &|rows| stored.rows(rows), &self.device)?
                }
                _ => self.with_finite_rows(name, dims, |rows| {
                    Matrix::quantise_rows(dims, rows, quant, self.matrices, &self.device)
                })?,
            },
        };
        self.note(outputs * inputs, matrix.bytes());
        if let Ok(mut matrices) = self.store.matrices.lock() {
            *matrices.entry(matrix.stored_as()).or_default() += 1;
        }
        Ok(matrix)
    }

    /// The file with a tensor of this shape, and the tensor's full name.
    fn find(&self, name: &str, shape: &[usize]) -> Result<(String, &PathBuf, &Source)> {
        let tensor = self.path(name);
        let Some(&place) = self.store.places.get(&tensor) else {
            return Err(Error::MissingTensor {
                folder: self.store.folder.clone(),
                tensor,
            });
        };
        let (file, content) = &self.store.files[place];
        let found = content.shape(&tensor).map_err(|reason| Error::Malformed {
            path: file.clone(),
            reason,
        });
        let (unknown, got) = found?;
        if got != shape {
            return Err(Error::Shape {
                file: file.clone(),
                tensor,
                expected: shape.to_vec(),
                got,
            });
        }
        if let Some(got) = unknown {
            let expected = match &**content {
                Source::Gguf(_) => from_gguf::KNOWN,
                _ => KNOWN,
            };
            let file = file.clone();
            return Err(Error::StoredAs {
                file,
                tensor,
                got,
                expected,
            });
        }
        Ok((tensor, file, content))
    }

    fn read(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        if self.store.random {
            let values = match shape.len() {
                0 | 1 => Tensor::ones(shape, DType::F32, &Device::Cpu)?,
                _ => Tensor::from_vec(random(&self.path(name), 0..shape.iter().product()), shape, &Device::Cpu)?,
            };
            return Ok(values.to_device(&self.device)?.to_dtype(self.dtype)?);
        }
        if let Some(stored) = self.four_bits_of(name, shape)? {
            let values = Tensor::from_vec(stored.all_values(), shape, &Device::Cpu)?;
            return Ok(values.to_device(&self.device)?.to_dtype(self.dtype)?);
        }
        if let &[outputs, inputs] = shape
            && let Some(stored) = self.in_blocks(name, (outputs, inputs))?
        {
            let values = Tensor::from_vec(stored.values(0..outputs)?, shape, &Device::Cpu)?;
            return Ok(values.to_device(&self.device)?.to_dtype(self.dtype)?);
        }
        let (tensor, file, content) = self.find(name, shape)?;
        let read = match content {
            Source::Gguf(tensors) => {
                let values = tensors.values(&tensor)?;
                let values = values.ok_or_else(|| "it lost a tensor".to_owned());
                values.map(|values| values.to_device(&self.device)?.to_dtype(self.dtype))
            }
            Source::Mapped(file) => file.get(&tensor).map(|view| {
                let converted = self.convert(&view);
                file.done_with(view.data());
                converted
            }),
            Source::Pickled(tensors) => tensors.read(&tensor, |view| self.convert(view)),
        };
        let malformed = |reason| Error::Malformed {
            path: file.clone(),
            reason,
        };
        Ok(read.map_err(malformed)??)
    }

    /// A matrix in the blocks of its file, if it is stored in blocks.
    fn as_stored(&self, name: &str, dims: (usize, usize)) -> Result<Option<Matrix>> {
        if self.store.random || self.has_four_bits(name) {
            return Ok(None);
        }
        if let Some(stored) = self.in_blocks(name, dims)? {
            return Matrix::of_blocks(stored.dtype, dims, &|rows| stored.rows(rows), &self.device).map(Some);
        }
        let (tensor, _, Source::Gguf(tensors)) = self.find(name, &[dims.0, dims.1])? else {
            return Ok(None);
        };
        if self.unpack {
            return Ok(None);
        }
        let Some(dtype) = tensors.block_type(&tensor) else {
            return Ok(None);
        };
        Matrix::of_blocks(dtype, dims, &|rows| tensors.rows(&tensor, rows), &self.device).map(Some)
    }

    /// Gives `take` a reader of the rows of a matrix, which reads them from the file, as fp32, when they are asked
    /// for.
    fn with_rows<T>(
        &self,
        name: &str,
        (outputs, inputs): (usize, usize),
        take: impl FnOnce(&(dyn Fn(Range<usize>) -> Result<Vec<f32>> + Sync)) -> Result<T>,
    ) -> Result<T> {
        if self.store.random {
            let tensor = self.path(name);
            return take(&|rows| Ok(random(&tensor, rows.start * inputs..rows.end * inputs)));
        }
        if let Some(stored) = self.in_blocks(name, (outputs, inputs))? {
            return take(&|rows| stored.values(rows));
        }
        if let Some(stored) = self.four_bits_of(name, &[outputs, inputs])? {
            let taken = take(&|rows| Ok(stored.values(rows.start * inputs..rows.end * inputs)));
            stored.done();
            return taken;
        }
        let (tensor, path, content) = self.find(name, &[outputs, inputs])?;
        let malformed = |reason| Error::Malformed {
            path: path.clone(),
            reason,
        };
        match content {
            Source::Gguf(tensors) => take(&|rows| tensors.row_values(&tensor, rows)),
            Source::Mapped(file) => {
                let view = file.get(&tensor).map_err(malformed)?;
                let taken = take(&|rows| {
                    let bytes = rows_of(&view, rows)?;
                    let values = widened(view.dtype(), bytes)?;
                    file.done_with(bytes);
                    Ok(values)
                });
                // Advice concerns whole pages, and the kernel also maps their neighbours again.
                file.done_with(view.data());
                taken
            }
            Source::Pickled(tensors) => tensors
                .read(&tensor, |view| {
                    take(&|rows| widened(view.dtype(), rows_of(view, rows)?))
                })
                .map_err(malformed)?,
        }
    }

    /// The same for values that become blocks. A value that is not finite is an error: blocks would hide it, where
    /// plain values would show it in the logits.
    fn with_finite_rows<T>(
        &self,
        name: &str,
        dims: (usize, usize),
        take: impl FnOnce(&(dyn Fn(Range<usize>) -> Result<Vec<f32>> + Sync)) -> Result<T>,
    ) -> Result<T> {
        self.with_rows(name, dims, |rows| {
            take(&|some| {
                let values = rows(some)?;
                match values.iter().all(|value| value.is_finite()) {
                    true => Ok(values),
                    false => Err(Error::NotFinite {
                        place: self.file_of(name),
                        tensor: self.path(name),
                    }),
                }
            })
        })
    }

    /// The file of a tensor, for error messages.
    fn file_of(&self, name: &str) -> PathBuf {
        let place = self.store.places.get(&self.path(name));
        place.map_or_else(|| self.store.folder.clone(), |&place| self.store.files[place].0.clone())
    }

    fn convert(&self, view: &TensorView) -> candle_core::Result<Tensor> {
        // On a CPU the common case is a half-width file computed in fp32, where converting takes longer than reading.
        // It runs on all cores, directly from the mapped file.
        let widen: fn([u8; 2]) -> f32 = match view.dtype() {
            Dtype::BF16 => |bytes| half::bf16::from_le_bytes(bytes).to_f32(),
            Dtype::F16 => |bytes| half::f16::from_le_bytes(bytes).to_f32(),
            _ => return view.load(&self.device)?.to_dtype(self.dtype),
        };
        if self.dtype != DType::F32 || !self.device.is_cpu() {
            return view.load(&self.device)?.to_dtype(self.dtype);
        }
        let (pairs, _) = view.data().as_chunks::<2>();
        let values: Vec<f32> = pairs
            .par_iter()
            .with_min_len(1 << 16)
            .map(|&bytes| widen(bytes))
            .collect();
        Tensor::from_vec(values, view.shape(), &self.device)
    }

    /// The stored type and shape of a tensor.
    pub fn stored(&self, name: &str) -> Result<(Dtype, Vec<usize>)> {
        self.at_place(name, |tensor, content| match content {
            Source::Pickled(tensors) => {
                let (dtype, shape) = tensors.shape(tensor).ok_or("it lost a tensor")?;
                Ok((dtype, shape.to_vec()))
            }
            other => other.view(tensor, |view| (view.dtype(), view.shape().to_vec())),
        })
    }

    /// Gives `take` the stored bytes of a tensor. Afterwards, bytes of a mapped file leave memory.
    pub fn with_stored<T>(&self, name: &str, take: impl FnOnce(&[u8]) -> T) -> Result<T> {
        self.at_place(name, |tensor, content| {
            content.view(tensor, |view| {
                let taken = take(view.data());
                if let Source::Mapped(file) = content {
                    file.done_with(view.data());
                }
                taken
            })
        })
    }

    fn at_place<T>(&self, name: &str, take: impl FnOnce(&str, &Source) -> std::result::Result<T, String>) -> Result<T> {
        let tensor = self.path(name);
        let Some((file, content)) = self.store.places.get(&tensor).map(|&place| &self.store.files[place]) else {
            return Err(Error::MissingTensor {
                folder: self.store.folder.clone(),
                tensor,
            });
        };
        take(&tensor, content).map_err(|reason| Error::Malformed {
            path: file.clone(),
            reason,
        })
    }

    pub fn has(&self, name: &str) -> bool {
        self.store.places.contains_key(&self.path(name))
    }

    /// The full names of all tensors, whatever the prefix.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.store.places.keys().cloned().collect();
        names.sort();
        names
    }

    /// The same weights, without the values that layers share: the lists of adapters keep the matrices of layers
    /// alive.
    pub fn unshared(mut self) -> Weights {
        self.shared = Shared::default();
        self
    }

    /// The value of this type that all layers of these weights share, such as adapters. The first caller makes it.
    pub fn shared<T: Clone + Send + Sync + 'static>(&self, make: impl FnOnce() -> T) -> T {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = shared.entry(TypeId::of::<T>()).or_insert_with(|| Box::new(make()));
        slot.downcast_ref::<T>().expect("its type is its key").clone()
    }

    /// The folder or file of these weights.
    pub fn folder(&self) -> &Path {
        &self.store.folder
    }

    /// The full name of a tensor below this prefix.
    pub fn path(&self, name: &str) -> String {
        match (self.prefix.as_str(), name) {
            ("", name) => name.to_owned(),
            (prefix, "") => prefix.to_owned(),
            (prefix, name) => format!("{prefix}.{name}"),
        }
    }

    /// The type of computation; matrices of linear layers may be stored in another.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    pub fn device(&self) -> &Device {
        &self.device
    }
}

/// A layer's name without the modules around the language model, which differ between versions and files:
/// `language_model.model.layers.0.…`, `base_model.model.model.language_model.layers.0.…` and `model.layers.0.…` are
/// the same layer.
pub fn plain_name(name: &str) -> &str {
    const WRAPPINGS: [&str; 6] = [
        "base_model",
        "model",
        "language_model",
        "thinker",
        "llama_model",
        "vicuna",
    ];
    let mut name = name;
    while let Some((first, rest)) = name.split_once('.') {
        if !WRAPPINGS.contains(&first) {
            break;
        }
        name = rest;
    }
    name
}
