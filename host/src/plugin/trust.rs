//! Whether a file may be loaded: who could have written it, and whether it is the one that the registry pinned.
//!
//! Loading a library runs its code before anything else about it can be checked, so this comes first. The file is
//! opened once and copied, while it is hashed, into sealed memory; what was checked is what is loaded, whatever happens
//! to the file meanwhile. The price is that `$ORIGIN` in a plugin's run path leads nowhere.

use crate::failure::{Doing, Exit, Failure, Result};
use crate::registry::spec::PluginSpec;
use crate::registry::{installation, left_out_by_cargo};
use rustix::fs::{MemfdFlags, SealFlags};
use sha2::{Digest, Sha256};
use std::fs::{File, Metadata};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A plugin's file after all checks, as a private copy that nobody can change.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// Where it was read, without links.
    pub path: PathBuf,
    /// Its sha256, as hexadecimal digits.
    pub sha256: String,
    /// The sealed copy.
    pub copy: Arc<File>,
}

/// Checks the file that the registry names and takes a copy of it.
pub fn admit(spec: &PluginSpec) -> Result<Admitted> {
    let (path, mut file) = open(spec)?;
    let copying = || format!("cannot copy plugin `{}` into memory", spec.name);
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut copy: File = rustix::fs::memfd_create(spec.name.as_str(), flags)
        .or_fail(Exit::Refused, copying)?
        .into();
    let sha256 = hash(&mut file, |bytes| copy.write_all(bytes)).or_fail(Exit::Refused, copying)?;
    seal(&copy).or_fail(Exit::Refused, copying)?;
    check_pin(spec, &sha256)?;
    Ok(Admitted {
        path,
        sha256,
        copy: Arc::new(copy),
    })
}

/// Seals a copy. The kernel reports that it is busy while it still holds the pages that were just written, which on a
/// loaded machine can take longer than it waits by itself.
fn seal(copy: &File) -> rustix::io::Result<()> {
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    for _ in 0..100 {
        match rustix::fs::fcntl_add_seals(copy, seals) {
            Err(rustix::io::Errno::BUSY) => std::thread::sleep(Duration::from_millis(20)),
            done => return done,
        }
    }
    Err(rustix::io::Errno::BUSY)
}

/// The sha256 of the file that the registry names, after the same checks except for the pin.
pub fn fingerprint(spec: &PluginSpec) -> Result<String> {
    let (path, mut file) = open(spec)?;
    hash(&mut file, |_| Ok(())).or_fail(Exit::Missing, || format!("cannot read `{}`", path.display()))
}

/// Whether the file may be loaded, with the checks of [`admit`] but without a copy. It is read only if it is pinned.
pub fn check(spec: &PluginSpec) -> Result<()> {
    let (path, _) = open(spec)?;
    match spec.sha256 {
        Some(_) => check_pin(spec, &sha256(&path)?),
        None => Ok(()),
    }
}

/// The sha256 of any file.
pub fn sha256(path: &Path) -> Result<String> {
    let reading = || format!("cannot read `{}`", path.display());
    let mut file = File::open(path).or_fail(Exit::Missing, reading)?;
    hash(&mut file, |_| Ok(())).or_fail(Exit::Missing, reading)
}

fn open(spec: &PluginSpec) -> Result<(PathBuf, File)> {
    let given = &spec.path;
    if !given.is_absolute() {
        // The dynamic linker would search for it in folders that the environment names.
        let message = format!(
            "the path `{}` of plugin `{}` is not absolute",
            given.display(),
            spec.name
        );
        return Err(Failure::usage(message).help("the registry names the file itself; no folders are searched for it"));
    }
    let missing = || format!("plugin `{}` can't be read at `{}`", spec.name, given.display());
    let path = given.canonicalize().or_fail(Exit::Missing, missing).map_err(|why| {
        let named_in = spec.named_in.display();
        let build = || format!("build it, or change its `path` in `{named_in}`");
        why.help(left_out_by_cargo().map_or_else(build, str::to_owned))
    })?;
    // Anyone who may change a folder may put another file, or another link, into it.
    for folder in path.ancestors().skip(1).chain(given.ancestors().skip(1)) {
        let found = folder.symlink_metadata().or_fail(Exit::Missing, missing)?;
        if !found.is_symlink() {
            check_owner(folder, &found, &spec.name)?;
        }
    }
    let file = File::open(&path).or_fail(Exit::Missing, missing)?;
    let found = file.metadata().or_fail(Exit::Missing, missing)?;
    if !found.is_file() {
        return Err(Failure::refused(format!(
            "plugin `{}` is not a file: `{}`",
            spec.name,
            path.display()
        )));
    }
    check_owner(&path, &found, &spec.name)?;
    Ok((path, file))
}

