//! Atomic files: written under another name, synced, then renamed.

use plugin_api::{Code, Error, Result};
use safetensors::Dtype;
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

fn unwritable(path: &Path, why: &std::io::Error) -> Error {
    let error = Error::new(Code::OTHER, format!("cannot write `{}`", path.display())).cause(why.to_string());
    error.help("check free space and write permission")
}

/// Writes a file under another name, syncs and renames it.
pub(crate) fn written(path: &Path, write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let failed = |why: std::io::Error| unwritable(path, &why);
    let mut file = BufWriter::with_capacity(1 << 20, File::create(&part).map_err(failed)?);
    write(&mut file).map_err(failed)?;
    let file = file.into_inner().map_err(|why| failed(why.into_error()))?;
    file.sync_all().map_err(failed)?;
    std::fs::rename(&part, path).map_err(failed)
}

pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    written(path, |file| file.write_all(bytes))
}

pub(crate) type WriteBytes<'a> = Box<dyn Fn(&mut dyn Write) -> std::io::Result<()> + 'a>;

/// A tensor of a file: name, type, shape, and a function that writes its bytes.
pub(crate) struct Written<'a> {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: WriteBytes<'a>,
}

/// Writes a safetensors file with the tensors in this order.
pub(crate) fn write_safetensors(path: &Path, tensors: &[Written], metadata: &Value) -> Result<()> {
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), metadata.clone());
    let mut end = 0;
    for tensor in tensors {
        let start = end;
        end += tensor.shape.iter().product::<usize>() * tensor.dtype.bitsize() / 8;
        let entry = json!({ "dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [start, end] });
        header.insert(tensor.name.clone(), entry);
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    written(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        tensors.iter().try_for_each(|tensor| (tensor.bytes)(file))
    })
}

/// The same for tensors that are all fp32.
pub(crate) fn write_tensors(path: &Path, tensors: &[(String, Vec<usize>, &[f32])], metadata: &Value) -> Result<()> {
    let mut written: Vec<Written> = Vec::with_capacity(tensors.len());
    for (name, shape, values) in tensors {
        written.push(Written {
            name: name.clone(),
            dtype: Dtype::F32,
            shape: shape.clone(),
            bytes: Box::new(move |file| write_values(file, values)),
        });
    }
    write_safetensors(path, &written, metadata)
}

pub(crate) fn write_values(file: &mut dyn Write, values: &[f32]) -> std::io::Result<()> {
    for some in values.chunks(1 << 14) {
        let bytes: Vec<u8> = some.iter().flat_map(|value| value.to_le_bytes()).collect();
        file.write_all(&bytes)?;
    }
    Ok(())
}
