//! Pulls that succeed in the end, whatever happens on the way, and those that must not.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::super::HubFault;
use super::server::Reply;
use super::{Bench, COMMIT, assert_right, behave, files, git_sha1, hub, listing, model, sha256, weights};

const WEIGHTS: &str = "model.safetensors";

#[test]
fn a_pull_gives_the_chosen_files_in_pythons_layout() {
    let bench = Bench::new(behave);
    let snapshot = bench.pull("org/tiny", &["*.json", "*.safetensors", "*.txt"]).unwrap();
    assert_right(&snapshot, &["config.json", WEIGHTS, "tokenizer/merges and more.txt"]);
    let repo = bench.repo();
    assert_eq!(snapshot.folder, repo.join("snapshots").join(COMMIT));
    assert_eq!(fs::read_to_string(repo.join("refs/main")).unwrap(), COMMIT);
    assert!(repo.join("blobs").join(sha256(&weights())).is_file());
    let link = |name: &str| fs::read_link(snapshot.folder.join(name)).unwrap();
    assert_eq!(
        link(WEIGHTS).to_str().unwrap(),
        format!("../../blobs/{}", sha256(&weights()))
    );
    let merges = "tokenizer/merges and more.txt";
    assert_eq!(
        link(merges).to_str().unwrap(),
        format!("../../../blobs/{}", git_sha1(b"a b\n"))
    );
    assert_eq!(bench.server.requests_for("model.onnx").len(), 0);
    assert_eq!(bench.server.requests().len(), 4, "one for the list, one a file");
}

#[test]
fn a_second_pull_fetches_only_what_is_missing() {
    let bench = Bench::new(behave);
    bench.pull("org/tiny", &["*.json"]).unwrap();
    bench.pull("org/tiny", &["*.json", "*.safetensors"]).unwrap();
    assert_eq!(bench.server.requests_for("config.json").len(), 1);
    assert_eq!(bench.server.requests_for(WEIGHTS).len(), 1);
}

#[test]
fn a_data_set_is_asked_for_where_data_sets_are() {
    let bench = Bench::new(|request| match request.path.as_str() {
        "/api/datasets/org/arc/revision/v1%2Fpart?blobs=true" => Reply::ok(
            serde_json::json!({"sha": COMMIT, "siblings": [
                {"rfilename": "test.jsonl", "size": 2, "blobId": git_sha1(b"{}")}]})
            .to_string(),
        ),
        "/datasets/org/arc/resolve/0123456789abcdef0123456789abcdef01234567/test.jsonl" => Reply::ok("{}"),
        _ => Reply::status(404),
    });
    let snapshot = bench.pull("datasets/org/arc@v1/part", &[]).unwrap();
    assert!(
        snapshot
            .folder
            .ends_with(format!("datasets--org--arc/snapshots/{COMMIT}"))
    );
    assert_eq!(fs::read_to_string(snapshot.folder.join("test.jsonl")).unwrap(), "{}");
}

#[test]
fn a_connection_that_breaks_off_is_gone_on_with_from_there() {
    let bench = Bench::new(|request| match request.path.ends_with(WEIGHTS) && request.earlier < 2 {
        true => Reply::part_of(&weights(), request).cut_after(100_000),
        false => behave(request),
    });
    let snapshot = bench.pull("org/tiny", &[WEIGHTS]).unwrap();
    assert_right(&snapshot, &[WEIGHTS]);
    let sent: Vec<_> = bench
        .server
        .requests_for(WEIGHTS)
        .iter()
        .map(|(request, bytes)| (request.header("range").map(str::to_owned), *bytes))
        .collect();
    let range = |from: usize| Some(format!("bytes={from}-"));
    assert_eq!(
        sent,
        [(None, 100_000), (range(100_000), 100_000), (range(200_000), 100_000)]
    );
    assert!(!bench.partial_weights().exists());
}

#[test]
fn a_stopped_pull_leaves_a_part_that_the_next_one_goes_on_from() {
    let bench = Bench::new(behave);
    let stop = AtomicBool::new(false);
    let mut stop_in_the_middle = |progress: super::super::Progress<'_>| {
        if progress.done_bytes > 0 {
            stop.store(true, Ordering::Relaxed);
        }
    };
    let error = bench
        .hub
        .pull(&model("org/tiny"), &[WEIGHTS], &mut stop_in_the_middle, &stop)
        .unwrap_err();
    assert_eq!(error.fault, HubFault::Stopped);
    let have = fs::metadata(bench.partial_weights()).unwrap().len();
    assert!(have > 0 && have < 300_000, "{have}");
    assert_eq!(bench.hub.cached(&model("org/tiny"), &[WEIGHTS]), None);

    assert_right(&bench.pull("org/tiny", &[WEIGHTS]).unwrap(), &[WEIGHTS]);
    let (request, sent) = &bench.server.requests_for(WEIGHTS)[1];
    assert_eq!(request.header("range"), Some(format!("bytes={have}-").as_str()));
    assert_eq!(*sent as u64, 300_000 - have);
}

