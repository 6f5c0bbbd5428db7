//! A plugin's note: what its file says about itself and its adapters.
//!
//! It is read before anything is loaded, so that a plugin can be listed, and refused, without running its code.

use super::elf::{self, Look};
use crate::failure::{Doing, Exit, Failure, Result};
use crate::registry::AdapterSpec;
use plugin_api::{AdapterNote, EstimateNote, FilesNote, Kind, NoteRecord};
use semver::{Version, VersionReq};
use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::sync::OnceLock;

/// A `cdylib` exports its one symbol, C code linked into it perhaps some more; a `dylib` has well over a thousand.
const MOST_EXPORTS: usize = 256;

/// What a plugin's file says.
#[derive(Debug, Clone, PartialEq)]
pub struct Note {
    /// The crate's name.
    pub name: String,
    /// The crate's version.
    pub version: String,
    /// The version of `plugin-api` it was built against.
    pub api: String,
    /// The version of its wire format; empty for plugins from before the wire had its own version.
    pub wire: String,
    /// The compiler it was built with.
    pub rustc: String,
    /// `unwind` or `abort`.
    pub panic: String,
    /// True for a build with debug assertions.
    pub debug: bool,
    /// Its adapters, sorted by kind and name.
    pub adapters: Vec<AdapterNote>,
    /// The tasks whose files it knows, sorted by name.
    pub files: Vec<FilesNote>,
    /// The models whose memory can be estimated.
    pub estimates: Vec<EstimateNote>,
}

impl Note {
    /// Reads the note of a file, and runs none of it.
    pub fn read(path: &Path) -> Result<Note> {
        let file = File::open(path).or_fail(Exit::Missing, || format!("cannot open `{}`", path.display()))?;
        Note::of(&elf::look(&file, path)?, path)
    }

    /// The note among what was found in a file.
    pub fn of(look: &Look, path: &Path) -> Result<Note> {
        let shown = path.display();
        let Some(bytes) = &look.note else {
            return Err(Failure::refused(format!(
                "`{shown}` is a shared library, but not a plugin: it carries no note"
            ))
            .help("a plugin calls `plugin_api::export_plugin!()` once, in the crate that becomes the `.so`"));
        };
        Note::parse(bytes).map_err(|why| {
            Failure::refused(format!("cannot use the note of `{shown}`"))
                .cause(why)
                .help("build the plugin again with the current `plugin-api`")
        })
    }

    fn parse(bytes: &[u8]) -> std::result::Result<Note, String> {
        let (mut plugin, mut adapters, mut files, mut estimates) = (None, Vec::new(), Vec::new(), Vec::new());
        // The linker may pad records with zeros.
        let lines = bytes
            .split(|&byte| byte == b'\n' || byte == 0)
            .filter(|line| !line.is_empty());
        for line in lines {
            match serde_json::from_slice(line) {
                Ok(NoteRecord::Plugin {
                    name,
                    version,
                    api,
                    wire,
                    rustc,
                    panic,
                    debug,
                }) => {
                    let note = Note {
                        name,
                        version,
                        api,
                        wire,
                        rustc,
                        panic,
                        debug,
                        adapters: Vec::new(),
                        files: Vec::new(),
                        estimates: Vec::new(),
                    };
                    if let Some(other) = plugin.replace(note) {
                        return Err(format!("two plugins are linked into it, `{}` is one", other.name));
                    }
                }
                Ok(NoteRecord::Adapter(adapter)) => adapters.push(adapter),
                Ok(NoteRecord::Files(note)) => files.push(note),
                Ok(NoteRecord::Estimate(note)) => estimates.push(note),
                Ok(NoteRecord::Unknown) => {}
                Err(why) => return Err(format!("`{}` is not a record: {why}", shortened(line))),
            }
        }
        let mut note = plugin.ok_or("it names adapters but no plugin: is `export_plugin!()` missing?")?;
        adapters.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        if let Some(pair) = adapters
            .windows(2)
            .find(|pair| (pair[0].kind, &pair[0].name) == (pair[1].kind, &pair[1].name))
        {
            return Err(format!("it holds the {} `{}` twice", pair[0].kind, pair[0].name));
        }
        files.sort_by(|a, b| a.task.cmp(&b.task));
        if let Some(pair) = files.windows(2).find(|pair| pair[0].task == pair[1].task) {
            return Err(format!("it holds the files of task `{}` twice", pair[0].task));
        }
        note.adapters = adapters;
        note.files = files;
        note.estimates = estimates;
        Ok(note)
    }

