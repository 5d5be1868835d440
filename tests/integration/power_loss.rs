//! Loss of power: what a write, a sync or a rename has reached the disk when the machine stops.
//!
//! The order of writes and syncs is recorded from the real program by strace. From it, for every
//! moment, every state is made that may be found afterwards under one rule: synced bytes and
//! synced directory entries stay; what was not synced may be there, be absent, be there in part,
//! or be zeros; a rename is whole or not. Each state is built as a directory and the program is
//! held to it: what it had acknowledged is there, the store opens, the next turn works.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::stores::{owned, put};
use crate::support::{Run, TestEnv, need};

/// What the program did to the file system, in order.
#[derive(Debug, Clone, PartialEq)]
enum Op {
    MakeDir(PathBuf),
    Make(PathBuf),
    Write(PathBuf, Vec<u8>),
    /// So many bytes into a new file, by the kernel: until they are looked up.
    Copy(PathBuf, usize),
    Sync(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    /// The result was printed: from here on it is acknowledged.
    Print,
}

/// Files with their bytes, directories with none.
type Tree = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// A disk and what has not reached it yet.
#[derive(Debug, Clone)]
struct Disk {
    nodes: Vec<Node>,
    /// What has, for each directory.
    entries: BTreeMap<(usize, PathBuf), usize>,
    /// What has not: changes of entries, each of one directory and made at once.
    pending: Vec<Change>,
    /// The names as the program sees them.
    seen: BTreeMap<PathBuf, usize>,
}

#[derive(Debug, Clone, Default)]
struct Node {
    is_dir: bool,
    /// Whether no promise is about it: all is there, or nothing.
    aside: bool,
    synced: Vec<u8>,
    unsynced: Vec<u8>,
}

#[derive(Debug, Clone)]
struct Change {
    dir: usize,
    set: Vec<(PathBuf, Option<usize>)>,
    /// Whether it is of no promise: drafts, lock files. These reach the disk in their order, so
    /// that the states stay few.
    aside: bool,
}

/// Directories whose contents no promise is about.
const ASIDE: [&str; 2] = ["open", "locks"];

impl Disk {
    /// Returns a disk on which all of `tree` is synced.
    fn of(tree: &Tree) -> Self {
        let mut disk = Self {
            nodes: vec![Node {
                is_dir: true,
                ..Node::default()
            }],
            entries: BTreeMap::new(),
            pending: Vec::new(),
            seen: BTreeMap::from([(PathBuf::new(), 0)]),
        };
        for (path, bytes) in tree {
            disk.nodes.push(Node {
                is_dir: bytes.is_none(),
                aside: is_aside(path),
                synced: bytes.clone().unwrap_or_default(),
                unsynced: Vec::new(),
            });
            disk.link(path, disk.nodes.len() - 1);
        }
        for change in std::mem::take(&mut disk.pending) {
            change.apply(&mut disk.entries);
        }
        disk
    }

    fn dir_of(&self, path: &Path) -> usize {
        self.seen[path.parent().unwrap_or(Path::new(""))]
    }

    fn change(&mut self, path: &Path, set: Vec<(PathBuf, Option<usize>)>) {
        let aside = path.iter().any(|part| ASIDE.iter().any(|a| part == *a));
        let dir = self.dir_of(path);
        self.pending.push(Change { dir, set, aside });
    }

    fn link(&mut self, path: &Path, node: usize) {
        self.change(path, vec![(name(path), Some(node))]);
        self.seen.insert(path.to_owned(), node);
    }

