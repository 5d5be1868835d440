//! A bar on standard error for work that takes longer than a second.

use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::{Command, Invocation};
use crate::progress::{Progress, Shows};

/// How long work may take without a bar.
const UNSEEN: Duration = Duration::from_secs(1);

/// Returns who is told how far the work of an invocation has come: a bar, where standard error is
/// a terminal and it is not told to be quiet. One would be in the way of lines that are printed to
/// the same terminal as they are found.
#[must_use]
pub fn progress_of(invocation: &Invocation) -> Progress {
    let prints_lines = matches!(invocation.command, Command::Search(_));
    let is_in_the_way = prints_lines && io::stdout().is_terminal();
    if invocation.verbosity == 0 || is_in_the_way || !io::stderr().is_terminal() {
        return Progress::default();
    }
    Progress::shown_by(Arc::new(Bar::default()))
}

/// A bar that nobody sees until the work has taken [`UNSEEN`].
#[derive(Default)]
struct Bar(Mutex<Option<Work>>);

struct Work {
    bar: ProgressBar,
    began: Instant,
    done: u64,
}

impl Bar {
    fn with(&self, act: impl FnOnce(&mut Option<Work>)) {
        act(&mut self.0.lock().expect("nobody panics with it"));
    }
}

impl Shows for Bar {
    fn begin(&self, what: &'static str, steps: u64) {
        let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::hidden());
        let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}");
        bar.set_style(style.expect("a template"));
        bar.set_message(what);
        self.with(|work| {
            *work = Some(Work {
                bar,
                began: Instant::now(),
                done: 0,
            });
        });
    }

    fn step(&self) {
        self.with(|work| {
            let Some(work) = work else { return };
            work.done += 1;
            if work.began.elapsed() < UNSEEN {
                return;
            }
            if work.bar.is_hidden() {
                work.bar.set_draw_target(ProgressDrawTarget::stderr());
            }
            work.bar.set_position(work.done);
        });
    }

    fn end(&self) {
        self.with(|work| {
            if let Some(work) = work.take() {
                work.bar.finish_and_clear();
            }
        });
    }
}
