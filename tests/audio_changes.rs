//! `host run --audio`: how changes of clips appear in the sample, the record, the kept files, and the run's name.

use crate::support::Bench;
use host::audio::interventions::write_wav;
use host::audio::{Source, Wanted, decode};
use serde_json::{Value, json};
use std::path::Path;

/// Clips of 16 kHz whose samples are numbered, so that each can be identified.
fn bench(clips: &[(&str, usize)]) -> Bench {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("clips")).unwrap();
    for (name, length) in clips {
        let samples: Vec<f32> = (1..=*length).map(|at| at as f32 / 131_072.0).collect();
        write_wav(&bench.path("clips").join(name), 16_000, &samples).unwrap();
    }
    bench
}

const RUN: &str = "run --model echo --task clips -T folder=clips --skip-hearing-test";

/// A run's record of each clip, by sample, and the samples that it kept of it.
#[track_caller]
fn heard(bench: &Bench, flags: &str) -> Vec<(String, Value, Vec<f32>)> {
    let out = format!("runs-{}", flags.len());
    let _ = std::fs::remove_dir_all(bench.path(&out));
    bench.check(&format!("{RUN} --keep-audio --out {out} {flags}"), 0, &[]);
    let [name] = &bench.directories(&out)[..] else {
        panic!("one run");
    };
    let run = bench.path(&out).join(name);
    let records = bench.records_in(&run).into_values();
    let one = |record: Value| {
        let clip = record["audio"][0].clone();
        let hash = clip["sha256"].as_str().unwrap().to_owned();
        let kept = samples(&run.join("audio").join(format!("{hash}.wav")));
        (record["sample_id"].as_str().unwrap().to_owned(), clip, kept)
    };
    records.map(one).collect()
}

fn samples(path: &Path) -> Vec<f32> {
    decode(Source::File(path), &Wanted::default())
        .unwrap()
        .samples()
        .to_vec()
}

#[test]
fn masks_lie_where_the_published_masks_lie_and_are_heard_there() {
    let golden = [
        (
            "sakura_animal_5_single",
            80_000,
            "percent=30,mode=scattered",
            json!([
                [1069, 8462],
                [23759, 24639],
                [41153, 44918],
                [53644, 56896],
                [60019, 64396],
                [65568, 69901]
            ]),
        ),
        ("demo_0", 32_000, "percent=20,mode=scattered", json!([[21069, 27469]])),
        ("demo_1", 16_000, "percent=50,mode=scattered", json!([[4034, 12034]])),
        ("demo_2", 1_000, "percent=10,mode=scattered", json!([[371, 471]])),
        ("demo", 32_000, "percent=20", json!([[15764, 22164]])),
        ("any", 1_000, "percent=25,mode=end", json!([[750, 1000]])),
    ];
    for (id, length, mask, segments) in golden {
        let bench = bench(&[(id, length)]);
        let [(_, clip, kept)] = &heard(&bench, &format!("--audio mask:{mask}"))[..] else {
            panic!("one clip");
        };
        assert_eq!(clip["changes"][0]["segments"], segments, "{id}");
        assert_eq!(clip["changes"][0]["seed"], 42);
        let masked = |at: usize| {
            let within = |segment: &Value| {
                let end = |which: usize| segment[which].as_u64().unwrap() as usize;
                (end(0)..end(1)).contains(&at)
            };
            segments.as_array().unwrap().iter().any(within)
        };
        for (at, sample) in kept.iter().enumerate() {
            let expected = if masked(at) { 0.0 } else { (at + 1) as f32 / 131_072.0 };
            assert_eq!(*sample, expected, "{id}, sample {at}");
        }
        assert_eq!(kept.len(), length);
    }
}