    fn make(&mut self, path: &Path, is_dir: bool) {
        self.nodes.push(Node {
            is_dir,
            aside: is_aside(path),
            ..Node::default()
        });
        self.link(path, self.nodes.len() - 1);
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::MakeDir(path) => self.make(path, true),
            Op::Make(path) if self.seen.contains_key(path) => {}
            Op::Make(path) => self.make(path, false),
            Op::Write(path, bytes) => {
                let node = self.seen[path];
                self.nodes[node].unsynced.extend(bytes);
            }
            Op::Sync(path) => {
                let node = self.seen[path];
                let Node {
                    synced, unsynced, ..
                } = &mut self.nodes[node];
                synced.append(unsynced);
                let (now, later) = std::mem::take(&mut self.pending)
                    .into_iter()
                    .partition(|change| change.dir == node);
                self.pending = later;
                let now: Vec<Change> = now;
                now.iter()
                    .for_each(|change| change.apply(&mut self.entries));
            }
            Op::Rename(from, to) => {
                assert_eq!(from.parent(), to.parent(), "renames stay in a directory");
                let node = self.seen[from];
                self.change(from, vec![(name(from), None), (name(to), Some(node))]);
                let moved: Vec<PathBuf> = self.seen.keys().cloned().collect();
                for path in moved {
                    if let Ok(rest) = path.strip_prefix(from) {
                        let node = self.seen.remove(&path).unwrap_or_default();
                        let new = if rest == Path::new("") {
                            to.clone()
                        } else {
                            to.join(rest)
                        };
                        self.seen.insert(new, node);
                    }
                }
            }
            Op::Remove(path) => {
                self.change(path, vec![(name(path), None)]);
                self.seen.remove(path);
            }
            Op::Copy(..) => unreachable!("the bytes were looked up"),
            Op::Print => {}
        }
    }

    /// Returns every tree that may be found if the power goes now.
    fn states(&self) -> BTreeSet<Tree> {
        let own: Vec<usize> = self.numbered(false);
        let aside: Vec<usize> = self.numbered(true);
        assert!(own.len() <= 8, "too much is unsynced: {:?}", self.pending);
        let mut states = BTreeSet::new();
        for chosen in 0..1usize << own.len() {
            for reached in 0..=aside.len() {
                let there = |n: &usize| match own.iter().position(|own| own == n) {
                    Some(bit) => chosen >> bit & 1 == 1,
                    None => aside[..reached].contains(n),
                };
                let mut entries = self.entries.clone();
                for n in (0..self.pending.len()).filter(there) {
                    self.pending[n].apply(&mut entries);
                }
                let mut trees = vec![Tree::new()];
                self.grow(&entries, 0, Path::new(""), &mut trees);
                states.extend(trees);
            }
        }
        states
    }

    fn numbered(&self, aside: bool) -> Vec<usize> {
        let all = self.pending.iter().enumerate();
        all.filter(|(_, c)| c.aside == aside)
            .map(|(n, _)| n)
            .collect()
    }

    /// Adds what is below a directory to every tree, a tree for each way the bytes may be.
    fn grow(
        &self,
        entries: &BTreeMap<(usize, PathBuf), usize>,
        dir: usize,
        at: &Path,
        trees: &mut Vec<Tree>,
    ) {
        for ((_, name), &node) in entries.iter().filter(|((of, _), _)| *of == dir) {
            let path = at.join(name);
            if self.nodes[node].is_dir {
                for tree in trees.iter_mut() {
                    tree.insert(path.clone(), None);
                }
                self.grow(entries, node, &path, trees);
                continue;
            }
            let contents = self.nodes[node].contents();
            *trees = trees
                .iter()
                .flat_map(|tree| {
                    contents.iter().map(|bytes| {
                        let mut tree = tree.clone();
                        tree.insert(path.clone(), Some(bytes.clone()));
                        tree
                    })
                })
                .collect();
        }
    }
}

impl Change {
    fn apply(&self, entries: &mut BTreeMap<(usize, PathBuf), usize>) {
        for (name, node) in &self.set {
            let key = (self.dir, name.clone());
            match node {
                Some(node) => drop(entries.insert(key, *node)),
                None => drop(entries.remove(&key)),
            }
        }
    }
}

impl Node {
    /// Returns what may be in the file: all that was synced, and of the rest nothing, a part,
    /// all, or zeros.
    fn contents(&self) -> BTreeSet<Vec<u8>> {
        let len = self.unsynced.len();
        let with = |rest: &[u8]| [self.synced.as_slice(), rest].concat();
        if self.aside {
            return BTreeSet::from([with(b""), with(&self.unsynced)]);
        }
        let cuts = [0, 1, len / 2, len.saturating_sub(1), len];
        let prefixes = cuts.iter().map(|cut| with(&self.unsynced[..len.min(*cut)]));
        prefixes.chain([with(&vec![0; len])]).collect()
    }
}

fn is_aside(path: &Path) -> bool {
    let file = path.file_name().and_then(|name| name.to_str());
    let for_git = file.is_some_and(|name| name.starts_with(".git"));
    for_git || path.iter().any(|part| ASIDE.iter().any(|a| part == *a))
}

fn name(path: &Path) -> PathBuf {
    path.file_name().expect("a name").into()
}

