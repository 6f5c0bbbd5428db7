//! Checks that some things are absent on purpose.

use crate::building::repository;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The repository's own files, as relative paths, without cargo's output.
fn files(end: &str) -> Vec<PathBuf> {
    fn walk(folder: &Path, end: &str, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                walk(&path, end, found);
            } else if name.ends_with(end) && !path.is_dir() {
                found.push(path);
            }
        }
    }
    let (root, mut found) = (repository(), Vec::new());
    for folder in ["host", "plugin-api", "plugins", "tests", "examples"] {
        walk(&root.join(folder), end, &mut found);
    }
    found.sort();
    found
        .into_iter()
        .map(|path| path.strip_prefix(&root).expect("below the root").to_owned())
        .collect()
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(repository().join(path)).expect("a readable file")
}

#[test]
fn unsafe_code_stands_where_the_map_says_and_nowhere_else() {
    let allowed = [
        "plugin-api/src/export.rs",
        "plugin-api/src/host/loading.rs",
        "plugin-api/src/wire/abi.rs",
        "host/src/plugin/loader.rs",
        "plugins/kit/checkpoint/src/mapped.rs",
        "plugins/kit/kernels/src/packed/amx/bytes.rs",
        "plugins/kit/kernels/src/packed/amx/emulator.rs", // of its tests: registers and memory of interrupted code
        "plugins/kit/kernels/src/packed/amx/few.rs",
        "plugins/kit/kernels/src/packed/amx/floats.rs",
        "plugins/kit/kernels/src/packed/amx/tiles.rs",
        "plugins/kit/kernels/src/packed/avx2.rs",
        "plugins/kit/kernels/src/packed/avx2_bytes.rs",
        "plugins/kit/kernels/src/packed/avx2_bytes/sums.rs",
        "plugins/kit/kernels/src/packed/avx2_bytes/x86.rs",
        "plugins/kit/kernels/src/packed/avx512.rs",
        "plugins/kit/kernels/src/packed/output_block.rs",
        "plugins/kit/kernels/src/packed/parallel_output.rs",
        "plugins/kit/kernels/src/packed/vnni.rs",
        "plugins/kit/kernels/src/memory.rs",
        "plugins/kit/kernels/src/tile.rs",
        "plugins/kit/kernels/src/turn.rs",
        "plugins/kit/collective/src/mpi.rs",
    ];
    let mut found = BTreeSet::new();
    for path in files(".rs") {
        // Fixtures break the rules on purpose; frozen code is a copy; the examples are not linked with ours.
        if path.starts_with("tests") || path.starts_with("examples") {
            continue;
        }
        let code = text(&path);
        let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        if code
            .into_iter()
            .any(|line| line.contains("unsafe {") || line.contains("unsafe fn") || line.contains("unsafe impl"))
        {
            found.insert(path.display().to_string());
        }
    }
    let unsafe_folder = |path: &String| !allowed.contains(&path.as_str());
    let stray: Vec<_> = found.iter().filter(|path| unsafe_folder(path)).collect();
    assert!(
        stray.is_empty(),
        "unsafe code in {stray:?}; it belongs in one of {allowed:?}"
    );
    assert!(
        found.contains(allowed[0]) && found.contains(allowed[1]),
        "the list above is out of date: {found:?}"
    );
}

#[test]
fn kernels_for_processors_leave_other_devices_a_way() {
    let models =
        |path: &&PathBuf| path.starts_with("plugins") && path.components().any(|part| part.as_os_str() == "src");
    let mut found = 0;
    for path in files(".rs").iter().filter(models) {
        let code = text(path);
        let code = code.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        if ["impl CustomOp", "impl InplaceOp"]
            .iter()
            .any(|operation| code.contains(operation))
        {
            found += 1;
            // `rowwise::suits` asks for all that work row by row.
            let asks = ["own_kernels(", "rowwise::suits(", "fn cuda_fwd"];
            assert!(
                asks.iter().any(|asks| code.contains(asks)),
                "{} has an operation and never asks whether it may take over",
                path.display()
            );
        }
        assert!(
            !(path.starts_with("plugins/models") && code.contains("Device::Cpu") && !path.ends_with("parity.rs")),
            "{} puts something into main memory, where its model may not be",
            path.display()
        );
    }
    assert!(found > 4, "operations are called something else: {found}");
}

/// The dependencies that a crate's manifest names, without those of its tests.
fn dependencies(manifest: &Path) -> BTreeSet<String> {
    let table: toml::Table = text(manifest).parse().expect("a manifest");
    let names = table.get("dependencies").and_then(toml::Value::as_table);
    names.map(|names| names.keys().cloned().collect()).unwrap_or_default()
}

