//! Copies the tensors of one checkpoint into another file, as stored, or quantised.

use crate::{Error, Result, Weights};
use safetensors::Dtype;
use serde_json::{Map, json};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// A tensor to copy: its name in the new file, and its place here.
pub struct Copied<'w> {
    pub name: String,
    pub weights: &'w Weights,
    /// Its name below `weights`.
    pub tensor: String,
}

/// Writes a safetensors file, one tensor after the other, so that it takes no more memory than the largest of them.
///
/// The file gets its name when it is complete. `told` is given the share that is done, and returns whether to
/// continue.
pub fn write_weights(path: &Path, copied: &[Copied], mut told: impl FnMut(f64) -> bool) -> Result<u64> {
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
    let mut end = 0u64;
    for Copied { name, weights, tensor } in copied {
        let (name, dtype, shape) = match weights.to_blocks(tensor)? {
            Some((stored, shape, _)) => (renamed(name, tensor, &stored), Dtype::U8, shape.to_vec()),
            None => {
                let (dtype, shape) = weights.stored(tensor)?;
                (name.clone(), dtype, shape)
            }
        };
        let start = end;
        let bits = shape.iter().map(|&size| size as u64).product::<u64>() * dtype.bitsize() as u64;
        end += bits / 8;
        let entry = json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, end] });
        if header.insert(name.clone(), entry).is_some() {
            return Err(Error::Malformed {
                path: path.to_owned(),
                reason: format!("it would have two tensors `{name}`"),
            });
        }
    }
    let mut header = serde_json::Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');

    let part = path.with_extension("safetensors.part");
    let failed = |source| Error::Write {
        path: path.to_owned(),
        source,
    };
    let mut file = BufWriter::with_capacity(1 << 20, File::create(&part).map_err(failed)?);
    file.write_all(&(header.len() as u64).to_le_bytes()).map_err(failed)?;
    file.write_all(&header).map_err(failed)?;
    let mut done = 0u64;
    for Copied { weights, tensor, .. } in copied {
        let mut write = |bytes: &[u8]| file.write_all(bytes).map(|()| bytes.len());
        let written = match weights.to_blocks(tensor)? {
            Some((_, _, dtype)) => write(&weights.blocks_of(tensor, dtype)?),
            None => weights.with_stored(tensor, write)?,
        };
        done += written.map_err(failed)? as u64;
        if !told(done as f64 / end.max(1) as f64) {
            drop(file);
            let _ = std::fs::remove_file(&part);
            return Err(failed(std::io::Error::from(std::io::ErrorKind::Interrupted)));
        }
    }
    let file = file.into_inner().map_err(|e| failed(e.into_error()))?;
    file.sync_all().map_err(failed)?;
    std::fs::rename(&part, path).map_err(failed)?;
    Ok(end)
}

/// The new name of a tensor, with the suffix of its block type if it has one.
fn renamed(name: &str, tensor: &str, stored: &str) -> String {
    format!("{name}{}", stored.strip_prefix(tensor).unwrap_or_default())
}
