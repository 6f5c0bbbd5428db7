//! The places of records by sample, chain and variant: one sample may have several records.

use super::directory::RunDirectory;
use crate::failure::Result;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The sample, chain and variant of a record. If several records have the same, the last counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(default)]
pub struct Asked {
    pub doc_id: u64,
    pub chain: u32,
    pub variant: Option<String>,
    pub parent: Option<String>,
}

/// The places of all records that count, in the order of the data, and for each sample by chain and variant.
pub fn all(run: &RunDirectory) -> Result<Vec<u64>> {
    let mut places = BTreeMap::new();
    for_each(run, |asked, offset| {
        places.insert(asked, offset);
    })?;
    Ok(places.into_values().collect())
}

/// The places of the task's own prompts for these samples and all their chains, in the order of the data.
pub fn of_selection(run: &RunDirectory, selection: &[usize], chains: u32) -> Result<Vec<u64>> {
    const NOWHERE: u64 = u64::MAX;
    let each = chains.max(1) as usize;
    // A selection has the order of the data, so an array replaces a map.
    let mut places = vec![NOWHERE; selection.len() * each];
    for_each(run, |asked, offset| {
        let chain = asked.chain as usize;
        if asked.variant.is_some() || asked.parent.is_some() || chain >= each {
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

fn for_each(run: &RunDirectory, mut tell: impl FnMut(Asked, u64)) -> Result<()> {
    run.for_each_line(&run.samples(), |_, offset, line| {
        if let Ok(asked) = serde_json::from_slice(line) {
            tell(asked, offset);
        }
        Ok(())
    })
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
        let mut reader = super::super::directory::LineReader::open(&run.samples()).unwrap();
        let mut asked = |places: Vec<u64>| -> Vec<(u64, u32, bool)> {
            let read = |place| reader.read_at::<Asked>(place).unwrap();
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
