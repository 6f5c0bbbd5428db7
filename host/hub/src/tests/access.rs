//! What is refused, missing or elsewhere, and where the token goes.

use super::super::{Hub, HubFault, Settings};
use super::server::{Reply, Server};
use super::{Bench, COMMIT, assert_right, behave, sha256, weights};

const TOKEN: &str = "hf_very_secret_token";

#[track_caller]
fn check(bench: &Bench, id: &str, patterns: &[&str], message: &str, hint: &str) {
    let error = bench.pull(id, patterns).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot get `{id}` from the hub: {message}"));
    assert_eq!(error.hint().unwrap_or_default(), hint);
    let everything = format!("{error} {error:?} {:?} {:?}", error.hint(), bench.hub);
    assert!(!everything.contains(TOKEN), "{everything}");
}

#[test]
fn a_gated_repository_says_what_it_needs() {
    let answer = |request: &super::Request| match request.path.contains("/revision/") {
        true => Reply::status(403).with("X-Error-Code", "GatedRepo"),
        false => Reply::status(404),
    };
    check(
        &Bench::new(answer),
        "org/tiny",
        &[],
        "127.0.0.1 refuses access (status 403)",
        "check the spelling; if it is right, accept the licence on the page of `org/tiny`, if it has one, \
         and set HF_TOKEN to a token that may read it",
    );
    check(
        &Bench::with_token(answer, Some(TOKEN)),
        "org/tiny",
        &[],
        "127.0.0.1 refuses access (status 403)",
        "the token in HF_TOKEN has no access: accept the licence on the page of `org/tiny`, or use another token",
    );
}

/// Some servers quote what they were sent.
#[test]
fn the_servers_own_words_are_passed_on_without_the_token() {
    let answer = |_: &super::Request| Reply::status(401).with("X-Error-Message", format!("bad {TOKEN}"));
    check(
        &Bench::with_token(answer, Some(TOKEN)),
        "org/tiny",
        &[],
        "127.0.0.1 refuses access (status 401, \"bad (token)\")",
        "the token in HF_TOKEN has no access: accept the licence on the page of `org/tiny`, or use another token",
    );
}

