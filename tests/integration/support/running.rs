//! A run that is under way: watched, signalled, killed, waited for.

use std::ffi::OsString;
use std::process::{Child, ChildStdin, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::PATIENCE;
use super::capture::Capture;
use super::env::TestEnv;
use super::output::Output;
use super::schemas;

/// A process of the program. One that is not waited for is killed in the end.
pub(crate) struct Running<'env> {
    env: &'env TestEnv,
    child: Child,
    /// Held open for as long as the process may look at it.
    stdin: Option<ChildStdin>,
    stdout: Capture,
    stderr: Capture,
    told: Told,
    requests_before: usize,
}

/// What a process was told to do.
pub(super) struct Told {
    /// As a test's reader would type it.
    pub(super) line: String,
    pub(super) args: Vec<OsString>,
}

impl<'env> Running<'env> {
    pub(super) fn new(
        env: &'env TestEnv,
        mut child: Child,
        stdin: Option<ChildStdin>,
        told: Told,
        requests_before: usize,
    ) -> Self {
        let stdout = child.stdout.take();
        let stderr = child.stderr.take();
        Self {
            env,
            child,
            stdin,
            stdout: stdout.map_or_else(Capture::nothing, Capture::of),
            stderr: stderr.map_or_else(Capture::nothing, Capture::of),
            told,
            requests_before,
        }
    }

    /// Returns the process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the server was asked for one more chat than when this was started. Where
    /// several run at once, [`Server::wait_for_requests`](super::Server::wait_for_requests)
    /// says how many are meant.
    #[track_caller]
    pub(crate) fn wait_for_request(&mut self) {
        self.wait_for_requests(self.requests_before + 1);
    }

    /// Waits until the server was asked for so many chats in all; fails at once when this
    /// process ends before.
    #[track_caller]
    pub(crate) fn wait_for_requests(&mut self, chats: usize) {
        const BETWEEN_LOOKS: Duration = Duration::from_millis(20);
        let deadline = Instant::now() + PATIENCE;
        let server = self.env.server();
        while !server.wait_briefly_for_requests(chats, BETWEEN_LOOKS) {
            let status = self.status();
            // It may have asked and ended between the two looks.
            let ended = status.is_some() && server.request_count() < chats;
            if ended || Instant::now() > deadline {
                let asked = server.request_count();
                self.give_up(&format!("{asked} of {chats} chats were asked for"));
            }
        }
    }

    /// Waits until it has printed `text` on stdout, while it goes on.
    #[track_caller]
    pub(crate) fn wait_for_stdout(&mut self, text: &str) {
        if !self.stdout.wait_for_text(text, PATIENCE) {
            self.give_up(&format!("it should have printed `{text}`"));
        }
    }

    /// Waits until it has said `text` on stderr, while it goes on.
    #[track_caller]
    pub(crate) fn wait_for_stderr(&mut self, text: &str) {
        if !self.stderr.wait_for_text(text, PATIENCE) {
            self.give_up(&format!("it should have said `{text}`"));
        }
    }

    /// Waits until something holds that it brings about; fails at once when it ends before.
    #[track_caller]
    pub(crate) fn wait_until(&mut self, holds: impl Fn() -> bool) {
        const BETWEEN_LOOKS: Duration = Duration::from_millis(5);
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            let ended = self.status().is_some() && !holds();
            if ended || Instant::now() > deadline {
                self.give_up("it should have brought something about");
            }
            thread::sleep(BETWEEN_LOOKS);
        }
    }

    /// Waits until it has so many threads, the first included: it has begun to wait.
    #[track_caller]
    pub(crate) fn wait_for_threads(&mut self, threads: usize) {
        let tasks = format!("/proc/{}/task", self.id());
        self.wait_until(|| std::fs::read_dir(&tasks).is_ok_and(|there| there.count() >= threads));
    }

    /// Tells whether it has not ended yet.
    pub(crate) fn is_running(&mut self) -> bool {
        self.status().is_none()
    }

    /// Ends standard input that was left open.
    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Sends a signal by its number on Linux, e.g. 2 for SIGINT, and waits until it is delivered:
    /// of two equal ones that are pending the system makes one.
    #[track_caller]
    pub(crate) fn signal(&mut self, number: i32) {
        let signal = Signal::from_named_raw(number).expect("a signal's number");
        // Until it is waited for, the id is nobody else's.
        kill_process(Pid::from_child(&self.child), signal).expect("a process to be signalled");
        let status = format!("/proc/{}/status", self.id());
        let deadline = Instant::now() + PATIENCE;
        while is_pending(number, &status) {
            if Instant::now() > deadline {
                self.give_up("it should have taken the signal");
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Sends a signal to the process it has started, where it was run through another program.
    #[track_caller]
    pub(crate) fn signal_child(&self, number: i32) {
        let children = format!("/proc/{0}/task/{0}/children", self.id());
        let children = std::fs::read_to_string(children).expect("Linux tells of children");
        let child = children
            .split_whitespace()
            .next()
            .and_then(|id| id.parse().ok());
        let child = child.and_then(Pid::from_raw).expect("a child");
        let signal = Signal::from_named_raw(number).expect("a signal's number");
        kill_process(child, signal).expect("a process to be signalled");
    }

    /// Kills it as nothing can be caught or cleaned up after.
    #[track_caller]
    pub(crate) fn kill9(mut self) -> Output {
        self.child.kill().expect("a process to be killed");
        self.wait()
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(mut self) -> Output {
        let deadline = Instant::now() + PATIENCE;
        let both = self.stdout.wait_for_end(deadline) && self.stderr.wait_for_end(deadline);
        while both && Instant::now() < deadline {
            if let Some(status) = self.status() {
                let output = self.output(Some(status));
                schemas::hold(&output);
                return output;
            }
            // Its streams are closed: it is on its last instructions.
            thread::sleep(Duration::from_millis(1));
        }
        self.give_up(&format!("it should have ended within {PATIENCE:?}"))
    }

    fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Fails the test with everything known.
    #[track_caller]
    fn give_up(&mut self, expectation: &str) -> ! {
        let status = self.status();
        // What has ended needs no killing.
        let _ = self.child.kill();
        panic!("{expectation}\n{}", self.output(status));
    }

    fn output(&self, status: Option<ExitStatus>) -> Output {
        Output {
            command: self.told.line.clone(),
            args: self.told.args.clone(),
            home: self.env.home(),
            status,
            stdout: self.stdout.so_far(),
            stderr: self.stderr.so_far(),
        }
    }
}

/// Tells whether a signal waits to be delivered to the process with this status file. To one that
/// has ended, and is not waited for yet, nothing is delivered any more.
fn is_pending(number: i32, status: &str) -> bool {
    let status = std::fs::read_to_string(status).expect("Linux tells of its processes");
    let value = |name| status.lines().find_map(|line| line.strip_prefix(name));
    if value("State:").is_some_and(|state| state.trim().starts_with('Z')) {
        return false;
    }
    let pending = value("ShdPnd:").expect("pending signals");
    let pending = u64::from_str_radix(pending.trim(), 16);
    // The lowest bit is signal 1.
    pending.expect("a hexadecimal number") >> (number - 1) & 1 == 1
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // Both do nothing for a process that was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
