//! Reads text files, compressed or not, up to a limit.

use crate::row::Place;
use flate2::read::MultiGzDecoder;
use plugin_api::{Code, Error, Result};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The most text that is held in memory: a `.gz` of a few kilobytes can claim to be terabytes.
pub(crate) const MOST_TEXT: u64 = 2 << 30;

/// The longest line of a text file.
pub(crate) const LONGEST_LINE: u64 = 256 << 20;

pub(crate) fn open(path: &Path) -> Result<File> {
    let failed = |why: io::Error| {
        let code = match why.kind() {
            io::ErrorKind::NotFound => Code::MISSING,
            _ => Code::DATA,
        };
        Error::new(code, format!("cannot open `{}`", path.display())).cause(why.to_string())
    };
    let file = File::open(path).map_err(failed)?;
    // Reading a pipe or a device could wait for ever.
    match file.metadata().map_err(failed)?.is_file() {
        true => Ok(file),
        false => Err(Error::new(
            Code::DATA,
            format!("`{}` is not a plain file", path.display()),
        )),
    }
}

/// The whole text, without a byte order mark.
pub(crate) fn read_text(path: &Path, packed: bool, most: u64) -> Result<Vec<u8>> {
    let file = open(path)?;
    let mut bytes = Vec::new();
    let read = match packed {
        true => MultiGzDecoder::new(file).take(most + 1).read_to_end(&mut bytes),
        false => file.take(most + 1).read_to_end(&mut bytes),
    };
    if let Err(why) = read {
        let error = Error::new(Code::DATA, format!("cannot read `{}`", path.display())).cause(why.to_string());
        return Err(match packed {
            true => error.help("the file is truncated or not a gzip file; fetch it again"),
            false => error,
        });
    }
    if bytes.len() as u64 > most {
        let message = format!("`{}` holds more than {most} bytes of text", path.display());
        return Err(Error::new(Code::DATA, message).help("split it, or store it as Parquet"));
    }
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    Ok(bytes)
}

pub(crate) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The text of one line or cell.
pub(crate) fn utf8<'a>(bytes: &'a [u8], place: &Place) -> Result<&'a str> {
    std::str::from_utf8(bytes).map_err(|why| {
        let after = why.valid_up_to();
        place
            .broken(format!("is not UTF-8 text after {after} bytes"))
            .help("store the file as UTF-8")
    })
}
