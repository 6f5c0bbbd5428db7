//! Plugins: from a file that the registry names to adapters that can be called, in this process or in a worker.
//!
//! The order matters: who could have written the file, what it says about itself, and its version are checked before
//! any of its code runs, and the checked bytes are the loaded ones.

pub mod elf;
mod loader;
mod log;
pub mod note;
mod restart;
pub mod trust;

pub use crate::log::{LogSink, set_log_sink};
pub use crate::process::WorkerControl;
pub(crate) use loader::load;
pub use note::Note;

use restart::{InProcess, Instance, Restarting};

use crate::failure::{Doing, Exit, Failure, Result};
use crate::process::{Recipe, Start, WorkerHandle};
use crate::registry::spec::{Isolation, PluginSpec};
use plugin_api::client::{EstimateClient, FilesClient};
use plugin_api::loading::{ESTIMATE, FILES, Plugin};
use plugin_api::{Adapter, AdapterNote, Code, Error, Estimate, Kind, Plan, Settings, TrainingEstimate, Workload};
use std::fs::File;
use std::sync::Arc;

/// A plugin that was checked and, when it lives in this process, loaded.
pub struct OpenPlugin {
    spec: PluginSpec,
    note: Note,
    admitted: trust::Admitted,
    /// None when each of its adapters gets a worker.
    here: Option<Plugin>,
}

/// An adapter, ready to be called.
pub struct OpenAdapter {
    /// Calls it. After a panic, or the death of its worker, the next call makes it again.
    pub adapter: Arc<dyn Adapter>,
    /// Its worker, when it lives in one.
    pub control: Option<Arc<dyn WorkerControl>>,
}

/// Checks a plugin as [`open`] does, but loads it nowhere and runs none of its code.
pub fn look(spec: &PluginSpec) -> Result<Note> {
    refuse_what_needs_a_worker(spec)?;
    trust::check(spec)?;
    let file = File::open(&spec.path);
    let file = file.or_fail(Exit::Missing, || format!("cannot open `{}`", spec.path.display()))?;
    note_of(spec, &file)
}

/// Checks a plugin and, unless its registry entry gives it workers, loads it.
pub fn open(spec: &PluginSpec) -> Result<Arc<OpenPlugin>> {
    refuse_what_needs_a_worker(spec)?;
    let admitted = trust::admit(spec)?;
    let note = note_of(spec, &admitted.copy)?;
    let here = match spec.isolation {
        Isolation::Process => None,
        Isolation::InProcess => Some(load(&spec.name, &admitted.sha256, &admitted.copy)?),
    };
    Ok(Arc::new(OpenPlugin {
        spec: spec.clone(),
        note,
        admitted,
        here,
    }))
}

/// Runs this process as a worker until the host is gone, and returns the exit code.
pub fn run_worker() -> i32 {
    crate::process::run(make_in_worker, set_log_sink)
}

fn make_in_worker(start: &Start, copy: &Arc<File>) -> plugin_api::Result<Arc<dyn Adapter>> {
    let plugin = load(&start.plugin, &start.sha256, copy).map_err(|failure| failure.error)?;
    let what = format!("{} `{}` of plugin `{}`", start.kind, start.adapter, start.plugin);
    let start = start.clone();
    let make = move || {
        let adapter = plugin.make_by_word(&start.kind, &start.adapter, &start.settings)?;
        Ok(Arc::new(InProcess::new(adapter)) as Arc<dyn Instance>)
    };
    Ok(Arc::new(Restarting::new(what, Box::new(make))?))
}

/// The note of a plugin that can be used here, as far as its file tells.
fn note_of(spec: &PluginSpec, file: &File) -> Result<Note> {
    let look = elf::look(file, &spec.path)?;
    let note = Note::of(&look, &spec.path)?;
    note.check_api()?;
    note.check_version(spec.version.as_deref())?;
    note::check_build(&look, &spec.path)?;
    if spec.isolation == Isolation::InProcess && note.panic != "unwind" {
        let message = format!("plugin `{}` was built with `panic = \"{}\"`", spec.name, note.panic);
        return Err(Failure::refused(message)
            .cause("its first panic would end the host")
            .help("give it `isolation = \"process\"`, or build it with `panic = \"unwind\"`"));
    }
    Ok(note)
}