/// Refuses a file that somebody other than this user and root could have written.
fn check_owner(path: &Path, found: &Metadata, plugin: &str) -> Result<()> {
    let shown = path.display();
    let us = rustix::process::geteuid().as_raw();
    if found.uid() != us && found.uid() != 0 {
        let message = format!(
            "plugin `{plugin}` is refused: `{shown}` belongs to user {}, not to you",
            found.uid()
        );
        return Err(Failure::refused(message).help(format!(
            "copy the plugin into a folder of your own, or `chown` `{shown}`"
        )));
    }
    // In a sticky folder, as /tmp is, only its owner can replace a file.
    let sticky_folder = found.is_dir() && found.mode() & 0o1000 != 0;
    if found.mode() & 0o022 != 0 && !sticky_folder {
        let message = format!("plugin `{plugin}` is refused: others may write to `{shown}`");
        // If one file of an installation is writable, all are: they were made with the same permissions.
        let command = match installation().filter(|prefix| path.starts_with(prefix)) {
            Some(prefix) => format!("chmod -R go-w {}", prefix.display()),
            None => format!("chmod go-w {shown}"),
        };
        return Err(Failure::refused(message).help(format!("remove that permission with `{command}`")));
    }
    Ok(())
}

fn check_pin(spec: &PluginSpec, found: &str) -> Result<()> {
    match &spec.sha256 {
        Some(pinned) if !pinned.eq_ignore_ascii_case(found) => {
            let message = format!("plugin `{}` is not the file that was pinned", spec.name);
            Err(Failure::refused(message)
                .cause(format!("`{}` has the sha256 {found}", spec.path.display()))
                .cause(format!("`{}` pins {pinned}", spec.named_in.display()))
                .help(format!(
                    "when you trust the new file, run `host plugins pin {}`",
                    spec.name
                )))
        }
        _ => Ok(()),
    }
}

fn hash(file: &mut File, mut pass_on: impl FnMut(&[u8]) -> std::io::Result<()>) -> std::io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        pass_on(&buffer[..count])?;
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn spec(path: PathBuf, sha256: Option<&str>) -> PluginSpec {
        PluginSpec {
            name: "p".to_owned(),
            path,
            sha256: sha256.map(str::to_owned),
            named_in: "registry.toml".into(),
            ..PluginSpec::default()
        }
    }

    fn folder_with(text: &str, file_mode: u32, folder_mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("plugin.so");
        std::fs::write(&path, text).expect("a file");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(file_mode)).expect("its mode");
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(folder_mode)).expect("its mode");
        (folder, path)
    }

    #[track_caller]
    fn check(file_mode: u32, folder_mode: u32, refused: Option<&str>) {
        let (_folder, path) = folder_with("abc", file_mode, folder_mode);
        match (admit(&spec(path, None)), refused) {
            (Ok(_), None) => {}
            (Err(why), Some(words)) => {
                assert_eq!(why.exit, Exit::Refused);
                assert!(why.to_string().contains(words), "{why}");
                assert!(why.error.help.is_some_and(|help| help.contains("chmod go-w")));
            }
            (found, _) => panic!("expected {refused:?}, found {found:?}"),
        }
    }

    #[test]
    fn what_others_may_write_to_is_refused() {
        check(0o755, 0o755, None);
        check(0o644, 0o700, None);
        check(0o666, 0o755, Some("plugin.so`"));
        check(0o664, 0o755, Some("plugin.so`"));
        check(0o644, 0o777, Some("others may write to"));
        check(0o644, 0o775, Some("others may write to"));
        check(0o644, 0o1777, None); // a sticky folder, like /tmp
    }

    #[test]
    fn a_link_is_followed_to_the_file_and_the_file_is_checked() {
        let (folder, path) = folder_with("abc", 0o666, 0o755);
        let link = folder.path().join("link.so");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        assert!(admit(&spec(link, None)).unwrap_err().to_string().contains("plugin.so"));
    }

    #[test]
    fn a_link_in_a_folder_that_others_write_to_is_refused() {
        let (_folder, path) = folder_with("abc", 0o644, 0o755);
        let open_to_all = tempfile::tempdir().expect("a folder");
        let link = open_to_all.path().join("link.so");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        assert!(admit(&spec(link.clone(), None)).is_ok());
        std::fs::set_permissions(open_to_all.path(), PermissionsExt::from_mode(0o777)).expect("its mode");
        assert!(admit(&spec(link, None)).is_err());
    }

    #[test]
    fn only_the_pinned_file_is_admitted() {
        const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let (_folder, path) = folder_with("abc", 0o644, 0o755);
        assert_eq!(admit(&spec(path.clone(), Some(ABC))).expect("admitted").sha256, ABC);
        assert_eq!(fingerprint(&spec(path.clone(), Some("old"))).expect("a hash"), ABC);
        let why = admit(&spec(path, Some("00ff"))).unwrap_err();
        assert!(why.to_string().contains("`registry.toml` pins 00ff"), "{why}");
        assert_eq!(
            why.error.help.as_deref(),
            Some("when you trust the new file, run `host plugins pin p`")
        );
    }

    #[test]
    fn what_was_checked_is_what_is_kept() {
        let (_folder, path) = folder_with("abc", 0o644, 0o755);
        let admitted = admit(&spec(path.clone(), None)).expect("admitted");
        std::fs::write(&path, "something else").expect("written");
        let kept = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&*admitted.copy));
        assert_eq!(std::fs::read_to_string(kept).expect("read"), "abc");
        let mut copy = &*admitted.copy;
        assert!(copy.write_all(b"x").is_err(), "the copy is sealed");
    }

    #[test]
    fn relative_and_missing_paths_are_not_searched_for() {
        assert_eq!(admit(&spec("plugin.so".into(), None)).unwrap_err().exit, Exit::Usage);
        assert_eq!(
            admit(&spec("/nowhere/plugin.so".into(), None)).unwrap_err().exit,
            Exit::Missing
        );
    }
}
