//! Parquet as the hub writes it, without the arrow crates: structs become objects, bytes become blobs.

use crate::bytes::open;
use crate::row::{Place, Row};
use crate::source::Source;
use ::parquet::basic::Compression;
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::{Field, Row as Record};
use plugin_api::{Code, Error, Result};
use serde_json::{Map, Number, Value, json};
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The most that one group of rows may take decompressed. Run-length encoding lets a small file claim any number of
/// values.
const LARGEST_GROUP: usize = 4 << 30;

/// Estimated overhead of a field and of an object: rows of nulls take memory too.
const FIELD_BYTES: usize = 96;
const OBJECT_BYTES: usize = 128;

pub(crate) struct Parquet {
    path: Arc<PathBuf>,
    reader: SerializedFileReader<File>,
    groups: Vec<Group>,
    total: usize,
    largest_group: usize,
    // Rows are stored in groups that are decompressed as a whole. The last one is kept, since runs read rows in order.
    unpacked: Mutex<Option<(usize, Arc<Unpacked>)>>,
}

struct Group {
    first: usize,
    rows: usize,
}

/// The rows of a group that could be read, and the error that ended it.
struct Unpacked {
    rows: Vec<(Value, Vec<Vec<u8>>)>,
    failed: Option<Error>,
}

impl Parquet {
    pub fn open(path: &Path) -> Result<Self> {
        Parquet::open_bounded(path, LARGEST_GROUP)
    }

    fn open_bounded(path: &Path, largest_group: usize) -> Result<Self> {
        let file = open(path)?;
        let reader = guarded(|| SerializedFileReader::new(file)).map_err(|why| {
            let error = Error::new(Code::DATA, format!("`{}` is not a Parquet file", path.display()));
            error
                .cause(why)
                .help("the file is truncated or of another type; fetch it again")
        })?;
        let columns = reader.metadata().row_groups().iter().flat_map(|group| group.columns());
        if let Some(codec) = columns
            .map(|column| column.compression())
            .find(|codec| !is_read(*codec))
        {
            let codec = codec.to_string();
            let name = codec.split('(').next().unwrap_or_default(); // without its level
            let message = format!("`{}` is compressed with {name}, which is not supported", path.display());
            return Err(Error::new(Code::DATA, message).help("write it again with snappy, gzip or zstd"));
        }
        let mut groups = Vec::new();
        let mut total = 0usize;
        for (number, group) in reader.metadata().row_groups().iter().enumerate() {
            let rows = usize::try_from(group.num_rows()).map_err(|_| {
                let message = format!("group {} of `{}`", number + 1, path.display());
                Error::new(Code::DATA, format!("{message} claims {} rows", group.num_rows()))
            })?;
            groups.push(Group { first: total, rows });
            total = total.saturating_add(rows);
        }
        Ok(Parquet {
            path: Arc::new(path.to_owned()),
            reader,
            groups,
            total,
            largest_group,
            unpacked: Mutex::new(None),
        })
    }

    fn unpacked(&self, number: usize) -> Arc<Unpacked> {
        let mut kept = self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((group, rows)) = &*kept
            && *group == number
        {
            return rows.clone();
        }
        *kept = None; // freed before the next one is decompressed: two of them may not fit into memory
        let rows = Arc::new(self.unpack(number));
        *kept = Some((number, rows.clone()));
        rows
    }

    fn unpack(&self, number: usize) -> Unpacked {
        let mut rows = Vec::new();
        let mut room = self.largest_group;
        let read = guarded(|| {
            let group = self.reader.get_row_group(number)?;
            for record in group.get_row_iter(None)? {
                let mut blobs = Vec::new();
                let value = object(record?, &mut blobs, &mut room).ok_or_else(|| too_large(self.largest_group))?;
                rows.push((value, blobs));
            }
            Ok(())
        });
        let failed = read.err().map(|why| {
            let error = Error::new(
                Code::DATA,
                format!("cannot read group {} of `{}`", number + 1, self.path.display()),
            );
            error.cause(why)
        });
        Unpacked { rows, failed }
    }
}

fn too_large(most: usize) -> ParquetError {
    ParquetError::General(format!("it decompresses to more than {most} bytes"))
}

impl Source for Parquet {
    fn len(&self) -> usize {
        self.total
    }

