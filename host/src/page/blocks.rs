//! Blocks of data inside a page: gzip in base64, each in an element that no browser runs.

use base64::engine::general_purpose::STANDARD as BASE64;
use base64::write::EncoderWriter;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use std::io::{self, Write};

/// Writes blocks into a page.
pub struct Blocks<W: Write> {
    out: W,
}

impl<W: Write> Blocks<W> {
    pub fn new(out: W) -> Blocks<W> {
        Blocks { out }
    }

    /// A block of JSON, compressed.
    pub fn json(&mut self, id: &str, value: &impl Serialize) -> io::Result<()> {
        // Written piece by piece, every number would make the compressor prepare a buffer of its own.
        self.packed(id, &serde_json::to_vec(value)?)
    }

    /// A block of finished JSON, compressed.
    pub fn packed(&mut self, id: &str, json: &[u8]) -> io::Result<()> {
        self.element(id, |inside| {
            let mut packed = GzEncoder::new(inside, Compression::fast());
            packed.write_all(json)?;
            packed.finish().map(drop)
        })
    }

    /// A block of bytes as they are.
    pub fn bytes(&mut self, id: &str, bytes: &[u8]) -> io::Result<()> {
        self.element(id, |inside| inside.write_all(bytes))
    }

    /// Names are ours: letters and digits.
    fn element(&mut self, id: &str, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        write!(self.out, "<script type=\"application/octet-stream\" id=\"{id}\">")?;
        let mut inside = EncoderWriter::new(&mut self.out, &BASE64);
        fill(&mut inside)?;
        inside.finish()?;
        drop(inside);
        self.out.write_all(b"</script>\n")
    }

    pub fn into_inner(self) -> W {
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use std::io::Read;

    #[test]
    fn a_block_comes_back_and_holds_no_markup() {
        let mut blocks = Blocks::new(Vec::new());
        let value = vec!["</script><script>alert(1)</script>"; 3];
        blocks.json("d0", &value).unwrap();
        let text = String::from_utf8(blocks.into_inner()).unwrap();
        let inside = text
            .strip_prefix("<script type=\"application/octet-stream\" id=\"d0\">")
            .and_then(|rest| rest.strip_suffix("</script>\n"))
            .unwrap();
        let packed = BASE64.decode(inside).unwrap();
        let mut back = String::new();
        flate2::read::GzDecoder::new(packed.as_slice())
            .read_to_string(&mut back)
            .unwrap();
        assert_eq!(serde_json::from_str::<Vec<String>>(&back).unwrap(), value);
    }
}
