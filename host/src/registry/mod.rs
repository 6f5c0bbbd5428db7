//! The registry: which plugins may be loaded, and what their adapters are called.
//!
//! It has layers, and each overrides the one before, key by key: the repository's own file, the user's
//! (`$XDG_CONFIG_HOME/host/registry.toml`), files given with `--registry`, then flags. A file in the current folder is
//! not read unless it is named: running `host` inside a stranger's checkout must not load a stranger's code.

mod file;
pub mod settings;
pub mod spec;
pub mod values;

use crate::failure::{Failure, Result};
pub use file::RegistryFile;
use plugin_api::Kind;
use serde_json::{Map, Value};
pub use spec::{AdapterSpec, Given, Isolation, PluginSpec};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// All layers together.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    /// Plugins by name.
    pub plugins: BTreeMap<String, PluginSpec>,
    /// Models, tasks and judges by kind and name.
    pub adapters: BTreeMap<(Kind, String), AdapterSpec>,
    /// The files that were read, in order.
    pub files: Vec<PathBuf>,
}

impl Registry {
    /// Reads the layers that exist for this user. `extra` are the files of `--registry`.
    pub fn load(extra: &[PathBuf]) -> Result<Registry> {
        let mut layers = Vec::new();
        layers.extend(own_file());
        layers.extend(user_file().filter(|path| path.exists()));
        for path in extra {
            if !path.exists() {
                return Err(Failure::usage(format!("there is no registry `{}`", path.display())));
            }
            // Paths in it start from its folder, and must not depend on where the command was started.
            layers.push(std::path::absolute(path).unwrap_or_else(|_| path.clone()));
        }
        let files = layers
            .iter()
            .map(|path| RegistryFile::read(path))
            .collect::<Result<Vec<_>>>()?;
        Registry::from_layers(files)
    }

    /// Merges files, later ones over earlier ones.
    pub fn from_layers(files: Vec<RegistryFile>) -> Result<Registry> {
        let mut registry = Registry::default();
        for file in files {
            registry.lay_over(file)?;
        }
        for adapter in registry.adapters.values() {
            if !registry.plugins.contains_key(&adapter.plugin) {
                let message = format!(
                    "{} `{}` names the plugin `{}`, which no registry has",
                    adapter.kind, adapter.name, adapter.plugin
                );
                let known = registry.plugins.keys().map(String::as_str);
                return Err(Failure::usage(message).help(nearest_hint(&adapter.plugin, known)));
            }
        }
        Ok(registry)
    }

    fn lay_over(&mut self, file: RegistryFile) -> Result<()> {
        let place = file.path.display().to_string();
        let base = file.path.parent().map(Path::to_owned).unwrap_or_default();
        for (name, entry) in file.plugins {
            let known = self.plugins.entry(name.clone()).or_insert_with(|| PluginSpec {
                name: name.clone(),
                ..PluginSpec::default()
            });
            let wrong = |key: &str, why: String| {
                Failure::usage(format!(
                    "`{key}` of `[plugins.{name}]` in the registry `{place}` can't be used"
                ))
                .cause(why)
            };
            if let Some(path) = entry.path {
                // Another file is another plugin: pin, version and isolation of the old one don't apply to it.
                *known = PluginSpec {
                    name: name.clone(),
                    path: absolute(&path, &base),
                    ..PluginSpec::default()
                };
                known.named_in = file.path.clone();
            }
            if known.path.as_os_str().is_empty() {
                return Err(wrong("path", "it is missing".to_owned()).help("add `path = \"…/libNAME.so\"`"));
            }
            known.sha256 = entry.sha256.or(known.sha256.take());
            known.version = entry.version.or(known.version.take());
            match entry.isolation.as_deref() {
                None => {}
                Some("in-process") => known.isolation = Isolation::InProcess,
                Some("process") => known.isolation = Isolation::Process,
                Some(other) => {
                    let hint = nearest_hint(other, ["in-process", "process"].into_iter());
                    return Err(wrong(
                        "isolation",
                        format!("unknown isolation `{other}`, expected `process` or `in-process`"),
                    )
                    .help(hint));
                }
            }
            known.env.extend(entry.env);
            if let Some(text) = entry.memory {
                known.memory = Some(values::size(&text).map_err(|why| wrong("memory", why))?);
            }
            if let Some(text) = entry.deadline {
                known.deadline = Some(values::duration(&text).map_err(|why| wrong("deadline", why))?);
            }
        }
        for (kind, entries) in [
            (Kind::Model, file.models),
            (Kind::Task, file.tasks),
            (Kind::Judge, file.judges),
        ] {
            for (name, entry) in entries {
                let key = (kind, name.clone());
                let known = self.adapters.get(&key);
                let Some(plugin) = entry.plugin.or(known.map(|known| known.plugin.clone())) else {
                    let message = format!("{kind} `{name}` in the registry `{place}` names no plugin");
                    return Err(Failure::usage(message).help(format!("add `plugin = \"…\"` to `[{kind}s.{name}]`")));
                };
                let given = |settings: Map<String, Value>| {
                    let of = |value| Given {
                        value,
                        base: base.clone(),
                        place: place.clone(),
                    };
                    settings
                        .into_iter()
                        .map(|(key, value)| (key, of(value)))
                        .collect::<BTreeMap<_, _>>()
                };
                let mut spec = AdapterSpec {
                    kind,
                    adapter: entry
                        .adapter
                        .or(known.map(|known| known.adapter.clone()))
                        .unwrap_or_else(|| name.clone()),
                    name,
                    plugin,
                    settings: known.map(|known| known.settings.clone()).unwrap_or_default(),
                    demo: known.and_then(|known| known.demo.clone()),
                    train_demo: known.and_then(|known| known.train_demo.clone()),
                    // Another demo was not taught the same tasks.
                    taught: match (entry.taught, &entry.demo) {
                        (Some(taught), _) => taught,
                        (None, Some(_)) => Vec::new(),
                        (None, None) => known.map(|known| known.taught.clone()).unwrap_or_default(),
                    },
                    in_all: entry.all.or(known.map(|known| known.in_all)).unwrap_or(true),
                };
                spec.settings.extend(given(entry.settings));
                spec.demo = entry.demo.map(given).or(spec.demo);
                spec.train_demo = entry.train_demo.map(given).or(spec.train_demo);
                self.adapters.insert(key, spec);
            }
        }
        self.files.push(file.path);
        Ok(())
    }

