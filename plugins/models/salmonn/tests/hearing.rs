//! Equal to what the reference recorded, and what a host sees of it. `golden/make.py` makes the folder;
//! `SALMONN_GOLDEN=DIR:DIR cargo test -p salmonn --test hearing` compares others too.

extern crate salmonn as _; // or its registration would not be linked in

use plugin_api::client::{Given, ModelClient, Serving};
use plugin_api::serde_json::{Value, json};
use plugin_api::{Clip, Code, Error, Kind, Message, Part, Prompt, Reply, Result, Sampling, Settings, Silent, make};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/tiny")
}

fn try_open(settings: Value) -> Result<ModelClient> {
    let settings = Settings(settings.as_object().unwrap().clone());
    Ok(ModelClient(make(Kind::Model, "salmonn", &settings)?.into()))
}

fn open(folder: &Path) -> ModelClient {
    try_open(json!({ "weights": folder })).unwrap()
}

#[track_caller]
fn check(folder: &Path) {
    let report = open(folder).trace(&json!({ "golden": folder.join("golden") })).unwrap();
    let cases = report["cases"].as_array().unwrap();
    for what in [
        "prompt",
        "fbank",
        "beats",
        "audio_embeddings",
        "logits",
        "greedy",
        "beams",
    ] {
        assert!(cases.iter().any(|case| case["what"] == what), "no {what}");
    }
    for case in cases {
        assert_eq!(case["ok"], true, "{}: {case}", folder.display());
        assert_ne!(case["tokens_equal"], false, "{}: {case}", folder.display());
    }
}

#[test]
fn what_the_reference_recorded_is_reproduced() {
    check(&golden());
    let given = std::env::var("SALMONN_GOLDEN").unwrap_or_default();
    given
        .split(':')
        .filter(|folder| !folder.is_empty())
        .for_each(|folder| check(Path::new(folder)));
}

/// What goes another way on a GPU, gone on a processor: equal in fp32; and in bf16 all that is computed fits together.
#[test]
fn the_way_of_a_gpu_leads_to_the_same() {
    let _elsewhere = nn::device::elsewhere();
    check(&golden());
    let narrow = try_open(json!({ "weights": golden(), "dtype": "bf16" }))
        .unwrap()
        .trace(&json!({ "golden": golden().join("golden") }));
    let report = narrow.unwrap();
    let mut cases = report["cases"].as_array().unwrap().iter();
    // Of logits that reach 12.
    let near = |case: &Value| case["what"] != "logits" || case["max_abs_diff"].as_f64().unwrap() < 1.0;
    assert!(cases.all(near), "{report}");
}

fn tone(seconds: f64, pitch: f32) -> Clip {
    let count = (seconds * 16_000.0) as usize;
    Clip::new(16_000, (0..count).map(|n| 0.5 * (n as f32 * pitch).sin()).collect())
}

/// A question with these clips in front, answered without a search.
fn about(clips: Vec<Clip>) -> Prompt {
    let mut parts: Vec<Part> = (0..clips.len()).map(Part::clip).collect();
    parts.push(Part::text("What is it?"));
    let message = Message {
        parts,
        ..Message::user("")
    };
    let sampling = Sampling {
        beams: Some(1),
        ..Sampling::greedy(6)
    };
    Prompt {
        clips,
        ..Prompt::new([message]).sample(sampling)
    }
}

fn scores(model: &ModelClient, prompt: Prompt) -> Vec<f64> {
    let reply = model.reply(&prompt.choose(["A", "B"]), &Silent).unwrap();
    reply.options.iter().map(|option| option.loglik).collect()
}

#[test]
fn sound_reaches_the_answer() {
    let model = open(&golden());
    let heard = scores(&model, about(vec![tone(0.5, 0.1)]));
    assert_eq!(heard, scores(&model, about(vec![tone(0.5, 0.1)])));
    for other in [tone(0.5, 0.2), Clip::new(16_000, vec![0.0; 8000])] {
        let apart = (heard[0] - scores(&model, about(vec![other]))[0]).abs();
        assert!(apart > 1e-3, "{apart}");
    }
}

#[test]
fn a_reply_says_what_was_heard() {
    let model = open(&golden());
    let reply = |clips| model.reply(&about(clips), &Silent).unwrap();
    // However long it is, a clip becomes as many vectors as thirty seconds have thirds of a second, but for the last.
    let short = reply(vec![tone(0.05, 0.1)]);
    assert_eq!((short.usage.clip_tokens, short.usage.clip_seconds), (88, 0.05));
    assert!(short.flags.is_empty(), "{:?}", short.flags);
    let long = reply(vec![tone(30.5, 0.1), tone(1.0, 0.2)]);
    assert_eq!((long.usage.clip_tokens, long.usage.clip_seconds), (2 * 88, 31.0));
    assert_eq!(long.flags, ["cut-clip"]);
    assert_eq!(reply(vec![]).usage.clip_tokens, 0);
}