/// Runs the program under strace and returns what it did below `home`.
fn record(env: &TestEnv, run: Run<'_>, home: &Path) -> Vec<Op> {
    let trace = env.work().join("trace");
    let calls = "trace=openat,write,fdatasync,fsync,rename,renameat,renameat2,mkdir,mkdirat,\
                 unlink,unlinkat,rmdir,ftruncate,pwrite64,writev,copy_file_range,sendfile,splice";
    let strace: [&std::ffi::OsStr; 9] = [
        "strace".as_ref(),
        "-fyxx".as_ref(),
        "-s".as_ref(),
        "10000000".as_ref(),
        "-e".as_ref(),
        calls.as_ref(),
        "-o".as_ref(),
        trace.as_ref(),
        "--".as_ref(),
    ];
    run.through(strace).run().ok();
    let trace = fs::read_to_string(trace).expect("a trace");
    let mut ops: Vec<Op> = trace.lines().filter_map(|line| op(line, home)).collect();
    let mut lengths: BTreeMap<PathBuf, usize> = BTreeMap::new();
    for op in &mut ops {
        if let Op::Copy(path, len) = op {
            // The trace does not show these bytes; the file has them.
            let file = fs::read(home.join(&path)).expect("readable");
            let at = lengths.get(path).copied().unwrap_or(0);
            *op = Op::Write(path.clone(), file[at..at + *len].to_vec());
        }
        if let Op::Write(path, bytes) = op {
            *lengths.entry(path.clone()).or_default() += bytes.len();
        }
    }
    ops
}

/// Reads a line of the trace; `None` where it changes nothing below `home`.
fn op(line: &str, home: &Path) -> Option<Op> {
    assert!(!line.contains("unfinished"), "{line}");
    let (_pid, call) = line.split_once(' ')?;
    let (call, rest) = call.trim().split_once('(')?;
    if rest.contains(" = -1 ") {
        return None;
    }
    let (paths, strings) = (between(rest, '<', '>'), between(rest, '"', '"'));
    let below = |base: Option<&Vec<u8>>, name: Option<&Vec<u8>>| {
        let path = |bytes: Option<&Vec<u8>>| {
            PathBuf::from(String::from_utf8(bytes.cloned().unwrap_or_default()).expect("UTF-8"))
        };
        let path = path(base).join(path(name));
        path.strip_prefix(home).ok().map(Path::to_owned)
    };
    let named = |n: usize| below(paths.get(n), strings.get(n));
    // fsync and write name their file by its descriptor only.
    let opened = || {
        let path = String::from_utf8(paths.first()?.clone()).ok()?;
        Path::new(&path).strip_prefix(home).ok().map(Path::to_owned)
    };
    match call {
        "openat" if rest.contains("O_CREAT") => named(0).map(Op::Make),
        "mkdir" => below(None, strings.first()).map(Op::MakeDir),
        "mkdirat" => named(0).map(Op::MakeDir),
        "write" if rest.starts_with("1<") => Some(Op::Print),
        "write" => opened().map(|path| Op::Write(path, strings[0].clone())),
        "copy_file_range" => {
            let (_, len) = rest.rsplit_once(" = ")?;
            let len = len.trim().parse().expect("a number of bytes");
            Some(Op::Copy(below(paths.get(1), None)?, len))
        }
        "fdatasync" | "fsync" => opened().map(Op::Sync),
        "renameat" | "renameat2" => Some(Op::Rename(named(0)?, named(1)?)),
        "unlinkat" => named(0).map(Op::Remove),
        "openat" => None,
        other => panic!("the recording does not know {other}: {line}"),
    }
}

/// Returns what stands between two marks, its `\x` escapes decoded.
fn between(text: &str, open: char, close: char) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(open) {
        let Some((inside, after)) = after.split_once(close) else {
            break;
        };
        let bytes = inside.split("\\x").skip(1);
        let bytes = bytes.map(|hex| u8::from_str_radix(hex, 16).expect("strace -xx"));
        found.push(bytes.collect());
        rest = after;
    }
    found
}

/// Returns everything below a directory.
fn tree_of(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            let bytes = if path.is_dir() {
                directories.push(path.clone());
                None
            } else {
                Some(fs::read(&path).expect("readable"))
            };
            let path = path.strip_prefix(root).expect("below").to_owned();
            tree.insert(path, bytes);
        }
    }
    tree
}

