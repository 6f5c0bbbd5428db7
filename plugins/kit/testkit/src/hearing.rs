//! The behaviour that all audio models share.

use crate::{Host, parity};
use plugin_api::client::ModelClient;
use plugin_api::serde_json::json;
use plugin_api::{Clip, Code, Message, NoCallbacks, Part, Prompt, Reply, Result, Sampling};
use std::path::Path;

/// A checkpoint with its recordings in `golden`.
#[track_caller]
pub fn check(adapter: &str, checkpoint: &Path, besides: &[&str]) {
    let model = crate::open(adapter, checkpoint, json!({})).expect("a model");
    let what = [&["prompt", "lesson", "audio_embeddings", "logits", "greedy"], besides].concat();
    parity::check(&model, &checkpoint.join("golden"), None, &what, 1e-3);
}

pub fn tone(seconds: f64, pitch: f32) -> Clip {
    let count = (seconds * 16_000.0) as usize;
    Clip::new(16_000, (0..count).map(|n| 0.5 * (n as f32 * pitch).sin()).collect())
}

/// A question after these clips, answered greedily.
pub fn about(clips: Vec<Clip>) -> Prompt {
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

pub fn scores(model: &ModelClient, prompt: Prompt) -> Vec<f64> {
    let reply = model.reply(&prompt.choose(["A", "B"]), &NoCallbacks).expect("scores");
    reply.options.iter().map(|option| option.loglik).collect()
}

/// Another clip gives another score, and the same clip the same score.
#[track_caller]
pub fn check_sound_counts(model: &ModelClient) {
    let heard = scores(model, about(vec![tone(0.5, 0.1)]));
    assert_eq!(heard, scores(model, about(vec![tone(0.5, 0.1)])));
    for other in [tone(0.5, 0.2), Clip::new(16_000, vec![0.0; 8000])] {
        let apart = (heard[0] - scores(model, about(vec![other]))[0]).abs();
        assert!(apart > 1e-3, "{apart}");
    }
}

/// Serves all prompts at once and returns the replies in order.
pub fn serve(model: &ModelClient, prompts: Vec<Prompt>) -> Vec<Result<Reply>> {
    Host::new(prompts).serve(model)
}

/// Prompts with clips of any length get the same answers together as alone.
#[track_caller]
pub fn check_batch(model: &ModelClient, prompts: Vec<Prompt>) {
    let together = serve(model, prompts.clone());
    assert_eq!(together.len(), prompts.len());
    for (prompt, reply) in prompts.iter().zip(together) {
        let (alone, reply) = (
            model.reply(prompt, &NoCallbacks).expect("alone"),
            reply.expect("together"),
        );
        assert_eq!((reply.text, reply.usage), (alone.text, alone.usage));
    }
}

/// Invalid prompts fail with these messages and do not affect others. `place` is the placeholder of a clip in text.
#[track_caller]
pub fn check_bad_clips(model: &ModelClient, place: &str, mut bad: Vec<(Prompt, Code, &str)>) {
    let mut spoilt = tone(0.5, 0.1).samples().to_vec();
    spoilt[100] = f32::NAN;
    let mut two_places = about(vec![tone(0.5, 0.1)]);
    two_places.messages[0].parts.push(Part::text(place));
    let mut unknown = about(vec![]);
    unknown.messages[0].parts.push(Part::clip(3));
    let places = "the prompt has 1 clips, its text as the chat template renders it has 2 places for one";
    bad.extend([
        (about(vec![Clip::new(16_000, vec![])]), Code::CLIP, "clip 1 is empty"),
        (
            about(vec![Clip::new(16_000, spoilt)]),
            Code::CLIP,
            "clip 1 is damaged: sample 100 is NaN",
        ),
        (two_places, Code::DATA, places),
        (unknown, Code::DATA, "the prompt names clip 3, but brings 0"),
    ]);
    let good = about(vec![tone(0.5, 0.1)]);
    let mut prompts: Vec<Prompt> = bad.iter().map(|(prompt, ..)| prompt.clone()).collect();
    prompts.push(good.clone());
    let mut replies = serve(model, prompts);
    let last = replies.pop().expect("an answer").expect("a good one");
    assert_eq!(last.text, model.reply(&good, &NoCallbacks).expect("the same").text);
    for ((_, code, message), reply) in bad.into_iter().zip(replies) {
        let error = reply.expect_err("it cannot be answered");
        assert_eq!((error.code, error.message.as_str()), (code, message));
    }
}