#[test]
fn a_server_that_knows_no_ranges_sends_the_file_anew() {
    let bench = Bench::new(|request| match (request.path.ends_with(WEIGHTS), request.earlier) {
        (true, 0) => Reply::ok(weights()).cut_after(100_000),
        (true, _) => Reply::ok(weights()),
        _ => behave(request),
    });
    assert_right(&bench.pull("org/tiny", &[WEIGHTS]).unwrap(), &[WEIGHTS]);
}

#[test]
fn a_server_that_always_breaks_off_at_the_same_place_is_given_up() {
    let bench = Bench::new(|request| match request.path.ends_with(WEIGHTS) {
        true => Reply::ok(weights()).cut_after(100_000),
        false => behave(request),
    });
    let fault = bench.pull("org/tiny", &[WEIGHTS]).unwrap_err().fault;
    assert!(matches!(fault, HubFault::Network { .. }), "{fault}");
    assert_eq!(bench.server.requests_for(WEIGHTS).len(), 5);
}

#[test]
fn a_wrong_hash_is_an_error_that_leaves_nothing() {
    for (name, hash) in [(WEIGHTS, "sha256"), ("config.json", "git sha1")] {
        let bench = Bench::new(move |request| {
            let mut reply = behave(request);
            if request.path.ends_with(name) {
                reply.body[3] ^= 1;
            }
            reply
        });
        let error = bench.pull("org/tiny", &[name]).unwrap_err();
        let HubFault::Corrupt {
            file,
            what,
            expected,
            got,
        } = &error.fault
        else {
            panic!("{error}")
        };
        assert_eq!((file.as_str(), *what), (name, hash));
        let content = files().into_iter().find(|(found, _)| *found == name).unwrap().1;
        let right = if hash == "sha256" {
            sha256(&content)
        } else {
            git_sha1(&content)
        };
        assert!(*expected == right && *got != right, "{error}");
        assert_eq!(fs::read_dir(bench.repo().join("blobs")).unwrap().count(), 0);
        assert_eq!(bench.server.requests_for(name).len(), 1);
    }
}

#[test]
fn a_partial_file_with_wrong_content_is_begun_anew() {
    for length in [1_000, 300_000, 300_001] {
        let bench = Bench::new(behave);
        fs::create_dir_all(bench.partial_weights().parent().unwrap()).unwrap();
        fs::write(bench.partial_weights(), vec![7; length]).unwrap();
        assert_right(&bench.pull("org/tiny", &[WEIGHTS]).unwrap(), &[WEIGHTS]);
    }
}

#[test]
fn a_file_longer_than_it_should_be_is_refused() {
    let bench = Bench::new(|request| match request.path.ends_with(WEIGHTS) {
        true => Reply::ok([weights(), vec![0; 4 << 20]].concat()),
        false => behave(request),
    });
    let error = bench.pull("org/tiny", &[WEIGHTS]).unwrap_err();
    let expected = "`model.safetensors` arrived with length above 300000, expected 300000";
    assert!(error.to_string().ends_with(expected), "{error}");
    assert_eq!(fs::read_dir(bench.repo().join("blobs")).unwrap().count(), 0);
}

#[test]
fn a_server_in_trouble_is_tried_again_with_growing_pauses() {
    let bench = Bench::new(|request| match request.earlier {
        0 | 1 => Reply::status(503),
        _ => behave(request),
    });
    assert_right(&bench.pull("org/tiny", &["config.json"]).unwrap(), &["config.json"]);
    let slept: f64 = bench.pauses.lock().unwrap().iter().sum();
    // Half a second and one, for the list and again for the file.
    assert!((slept - 3.0).abs() < 1e-6, "{slept}");
}

#[test]
fn the_pause_is_the_one_the_server_asks_for_within_reason() {
    for (asked, expected) in [
        ("7", 7.0),
        ("86400", 60.0),
        ("0", 0.0),
        ("Fri, 21 Nov 2036 03:14:47 GMT", 0.5),
    ] {
        let bench = Bench::new(
            move |request| match request.earlier == 0 && request.path.starts_with("/api") {
                true => Reply::status(429).with("Retry-After", asked),
                false => behave(request),
            },
        );
        bench.pull("org/tiny", &["config.json"]).unwrap();
        let slept: f64 = bench.pauses.lock().unwrap().iter().sum();
        assert!((slept - expected).abs() < 1e-6, "{asked}: {slept}");
    }
}

#[test]
fn a_server_that_stays_in_trouble_is_given_up() {
    let bench = Bench::new(|_| Reply::status(500));
    let error = bench.pull("org/tiny", &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot get `org/tiny` from the hub: 127.0.0.1 answers with status 500"
    );
    assert_eq!(bench.server.requests().len(), 5);
}

