//! Scripts that answer, fail, hang and die, in this machine's own interpreter.

use fixture_service::asking::{ask_all, model};
use plugin_api::client::ModelClient;
use plugin_api::{Clip, Code, Message, NoCallbacks, Part, Prompt, Result, Sampling};
use python as _;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const SCRIPT: &str = r#"
import os, sys, time
from host_plugin import Model

print("this line belongs to nobody")

class Toy(Model):
    options = {"shout": False, "times": 1}

    def load(self, settings):
        self.settings = settings

    def card(self):
        return {"name": "toy", "reads": ["text", "audio"], "batch": 4}

    def reply(self, prompt):
        words = prompt.text
        if words == "raise":
            raise KeyError("no such word")
        if words == "memory":
            raise MemoryError("CUDA out of memory")
        if words == "exit":
            print("about to leave", file=sys.stderr)
            os._exit(7)
        if words == "segfault":
            import ctypes
            ctypes.string_at(0)
        if words == "hang":
            time.sleep(3600)
        if words == "sound":
            return "%d clips, %d samples, first %.2f" % (len(prompt.clips), len(prompt.clips[0].samples), prompt.clips[0].samples[0])
        if words == "stream":
            for letter in "abc":
                self.token(letter)
            return "abc"
        text = words * self.settings["times"]
        return {"text": text.upper() if self.settings["shout"] else text, "usage": {"generated_tokens": len(text)}}

    def choices(self, prompt, options):
        return [-float(len(option)) for option in options]
"#;

fn script(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("toy.py");
    std::fs::write(&path, text).unwrap();
    let shown = path.display().to_string();
    (folder, shown)
}

fn open(text: &str, more: Value) -> (tempfile::TempDir, Result<ModelClient>) {
    let (folder, path) = script(text);
    let mut settings = json!({ "script": path });
    settings
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    (folder, model("python", settings))
}

fn prompt(text: &str) -> Prompt {
    Prompt::new([Message::user(text)]).sample(Sampling::greedy(8))
}

#[test]
fn a_class_with_two_methods_is_a_model() {
    let (_folder, model) = open(SCRIPT, json!({ "shout": "true", "times": "2" }));
    let model = model.unwrap();
    let card = model.card().unwrap();
    assert_eq!(
        (card.name.as_str(), card.scores_choices, card.hears(), card.batch),
        ("toy", true, true, 4)
    );
    assert!(
        card.other["engine"]["versions"]["python"]
            .as_str()
            .unwrap()
            .starts_with('3')
    );
    let reply = model.reply(&prompt("ab"), &NoCallbacks).unwrap();
    assert_eq!((reply.text.as_str(), reply.usage.generated_tokens), ("ABAB", 4));
    let scored = model.reply(&prompt("x").choose(["a", "bcd"]), &NoCallbacks).unwrap();
    assert_eq!(
        scored
            .options
            .iter()
            .map(|option| (option.loglik, option.bytes))
            .collect::<Vec<_>>(),
        [(-1.0, 1), (-3.0, 3)]
    );
}

#[test]
fn sound_crosses_and_words_stream() {
    let (_folder, model) = open(SCRIPT, json!({}));
    let mut heard = Prompt::new([Message {
        parts: vec![Part::clip(0), Part::text("sound")],
        ..Message::default()
    }]);
    heard.clips = vec![Clip::new(16_000, vec![0.25; 48_000])];
    let came = ask_all(&model.unwrap(), [heard, prompt("stream"), prompt("plain")], None);
    let texts: Vec<_> = came
        .replies
        .iter()
        .map(|reply| reply.as_ref().unwrap().as_ref().unwrap().text.clone())
        .collect();
    assert_eq!(texts, ["1 clips, 48000 samples, first 0.25", "abc", "plain"]);
    assert_eq!(came.streamed[1], "abc");
}

