//! Calls across the boundary, and what comes before the first of them.

use super::{Spread, repeat};
use crate::failure::{Doing, Exit, Failure, Result};
use crate::plugin::{self, Note, elf, note, trust};
use crate::registry::spec::{Isolation, PluginSpec};
use plugin_api::client::ModelClient;
use plugin_api::{Clip, Kind, Message, NoCallbacks, Part, Prompt, Settings};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Calls of one kind.
#[derive(Debug, Clone)]
pub struct Call {
    pub isolation: Isolation,
    /// The bytes of sound that go along.
    pub audio: usize,
    pub times: Spread,
}

/// What happens before the first call.
#[derive(Debug, Clone)]
pub struct Opening {
    /// The size of the plugin's file.
    pub bytes: u64,
    /// Hashing it while it is copied into sealed memory.
    pub admit: Spread,
    /// Reading its note and asking whether it can work here; none of its code runs.
    pub look: Spread,
    /// `dlopen`, the check of the boundary's layout and the introduction, in this process.
    pub load: Spread,
    /// From nothing to a worker whose model is made.
    pub worker: Spread,
}

/// No sound, a kilobyte and a megabyte.
const AUDIO: [usize; 3] = [0, 1 << 10, 1 << 20];
/// More clips than the two ends of a worker cache, so that each call's clip is transferred.
const CLIPS: usize = 80;
const MOST_CALLS: usize = 20_000;
const LEAST_CALLS: usize = 200;
const TIME: Duration = Duration::from_secs(2);
const WARM_UP: usize = 100;

fn spec(file: &Path, isolation: Isolation) -> PluginSpec {
    PluginSpec {
        name: "echo".to_owned(),
        path: file.to_owned(),
        isolation,
        named_in: PathBuf::from("host bench"),
        ..PluginSpec::default()
    }
}

/// Calls of the model, in this process and in a worker.
pub fn calls(file: &Path) -> Result<Vec<Call>> {
    let mut calls = Vec::new();
    for isolation in [Isolation::InProcess, Isolation::Process] {
        let plugin = plugin::open(&spec(file, isolation))?;
        let made = plugin.make(Kind::Model, "echo", &Settings::default())?;
        let model = ModelClient(made.adapter);
        for audio in AUDIO {
            let prompts: Vec<Prompt> = (0..CLIPS).map(|number| prompt(audio, number)).collect();
            let mut calls_made = 0;
            let mut ask = || {
                calls_made += 1;
                match model.reply(&prompts[calls_made % CLIPS], &NoCallbacks)?.options.len() {
                    1 => Ok(()),
                    got => Err(Failure::refused(format!("the echo scored {got} options, expected 1"))),
                }
            };
            for _ in 0..WARM_UP {
                ask()?;
            }
            let times = repeat(LEAST_CALLS, MOST_CALLS, TIME, ask)?;
            calls.push(Call {
                isolation,
                audio,
                times,
            });
        }
    }
    Ok(calls)
}

/// A choice, since the echo model sums the samples of clips that it repeats, which would be measured too. Each number
/// has its own clip.
fn prompt(audio: usize, number: usize) -> Prompt {
    let mut message = Message::user("Is the light on?");
    let samples = audio / size_of::<f32>();
    let mut clips = Vec::new();
    if samples > 0 {
        message.parts.push(Part::clip(0));
        clips.push(Clip::new(16_000, vec![number as f32 / CLIPS as f32; samples]));
    }
    let mut prompt = Prompt::new([message]).choose([" yes"]);
    prompt.clips = clips;
    prompt
}

/// Opens the plugin step by step. `scratch` receives copies of it.
pub fn opening(file: &Path, scratch: &Path) -> Result<Opening> {
    let here = spec(file, Isolation::InProcess);
    let admitted = trust::admit(&here)?;
    let bytes = admitted
        .copy
        .metadata()
        .or_fail(Exit::Missing, || format!("cannot read `{}`", file.display()))?
        .len();
    let admit = repeat(20, 100, TIME, || trust::admit(&here).map(drop))?;
    let look = repeat(20, 200, TIME, || {
        let look = elf::look(&admitted.copy, &here.path)?;
        let note = Note::of(&look, &here.path)?;
        note.check_api()?;
        note::check_build(&look, &here.path)
    })?;
    let load = load(&here, scratch)?;
    let apart = plugin::open(&spec(file, Isolation::Process))?;
    let worker = repeat(20, 50, TIME, || {
        apart.make(Kind::Model, "echo", &Settings::default()).map(drop)
    })?;
    Ok(Opening {
        bytes,
        admit,
        look,
        load,
        worker,
    })
}

/// A process loads a library only once. So each time the file is different: the same library with some bytes appended.
fn load(original: &PluginSpec, scratch: &Path) -> Result<Spread> {
    let mut times = Vec::new();
    for number in 1..=20 {
        let copy = scratch.join(format!("copy-{number}.so"));
        let copied = std::fs::copy(&original.path, &copy)
            .and_then(|_| OpenOptions::new().append(true).open(&copy))
            .and_then(|mut file| file.write_all(&vec![0; number]));
        copied.map_err(|why| Failure::unwritable(&copy, why))?;
        let admitted = trust::admit(&spec(&copy, Isolation::InProcess))?;
        let before = Instant::now();
        plugin::load("echo", &admitted.sha256, &admitted.copy)?;
        times.push(before.elapsed());
    }
    Ok(Spread::of(times))
}