/// Makes the directory a state describes.
fn build(tree: &Tree, root: &Path) {
    let make = |path: &Path| {
        let made = fs::DirBuilder::new().mode(0o700).create(path);
        made.expect("a new directory");
    };
    make(root);
    for (path, bytes) in tree {
        let path = root.join(path);
        match bytes {
            None => make(&path),
            Some(bytes) => {
                put(&path, bytes);
                owned(&path);
            }
        }
    }
}

/// What a session says.
struct Expected<'a> {
    id: &'a str,
    /// The prompts of its turns, from before to after: any of these until the result is
    /// acknowledged, the last one from then on. Each has what was acknowledged before.
    says: Vec<Vec<&'a str>>,
    /// Bytes that are in one of its files, whatever happens.
    bytes: &'a [&'a str],
}

/// Holds the program to every state of a recording; returns how many there were.
fn hold(env: &TestEnv, before: &Tree, ops: &[Op], expected: &[Expected<'_>]) -> usize {
    let mut disk = Disk::of(before);
    let mut acknowledged = false;
    let mut checked = BTreeSet::new();
    for n in 0..=ops.len() {
        for state in disk.states() {
            if checked.insert((acknowledged, state.clone())) {
                let home = env.work().join(format!("state-{}", checked.len()));
                build(&state, &home);
                let place = format!("after {n} of {ops:#?}\nin {}", home.display());
                hold_state(env, &home, acknowledged, expected, &place);
                fs::remove_dir_all(&home).expect("removed");
            }
        }
        if let Some(op) = ops.get(n) {
            disk.apply(op);
            acknowledged |= *op == Op::Print;
        }
    }
    assert!(acknowledged, "nothing was printed");
    checked.len()
}

fn hold_state(
    env: &TestEnv,
    home: &Path,
    acknowledged: bool,
    expected: &[Expected<'_>],
    place: &str,
) {
    let run = || env.command().env("OLLAMA_PROMPT_HOME", home.join("store"));
    let listed = run().arg("--list-sessions").run();
    assert_eq!(listed.exit_code(), Some(0), "{place}\n{listed}");
    for session in expected {
        let said = || {
            let info = run().args(["--session-info", session.id]).run();
            match info.exit_code() {
                Some(0) => prompts(&info.json()),
                Some(3) => Vec::new(),
                _ => panic!("{place}\n{info}"),
            }
        };
        let before = said();
        let is_right = if acknowledged {
            session.says.last().is_some_and(|last| before == *last)
        } else {
            session.says.iter().any(|said| before == *said)
        };
        assert!(is_right, "{place}\n{}: {before:?}", session.id);
        for bytes in session.bytes {
            let files = tree_of(&home.join("store/sessions").join(session.id));
            let mut files = files.values().flatten();
            let is_there = files.any(|file| String::from_utf8_lossy(file).contains(bytes));
            assert!(is_there, "{bytes:?} is lost: {place}");
        }
        let was_there = session.says.first().is_some_and(|said| !said.is_empty());
        if was_there && before.is_empty() {
            let receipts = fs::read_to_string(home.join("store/purged.jsonl"));
            let receipts = receipts.unwrap_or_default();
            assert!(receipts.contains(session.id), "no receipt: {place}");
        }

        let next = run().args(["--offline", "--create", "--prompt", "next"]);
        let next = next.session(session.id).run();
        assert_eq!(next.exit_code(), Some(0), "{place}\n{next}");
        let after = said();
        assert_eq!(after[..before.len()], before, "{place}");
        assert_eq!(after[before.len()..], ["next"], "{place}");
    }
}

fn prompts(info: &Value) -> Vec<String> {
    let messages = info["messages"].as_array().expect("messages").iter();
    let said = messages.filter(|m| m["role"] == "user");
    said.map(|m| m["content"].as_str().expect("text").to_owned())
        .collect()
}

/// A world in which the store is the directory `store` of a home of its own.
struct World {
    env: TestEnv,
    home: PathBuf,
}

const FIRST: &str = "019aa0c4-7d10-7c3e-9a52-0c8f6b1f2a33";
const SECOND: &str = "019aa0c4-7d10-7c3e-9a52-0c8f6b1f2a44";

impl World {
    fn new() -> Self {
        let env = TestEnv::new();
        let home = env.work().join("recorded");
        fs::create_dir(&home).expect("a new directory");
        let home = home.canonicalize().expect("a path");
        Self { env, home }
    }

    fn run(&self) -> Run<'_> {
        let store = self.home.join("store");
        self.env.command().env("OLLAMA_PROMPT_HOME", store)
    }

    fn say(&self, id: &str, prompt: &str) -> Run<'_> {
        let turn = self
            .run()
            .args(["--offline", "--create", "--prompt", prompt]);
        turn.session(id)
    }

    /// Records what a run does and holds the program to every state of it.
    fn survives(&self, what: &str, run: Run<'_>, expected: &[Expected<'_>]) {
        let before = tree_of(&self.home);
        let ops = record(&self.env, run, &self.home);
        self.holds(what, &before, &ops, expected);
    }

    #[expect(clippy::print_stderr, reason = "how much was checked is the result")]
    fn holds(&self, what: &str, before: &Tree, ops: &[Op], expected: &[Expected<'_>]) {
        let states = hold(&self.env, before, ops, expected);
        eprintln!("{what}: {} calls, {states} states", ops.len());
        assert!(states > ops.len() / 2, "{states} states of {ops:#?}");
    }
}

