//! Files as PyTorch writes them, and malformed ones.

use super::Pickle;
use crate::Weights;
use candle_core::{DType, Device};
use std::io::Write;
use std::path::{Path, PathBuf};
use zip::write::SimpleFileOptions;

/// A file with this pickle and these storages.
fn saved(folder: &Path, pickle: &[u8], storages: &[(&str, &[u8])]) -> PathBuf {
    let path = folder.join("file.pt");
    let mut archive = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let files = storages.iter().map(|(key, bytes)| (format!("file/data/{key}"), *bytes));
    let all = [
        ("file/data.pkl".to_owned(), pickle),
        ("file/byteorder".to_owned(), &b"little"[..]),
    ];
    for (name, bytes) in all.into_iter().chain(files) {
        archive.start_file(name, stored).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap();
    path
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = vec![b'X'];
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

fn counts(counts: &[i32]) -> Vec<u8> {
    let numbers = counts
        .iter()
        .flat_map(|count| [&b"J"[..], &count.to_le_bytes()].concat());
    [b"(".to_vec(), numbers.collect(), b"t".to_vec()].concat()
}

/// The pickle of a tensor in storage `0`.
fn tensor(kind: &str, offset: i32, shape: &[i32], strides: &[i32]) -> Vec<u8> {
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
        text("storage"),
        format!("ctorch\n{kind}\n").into_bytes(),
        text("0"),
        text("cpu"),
        b"K\x06tQJ".to_vec(),
        offset.to_le_bytes().to_vec(),
        counts(shape),
        counts(strides),
        b"\x89}tR".to_vec(),
    ]
    .concat()
}

/// `{"model": {"w": tensor}, "cfg": {…}}`
fn file(tensor: Vec<u8>) -> Vec<u8> {
    [
        b"\x80\x02}(".to_vec(),
        text("model"),
        b"ccollections\nOrderedDict\n)R(".to_vec(),
        text("w"),
        tensor,
        b"u}b".to_vec(), // with attributes, as state dictionaries have them
        text("cfg"),
        b"}(".to_vec(),
        [text("layers"), b"K\x0c".to_vec(), text("deep"), b"\x88".to_vec()].concat(),
        [
            text("rate"),
            b"G\x3f\xe0\0\0\0\0\0\0".to_vec(),
            text("act"),
            text("gelu"),
        ]
        .concat(),
        [text("less"), b"\x8a\x02\xff\xff".to_vec(), text("none"), b"N".to_vec()].concat(),
        b"uu.".to_vec(),
    ]
    .concat()
}

const SIX: [f32; 6] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];

fn six() -> Vec<u8> {
    SIX.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn read(path: &Path, shape: &[usize]) -> Result<Vec<f32>, String> {
    let pickle = Pickle::open(path).map_err(|e| e.to_string())?;
    let weights = Weights::of_pickle(&pickle, Some("model"), DType::F32, &Device::Cpu).map_err(|e| e.to_string())?;
    let tensor = weights.get("w", shape).map_err(|e| e.to_string())?;
    Ok(tensor.flatten_all().unwrap().to_vec1().unwrap())
}

#[track_caller]
fn check(tensor: Vec<u8>, shape: &[usize], expected: &[f32]) {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(folder.path(), &file(tensor), &[("0", &six())]);
    assert_eq!(read(&path, shape).unwrap(), expected);
}

#[test]
fn tensors_come_in_the_order_that_their_strides_give() {
    check(tensor("FloatStorage", 0, &[2, 3], &[3, 1]), &[2, 3], &SIX);
    check(
        tensor("FloatStorage", 0, &[3, 2], &[1, 3]),
        &[3, 2],
        &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0],
    );
    check(tensor("FloatStorage", 2, &[2], &[2]), &[2], &[3.0, 5.0]);
    check(tensor("FloatStorage", 5, &[2, 1], &[0, 9]), &[2, 1], &[6.0, 6.0]);
    check(tensor("FloatStorage", 4, &[], &[]), &[], &[5.0]);
    check(
        tensor("HalfStorage", 1, &[1], &[1]),
        &[1],
        &[half::f16::from_bits(0x3f80).to_f32()],
    );
    check(tensor("BFloat16Storage", 1, &[1], &[1]), &[1], &[1.0]);
    let parameter = [
        b"ctorch._utils\n_rebuild_parameter\n(".to_vec(),
        tensor("FloatStorage", 0, &[1], &[1]),
    ];
    check([parameter.concat(), b"\x88}tR".to_vec()].concat(), &[1], &[1.0]);
}

#[test]
fn settings_are_plain_data() {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(
        folder.path(),
        &file(tensor("FloatStorage", 0, &[6], &[1])),
        &[("0", &six())],
    );
    let settings = Pickle::open(&path).unwrap().settings("cfg").unwrap();
    let expected = serde_json::json!({"layers": 12, "deep": true, "rate": 0.5, "act": "gelu", "less": -1});
    assert_eq!(serde_json::Value::from(settings), expected);
    let error = Pickle::open(&path).unwrap().settings("config").unwrap_err().to_string();
    assert!(error.ends_with("it has no dictionary `config`"), "{error}");
}

