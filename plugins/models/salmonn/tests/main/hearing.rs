//! Equal to what the reference recorded, and what a host sees of it. `golden/make.py` makes the folder;
//! `SALMONN_GOLDEN=DIR:DIR cargo test -p salmonn --test hearing` compares others too.

extern crate salmonn as _; // or its registration would not be linked in

use plugin_api::client::ModelClient;
use plugin_api::serde_json::json;
use plugin_api::{Clip, Lesson, LoraUse, Message, NoCallbacks, Prompt, Sampling, Turn};
use std::path::{Path, PathBuf};
use testkit::hearing::{self, about, scores, tone};
use testkit::parity;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/tiny")
}

fn open() -> ModelClient {
    testkit::open("salmonn", &golden(), json!({})).unwrap()
}

#[test]
fn what_the_reference_recorded_is_reproduced() {
    for folder in [golden()].into_iter().chain(parity::given("SALMONN_GOLDEN")) {
        hearing::check("salmonn", &folder, &["fbank", "beats", "beams"]);
    }
}

/// The path for GPUs, computed on a processor: equal in fp32, and consistent in bf16.
#[test]
fn the_way_of_a_gpu_leads_to_the_same() {
    let _elsewhere = nn::device::elsewhere();
    hearing::check("salmonn", &golden(), &["fbank", "beats", "beams"]);
    parity::check_narrow("salmonn", &golden());
}

#[test]
fn sound_reaches_the_answer() {
    hearing::check_sound_counts(&open());
}

#[test]
fn a_reply_says_what_was_heard() {
    let model = open();
    let reply = |clips| model.reply(&about(clips), &NoCallbacks).unwrap();
    // A clip of any length becomes as many vectors as thirty seconds have thirds of a second, but for the last.
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
    let model = open();
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

#[test]
fn a_batch_of_clips_of_any_length_equals_its_single_answers() {
    let lengths = [vec![0.05], vec![0.9, 0.3], vec![], vec![2.4]];
    let clips = lengths.map(|lengths| lengths.into_iter().map(|length| tone(length, 0.07)).collect());
    let mut prompts = clips.map(about).to_vec();
    prompts.push(about(vec![tone(0.4, 0.03)]).sample(Sampling::greedy(6))); // with the search that is published
    hearing::check_batch(&open(), prompts);
}

#[test]
fn a_bad_clip_spoils_its_own_sample_alone() {
    hearing::check_bad_clips(&open(), "<SpeechHere>", vec![]);
}

#[test]
fn its_own_lora_is_one_that_a_prompt_may_turn_off() {
    let model = open();
    assert_eq!(model.card().unwrap().loras, ["salmonn"]);
    let with = |lora: LoraUse| {
        let prompt = Prompt {
            lora,
            ..about(vec![tone(0.5, 0.1)])
        };
        scores(&model, prompt)
    };
    assert_ne!(with(LoraUse::AsLoaded), with(LoraUse::Off));
}

#[test]
fn a_lesson_is_taught_as_it_will_be_asked() {
    let model = open();
    let turn = |message: Message, learn: bool| Turn { message, learn };
    let question = about(vec![]).messages.remove(0);
    let mut heard = about(vec![tone(0.5, 0.1)]).messages.remove(0);
    let check = |question: Message, clips: Vec<Clip>, asked: &[u32]| {
        let lesson = Lesson {
            clips,
            turns: vec![turn(question, false), turn(Message::assistant("A dog."), true)],
            ..Lesson::default()
        };
        let taught = model.lesson_tokens(&lesson).unwrap();
        let (told, said) = taught.ids.split_at(asked.len());
        assert_eq!(told, asked);
        assert!(taught.learn[..asked.len()].iter().all(|learn| !learn));
        assert!(taught.learn[asked.len()..].iter().all(|learn| *learn));
        // As in the published training: the words alone, and the end token.
        let words = model.tokens(&Prompt::plain("A dog.")).unwrap().ids;
        assert_eq!(said, [&words[1..], &[2]].concat());
    };
    check(
        question.clone(),
        vec![],
        &model.tokens(&Prompt::new([question])).unwrap().ids,
    );
    // A clip's place is one token, whatever its length.
    let mut asked = model.tokens(&about(vec![tone(0.5, 0.1)])).unwrap().ids;
    asked.dedup_by(|a, b| (*a, *b) == (0, 0));
    heard.parts.reverse();
    check(heard, vec![tone(0.5, 0.1)], &asked);
}

/// What is learnt stands beside the model's own LoRA. `golden/training.py` makes the recording;
/// `SALMONN_TRAINING=DIR:DIR cargo test -p salmonn` compares others too.
#[test]
fn what_the_reference_learnt_is_learnt() {
    testkit::training::check("salmonn", &golden());
    testkit::training::check_given("salmonn", "SALMONN_TRAINING");
}
