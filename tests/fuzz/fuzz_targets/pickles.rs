//! Any bytes as the pickle of a PyTorch file with two storages: an error or a table of contents, and nothing is run.
#![no_main]

use fuzz::{file_of, zip_of};
use libfuzzer_sys::fuzz_target;
use checkpoint::Pickle;

fuzz_target!(|bytes: &[u8]| {
    let archive = zip_of(&[
        ("archive/data.pkl", bytes),
        ("archive/byteorder", b"little"),
        ("archive/data/0", &[1; 64]),
        ("archive/data/1", &[1; 64]),
        ("archive/version", b"3"),
    ]);
    if let Ok(pickle) = Pickle::open(&file_of(&archive, "pth")) {
        let _ = (pickle.path(), pickle.settings("config"), pickle.settings(""));
    }
});
