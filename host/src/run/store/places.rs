//! The places of records by sample, chain and variant: one sample may have several records.

use super::directory::RunDirectory;
use crate::failure::Result;
use serde::Deserialize;

/// The sample, chain and variant of a record. If several records have the same, the last counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    pub doc_id: u64,
    pub chain: u32,
    /// The variant and the parent of the few records that have them.
    variant: Option<Box<(Option<String>, Option<String>)>>,
}

/// The parts of a record by which it is found.
#[derive(Debug, Deserialize)]
pub struct Found {
    pub key: String,
    #[serde(default)]
    doc_id: u64,
    #[serde(default)]
    chain: u32,
    #[serde(default)]
    variant: Option<String>,
    #[serde(default)]
    parent: Option<String>,
}

impl Found {
    pub fn asked(self) -> Asked {
        let varied = self.variant.is_some() || self.parent.is_some();
        Asked {
            doc_id: self.doc_id,
            chain: self.chain,
            variant: varied.then(|| Box::new((self.variant, self.parent))),
        }
    }
}

/// The places of all records that count, in the order of the data, and for each sample by chain and variant.
pub fn all(run: &RunDirectory) -> Result<Vec<u64>> {
    let mut places: Vec<(Asked, u64)> = Vec::new();
    run.for_each_record(|found: Found, offset| places.push((found.asked(), offset)))?;
    places.sort_unstable();
    places.dedup_by(|later, kept| {
        let same = later.0 == kept.0;
        if same {
            kept.1 = later.1;
        }
        same
    });
    Ok(places.iter().map(|(_, place)| *place).collect())
}

/// The places of the task's own prompts for these samples and all their chains, in the order of the data.
pub fn of_selection(run: &RunDirectory, selection: &[usize], chains: u32) -> Result<Vec<u64>> {
    const NOWHERE: u64 = u64::MAX;
    let each = chains.max(1) as usize;
    // A selection has the order of the data, so an array replaces a map.
    let mut places = vec![NOWHERE; selection.len() * each];
    run.for_each_record(|found: Found, offset| {
        let asked = found.asked();
        let chain = asked.chain as usize;
        if asked.variant.is_some() || chain >= each {
            return;
        }
        let index = usize::try_from(asked.doc_id).ok();
        if let Some(Ok(at)) = index.map(|index| selection.binary_search(&index)) {
            places[at * each + chain] = offset;
        }
    })?;
    places.retain(|place| *place != NOWHERE);
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn chains_and_variants_of_a_sample_are_records_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDirectory::open(folder.path(), false).unwrap();
        let mut appender = run.appender().unwrap();
        for (doc_id, chain, variant) in [
            (7, 0, None),
            (3, 1, None),
            (3, 0, None),
            (3, 0, Some("v")),
            (7, 0, None),
        ] {
            let line = json!({ "key": "k", "doc_id": doc_id, "chain": chain, "variant": variant });
            appender.append(&line).unwrap();
        }
        let mut reader =
            super::super::directory::LineReader::open(&run.samples(), super::super::directory::AHEAD).unwrap();
        let mut asked = |places: Vec<u64>| -> Vec<(u64, u32, bool)> {
            let read = |place| reader.read_at::<Found>(place).unwrap().asked();
            places
                .into_iter()
                .map(read)
                .map(|it| (it.doc_id, it.chain, it.variant.is_some()))
                .collect()
        };
        let every = all(&run).unwrap();
        assert_eq!(
            asked(every),
            [(3, 0, false), (3, 0, true), (3, 1, false), (7, 0, false)]
        );
        let two = of_selection(&run, &[3, 7], 2).unwrap();
        assert_eq!(asked(two), [(3, 0, false), (3, 1, false), (7, 0, false)]);
        let one = of_selection(&run, &[3], 1).unwrap();
        assert_eq!(asked(one), [(3, 0, false)]);
    }
}
