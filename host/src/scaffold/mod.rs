//! `host plugins new`: a crate that builds and passes `host plugins check` as it is.
//!
//! The templates are complete files with four placeholders; a template engine would make them harder to read.

pub mod python;

use crate::failure::{Doing, Exit, Failure, Result};
use plugin_api::Kind;
use std::fs;
use std::path::{Path, PathBuf};

/// What to make.
#[derive(Debug, Clone)]
pub struct Request {
    /// The crate's name, and the adapter's.
    pub name: String,
    /// What it holds.
    pub kind: Kind,
    /// The folder that becomes the crate; without it, a folder of its name in the current one.
    pub out: Option<PathBuf>,
    /// A source folder of `plugin-api`; without it, the one this host was built from if it is still there.
    pub api: Option<PathBuf>,
}

/// Names that Cargo or Rust refuse for a crate, and names of crates that the plugin needs.
const TAKEN: &[&str] = &[
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "build",
    "const",
    "continue",
    "core",
    "crate",
    "deps",
    "do",
    "dyn",
    "else",
    "enum",
    "examples",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "incremental",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "plugin_api",
    "priv",
    "proc_macro",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "yield",
];

/// Writes the crate and says where. Nothing that exists is overwritten.
pub fn create(request: &Request) -> Result<PathBuf> {
    check_name(&request.name)?;
    let folder = request.out.clone().unwrap_or_else(|| PathBuf::from(&request.name));
    let folder = std::path::absolute(&folder).unwrap_or(folder);
    let occupied = match fs::read_dir(&folder) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => folder.symlink_metadata().is_ok(),
    };
    if occupied {
        let message = format!("`{}` exists and is not an empty folder", folder.display());
        return Err(Failure::usage(message).help("name another folder with `--out`"));
    }
    let files = files(request, &folder)?;
    for (name, text) in &files {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|why| Failure::unwritable(parent, why))?;
        }
        fs::write(&path, text).map_err(|why| Failure::unwritable(&path, why))?;
    }
    let script = folder.join("ci.sh");
    let runnable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&script, runnable).map_err(|why| Failure::unwritable(&script, why))?;
    Ok(folder)
}

fn check_name(name: &str) -> Result<()> {
    let refused = |why: &str| {
        Failure::usage(format!("a plugin can't be called `{name}`: {why}"))
            .help("a name is made of small letters, digits, `-` and `_`, and begins with a letter: `my-model`")
    };
    let fine = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "-_".contains(letter);
    match name.chars().next() {
        None => return Err(refused("it is empty")),
        Some(first) if !first.is_ascii_lowercase() => return Err(refused("it doesn't begin with a small letter")),
        Some(_) => {}
    }
    if let Some(letter) = name.chars().find(|letter| !fine(*letter)) {
        return Err(refused(&format!("`{letter}` can't be part of it")));
    }
    if name.len() > 64 {
        return Err(refused("it is longer than 64 letters"));
    }
    if TAKEN.contains(&name.replace('-', "_").as_str()) {
        return Err(refused("Rust or a dependency of the plugin uses this name"));
    }
    Ok(())
}

fn files(request: &Request, folder: &Path) -> Result<Vec<(&'static str, String)>> {
    let (source, test, usage) = match request.kind {
        Kind::Model => (
            include_str!("templates/model.rs"),
            include_str!("templates/model_test.rs"),
            "Then run it on any task: `host run --model @NAME@ --task …`.",
        ),
        Kind::Task => (
            include_str!("templates/task.rs"),
            include_str!("templates/task_test.rs"),
            "Then run any model on it: `host run --model … --task @NAME@`.",
        ),
        Kind::Judge => (
            include_str!("templates/judge.rs"),
            include_str!("templates/judge_test.rs"),
            "Then judge any run with it: `host run --model … --task … --judge @NAME@`.",
        ),
    };
    let api = dependency(request)?;
    let crate_name = request.name.replace('-', "_");
    let fill = |text: &str| {
        text.replace("@USE@", usage)
            .replace("@NAME@", &request.name)
            .replace("@CRATE@", &crate_name)
            .replace("@KIND@", request.kind.word())
            .replace("@API@", &format!("{{ {api} }}"))
            .replace("@API_FOR_TESTS@", &format!("{{ {api}, features = [\"host\"] }}"))
            .replace("@FOLDER@", &folder.display().to_string())
    };
    Ok(vec![
        ("Cargo.toml", fill(include_str!("templates/Cargo.toml.txt"))),
        ("README.md", fill(include_str!("templates/README.md"))),
        (".gitignore", "target/\n".to_owned()),
        ("ci.sh", fill(include_str!("templates/ci.sh"))),
        ("src/lib.rs", fill(source)),
        ("tests/contract.rs", fill(test)),
    ])
}

