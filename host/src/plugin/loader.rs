//! The one place where a plugin's code enters this process, and the one file of the host with `unsafe`.
//!
//! Opening a shared library runs its constructors, and no check can come before that which makes it safe: the file was
//! admitted by [`super::trust`], and beyond that a plugin is trusted like any other code of this process.
//! A library is never closed. Its vtables, its `'static` strings and perhaps its threads stay in use.
#![allow(unsafe_code)]

use super::log::PluginLog;
use crate::failure::{Failure, Result};
use libloading::os::unix::{Library, RTLD_LAZY, RTLD_LOCAL};
use plugin_api::loading::{AbiHeaderRef, Plugin, ROOT_SYMBOL, Refusal};
use std::collections::BTreeMap;
use std::fs::File;
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};

/// What this process has loaded, by the sha256 of the file. An entry is never taken out.
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
    // The linker remembers libraries by path. Were this descriptor ever closed, the next file of its number would be
    // taken for this library.
    std::mem::forget(copy.clone());
    let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
    // SAFETY: the constructors of an admitted plugin run here; see the head of this file.
    let library = unsafe { Library::open(Some(&path), RTLD_LAZY | RTLD_LOCAL) };
    // The path of the copy says nothing to anybody.
    let library = ManuallyDrop::new(library.map_err(|why| refused(why.to_string().replace(&path, "the file")))?);
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
            let ours = plugin_api::VERSION;
            let message =
                format!("its boundary (plugin-api {theirs}) is laid out differently from this host's ({ours})");
            let failure = differences.into_iter().fold(refused(message), Failure::cause);
            failure.help("rebuild it with a released `plugin-api` of the same major version")
        }
    })
}
