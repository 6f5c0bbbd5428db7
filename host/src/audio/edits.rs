//! The edit list of an m4a file: which part of the decoded stream is the recording.
//!
//! AAC starts with 1024 or more frames of encoder delay and ends in padding; the container's edit list says
//! where the recording lies between them. symphonia reads the list but does not apply it, so this walks
//! the few boxes on the way there (`moov/trak/edts/elst`) itself.

use std::io::{self, Read, Seek, SeekFrom};

/// A `moov` box larger than this is left alone; an hour of audio needs about one megabyte.
const MAX_MOOV: u64 = 64 << 20;

/// The part of a track that is to be heard, in frames of the decoded stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edit {
    pub start: u64,
    /// `None`: to the end.
    pub frames: Option<u64>,
}

/// The first edit of the track, or `None` where there is none or the boxes are not as expected.
pub(super) fn first_edit(file: &mut (impl Read + Seek), track_id: u32, rate: u32) -> io::Result<Option<Edit>> {
    file.seek(SeekFrom::Start(0))?;
    Ok(read_moov(file)?.and_then(|moov| edit_in(&moov, track_id, rate)))
}

fn read_moov(file: &mut (impl Read + Seek)) -> io::Result<Option<Vec<u8>>> {
    loop {
        let mut header = [0; 8];
        if let Err(error) = file.read_exact(&mut header) {
            return if error.kind() == io::ErrorKind::UnexpectedEof {
                Ok(None)
            } else {
                Err(error)
            };
        }
        let mut body = match be_u32(&header) {
            Some(1) => {
                let mut large = [0; 8];
                file.read_exact(&mut large)?;
                u64::from_be_bytes(large).checked_sub(16)
            }
            Some(size) => u64::from(size).checked_sub(8),
            None => None,
        };
        if &header[4..] == b"moov" {
            let Some(length) = body.take_if(|length| *length <= MAX_MOOV) else {
                return Ok(None);
            };
            let mut moov = Vec::new();
            file.take(length).read_to_end(&mut moov)?;
            return Ok(Some(moov));
        }
        match body.and_then(|length| i64::try_from(length).ok()) {
            Some(length) => file.seek(SeekFrom::Current(length))?,
            None => return Ok(None),
        };
    }
}

fn edit_in(moov: &[u8], track_id: u32, rate: u32) -> Option<Edit> {
    let movie_scale = time_scale(child(moov, b"mvhd")?)?;
    let track = boxes(moov)
        .filter(|(name, _)| name == b"trak")
        .map(|(_, body)| body)
        .find(|track| child(track, b"tkhd").and_then(track_id_of) == Some(track_id))?;
    let media_scale = time_scale(child(child(track, b"mdia")?, b"mdhd")?)?;
    let list = child(child(track, b"edts")?, b"elst")?;

    let wide = *list.first()? == 1;
    let mut entries = list.get(8..)?.chunks_exact(if wide { 20 } else { 12 });
    // A media time of -1 is a pause before the recording, which a clip on its own does not have.
    let (duration, start) = entries.find_map(|entry| {
        let (duration, start) = if wide {
            (be_u64(entry)?, be_u64(entry.get(8..)?)? as i64)
        } else {
            (u64::from(be_u32(entry)?), i64::from(be_u32(entry.get(4..)?)? as i32))
        };
        u64::try_from(start).ok().map(|start| (duration, start))
    })?;
    Some(Edit {
        start: rescale(start, media_scale, rate)?,
        // Zero is what a file written in fragments says: not known.
        frames: if duration == 0 {
            None
        } else {
            rescale(duration, movie_scale, rate)
        },
    })
}

/// Rounds up: the movie's clock often ticks in milliseconds, and cutting a fraction of one off the end
/// would lose frames of the recording.
fn rescale(time: u64, scale: u32, rate: u32) -> Option<u64> {
    let frames = (u128::from(time) * u128::from(rate)).div_ceil(u128::from(scale).max(1));
    u64::try_from(frames).ok()
}

/// The ticks per second of a `mvhd` or `mdhd` box.
fn time_scale(body: &[u8]) -> Option<u32> {
    let at = if *body.first()? == 1 { 20 } else { 12 };
    be_u32(body.get(at..)?).filter(|scale| *scale > 0)
}

