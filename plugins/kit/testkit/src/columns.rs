//! Parquet files as hubs publish them.

use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use std::path::Path;
use std::sync::Arc;

/// The values of one column. All values have the same definition level: the number of optional and repeated groups
/// around them, including themselves.
pub struct Column<'a> {
    pub values: Vec<&'a [u8]>,
    pub definition: i16,
    /// For a list, a level for each value: 0 where a row begins. An empty list has a level and no value.
    pub repetition: Option<Vec<i16>>,
}

impl<'a> Column<'a> {
    pub fn new<T: AsRef<[u8]> + ?Sized>(values: &[&'a T], definition: i16) -> Column<'a> {
        Column {
            values: values.iter().map(|&value| value.as_ref()).collect(),
            definition,
            repetition: None,
        }
    }

    pub fn repeated(self, levels: Vec<i16>) -> Column<'a> {
        Column {
            repetition: Some(levels),
            ..self
        }
    }
}

/// Writes one row group of these columns, all of them binary.
pub fn write_parquet(path: &Path, schema: &str, columns: &[Column]) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("its folder");
    let file = std::fs::File::create(path).expect("the file");
    let schema = Arc::new(parse_message_type(schema).expect("a schema"));
    let mut writer = SerializedFileWriter::new(file, schema, Arc::default()).expect("a writer");
    let mut group = writer.next_row_group().expect("a row group");
    for column in columns {
        let values: Vec<ByteArray> = column.values.iter().map(|it| ByteArray::from(it.to_vec())).collect();
        let rows = column.repetition.as_ref().map_or(values.len(), Vec::len);
        let definition = vec![column.definition; rows];
        let mut open = group
            .next_column()
            .expect("a column")
            .expect("as many columns as the schema has");
        open.typed::<ByteArrayType>()
            .write_batch(&values, Some(&definition), column.repetition.as_deref())
            .expect("the values");
        open.close().expect("the column");
    }
    group.close().expect("the row group");
    writer.close().expect("the file");
}
