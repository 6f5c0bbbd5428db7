//! What models get for clips, in end-to-end tests: the audio itself, a transcriber's text, the data set's text, or
//! nothing.

use crate::support::{Bench, clip_file};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;

/// A bench with a folder of clips: one sound under two names, one of them with a transcript in the data set, and
/// another sound.
fn bench() -> Bench {
    let bench = Bench::new();
    let clips = bench.path("clips");
    std::fs::create_dir(&clips).unwrap();
    for (name, fixture) in [
        ("1-plain.flac", "sweep.flac"),
        ("2-said.flac", "sweep.flac"),
        ("3-other.mp3", "falling-rate.mp3"),
    ] {
        std::fs::copy(clip_file(fixture), clips.join(name)).unwrap();
    }
    bench
}

fn results(bench: &Bench, run: &str) -> Value {
    let text = std::fs::read(bench.directory(run).join("results.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn ears_hear_each_clip_once_and_their_words_stand_in() {
    let bench = bench();
    let command = "run --model stuck --task clips -T folder=clips --ears scribe";
    bench.check(
        command,
        0,
        &["input: ears: what `scribe` heard stood in for the clips of 3 samples"],
    );
    let records = bench.records("stuck-clips");
    let mut numbers = Vec::new();
    for record in records.values() {
        assert_eq!(record["input"], "ears");
        let ears = &record["audio"][0]["ears"];
        let words = ears["words"].as_str().unwrap();
        assert_eq!(ears["model"], "scribe");
        assert_eq!(ears["hash"].as_str().map(str::len), Some(64));
        assert_eq!(record["reply"]["text"], format!("the clip: {words}"));
        assert_eq!(record["audio"][0]["rate"], 2000);
        numbers.push(words.split(' ').nth(2).unwrap().to_owned());
    }
    assert_eq!(numbers[0], numbers[1], "the same sound under two names is heard once");
    numbers.sort();
    assert_eq!(
        numbers,
        [numbers[0].as_str(), numbers[0].as_str(), numbers[2].as_str()].map(str::to_owned)
    );
    assert_eq!(results(&bench, "stuck-clips")["host"]["input"], json!({ "ears": 3 }));

    // The same transcriber continues the run; with another prompt it counts as another transcriber.
    bench.check(command, 0, &["input: ears"]);
    assert_eq!(bench.records("stuck-clips"), records);
    let again = format!("{command} --ears-prompt Repeat --out other");
    bench.check(&again, 0, &["input: ears"]);
    let other = bench.directories("other");
    assert_ne!(other, bench.directories("runs"), "the ears' prompt is part of the run");
}

#[test]
fn ears_are_for_those_who_need_them() {
    let bench = bench();
    // A model that takes audio gets the clip, with or without a transcriber, and it is the same run.
    bench.check("run --model echo --task clips -T folder=clips", 0, &[]);
    let records = bench.records("echo-clips");
    assert!(records.values().all(|record| record["input"] == "audio"));
    bench.check("run --model echo --task clips -T folder=clips --ears scribe", 0, &[]);
    assert_eq!(bench.records("echo-clips"), records);
    bench.check("run --model stuck --task count --ears scribe", 0, &[]);
    assert!(
        bench
            .records("stuck-count")
            .values()
            .all(|record| record["input"] == "text")
    );

    bench.check(
        "run --model stuck --task clips -T folder=clips --ears stuck",
        3,
        &["model `stuck` can't hear, so it can't be the transcriber"],
    );
    bench.check(
        "run --model stuck --task count --ears-prompt Listen",
        2,
        &["is given without `--transcriber`"],
    );
    bench.check(
        "run --model stuck --task count --ears scrib",
        3,
        &["did you mean `scribe`?"],
    );
}

#[test]
fn a_clip_that_the_ears_can_not_be_given_is_its_samples_error() {
    let bench = bench();
    std::fs::write(bench.path("clips/4-said.wav"), "this is no sound").unwrap();
    bench.check(
        "run --model stuck --task clips -T folder=clips --ears scribe --fail-on-error 1",
        0,
        &["1 of 4 samples failed"],
    );
    let failed = &bench.records("stuck-clips")[&3];
    assert!(
        failed["error"]["message"].as_str().unwrap().contains("4-said.wav"),
        "{failed}"
    );
}

#[track_caller]
fn check_hearing(flags: &str, model: &str, finding: &str, compared: &Value, samples: usize) -> String {
    let bench = bench();
    let table = bench.check(
        &format!("run --model {model} --task clips -T folder=clips {flags}"),
        0,
        &[],
    );
    let results = results(&bench, &format!("{model}-clips"));
    let test = &results["host"]["hearing_test"];
    assert_eq!(test["finding"], finding, "{test}");
    assert_eq!(&test["compared"], compared, "{test}");
    assert_eq!(test["samples"].as_array().map(Vec::len), Some(samples), "{test}");
    table
}

#[test]
fn a_model_that_takes_no_notice_of_silence_is_suspect() {
    for (flags, compared) in [("", "option scores"), ("-M scores=false", "text")] {
        let table = check_hearing(flags, "absent", "ignored", &json!(compared), 3);
        let words = format!(
            "suspect: absent on clips: the audio seems to be ignored: silence in its place changed no {compared} in 3 samples"
        );
        assert!(table.contains(&words), "{table}");
    }
}

#[test]
fn a_model_that_hears_is_not_suspect_and_one_change_is_enough() {
    for (model, compared) in [("echo", "option scores"), ("echo-apart", "option scores")] {
        let table = check_hearing("", model, "heard", &json!(compared), 1);
        assert!(!table.contains("suspect"), "{table}");
    }
    let table = check_hearing("--skip-hearing-test", "absent", "not_tested", &Value::Null, 0);
    assert!(!table.contains("suspect"), "{table}");
}

#[test]
fn the_test_for_hearing_costs_a_run_nothing_that_is_recorded() {
    let tested = bench();
    let command = "run --model absent --task clips -T folder=clips";
    tested.check(command, 0, &["suspect"]);
    tested.check(&format!("{command} --skip-hearing-test --out plain"), 0, &[]);
    let plain = tested.path("plain").join(&tested.directories("plain")[0]);
    assert_eq!(tested.records("absent-clips"), tested.records_in(&plain));
    // The finding is kept: a continued run does not test again.
    let found = results(&tested, "absent-clips")["host"]["hearing_test"].clone();
    tested.check(command, 0, &["suspect"]);
    assert_eq!(results(&tested, "absent-clips")["host"]["hearing_test"], found);
    // A model without audio is not tested.
    tested.check("run --model stuck --task clips -T folder=clips", 0, &[]);
    assert_eq!(results(&tested, "stuck-clips")["host"]["hearing_test"], Value::Null);
}

/// A wav file: 1 is PCM, 3 is floating point. The header gives the length; `data` may be shorter, and the file sparse.
fn write_wav(path: &Path, kind: u16, channels: u16, rate: u32, bits: u16, length: u32, data: &[u8]) {
    let frame = channels * bits / 8;
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((36 + length).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0");
    bytes.extend([kind.to_le_bytes(), channels.to_le_bytes()].concat());
    bytes.extend([rate.to_le_bytes(), (rate * u32::from(frame)).to_le_bytes()].concat());
    bytes.extend([frame.to_le_bytes(), bits.to_le_bytes()].concat());
    bytes.extend(b"data");
    bytes.extend(length.to_le_bytes());
    bytes.extend(data);
    let file = std::fs::File::create(path).unwrap();
    (&file).write_all(&bytes).unwrap();
    file.set_len(44 + u64::from(length)).unwrap();
}

#[test]
fn clips_that_are_no_clips_cost_their_samples_and_nothing_else() {
    let bench = Bench::new();
    let clips = bench.path("clips");
    std::fs::create_dir(&clips).unwrap();
    let at = |name: &str| clips.join(name);
    std::fs::write(at("0-nothing.wav"), "").unwrap();
    write_wav(&at("1-no-frames.wav"), 1, 1, 16_000, 16, 0, &[]);
    let numbers = [0.5f32, f32::NAN, -0.5, f32::INFINITY].map(f32::to_le_bytes).concat();
    write_wav(&at("2-not-a-number.wav"), 3, 1, 16_000, 32, 16, &numbers);
    let stereo: Vec<u8> = (0..192_000u32)
        .flat_map(|n| (((n % 97) * 300) as i16).to_le_bytes())
        .collect();
    write_wav(&at("3-wide.wav"), 1, 2, 192_000, 16, stereo.len() as u32, &stereo);
    // Two hours at a rate so low that the file is small; most of it is a hole in a sparse file.
    write_wav(
        &at("4-two-hours.wav"),
        1,
        1,
        1_000,
        16,
        2 * 7_200_000,
        &stereo[..20_000],
    );
    write_wav(&at("5-an-hour.wav"), 1, 1, 1_000, 16, 2 * 3_600_000, &stereo[..20_000]);
    std::fs::write(at("6-text.wav"), "this is no sound").unwrap();
    std::os::unix::fs::symlink(at("nowhere.wav"), at("7-missing.wav")).unwrap();
    std::fs::copy(clip_file("sweep.flac"), at("8-sound.flac")).unwrap();

    bench.check(
        "run --model scribe --task clips -T folder=clips",
        1,
        &["samples of scribe on clips failed"],
    );
    let records = bench.records("scribe-clips");
    for (number, outcome) in [
        (0, Err("0-nothing.wav`: it holds no samples")),
        (1, Err("1-no-frames.wav`: it holds no samples")),
        (2, Err("2-not-a-number.wav`: frame 1 is not a finite number")),
        (3, Ok(0.5)),
        (4, Err("4-two-hours.wav`: it is longer than 3600 s")),
        (5, Ok(3600.0)),
        (6, Err("6-text.wav`: expected wav, flac, mp3, ogg, m4a, aac or aiff")),
        (7, Err("7-missing.wav`: it cannot be read")),
        (8, Ok(0.3)),
    ] {
        let record = &records[&number];
        match outcome {
            Ok(seconds) => {
                assert_eq!(record["error"], Value::Null, "{record}");
                assert_eq!(record["audio"][0]["seconds"], seconds, "{record}");
                assert!(record["reply"]["text"].as_str().unwrap().contains("lasts"), "{record}");
            }
            Err(words) => {
                assert_eq!(record["status"], "failed", "{record}");
                let message = record["error"]["message"].as_str().unwrap_or_default();
                assert!(message.contains(words), "{record}");
            }
        }
    }
    assert_eq!(
        results(&bench, "scribe-clips")["host"]["hearing_test"]["finding"],
        "heard"
    );
}