/// The crates of the kit, and what each knows of ours and of candle, without its tests.
fn kit() -> BTreeMap<String, BTreeSet<String>> {
    let of_kit = |manifest: &PathBuf| manifest.starts_with("plugins/kit");
    let crates = files("Cargo.toml").into_iter().filter(of_kit);
    crates
        .map(|manifest| {
            let folder = manifest.parent().and_then(Path::file_name).expect("a folder");
            (folder.to_string_lossy().into_owned(), dependencies(&manifest))
        })
        .collect()
}

#[test]
fn crates_know_only_those_that_the_map_lets_them_know() {
    let kit = kit();
    let names: BTreeSet<String> = kit.keys().cloned().collect();
    // The tensor crates: whatever stands on candle, by however many others.
    let mut tensors: BTreeSet<String> = ["candle-core", "candle-nn"].map(str::to_owned).into();
    let of_tensors = |tensors: &BTreeSet<String>| -> Vec<String> {
        let stands =
            |(name, known): &(&String, &BTreeSet<String>)| !tensors.contains(*name) && !known.is_disjoint(tensors);
        kit.iter().filter(stands).map(|(name, _)| name.clone()).collect()
    };
    while let found @ [_, ..] = of_tensors(&tensors).as_slice() {
        tensors.extend(found.iter().cloned());
    }
    assert!(tensors.contains("nn") && tensors.contains("checkpoint"), "{tensors:?}");
    assert!(!tensors.contains("data") && !tensors.contains("score"), "{tensors:?}");
    for manifest in files("Cargo.toml") {
        let known = dependencies(&manifest);
        let place = manifest.display().to_string();
        if place.starts_with("plugins/tasks") || place.starts_with("plugins/judges") || place.starts_with("host/") {
            assert!(known.is_disjoint(&tensors), "{place} names tensors");
        }
        if place.starts_with("host/") || place.starts_with("plugin-api/") {
            assert!(known.is_disjoint(&names), "{place} names the kit");
        }
        if place == "host/hub/Cargo.toml" {
            assert!(
                !known.contains("host") && !known.contains("plugin-api"),
                "{place} knows the host"
            );
        }
        if place.starts_with("plugin-api/") {
            let few = ["abi_stable", "inventory", "serde", "serde_json"]
                .map(str::to_owned)
                .into();
            assert_eq!(known, few, "what every plugin author has to build");
        }
        if place.starts_with("plugins/") {
            let kinds = ["models", "tasks", "judges"].map(|kind| repository().join("plugins").join(kind));
            let others = known
                .iter()
                .any(|name| kinds.iter().any(|kind| kind.join(name).exists()));
            assert!(!others, "{place} names another plugin");
        }
    }
}

/// A crate may depend only on the crates before it in this list, so that there are no circles.
#[test]
fn the_tensor_crates_stand_one_on_the_other() {
    let order = ["kernels", "checkpoint", "nn", "generate", "parity", "model"];
    let kit = kit();
    for (place, name) in order.iter().enumerate() {
        let above = order[place..].iter().find(|above| kit[*name].contains(**above));
        assert!(
            above.is_none(),
            "`{name}` names `{}`, which stands on it",
            above.expect("one")
        );
    }
}

#[test]
fn no_file_grows_beyond_what_a_reader_holds_in_mind() {
    let mut lengths: Vec<(usize, PathBuf)> = files(".rs")
        .into_iter()
        .filter(|path| !path.starts_with("tests/frozen"))
        .map(|path| (text(&path).lines().count(), path))
        .collect();
    lengths.sort();
    let (longest, path) = lengths.last().expect("there is code");
    assert!(*longest <= 800, "{} has {longest} lines", path.display());
    let (median, _) = &lengths[lengths.len() / 2];
    assert!(*median < 250, "half of all files have {median} lines or more");
}

/// A line of the map begins with the folder's name; a name elsewhere in a line does not count.
#[test]
fn the_map_names_every_crate() {
    let page = text(Path::new("docs/architecture.md"));
    let entries: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.split_whitespace().next()?.strip_suffix('/'))
        .collect();
    for manifest in files("Cargo.toml") {
        let folder = manifest.parent().expect("a folder");
        if ["plugins", "host", "plugin-api"]
            .iter()
            .any(|start| folder.starts_with(start))
        {
            let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
            assert!(
                entries.contains(name.as_str()),
                "the map in docs/architecture.md lacks `{}`",
                folder.display()
            );
        }
    }
}

#[test]
fn no_crate_has_an_import_circle() {
    let mut looked = 0;
    for manifest in files("Cargo.toml") {
        let folder = manifest.parent().expect("a folder").to_owned();
        let place = folder.display().to_string();
        if place.starts_with("tests") || place.starts_with("examples") {
            continue;
        }
        looked += 1;
        let circles = crate::circles::of(&repository().join(&folder).join("src"));
        assert!(circles.is_empty(), "`{place}` has import circles: {circles:?}");
    }
    assert!(looked > 15, "crates lie somewhere else: {looked}");
}