    fn get(&self, index: usize) -> Result<Row> {
        // An empty group has the same first index as the next one: the last of them holds the row.
        let number = self.groups.partition_point(|group| group.first <= index) - 1;
        let group = &self.groups[number];
        let place = Place::Row(index + 1, self.path.clone());
        let unpacked = self.unpacked(number);
        match (unpacked.rows.get(index - group.first), &unpacked.failed) {
            (Some((value, blobs)), _) => Ok(Row {
                value: value.clone(),
                blobs: blobs.clone(),
                place,
            }),
            (None, Some(error)) => Err(error.clone().context(format!("{place} can't be read"))),
            (None, None) => {
                let (claimed, held) = (group.rows, unpacked.rows.len());
                Err(place.broken(format!("is missing: its group claims {claimed} rows and holds {held}")))
            }
        }
    }
}

/// The codecs of the hub's files; each other one would add a library to every plugin.
fn is_read(codec: Compression) -> bool {
    matches!(
        codec,
        Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::GZIP(_) | Compression::ZSTD(_)
    )
}

/// Calls the Parquet crate, which panics on some malformed files and on unsupported types.
fn guarded<T>(work: impl FnOnce() -> ::parquet::errors::Result<T>) -> std::result::Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(why)) => Err(why.to_string()),
        Err(payload) => {
            let text = payload.downcast_ref::<String>().cloned();
            let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(format!(
                "the Parquet reader gave up: {}",
                text.unwrap_or_else(|| "no reason given".to_owned())
            ))
        }
    }
}

/// A record as an object; none if no memory is left for it.
fn object(record: Record, blobs: &mut Vec<Vec<u8>>, room: &mut usize) -> Option<Value> {
    let mut fields = Map::new();
    *room = room.checked_sub(OBJECT_BYTES)?;
    for (name, field) in record.into_columns() {
        *room = room.checked_sub(name.len())?;
        fields.insert(name, value(field, blobs, room)?);
    }
    Some(Value::Object(fields))
}

fn value(field: Field, blobs: &mut Vec<Vec<u8>>, room: &mut usize) -> Option<Value> {
    let length = match &field {
        Field::Str(text) => text.len(),
        Field::Bytes(bytes) => bytes.len(),
        _ => 0,
    };
    *room = room.checked_sub(length + FIELD_BYTES)?;
    Some(match field {
        Field::Null => Value::Null,
        Field::Bool(flag) => flag.into(),
        Field::Byte(number) => number.into(),
        Field::Short(number) => number.into(),
        Field::Int(number) | Field::Date(number) | Field::TimeMillis(number) => number.into(),
        Field::Long(number)
        | Field::TimeMicros(number)
        | Field::TimestampMillis(number)
        | Field::TimestampMicros(number) => number.into(),
        Field::UByte(number) => number.into(),
        Field::UShort(number) => number.into(),
        Field::UInt(number) => number.into(),
        Field::ULong(number) => number.into(),
        Field::Float16(number) => float(number.to_f64()),
        // Through its shortest decimal, so that 0.1 stays 0.1 and does not become 0.10000000149011612.
        Field::Float(number) => float(number.to_string().parse().unwrap_or(f64::NAN)),
        Field::Double(number) => float(number),
        decimal @ Field::Decimal(_) => decimal.to_string().into(),
        Field::Str(text) => text.into(),
        Field::Bytes(bytes) => {
            blobs.push(bytes.data().to_vec());
            json!({"blob": blobs.len() - 1})
        }
        Field::Group(record) => object(record, blobs, room)?,
        Field::ListInternal(list) => {
            let items = list.elements().iter().cloned();
            Value::Array(items.map(|item| value(item, blobs, room)).collect::<Option<_>>()?)
        }
        Field::MapInternal(map) => {
            let mut fields = Map::new();
            for (key, item) in map.entries().iter().cloned() {
                let name = match key {
                    Field::Str(text) => text,
                    other => other.to_string(),
                };
                fields.insert(name, value(item, blobs, room)?);
            }
            Value::Object(fields)
        }
        // For field types of later versions of the crate.
        #[allow(unreachable_patterns)]
        other => other.to_string().into(),
    })
}

fn float(number: f64) -> Value {
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::junk::parquet_bytes;

    #[test]
    fn a_group_that_unpacks_to_too_much_is_an_error_and_what_came_before_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        std::fs::write(&path, parquet_bytes(1)).unwrap();
        // The first row has eleven fields and three objects, the second has fewer.
        let rows = Parquet::open_bounded(&path, 1700).unwrap();
        assert_eq!(rows.get(0).unwrap().text("id").unwrap(), "0-a");
        let error = rows.get(1).unwrap_err().to_string();
        assert!(
            error.starts_with("row 2 of ") && error.ends_with("it decompresses to more than 1700 bytes"),
            "{error}"
        );
        assert!(Parquet::open_bounded(&path, 10_000).unwrap().get(1).is_ok());
    }
}
