//! What a run left behind, and the two things it can be held to: it worked, or it failed as
//! it should. When it did not, everything that is known is told.

use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use serde_json::Value;

/// The end of a run.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    pub(super) command: String,
    pub(super) args: Vec<OsString>,
    pub(super) home: PathBuf,
    /// `None` when it had to be killed because it did not end.
    pub(super) status: Option<ExitStatus>,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
}

/// The JSON object on the last line of stderr of a run that failed.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    /// The sentence.
    pub(crate) error: String,
    /// What to do next.
    pub(crate) hint: Option<String>,
    /// Whether the same call may succeed when made again.
    pub(crate) retryable: bool,
    /// The server's own words.
    pub(crate) server_message: Option<String>,
    /// The session the call was about.
    pub(crate) session_id: Option<String>,
    /// The whole object.
    pub(crate) json: Value,
}

impl Output {
    /// Asserts exit status 0.
    #[track_caller]
    pub(crate) fn ok(&self) -> &Self {
        self.must(self.exit_code() == Some(0), "it should have worked");
        self
    }

    /// Asserts that it failed with this status and code, and printed nothing on stdout.
    #[track_caller]
    pub(crate) fn fails(&self, exit: i32, code: &str) -> Failure {
        self.must(self.stdout.is_empty(), "a failure prints nothing on stdout");
        self.prints_and_fails(exit, code)
    }

    /// Asserts that it failed with this status and code, whatever it printed on stdout before:
    /// a reply that could not be stored.
    #[track_caller]
    pub(crate) fn prints_and_fails(&self, exit: i32, code: &str) -> Failure {
        self.must(
            self.exit_code() == Some(exit),
            &format!("it should have failed with status {exit}"),
        );
        let json = self.failure_line();
        self.must(
            json["code"] == code,
            &format!("the code should be `{code}`"),
        );
        let text = |key: &str| json[key].as_str().map(str::to_owned);
        let (error, retryable) = (text("error"), json["retryable"].as_bool());
        self.must(error.is_some(), "`error` should be a sentence");
        self.must(retryable.is_some(), "`retryable` should be true or false");
        Failure {
            error: error.unwrap_or_default(),
            hint: text("hint"),
            retryable: retryable.unwrap_or_default(),
            server_message: text("server_message"),
            session_id: text("session_id"),
            json,
        }
    }

    /// Returns the exit status; `None` when a signal ended it.
    pub(crate) fn exit_code(&self) -> Option<i32> {
        self.status.and_then(|status| status.code())
    }

    /// Returns the number of the signal that ended it.
    pub(crate) fn signal(&self) -> Option<i32> {
        self.status.and_then(|status| status.signal())
    }

    /// Returns what it printed; asserts that it is UTF-8.
    #[track_caller]
    pub(crate) fn stdout(&self) -> &str {
        let text = str::from_utf8(&self.stdout);
        self.must(text.is_ok(), "stdout should be UTF-8");
        text.unwrap_or_default()
    }

    /// Returns what it printed, cut short or not.
    pub(crate) fn stdout_bytes(&self) -> &[u8] {
        &self.stdout
    }

    /// Returns what it said besides; asserts that it is UTF-8.
    #[track_caller]
    pub(crate) fn stderr(&self) -> &str {
        let text = str::from_utf8(&self.stderr);
        self.must(text.is_ok(), "stderr should be UTF-8");
        text.unwrap_or_default()
    }

    /// Returns the one JSON value that is all of stdout.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let value = serde_json::from_str(self.stdout());
        self.must(value.is_ok(), "stdout should be one JSON value");
        value.unwrap_or_default()
    }

    /// Returns the JSON values of stdout, one a line.
    #[track_caller]
    pub(crate) fn json_lines(&self) -> Vec<Value> {
        let lines = self.stdout().lines().map(serde_json::from_str);
        let values: Result<Vec<Value>, _> = lines.collect();
        self.must(values.is_ok(), "every line of stdout should be JSON");
        values.unwrap_or_default()
    }

    /// Returns the `session_id` of a run that worked.
    #[track_caller]
    pub(crate) fn session_id(&self) -> String {
        let json = self.ok().json();
        let id = json["session_id"].as_str();
        self.must(id.is_some(), "there should be a `session_id`");
        id.unwrap_or_default().to_owned()
    }

    /// Fails the test with everything known unless `held`.
    #[track_caller]
    pub(super) fn must(&self, held: bool, expectation: &str) {
        assert!(held, "{expectation}\n{self}");
    }

    #[track_caller]
    fn failure_line(&self) -> Value {
        let objects = self.stderr().lines().filter(|line| line.starts_with('{'));
        self.must(objects.count() == 1, "stderr should hold one JSON object");
        let last = self.stderr().lines().last().unwrap_or("");
        let object: Result<Value, _> = serde_json::from_str(last);
        self.must(
            object.as_ref().is_ok_and(Value::is_object),
            "the last line of stderr should be the JSON object",
        );
        object.unwrap_or_default()
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "$ {}", self.command)?;
        match &self.status {
            Some(status) => writeln!(f, "{status}")?,
            None => writeln!(f, "still running, killed")?,
        }
        for (name, bytes) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            writeln!(f, "--- {name}, {} bytes", bytes.len())?;
            writeln!(f, "{}", shortened(&String::from_utf8_lossy(bytes)))?;
        }
        writeln!(f, "--- files below {}", self.home.display())?;
        for file in files_below(&self.home) {
            let size = std::fs::symlink_metadata(self.home.join(&file)).map_or(0, |m| m.len());
            writeln!(f, "{size:>8} {}", file.display())?;
        }
        Ok(())
    }
}

/// Returns everything below a directory that is no directory itself, relative to it, sorted.
pub(super) fn files_below(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        // What is removed while we look was not there.
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                directories.push(entry.path());
            } else {
                files.extend(entry.path().strip_prefix(root).map(Path::to_owned));
            }
        }
    }
    files.sort();
    files
}

/// Returns the beginning and the end of a long text.
fn shortened(text: &str) -> String {
    const EACH_END: usize = 2000;
    let characters = text.chars().count();
    if characters <= 2 * EACH_END {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(EACH_END).collect();
    let left_out = characters - 2 * EACH_END;
    write!(short, "\n… {left_out} characters …\n").expect("a String takes all text");
    short.extend(text.chars().skip(EACH_END + left_out));
    short
}
