//! `host plugins pin`: the only command that writes into a registry, and it changes one line.

use crate::failure::{Doing, Exit, Failure, Result};
use crate::plugin::trust;
use crate::registry::PluginSpec;
use std::fs;
use std::io::Write;
use std::path::Path;
use toml_edit::{DocumentMut, Item, value};

/// Writes the file's sha256 into the registry that names it.
pub fn pin(spec: &PluginSpec) -> Result<String> {
    let sha256 = trust::fingerprint(spec)?;
    let registry = &spec.named_in;
    let shown = registry.display();
    let text = fs::read_to_string(registry).or_fail(Exit::Missing, || format!("cannot read `{shown}`"))?;
    let before = spec.sha256.as_deref();
    let edited = with_pin(&text, &spec.name, &sha256).or_fail(Exit::Usage, || format!("cannot change `{shown}`"))?;
    if edited != text {
        replace(registry, &edited)?;
    }
    let done = match before {
        Some(before) if before.eq_ignore_ascii_case(&sha256) => "is pinned already, and the file is the pinned one",
        Some(_) => "was pinned to another file, and is pinned to this one now",
        None => "is pinned",
    };
    Ok(format!(
        "`{}` {done}\n  file      {}\n  sha256    {sha256}\n  registry  {shown}\n",
        spec.name,
        spec.path.display()
    ))
}

/// The text with `sha256` in the plugin's table, and everything else as it was.
fn with_pin(text: &str, name: &str, sha256: &str) -> std::result::Result<String, String> {
    let mut document: DocumentMut = text.parse().map_err(|why: toml_edit::TomlError| why.to_string())?;
    let table = document
        .get_mut("plugins")
        .and_then(|plugins| plugins.get_mut(name))
        .and_then(Item::as_table_like_mut)
        .ok_or_else(|| format!("it has no `[plugins.{name}]`"))?;
    match table.get_mut("sha256").and_then(Item::as_value_mut) {
        Some(old) => {
            // A comment behind it stays.
            let decor = old.decor().clone();
            *old = sha256.into();
            *old.decor_mut() = decor;
        }
        None => drop(table.insert("sha256", value(sha256))),
    }
    Ok(document.to_string())
}

/// Writes a new file and renames it, so that no reader ever finds half a registry, and the file keeps its permissions.
fn replace(path: &Path, text: &str) -> Result<()> {
    let path = path.canonicalize().map_err(|why| Failure::unwritable(path, why))?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let beside = path.with_file_name(name);
    let written = fs::File::create_new(&beside)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| fs::set_permissions(&beside, fs::metadata(&path)?.permissions()))
        .and_then(|()| fs::rename(&beside, &path));
    written.map_err(|why| {
        let _ = fs::remove_file(&beside);
        Failure::unwritable(&path, why)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(before: &str, after: &str) {
        assert_eq!(with_pin(before, "p", "00ff").as_deref(), Ok(after));
    }

    #[test]
    fn one_line_is_added_and_the_rest_stays() {
        check(
            "# mine\n[plugins.p] # the one\npath = \"libp.so\"\n\n[plugins.q]\npath = 'q'\n",
            "# mine\n[plugins.p] # the one\npath = \"libp.so\"\nsha256 = \"00ff\"\n\n[plugins.q]\npath = 'q'\n",
        );
        check(
            "[plugins]\np = { path = \"libp.so\" }\n",
            "[plugins]\np = { path = \"libp.so\" , sha256 = \"00ff\" }\n",
        );
        check(
            "plugins.p.path = \"libp.so\"\n",
            "plugins.p.path = \"libp.so\"\nplugins.p.sha256 = \"00ff\"\n",
        );
    }

    #[test]
    fn an_older_pin_is_replaced_where_it_stands() {
        check(
            "[plugins.p]\nsha256 = \"aa\" # of May\npath = \"libp.so\"\n",
            "[plugins.p]\nsha256 = \"00ff\" # of May\npath = \"libp.so\"\n",
        );
    }

    #[test]
    fn a_registry_that_has_no_such_plugin_is_not_touched() {
        assert!(with_pin("[plugins.q]\npath = \"q\"\n", "p", "00ff").is_err_and(|why| why.contains("[plugins.p]")));
        assert!(with_pin("[plugins\n", "p", "00ff").is_err());
    }

    #[test]
    fn the_file_keeps_its_rights_and_nothing_is_left_beside_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("registry.toml");
        fs::write(&path, "before").expect("a file");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).expect("its mode");
        replace(&path, "after").expect("it is replaced");
        assert_eq!(fs::read_to_string(&path).expect("the file"), "after");
        assert_eq!(
            fs::metadata(&path).expect("the file").permissions().mode() & 0o777,
            0o640
        );
        assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 1);
    }
}
