//! Finds circles among the modules of a crate.
//!
//! A file is a module. A module and those inside it count as one: a parent may use its parts, and a part what its
//! parent shares. A re-export counts as named where it is defined.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

type Module = Vec<String>;

/// The circles among the modules of a crate, each as the names of its modules.
pub fn of(src: &Path) -> Vec<Vec<String>> {
    let mut files = BTreeMap::new();
    read(src, &mut Vec::new(), &mut files);
    let reexports = reexports(&files);
    let edges: BTreeMap<&Module, BTreeSet<Module>> = files
        .iter()
        .map(|(module, text)| (module, named(module, text, &files, &reexports)))
        .collect();
    circles(&edges)
}

fn read(folder: &Path, at: &mut Module, files: &mut BTreeMap<Module, String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Some(stem) = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()) else {
            continue;
        };
        if path.is_dir() {
            at.push(stem);
            read(&path, at, files);
            at.pop();
        } else if path.extension().is_some_and(|end| end == "rs") && !(at.is_empty() && stem == "main") {
            let mut module = at.clone();
            let root = stem == "mod" || (at.is_empty() && stem == "lib");
            module.extend((!root).then_some(stem));
            files.insert(module, code(&std::fs::read_to_string(&path).expect("a readable file")));
        }
    }
}

/// The text without comments and without its tests.
fn code(text: &str) -> String {
    let tests = [
        "#[cfg(test)]\nmod tests",
        "#[cfg(all(test, feature = \"host\"))]\nmod tests",
    ];
    let end = tests.iter().filter_map(|start| text.find(start)).min();
    let text = &text[..end.unwrap_or(text.len())];
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// `a::{b, c::{d, e}}` as `a::b`, `a::c::d`, `a::c::e`.
fn expand(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((before, rest)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        return vec![path.split_whitespace().collect()];
    };
    let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
    let (mut depth, mut item, mut items) = (0, String::new(), Vec::new());
    for letter in inner.chars() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        match letter {
            ',' if depth == 0 => items.push(std::mem::take(&mut item)),
            letter => item.push(letter),
        }
    }
    items.push(item);
    let filled = items.iter().filter(|item| !item.trim().is_empty());
    filled
        .flat_map(|item| expand(&format!("{}{}", before.trim(), item.trim())))
        .collect()
}

/// The paths of a file's `use` lines, and whether each is passed on.
fn uses(text: &str) -> Vec<(bool, String)> {
    let mut found = Vec::new();
    for statement in text.split(';') {
        let Some(place) = statement.rfind("use ") else { continue };
        let before = statement[..place].trim_end();
        let starts_a_word = statement[..place].chars().last().is_none_or(char::is_whitespace);
        let passed_on = before.ends_with("pub") || (before.ends_with(')') && before.contains("pub("));
        if starts_a_word {
            found.extend(
                expand(&statement[place + 4..])
                    .into_iter()
                    .map(|path| (passed_on, path)),
            );
        }
    }
    found
}

/// The module that a path from the crate's root leads to, if it is one of this crate's.
fn absolute(module: &Module, path: &str, files: &BTreeMap<Module, String>) -> Option<Module> {
    let mut segments = path.split("::").map(str::to_owned).peekable();
    let mut base = match segments.peek()?.as_str() {
        "crate" => {
            segments.next();
            Vec::new()
        }
        "self" => {
            segments.next();
            module.clone()
        }
        "super" => {
            let mut base = module.clone();
            while segments.next_if(|segment| segment == "super").is_some() {
                base.pop();
            }
            base
        }
        first => {
            let child = [module.as_slice(), &[first.to_owned()]].concat();
            files.contains_key(&child).then(|| module.clone())?
        }
    };
    base.extend(segments.filter(|segment| segment != "*"));
    Some(base)
}

type Reexports = BTreeMap<Module, BTreeMap<String, Module>>;

fn reexports(files: &BTreeMap<Module, String>) -> Reexports {
    let mut all = Reexports::new();
    for (module, text) in files {
        for (_, path) in uses(text).into_iter().filter(|(passed_on, _)| *passed_on) {
            if let Some(to) = absolute(module, &path, files)
                && let Some(name) = to.last().cloned()
            {
                all.entry(module.clone()).or_default().insert(name, to);
            }
        }
    }
    all
}

/// The module in which a path's last name is defined.
fn resolve(path: &Module, files: &BTreeMap<Module, String>, reexports: &Reexports, depth: u32) -> Module {
    let whole = (0..=path.len())
        .rev()
        .find(|length| files.contains_key(&path[..*length]));
    let length = whole.unwrap_or(0);
    let module = path[..length].to_vec();
    let passed_on = path.get(length).and_then(|name| reexports.get(&module)?.get(name));
    match passed_on {
        Some(to) if depth < 8 => resolve(&[to, &path[length + 1..]].concat(), files, reexports, depth + 1),
        _ => module,
    }
}

fn named(module: &Module, text: &str, files: &BTreeMap<Module, String>, reexports: &Reexports) -> BTreeSet<Module> {
    let mut paths: Vec<String> = uses(text)
        .into_iter()
        .filter(|(passed_on, _)| !passed_on)
        .map(|(_, path)| path)
        .collect();
    // Paths in the code itself.
    for start in ["crate::", "super::"] {
        for (place, _) in text.match_indices(start) {
            let line_start = text[..place].rfind(';').map_or(0, |at| at + 1);
            if !text[line_start..place].contains("use ") {
                let end = text[place..].find(|letter: char| !(letter.is_alphanumeric() || "_:".contains(letter)));
                paths.push(
                    text[place..]
                        .get(..end.unwrap_or(0))
                        .unwrap_or_default()
                        .trim_end_matches(':')
                        .to_owned(),
                );
            }
        }
    }
    let related = |other: &Module| other.starts_with(module) || module.starts_with(other);
    let found = paths.iter().filter_map(|path| absolute(module, path, files));
    found
        .map(|path| resolve(&path, files, reexports, 0))
        .filter(|other| !related(other))
        .collect()
}

/// The modules that depend on each other.
fn circles(edges: &BTreeMap<&Module, BTreeSet<Module>>) -> Vec<Vec<String>> {
    let reach = |from: &Module| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(module) = next.pop() {
            for to in edges.get(&module).into_iter().flatten() {
                if seen.insert(to.clone()) {
                    next.push(to.clone());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&Module, BTreeSet<Module>> = edges.keys().map(|module| (*module, reach(module))).collect();
    let mut found: BTreeSet<Vec<String>> = BTreeSet::new();
    for (module, others) in &reached {
        if others.contains(*module) {
            let back = |other: &&Module| reached.get(*other).is_some_and(|their| their.contains(*module));
            found.insert(others.iter().filter(back).map(|it| it.join("::")).collect());
        }
    }
    found.into_iter().collect()
}

#[test]
fn a_circle_is_found_through_what_is_passed_on_and_a_part_of_its_parent_is_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    };
    write("lib.rs", "mod a;\nmod b;\npub use a::{One, Two};\n");
    write(
        "a.rs",
        "use crate::b::{\n    Three,\n    Four as Five,\n};\npub struct One;\n",
    );
    write("b/mod.rs", "mod part;\nuse part::Six;\npub struct Three;\n");
    write("b/part.rs", "use super::Three;\n");
    assert!(of(folder.path()).is_empty());
    write(
        "b/mod.rs",
        "mod part;\npub fn one() -> crate::One {\n    crate::One\n}\n",
    );
    assert_eq!(of(folder.path()), [["a", "b"]]);
}
