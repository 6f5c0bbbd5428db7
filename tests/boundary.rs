//! The boundary between host and plugin: what is refused before it is loaded, and what crosses it.

use crate::support::{BOTH, adapter, ask, plugin_file, settings, spec};
use host::failure::Exit;
use host::plugin::Note;
use host::registry::spec::{Isolation, PluginSpec};
use plugin_api::client::{JudgeClient, ModelClient, TaskClient};
use plugin_api::{Adapter, Case, Clip, Error, Kind, Level, Message, NoCallbacks, Prompt, Reply, Ruling};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

fn echo(isolation: Isolation, kind: Kind, name: &str, json: &str) -> Arc<dyn Adapter> {
    adapter(&spec("fixture-echo", isolation), kind, name, json).adapter
}

#[test]
fn a_model_answers_here_and_in_a_worker() {
    for isolation in BOTH {
        let model = ModelClient(echo(isolation, Kind::Model, "echo", "{}"));
        assert_eq!(model.card().expect("a card").name, "echo");
        let mut prompt = Prompt::new([Message::user("good morning")]);
        prompt.clips = vec![Clip::new(16_000, vec![0.5; 8_000])];
        let reply = model.reply(&prompt, &NoCallbacks).expect("a reply");
        assert_eq!(reply.text, "good morning [heard 0.500 s, sum 4000.000]");
    }
}

