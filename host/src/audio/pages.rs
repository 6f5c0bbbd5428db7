//! Whether an Ogg stream is complete: its pages are numbered, and the last one is marked.
//!
//! Symphonia silently skips damaged and missing pages, and no header counts the frames.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};

use super::error::AudioFault;

const MAGIC: &[u8] = b"OggS";
const HEAD: usize = 27;
const LAST: u8 = 4;

/// Refuses a stream with a missing page, such as the last one.
pub(super) fn check_pages(mut file: impl Read + Seek) -> Result<(), AudioFault> {
    let unreadable = |error: io::Error| AudioFault::Unreadable(error.to_string());
    let length = file.seek(SeekFrom::End(0)).map_err(unreadable)?;
    let (mut at, mut numbers) = (0, HashMap::new());
    loop {
        file.seek(SeekFrom::Start(at)).map_err(unreadable)?;
        let mut page = [0; HEAD + 255];
        let head = read_up_to(&mut file, &mut page).map_err(unreadable)?;
        let page = &page[..head];
        let segments = page
            .get(HEAD - 1)
            .and_then(|&count| page.get(HEAD..HEAD + usize::from(count)));
        let Some(segments) = segments else {
            return Err(AudioFault::NoEnd);
        };
        if !page.starts_with(MAGIC) {
            return Err(AudioFault::Damaged(format!("expected a page at byte {at}")));
        }
        let number = |place: usize| u32::from_le_bytes(std::array::from_fn(|n| page[place + n]));
        let (stream, count) = (number(14), number(18));
        let before = numbers.insert(stream, count);
        if before.is_some_and(|before: u32| count != before.wrapping_add(1)) {
            return Err(AudioFault::Damaged(format!("pages before page {count} are missing")));
        }
        at += (HEAD + segments.len()) as u64 + segments.iter().map(|&size| u64::from(size)).sum::<u64>();
        if at > length {
            return Err(AudioFault::NoEnd);
        }
        if page[5] & LAST != 0 {
            return Ok(());
        }
    }
}

fn read_up_to(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read(&mut buffer[got..]) {
            Ok(0) => break,
            Ok(count) => got += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// A page of this size in bytes.
    fn page(stream: u8, number: u8, last: bool, bytes: usize) -> Vec<u8> {
        let mut page = b"OggS\0".to_vec();
        page.push(if last { LAST } else { 0 });
        page.extend([0; 8]);
        page.extend([stream, 0, 0, 0, number, 0, 0, 0, 0, 0, 0, 0]);
        let segments = bytes / 255 + 1;
        page.push(segments as u8);
        page.extend(vec![255; segments - 1]);
        page.push((bytes % 255) as u8);
        page.extend(vec![7; bytes]);
        page
    }

    fn check(pages: &[Vec<u8>]) -> Result<(), AudioFault> {
        check_pages(Cursor::new(pages.concat()))
    }

    #[test]
    fn pages_are_all_there() {
        let pages = [page(1, 0, false, 30), page(1, 1, false, 600), page(1, 2, true, 255)];
        assert_eq!(check(&pages), Ok(()));
        // Another stream between them, and whatever follows the end.
        let more = [
            page(1, 0, false, 30),
            page(2, 9, false, 8),
            page(1, 1, true, 0),
            vec![1, 2, 3],
        ];
        assert_eq!(check(&more), Ok(()));
    }

    #[test]
    fn what_is_missing_is_told() {
        let pages = [page(1, 0, false, 30), page(1, 1, false, 600), page(1, 2, true, 255)];
        let all = pages.concat();
        for length in 0..all.len() {
            assert_eq!(
                check_pages(Cursor::new(&all[..length])),
                Err(AudioFault::NoEnd),
                "{length}"
            );
        }
        let told = |pages: &[Vec<u8>]| check(pages).unwrap_err().to_string();
        let without = [pages[0].clone(), pages[2].clone()];
        assert_eq!(told(&without), "it is damaged (pages before page 2 are missing)");
        let between = [pages[0].clone(), vec![0; 400], pages[1].clone()];
        assert_eq!(told(&between), "it is damaged (expected a page at byte 58)");
    }
}
