//! Valid and damaged files. Every damaged one is refused with a reason, and none makes the reader allocate much.

use checkpoint::gguf::{Gguf, Kind, Value, find};

/// The bytes of a file in the making.
#[derive(Default, Clone)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn u32(mut self, value: u32) -> Bytes {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Bytes {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn text(self, text: &str) -> Bytes {
        let mut all = self.u64(text.len() as u64);
        all.0.extend(text.as_bytes());
        all
    }

    fn begin(tensors: u64, words: u64) -> Bytes {
        Bytes(b"GGUF".to_vec()).u32(3).u64(tensors).u64(words)
    }

    fn read(&self) -> Result<Gguf, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, &self.0).unwrap();
        Gguf::open(&path).map_err(|e| e.to_string().replace(path.to_str().unwrap(), "FILE"))
    }
}

/// A valid file: one key of each type, and one tensor (2, 32) of q8_0.
fn whole() -> Bytes {
    let words = Bytes::begin(1, 6)
        .text("general.architecture")
        .u32(8)
        .text("llama")
        .text("llama.block_count")
        .u32(4)
        .u32(7)
        .text("tokens")
        .u32(9)
        .u32(8)
        .u64(2)
        .text("a")
        .text("é")
        .text("scores")
        .u32(9)
        .u32(6)
        .u64(2)
        .u32(1.5f32.to_bits())
        .u32((-1f32).to_bits())
        .text("eps")
        .u32(6)
        .u32(0.25f32.to_bits())
        .text("large")
        .u32(10)
        .u64(u64::MAX);
    let mut all = words.text("t").u32(2).u64(32).u64(2).u32(8).u64(0);
    all.0.resize(all.0.len().next_multiple_of(32), 0);
    all.0.extend((0..68u8).collect::<Vec<_>>());
    all
}

#[test]
fn a_file_is_read() {
    let file = whole().read().unwrap();
    assert_eq!(file.architecture(), Some("llama"));
    assert_eq!(file.of_model("block_count").and_then(Value::count), Some(7));
    assert_eq!(file.get("tokens").and_then(Value::texts).unwrap(), ["a", "é"]);
    assert_eq!(file.get("scores").and_then(Value::numbers).unwrap(), [1.5, -1.0]);
    assert_eq!(file.get("eps").and_then(Value::number), Some(0.25));
    assert_eq!(file.get("large").and_then(Value::count), Some(u64::MAX));
    assert_eq!(file.get("eps").and_then(Value::text), None);
    let tensor = file.tensor("t").unwrap();
    assert_eq!((tensor.kind, tensor.shape.as_slice()), (Kind(8), &[2, 32][..]));
    assert_eq!(
        file.bytes(tensor, 0..tensor.length).unwrap(),
        (0..68u8).collect::<Vec<_>>()
    );
}

/// One part of a split model, with one tensor of this name.
fn part(number: u32, parts: u32, tensor: &str) -> Bytes {
    let words = Bytes::begin(1, 2)
        .text("split.no")
        .u32(4)
        .u32(number)
        .text("split.count")
        .u32(4)
        .u32(parts);
    let mut all = words.text(tensor).u32(1).u64(2).u32(0).u64(0);
    all.0.resize(all.0.len().next_multiple_of(32), 0);
    all.u32(number).u32(7)
}

#[test]
fn parts_of_a_model_are_read_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = |number: u32| folder.path().join(format!("m-{number:05}-of-00002.gguf"));
    let write = |number: u32, part: &Bytes| std::fs::write(path(number), &part.0).unwrap();
    let refused = |number: u32| Gguf::open(&path(number)).unwrap_err().to_string();

    write(1, &part(0, 2, "a"));
    assert!(refused(1).contains("the first of 2 parts, and `m-00002-of-00002.gguf` is not beside it"));
    write(2, &part(1, 2, "b"));
    assert_eq!(find(folder.path()).unwrap(), Some(path(1)));
    let file = Gguf::open(&path(1)).unwrap();
    for (name, number) in [("a", 0u8), ("b", 1)] {
        let bytes = file.bytes(file.tensor(name).unwrap(), 0..8).unwrap();
        assert_eq!(bytes, [number, 0, 0, 0, 7, 0, 0, 0], "{name}");
    }
    assert!(refused(2).contains("it is part 2 of 2 of a model; give the first"));

    write(2, &part(1, 2, "a"));
    assert!(refused(1).contains("tensor `a` is in another part, too"));
    write(2, &part(2, 3, "b"));
    assert!(refused(1).contains("it is not part 2 of 2, as its name says"));
    write(2, &Bytes(b"GGUF".to_vec()));
    assert!(refused(1).contains("m-00002-of-00002.gguf` is malformed"));
    write(1, &part(0, u32::MAX, "a"));
    assert!(refused(1).contains("one of 4294967295 parts, expected at most 1000"));
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let all = whole();
    for length in 0..all.0.len() {
        let error = Bytes(all.0[..length].to_vec()).read().unwrap_err();
        assert!(error.starts_with("`FILE` is malformed: "), "{length}: {error}");
    }
}

