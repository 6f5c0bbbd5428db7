//! The README and the book: links lead somewhere, every page is listed, and the commands of the demo run as written.
//!
//! A fenced block of commands says in its first line what it needs: `sh demo` nothing but the repository, and those are
//! run here; `sh build` a build; `sh needs-weights`, `sh needs-network` or `sh needs-gpu` what no test has. One that
//! says nothing is run if each of its commands has `--demo`.

use crate::building::repository;
use crate::pairs::registry;
use crate::support::host_program;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The top level's pages and those of the book.
fn pages() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => walk(&path, found),
                false if path.extension().is_some_and(|end| end == "md") => found.push(path),
                false => {}
            }
        }
    }
    let root = repository();
    let mut found: Vec<PathBuf> = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"]
        .map(|name| root.join(name))
        .into();
    walk(&root.join("docs"), &mut found);
    found.sort();
    found
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|why| panic!("`{}`: {why}", path.display()))
}

/// A fenced block: its label, and its lines.
struct Block {
    page: PathBuf,
    line: usize,
    info: String,
    lines: Vec<String>,
}

fn blocks(page: &Path) -> Vec<Block> {
    let (mut blocks, mut open): (Vec<Block>, Option<Block>) = (Vec::new(), None);
    for (number, line) in text(page).lines().enumerate() {
        match (line.trim_start().strip_prefix("```"), open.take()) {
            (Some(info), None) => {
                open = Some(Block {
                    page: page.to_owned(),
                    line: number + 1,
                    info: info.trim().to_owned(),
                    lines: Vec::new(),
                });
            }
            (Some(_), Some(block)) => blocks.push(block),
            (None, Some(mut block)) => {
                block.lines.push(line.to_owned());
                open = Some(block);
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "`{}` ends inside a block", page.display());
    blocks
}

/// The local files that a page links to.
fn links(page: &str) -> Vec<String> {
    let places = page.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let own = places.filter(|place| !place.contains("://") && !place.starts_with('#') && !place.contains(' '));
    own.map(|place| place.split('#').next().unwrap_or(place).to_owned())
        .collect()
}

#[test]
fn links_lead_to_files_of_the_repository() {
    let mut checked = 0;
    for page in pages() {
        let folder = page.parent().expect("a folder");
        for place in links(&text(&page)) {
            assert!(
                folder.join(&place).exists(),
                "`{}` links to `{place}`, which is not there",
                page.display()
            );
            checked += 1;
        }
    }
    assert!(checked > 30, "only {checked} links were found");
}

#[test]
fn the_summary_lists_every_page_of_the_book() {
    let book = repository().join("docs");
    let listed: BTreeSet<PathBuf> = links(&text(&book.join("SUMMARY.md")))
        .iter()
        .map(|place| book.join(place))
        .collect();
    for page in pages().iter().filter(|page| page.starts_with(&book)) {
        let itself = page.file_name().is_some_and(|name| name == "SUMMARY.md");
        assert!(
            itself || listed.contains(page),
            "`{}` is not in docs/SUMMARY.md",
            page.display()
        );
    }
}

#[test]
fn the_readme_fits_on_a_few_screens() {
    let lines = text(&repository().join("README.md")).lines().count();
    assert!(
        lines <= 150,
        "README.md has {lines} lines; what is explained belongs into docs/"
    );
}

#[test]
fn the_commands_of_the_demo_run_as_they_are_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("config/host");
    std::fs::create_dir_all(&config).expect("a folder");
    std::fs::rename(registry(folder.path()), config.join("registry.toml")).expect("a registry of the user");
    let known = ["demo", "build", "needs-weights", "needs-network", "needs-gpu"];
    let (mut run, mut failed) = (0, Vec::new());
    for (number, page) in pages().iter().enumerate() {
        // One folder for each page: its blocks may use each other's results, and the repository's own folders.
        let place = folder.path().join(number.to_string());
        std::fs::create_dir(&place).expect("a folder");
        for name in ["plugins", "examples", "tests"] {
            std::os::unix::fs::symlink(repository().join(name), place.join(name)).expect("a link");
        }
        for block in blocks(page) {
            let Some(needs) = block.info.strip_prefix("sh") else {
                continue;
            };
            let at = format!("{}:{}", block.page.display(), block.line);
            let commands = || block.lines.iter().filter(|line| line.starts_with("host "));
            let needs = match needs.trim() {
                "" if commands().count() > 0 && commands().all(|line| line.contains("--demo")) => "demo",
                "" => continue,
                said => said,
            };
            assert!(
                known.contains(&needs),
                "{at}: a block of commands says `sh {needs}`, expected one of {known:?}"
            );
            if needs != "demo" {
                continue;
            }
            let script = format!(
                "set -e\nhost() {{ \"$HOST_PROGRAM\" \"$@\"; }}\n{}\n",
                block.lines.join("\n")
            );
            let output = Command::new("bash")
                .args(["-c", &script])
                .current_dir(&place)
                .env("HOST_PROGRAM", host_program())
                .env("XDG_CONFIG_HOME", folder.path().join("config"))
                .env("HF_HUB_OFFLINE", "1")
                .output()
                .expect("a shell");
            if !output.status.success() {
                let words = String::from_utf8_lossy(&output.stderr).into_owned();
                failed.push(format!("{at}: {}\n{words}", output.status));
            }
            run += 1;
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(run >= 10, "only {run} blocks of the demo were found");
}
