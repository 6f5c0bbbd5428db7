//! Files that a row names: recordings and attachments, looked up in folders that the user chose.

use std::path::{Component, Path, PathBuf};

/// Extensions of converted recordings.
const SOUND: [&str; 5] = ["flac", "wav", "mp3", "ogg", "m4a"];

/// Finds the file that a row names, in the first of these folders that has it. A name that leads out of the folder is
/// never found, since data sets are not trusted.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// std::fs::write(folder.path().join("wren.wav"), "").unwrap();
/// let folders = [folder.path().join("elsewhere"), folder.path().to_owned()];
/// assert_eq!(data::beside(&folders, "wren.wav"), Some(folder.path().join("wren.wav")));
/// assert_eq!(data::beside(&folders, "../wren.wav"), None);
/// ```
pub fn beside<P: AsRef<Path>>(folders: impl IntoIterator<Item = P>, name: &str) -> Option<PathBuf> {
    if !stays_within(name) {
        return None;
    }
    let mut places = folders.into_iter().map(|folder| folder.as_ref().join(name));
    places.find(|place| place.is_file())
}

/// [`beside`] for sound: a converted recording has the same name with another extension.
pub fn sound_beside<P: AsRef<Path>>(folders: impl IntoIterator<Item = P>, name: &str) -> Option<PathBuf> {
    if !stays_within(name) {
        return None;
    }
    folders.into_iter().find_map(|folder| {
        let place = folder.as_ref().join(name);
        if place.is_file() {
            return Some(place);
        }
        let mut converted = SOUND.iter().map(|ending| place.with_extension(ending));
        converted.find(|path| path.is_file())
    })
}

/// Whether a path from a data file stays within the folder it is looked up in.
fn stays_within(name: &str) -> bool {
    let mut components = Path::new(name).components();
    let inside = components.all(|component| matches!(component, Component::Normal(_) | Component::CurDir));
    inside && !name.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, plain: Option<&str>, sound: Option<&str>) {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("in");
        std::fs::create_dir_all(folder.join("deep")).unwrap();
        for file in ["out.wav", "in/a.wav", "in/deep/b.flac"] {
            std::fs::write(root.path().join(file), "").unwrap();
        }
        let folders = [folder.join("none"), folder.clone(), folder.join("deep")];
        assert_eq!(beside(&folders, name), plain.map(|path| folder.join(path)), "{name}");
        assert_eq!(
            sound_beside(&folders, name),
            sound.map(|path| folder.join(path)),
            "{name}"
        );
    }

    #[test]
    fn files_are_found_in_the_first_folder_that_has_them() {
        check("a.wav", Some("a.wav"), Some("a.wav"));
        check("./a.wav", Some("./a.wav"), Some("./a.wav"));
        check("deep/b.flac", Some("deep/b.flac"), Some("deep/b.flac"));
        check("b.wav", None, Some("deep/b.flac"));
    }

    #[test]
    fn names_that_lead_elsewhere_find_nothing() {
        for name in ["../out.wav", "deep/../a.wav", "/etc/passwd", "", ".", "deep", "no.wav"] {
            check(name, None, None);
        }
    }
}
