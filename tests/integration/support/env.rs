//! A small world for one test: a home, a directory to work in, a server, and nothing else of
//! the machine it runs on.

use std::any::Any;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use super::output::files_below;
use super::run::Run;
use super::schemas;
use super::server::Server;
use super::tools::{profile, search_path};

/// The world of one test. It is gone when the test is over.
pub(crate) struct TestEnv {
    server: Server,
    root: TempDir,
    /// Where every run keeps its sessions, if not in the home.
    elsewhere: Vec<(&'static str, OsString)>,
    /// What goes with the world.
    _held: Option<Box<dyn Any + Send + Sync>>,
}

impl TestEnv {
    /// Makes an empty world.
    pub(crate) fn new() -> Self {
        let env = Self {
            root: TempDir::new().expect("a temporary directory"),
            server: Server::start(),
            elsewhere: Vec::new(),
            _held: None,
        };
        for directory in [env.home(), env.work(), env.tmp()] {
            std::fs::create_dir(directory).expect("a new directory");
        }
        env
    }

    /// Makes an empty world whose runs keep their sessions where these variables lead. `held` is
    /// dropped with the world.
    pub(crate) fn keeping_sessions_in(
        variables: Vec<(&'static str, OsString)>,
        held: impl Any + Send + Sync,
    ) -> Self {
        let mut env = Self::new();
        env.elsewhere = variables;
        env._held = Some(Box::new(held));
        env
    }

    /// Prepares a run of the program.
    pub(crate) fn command(&self) -> Run<'_> {
        Run::new(self)
    }

    /// Prepares a turn.
    pub(crate) fn chat(&self, prompt: &str) -> Run<'_> {
        self.command().args(["--prompt", prompt])
    }

    /// Returns the server every run talks to.
    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// Returns `$HOME`.
    pub(crate) fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    /// Returns the directory runs start in, empty at first.
    pub(crate) fn work(&self) -> PathBuf {
        self.root.path().join("work")
    }

    /// Returns where the sessions are kept.
    pub(crate) fn store(&self) -> PathBuf {
        self.home().join(".ollama-prompt")
    }

    /// Returns where the log of a session is, be it there or not.
    pub(crate) fn log_path(&self, session_id: &str) -> PathBuf {
        let session = self.store().join("sessions").join(session_id);
        session.join("events.jsonl")
    }

    /// Returns a session's log.
    #[track_caller]
    pub(crate) fn log(&self, session_id: &str) -> String {
        read(&self.log_path(session_id))
    }

    /// Returns the lines of a session's log; asserts that each is whole.
    #[track_caller]
    pub(crate) fn lines(&self, session_id: &str) -> Vec<Value> {
        let log = self.log(session_id);
        assert!(log.ends_with('\n'), "the last line is cut short: {log:?}");
        log.lines().map(parse).collect()
    }

    /// Returns the drafts, oldest first.
    #[track_caller]
    pub(crate) fn drafts(&self) -> Vec<Value> {
        let open = self.store().join("open");
        let files = files_below(&open).into_iter().map(|name| open.join(name));
        files.map(|path| parse(&read(&path))).collect()
    }

    /// Returns everything below `$HOME` that is no directory, relative to it, sorted.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        files_below(&self.home())
    }

    /// Returns all files below `$HOME` with their bytes, to be compared with a later look.
    #[track_caller]
    pub(crate) fn snapshot(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let with_bytes = |file: PathBuf| {
            let bytes = std::fs::read(self.home().join(&file));
            let bytes = bytes.unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            (file, bytes)
        };
        self.files().into_iter().map(with_bytes).collect()
    }

    /// Returns what may not change by reading: all files but those of `cache`, which a list
    /// writes.
    pub(crate) fn records(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut records = self.snapshot();
        records.retain(|path, _| !path.starts_with(".ollama-prompt/cache"));
        records
    }

    /// Writes a file below [`work`](Self::work), or anywhere if the path is absolute, with the
    /// directories it is in.
    #[track_caller]
    #[expect(
        clippy::disallowed_methods,
        reason = "what a user wrote is not written by the store"
    )]
    pub(crate) fn write(&self, path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.work().join(path);
        let directory = path.parent().expect("a file is in a directory");
        std::fs::create_dir_all(directory).expect("a directory for the file");
        std::fs::write(&path, bytes).expect("a file of the test's own");
        path
    }

    /// Returns the environment every run gets, and nothing but this.
    pub(super) fn variables(&self) -> Vec<(&'static str, OsString)> {
        let mut variables: Vec<(&'static str, OsString)> = vec![
            ("HOME", self.home().into()),
            ("PATH", search_path()),
            ("TMPDIR", self.tmp().into()),
            ("OLLAMA_HOST", self.server.url().into()),
        ];
        variables.extend(profile().map(|file| ("LLVM_PROFILE_FILE", file)));
        variables.extend(self.elsewhere.iter().cloned());
        variables
    }

    fn tmp(&self) -> PathBuf {
        self.root.path().join("tmp")
    }
}

impl Drop for TestEnv {
    /// Holds what was stored to its schema, unless the test has failed already.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            schemas::hold_store(&self.store());
        }
    }
}

#[track_caller]
fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[track_caller]
fn parse(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_else(|e| panic!("not JSON, {e}: {json}"))
}
