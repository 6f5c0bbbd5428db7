//! Changes a checkpoint's file of tensors, to make another form of it.

use plugin_api::serde_json::{Map, Value, from_slice, json};
use std::collections::BTreeMap;
use std::path::Path;

/// A tensor of a safetensors file.
#[derive(Clone)]
pub struct Stored {
    /// As the format calls it, such as `F32` or `U8`.
    pub dtype: String,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl Stored {
    pub fn bytes(bytes: Vec<u8>) -> Stored {
        Stored {
            dtype: "U8".to_owned(),
            shape: vec![bytes.len()],
            bytes,
        }
    }
}

/// Changes the tensors of `model.safetensors` in place.
pub fn change(folder: &Path, change: impl FnOnce(&mut BTreeMap<String, Stored>)) {
    let path = folder.join("model.safetensors");
    let file = std::fs::read(&path).expect("a file of tensors");
    let (length, rest) = file.split_at(8);
    let length = u64::from_le_bytes(length.try_into().expect("eight bytes")) as usize;
    let (header, data) = rest.split_at(length);
    let header: Map<String, Value> = from_slice(header).expect("a header");
    let entries = header.into_iter().filter(|(name, _)| name != "__metadata__");
    let mut tensors = entries.map(|(name, entry)| (name, stored(&entry, data))).collect();
    change(&mut tensors);
    let (mut header, mut data) = (Map::new(), Vec::new());
    for (name, Stored { dtype, shape, bytes }) in tensors {
        let start = data.len();
        data.extend(bytes);
        let entry = json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, data.len()] });
        header.insert(name, entry);
    }
    let header = Value::Object(header).to_string().into_bytes();
    let length = (header.len() as u64).to_le_bytes().to_vec();
    std::fs::write(path, [length, header, data].concat()).expect("the file again");
}

fn stored(entry: &Value, data: &[u8]) -> Stored {
    let numbers = |value: &Value| -> Vec<usize> {
        let numbers = value.as_array().expect("numbers").iter();
        numbers.map(|n| n.as_u64().expect("a number") as usize).collect()
    };
    let at = numbers(&entry["data_offsets"]);
    Stored {
        dtype: entry["dtype"].as_str().expect("a type").to_owned(),
        shape: numbers(&entry["shape"]),
        bytes: data[at[0]..at[1]].to_vec(),
    }
}
