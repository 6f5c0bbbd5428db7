//! A service that transcribes for models without audio: each transcript is paid for once.

use super::{Dialect, KEY, Questions, said, service};
use fixture_service::{Act, Asked, Service, answer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const CLIPS: usize = 12;

/// A tenth of a second of sound, of another loudness for each number.
fn wav(number: usize) -> Vec<u8> {
    let samples: Vec<u8> = (0..1600_i16)
        .flat_map(|place| ((place % 32 - 16) * (10 + number as i16)).to_le_bytes())
        .collect();
    let length = samples.len() as u32;
    let mut file = b"RIFF".to_vec();
    file.extend((36 + length).to_le_bytes());
    file.extend(b"WAVEfmt ");
    file.extend(16_u32.to_le_bytes());
    file.extend([1_u16.to_le_bytes(), 1_u16.to_le_bytes()].concat());
    file.extend([16_000_u32.to_le_bytes(), 32_000_u32.to_le_bytes()].concat());
    file.extend([2_u16.to_le_bytes(), 16_u16.to_le_bytes()].concat());
    file.extend(b"data");
    file.extend(length.to_le_bytes());
    file.extend(samples);
    file
}

fn hears(asked: &Asked) -> Act {
    answer(asked, "Somebody says yes.").after(Duration::from_millis(30))
}

/// A service that hears, and a folder of clips.
fn clips_to_hear() -> (Service, Questions) {
    let questions = Questions::new(1);
    fs::create_dir(questions.bench.path("clips")).unwrap();
    for number in 0..CLIPS {
        fs::write(questions.bench.path(&format!("clips/{number:02}.wav")), wav(number)).unwrap();
    }
    (service(Dialect::Gemini, hears), questions)
}

fn command(questions: &Questions, service: &Service, more: &str) -> Command {
    let settings = ["base_url=", "model=", "concurrency=2-2-2", "first_pause=0.02"];
    let values = [
        service.address(),
        Dialect::Gemini.served().to_owned(),
        String::new(),
        String::new(),
    ];
    let settings = settings
        .iter()
        .zip(values)
        .map(|(name, value)| format!(" -M gemini:{name}{value}"));
    let run = "run --model stuck --task clips -T folder=clips --transcriber gemini --registry services.toml";
    let mut command = questions
        .bench
        .command(&format!("{run}{} {more}", settings.collect::<String>()));
    command.env("GOOGLE_API_KEY", KEY).env_remove("GEMINI_API_KEY");
    command
}

/// How often each clip was sent.
fn sent(service: &Service) -> BTreeMap<String, usize> {
    let mut clips = BTreeMap::new();
    for asked in service.requests().iter().filter(|asked| !asked.lists()) {
        let parts = asked.body["contents"][0]["parts"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let clip = parts
            .iter()
            .find_map(|part| part["inlineData"]["data"].as_str().map(str::to_owned));
        *clips.entry(clip.expect("a clip")).or_default() += 1;
    }
    clips
}

fn lines(run: &Path, event: &str) -> Vec<Value> {
    let text = fs::read_to_string(run.join("calls.jsonl")).expect("a ledger");
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["event"] == event).collect()
}

#[test]
fn a_clip_that_a_service_has_heard_is_paid_for_once() {
    let (service, questions) = clips_to_hear();
    let mut first = command(&questions, &service, "");
    let mut child = first.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    questions.wait(&service, 5);
    child.kill().unwrap();
    child.wait().unwrap();
    let end = || {
        said(
            command(&questions, &service, "").output().unwrap(),
            0,
            &["heard stood in for the clips of 12"],
        )
    };
    end();
    let run = questions.bench.directory("");
    let (left, answered) = (lines(&run, "sent"), lines(&run, "got"));
    assert!(left.iter().all(|line| line["role"] == "transcriber"), "{left:?}");
    assert_eq!(answered.len(), CLIPS, "each clip is answered once");
    let (sent_now, orphans) = (sent(&service), left.len() - answered.len());
    assert_eq!(sent_now.len(), CLIPS);
    // Two calls were in flight at the kill.
    assert!(
        orphans <= 2 && sent_now.values().sum::<usize>() <= CLIPS + orphans,
        "{sent_now:?}"
    );
    let results: Value = serde_json::from_slice(&fs::read(run.join("results.json")).unwrap()).unwrap();
    assert_eq!(results["host"]["calls"]["transcriber"]["answered"], CLIPS);
    // As after a kill between the last answer and the first record.
    fs::remove_file(run.join("samples.jsonl")).unwrap();
    end();
    assert_eq!(sent(&service), sent_now, "what is in the ledger is not asked again");
}

#[test]
fn what_a_transcriber_spends_counts_against_the_commands_limit() {
    let (service, questions) = clips_to_hear();
    let output = command(&questions, &service, "--max-cost-usd 0.000001")
        .output()
        .unwrap();
    said(output, 5, &["--max-cost-usd", "finished answers are kept"]);
    assert!(sent(&service).is_empty(), "nothing fits the limit, so nothing is sent");
    assert_eq!(
        questions.bench.records("stuck-clips").len(),
        0,
        "nothing is recorded as failed"
    );
    said(
        command(&questions, &service, "--max-cost-usd 5").output().unwrap(),
        0,
        &[],
    );
    assert_eq!(sent(&service).len(), CLIPS);
}
