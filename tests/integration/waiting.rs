//! Who waits for whom, asked of the kernel: a test that needs others to be in the queue before it
//! goes on looks whether they are.

use std::fs::read_to_string;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{PATIENCE, TestEnv};

/// Returns the files of `locks/` whose names begin so.
pub(crate) fn lock_files(env: &TestEnv, start: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(env.store().join("locks"));
    let paths = entries.into_iter().flatten().flatten().map(|e| e.path());
    let name = |path: &PathBuf| path.file_name().map(|n| n.to_string_lossy().into_owned());
    let mut found: Vec<PathBuf> = paths
        .filter(|path| name(path).is_some_and(|name| name.starts_with(start)))
        .collect();
    found.sort();
    found
}

/// Waits until so many processes are in the kernel's queues for locks whose names begin so.
#[track_caller]
pub(crate) fn wait_until_queued(env: &TestEnv, start: &str, processes: usize) {
    const BETWEEN_LOOKS: Duration = Duration::from_millis(20);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let inodes: Vec<String> = lock_files(env, start)
            .iter()
            .filter_map(|path| std::fs::metadata(path).ok())
            .map(|metadata| format!(":{} ", metadata.ino()))
            .collect();
        let locks = read_to_string("/proc/locks").expect("Linux tells of locks");
        let waiting = locks.lines().filter(|line| {
            line.contains("->") && inodes.iter().any(|inode| line.contains(inode.as_str()))
        });
        let waiting = waiting.count();
        if waiting >= processes {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{waiting} of {processes} are waiting:\n{locks}"
        );
        thread::sleep(BETWEEN_LOOKS);
    }
}