#[track_caller]
fn refused(pickle: &[u8], why: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(folder.path(), pickle, &[("0", &six())]);
    let error = read(&path, &[1])
        .unwrap_err()
        .replace(folder.path().to_str().unwrap(), "DIR");
    assert_eq!(error, format!("`DIR/file.pt` is malformed: {why}"));
}

#[test]
fn a_pickle_is_read_and_never_run() {
    let call = [
        b"\x80\x02cposix\nsystem\n(".to_vec(),
        text("touch pwned"),
        b"tR.".to_vec(),
    ]
    .concat();
    refused(&call, "`model` in it is not a dictionary of tensors");
    refused(
        b"\x80\x02ios\nsystem\n.",
        "its pickle has an operation 0x69 at byte 2, which no weights need",
    );
}

#[test]
fn a_spoilt_pickle_is_refused_with_the_reason() {
    refused(b"", "its pickle is cut short after 0 bytes");
    refused(b"\x80\x02X\xff\xff\xff\xffab", "its pickle is cut short after 9 bytes");
    refused(b"ctorch", "its pickle is cut short after 6 bytes");
    refused(b".", "its pickle takes from an empty stack at byte 1");
    refused(b"}(s.", "its pickle takes from an empty stack at byte 3");
    refused(b"}t.", "its pickle lacks a mark at byte 2");
    refused(b"}(Nu.", "its pickle has a key without a value at byte 4");
    refused(b"h\x05.", "its pickle recalls object 5, which it never kept");
    refused(&[b']'; 4_000_001], "its pickle holds more than 4000000 objects");
    refused(b"]q\0h\0a.", "`model` in it is not a dictionary of tensors"); // a list that holds itself

    let few = |shape: &str| format!("tensor `w`: its storage `0` has 6 values, too few for its shape {shape}");
    refused(&file(tensor("FloatStorage", 0, &[7], &[1])), &few("[7]"));
    refused(&file(tensor("FloatStorage", 6, &[1], &[1])), &few("[1]"));
    refused(&file(tensor("FloatStorage", 0, &[2, 2], &[5, 1])), &few("[2, 2]"));
    refused(
        &file(tensor("FloatStorage", 0, &[i32::MAX; 3], &[i32::MAX; 3])),
        &few("[2147483647, 2147483647, 2147483647]"),
    );
    refused(
        &file(tensor("FloatStorage", 0, &[i32::MAX], &[0])),
        &few("[2147483647]"),
    ); // four bytes that claim to be gigabytes
    refused(&file(tensor("FloatStorage", 0, &[2, 2], &[1])), &few("[2, 2]"));
    let spoilt = "tensor `w`: it is described by something else than a storage, an offset, a shape and strides";
    refused(&file(tensor("FloatStorage", -1, &[1], &[1])), spoilt);
    refused(&file(b"ctorch._utils\n_rebuild_tensor_v2\n)R".to_vec()), spoilt);
}

#[test]
fn a_file_cut_short_anywhere_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(
        folder.path(),
        &file(tensor("FloatStorage", 0, &[6], &[1])),
        &[("0", &six())],
    );
    let whole = std::fs::read(&path).unwrap();
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert!(
            read(&path, &[6]).is_err(),
            "the first {length} bytes of {}",
            whole.len()
        );
    }
}

#[test]
fn what_is_no_archive_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pytorch_model.bin");
    std::fs::write(&path, b"\x80\x02\x8a\x0a").unwrap();
    let Err(error) = Weights::open(folder.path(), DType::F32, &Device::Cpu) else {
        panic!("opened")
    };
    let told = error.to_string();
    assert!(
        told.contains("pytorch_model.bin` is malformed: it is not a zip archive"),
        "{told}"
    );
}

#[test]
fn a_folder_of_pickled_weights_is_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let flat = [
        b"}".to_vec(),
        text("w"),
        tensor("FloatStorage", 0, &[6], &[1]),
        b"s.".to_vec(),
    ]
    .concat();
    let path = saved(folder.path(), &flat, &[("0", &six())]);
    std::fs::rename(&path, folder.path().join("pytorch_model-00001-of-00001.bin")).unwrap();
    let index = r#"{"weight_map": {"w": "pytorch_model-00001-of-00001.bin"}}"#;
    std::fs::write(folder.path().join("pytorch_model.bin.index.json"), index).unwrap();
    let weights = Weights::open(folder.path(), DType::F32, &Device::Cpu).unwrap();
    assert_eq!(weights.get("w", &[6]).unwrap().to_vec1::<f32>().unwrap(), SIX);
    assert!(
        weights
            .get("w", &[5])
            .unwrap_err()
            .to_string()
            .contains("has shape [6], expected [5]")
    );
}