    /// The note of the adapter that a registry entry means: the one it names, or the one with the entry's own name, or
    /// the only one of its kind.
    pub fn meant(&self, spec: &AdapterSpec) -> Result<&AdapterNote> {
        let mut of_kind = self.adapters.iter().filter(|note| note.kind == spec.kind);
        match (of_kind.next(), of_kind.next()) {
            (Some(only), None) if spec.adapter == spec.name => Ok(only),
            _ => self.adapter(spec.kind, &spec.adapter),
        }
    }

    /// The note of one adapter, or a failure that lists all of them.
    pub fn adapter(&self, kind: Kind, name: &str) -> Result<&AdapterNote> {
        let found = self.adapters.iter().find(|note| note.kind == kind && note.name == name);
        found.ok_or_else(|| {
            let names: Vec<_> = self
                .adapters
                .iter()
                .map(|it| format!("{} `{}`", it.kind, it.name))
                .collect();
            let holds = match names.len() {
                0 => "it has none".to_owned(),
                _ => format!("it holds {}", names.join(", ")),
            };
            Failure::missing(format!("plugin `{}` holds no {kind} `{name}`", self.name)).help(holds)
        })
    }

    /// The note of a task's files, or a failure that lists the tasks with files.
    pub fn task_files(&self, task: &str) -> Result<&FilesNote> {
        self.files.iter().find(|note| note.task == task).ok_or_else(|| {
            let message = format!("plugin `{}` reads and writes no files of task `{task}`", self.name);
            let names: Vec<_> = self.files.iter().map(|note| format!("`{}`", note.task)).collect();
            Failure::missing(message).help(match names.len() {
                0 => "a plugin announces them with `register_files!`".to_owned(),
                _ => format!("it has files of {}", names.join(", ")),
            })
        })
    }

    /// Whether the memory of a model can be estimated.
    pub fn estimates(&self, model: &str) -> bool {
        self.estimates.iter().any(|note| note.model == model)
    }

    /// Refuses a plugin that speaks another wire version than this host: all versions of `plugin-api` with the same
    /// wire work together, whichever is older.
    pub fn check_api(&self) -> Result<()> {
        let ours = plugin_api::WIRE;
        if self.wire == ours {
            return Ok(());
        }
        let wire = match self.wire.as_str() {
            "" => "1",
            wire => wire,
        };
        let (name, theirs, our_version) = (&self.name, &self.api, plugin_api::VERSION);
        let message = format!(
            "plugin `{name}` speaks plugin-api {theirs} (wire {wire}), this host speaks {our_version} (wire {ours})"
        );
        let wanted = our_version.rsplit_once('.').map_or(our_version, |(minor, _)| minor);
        Err(Failure::refused(message).help(format!(
            "rebuild it with `plugin-api = \"{wanted}\"`, or change the host"
        )))
    }

    /// Refuses a plugin whose version is outside of what the registry allows.
    pub fn check_version(&self, allowed: Option<&str>) -> Result<()> {
        let Some(allowed) = allowed else { return Ok(()) };
        let request = VersionReq::parse(allowed).or_fail(Exit::Usage, || {
            format!(
                "`version = \"{allowed}\"` of plugin `{}` is not a range of versions",
                self.name
            )
        })?;
        let version = Version::parse(&self.version).or_fail(Exit::Refused, || {
            format!("plugin `{}` has the version `{}`", self.name, self.version)
        })?;
        if request.matches(&version) {
            return Ok(());
        }
        let message = format!(
            "plugin `{}` has version {version}, the registry allows `{allowed}`",
            self.name
        );
        Err(Failure::refused(message).help("build the version that the registry names, or change its `version`"))
    }
}

