//! Tests in this process; `host plugins check` tests more, on the built library.

use @CRATE@ as _; // else the linker drops the crate, and its adapters with it
use plugin_api::client::ModelClient;
use plugin_api::{make, Code, Kind, Message, Part, Prompt, Sampling, Settings, NoCallbacks};

fn model() -> ModelClient {
    let adapter = make(Kind::Model, "@NAME@", &Settings::default());
    ModelClient(adapter.expect("it needs no settings").into())
}

#[test]
fn it_answers() {
    let reply = model().reply(&Prompt::new([Message::user("two words")]), &NoCallbacks).expect("an answer");
    assert_eq!(reply.text, "two words");
}

#[test]
fn it_stops_where_it_is_told_to() {
    let prompt = Prompt::new([Message::user("two words")]).sample(Sampling::greedy(1));
    assert_eq!(model().reply(&prompt, &NoCallbacks).expect("an answer").text, "two ");
}

#[test]
fn it_refuses_what_it_cannot_read() {
    let mut prompt = Prompt::new([Message::user("listen")]);
    prompt.messages[0].parts.push(Part::clip(0));
    let error = model().reply(&prompt, &NoCallbacks).expect_err("it reads no audio");
    assert_eq!(error.code, Code::UNSUPPORTED);
}