#[test]
fn what_a_method_raises_costs_its_sample_and_says_what_python_said() {
    let (_folder, model) = open(SCRIPT, json!({}));
    let came = ask_all(&model.unwrap(), ["raise", "memory", "fine"].map(prompt), None);
    let errors: Vec<_> = came
        .replies
        .iter()
        .map(|reply| reply.as_ref().unwrap().as_ref().err())
        .collect();
    let raised = errors[0].unwrap();
    assert!(
        raised.message.contains("KeyError")
            && raised.causes[0].contains("toy.py")
            && raised.causes[0].contains("raise KeyError"),
        "{raised}"
    );
    assert_eq!(errors[1].unwrap().code, Code::MEMORY);
    assert!(errors[2].is_none() && came.over.is_none());
}

#[test]
fn a_death_is_told_with_its_last_words_and_the_next_prompt_is_answered() {
    let (_folder, model) = open(SCRIPT, json!({}));
    let model = model.unwrap();
    for (words, how, last) in [
        ("exit", "exit code 7", "about to leave"),
        ("segfault", "signal 11", "Segmentation fault"),
    ] {
        let came = ask_all(&model, [prompt(words)], None);
        let over = came.over.expect("a reason");
        assert_eq!(over.code, Code::DIED);
        assert!(over.message.contains(how) && over.to_string().contains(last), "{over}");
        assert_eq!(model.reply(&prompt("again"), &NoCallbacks).unwrap().text, "again");
    }
}

#[test]
fn a_script_that_hangs_is_ended_at_its_deadline() {
    let (_folder, model) = open(SCRIPT, json!({}));
    let model = model.unwrap();
    let began = Instant::now();
    let came = ask_all(&model, [prompt("hang")], Some(Duration::from_millis(300)));
    assert_eq!(came.over.expect("a reason").code, Code::DEADLINE);
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(model.reply(&prompt("again"), &NoCallbacks).unwrap().text, "again");
}

#[track_caller]
fn check_refused(text: &str, settings: Value, code: Code, words: &[&str]) {
    let (_folder, model) = open(text, settings);
    let error = model.err().expect("refused");
    let said = format!("{error} {}", error.help.clone().unwrap_or_default());
    assert_eq!(error.code, code, "{said}");
    for words in words {
        assert!(said.contains(words), "`{words}` is not in: {said}");
    }
}

#[test]
fn what_cannot_be_loaded_says_why() {
    check_refused(
        "import surely_not_there",
        json!({}),
        Code::MISSING,
        &["ModuleNotFoundError", "surely_not_there", "toy.py"],
    );
    check_refused("def broken(:", json!({}), Code::OTHER, &["SyntaxError"]);
    check_refused("x = 1", json!({}), Code::MISSING, &["holds 0 classes"]);
    check_refused("import os; os._exit(3)", json!({}), Code::DIED, &["exit code 3"]);
    check_refused(
        SCRIPT,
        json!({ "volume": 3 }),
        Code::SETTINGS,
        &["no setting `volume`", "`shout`, `times`"],
    );
    check_refused(
        SCRIPT,
        json!({ "times": "many" }),
        Code::SETTINGS,
        &["`times` is `many`"],
    );
    check_refused(
        SCRIPT,
        json!({ "python": "/nowhere/python" }),
        Code::MISSING,
        &["/nowhere/python"],
    );
    let error = model("python", json!({ "script": "/nowhere.py" })).err().unwrap();
    assert!(error.message.contains("/nowhere.py"));
}

#[test]
fn nothing_is_left_behind() {
    let (_folder, model) = open(&SCRIPT.replace("self.settings = settings", "self.settings = settings; import subprocess; self.child = subprocess.Popen(['sleep', '3600']); open(os.path.dirname(os.path.abspath(__file__)) + '/pid', 'w').write(str(self.child.pid))"), json!({}));
    let model = model.unwrap();
    let pid = std::fs::read_to_string(_folder.path().join("pid")).unwrap();
    drop(model);
    let gone = |pid: &str| match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.contains(") Z "),
        Err(_) => true,
    };
    let until = Instant::now() + Duration::from_secs(5);
    while !gone(&pid) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(gone(&pid), "the script's own child lives on");
}