#[test]
fn prompts_are_spelled_as_published_and_go_on_as_vicunas_do() {
    let model = open(&golden());
    let text = |prompt: &Prompt| model.tokens(prompt).unwrap().text;
    let clip = || vec![tone(0.1, 0.1)];
    assert_eq!(
        text(&about(clip())),
        "USER: <Speech><SpeechHere></Speech> What is it?\nASSISTANT:"
    );
    assert_eq!(text(&about(vec![])), "USER: What is it?\nASSISTANT:");
    let mut behind = about(clip());
    behind.messages[0].parts.reverse();
    assert_eq!(text(&behind), text(&about(clip())));
    let mut later = about(clip());
    later.messages.insert(0, Message::system("Be brief."));
    later.messages.push(Message::assistant("A dog."));
    later.messages.push(Message::user("Sure?"));
    assert_eq!(
        text(&later),
        "Be brief. USER: <Speech><SpeechHere></Speech> What is it?\nASSISTANT: A dog.</s>USER: Sure?\nASSISTANT:"
    );
}

/// All of them at once.
struct Batch {
    waiting: Mutex<Vec<Prompt>>,
    replies: Mutex<BTreeMap<u64, Result<Reply>>>,
}

impl Serving for Batch {
    fn give(&self, _wait: Duration) -> Given {
        let mut waiting = self.waiting.lock().unwrap();
        match waiting.pop() {
            Some(prompt) => Given::Job {
                id: waiting.len() as u64,
                prompt: Box::new(prompt),
                deadline: None,
            },
            None => Given::End,
        }
    }

    fn take(&self, job: u64, reply: Result<Reply>) -> bool {
        self.replies.lock().unwrap().insert(job, reply).is_none()
    }

    fn token(&self, _job: Option<u64>, _text: &str) -> bool {
        true
    }
}

fn serve(model: &ModelClient, prompts: Vec<Prompt>) -> Vec<Result<Reply>> {
    let batch = Batch {
        waiting: Mutex::new(prompts),
        replies: Mutex::default(),
    };
    model.serve(&batch).unwrap();
    batch.replies.into_inner().unwrap().into_values().collect()
}

#[test]
fn a_batch_of_clips_of_any_length_equals_its_single_answers() {
    let model = open(&golden());
    let mut prompts: Vec<Prompt> = [vec![0.05], vec![0.9, 0.3], vec![], vec![2.4]]
        .into_iter()
        .map(|lengths: Vec<f64>| about(lengths.into_iter().map(|length| tone(length, 0.07)).collect()))
        .collect();
    prompts.push(about(vec![tone(0.4, 0.03)]).sample(Sampling::greedy(6))); // with the search that is published
    let together = serve(&model, prompts.clone());
    for (prompt, reply) in prompts.iter().zip(together) {
        let (alone, reply) = (model.reply(prompt, &Silent).unwrap(), reply.unwrap());
        assert_eq!((reply.text, reply.usage), (alone.text, alone.usage));
    }
}

#[test]
fn a_bad_clip_spoils_its_own_sample_alone() {
    let model = open(&golden());
    let mut spoilt = tone(0.5, 0.1).samples().to_vec();
    spoilt[100] = f32::NAN;
    let mut two_places = about(vec![tone(0.5, 0.1)]);
    two_places.messages[0].parts.push(Part::text("<SpeechHere>"));
    let bad = [
        (about(vec![Clip::new(16_000, vec![])]), Code::CLIP, "clip 1 is empty"),
        (
            about(vec![tone(0.5, 0.1), Clip::new(16_000, spoilt)]),
            Code::CLIP,
            "clip 2 is damaged: sample 100 is NaN",
        ),
        (
            two_places,
            Code::DATA,
            "the prompt has 1 clips, its text as the chat template renders it has 2 places for one",
        ),
    ];
    let good = about(vec![tone(0.5, 0.1)]);
    let mut prompts: Vec<Prompt> = bad.iter().map(|(prompt, ..)| prompt.clone()).collect();
    prompts.push(good.clone());
    let mut replies = serve(&model, prompts);
    let last = replies.pop().unwrap().unwrap();
    assert_eq!(last.text, model.reply(&good, &Silent).unwrap().text);
    for ((_, code, message), reply) in bad.into_iter().zip(replies) {
        let Error {
            code: got,
            message: said,
            ..
        } = reply.unwrap_err();
        assert_eq!((got, said.as_str()), (code, message));
    }
}
