//! A real browser, without a window: it opens pages, and tells what is in them and what they did.
//!
//! It is spoken to in the Chrome DevTools protocol over a pair of pipes: each message is JSON and
//! ends with a NUL. What is evaluated so is not held back by the policy of a page, which only
//! binds what the page brings itself.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::PATIENCE;
use super::tools::search_path;

/// What Debian's package is called, and its program.
pub(crate) const BROWSER: &str = "chromium";

/// The descriptors 3 and 4 are the pair of pipes; the shell puts them there.
const START: &str = r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#;

/// A browser with one page open.
pub(crate) struct Browser {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    /// The page that is spoken to.
    page: Option<String>,
    /// What happened since the page was opened.
    events: Vec<Value>,
    calls: u64,
    _profile: TempDir,
}

impl Browser {
    /// Starts a browser that knows nobody: every request of a page goes to `proxy`
    /// (`host:port`), be it to this machine.
    pub(crate) fn start(proxy: &str) -> Self {
        let profile = TempDir::new().expect("a directory for the profile");
        let mut child = Command::new("sh")
            .args(["-c", START, BROWSER])
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--no-first-run",
                "--remote-debugging-pipe",
                "--proxy-bypass-list=<-loopback>",
            ])
            .arg(format!("--proxy-server={proxy}"))
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .env_clear()
            .env("PATH", search_path())
            .env("HOME", profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let to = child.stdin.take().expect("a pipe");
        let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
        let (heard, from) = channel();
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while out.read_until(0, &mut message).is_ok_and(|n| n > 0) {
                message.pop();
                let parsed = serde_json::from_slice(&message).expect("the browser speaks JSON");
                message.clear();
                if heard.send(parsed).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self {
            child,
            to,
            from,
            page: None,
            events: Vec::new(),
            calls: 0,
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", attach);
        browser.page = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Network", "Runtime"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Opens a file and waits until all of it is loaded.
    #[track_caller]
    pub(crate) fn open(&mut self, file: &Path) {
        self.events.clear();
        let url = format!("file://{}", file.display());
        let begun = self.call("Page.navigate", json!({"url": url}));
        assert!(begun["errorText"].is_null(), "{begun}");
        while self.happened("Page.loadEventFired").is_empty() {
            self.listen();
        }
    }

    /// Returns the value of an expression, once it is there if it is a promise.
    #[track_caller]
    pub(crate) fn evaluate(&mut self, expression: &str) -> Value {
        let arguments =
            json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let mut result = self.call("Runtime.evaluate", arguments);
        assert!(
            result["exceptionDetails"].is_null(),
            "{expression}: {result}"
        );
        result["result"]["value"].take()
    }

    /// Returns the parameters of the events of a kind since the page was opened.
    pub(crate) fn happened(&self, method: &str) -> Vec<&Value> {
        let of_kind = self.events.iter().filter(|event| event["method"] == method);
        of_kind.map(|event| &event["params"]).collect()
    }

    /// Calls a method of the protocol.
    #[track_caller]
    pub(crate) fn call(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let id = self.calls;
        let mut message = json!({"id": id, "method": method, "params": params});
        if let Some(page) = &self.page {
            message["sessionId"] = page.clone().into();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.to.write_all(&bytes).expect("the browser listens");
        loop {
            let mut answer = self.listen();
            if answer["id"] == id {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].take();
            }
        }
    }

    /// Waits for the next message; keeps it if it is an event.
    fn listen(&mut self) -> Value {
        let message = self.from.recv_timeout(PATIENCE);
        let message = message.unwrap_or_else(|e| panic!("the browser says nothing: {e}"));
        if message.get("id").is_none() {
            self.events.push(message.clone());
        }
        message
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The shell has become the browser; with it its helpers lose the pipe they live by.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
