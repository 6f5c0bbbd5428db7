//! A model in any Python environment: a script with one class, in an interpreter of the user's choice.
//!
//! The interpreter is a child process, so that environments with conflicting versions work side by side, and a crash
//! costs only the samples in flight. It communicates over an inherited socket, never over its standard streams, which
//! the script's libraries may write to.

mod child;
mod frame;

use child::{HOST_PLUGIN, Python, Script, absolute, failure};
use plugin_api::{
    Call, Code, Error, Job, Jobs, Model, ModelCard, Prompt, Pulled, Reply, Result, Settings, Want, export_plugin,
    register_model,
};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

register_model!("python", "A model in a Python environment of your own: a script with one class", load, {
    script: path required, "the script: a file with one class that derives from `host_plugin.Model`";
    python: text = "python3", "the interpreter of the environment, such as `/envs/x/bin/python`";
    weights: weights, "folder or hub id of a checkpoint, for scripts that read one";
    load_seconds: integer = 1800, "how long the script may take to load its model";
    others: open, "settings that the script declares in `options`";
});
export_plugin!();

/// How long the script may take to notice a stop before it is ended.
const STOP: Duration = Duration::from_secs(4);
/// What an answer may take beyond its deadline before the interpreter is ended.
const GRACE: Duration = Duration::from_millis(300);

struct Interpreter {
    script: Script,
    card: ModelCard,
    python: Option<Python>,
}

fn load(settings: &Settings) -> Result<Interpreter> {
    const OWN: [&str; 4] = ["script", "python", "load_seconds", "others"];
    let theirs: serde_json::Map<String, Value> = settings
        .0
        .iter()
        .filter(|(name, value)| !OWN.contains(&name.as_str()) && !value.is_null())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let script = Script {
        python: settings.or("python", "python3".to_owned())?,
        script: absolute(&settings.need::<PathBuf>("script")?),
        settings: theirs.into(),
        patience: Duration::from_secs(settings.or("load_seconds", 1800)?),
    };
    let python = script.start(&|| false)?;
    Ok(Interpreter {
        card: card(&script, &python)?,
        script,
        python: Some(python),
    })
}

/// The script's card, with its environment.
fn card(script: &Script, python: &Python) -> Result<ModelCard> {
    let shown = script.script.display();
    let read = serde_json::from_value::<ModelCard>(python.card.clone());
    let mut card = read
        .map_err(|why| Error::new(Code::DATA, format!("the card of `{shown}` can't be used")).cause(why.to_string()))?;
    if card.name.is_empty() {
        card.name = script
            .script
            .file_stem()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
    }
    if card.hears() && card.sample_rate.is_none() {
        card.sample_rate = Some(16_000);
    }
    let engine =
        json!({ "kind": "python", "interpreter": script.python, "script": script.script, "versions": python.versions });
    card.other.insert("engine".to_owned(), engine);
    Ok(card)
}

/// A job in progress in the script.
struct Flight<'a> {
    call: Call<'a>,
    deadline: Option<Instant>,
    options: usize,
}

impl Interpreter {
    fn python(&mut self, stop: &dyn Fn() -> bool) -> Result<&mut Python> {
        if self.python.is_none() {
            self.python = Some(self.script.start(stop)?);
        }
        self.python
            .as_mut()
            .ok_or_else(|| Error::new(Code::DIED, "the interpreter is gone"))
    }

    /// Lets the script pull from `source` until it is done.
    fn run(&mut self, source: &mut dyn Source) -> Result<()> {
        let ran = self.run_once(source);
        if ran.is_err() {
            // The interpreter's state is unknown, so it is ended, and the next call starts another.
            self.python = None;
        }
        ran
    }

    fn run_once(&mut self, source: &mut dyn Source) -> Result<()> {
        let python = self.python(&|| source.stopped())?;
        python.send(&json!({ "serve": true }), &[])?;
        // A pull that found no prompt yet, and until when it waits.
        let mut pulling: Option<Instant> = None;
        let mut stopped: Option<Instant> = None;
        loop {
            if stopped.is_none() && source.stopped() {
                stopped = Some(Instant::now());
                python.send(&json!({ "stop": true }), &[])?;
            }
            if stopped.is_some_and(|since| since.elapsed() > STOP) {
                return Err(Error::new(
                    Code::CANCELLED,
                    "the script did not stop when asked to, so it was ended",
                ));
            }
            if let Some(error) = source.overdue() {
                return Err(error);
            }
            if let Some(until) = pulling {
                match source.pull(Duration::from_millis(20)) {
                    Next::Job(head, clips) => {
                        python.send(&head, &clips)?;
                        pulling = None;
                    }
                    Next::End => {
                        python.send(&json!({ "end": true }), &[])?;
                        pulling = None;
                    }
                    Next::Later if Instant::now() >= until => {
                        python.send(&json!({ "later": true }), &[])?;
                        pulling = None;
                    }
                    Next::Later => {}
                }
                if pulling.is_some() {
                    continue;
                }
            }
            let Some(frame) = python.next(Duration::from_millis(50))? else {
                continue;
            };
            if frame.get("want").is_some() {
                pulling = Some(Instant::now() + Duration::from_millis(frame["wait_ms"].as_u64().unwrap_or(0)));
            } else if frame.get("served").is_some() {
                return match frame["served"] == true {
                    true => Ok(()),
                    false => Err(failure(&frame)),
                };
            } else {
                source.take(&frame);
            }
        }
    }
}

