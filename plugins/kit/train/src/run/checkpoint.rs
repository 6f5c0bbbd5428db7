//! Checkpoints: written under another name, synced, then renamed, so that each folder that is there is whole.

use super::settings::Settings;
use super::state::{Facts, State};
use super::student::Student;
use crate::Engine;
use plugin_api::{Code, Error, Result};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

const PREFIX: &str = "checkpoint-";
const STATES: &str = "optimizer.safetensors";
const PLACE: &str = "trainer_state.json";
const SETTINGS: &str = "run.toml";
/// The folder of a run's result.
pub const FINAL: &str = "final_model";
/// The prefix of a folder that is being written or removed.
const UNFINISHED: &str = ".unfinished-";

/// A checkpoint that was read.
pub struct Found {
    pub folder: PathBuf,
    pub state: State,
    pub settings: Map<String, Value>,
}

/// The folder of the checkpoint after this many steps.
pub fn folder(out: &Path, step: u64) -> PathBuf {
    out.join(format!("{PREFIX}{step}"))
}

/// The steps after which there are checkpoints in a folder, in their order.
pub fn steps(out: &Path) -> Vec<u64> {
    let entries = fs::read_dir(out).into_iter().flatten().flatten();
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.strip_prefix(PREFIX)?.parse().ok();
    let mut steps: Vec<u64> = entries.filter_map(number).collect();
    steps.sort_unstable();
    steps
}

/// The newest checkpoint of a folder. Checkpoints of other programs are ignored: their states are not ours.
pub fn newest(out: &Path) -> Option<PathBuf> {
    let all = steps(out).into_iter().rev().map(|step| folder(out, step));
    all.into_iter().find(|folder| folder.join(SETTINGS).is_file())
}

/// The way out where a checkpoint is broken.
const REMOVE: &str = "remove the folder to resume from the previous checkpoint";

fn cannot_resume(folder: &Path) -> String {
    format!("cannot resume from `{}`", folder.display())
}

/// Reads a checkpoint's position of the run.
pub fn read(folder: &Path) -> Result<Found> {
    let broken = |file: &str, why: String| {
        let error = Error::new(Code::DATA, cannot_resume(folder));
        error.cause(format!("`{file}`: {why}")).help(REMOVE)
    };
    let text = |file: &str| fs::read_to_string(folder.join(file)).map_err(|why| broken(file, why.to_string()));
    let place: Value = serde_json::from_str(&text(PLACE)?).map_err(|why| broken(PLACE, why.to_string()))?;
    let settings: Map<String, Value> =
        toml::from_str(&text(SETTINGS)?).map_err(|why| broken(SETTINGS, why.to_string()))?;
    let state =
        State::from_json(&place).ok_or_else(|| broken(PLACE, "it lacks data that resuming needs".to_owned()))?;
    Ok(Found {
        folder: folder.to_owned(),
        state,
        settings,
    })
}

impl Found {
    /// False for a finished model, which is kept without optimiser states.
    pub fn has_states(&self) -> bool {
        self.folder.join(STATES).is_file()
    }

    /// Loads weights and states.
    pub fn restore(&self, engine: &mut dyn Engine) -> Result<()> {
        let restored = engine.restore(&self.folder, &self.folder.join(STATES));
        restored.map_err(|mut error| {
            error.help.get_or_insert_with(|| REMOVE.to_owned());
            error.context(cannot_resume(&self.folder))
        })
    }

    /// An error that names what has changed since the checkpoint was written.
    pub fn check(&self, settings: &Settings) -> Result<()> {
        let now = as_toml_has_it(&settings.identity());
        let mut others = Vec::new();
        differences("", &self.settings, &now, &mut others);
        if others.is_empty() || settings.run.resume_changed {
            return Ok(());
        }
        let error = Error::new(
            Code::SETTINGS,
            format!("`{}` belongs to another run", self.folder.display()),
        );
        let error = others.into_iter().fold(error, Error::cause);
        Err(error.help("give the same settings and rows, another `--out`, or resume anyway with `--resume-changed`"))
    }
}