fn refuse_what_needs_a_worker(spec: &PluginSpec) -> Result<()> {
    let given = match spec.isolation {
        Isolation::Process => return Ok(()),
        Isolation::InProcess if !spec.env.is_empty() => "env",
        Isolation::InProcess if spec.memory.is_some() => "memory",
        Isolation::InProcess => return Ok(()),
    };
    let message = format!(
        "plugin `{}` has `{given}`, which is only possible in a worker",
        spec.name
    );
    Err(Failure::usage(message).help(format!("give it `isolation = \"process\"`, or take `{given}` away")))
}

impl OpenPlugin {
    /// What its file says about it.
    pub fn note(&self) -> &Note {
        &self.note
    }

    /// What the plugin itself says about its adapters, if it lives in this process.
    pub fn about(&self) -> std::result::Result<Vec<AdapterNote>, String> {
        let plugin = self.here.ok_or("it doesn't live in this process")?;
        serde_json::from_str(&plugin.about()).map_err(|why| why.to_string())
    }

    /// The sha256 of its file.
    pub fn sha256(&self) -> &str {
        &self.admitted.sha256
    }

    /// The registry's entry it was opened by.
    pub fn spec(&self) -> &PluginSpec {
        &self.spec
    }

    /// Makes one of its adapters, by the name it has inside the plugin.
    pub fn make(&self, kind: Kind, name: &str, settings: &Settings) -> Result<OpenAdapter> {
        self.note.adapter(kind, name)?;
        self.make_by_word(kind.word(), name, settings)
    }

    /// The files of one of its tasks, by the name that the task has inside the plugin.
    pub fn files(&self, task: &str) -> Result<FilesClient> {
        self.note.task_files(task)?;
        let made = self.make_by_word(FILES, task, &Settings::default())?;
        Ok(FilesClient(made.adapter))
    }

    /// The memory that one of its models would take with these settings; none if the plugin doesn't say.
    pub fn estimate(&self, model: &str, settings: &Settings) -> Result<Option<Estimate>> {
        if !self.note.estimates(model) {
            return Ok(None);
        }
        let made = self.make_by_word(ESTIMATE, model, settings)?;
        let estimate = EstimateClient(made.adapter).estimate();
        let of = |error: Error| error.context(format!("cannot estimate the memory of model `{model}`"));
        Ok(Some(estimate.map_err(|error| Failure::from(of(error)))?))
    }

    /// The memory that training one of its models by this plan would take; none if the plugin doesn't say.
    pub fn training_estimate(
        &self,
        model: &str,
        settings: &Settings,
        plan: &Plan,
        work: &Workload,
    ) -> Result<Option<TrainingEstimate>> {
        if !self.note.estimates(model) {
            return Ok(None);
        }
        let made = self.make_by_word(ESTIMATE, model, settings)?;
        match EstimateClient(made.adapter).training(plan, work) {
            Ok(estimate) => Ok(Some(estimate)),
            Err(error) if error.code == Code::UNSUPPORTED => Ok(None),
            Err(error) => Err(error
                .context(format!("cannot estimate the memory of training model `{model}`"))
                .into()),
        }
    }

    fn make_by_word(&self, kind: &'static str, name: &str, settings: &Settings) -> Result<OpenAdapter> {
        let what = format!("{kind} `{name}` of plugin `{}`", self.spec.name);
        let failed = |error: Error| Failure::from(error.context(format!("cannot make {what}")));
        let adapter = match self.here {
            Some(plugin) => {
                let (name, settings) = (name.to_owned(), settings.clone());
                let make = move || {
                    let adapter = plugin.make_by_word(kind, &name, &settings)?;
                    Ok(Arc::new(InProcess::new(adapter)) as Arc<dyn Instance>)
                };
                Restarting::new(what.clone(), Box::new(make))
            }
            None => {
                let recipe = Recipe {
                    spec: self.spec.clone(),
                    copy: self.admitted.copy.clone(),
                    sha256: self.admitted.sha256.clone(),
                    kind,
                    adapter: name.to_owned(),
                    settings: settings.clone(),
                };
                let make = move || Ok(Arc::new(WorkerHandle::start(&recipe)?) as Arc<dyn Instance>);
                Restarting::new(what.clone(), Box::new(make))
            }
        };
        let adapter = Arc::new(adapter.map_err(failed)?);
        Ok(OpenAdapter {
            adapter: adapter.clone(),
            control: self.here.is_none().then_some(adapter as Arc<dyn WorkerControl>),
        })
    }
}