    /// The adapter of this kind and name.
    pub fn adapter(&self, kind: Kind, name: &str) -> Result<&AdapterSpec> {
        self.adapters.get(&(kind, name.to_owned())).ok_or_else(|| {
            let known = self.names(kind);
            let hint = match left_out_by_cargo().filter(|_| known.is_empty()) {
                Some(hint) => hint.to_owned(),
                None => nearest_hint(name, known.iter().map(String::as_str)),
            };
            Failure::missing(format!("there is no {kind} `{name}` in the registry")).help(hint)
        })
    }

    /// The plugin of this name.
    pub fn plugin(&self, name: &str) -> Result<&PluginSpec> {
        self.plugins.get(name).ok_or_else(|| {
            let hint = nearest_hint(name, self.plugins.keys().map(String::as_str));
            Failure::missing(format!("there is no plugin `{name}` in the registry")).help(hint)
        })
    }

    /// The names of this kind, sorted.
    pub fn names(&self, kind: Kind) -> Vec<String> {
        self.adapters
            .keys()
            .filter(|(of, _)| *of == kind)
            .map(|(_, name)| name.clone())
            .collect()
    }

    /// The names that `all` stands for: those that need nothing from the user.
    pub fn names_in_all(&self, kind: Kind) -> Vec<String> {
        let mut names = self.names(kind);
        names.retain(|name| self.adapters[&(kind, name.clone())].in_all);
        names
    }
}

/// `did you mean …?`, or the list if nothing is near.
pub fn nearest_hint<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    let nearest = known.iter().max_by(|a, b| {
        let near = |name: &str| strsim::jaro_winkler(given, name);
        near(a).total_cmp(&near(b))
    });
    match nearest {
        None => "there are none".to_owned(),
        Some(name) if strsim::jaro_winkler(given, name) > 0.75 => format!("did you mean `{name}`?"),
        Some(_) => format!("there are `{}`", known.join("`, `")),
    }
}

/// `{exe}` stands for the folder of the running program, so that one file serves debug and release builds.
fn absolute(path: &str, base: &Path) -> PathBuf {
    if let Some(rest) = path.strip_prefix("{exe}/") {
        return exe_folder().join(rest);
    }
    settings::expand_home(path).unwrap_or_else(|| base.join(path))
}

fn exe_folder() -> PathBuf {
    let exe = std::env::current_exe()
        .and_then(|exe| exe.canonicalize())
        .unwrap_or_default();
    exe.parent().map(Path::to_owned).unwrap_or_default()
}

/// The installation that this program is in, if any: `bin` next to `share/host`.
pub fn installation() -> Option<PathBuf> {
    let prefix = exe_folder().parent()?.to_owned();
    Some(prefix).filter(|prefix| prefix.join("share/host/registry.toml").exists())
}

/// What to do if `cargo install`, which leaves libraries out, installed this program.
pub fn left_out_by_cargo() -> Option<&'static str> {
    let by_cargo = exe_folder().parent()?.join(".crates.toml").exists();
    by_cargo.then_some(
        "`cargo install` installs no plugins: unpack an archive of `host`, or run `cargo build --release` and its target/release/host",
    )
}