#[test]
fn a_repository_that_is_not_there_is_told_from_a_revision_that_is_not() {
    let bench = Bench::with_token(|_| Reply::status(404), Some(TOKEN));
    check(
        &bench,
        "org/tiny",
        &[],
        "127.0.0.1 has no such model, or hides it",
        "check the spelling; a private one needs a token that may read it in HF_TOKEN",
    );
    let bench = Bench::new(|request| match request.path.as_str() {
        "/api/datasets/org/tiny" => Reply::ok("{}"),
        _ => Reply::status(404),
    });
    check(
        &bench,
        "org/tiny",
        &[],
        "127.0.0.1 has no such model, or hides it",
        "there is a data set of this name",
    );
    let bench = Bench::new(|request| match request.path.as_str() {
        "/api/models/org/tiny" => Reply::ok("{}"),
        "/api/models/org/tiny/refs" => {
            Reply::ok(r#"{"branches": [{"name": "main"}, {"name": "step-1000"}], "tags": [{"name": "v2"}]}"#)
        }
        _ => Reply::status(404),
    });
    check(
        &bench,
        "org/tiny@step-100",
        &[],
        "it has no revision `step-100`",
        "the nearest name is `step-1000`",
    );
}

#[test]
fn a_file_that_is_not_there_is_told_with_the_nearest() {
    let bench = Bench::new(behave);
    check(
        &bench,
        "org/tiny",
        &["*.json", "model.safetensor"],
        "no file of it matches `model.safetensor`",
        "the nearest name is `model.safetensors`",
    );
    check(&bench, "org/tiny", &["*.gguf"], "no file of it matches `*.gguf`", "");
}

#[test]
fn nobody_there_is_told_with_the_host() {
    let bench = Bench::new(behave);
    let mut settings = Settings {
        // Port 1 is one that nothing listens on.
        endpoint: "http://127.0.0.1:1".to_owned(),
        cache: bench.folder.path().to_owned(),
        token: None,
        offline: false,
    };
    let mut hub = Hub::new(settings.clone()).unwrap();
    hub.client.patience.wait = Box::new(|_| {});
    let stop = std::sync::atomic::AtomicBool::new(false);
    let error = hub
        .pull(&super::model("org/tiny"), &[], &mut |_| {}, &stop)
        .unwrap_err();
    assert!(
        error.to_string().contains("127.0.0.1 cannot be reached or broke off ("),
        "{error}"
    );
    for wrong in [
        "",
        "huggingface.co",
        "ftp://127.0.0.1",
        "https://user:secret@127.0.0.1",
        "http://a b",
    ] {
        settings.endpoint = wrong.to_owned();
        let fault = Hub::new(settings.clone()).unwrap_err();
        assert_eq!(
            fault.to_string(),
            "expected an address as in https://host, without a password in `HF_ENDPOINT`"
        );
    }
}

/// The hub sends large files from a storage server, with a signed address: the token must not go there.
#[test]
fn the_token_goes_to_the_hub_and_to_no_server_that_it_redirects_to() {
    let storage = Server::start(|request| Reply::part_of(&weights(), request));
    let signed = format!("{}/blob?X-Signature=secret-signature", storage.address());
    let bench = Bench::with_token(
        move |request| match request.path.as_str() {
            "/api/models/org/tiny/revision/main?blobs=true" => {
                Reply::status(307).with("location", "/api/models/org/renamed/revision/main?blobs=true")
            }
            "/api/models/org/renamed/revision/main?blobs=true" => Reply::ok(super::listing()),
            path if path.ends_with(".safetensors") => Reply::status(302).with("location", signed.clone()),
            _ => behave(request),
        },
        Some(TOKEN),
    );
    let snapshot = bench.pull("org/tiny", &["model.safetensors"]).unwrap();
    assert_right(&snapshot, &["model.safetensors"]);
    let bearer = format!("Bearer {TOKEN}");
    assert_eq!(bench.server.requests().len(), 3);
    assert!(
        bench
            .server
            .requests()
            .iter()
            .all(|request| request.header("authorization") == Some(&bearer))
    );
    assert_eq!(storage.requests().len(), 1);
    assert_eq!(storage.requests()[0].header("authorization"), None);
}

#[test]
fn a_signed_address_is_in_no_message() {
    let storage = Server::start(|_| Reply::status(403));
    let signed = format!("{}/blob?X-Signature=secret-signature", storage.address());
    let bench = Bench::new(move |request| match request.path.ends_with(".safetensors") {
        true => Reply::status(302).with("location", signed.clone()),
        false => behave(request),
    });
    let error = bench.pull("org/tiny", &["model.safetensors"]).unwrap_err();
    assert!(matches!(error.fault, HubFault::Refused { .. }), "{error}");
    assert!(
        !format!("{error} {error:?} {:?}", error.hint()).contains("signature"),
        "{error:?}"
    );
}

#[test]
fn redirects_in_a_circle_end() {
    let bench = Bench::new(|request| Reply::status(302).with("location", request.path.clone()));
    let error = bench.pull("org/tiny", &[]).unwrap_err();
    assert!(error.to_string().ends_with("(more than 10 redirects)"), "{error}");
}

#[test]
fn a_pull_resumed_through_a_redirect_asks_the_storage_for_the_rest_only() {
    let storage = Server::start(|request| match request.earlier {
        0 => Reply::part_of(&weights(), request).cut_after(123_456),
        _ => Reply::part_of(&weights(), request),
    });
    let address = storage.address();
    let bench = Bench::new(move |request| match request.path.ends_with(".safetensors") {
        true => Reply::status(302).with("location", format!("{address}/{COMMIT}/{}", sha256(&weights()))),
        false => behave(request),
    });
    assert_right(
        &bench.pull("org/tiny", &["model.safetensors"]).unwrap(),
        &["model.safetensors"],
    );
    assert_eq!(storage.requests()[1].header("range"), Some("bytes=123456-"));
}