#[test]
fn a_byte_changed_anywhere_never_panics() {
    let all = whole();
    for place in 0..all.0.len() {
        for value in [0, 0xff] {
            let mut spoilt = all.clone();
            spoilt.0[place] = value;
            let _ = spoilt.read(); // success or not, but quickly and in little memory
        }
    }
}

#[track_caller]
fn refused(bytes: Bytes, reason: &str) {
    assert_eq!(bytes.read().unwrap_err(), format!("`FILE` is malformed: {reason}"));
}

#[test]
fn reasons() {
    refused(Bytes(b"GGML".to_vec()).u64(0), "it does not begin with `GGUF`");
    refused(
        Bytes(b"GGUF".to_vec()).u32(1).u64(0),
        "it is of version 1, known here: 2, 3",
    );
    let room = "entries, more than fit into it";
    refused(Bytes::begin(u64::MAX, 0), &format!("it claims {} {room}", u64::MAX));
    refused(
        Bytes::begin(0, 1).u64(1 << 40).u64(0),
        &format!("it claims {} {room}", 1u64 << 40),
    );
    let list = Bytes::begin(0, 1).text("k").u32(9);
    refused(
        list.clone().u32(0).u64(1 << 50),
        &format!("`k`: it claims {} {room}", 1u64 << 50),
    );
}

#[test]
fn tensors_that_cannot_be() {
    let tensor = |dimensions: &[u64], kind: u32, start: u64| {
        let begun = Bytes::begin(1, 0).text("t").u32(dimensions.len() as u32);
        dimensions
            .iter()
            .fold(begun, |all, size| all.u64(*size))
            .u32(kind)
            .u64(start)
    };
    refused(
        tensor(&[1; 5], 0, 0),
        "tensor `t`: it has 5 dimensions, expected at most 4",
    );
    refused(
        tensor(&[33, 2], 8, 0),
        "tensor `t`: its rows of 33 do not divide into blocks of 32",
    );
    refused(
        tensor(&[], 8, 0),
        "tensor `t`: its rows of 1 do not divide into blocks of 32",
    );
    refused(
        tensor(&[1 << 40, 1 << 40], 0, 0),
        "tensor `t`: it has more values than can be counted",
    );
    let beyond = "tensor `t` lies beyond the end of the file, which may be incomplete";
    refused(tensor(&[32], 0, 0), beyond);
    refused(tensor(&[0], 0, u64::MAX - 3), beyond);
}

#[test]
fn a_folder_is_a_file_if_it_holds_one_and_no_other_weights() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str| std::fs::write(folder.path().join(name), "").unwrap();
    let found = || find(folder.path()).map(|found| found.map(|path| path.file_name().unwrap().to_owned()));
    assert_eq!(found().unwrap(), None);
    put("tokenizer.json");
    put("model.Q8_0.GGUF");
    assert_eq!(found().unwrap().unwrap(), "model.Q8_0.GGUF");
    let file = folder.path().join("model.Q8_0.GGUF");
    assert_eq!(find(&file).unwrap(), Some(file));
    put("other.gguf");
    assert!(
        found()
            .unwrap_err()
            .to_string()
            .ends_with("several GGUF files: model.Q8_0.GGUF, other.gguf")
    );
    put("model.safetensors");
    assert_eq!(found().unwrap(), None);
}
