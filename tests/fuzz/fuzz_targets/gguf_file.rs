//! GGUF files: what one says that it holds lies within it.
#![no_main]

use fuzz::file_of;
use checkpoint::gguf::Gguf;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = file_of(bytes, "gguf");
    let Ok(file) = Gguf::open(&path) else { return };
    let _ = (file.architecture(), file.of_model("block_count"));
    for (_, place) in file.tensors().take(16) {
        assert!(place.length <= bytes.len() as u64);
        assert_eq!(
            file.bytes(place, 0..place.length)
                .expect("it was found to lie in the file")
                .len() as u64,
            place.length
        );
    }
});