/// Refuses libraries that were built in a way that can't work, and says how to build them.
pub fn check_build(look: &Look, path: &Path) -> Result<()> {
    let shown = path.display();
    if let Some(library) = look.needs.iter().find(|name| name.starts_with("libstd-")) {
        let message = format!("`{shown}` is linked to `{library}`, which only the compiler's own folder holds");
        return Err(Failure::refused(message).help("build it without `-C prefer-dynamic`"));
    }
    if look.exports > MOST_EXPORTS {
        let message = format!("`{shown}` exports {} symbols, a plugin exports one", look.exports);
        return Err(Failure::refused(message)
            .cause("two such libraries in one process share their statics, and so their adapters")
            .help("build it with `crate-type = [\"cdylib\"]`, not `dylib`"));
    }
    if let (Some(ours), newer) = glibc_newer_than_ours(&look.glibc)
        && let Some(newest) = newer.last()
    {
        let message = format!("`{shown}` needs {newest}, this machine's C library ends at {ours}");
        return Err(Failure::refused(message).help("build it on this machine, or on one with an older C library"));
    }
    Ok(())
}

/// The newest version of our C library, and which of these it lacks.
fn glibc_newer_than_ours(needed: &BTreeSet<String>) -> (Option<String>, Vec<String>) {
    static OURS: OnceLock<Option<BTreeSet<String>>> = OnceLock::new();
    let Some(ours) = OURS.get_or_init(our_glibc) else {
        return (None, Vec::new());
    };
    let number = |name: &&String| -> Vec<u32> {
        let digits = name.trim_start_matches("GLIBC_").split('.');
        digits.map_while(|part| part.parse().ok()).collect()
    };
    let mut lacking: Vec<String> = needed.difference(ours).cloned().collect();
    lacking.sort_by_key(|name| number(&name));
    let numbered = ours.iter().filter(|name| !number(name).is_empty());
    (numbered.max_by_key(number).cloned(), lacking)
}

/// The versions of the C library that this process runs on.
fn our_glibc() -> Option<BTreeSet<String>> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let path = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5))
        .find(|path| {
            let name = path.rsplit('/').next().unwrap_or_default();
            name == "libc.so.6" || (name.starts_with("libc-2") && name.ends_with(".so"))
        })?;
    elf::glibc_offered(&File::open(path).ok()?)
}