/// The repository's own registry: the nearest one above the program, or where the program was built.
fn own_file() -> Option<PathBuf> {
    let exe = exe_folder();
    let above = exe
        .ancestors()
        .flat_map(|folder| ["registry.toml", "share/host/registry.toml"].map(|file| folder.join(file)))
        .find(|path| path.exists());
    let built =
        || Some(Path::new(env!("CARGO_MANIFEST_DIR")).parent()?.join("registry.toml")).filter(|path| path.exists());
    above.or_else(built)
}

fn user_file() -> Option<PathBuf> {
    Some(config_folder()?.join("registry.toml"))
}

/// `$XDG_CONFIG_HOME/host`, or `~/.config/host`.
pub fn config_folder() -> Option<PathBuf> {
    let given = std::env::var_os("XDG_CONFIG_HOME")
        .filter(|folder| !folder.is_empty())
        .map(PathBuf::from);
    let base = given.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".config")))?;
    Some(base.join("host"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    fn layers(texts: &[&str]) -> Result<Registry> {
        let parse =
            |(index, text): (usize, &&str)| RegistryFile::parse(text, Path::new(&format!("/r{index}/registry.toml")));
        Registry::from_layers(texts.iter().enumerate().map(parse).collect::<Result<_>>()?)
    }

    #[track_caller]
    fn check_refused(text: &str, message: &str, hint: &str) {
        let failure = layers(&[text]).expect_err("it should be refused");
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.error.message.contains(message), "{failure:?}");
        assert!(failure.render().contains(hint), "{failure:?}");
    }

    const BASE: &str = r#"
        [plugins.p]
        path = "libp.so"
        isolation = "in-process"
        sha256 = "aa"
        [models.m]
        plugin = "p"
        settings = { rows = 4, name = "a" }
    "#;

    #[test]
    fn later_layers_override_key_by_key() {
        let user = "[models.m.settings]\nname = \"b\"\n[plugins.p]\ndeadline = \"2s\"";
        let registry = layers(&[BASE, user]).unwrap();
        let model = registry.adapter(Kind::Model, "m").unwrap();
        assert_eq!(model.settings["rows"].value, 4);
        assert_eq!(model.settings["name"].value, "b");
        assert_eq!(model.settings["name"].base, Path::new("/r1"));
        let plugin = registry.plugin("p").unwrap();
        assert_eq!(plugin.path, Path::new("/r0/libp.so"));
        assert_eq!(plugin.isolation, Isolation::InProcess);
        assert_eq!(plugin.deadline, Some(std::time::Duration::from_secs(2)));
    }

    #[test]
    fn another_file_under_a_known_name_inherits_no_trust() {
        let registry = layers(&[BASE, "[plugins.p]\npath = \"/elsewhere/libp.so\""]).unwrap();
        let plugin = registry.plugin("p").unwrap();
        assert_eq!(plugin.isolation, Isolation::Process);
        assert_eq!(plugin.sha256, None);
    }

    #[test]
    fn mistakes_are_named_with_the_way_out() {
        check_refused(
            "[plugins.p]\npath = \"x\"\nisolaton = \"process\"",
            "unknown key `isolaton` in `[plugins.p]`",
            "did you mean `isolation`?",
        );
        check_refused(
            "[model.m]\nplugin = \"p\"",
            "unknown key `model`",
            "did you mean `models`?",
        );
        check_refused(
            "[models.m]\nplugin = \"p\"\nweights = \"x\"",
            "unknown key `weights`",
            "[models.m.settings]",
        );
        check_refused(
            "[plugins.p]\npath = \"x\"\nisolation = \"proces\"",
            "`isolation` of `[plugins.p]`",
            "did you mean `process`?",
        );
        check_refused("[plugins.p]\npath = \"x\"\nmemory = \"lots\"", "`memory`", "lots");
        check_refused(
            "[models.m]\nplugin = \"q\"\n[plugins.qq]\npath = \"x\"",
            "names the plugin `q`",
            "did you mean `qq`?",
        );
        check_refused("[models.m]\n", "names no plugin", "plugin = ");
        check_refused("[plugins.p]\nversion = \"1\"", "`path` of `[plugins.p]`", "libNAME.so");
        check_refused("[plugins.p\n", "is malformed", "line 1");
    }

    #[test]
    fn a_name_that_is_not_there_gets_the_nearest() {
        let failure = layers(&[BASE]).unwrap().adapter(Kind::Model, "mm").unwrap_err();
        assert_eq!(failure.exit, Exit::Missing);
        assert!(failure.render().contains("did you mean `m`?"), "{failure:?}");
    }
}
