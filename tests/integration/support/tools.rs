//! What of the world outside a test may depend on: programs that may not be installed.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Write;
use std::sync::Mutex;

/// Tells whether a program is installed. A test that needs one which is not there says
/// `SKIPPED` and passes, unless `OLLAMA_PROMPT_TEST_TOOLS=required` forbids that.
///
/// ```ignore
/// if !need("strace") {
///     return;
/// }
/// ```
#[track_caller]
pub(crate) fn need(tool: &str) -> bool {
    if is_installed(tool) {
        return true;
    }
    assert!(!required(), "{tool} is required and not installed");
    say_skipped(tool);
    false
}

/// Tells whether a test that cannot do what it is for fails.
pub(super) fn required() -> bool {
    outside("OLLAMA_PROMPT_TEST_TOOLS").is_some_and(|v| v == "required")
}

/// Tells whether a variable asks the tests for something: it is set, and not to `0`.
pub(crate) fn is_asked_for(name: &str) -> bool {
    outside(name).is_some_and(|value| !value.is_empty() && value != "0")
}

/// Returns the search path for programs that tests and the program itself run with.
pub(super) fn search_path() -> OsString {
    outside("PATH").unwrap_or_else(|| "/usr/bin:/bin".into())
}

/// Returns where a program that was built to say which of its lines ran is to say it
/// (`.ci/coverage`).
pub(super) fn profile() -> Option<OsString> {
    outside("LLVM_PROFILE_FILE")
}

pub(super) fn is_installed(tool: &str) -> bool {
    std::env::split_paths(&search_path()).any(|directory| directory.join(tool).is_file())
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where tests read the environment they were started in"
)]
pub(crate) fn outside(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// Says on standard error that a test was skipped, once for each tool it lacks. What `eprintln!`
/// writes nobody sees while the test passes.
pub(super) fn say_skipped(tool: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let thread = std::thread::current();
    let line = match thread.name() {
        Some(test) => format!("SKIPPED: {test} needs {tool}\n"),
        None => format!("SKIPPED: needs {tool}\n"),
    };
    let is_new = SAID.lock().expect("whole").insert(line.clone());
    if is_new {
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

#[test]
fn what_is_not_installed_is_noticed() {
    assert!(is_installed("sh"));
    assert!(!is_installed("no-such-tool"));
}
