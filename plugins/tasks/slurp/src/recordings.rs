//! Finds the files of recordings.
//!
//! A name is looked up as a path below the folder, then by its last part in the folders of the published layout, and
//! last in all folders below. Rows may come from other machines: for an absolute name, or one that leads out of the
//! folder, only the last part is used.

use crate::utterance::stem;
use plugin_api::{Code, Error, Result, Settings};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The folders within a folder of recordings in which they are published.
const FOLDERS: [&str; 6] = [
    "",
    "slurp_real",
    "slurp_synth",
    "audio",
    "audio/slurp_real",
    "audio/slurp_synth",
];
/// The endings that recordings have.
const SOUND: [&str; 6] = ["wav", "flac", "mp3", "ogg", "m4a", "opus"];
/// The depth of the search.
const DEPTH: usize = 8;

pub(crate) struct Recordings {
    roots: Vec<PathBuf>,
    /// The user named the folder, so all folders below are searched.
    named: bool,
    /// Recordings by name without folder and extension, listed when nothing else finds one.
    index: OnceLock<HashMap<String, PathBuf>>,
}

impl Recordings {
    /// The named folder, or that of the data.
    pub fn load(settings: &Settings, data: &Path) -> Result<Recordings> {
        let named = settings.get::<PathBuf>("audio")?;
        let roots = match &named {
            Some(folder) if !folder.is_dir() => {
                let message = format!("setting `audio`: `{}` is not a folder", folder.display());
                return Err(Error::new(Code::MISSING, message));
            }
            Some(folder) => vec![folder.clone()],
            None if data.is_dir() => vec![data.to_owned()],
            None => data.parent().map(Path::to_owned).into_iter().collect(),
        };
        Ok(Recordings {
            roots,
            named: named.is_some(),
            index: OnceLock::new(),
        })
    }

    pub fn find(&self, file: &str) -> Option<PathBuf> {
        let folders = || {
            let roots = self.roots.iter();
            roots.flat_map(|root| FOLDERS.iter().map(move |folder| root.join(folder)))
        };
        let last = file.rsplit(['/', '\\']).next().unwrap_or(file);
        data::sound_beside(folders(), file)
            .or_else(|| data::sound_beside(folders(), last))
            .or_else(|| self.below(file))
    }

    /// A recording of this name in any folder below.
    fn below(&self, file: &str) -> Option<PathBuf> {
        if !self.named {
            return None;
        }
        let index = self.index.get_or_init(|| {
            let mut index = HashMap::new();
            for root in &self.roots {
                walk(root, DEPTH, &mut index);
            }
            index
        });
        index.get(stem(file)).cloned()
    }
}

fn walk(folder: &Path, depth: usize, index: &mut HashMap<String, PathBuf>) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort(); // of several with one name the first counts, on every machine
    for path in paths {
        if path.is_dir() && !path.is_symlink() && depth > 0 {
            walk(&path, depth - 1, index);
            continue;
        }
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
        let is_sound = ending.is_some_and(|ending| SOUND.contains(&ending.as_str()));
        if let (true, Some(name)) = (is_sound, path.file_stem()) {
            index.entry(name.to_string_lossy().into_owned()).or_insert(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn recordings(audio: Option<&Path>, data: &Path) -> Recordings {
        let settings = Settings(json!({ "audio": audio }).as_object().unwrap().clone());
        Recordings::load(&settings, data).unwrap()
    }

    #[test]
    fn recordings_are_found_by_path_then_by_name() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        for name in [
            "clips/a/one.wav",
            "clips/slurp_real/two.flac",
            "clips/b/c/three.wav",
            "out.wav",
        ] {
            std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            std::fs::write(at(name), "").unwrap();
        }
        let found = recordings(Some(&at("clips")), &at("rows.jsonl"));
        let check = |name: &str, expected: Option<&str>| assert_eq!(found.find(name), expected.map(at), "{name}");
        check("a/one.wav", Some("clips/a/one.wav"));
        check("/elsewhere/two.flac", Some("clips/slurp_real/two.flac"));
        check("three.flac", Some("clips/b/c/three.wav"));
        check("../out.wav", None);
        check("/etc/hostname", None);
        // Without a named folder, nothing is searched.
        assert_eq!(recordings(None, &at("clips/rows.jsonl")).find("three.wav"), None);
    }
}