/// What is another in two maps of settings, one line each. Settings inside of others have their names, and a dot, in front.
fn differences(before: &str, was: &Map<String, Value>, is: &Map<String, Value>, all: &mut Vec<String>) {
    let shown = |value: Option<&Value>| value.map_or("nothing".to_owned(), Value::to_string);
    let keys: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    for key in keys {
        let name = format!("{before}{key}");
        match (was.get(key), is.get(key)) {
            (was, is) if was == is => {}
            (Some(Value::Object(was)), Some(Value::Object(is))) => differences(&format!("{name}."), was, is, all),
            (was, is) => all.push(match name.strip_prefix("model_identity.") {
                None if name == "rows_hash" => "the rows differ".to_owned(),
                Some("sources.weights.content") => "the model's weights differ".to_owned(),
                Some(of_model) => format!("the model's `{of_model}` was {}, and is {}", shown(was), shown(is)),
                None => format!("`{name}` was {}, and is {}", shown(was), shown(is)),
            }),
        }
    }
}

/// The settings after a round trip through TOML, which has no null and writes integers differently.
fn as_toml_has_it(settings: &Map<String, Value>) -> Map<String, Value> {
    let text = toml::to_string(&without_nulls(settings)).unwrap_or_default();
    toml::from_str(&text).unwrap_or_default()
}

fn without_nulls(map: &Map<String, Value>) -> Map<String, Value> {
    fn cleaned(value: &Value) -> Option<Value> {
        match value {
            Value::Null => None,
            Value::Object(map) => Some(Value::Object(without_nulls(map))),
            Value::Array(list) => Some(list.iter().filter_map(cleaned).collect()),
            other => Some(other.clone()),
        }
    }
    let entries = map
        .iter()
        .filter_map(|(key, value)| Some((key.clone(), cleaned(value)?)));
    entries.collect()
}

/// Writes a checkpoint after this many steps.
pub fn write(
    engine: &dyn Engine,
    student: &dyn Student,
    settings: &Settings,
    state: &State,
    facts: &Facts,
) -> Result<PathBuf> {
    let target = folder(&settings.plan.out, state.step);
    fill(engine, student, settings, state, facts, &target, true)?;
    Ok(target)
}

fn fill(
    engine: &dyn Engine,
    student: &dyn Student,
    settings: &Settings,
    state: &State,
    facts: &Facts,
    target: &Path,
    with_states: bool,
) -> Result<()> {
    let out = &settings.plan.out;
    let best = state
        .best
        .as_ref()
        .map(|best| folder(out, best.step).display().to_string());
    let place = state.to_json(facts, best);
    let place = serde_json::to_string_pretty(&place).map_err(Error::from)? + "\n";
    let kept = toml::to_string(&without_nulls(&settings.identity())).map_err(Error::from)?;
    // Whatever fails, the run is unchanged, and its last checkpoint remains.
    let unsaved = |error: Error| {
        let code = if error.code == Code::OTHER {
            Code::UNWRITABLE
        } else {
            error.code
        };
        error.context(format!("cannot save `{}`", target.display())).code(code)
    };
    whole(target, |folder| {
        engine.save(folder).map_err(unsaved)?;
        if with_states {
            engine.save_state(&folder.join(STATES)).map_err(unsaved)?;
        }
        copy_companions(student, folder)?;
        put(&folder.join(PLACE), place.as_bytes())?;
        put(&folder.join(SETTINGS), kept.as_bytes())
    })
}

/// Writes the model and the position of the run, without optimiser states.
pub fn write_model(
    engine: &dyn Engine,
    student: &dyn Student,
    settings: &Settings,
    state: &State,
    facts: &Facts,
) -> Result<PathBuf> {
    let target = settings.plan.out.join(FINAL);
    fill(engine, student, settings, state, facts, &target, false)?;
    Ok(target)
}

fn copy_companions(student: &dyn Student, folder: &Path) -> Result<()> {
    for file in student.companions() {
        let Some(name) = file.file_name() else { continue };
        let copy = folder.join(name);
        if !copy.exists() {
            let bytes = fs::read(&file).map_err(|why| unreadable(&file, &why))?;
            put(&copy, &bytes)?;
        }
    }
    Ok(())
}

/// Fills a folder under another name, and renames it when it is completely on disk. Until then, the previous folder
/// remains.
fn whole(target: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let parent = target.parent().unwrap_or(Path::new("."));
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let making = parent.join(format!("{UNFINISHED}{name}"));
    let attempt = || {
        remove(&making)?;
        fs::create_dir_all(&making).map_err(|why| unwritable(&making, &why))?;
        fill(&making)?;
        sync(&making)?;
        if target.exists() {
            let former = parent.join(format!("{UNFINISHED}former-{name}"));
            remove(&former)?;
            fs::rename(target, &former).map_err(|why| unwritable(target, &why))?;
            fs::rename(&making, target).map_err(|why| unwritable(target, &why))?;
            sync(parent)?;
            return remove(&former);
        }
        fs::rename(&making, target).map_err(|why| unwritable(target, &why))?;
        sync(parent)
    };
    attempt().inspect_err(|_| drop(fs::remove_dir_all(&making)))
}