/// What was acknowledged is there, and the turn under way once it is.
fn keeps<'a>(id: &'a str, must: &[&'a str], new: Option<&'a str>) -> Expected<'a> {
    Expected {
        id,
        says: vec![must.to_vec(), must.iter().copied().chain(new).collect()],
        bytes: &[],
    }
}

#[test]
fn a_new_session_in_a_new_store() {
    if !need("strace") {
        return;
    }
    let world = World::new();
    let turn = world.say(FIRST, "new");
    world.survives("new store", turn, &[keeps(FIRST, &[], Some("new"))]);
}

#[test]
fn a_new_session_beside_another() {
    if !need("strace") {
        return;
    }
    let world = World::new();
    world.say(FIRST, "old").run().ok();
    let turn = world.say(SECOND, "new");
    let expected = [
        keeps(SECOND, &[], Some("new")),
        keeps(FIRST, &["old"], None),
    ];
    world.survives("session created by id", turn, &expected);

    // A session whose id was made for the call is made in another way.
    let world = World::new();
    world.say(FIRST, "old").run().ok();
    let before = tree_of(&world.home);
    let turn = world.run().args(["--offline", "--prompt", "new"]);
    let ops = record(&world.env, turn, &world.home);
    let sessions = fs::read_dir(world.home.join("store/sessions")).expect("sessions");
    let names = sessions.filter_map(|e| e.ok()?.file_name().into_string().ok());
    let fresh = names
        .filter(|n| n.len() == 36 && n != FIRST)
        .collect::<String>();
    let expected = [
        keeps(&fresh, &[], Some("new")),
        keeps(FIRST, &["old"], None),
    ];
    world.holds("session of its own id", &before, &ops, &expected);
}

#[test]
fn an_append() {
    if !need("strace") {
        return;
    }
    let world = World::new();
    world.say(FIRST, "one").run().ok();
    world.say(FIRST, "two").run().ok();
    let expected = [keeps(FIRST, &["one", "two"], Some("three"))];
    world.survives("append", world.say(FIRST, "three"), &expected);
}

#[test]
fn a_purge() {
    if !need("strace") {
        return;
    }
    let world = World::new();
    world.say(FIRST, "one").run().ok();
    world.say(FIRST, "two").run().ok();
    let expected = [Expected {
        says: vec![vec!["one", "two"], Vec::new()],
        ..keeps(FIRST, &[], None)
    }];
    let purge = world.run().args(["--purge", "0"]);
    world.survives("purge", purge, &expected);
}

#[test]
fn a_repair() {
    if !need("strace") {
        return;
    }
    let world = World::new();
    world.say(FIRST, "one").run().ok();
    let log = world
        .home
        .join("store/sessions")
        .join(FIRST)
        .join("events.jsonl");
    let text = fs::read_to_string(&log).expect("readable");
    put(&log, text + "garbage\n");
    world.say(FIRST, "two").run().ok();
    let repair = world.run().args(["session", "verify", "--repair"]);
    world.survives("repair", repair, &[keeps(FIRST, &["one", "two"], None)]);
}

