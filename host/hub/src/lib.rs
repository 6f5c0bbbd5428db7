//! Weights and data sets from the hub, into the cache that Python's `huggingface_hub` uses.
//!
//! [`Hub::snapshot`] gives a folder with the files of one commit of a repository: from the cache if they are there,
//! from the network if not. The layout of the cache is the one that Python reads and writes, down to the lock files, so
//! that each finds what the other downloaded.
//!
//! What a newcomer would question: this is a separate client on `ureq`, not the `hf-hub` crate. That crate's 1.0 brings
//! an async runtime, a second HTTP stack and an upload protocol where one GET per file is enough, and starts an
//! interrupted file from the beginning; its 0.5 checks no hash. Neither stops in the middle of a file when asked to.
//!
//! One request lists a commit with the hash and the size of each file; each file is then one GET (with
//! redirects followed here, because the token must stay with the host it is meant for), appended to
//! `blobs/HASH.incomplete`, checked, and renamed. Stopping at any instant leaves a partial file that the
//! next pull goes on from.

mod client;
mod download;
mod error;
mod fault;
mod gguf;
mod id;
mod kind;
mod layout;
mod listing;
mod names;
mod settings;
mod snapshot;
#[cfg(test)]
mod tests;

use std::sync::atomic::AtomicBool;

use client::Client;
use layout::Repo;
use listing::{Listing, Patterns};

pub use error::HubError;
pub use fault::HubFault;
pub use id::HubId;
pub use kind::Kind;
pub use settings::{Settings, Token};
pub use snapshot::{Progress, Snapshot};

/// The hub, with its cache on this machine.
#[derive(Debug)]
pub struct Hub {
    settings: Settings,
    client: Client,
}

impl Hub {
    /// The hub as the environment names it: `HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME` and the others that Python honours.
    ///
    /// `offline` is the flag `--offline`; `HF_HUB_OFFLINE` has the same effect.
    pub fn from_env(offline: bool) -> Result<Self, HubFault> {
        let mut settings = Settings::from_variables(|name| std::env::var(name).ok())?;
        settings.offline |= offline;
        Self::new(settings)
    }

    pub fn new(settings: Settings) -> Result<Self, HubFault> {
        let client = Client::new(&settings)?;
        Ok(Hub { settings, client })
    }

    /// The files that the patterns choose: from the cache if they are all there, else pulled.
    ///
    /// A branch stays as it was when it was last pulled; [`Hub::pull`] asks the hub for the newest commit.
    pub fn snapshot(
        &self,
        id: &HubId,
        patterns: &[&str],
        progress: &mut dyn FnMut(Progress<'_>),
        stop: &AtomicBool,
    ) -> Result<Snapshot, HubError> {
        match self.cached(id, patterns) {
            Some(snapshot) => Ok(snapshot),
            None => self.pull(id, patterns, progress, stop),
        }
    }

    /// The files that the patterns choose, if they are all in the cache. Never touches the network.
    pub fn cached(&self, id: &HubId, patterns: &[&str]) -> Option<Snapshot> {
        self.look_up(id, patterns).ok().flatten()
    }

    fn look_up(&self, id: &HubId, patterns: &[&str]) -> Result<Option<Snapshot>, HubFault> {
        let repo = Repo::new(&self.settings.cache, id);
        let patterns = Patterns::new(patterns).with_gguf(id.file());
        layout::cached(&repo, id, &patterns, self.settings.offline)
    }

    /// Asks the hub which commit the revision names, and fetches its missing files.
    ///
    /// Patterns match whole file names as in a shell, except that `*` crosses folders; one that starts
    /// with `!` leaves files out; none at all means every file.
    ///
    /// `stop` is checked between blocks of a file, so stopping takes at most as long as the wait for a silent server,
    /// 15 s.
    pub fn pull(
        &self,
        id: &HubId,
        patterns: &[&str],
        progress: &mut dyn FnMut(Progress<'_>),
        stop: &AtomicBool,
    ) -> Result<Snapshot, HubError> {
        let fail = |fault| HubError {
            id: Box::new(id.clone()),
            fault,
        };
        if self.settings.offline {
            let cache = self.settings.cache.clone();
            let found = self.look_up(id, patterns).map_err(fail)?;
            return found.ok_or_else(|| fail(HubFault::Offline { cache }));
        }
        if id.is_pinned()
            && let Some(snapshot) = self.cached(id, patterns)
        {
            return Ok(snapshot);
        }
        let repo = Repo::new(&self.settings.cache, id);
        let patterns = Patterns::new(patterns).with_gguf(id.file());
        self.pull_missing(id, &repo, &patterns, progress, stop).map_err(fail)
    }

    fn pull_missing(
        &self,
        id: &HubId,
        repo: &Repo,
        patterns: &Patterns,
        progress: &mut dyn FnMut(Progress<'_>),
        stop: &AtomicBool,
    ) -> Result<Snapshot, HubFault> {
        let listing = Listing::fetch(&self.client, id, stop)?;
        let wanted = listing.choose(patterns)?;
        layout::write_listing(repo, &listing)?;
        download::fetch_all(&self.client, id, repo, &listing.commit, &wanted, progress, stop)?;
        // Written last, so that a branch never points to a commit without files.
        layout::write_ref(repo, id.revision(), &listing.commit)?;
        Ok(Snapshot {
            name: id.name().to_owned(),
            folder: repo.snapshot(&listing.commit),
            files: wanted.iter().map(|file| file.name.clone()).collect(),
            commit: listing.commit,
        })
    }
}
