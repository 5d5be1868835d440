//! One run of the program: what it is given, and what can be done to it while it runs.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Once};
use std::thread;

use ollama_prompt::platform::Signal;

use super::env::TestEnv;
use super::output::Output;
use super::reply::Reply;
use super::running::{Running, Told};

/// A run being prepared: arguments, environment, standard input.
#[must_use = "nothing happens until it is run"]
pub(crate) struct Run<'env> {
    env: &'env TestEnv,
    through: Vec<OsString>,
    args: Vec<OsString>,
    /// Set, or with `None` removed, after the environment every run gets.
    variables: Vec<(OsString, Option<OsString>)>,
    directory: PathBuf,
    stdin: Stdin,
    stdout: Option<Stdio>,
    answer: Option<Reply>,
}

enum Stdin {
    Null,
    Open,
    Bytes(Vec<u8>),
}

impl<'env> Run<'env> {
    pub(super) fn new(env: &'env TestEnv) -> Self {
        Self {
            env,
            through: Vec::new(),
            args: Vec::new(),
            variables: Vec::new(),
            directory: env.work(),
            stdin: Stdin::Null,
            stdout: None,
            answer: None,
        }
    }

    /// Adds an argument.
    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub(crate) fn args<A: AsRef<OsStr>>(self, args: impl IntoIterator<Item = A>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    /// Continues this session.
    pub(crate) fn session(self, id: &str) -> Self {
        self.args(["--session-id", id])
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        let value = Some(value.as_ref().to_owned());
        self.variables.push((name.into(), value));
        self
    }

    /// Leaves out an environment variable that every run gets.
    pub(crate) fn env_remove(mut self, name: &str) -> Self {
        self.variables.push((name.into(), None));
        self
    }

    /// Runs in this directory instead of [`TestEnv::work`].
    pub(crate) fn current_dir(mut self, directory: impl AsRef<Path>) -> Self {
        self.directory = directory.as_ref().to_owned();
        self
    }

    /// Gives these bytes on standard input, then its end.
    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Stdin::Bytes(bytes.into());
        self
    }

    /// Gives a standard input that says nothing and does not end, as one inherited from a
    /// program that forgot about it.
    pub(crate) fn stdin_open(mut self) -> Self {
        self.stdin = Stdin::Open;
        self
    }

    /// Gives a standard input that ends at once. The default.
    pub(crate) fn stdin_null(mut self) -> Self {
        self.stdin = Stdin::Null;
        self
    }

    /// Sends standard output elsewhere, e.g. to `/dev/full`; it is not captured then.
    pub(crate) fn stdout_to(mut self, target: impl Into<Stdio>) -> Self {
        self.stdout = Some(target.into());
        self
    }

    /// Sends standard output into a pipe nobody reads any more, as `| head -1` does.
    pub(crate) fn stdout_closed(self) -> Self {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        self.stdout_to(writer)
    }

    /// Runs the program through another: its name and first arguments, e.g. `strace -f`.
    pub(crate) fn through<A: AsRef<OsStr>>(mut self, command: impl IntoIterator<Item = A>) -> Self {
        self.through = command.into_iter().map(|a| a.as_ref().to_owned()).collect();
        self
    }

    /// Queues the server's reply to this run.
    pub(crate) fn answered(mut self, reply: Reply) -> Self {
        self.answer = Some(reply);
        self
    }

    /// Runs it against a model that says `text`, and asserts that it worked.
    #[track_caller]
    pub(crate) fn replies(self, text: &str) -> Output {
        let output = self.answered(Reply::text(text)).run();
        output.ok();
        output
    }

    /// Runs it to its end.
    #[track_caller]
    pub(crate) fn run(self) -> Output {
        self.spawn().wait()
    }

    /// Starts it.
    #[track_caller]
    pub(crate) fn spawn(mut self) -> Running<'env> {
        let requests_before = self.env.server().request_count();
        if let Some(reply) = self.answer.take() {
            self.env.server().enqueue(reply);
        }
        let line = self.line();
        let child = self.command().spawn();
        let mut child = child.unwrap_or_else(|e| panic!("cannot start `{line}`: {e}"));
        let stdin = match (self.stdin, child.stdin.take()) {
            (Stdin::Bytes(bytes), Some(mut pipe)) => {
                // In a thread, because a pipe is full long before a large prompt is in it; and a
                // program need not read all of it.
                thread::spawn(move || drop(pipe.write_all(&bytes)));
                None
            }
            (_, open) => open,
        };
        let told = Told {
            line,
            args: self.args,
        };
        Running::new(self.env, child, stdin, told, requests_before)
    }

    fn command(&mut self) -> Command {
        hear_signals();
        let mut words = self.through.iter().cloned().chain([PROGRAM.into()]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command
            .args(words)
            .args(&self.args)
            .current_dir(&self.directory)
            .env_clear()
            .envs(self.env.variables())
            .stdin(match self.stdin {
                Stdin::Null => Stdio::null(),
                Stdin::Open | Stdin::Bytes(_) => Stdio::piped(),
            })
            .stdout(self.stdout.take().unwrap_or_else(Stdio::piped))
            .stderr(Stdio::piped());
        for (name, value) in &self.variables {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    /// Returns the command as a test's reader would type it.
    fn line(&self) -> String {
        let set = self.variables.iter().map(|(name, value)| {
            let value = value.as_deref().unwrap_or_default();
            format!("{}={}", name.display(), quoted(value))
        });
        let through = self.through.iter().map(|word| quoted(word));
        let args = self.args.iter().map(|word| quoted(word));
        let program = ["ollama-prompt".to_owned()];
        let words: Vec<String> = set.chain(through).chain(program).chain(args).collect();
        words.join(" ")
    }
}

pub(super) const PROGRAM: &str = env!("CARGO_BIN_EXE_ollama-prompt");

fn quoted(word: &OsStr) -> String {
    let text = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Has signals do in what is started from here what they do from a terminal, also where the tests
/// themselves were told to ignore some, by `nohup` or a shell's `&`: a program inherits what is
/// ignored, and not what is handled.
fn hear_signals() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let heard: Vec<Signal> = Signal::unignored().collect();
        for signal in Signal::ALL.iter().filter(|signal| !heard.contains(signal)) {
            signal.sets(&Arc::default()).expect("a handler");
        }
    });
}