/// A session of eight turns, most of them behind the horizon; the first two lie in a second log as
/// well, one line is there twice, and each log has damage.
fn messy() -> (World, Vec<String>) {
    let world = World::new();
    let prompts: Vec<String> = (1..=8)
        .map(|n| format!("question {n} {}", "word ".repeat(150)))
        .collect();
    let dir = world.home.join("store/sessions").join(FIRST);
    let log = dir.join("events.jsonl");
    let mut copy = String::new();
    for (n, prompt) in prompts.iter().enumerate() {
        let limits = ["--max-context-tokens", "1000", "--max_tokens", "50"];
        world.say(FIRST, prompt).args(limits).run().ok();
        if n == 1 {
            copy = fs::read_to_string(&log).expect("readable");
        }
    }
    let text = fs::read_to_string(&log).expect("readable");
    let last = text.lines().last().expect("a line");
    put(&log, format!("{text}garbage\n{last}\n"));
    put(dir.join("events.copy.jsonl"), copy + "<<<<<<< ours\n");
    (world, prompts)
}

const DAMAGE: [&str; 2] = ["garbage\n", "<<<<<<< ours\n"];

#[test]
fn a_compaction() {
    if !need("strace") {
        return;
    }
    let (world, prompts) = messy();
    let prompts: Vec<&str> = prompts.iter().map(String::as_str).collect();
    let expected = Expected {
        bytes: &DAMAGE,
        ..keeps(FIRST, &prompts, None)
    };
    let compact = world.run().args(["session", "compact", FIRST]);
    world.survives("compaction", compact, &[expected]);
}

/// What is dropped on purpose may be there until that is acknowledged, and not afterwards.
#[test]
fn a_compaction_that_drops_what_was_pruned() {
    if !need("strace") {
        return;
    }
    let (world, prompts) = messy();
    let prompts: Vec<&str> = prompts.iter().map(String::as_str).collect();
    let info = world.run().args(["--session-info", FIRST]).run().json();
    let kept = info["metadata"]["turns_in_context"].as_u64();
    let kept = usize::try_from(kept.expect("a count")).expect("a count");
    assert!((1..6).contains(&kept), "{info}");
    let kept = &prompts[prompts.len() - kept..];
    let expected = Expected {
        id: FIRST,
        // The second log goes last.
        says: vec![
            prompts.clone(),
            [&prompts[..2], kept].concat(),
            kept.to_vec(),
        ],
        bytes: &DAMAGE,
    };
    let compact = world.run();
    let compact = compact.args(["session", "compact", "--drop-pruned", FIRST]);
    world.survives("compaction with --drop-pruned", compact, &[expected]);
}

#[test]
fn the_enumerator_knows_what_a_disk_may_hold() {
    let path = PathBuf::from;
    let states = |ops: &[Op]| {
        let mut disk = Disk::of(&Tree::new());
        ops.iter().for_each(|op| disk.apply(op));
        let trees = disk.states().into_iter();
        let shown = trees.map(|tree| {
            let files = tree.into_iter().map(|(path, bytes)| match bytes {
                Some(bytes) => format!("{}={:?}", path.display(), String::from_utf8_lossy(&bytes)),
                None => path.display().to_string(),
            });
            files.collect::<Vec<_>>().join(" ")
        });
        shown.collect::<Vec<_>>()
    };
    let mut ops = vec![
        Op::Make(path("f.jsonl")),
        Op::Write(path("f.jsonl"), b"ab".to_vec()),
    ];
    assert_eq!(
        states(&ops),
        [
            "",
            r#"f.jsonl="""#,
            r#"f.jsonl="\0\0""#,
            r#"f.jsonl="a""#,
            r#"f.jsonl="ab""#
        ],
        "nothing synced"
    );
    ops.push(Op::Sync(path("f.jsonl")));
    assert_eq!(
        states(&ops),
        ["", r#"f.jsonl="ab""#],
        "the bytes, not the name"
    );
    ops.push(Op::Sync(path("")));
    assert_eq!(states(&ops), [r#"f.jsonl="ab""#], "both");
    ops.push(Op::Rename(path("f.jsonl"), path("g.jsonl")));
    assert_eq!(
        states(&ops),
        [r#"f.jsonl="ab""#, r#"g.jsonl="ab""#],
        "one or the other"
    );
    ops.extend([Op::MakeDir(path("d")), Op::Remove(path("g.jsonl"))]);
    let all = [
        "",
        "d",
        r#"d f.jsonl="ab""#,
        r#"d g.jsonl="ab""#,
        r#"f.jsonl="ab""#,
        r#"g.jsonl="ab""#,
    ];
    assert_eq!(states(&ops), all, "each change or not");
}