/// Removes what a killed run left half written or half removed.
pub fn clean(out: &Path) -> Result<()> {
    for entry in fs::read_dir(out).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a checkpoint in such a way that no incomplete one keeps its name.
pub fn discard(out: &Path, step: u64) -> Result<()> {
    let leaving = out.join(format!("{UNFINISHED}removed-{step}"));
    remove(&leaving)?;
    let folder = folder(out, step);
    match fs::rename(&folder, &leaving) {
        Ok(()) => remove(&leaving),
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(why) => Err(unwritable(&folder, &why)),
    }
}

/// The checkpoints to remove so that `limit` remain: the oldest first, never the newest or the best.
pub fn surplus(steps: &[u64], best: Option<u64>, limit: usize) -> Vec<u64> {
    if limit == 0 || steps.len() <= limit {
        return Vec::new();
    }
    let newest = steps.last().copied();
    // With a limit of one, a best checkpoint that is not the newest is kept as well.
    let limit = if limit == 1 && best.is_some_and(|best| Some(best) != newest && steps.contains(&best)) {
        2
    } else {
        limit
    };
    let may_go = steps
        .iter()
        .copied()
        .filter(|step| Some(*step) != newest && Some(*step) != best);
    may_go.take(steps.len().saturating_sub(limit)).collect()
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(why) if why.kind() != std::io::ErrorKind::NotFound => Err(unwritable(folder, &why)),
        _ => Ok(()),
    }
}

/// Writes a file and waits until it is on disk.
fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = File::create(path).and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    written.map_err(|why| unwritable(path, &why))
}

fn sync(folder: &Path) -> Result<()> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|why| unwritable(folder, &why))
}

fn unreadable(path: &Path, why: &std::io::Error) -> Error {
    Error::new(Code::MISSING, format!("cannot read `{}`", path.display())).cause(why.to_string())
}

/// The error for a file that cannot be written.
pub fn unwritable(path: &Path, why: &std::io::Error) -> Error {
    Error::new(Code::UNWRITABLE, format!("cannot write `{}`", path.display())).cause(why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_differs_is_named_and_nothing_beside_it() {
        let of = |content: &str, dtype: &str, r: u32| {
            let model = json!({ "settings": { "dtype": dtype, "quant": "none" }, "sources": { "weights": { "content": content } } });
            let all = json!({ "model_identity": model, "rows_hash": content, "r": r });
            all.as_object().unwrap().clone()
        };
        let mut all = Vec::new();
        differences("", &of("a", "auto", 4), &of("b", "fp32", 4), &mut all);
        assert_eq!(
            all,
            [
                "the model's `settings.dtype` was \"auto\", and is \"fp32\"",
                "the model's weights differ",
                "the rows differ"
            ]
        );
        all.clear();
        differences("", &of("a", "auto", 4), &of("a", "auto", 8), &mut all);
        assert_eq!(all, ["`r` was 4, and is 8"]);
    }

    #[test]
    fn the_newest_and_the_best_never_go() {
        assert_eq!(surplus(&[1, 2, 3], None, 2), [1]);
        assert_eq!(surplus(&[1, 2, 3], Some(1), 2), [2]);
        assert_eq!(surplus(&[1, 2, 3], Some(1), 1), [2]);
        assert_eq!(surplus(&[1, 2, 3], Some(3), 1), [1, 2]);
        assert_eq!(surplus(&[1, 2, 3], None, 1), [1, 2]);
        assert!(surplus(&[1, 2, 3], None, 0).is_empty());
    }

    #[test]
    fn a_folder_that_could_not_be_filled_leaves_the_former_one() {
        let out = tempfile::tempdir().unwrap();
        let target = out.path().join("checkpoint-1");
        whole(&target, |folder| put(&folder.join("a"), b"first")).unwrap();
        let failed = whole(&target, |folder| {
            put(&folder.join("a"), b"sec")?;
            Err(Error::msg("the disk is full"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read(target.join("a")).unwrap(), b"first");
        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 1, "nothing unfinished stays");
        whole(&target, |folder| put(&folder.join("a"), b"second")).unwrap();
        assert_eq!(fs::read(target.join("a")).unwrap(), b"second");
        assert_eq!(steps(out.path()), [1]);
    }
}
