//! The one place where a plugin's code enters this process, and the one file of the host with `unsafe`.
//!
//! Opening a shared library runs its constructors, and no check beforehand can make that safe: the file was admitted by
//! [`super::trust`], and beyond that a plugin is trusted like any other code of this process. A library is never
//! closed. Its vtables, its `'static` strings and perhaps its threads stay in use.
#![allow(unsafe_code)]

use super::log::PluginLog;
use crate::failure::{Failure, Result};
use libloading::os::unix::{Library, RTLD_LAZY, RTLD_LOCAL};
use plugin_api::loading::{AbiHeaderRef, Plugin, ROOT_SYMBOL, Refusal};
use std::collections::BTreeMap;
use std::error::Error as _;
use std::fs::File;
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};

/// The libraries that this process has loaded, by the sha256 of the file. Entries are never removed.
static LOADED: Mutex<BTreeMap<String, Plugin>> = Mutex::new(BTreeMap::new());

/// Loads a library into this process, or finds it when it is loaded already, under whatever name.
///
/// `name` is the plugin's name in the registry, under which it writes to the log.
pub fn load(name: &str, sha256: &str, copy: &Arc<File>) -> Result<Plugin> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(plugin) = loaded.get(sha256) {
        return Ok(*plugin);
    }
    let plugin = open(name, copy)?;
    plugin
        .init(Box::new(PluginLog::new(name)))
        .map_err(|why| Failure::from(why.context(format!("plugin `{name}` could not be introduced to the host"))))?;
    loaded.insert(sha256.to_owned(), plugin);
    Ok(plugin)
}

fn open(name: &str, copy: &Arc<File>) -> Result<Plugin> {
    let refused = |why: String| Failure::refused(format!("plugin `{name}` can't be loaded")).cause(why);
    // The linker remembers libraries by path: if this descriptor were closed, the next file with its number would be
    // mistaken for this library.
    std::mem::forget(copy.clone());
    let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
    // SAFETY: the constructors of an admitted plugin run here; see the head of this file.
    let library = unsafe { Library::open(Some(&path), RTLD_LAZY | RTLD_LOCAL) };
    // The path of the copy means nothing to users.
    let library = ManuallyDrop::new(library.map_err(|why| {
        // The linker's message is the source of an error whose own text says nothing.
        let told = why.source().map_or_else(|| why.to_string(), ToString::to_string);
        let why = told.replace(&path, "the file");
        let help = missing_library(&why).map(way_to);
        help.into_iter().fold(refused(why), Failure::help)
    })?);
    // SAFETY: under this name `abi_stable` keeps a static header. Its first bytes are a magic text that `upgrade`
    // checks, and the library is never closed, so the reference is good for ever.
    let header = unsafe { library.get::<AbiHeaderRef>(ROOT_SYMBOL) }.map(|symbol| *symbol);
    let header = header.map_err(|_| {
        refused("it carries a note, but not the symbol of a plugin".to_owned())
            .help("call `plugin_api::export_plugin!()` in the crate that becomes the `.so`, not in one it depends on")
    })?;
    let header = header.upgrade().map_err(|why| refused(why.to_string()))?;
    Plugin::open(header).map_err(|refusal| match refusal {
        Refusal::Unusable(why) => refused(why),
        Refusal::Layout { theirs, differences } => {
            let ours = plugin_api::WIRE;
            let message =
                format!("its boundary (wire {theirs}) is laid out differently from this host's (wire {ours})");
            let failure = differences.into_iter().fold(refused(message), Failure::cause);
            failure.help("rebuild it with a released `plugin-api` of the same wire")
        }
    })
}

/// The library that the linker could not find, from its message.
fn missing_library(why: &str) -> Option<&str> {
    let (before, _) = why.split_once(": cannot open shared object file")?;
    before.rsplit(' ').next().filter(|name| name.contains(".so"))
}

/// How to get a library that this machine lacks.
fn way_to(library: &str) -> String {
    let nvidia = ["libcuda.", "libcudart.", "libcublas", "libcurand.", "libnvrtc."];
    match nvidia.iter().any(|start| library.starts_with(start)) {
        true => format!(
            "it is built for NVIDIA GPUs, and `{library}` comes with their driver or with CUDA: is its folder in \
             LD_LIBRARY_PATH? For a machine without a GPU, build the plugin without `--features cuda`"
        ),
        false => format!("install the package with `{library}`, or put its folder into LD_LIBRARY_PATH"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_missing_is_named_with_its_origin() {
        let linker = |library: &str| format!("{library}: cannot open shared object file: No such file or directory");
        let check = |why: String, expected: &str| {
            let help = missing_library(&why).map(way_to).unwrap();
            assert!(help.contains(expected), "{help}");
        };
        check(linker("libcuda.so.1"), "`libcuda.so.1` comes with their driver");
        check(linker("libcublasLt.so.13"), "without `--features cuda`");
        check(linker("libfoo.so.2"), "install the package with `libfoo.so.2`");
        assert_eq!(missing_library("undefined symbol: foo"), None);
        assert_eq!(missing_library("the file: file too short"), None);
    }
}