fn track_id_of(tkhd: &[u8]) -> Option<u32> {
    let at = if *tkhd.first()? == 1 { 20 } else { 12 };
    be_u32(tkhd.get(at..)?)
}

fn child<'a>(parent: &'a [u8], name: &[u8; 4]) -> Option<&'a [u8]> {
    boxes(parent).find(|(found, _)| found == name).map(|(_, body)| body)
}

/// The boxes that follow each other in `bytes`, up to the first that does not fit.
fn boxes(mut bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let size = be_u32(bytes)? as usize;
        let name = bytes.get(4..8)?.try_into().ok()?;
        let body = bytes.get(8..size)?;
        bytes = bytes.get(size..)?;
        Some((name, body))
    })
}

fn be_u32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

fn be_u64(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::{Edit, first_edit};

    fn boxed(name: &str, body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32 + 8).to_be_bytes(), name.as_bytes(), body].concat()
    }

    /// A header box of version 0 whose fourth word is `value`: the track's id or the clock's ticks.
    fn header(name: &str, value: u32) -> Vec<u8> {
        boxed(name, &[[0; 12].as_slice(), &value.to_be_bytes(), &[0; 8]].concat())
    }

    /// A file with track 1 without edits and track 2 with these, on a clock of 44100 (the movie's has 1000).
    fn file(version: u8, entries: &[u8]) -> Vec<u8> {
        let list = boxed("elst", &[&[version, 0, 0, 0, 0, 0, 0, 9], entries].concat());
        let media = boxed("mdia", &header("mdhd", 44_100));
        let first = boxed("trak", &[header("tkhd", 1), media.clone()].concat());
        let second = boxed("trak", &[header("tkhd", 2), boxed("edts", &list), media].concat());
        let moov = boxed("moov", &[header("mvhd", 1_000), first, second].concat());
        [boxed("ftyp", b"M4A "), boxed("free", &[0; 100]), moov].concat()
    }

    fn narrow(duration: u32, start: i32) -> Vec<u8> {
        [&duration.to_be_bytes()[..], &start.to_be_bytes(), &[0, 1, 0, 0]].concat()
    }

    #[track_caller]
    fn check(file: &[u8], track: u32, expected: Option<(u64, Option<u64>)>) {
        let found = first_edit(&mut Cursor::new(file), track, 44_100).unwrap();
        assert_eq!(found, expected.map(|(start, frames)| Edit { start, frames }));
    }

    #[test]
    fn the_first_edit_says_where_the_recording_lies() {
        check(&file(0, &narrow(300, 1_024)), 2, Some((1_024, Some(13_230))));
        let wide = [&300_u64.to_be_bytes()[..], &1_024_u64.to_be_bytes(), &[0, 1, 0, 0]].concat();
        check(&file(1, &wide), 2, Some((1_024, Some(13_230))));
        let after_a_pause = [narrow(50, -1), narrow(300, 2_112)].concat();
        check(&file(0, &after_a_pause), 2, Some((2_112, Some(13_230))));
        check(&file(0, &narrow(0, 1_024)), 2, Some((1_024, None)));
        // 1 ms is 44.1 frames: the one that has begun belongs to it.
        check(&file(0, &narrow(1, 0)), 2, Some((0, Some(45))));
    }

    #[test]
    fn where_there_is_no_edit_there_is_none() {
        check(&file(0, &narrow(300, 1_024)), 1, None);
        check(&file(0, &narrow(300, 1_024)), 3, None);
        check(&file(0, &narrow(300, -1)), 2, None);
        check(&file(0, &[]), 2, None);
        check(b"", 2, None);
        check(b"\0\0\0\x04moov", 2, None);
    }

    #[test]
    fn a_file_cut_anywhere_is_no_trouble() {
        let whole = file(0, &narrow(300, 1_024));
        for length in 0..whole.len() {
            let found = first_edit(&mut Cursor::new(&whole[..length]), 2, 44_100);
            assert!(found.is_ok_and(|found| found.is_none()), "{length}");
        }
    }
}