#[test]
fn changes_follow_each_other_in_the_order_of_the_flags() {
    let bench = bench(&[("a.wav", 8)]);
    let kept = |flags: &str| -> Vec<u32> {
        let found = heard(&bench, flags);
        found[0].2.iter().map(|sample| (sample * 131_072.0) as u32).collect()
    };
    let (reverse, mask) = ("--audio reverse", "--audio mask:percent=50,mode=start");
    assert_eq!(kept(&format!("{reverse} {mask}")), [0, 0, 0, 0, 4, 3, 2, 1]);
    assert_eq!(kept(&format!("{mask} {reverse} ")), [8, 7, 6, 5, 0, 0, 0, 0]);
    write_wav(&bench.path("hint.wav"), 16_000, &[0.5, 0.5]).unwrap();
    let hint = (0.5_f32 * 131_072.0) as u32;
    assert_eq!(
        kept("--audio concat:file=hint.wav,place=before"),
        [hint, hint, 1, 2, 3, 4, 5, 6, 7, 8]
    );
    let found = heard(&bench, "--audio concat:file=hint.wav,gap=0.000125 --audio reverse");
    assert_eq!(found[0].1["changes"][0]["hint"], json!([10, 12]));
    assert_eq!((found[0].2.len(), found[0].2[0]), (12, 0.5));
    // A hint that is laid over the clip is as loud as the clip; the first two samples become louder by the same
    // amount.
    let found = heard(&bench, "--audio overlay:file=hint.wav,snr=0");
    let gain = found[0].1["changes"][0]["gain"].as_f64().unwrap() as f32;
    for (at, sample) in found[0].2.iter().enumerate() {
        let own = (at + 1) as f32 / 131_072.0;
        let expected = if at < 2 { own + 0.5 * gain } else { own };
        assert!((sample - expected).abs() < 1e-7, "{at}: {sample} {expected}");
    }
    assert_eq!(kept("--audio silence"), [0; 8]);
}

#[test]
fn noise_and_swaps_come_from_seeds_and_not_from_what_else_is_asked() {
    let bench = bench(&[("a.wav", 4_000), ("b.wav", 5_000), ("c.wav", 6_000)]);
    let noisy = heard(&bench, "--audio noise:snr=10");
    assert_eq!(noisy, heard(&bench, "--audio noise:snr=10 "), "drawn again");
    let effective = noisy[0].1["changes"][0]["effective_snr"].as_f64().unwrap();
    assert!((effective - 10.0).abs() < 0.5, "{effective}");
    assert_ne!(noisy[0].2, heard(&bench, "--audio noise:snr=10,seed=7")[0].2);
    let plain = heard(&bench, "");
    let swapped = heard(&bench, "--audio swap");
    for (id, clip, kept) in &swapped {
        let other = clip["changes"][0]["clip_of"].as_str().unwrap();
        assert_ne!(other, id);
        let whose = plain.iter().find(|(id, ..)| id == other).unwrap();
        assert_eq!((kept, &clip["sha256"]), (&whose.2, &whose.1["sha256"]));
    }
    // The other clip is drawn from the whole data set.
    assert_eq!(heard(&bench, "--audio swap --limit 1")[..], swapped[..1]);
    let alone = self::bench(&[("a.wav", 10), ("same.wav", 10)]);
    alone.check(&format!("{RUN} --audio swap"), 1, &["has a clip that sounds different"]);
}

