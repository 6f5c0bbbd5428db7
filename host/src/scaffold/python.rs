//! `host plugins new --kind python-model`: a script with one class, and the one file that it needs.

use super::check_name;
use crate::failure::{Failure, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// The author's half of the boundary. It lies with the plugin that runs it.
const HOST_PLUGIN: &str = include_str!("../../../plugins/models/python/host_plugin.py");

/// Writes the script into a folder and says where. Nothing that exists is overwritten.
pub fn create(name: &str, out: Option<&Path>) -> Result<PathBuf> {
    check_name(name)?;
    let folder = out.map_or_else(|| PathBuf::from(name), Path::to_owned);
    let folder = std::path::absolute(&folder).unwrap_or(folder);
    let occupied = match fs::read_dir(&folder) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => folder.symlink_metadata().is_ok(),
    };
    if occupied {
        let failure = Failure::usage(format!("`{}` exists and is not an empty folder", folder.display()));
        return Err(failure.help("name another folder with `--out`"));
    }
    let fill = |text: &str| {
        text.replace("@NAME@", name)
            .replace("@FOLDER@", &folder.display().to_string())
    };
    fs::create_dir_all(&folder).map_err(|why| Failure::unwritable(&folder, why))?;
    let files = [
        (format!("{name}.py"), fill(include_str!("templates/python/model.py"))),
        ("README.md".to_owned(), fill(include_str!("templates/python/README.md"))),
        ("host_plugin.py".to_owned(), HOST_PLUGIN.to_owned()),
    ];
    for (file, text) in files {
        let path = folder.join(file);
        fs::write(&path, text).map_err(|why| Failure::unwritable(&path, why))?;
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_written_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("new");
        create("my-one", Some(&place)).expect("it is written");
        let script = fs::read_to_string(place.join("my-one.py")).expect("the script");
        assert!(script.contains("\"name\": \"my-one\"") && !script.contains('@'));
        assert!(place.join("host_plugin.py").is_file());
        assert!(create("my-one", Some(&place)).is_err());
    }
}
