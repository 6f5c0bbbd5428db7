//! The header of a file, before the tensors.

use super::tensor::{Kind, Place};
use super::value::Value;
use std::collections::BTreeMap;
use std::io::{BufReader, Read};

/// More than any vocabulary needs; longer headers are refused.
const LONGEST: u64 = 256 << 20;
/// More than any vocabulary has tokens; each number takes eight bytes.
const MOST_NUMBERS: u64 = 1 << 24;
const ALIGNMENT: u64 = 32;

pub(super) type Header = (BTreeMap<String, Value>, BTreeMap<String, Place>);
type Result<T> = std::result::Result<T, String>;

pub(super) fn read(file: impl Read, length: u64) -> Result<Header> {
    let mut bytes = Bytes {
        file: BufReader::new(file),
        read: 0,
        end: length.min(LONGEST),
    };
    if bytes.take::<4>()? != *b"GGUF" {
        return Err("it does not begin with `GGUF`".to_owned());
    }
    let version = bytes.u32()?;
    if !(2..=3).contains(&version) {
        return Err(format!("it is of version {version}, known here: 2, 3"));
    }
    // A tensor takes at least the length of its name, its number of dimensions, type and offset; a pair at least two
    // lengths.
    let (tensors, pairs) = (bytes.count(24)?, bytes.count(12)?);
    let mut words = BTreeMap::new();
    for _ in 0..pairs {
        let key = bytes.text()?;
        let kind = bytes.u32()?;
        let value = bytes.value(kind).map_err(|why| format!("`{key}`: {why}"))?;
        words.insert(key, value);
    }
    let mut places = Vec::new();
    for _ in 0..tensors {
        let name = bytes.text()?;
        let place = bytes.place().map_err(|why| format!("tensor `{name}`: {why}"))?;
        places.push((name, place));
    }
    let alignment = words.get("general.alignment").map_or(Some(ALIGNMENT), Value::count);
    let alignment = alignment.filter(|it| it.is_power_of_two() && *it <= 1 << 20);
    let alignment = alignment.ok_or("`general.alignment` is not a power of two")?;
    let data = bytes.read.next_multiple_of(alignment);
    let mut found = BTreeMap::new();
    for (name, mut place) in places {
        let end = data.checked_add(place.start).and_then(|start| {
            place.start = start;
            start.checked_add(place.length)
        });
        if end.is_none_or(|end| end > length) {
            return Err(format!(
                "tensor `{name}` lies beyond the end of the file, which may be incomplete"
            ));
        }
        found.insert(name, place);
    }
    Ok((words, found))
}

struct Bytes<R> {
    file: BufReader<R>,
    read: u64,
    end: u64,
}

impl<R: Read> Bytes<R> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut taken = [0; N];
        self.claim(N as u64)?;
        self.file.read_exact(&mut taken).map_err(|e| e.to_string())?;
        Ok(taken)
    }

    /// Notes that this many bytes of the header are about to be read.
    fn claim(&mut self, bytes: u64) -> Result<()> {
        if bytes > self.end - self.read {
            return Err("its header is longer than the file".to_owned());
        }
        self.read += bytes;
        Ok(())
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    /// Reads a count of entries that take at least this many bytes each.
    fn count(&mut self, least: u64) -> Result<u64> {
        let count = self.u64()?;
        match count.checked_mul(least) {
            Some(bytes) if bytes <= self.end - self.read => Ok(count),
            _ => Err(format!("it claims {count} entries, more than fit into it")),
        }
    }

    fn text(&mut self) -> Result<String> {
        let length = self.count(1)?;
        self.claim(length)?;
        let mut bytes = vec![0; length as usize];
        self.file.read_exact(&mut bytes).map_err(|e| e.to_string())?;
        String::from_utf8(bytes).map_err(|_| "a text is not UTF-8".to_owned())
    }

    fn value(&mut self, kind: u32) -> Result<Value> {
        if kind != 9 {
            return self.single(kind);
        }
        let kind = self.u32()?;
        if kind == 8 {
            let count = self.count(8)?;
            return Ok(Value::Texts((0..count).map(|_| self.text()).collect::<Result<_>>()?));
        }
        let count = self.count(1)?;
        if count > MOST_NUMBERS {
            return Err(format!("a list of {count} numbers, expected at most {MOST_NUMBERS}"));
        }
        let number = |value: Value| match value {
            Value::Flag(flag) => Ok(f64::from(u8::from(flag))),
            other => other.number().ok_or_else(|| "a list within a list".to_owned()),
        };
        let numbers = (0..count).map(|_| self.single(kind).and_then(number));
        Ok(Value::Numbers(numbers.collect::<Result<_>>()?))
    }

    fn single(&mut self, kind: u32) -> Result<Value> {
        Ok(match kind {
            0 => Value::Whole(self.take::<1>()?[0].into()),
            1 => Value::Whole(i8::from_le_bytes(self.take()?).into()),
            2 => Value::Whole(u16::from_le_bytes(self.take()?).into()),
            3 => Value::Whole(i16::from_le_bytes(self.take()?).into()),
            4 => Value::Whole(self.u32()?.into()),
            5 => Value::Whole(i32::from_le_bytes(self.take()?).into()),
            6 => Value::Number(f32::from_le_bytes(self.take()?).into()),
            7 => Value::Flag(self.take::<1>()?[0] != 0),
            8 => Value::Text(self.text()?),
            10 => Value::Whole(self.u64()?.into()),
            11 => Value::Whole(i64::from_le_bytes(self.take()?).into()),
            12 => Value::Number(f64::from_le_bytes(self.take()?)),
            9 => return Err("a list within a list".to_owned()),
            other => return Err(format!("a value of the unknown type {other}")),
        })
    }

    /// A tensor's entry; offsets count from the first tensor.
    fn place(&mut self) -> Result<Place> {
        let dimensions = self.u32()?;
        if dimensions > 4 {
            return Err(format!("it has {dimensions} dimensions, expected at most 4"));
        }
        let mut sizes = (0..dimensions).map(|_| self.u64()).collect::<Result<Vec<u64>>>()?;
        let kind = Kind(self.u32()?);
        let start = self.u64()?;
        let values = sizes.iter().try_fold(1u64, |all, size| all.checked_mul(*size));
        let values = values.ok_or("it has more values than can be counted")?;
        let row = sizes.first().copied().unwrap_or(1); // a scalar has no dimensions
        let length = match kind.block() {
            None => 0,
            Some((block, bytes)) if row.is_multiple_of(block) => (values / block)
                .checked_mul(bytes)
                .ok_or("it has more values than can be counted")?,
            Some((block, _)) => return Err(format!("its rows of {row} do not divide into blocks of {block}")),
        };
        sizes.reverse();
        let shape = sizes
            .into_iter()
            .map(usize::try_from)
            .collect::<std::result::Result<_, _>>();
        let shape = shape.map_err(|_| "it is larger than this machine can address")?;
        Ok(Place {
            kind,
            shape,
            start,
            length,
            part: 0,
        })
    }
}
