//! The loop, with the small engine of `double`.

mod together;

use super::double::{Fault, Pupil, VOCABULARY};
use super::learn;
use plugin_api::client::Teacher;
use plugin_api::{Code, Error, Every, LearnEvent, Learnt, Lesson, LessonTokens, Lessons, Plan, Result, Split};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Rows of random length, some of them without a learnt token.
pub struct School {
    rows: Vec<LessonTokens>,
    held_out: Vec<LessonTokens>,
    events: Mutex<Vec<LearnEvent>>,
    stop: AtomicBool,
    /// Asks to stop when an event of this split comes at this step.
    stop_at: Option<(&'static str, u64)>,
    /// A row that cannot be read.
    broken: Option<(Split, u64)>,
}

impl School {
    pub fn new(rows: usize) -> School {
        let mut state = 7_u64;
        let mut draw = move |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        let mut row = |number: usize| {
            let length = 3 + draw(9);
            // Three of four tokens follow from the one before, so that there is something to learn.
            let mut ids = vec![draw(VOCABULARY) as u32];
            while ids.len() < length {
                let follows = (ids[ids.len() - 1] * 3 + 1) % VOCABULARY as u32;
                ids.push(if draw(4) == 0 { draw(VOCABULARY) as u32 } else { follows });
            }
            let learn = (0..length)
                .map(|place| number % 5 != 2 && place >= length / 2)
                .collect();
            LessonTokens {
                ids,
                learn,
                ..LessonTokens::default()
            }
        };
        School {
            rows: (0..rows).map(&mut row).collect(),
            held_out: (0..5).map(&mut row).collect(),
            events: Mutex::default(),
            stop: AtomicBool::new(false),
            stop_at: None,
            broken: None,
        }
    }

    pub fn of(&self, split: &str) -> Vec<serde_json::Map<String, Value>> {
        let events = self.events.lock().unwrap();
        events
            .iter()
            .filter(|event| event.split == split)
            .map(|event| event.metrics.clone())
            .collect()
    }

    pub fn words(&self) -> String {
        self.events
            .lock()
            .unwrap()
            .iter()
            .map(|event| event.words.clone() + "\n")
            .collect()
    }
}

impl Teacher for School {
    fn count(&self, split: Split) -> Result<u64> {
        Ok(match split {
            Split::Train => self.rows.len() as u64,
            Split::HeldOut => self.held_out.len() as u64,
        })
    }

    fn lesson(&self, split: Split, index: u64) -> Result<Option<Lesson>> {
        if self.broken == Some((split, index)) {
            return Err(Error::new(Code::CLIP, "its clip is cut short"));
        }
        let rows = if split == Split::Train {
            &self.rows
        } else {
            &self.held_out
        };
        Ok(rows.get(index as usize).map(|tokens| Lesson {
            tokens: Some(tokens.clone()),
            ..Lesson::default()
        }))
    }

    fn event(&self, event: LearnEvent) -> bool {
        if self.stop_at == Some((event.split.as_str(), event.step)) {
            self.stop.store(true, Ordering::Relaxed);
        }
        self.events.lock().unwrap().push(event);
        true
    }