/// Where the script pulls prompts from.
trait Source {
    fn pull(&mut self, wait: Duration) -> Next;
    /// A token, an answer or a failure of a job.
    fn take(&mut self, frame: &Value);
    fn stopped(&self) -> bool;
    /// Set when an answer is overdue.
    fn overdue(&self) -> Option<Error>;
}

enum Next {
    Job(Value, Vec<plugin_api::Clip>),
    Later,
    End,
}

/// A job in the form that the script gets.
fn head(id: u64, prompt: &Prompt) -> Value {
    let clips: Vec<Value> = prompt
        .clips
        .iter()
        .map(|clip| json!({ "rate": clip.rate, "channels": clip.channels, "samples": clip.samples().len() }))
        .collect();
    json!({ "job": id, "prompt": prompt, "clips": clips })
}

fn options_of(prompt: &Prompt) -> usize {
    match &prompt.want {
        Want::Choice { options } => options.len(),
        _ => 0,
    }
}

/// The outcome of the job that a frame ends.
fn outcome(frame: &Value, options: usize) -> Result<Reply> {
    if frame.get("failed").is_some() {
        return Err(failure(frame));
    }
    let read = serde_json::from_value::<Reply>(frame["reply"].clone());
    let mut reply =
        read.map_err(|why| Error::new(Code::DATA, "the script's reply can't be used").cause(why.to_string()))?;
    if reply.options.len() != options {
        return Err(Error::new(
            Code::DATA,
            format!("the script scored {} options of {options}", reply.options.len()),
        ));
    }
    if reply.options.iter().any(|option| option.loglik.is_nan()) {
        reply.flags.push("nan-logits".to_owned());
    }
    Ok(reply)
}

struct Served<'a, 'b> {
    jobs: &'b mut Jobs<'a>,
    flights: HashMap<u64, Flight<'a>>,
}

impl Source for Served<'_, '_> {
    fn pull(&mut self, wait: Duration) -> Next {
        match self.jobs.poll(wait) {
            Pulled::Job(job) => {
                let call = self.jobs.call(&job);
                let Job { id, prompt, deadline } = *job;
                self.flights.insert(
                    id,
                    Flight {
                        call,
                        deadline,
                        options: options_of(&prompt),
                    },
                );
                Next::Job(head(id, &prompt), prompt.clips)
            }
            Pulled::Later => Next::Later,
            Pulled::End => Next::End,
        }
    }

    fn take(&mut self, frame: &Value) {
        if let Some(flight) = frame["token"].as_u64().and_then(|job| self.flights.get_mut(&job)) {
            flight.call.token(frame["text"].as_str().unwrap_or_default());
            return;
        }
        let job = frame["done"].as_u64().or_else(|| frame["failed"].as_u64());
        if let Some((job, flight)) = job.and_then(|job| Some((job, self.flights.remove(&job)?))) {
            self.jobs.done(job, outcome(frame, flight.options));
        }
    }

    fn stopped(&self) -> bool {
        self.jobs.stop_asked()
    }

    fn overdue(&self) -> Option<Error> {
        let late = self.flights.values().any(|flight| {
            flight
                .deadline
                .is_some_and(|deadline| Instant::now() > deadline + GRACE)
        });
        late.then(|| {
            Error::new(
                Code::DEADLINE,
                "the script gave no answer within the deadline, so it was ended",
            )
        })
    }
}

/// One prompt.
struct Single<'a, 'b, 'c> {
    prompt: Option<&'b Prompt>,
    options: usize,
    call: &'c mut Call<'a>,
    came: Option<Result<Reply>>,
    refused: bool,
}

impl Source for Single<'_, '_, '_> {
    fn pull(&mut self, _wait: Duration) -> Next {
        match self.prompt.take() {
            Some(prompt) => Next::Job(head(0, prompt), prompt.clips.clone()),
            None => Next::End,
        }
    }

    fn take(&mut self, frame: &Value) {
        if frame.get("token").is_some() {
            self.refused |= !self.call.token(frame["text"].as_str().unwrap_or_default());
        } else {
            self.came = Some(outcome(frame, self.options));
        }
    }

    fn stopped(&self) -> bool {
        self.refused || self.call.stop_asked()
    }

    fn overdue(&self) -> Option<Error> {
        None
    }
}

impl Model for Interpreter {
    fn card(&self) -> ModelCard {
        self.card.clone()
    }

    fn reply(&mut self, prompt: &Prompt, call: &mut Call) -> Result<Reply> {
        let mut single = Single {
            options: options_of(prompt),
            prompt: Some(prompt),
            call,
            came: None,
            refused: false,
        };
        let ran = self.run(&mut single);
        match single.came {
            Some(came) => came,
            None => {
                ran?;
                Err(Error::msg("the script ended without answering the prompt"))
            }
        }
    }

    fn serve(&mut self, jobs: &mut Jobs) -> Result<()> {
        let mut served = Served {
            jobs,
            flights: HashMap::new(),
        };
        self.run(&mut served)
    }

    fn run_command(&mut self, command: &str, _request: &Value, _call: &mut Call) -> Result<Value> {
        match command {
            // `host plugins new` writes this file next to a script.
            "host_plugin" => Ok(json!({ "host_plugin.py": HOST_PLUGIN })),
            _ => Err(Error::unsupported(format!("a script knows no command `{command}`"))),
        }
    }
}