fn shortened(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLUGIN: &str = r#"{"record":"plugin","name":"p","version":"0.3.1","api":"0.2.0","wire":"2","rustc":"r","panic":"unwind","debug":true}"#;

    fn adapter(name: &str) -> String {
        format!(r#"{{"record":"adapter","kind":"model","name":"{name}","about":"","options":[null]}}"#)
    }

    #[track_caller]
    fn check(bytes: &str, expected: std::result::Result<&[&str], &str>) {
        match (Note::parse(bytes.as_bytes()), expected) {
            (Ok(note), Ok(names)) => {
                let found: Vec<_> = note.adapters.iter().map(|it| it.name.as_str()).collect();
                assert_eq!(found, names);
            }
            (Err(why), Err(words)) => assert!(why.contains(words), "{why}"),
            (found, _) => panic!("expected {expected:?}, found {found:?}"),
        }
    }

    #[test]
    fn records_may_come_in_any_order_and_with_padding() {
        check(
            &format!("{}\n\0\0{PLUGIN}\n\0{}\n", adapter("b"), adapter("a")),
            Ok(&["a", "b"]),
        );
    }

    #[test]
    fn records_of_a_later_version_are_passed_over() {
        check(&format!("{PLUGIN}\n{{\"record\":\"hologram\",\"x\":1}}\n"), Ok(&[]));
    }

    #[test]
    fn the_files_of_a_task_are_no_adapter() {
        let files = |task: &str| format!(r#"{{"record":"files","task":"{task}","about":"x"}}"#);
        check(&format!("{PLUGIN}\n{}\n{}", files("b"), files("a")), Ok(&[]));
        let note = Note::parse(format!("{PLUGIN}\n{}", files("a")).as_bytes()).unwrap();
        assert_eq!(note.task_files("a").unwrap().about, "x");
        assert!(note.task_files("b").unwrap_err().error.help.unwrap().contains("`a`"));
        check(&format!("{PLUGIN}\n{}\n{}", files("a"), files("a")), Err("twice"));
    }

    #[test]
    fn notes_that_say_no_plugin_or_two_are_refused() {
        check(&adapter("a"), Err("export_plugin!()"));
        check(&format!("{PLUGIN}\n{PLUGIN}"), Err("two plugins"));
        check(&format!("{PLUGIN}\n{}\n{}", adapter("a"), adapter("a")), Err("twice"));
        check("not json", Err("`not json` is not a record"));
    }

    #[track_caller]
    fn check_look(look: Look, words: Option<&str>) {
        let found = check_build(&look, Path::new("p.so")).err().map(|why| why.to_string());
        assert_eq!(found.is_some(), words.is_some(), "{found:?}");
        assert!(found.unwrap_or_default().contains(words.unwrap_or_default()));
    }

    #[test]
    fn libraries_that_are_built_in_the_wrong_way_are_refused() {
        let cdylib = || Look {
            exports: 1,
            needs: vec!["libc.so.6".to_owned()],
            glibc: ["GLIBC_2.2.5".to_owned()].into(),
            ..Look::default()
        };
        check_look(cdylib(), None);
        check_look(
            Look {
                exports: 1760,
                ..cdylib()
            },
            Some("exports 1760 symbols"),
        );
        let needs = vec!["libstd-0123abcd.so".to_owned()];
        check_look(Look { needs, ..cdylib() }, Some("linked to `libstd-0123abcd.so`"));
        let glibc = ["GLIBC_2.9".to_owned(), "GLIBC_2.1000".to_owned()].into();
        check_look(
            Look { glibc, ..cdylib() },
            Some("needs GLIBC_2.1000, this machine's C library ends at GLIBC_2."),
        );
    }

    fn note() -> Note {
        Note::parse(PLUGIN.as_bytes()).expect("a note")
    }

    #[test]
    fn the_wire_decides_and_not_the_version() {
        let speaks = |api: &str, wire: &str| Note {
            api: api.to_owned(),
            wire: wire.to_owned(),
            ..note()
        };
        let check = |api: &str, wire: &str, fits: bool| {
            assert_eq!(speaks(api, wire).check_api().is_ok(), fits, "{api}, wire {wire}");
        };
        check("0.2.0", "2", true);
        check("0.99.0", "2", true);
        check("0.2.0", "3", false);
        check("1.2.0", "", false);
        let refusal = speaks("1.2.0", "").check_api().unwrap_err().error;
        let says = "plugin `p` speaks plugin-api 1.2.0 (wire 1), this host speaks 0.2.0 (wire 2)";
        assert_eq!(refusal.message, says);
        assert_eq!(
            refusal.help.as_deref(),
            Some("rebuild it with `plugin-api = \"0.2\"`, or change the host")
        );
    }

    #[test]
    fn the_version_range_of_the_registry_decides() {
        let check = |range: Option<&str>, exit: Option<Exit>| {
            assert_eq!(note().check_version(range).err().map(|why| why.exit), exit, "{range:?}");
        };
        check(None, None);
        check(Some(">=0.3, <0.5"), None);
        check(Some("0.4"), Some(Exit::Refused));
        check(Some("the newest"), Some(Exit::Usage));
    }
}