#[test]
fn a_server_that_lists_names_alone_is_asked_for_the_rest() {
    let bench = Bench::new(|request| {
        let names: Vec<_> = files()
            .iter()
            .map(|(name, _)| serde_json::json!({"rfilename": name}))
            .collect();
        match (request.path.starts_with("/api"), request.method.as_str()) {
            (true, _) => Reply::ok(serde_json::json!({"sha": COMMIT, "siblings": names}).to_string()),
            (false, "HEAD") if request.path.ends_with(WEIGHTS) => Reply::status(302)
                .with("x-linked-etag", format!("\"{}\"", sha256(&weights())))
                .with("x-linked-size", "300000")
                .with("location", "http://127.0.0.1:1/elsewhere"),
            (false, "HEAD") => behave(request).with("etag", format!("W/\"{}\"", git_sha1(b"a b\n"))),
            _ => behave(request),
        }
    });
    let snapshot = bench.pull("org/tiny", &[WEIGHTS, "*.txt"]).unwrap();
    assert_right(&snapshot, &[WEIGHTS, "tokenizer/merges and more.txt"]);
    assert!(bench.repo().join("blobs").join(sha256(&weights())).is_file());
}

#[test]
fn pulls_of_the_same_file_at_once_fetch_it_once() {
    let bench = Bench::new(|request| {
        if request.path.ends_with(WEIGHTS) {
            // Long enough for all of them to want it.
            thread::sleep(std::time::Duration::from_millis(150));
        }
        behave(request)
    });
    thread::scope(|scope| {
        for _ in 0..4 {
            // A hub each, as processes have.
            let hub = hub(&bench.server, &bench.folder, None, bench.pauses);
            scope.spawn(move || {
                let stop = AtomicBool::new(false);
                let snapshot = hub.pull(&model("org/tiny"), &[WEIGHTS], &mut |_| {}, &stop).unwrap();
                assert_right(&snapshot, &[WEIGHTS]);
            });
        }
    });
    assert_eq!(bench.server.requests_for(WEIGHTS).len(), 1);
}

#[test]
fn waiting_for_another_pull_can_be_stopped() {
    let bench = Bench::new(behave);
    let lock = bench
        .folder
        .path()
        .join(".locks/models--org--tiny")
        .join(format!("{}.lock", sha256(&weights())));
    fs::create_dir_all(lock.parent().unwrap()).unwrap();
    let held = fs::File::create(&lock).unwrap();
    held.lock().unwrap();
    let stop = AtomicBool::new(false);
    let fault = thread::scope(|scope| {
        let pull = scope.spawn(|| bench.hub.pull(&model("org/tiny"), &[WEIGHTS], &mut |_| {}, &stop));
        thread::sleep(std::time::Duration::from_millis(100));
        stop.store(true, Ordering::Relaxed);
        pull.join().unwrap().unwrap_err().fault
    });
    assert_eq!(fault, HubFault::Stopped);
    assert_eq!(bench.server.requests_for(WEIGHTS).len(), 0);
}

#[test]
fn a_name_that_leads_out_of_the_cache_is_refused() {
    for name in [
        "../evil",
        "a/../../evil",
        "/etc/passwd",
        "a//b",
        "a/./b",
        "..\\evil",
        "C:evil",
        "",
        "a\0b",
    ] {
        let bench = Bench::new(move |_| {
            let siblings = serde_json::json!([{"rfilename": name, "size": 1, "blobId": "0".repeat(40)}]);
            Reply::ok(serde_json::json!({"sha": COMMIT, "siblings": siblings}).to_string())
        });
        let fault = bench.pull("org/tiny", &[]).unwrap_err().fault;
        assert!(matches!(fault, HubFault::UnsafeName { .. }), "{name:?}: {fault}");
        assert_eq!(fs::read_dir(bench.folder.path()).unwrap().count(), 0, "{name:?}");
    }
}

#[test]
fn a_list_that_is_none_is_refused() {
    for answer in [
        "",
        "<html>",
        "[]",
        "{\"siblings\": []}",
        "{\"sha\": \"../../x\", \"siblings\": []}",
    ] {
        let bench = Bench::new(move |_| Reply::ok(answer));
        let fault = bench.pull("org/tiny", &[]).unwrap_err().fault;
        assert!(matches!(fault, HubFault::Malformed { .. }), "{answer:?}: {fault}");
    }
    // A hash that would lead out of the folder of blobs counts as none.
    let bench = Bench::new(|request| match request.path.starts_with("/api") {
        true => Reply::ok(listing().replace(&git_sha1(&files()[0].1), "../../../../x")),
        false => behave(request).with("etag", "\"../../x\""),
    });
    let fault = bench.pull("org/tiny", &["config.json"]).unwrap_err().fault;
    assert!(matches!(fault, HubFault::Malformed { .. }), "{fault}");
}

#[test]
fn progress_counts_bytes_and_files_up_to_all_of_them() {
    let bench = Bench::new(behave);
    let mut seen = Vec::new();
    let mut note = |progress: super::super::Progress<'_>| {
        seen.push((progress.done_bytes, progress.total_bytes, progress.done_files));
    };
    let patterns = ["config.json", WEIGHTS];
    bench
        .hub
        .pull(&model("org/tiny"), &patterns, &mut note, &AtomicBool::new(false))
        .unwrap();
    let total = 300_000 + 22;
    assert!(seen.is_sorted(), "{seen:?}");
    assert!(seen.iter().all(|(_, all, _)| *all == total), "{seen:?}");
    assert_eq!((seen[0], seen[seen.len() - 1]), ((0, total, 0), (total, total, 2)));
}