    fn stop_asked(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

pub fn plan(out: &Path) -> Plan {
    Plan {
        method: "full".to_owned(),
        out: out.to_owned(),
        epochs: 2.0,
        batch_size: 2,
        accumulate: 2,
        learning_rate: 0.05,
        seed: 42,
        eval_every: Every::Steps(4.0),
        save_every: Every::Steps(4.0),
        other: json!({ "logging_steps": 3, "lr_scheduler_type": "cosine", "warmup_ratio": 0.2, "rows_hash": "a" })
            .as_object()
            .unwrap()
            .clone(),
        ..Plan::default()
    }
}

/// Calls the loop as a host does.
pub fn run(plan: &Plan, school: &School, pupil: &mut Pupil) -> Result<Learnt> {
    let host = plugin_api::client::teaching(school);
    learn(plan, &Lessons::new(&host), pupil)
}

pub fn resumed(plan: &Plan) -> Plan {
    Plan {
        resume: super::checkpoint::newest(&plan.out),
        ..plan.clone()
    }
}

fn bytes(folder: &Path, file: &str) -> Vec<u8> {
    std::fs::read(folder.join(file)).unwrap()
}

/// What was logged, without times.
pub fn history(folder: &Path) -> Vec<Value> {
    let place: Value = serde_json::from_slice(&bytes(folder, "trainer_state.json")).unwrap();
    let lines = place["log_history"].as_array().unwrap().iter().cloned();
    let timeless = lines.map(|mut line| {
        let entries = line.as_object_mut().unwrap();
        entries.retain(|key, _| !key.ends_with("_runtime") && !key.ends_with("_per_second"));
        line
    });
    timeless.collect()
}

#[test]
fn a_run_logs_evaluates_and_saves_where_the_reference_does() {
    let out = tempfile::tempdir().unwrap();
    let school = School::new(29);
    let learnt = run(&plan(out.path()), &school, &mut Pupil::default()).unwrap();
    assert_eq!(learnt.steps, 16);
    let steps = |split: &str| -> Vec<u64> {
        school
            .of(split)
            .iter()
            .map(|line| line["step"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(steps("train"), [3, 6, 9, 12, 15, 16]);
    assert_eq!(steps("eval"), [4, 8, 12, 16]);
    assert_eq!(super::checkpoint::steps(out.path()), [4, 8, 12, 16]);
    let first = &school.of("train")[0];
    assert!(
        (first["epoch"].as_f64().unwrap() - 6.0 / 15.0).abs() < 1e-12,
        "6 of 15 batches are done"
    );
    let losses: Vec<f64> = school
        .of("eval")
        .iter()
        .map(|line| line["eval_loss"].as_f64().unwrap())
        .collect();
    assert!(losses[3] < losses[0], "{losses:?}");
    let last = school.of("train").pop().unwrap();
    assert!(last["train_loss"].as_f64().unwrap() > 0.0 && last["epoch"] == 2.0);
}

#[test]
fn the_loss_is_a_mean_over_tokens_and_not_over_batches() {
    let out = tempfile::tempdir().unwrap();
    let school = School::new(4);
    let mut once = plan(out.path());
    once.epochs = 1.0;
    once.other.insert("logging_steps".to_owned(), json!(1));
    run(&once, &school, &mut Pupil::default()).unwrap();
    let line = &school.of("train")[0];
    // Before the first step all tokens are equally likely, so each learnt token costs ln 13, whatever its batch.
    assert!((line["loss"].as_f64().unwrap() - (VOCABULARY as f64).ln()).abs() < 1e-9);
    let learnt = |row: &LessonTokens| row.learn.iter().skip(1).filter(|learn| **learn).count() as u64;
    assert_eq!(line["items"], school.rows.iter().map(learnt).sum::<u64>());
}

#[test]
fn a_run_that_is_stopped_goes_on_to_the_same_bytes() {
    let whole = tempfile::tempdir().unwrap();
    run(&plan(whole.path()), &School::new(29), &mut Pupil::default()).unwrap();
    for stop_at in [1, 5, 8, 13, 15] {
        let out = tempfile::tempdir().unwrap();
        let stopped = School {
            stop_at: Some(("step", stop_at)),
            ..School::new(29)
        };
        let error = run(&plan(out.path()), &stopped, &mut Pupil::default()).unwrap_err();
        assert_eq!(error.code, Code::CANCELLED, "{error}");
        assert!(error.message.contains(&format!("step {stop_at} of 16")), "{error}");
        let school = School::new(29);
        run(&resumed(&plan(out.path())), &school, &mut Pupil::default()).unwrap();
        assert!(school.words().contains(&format!("going on at step {stop_at} of 16")));
        for file in ["model.safetensors", "optimizer.safetensors"] {
            let last = "checkpoint-16";
            assert_eq!(
                bytes(&whole.path().join(last), file),
                bytes(&out.path().join(last), file),
                "{stop_at} {file}"
            );
        }
        let [one, other] = [whole.path(), out.path()].map(|out| history(&out.join("final_model")));
        assert_eq!(one, other);
    }
}

#[test]
fn a_row_that_cannot_be_read_loses_nothing_of_what_was_learnt_before() {
    let asked = |out: &Path| {
        let mut plan = with_generations(out);
        plan.other.remove("eval_on_start");
        plan
    };
    let whole = tempfile::tempdir().unwrap();
    run(&asked(whole.path()), &School::new(29), &mut Pupil::default()).unwrap();
    // Two batches of two rows a step: the row is in the step behind. Evaluations are made every four steps.
    let order = super::Order::Transformers.rows(29, 42, 0);
    let place = order.iter().position(|row| *row == 3).unwrap() as u64;
    for (broken, kept) in [((Split::Train, 3), place / 4), ((Split::HeldOut, 1), 4)] {
        let out = tempfile::tempdir().unwrap();
        let school = School {
            broken: Some(broken),
            ..School::new(29)
        };
        let error = run(&asked(out.path()), &school, &mut Pupil::default()).unwrap_err();
        assert_eq!(error.code, Code::CLIP, "{error}");
        let way = format!("step {kept} of 16 is saved");
        assert!(
            error.help.as_deref().is_some_and(|help| help.contains(&way)),
            "{error:?}"
        );
        let resumed = resumed(&asked(out.path()));
        run(&resumed, &School::new(29), &mut Pupil::default()).unwrap();
        for file in ["optimizer.safetensors", "model.safetensors"] {
            let [one, other] = [whole.path(), out.path()].map(|out| bytes(&out.join("checkpoint-16"), file));
            assert_eq!(one, other, "{broken:?} {file}");
        }
        let [one, other] = [whole.path(), out.path()].map(|out| history(&out.join("final_model")));
        assert_eq!(one, other, "{broken:?}");
    }
}

/// The other half of the test below: a run that is killed, in a process of its own.
#[test]
#[ignore = "started by the test that kills it"]
fn learns_until_it_is_killed() {
    let out = PathBuf::from(std::env::var_os("TRAIN_TEST_OUT").expect("the test that starts this says where"));
    let mut pupil = Pupil {
        pause: Duration::from_millis(8),
        ..Pupil::default()
    };
    run(&resumed(&plan(&out)), &School::new(29), &mut pupil).unwrap();
}

#[test]
fn a_run_that_is_killed_at_any_instant_goes_on_to_the_same_bytes() {
    let whole = tempfile::tempdir().unwrap();
    run(&plan(whole.path()), &School::new(29), &mut Pupil::default()).unwrap();
    let start = |out: &Path| {
        std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "run::tests::learns_until_it_is_killed"])
            .env("TRAIN_TEST_OUT", out)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap()
    };
    // Measures how long an undisturbed run takes, so that the kills happen during the run on fast and slow machines.
    let (began, undisturbed) = (std::time::Instant::now(), tempfile::tempdir().unwrap());
    assert!(start(undisturbed.path()).wait().unwrap().success());
    let length = began.elapsed();
    let mut killed_in_time = 0;
    for number in 0..20_u32 {
        let out = tempfile::tempdir().unwrap();
        let mut child = start(out.path());
        std::thread::sleep(length * (number + 1) / 24);
        killed_in_time += u64::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        run(&resumed(&plan(out.path())), &School::new(29), &mut Pupil::default()).unwrap();
        for file in ["model.safetensors", "optimizer.safetensors"] {
            let last = "checkpoint-16";
            assert_eq!(
                bytes(&whole.path().join(last), file),
                bytes(&out.path().join(last), file),
                "{number} {file}"
            );
        }
        let [one, other] = [whole.path(), out.path()].map(|out| history(&out.join("final_model")));
        assert_eq!(one, other, "{number}");
        let left = std::fs::read_dir(out.path()).unwrap().flatten();
        let unfinished = left
            .filter(|entry| entry.file_name().to_string_lossy().starts_with('.'))
            .count();
        assert_eq!(unfinished, 0, "{number}");
    }
    assert!(
        killed_in_time >= 10,
        "only {killed_in_time} of 20 runs were killed before they were done"
    );
}

#[test]
fn other_settings_or_rows_are_refused_unless_they_are_wanted() {
    let out = tempfile::tempdir().unwrap();
    let first = plan(out.path());
    run(&first, &School::new(29), &mut Pupil::default()).unwrap();
    let mut other = resumed(&first);
    other.learning_rate = 0.01;
    other.other.insert("rows_hash".to_owned(), json!("b"));
    let error = run(&other, &School::new(29), &mut Pupil::default()).unwrap_err();
    assert_eq!(error.code, Code::SETTINGS);
    assert_eq!(error.causes.len(), 2, "{error}");
    assert!(error.to_string().contains("the rows differ") && error.to_string().contains("`learning_rate` was 0.05"));
    other.other.insert("resume_changed".to_owned(), json!(true));
    let school = School::new(29);
    run(&other, &school, &mut Pupil::default()).unwrap();
    assert!(school.words().contains("step 16 of 16: training is complete"));
}

#[test]
fn a_loss_that_is_no_number_names_step_and_rows() {
    let out = tempfile::tempdir().unwrap();
    let mut pupil = Pupil {
        fault: Some((5, Fault::NotANumber)),
        ..Pupil::default()
    };
    let error = run(&plan(out.path()), &School::new(29), &mut pupil).unwrap_err();
    assert!(
        error.message.contains("loss of step 6 is not a number") && error.message.contains("`row "),
        "{error}"
    );
    assert!(
        error.help.unwrap().contains("checkpoint-4"),
        "the last good checkpoint is kept"
    );
    assert_eq!(super::checkpoint::steps(out.path()), [4]);
}

#[test]
fn a_batch_that_does_not_fit_is_taken_in_parts() {
    let [whole, parts] = [None, Some((3, Fault::Memory))].map(|fault| {
        let out = tempfile::tempdir().unwrap();
        let school = School::new(29);
        let mut pupil = Pupil {
            fault,
            ..Pupil::default()
        };
        let loss = run(&plan(out.path()), &school, &mut pupil).unwrap().loss.unwrap();
        (loss, school.words())
    });
    assert!((whole.0 - parts.0).abs() < 1e-3, "{} {}", whole.0, parts.0);
    assert!(parts.1.contains("into 2 parts"), "{}", parts.1);
}

#[test]
fn the_best_model_is_kept_and_loaded_at_the_end() {
    let out = tempfile::tempdir().unwrap();
    let mut best = plan(out.path());
    best.learning_rate = 30.0; // too large: the model gets worse
    best.other.insert("load_best_model_at_end".to_owned(), json!(true));
    best.other.insert("save_total_limit".to_owned(), json!(1));
    let school = School::new(29);
    let learnt = run(&best, &school, &mut Pupil::default()).unwrap();
    let losses: Vec<f64> = school
        .of("eval")
        .iter()
        .map(|line| line["eval_loss"].as_f64().unwrap())
        .collect();
    let smallest = losses.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!(learnt.metrics["best_metric"].as_f64(), Some(smallest));
    let step = learnt.metrics["best_global_step"].as_u64().unwrap();
    assert_eq!(
        super::checkpoint::steps(out.path()),
        [step],
        "with room for one, the best stays"
    );
    let kept = out.path().join(format!("checkpoint-{step}"));
    let model = "model.safetensors";
    assert_eq!(bytes(&kept, model), bytes(&out.path().join("final_model"), model));
}

#[test]
fn a_run_that_gets_no_better_ends_early() {
    let out = tempfile::tempdir().unwrap();
    let mut early = plan(out.path());
    early.learning_rate = 30.0;
    early.eval_every = Every::Steps(1.0);
    early.other.insert("early_stopping_patience".to_owned(), json!(2));
    let school = School::new(29);
    let learnt = run(&early, &school, &mut Pupil::default()).unwrap();
    assert!(learnt.steps < 16, "{}", learnt.steps);
    assert!(school.words().contains("did not improve in 2 evaluations"));
}

#[test]
fn epochs_may_be_the_measure_of_all() {
    let out = tempfile::tempdir().unwrap();
    let mut epochs = plan(out.path());
    (epochs.eval_every, epochs.save_every) = (Every::Epoch, Every::Epoch);
    let school = School::new(29);
    run(&epochs, &school, &mut Pupil::default()).unwrap();
    assert_eq!(super::checkpoint::steps(out.path()), [8, 16]);
    let at: Vec<f64> = school
        .of("eval")
        .iter()
        .map(|line| line["epoch"].as_f64().unwrap())
        .collect();
    assert_eq!(at, [1.0, 2.0]);
}

/// The same plan with generations.
fn with_generations(out: &Path) -> Plan {
    let mut plan = plan(out);
    let wanted = json!({ "eval_generations": 3, "eval_generation_tokens": 6, "eval_on_start": true });
    plan.other.extend(wanted.as_object().unwrap().clone());
    plan
}

#[test]
fn the_first_held_out_lessons_are_answered_behind_each_evaluation() {
    let (plain, asked) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    run(&plan(plain.path()), &School::new(29), &mut Pupil::default()).unwrap();
    let school = School::new(29);
    run(&with_generations(asked.path()), &school, &mut Pupil::default()).unwrap();
    let generations = school.of("generation");
    let steps: Vec<u64> = generations.iter().map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [0, 0, 0, 4, 4, 4, 8, 8, 8, 12, 12, 12, 16, 16, 16]);
    let words = |ids: &[u32]| ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    for (number, line) in generations.iter().enumerate() {
        let lesson = &school.held_out[number % 3];
        assert_eq!(line["lesson"], format!("row {}", number % 3));
        let learnt = lesson.learn.iter().skip(1).position(|learn| *learn);
        let start = learnt.map_or(lesson.ids.len(), |place| place + 1);
        assert_eq!(line["prompt"], words(&lesson.ids[..start]));
        let target: Vec<u32> = lesson.ids[start..].iter().copied().take_while(|id| *id != 12).collect();
        assert_eq!(line["target"], words(&target));
        assert_eq!(line["equal"], line["target"] == line["generated"]);
        let (count, finish) = (line["generated_tokens"].as_u64().unwrap(), &line["finish"]);
        assert!(
            count < 6 && finish == "stop" || count == 6 && finish == "length",
            "{line:?}"
        );
    }
    // Of two tokens that are likely alike the double takes the last, which ends an answer.
    assert!(generations[..3].iter().all(|line| line["finish"] == "stop"));
    assert!(generations[12..].iter().any(|line| line["generated_tokens"] != 0));
    for file in ["model.safetensors", "optimizer.safetensors"] {
        let [one, other] = [&plain, &asked].map(|out| bytes(&out.path().join("checkpoint-16"), file));
        assert_eq!(one, other, "{file}: they change nothing of what is learnt");
    }
}

#[test]
fn generations_that_are_interrupted_are_made_when_the_run_goes_on() {
    let whole = tempfile::tempdir().unwrap();
    let undisturbed = School::new(29);
    run(&with_generations(whole.path()), &undisturbed, &mut Pupil::default()).unwrap();
    for stop_at in [0, 4, 8, 16] {
        let out = tempfile::tempdir().unwrap();
        let stopped = School {
            stop_at: Some(("eval", stop_at)),
            ..School::new(29)
        };
        let error = run(&with_generations(out.path()), &stopped, &mut Pupil::default()).unwrap_err();
        assert_eq!(error.code, Code::CANCELLED, "{error}");
        assert!(error.message.contains(&format!("step {stop_at} of 16")), "{error}");
        let school = School::new(29);
        run(&resumed(&with_generations(out.path())), &school, &mut Pupil::default()).unwrap();
        let both = [stopped.of("generation"), school.of("generation")].concat();
        assert_eq!(both, undisturbed.of("generation"), "{stop_at}");
        let [one, other] = [whole.path(), out.path()].map(|out| history(&out.join("final_model")));
        assert_eq!(one, other, "{stop_at}");
        let [one, other] = [whole.path(), out.path()].map(|out| bytes(&out.join("final_model"), "model.safetensors"));
        assert_eq!(one, other, "{stop_at}");
    }
}