/// The dependency on `plugin-api`: the source that this host was built from, or the released version.
fn dependency(request: &Request) -> Result<String> {
    let path = match &request.api {
        Some(given) => {
            let path = given.canonicalize().or_fail(Exit::Usage, || {
                format!(
                    "`{}`, given as the source of plugin-api, can't be read",
                    given.display()
                )
            })?;
            if !path.join("Cargo.toml").is_file() {
                let message = format!(
                    "`{}` is not a source folder of plugin-api: it has no Cargo.toml",
                    path.display()
                );
                return Err(Failure::usage(message).help("give the folder `plugin-api` of host's source with `--api`"));
            }
            Some(path)
        }
        None => {
            let own = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("plugin-api");
            own.join("Cargo.toml").is_file().then_some(own)
        }
    };
    Ok(match path {
        // TOML's basic strings escape as JSON's do.
        Some(path) => format!("path = {}", serde_json::Value::from(path.display().to_string())),
        None => format!("version = \"{}\"", plugin_api::VERSION),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: &str, folder: &Path) -> Request {
        Request {
            name: name.to_owned(),
            kind: Kind::Model,
            out: Some(folder.join("new")),
            api: None,
        }
    }

    #[track_caller]
    fn check_name_refused(name: &str, why: &str) {
        let failure = check_name(name).expect_err("not a name for a crate");
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.render().contains(why), "{failure:?}");
    }

    #[test]
    fn names_are_checked() {
        for name in ["my-model", "m", "whisper_2"] {
            check_name(name).expect("a fine name");
        }
        check_name_refused("", "empty");
        check_name_refused("2nd", "small letter");
        check_name_refused("My", "small letter");
        check_name_refused("my model", "` `");
        check_name_refused("../up", "small letter");
        check_name_refused("a/../b", "`/`");
        check_name_refused("\"", "small letter");
        check_name_refused("naïve", "`ï`");
        check_name_refused("match", "uses this name");
        check_name_refused("plugin-api", "uses this name");
        check_name_refused(&"a".repeat(65), "64");
    }

    #[test]
    fn every_word_of_the_templates_is_filled_in() {
        let folder = tempfile::tempdir().expect("a folder");
        for kind in [Kind::Model, Kind::Task, Kind::Judge] {
            let request = Request {
                kind,
                ..request("my-one", folder.path())
            };
            for (name, text) in files(&request, folder.path()).expect("the files") {
                assert!(!text.contains('@'), "{name} of a {kind}: {text}");
                if name.ends_with(".toml") {
                    toml::from_str::<toml::Table>(&text).expect("a manifest");
                }
            }
        }
    }

    #[test]
    fn a_new_plugin_is_under_forty_lines() {
        for text in [
            include_str!("templates/model.rs"),
            include_str!("templates/task.rs"),
            include_str!("templates/judge.rs"),
        ] {
            assert!(text.lines().count() <= 40, "{text}");
        }
    }

    #[test]
    fn nothing_is_overwritten() {
        let folder = tempfile::tempdir().expect("a folder");
        let request = request("my-model", folder.path());
        let made = create(&request).expect("the first time");
        let before = fs::read_to_string(made.join("src/lib.rs")).expect("the source");
        let failure = create(&request).expect_err("the second time");
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.render().contains("exists"), "{failure:?}");
        assert_eq!(fs::read_to_string(made.join("src/lib.rs")).expect("the source"), before);
    }

    #[test]
    fn a_folder_that_is_no_plugin_api_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let api = Some(folder.path().to_owned());
        let failure = create(&Request {
            api,
            ..request("m", folder.path())
        })
        .expect_err("it has no manifest");
        assert!(failure.render().contains("Cargo.toml"), "{failure:?}");
    }
}
