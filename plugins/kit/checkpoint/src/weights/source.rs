//! The files of a checkpoint, in any of the formats, and which of them holds which tensor.

use crate::mapped::Mapped;
use crate::pickle::{Pickle, Tensors};
use crate::{Error, Result, from_gguf};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

/// The files and indices looked for in a folder, in this order.
pub(super) const SINGLE: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];
pub(super) const INDEX: [&str; 2] = ["model.safetensors.index.json", "pytorch_model.bin.index.json"];

/// One file of weights.
pub(super) enum Source {
    Mapped(Mapped),
    Pickled(Tensors),
    Gguf(from_gguf::Tensors),
}

impl Source {
    pub(super) fn open(path: &Path) -> Result<Source> {
        match path.extension().is_some_and(|end| end == "safetensors") {
            true => Mapped::open(path).map(Source::Mapped),
            false => Ok(Source::Pickled(Pickle::open(path)?.tensors(None)?)),
        }
    }

    pub(super) fn names(&self) -> Vec<String> {
        match self {
            Source::Mapped(file) => file.names(),
            Source::Pickled(tensors) => tensors.names().cloned().collect(),
            Source::Gguf(tensors) => tensors.names().cloned().collect(),
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        match self {
            Source::Mapped(file) => file.has(name),
            Source::Pickled(tensors) => tensors.has(name),
            Source::Gguf(tensors) => tensors.shape(name).is_some(),
        }
    }

    /// Gives `take` a tensor as it is stored.
    pub(super) fn view<T>(&self, name: &str, take: impl FnOnce(&TensorView) -> T) -> std::result::Result<T, String> {
        match self {
            Source::Mapped(file) => file.get(name).map(|view| take(&view)),
            Source::Pickled(tensors) => tensors.read(name, take),
            Source::Gguf(_) => Err(format!("`{name}` is stored in blocks that are not supported here")),
        }
    }

    /// A tensor's type, unless it is unknown, and its shape.
    pub(super) fn shape(&self, name: &str) -> std::result::Result<(Option<String>, Vec<usize>), String> {
        let (dtype, shape) = match self {
            Source::Mapped(file) => {
                let view = file.get(name)?;
                (view.dtype(), view.shape().to_vec())
            }
            Source::Pickled(tensors) => {
                let (dtype, shape) = tensors.shape(name).ok_or("it lost a tensor")?;
                (dtype, shape.to_vec())
            }
            Source::Gguf(tensors) => {
                let shape = tensors.shape(name).ok_or("it lost a tensor")?;
                return Ok((tensors.unknown_kind(name), shape.to_vec()));
            }
        };
        let known = matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16);
        Ok(((!known).then(|| format!("{dtype:?}")), shape))
    }
}

pub(super) type Files = (Vec<(PathBuf, Source)>, HashMap<String, usize>);

/// The safetensors files of a checkpoint folder, for code that needs their tensors as they are.
pub fn mapped(folder: &Path) -> Result<Vec<(PathBuf, Mapped)>> {
    let (single, index) = (folder.join(SINGLE[0]), folder.join(INDEX[0]));
    let (files, _) = match (single.is_file(), index.is_file()) {
        (true, _) => open_single(single)?,
        (false, true) => open_sharded(folder, &index)?,
        (false, false) => (Vec::new(), HashMap::new()),
    };
    let mapped = files.into_iter().filter_map(|(path, source)| match source {
        Source::Mapped(file) => Some((path, file)),
        Source::Pickled(_) | Source::Gguf(_) => None,
    });
    let mapped: Vec<_> = mapped.collect();
    match mapped.is_empty() {
        true => Err(Error::NoSafetensors {
            folder: folder.to_owned(),
        }),
        false => Ok(mapped),
    }
}

pub(super) fn one_file(path: PathBuf, file: Source) -> Files {
    let places = file.names().into_iter().map(|name| (name, 0)).collect();
    (vec![(path, file)], places)
}

pub(super) fn open_single(path: PathBuf) -> Result<Files> {
    let file = Source::open(&path)?;
    Ok(one_file(path, file))
}

pub(super) fn open_sharded(folder: &Path, index: &Path) -> Result<Files> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: HashMap<String, String>,
    }
    let parsed: Index = crate::config::read_json(index)?;
    let (mut files, mut numbers, mut places) = (Vec::new(), HashMap::new(), HashMap::new());
    let mut entries: Vec<_> = parsed.weight_map.into_iter().collect();
    entries.sort(); // so that the first error does not depend on hashing
    for (tensor, file) in entries {
        let fault = |why| Error::Index {
            index: index.to_owned(),
            tensor: tensor.clone(),
            file: file.clone(),
            why,
        };
        let number = match numbers.get(&file) {
            Some(&number) => number,
            None => {
                // An index may name files in its own folder only.
                let plain = Path::new(&file)
                    .components()
                    .all(|part| matches!(part, Component::Normal(_)));
                if !plain {
                    return Err(fault("which is outside of the folder"));
                }
                let path = folder.join(&file);
                if !path.is_file() {
                    return Err(fault("which does not exist"));
                }
                files.push((path.clone(), Source::open(&path)?));
                numbers.insert(file.clone(), files.len() - 1);
                files.len() - 1
            }
        };
        if !files[number].1.has(&tensor) {
            return Err(fault("which lacks it"));
        }
        places.insert(tensor, number);
    }
    Ok((files, places))
}