#[test]
fn a_task_and_a_judge_answer_here_and_in_a_worker() {
    for isolation in BOTH {
        let task = TaskClient(echo(isolation, Kind::Task, "count", r#"{"n": 3, "broken": 1}"#));
        assert_eq!(task.count().expect("a length"), 3);
        assert!(task.sample(1).unwrap_err().message.contains("sample 1 is broken"));
        let sample = task.sample(2).expect("a sample");
        assert_eq!(task.prompt(&sample).expect("a prompt").last_user_text(), "2");
        let reply = Reply::text("2");
        assert_eq!(
            task.score(&sample, &reply, &NoCallbacks).expect("a score").values["acc"],
            1.0
        );
        let judge = JudgeClient(echo(isolation, Kind::Judge, "agree", "{}"));
        let case = Case {
            sample,
            reply,
            ..Case::default()
        };
        assert_eq!(
            judge.judge(&case, &NoCallbacks).expect("a verdict").ruling,
            Ruling::Right
        );
    }
}

#[track_caller]
fn check_refused(spec: PluginSpec, exit: Exit, words: &str) {
    let failure = host::plugin::open(&spec).err().expect("it is refused");
    assert!(failure.render().contains(words), "{}", failure.render());
    assert_eq!(failure.exit, exit, "{}", failure.render());
}

#[test]
fn what_the_registry_does_not_allow_is_refused() {
    let here = || spec("fixture-echo", Isolation::InProcess);
    let pinned = Some("00ff".to_owned());
    check_refused(
        PluginSpec {
            sha256: pinned,
            ..here()
        },
        Exit::Refused,
        "run `host plugins pin echo`",
    );
    let version = Some(">=7".to_owned());
    check_refused(
        PluginSpec { version, ..here() },
        Exit::Refused,
        "the registry allows `>=7`",
    );
    let env = [("RAYON_NUM_THREADS".to_owned(), "2".to_owned())].into();
    check_refused(PluginSpec { env, ..here() }, Exit::Usage, "plugin `echo` has `env`");
    check_refused(
        PluginSpec {
            memory: Some(1),
            ..here()
        },
        Exit::Usage,
        "plugin `echo` has `memory`",
    );
    let path = plugin_file("fixture-echo").file_name().expect("a name").into();
    check_refused(PluginSpec { path, ..here() }, Exit::Usage, "is not absolute");
}

#[test]
fn an_adapter_that_is_not_there_or_a_wrong_setting_is_named() {
    let plugin = host::plugin::open(&spec("fixture-echo", Isolation::InProcess)).expect("it opens");
    let failure = plugin
        .make(Kind::Model, "ecco", &settings("{}"))
        .err()
        .expect("refused");
    assert!(failure.render().contains("holds no model `ecco`") && failure.render().contains("model `echo`"));
    let failure = plugin
        .make(Kind::Model, "echo", &settings(r#"{"delay": 1}"#))
        .err()
        .expect("refused");
    assert!(
        failure.render().contains("model `echo` has no setting `delay`"),
        "{}",
        failure.render()
    );
    assert_eq!(failure.exit, Exit::Usage);
}

/// A copy of a fixture in which words are replaced by others of the same length, as in a plugin that lies.
fn forged(folder: &Path, edits: &[(&str, &str)]) -> PluginSpec {
    let mut bytes = std::fs::read(plugin_file("fixture-echo")).expect("the fixture");
    for (from, to) in edits {
        assert_eq!(from.len(), to.len(), "`{from}` and `{to}`");
        let places: Vec<_> = places_of(&bytes, from.as_bytes());
        assert!(!places.is_empty(), "`{from}` is not in the fixture");
        for place in places {
            bytes[place..place + to.len()].copy_from_slice(to.as_bytes());
        }
    }
    file_spec(folder, &bytes)
}

fn places_of(bytes: &[u8], words: &[u8]) -> Vec<usize> {
    let places = bytes.windows(words.len()).enumerate();
    places
        .filter(|(_, window)| *window == words)
        .map(|(place, _)| place)
        .collect()
}

fn file_spec(folder: &Path, bytes: &[u8]) -> PluginSpec {
    let path = folder.join("plugin.so");
    std::fs::write(&path, bytes).expect("a file");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("its mode");
    PluginSpec {
        name: "forged".to_owned(),
        path,
        ..spec("fixture-echo", Isolation::InProcess)
    }
}

#[test]
fn a_plugin_of_another_wire_is_refused_before_it_is_loaded() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ours, wire) = (plugin_api::VERSION, plugin_api::WIRE);
    let says = |wire: &str| format!(r#""wire":"{wire}""#);
    let spec = forged(folder.path(), &[(&says(wire), &says("9"))]);
    let words =
        format!("plugin `fixture-echo` speaks plugin-api {ours} (wire 9), this host speaks {ours} (wire {wire})");
    check_refused(spec.clone(), Exit::Refused, &words);
    check_refused(spec, Exit::Refused, "rebuild it with `plugin-api = \"0.2\"`");
}

#[test]
fn a_plugin_that_aborts_on_panic_needs_a_worker() {
    let folder = tempfile::tempdir().expect("a folder");
    let spec = forged(folder.path(), &[(r#""panic":"unwind""#, r#""panic":"abort" "#)]);
    let isolation = Isolation::Process;
    let in_a_worker = PluginSpec {
        isolation,
        ..spec.clone()
    };
    let echo = adapter(&in_a_worker, Kind::Model, "echo", "{}");
    assert_eq!(ask(&echo, "hello").expect("an answer").text, "hello");
    check_refused(spec, Exit::Refused, "give it `isolation = \"process\"`");
}

#[test]
fn a_library_with_a_note_and_no_symbol_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let symbol = plugin_api::loading::ROOT_SYMBOL;
    let spec = forged(folder.path(), &[(symbol, &symbol.replace("root", "toor"))]);
    check_refused(
        spec.clone(),
        Exit::Refused,
        "it carries a note, but not the symbol of a plugin",
    );
    let isolation = Isolation::Process;
    let plugin = host::plugin::open(&PluginSpec { isolation, ..spec }).expect("its note is fine");
    let failure = plugin
        .make(Kind::Model, "echo", &settings("{}"))
        .err()
        .expect("refused");
    assert!(
        failure.render().contains("not the symbol of a plugin"),
        "{}",
        failure.render()
    );
}

#[test]
fn files_that_are_no_plugins_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |bytes: &[u8]| file_spec(folder.path(), bytes);
    check_refused(file(b""), Exit::Refused, "it has less than four bytes");
    check_refused(
        file(b"just some text, and no library\n"),
        Exit::Refused,
        "it is not an ELF file",
    );
    let program = std::fs::read(env!("CARGO_BIN_EXE_host")).expect("our own program");
    check_refused(file(&program), Exit::Refused, "it carries no note");
    let mut foreign = std::fs::read(plugin_file("fixture-echo")).expect("the fixture");
    foreign[18] = 8; // the machine: MIPS
    check_refused(
        file(&foreign),
        Exit::Refused,
        "it was built for another kind of processor",
    );
    let path = folder.path().to_owned();
    check_refused(PluginSpec { path, ..file(b"") }, Exit::Refused, "is not a file");
    let missing = PluginSpec {
        path: folder.path().join("nothing.so"),
        ..file(b"")
    };
    check_refused(missing, Exit::Missing, "change its `path` in `registry.toml`");
}

#[test]
fn a_file_that_others_may_write_to_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let spec = file_spec(
        folder.path(),
        &std::fs::read(plugin_file("fixture-echo")).expect("the fixture"),
    );
    std::fs::set_permissions(&spec.path, PermissionsExt::from_mode(0o757)).expect("its mode");
    check_refused(spec.clone(), Exit::Refused, "others may write to");
    check_refused(spec, Exit::Refused, "chmod go-w");
}

#[test]
fn damaged_libraries_are_refused_or_read_but_never_crash_the_reader() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = std::fs::read(plugin_file("fixture-echo")).expect("the fixture");
    let path = file_spec(folder.path(), &whole).path;
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(&path)
        .expect("the copy");
    let headers = usize::from_le_bytes(whole[40..48].try_into().expect("eight bytes"));
    // A fixed sequence of "random" numbers, so that a failure can be repeated.
    let mut state = 1_u64;
    let mut next = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut read = 0;
    for _ in 0..2000 {
        // Damages the file's header, the sections' headers, or something among the tables at the front.
        let place = match next(3) {
            0 => next(64),
            1 => headers + next(whole.len() - headers),
            _ => next(1 << 16),
        };
        file.write_all_at(&[next(256) as u8], place as u64).expect("damaged");
        read += usize::from(Note::read(&path).is_ok());
        file.write_all_at(&whole[place..=place], place as u64)
            .expect("repaired");
    }
    assert!(
        read > 500,
        "most bytes don't matter, but only {read} damaged files could be read"
    );
    for _ in 0..100 {
        file.set_len(next(whole.len()) as u64).expect("cut");
        assert!(Note::read(&path).is_err());
    }
}

#[test]
fn one_file_under_two_names_is_one_library() {
    let first = spec("fixture-echo", Isolation::InProcess);
    let second = PluginSpec {
        name: "echo-again".to_owned(),
        ..first.clone()
    };
    // A library that was loaded twice would refuse the second initialisation.
    for spec in [first, second] {
        let echo = adapter(&spec, Kind::Model, "echo", "{}");
        assert_eq!(ask(&echo, "hello").expect("an answer").text, "hello");
    }
}

#[test]
fn two_plugins_in_one_process_keep_their_own_adapters() {
    let specs = ["fixture-echo", "fixture-broken"].map(|krate| spec(krate, Isolation::InProcess));
    let [echo, broken] = specs.map(|spec| host::plugin::open(&spec).expect("it opens"));
    assert!(echo.make(Kind::Model, "echo", &settings("{}")).is_ok());
    assert!(echo.make(Kind::Model, "panic", &settings("{}")).is_err());
    assert!(broken.make(Kind::Model, "panic", &settings("{}")).is_ok());
    assert!(broken.make(Kind::Model, "echo", &settings("{}")).is_err());
}

#[test]
fn a_loaded_plugin_survives_that_its_file_is_overwritten() {
    for isolation in BOTH {
        let folder = tempfile::tempdir().expect("a folder");
        let forged = forged(folder.path(), &[("Repeats the last user", "Repeats the last USER")]);
        let spec = PluginSpec { isolation, ..forged };
        let echo = adapter(&spec, Kind::Model, "echo", "{}");
        // In place, as `cp` does it: the same inode gets other bytes.
        std::fs::write(&spec.path, b"no library any more").expect("overwritten");
        assert_eq!(ask(&echo, "still here").expect("an answer").text, "still here");
        let control = echo.control.clone();
        if let Some(control) = control {
            control.kill(Error::msg("to see a new worker"));
            assert_eq!(ask(&echo, "and again").expect("an answer").text, "and again");
        }
    }
}

#[test]
fn libraries_are_told_apart_though_the_linker_knows_them_by_path() {
    // Each is loaded through a path that names a file descriptor. Were the descriptors closed and their numbers used
    // again, the linker would return the first library for every later one.
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["ecoo", "ecco", "ohce"] {
        let quoted = format!("\"name\":\"{name}\"");
        let spec = PluginSpec {
            name: format!("apart-{name}"),
            ..forged(folder.path(), &[(r#""name":"echo""#, &quoted)])
        };
        drop(host::plugin::open(&spec).expect("it opens"));
        let mapped = std::fs::read_to_string("/proc/self/maps").expect("what is mapped in this process");
        assert!(mapped.contains(&format!("memfd:apart-{name}")), "{name} is not mapped");
    }
}

#[test]
fn a_plugins_words_reach_the_hosts_log_under_its_name() {
    static HEARD: Mutex<Vec<(String, Level, String)>> = Mutex::new(Vec::new());
    host::plugin::set_log_sink(Box::new(|plugin, level, message| {
        let mut heard = HEARD.lock().expect("what was heard");
        heard.push((plugin.to_owned(), level, message.to_owned()));
    }));
    for isolation in BOTH {
        let talker = adapter(&spec("fixture-broken", isolation), Kind::Model, "talk", "{}");
        ask(&talker, "boom").expect("an answer");
        let until = Instant::now() + Duration::from_secs(5);
        let expected = (
            "broken".to_owned(),
            Level::Warning,
            "this is worth a warning".to_owned(),
        );
        while !HEARD.lock().expect("what was heard").contains(&expected) {
            assert!(Instant::now() < until, "{:?}", HEARD.lock().expect("what was heard"));
            std::thread::sleep(Duration::from_millis(5));
        }
        HEARD.lock().expect("what was heard").clear();
    }
}

#[test]
fn nobody_but_the_host_starts_a_worker() {
    let worker = Command::new(env!("CARGO_BIN_EXE_host"))
        .arg("worker")
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    assert_eq!(worker.status.code(), Some(2));
    let words = String::from_utf8_lossy(&worker.stderr).into_owned();
    assert!(words.contains("only the host itself starts `host worker`"), "{words}");
}