#[test]
fn changes_make_runs_of_their_own_that_go_on_and_are_repeated() {
    let bench = bench(&[("a.wav", 1_000), ("b.wav", 1_200)]);
    write_wav(&bench.path("hint.wav"), 16_000, &[0.5; 100]).unwrap();
    bench.check(RUN, 0, &[]);
    let name = |flags: &str| {
        let before = bench.directories("runs");
        bench.check(&format!("{RUN} {flags}"), 0, &["the clips were changed: "]);
        let after = bench.directories("runs");
        let new: Vec<String> = after.into_iter().filter(|name| !before.contains(name)).collect();
        assert_eq!(new.len(), 1, "{flags}: {new:?}");
        bench.path("runs").join(&new[0])
    };
    let all: Vec<_> = [
        "--audio mask:percent=50",
        "--audio mask:percent=50,seed=43",
        "--audio mask:percent=50 --audio reverse",
        "--audio reverse --audio mask:percent=50",
        "--audio concat:file=hint.wav",
    ]
    .map(name)
    .into();
    // Stating a default changes nothing.
    let count = bench.directories("runs").len();
    bench.check(&format!("{RUN} --audio mask:percent=50,mode=random,seed=42"), 0, &[]);
    bench.check(&format!("run --config {}", all[4].join("run.toml").display()), 0, &[]);
    assert_eq!(bench.directories("runs").len(), count);
    let settings = std::fs::read_to_string(all[2].join("run.toml")).unwrap();
    assert!(
        settings.contains("audio = [\n    \"mask:percent=50,mode=random,type=silence,seed=42\",\n    \"reverse\",\n]"),
        "{settings}"
    );
    // Another sound in a file of the same name makes another run.
    write_wav(&bench.path("hint.wav"), 16_000, &[0.25; 100]).unwrap();
    name("--audio concat:file=hint.wav");
    // If no model gets a clip, the flag changes nothing.
    bench.check("run --model echo --task count -T n=2", 0, &[]);
    bench.check(
        "run --model echo --task count,clips -T clips:folder=clips -T count:n=2 --audio reverse",
        0,
        &[],
    );
    let names = bench.directories("runs");
    assert_eq!(
        names.iter().filter(|name| name.starts_with("echo-count-")).count(),
        1,
        "{names:?}"
    );
}

#[test]
fn a_transcriber_hears_what_is_left_and_a_run_with_silence_is_not_suspect() {
    let bench = bench(&[("a.wav", 16_000)]);
    let words = |flags: &str, out: &str| {
        bench.check(
            &format!("run --model stuck --task clips -T folder=clips --transcriber scribe --out {out} {flags}"),
            0,
            &[],
        );
        let run = bench.path(out).join(&bench.directories(out)[0]);
        let record = bench.records_in(&run).remove(&0).unwrap();
        record["audio"][0].clone()
    };
    let (plain, cut) = (words("", "plain"), words("--audio concat:file=clips/a.wav", "twice"));
    assert_ne!(plain["ears"]["words"], cut["ears"]["words"]);
    assert_eq!(cut["seconds"], 2.0);
    let out = bench.check(
        "run --model echo --task clips -T folder=clips --audio silence --json",
        0,
        &[],
    );
    let results: Value = serde_json::from_str(&out).unwrap();
    let host = &results["runs"][0]["host"];
    assert_eq!(host["identity"]["audio"], json!(["silence"]));
    assert_eq!(host["hearing_test"]["finding"], "heard", "{host}");
    assert_eq!(host["suspect"], json!([]), "{host}");
}

#[test]
fn what_is_wrong_with_a_change_is_told_before_anything_is_loaded() {
    let bench = bench(&[("a.wav", 10)]);
    for (flags, exit, words) in [
        (
            "msk:percent=5",
            2,
            &["unknown audio intervention `msk`", "did you mean `mask`?"][..],
        ),
        ("mask", 2, &["`mask` doesn't say its `percent`"]),
        (
            "mask:percent=5,mode=strat",
            2,
            &["can't be `strat`", "did you mean `start`?"],
        ),
        (
            "mask:percent=5,sede=1",
            2,
            &["has no setting `sede`", "did you mean `seed`?"],
        ),
        ("mask:percent=150", 2, &["expected a number from 0 to 100"]),
        (
            "concat:file=nowhere.wav",
            3,
            &["names a file that is not a clip", "nowhere.wav"],
        ),
        (
            "overlay:file=fixtures.toml",
            3,
            &["names a file that is not a clip", "fixtures.toml"],
        ),
    ] {
        bench.check(&format!("{RUN} --audio {flags}"), exit, words);
    }
    bench.check(
        "run --model echo --task count --audio reverse",
        2,
        &["task `count` has no clips that `--audio` could change"],
    );
    bench.check(
        "run --model stuck --task clips -T folder=clips --audio reverse",
        2,
        &["model `stuck` hears no clips", "--transcriber MODEL"],
    );
    assert!(!bench.path("runs").exists());
}
