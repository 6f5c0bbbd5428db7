//! A real browser for the tests of pages: headless Chromium, controlled over a pair of pipes.
//!
//! Debian's package `chromium` is enough. Without it, a test is skipped with a message.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    session: Option<String>,
    last: u64,
    /// Errors of the console, exceptions, and all attempts to load something from elsewhere.
    pub faults: Vec<String>,
    _profile: TempDir,
}

/// A browser; none, with a message, if it is not installed.
pub fn open() -> Option<Browser> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let there = |name: &&&str| {
        let found = Command::new(name)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        found.is_ok_and(|status| status.success())
    };
    let Some(name) = names.iter().find(there) else {
        crate::support::skipped("there is no Chromium; Debian has it as `chromium`");
        return None;
    };
    let profile = tempfile::tempdir().expect("a folder");
    // The browser reads commands from descriptor 3 and answers on 4; each message ends with a NUL.
    let command = format!(
        "exec {name} --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --disable-extensions \
         --disable-background-networking --window-size=1280,1000 --user-data-dir=\"$0\" --remote-debugging-pipe about:blank \
         3<&0 4>&1 0</dev/null 1>/dev/null 2>/dev/null"
    );
    let mut child = Command::new("sh")
        .args(["-c", &command])
        .arg(profile.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a shell");
    let mut browser = Browser {
        to: child.stdin.take().expect("a pipe"),
        from: BufReader::new(child.stdout.take().expect("a pipe")),
        child,
        session: None,
        last: 0,
        faults: Vec::new(),
        _profile: profile,
    };
    let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
    let attached = browser.call(
        "Target.attachToTarget",
        json!({ "targetId": target["targetId"], "flatten": true }),
    );
    browser.session = attached["sessionId"].as_str().map(str::to_owned);
    for domain in ["Page", "Runtime", "Log", "Network"] {
        browser.call(&format!("{domain}.enable"), json!({}));
    }
    Some(browser)
}

impl Browser {
    /// Sends the browser a command, and notes the page's events meanwhile.
    fn call(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let mut message = json!({ "id": self.last, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.to
            .write_all(format!("{message}\0").as_bytes())
            .expect("the browser listens");
        loop {
            let mut bytes = Vec::new();
            self.from.read_until(0, &mut bytes).expect("the browser answers");
            assert!(!bytes.is_empty(), "the browser is gone");
            let message: Value = serde_json::from_slice(&bytes[..bytes.len() - 1]).expect("JSON");
            if message["id"] == self.last {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].clone();
            }
            self.note(&message);
        }
    }

    fn note(&mut self, message: &Value) {
        let params = &message["params"];
        let url = || params["request"]["url"].as_str().unwrap_or_default();
        let own = |url: &str| {
            ["file:", "data:", "blob:", "about:"]
                .iter()
                .any(|start| url.starts_with(start))
        };
        let bad = match message["method"].as_str().unwrap_or_default() {
            "Runtime.exceptionThrown" => true,
            "Runtime.consoleAPICalled" => params["type"] == "error",
            "Log.entryAdded" => params["entry"]["level"] == "error",
            "Network.requestWillBeSent" => !own(url()),
            _ => false,
        };
        if bad {
            self.faults.push(message.to_string().chars().take(600).collect());
        }
    }

    /// Opens a file, and waits until an expression is true.
    pub fn show(&mut self, page: &Path, ready: &str) {
        let url = format!("file://{}", page.canonicalize().expect("a page").display());
        self.call("Page.navigate", json!({ "url": url }));
        self.wait(ready);
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub fn wait(&mut self, ready: &str) {
        let began = Instant::now();
        while self.ask(&format!("Boolean({ready})")) != true {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "`{ready}` never came true; {:?}",
                self.faults
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The value of an expression.
    #[track_caller]
    pub fn ask(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", params);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Presses a key.
    pub fn press(&mut self, key: &str) {
        for kind in ["keyDown", "keyUp"] {
            self.call("Input.dispatchKeyEvent", json!({ "type": kind, "key": key }));
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.to.write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(5) {
            if self.child.try_wait().is_ok_and(|done| done.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
