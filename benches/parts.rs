//! What the parts of a turn cost, each on its own: time, and how often and how much they allocate.
//!
//!     cargo bench --bench parts
//!
//! What is compared is a part with itself at another size: reading the end of a log must not grow
//! with the log, folding and choosing only with the context.

mod world;

use std::fs::File;
use std::io::Write as _;

use divan::{AllocProfiler, Bencher, black_box};
use ollama_prompt::ollama::stream::Decoder;
use ollama_prompt::session::context::{Budget, Candidate, Order, plan};
use ollama_prompt::session::event::{Body, Event, Prune};
use ollama_prompt::session::fold::{Entry, fold};
use ollama_prompt::session::id::SessionId;
use ollama_prompt::session::importance::{Said, scores};
use ollama_prompt::store::snapshot::Extent;
use ollama_prompt::store::{Location, Store, open};
use ollama_prompt::tokens;
use tempfile::TempDir;
use world::{Size, make};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

/// Turns of a full context of short turns, about.
const CONTEXT: u64 = 250;
const SAID: usize = 1000;

fn main() {
    divan::main();
}

/// A store with a session of so many turns, in a directory that goes with it.
struct Made {
    root: TempDir,
    store: Box<dyn Store>,
    id: SessionId,
}

impl Made {
    fn of(turns: u64) -> Self {
        let root = TempDir::new().expect("a temporary directory");
        let size = Size {
            sessions: 1,
            turns,
            said: SAID,
        };
        make(root.path(), size);
        let location = Location::Files(root.path().to_owned());
        let store = open(&location).expect("a store").expect("a store");
        let id = store.ids().expect("readable")[0];
        Self { root, store, id }
    }

    fn entries(&self) -> Vec<Entry> {
        self.store.events(self.id).expect("readable").entries
    }
}

/// Adds the event that says that only the last `kept` turns are in the context.
fn set_horizon(made: &Made, kept: usize) {
    let session = fold(made.entries());
    let dropped = session.turns.len() - kept;
    let horizon = Prune {
        keep_from: session.turns[dropped].id,
        keep: Vec::new(),
        strategy: "fifo".to_owned(),
        summary: None,
        budget: 64_000,
        back: false,
        kept_turns: kept as u64,
        dropped_turns: dropped as u64,
        dropped_tokens: 0,
        kept_redacts: 0,
        settings: session.settings.clone(),
    };
    let mut event = session.next(Body::Prune(horizon));
    let session = made.root.path().join("sessions").join(made.id.to_string());
    let log = File::options()
        .append(true)
        .open(session.join("events.jsonl"));
    let mut log = log.expect("a log");
    event.at = Some(log.metadata().expect("a length").len());
    writeln!(log, "{}", event.to_line()).expect("writable");
}

/// What a turn reads of a session whose horizon lies `CONTEXT` turns back, whatever is before it.
#[divan::bench(args = [250, 2500, 25_000])]
fn read_for_a_turn(bencher: Bencher, turns: u64) {
    let made = Made::of(turns);
    let kept = usize::try_from(CONTEXT).expect("small");
    set_horizon(&made, kept);
    bencher.bench_local(|| {
        let read = made.store.read(made.id, Extent::Context).expect("readable");
        assert_eq!(read.expect("a session").session.turns.len(), kept);
    });
}

#[divan::bench(args = [10, 250, 2500])]
fn decode_a_log(bencher: Bencher, turns: u64) {
    let made = Made::of(turns);
    bencher.bench_local(|| made.entries());
}

#[divan::bench(args = [10, 250, 2500])]
fn fold_a_session(bencher: Bencher, turns: u64) {
    let made = Made::of(turns);
    bencher
        .with_inputs(|| made.entries())
        .bench_local_values(fold);
}

#[divan::bench]
fn write_an_event(bencher: Bencher) {
    let event = Made::of(1).entries().pop().expect("a turn").event;
    bencher.bench_local(|| black_box(&event).to_line());
}

#[divan::bench]
fn read_an_event(bencher: Bencher) {
    let event = Made::of(1).entries().pop().expect("a turn").event;
    let line = event.to_line();
    bencher.bench_local(|| Event::from_slice(black_box(line.as_bytes())));
}

#[divan::bench(args = [250, 2500])]
fn plan_a_context(bencher: Bencher, turns: usize) {
    let candidate = Candidate {
        tokens: 250,
        is_pinned: false,
        with_previous: false,
    };
    let turns = vec![candidate; turns];
    let budget = Budget::new(64_000, 1000);
    bencher.bench_local(|| plan(black_box(&turns), 100, budget, Order::Oldest));
}

#[divan::bench]
fn score_by_importance(bencher: Bencher) {
    let session = fold(Made::of(CONTEXT).entries());
    let said: Vec<Said<'_>> = session
        .turns
        .iter()
        .map(|said| Said {
            prompt: &said.turn.prompt,
            response: &said.turn.response,
            tokens: 250,
        })
        .collect();
    bencher.bench_local(|| scores(black_box(&said), "what was it about the deadline?"));
}

#[divan::bench]
fn estimate_tokens(bencher: Bencher) {
    let entries = Made::of(CONTEXT).entries();
    let text: String = entries.iter().map(|entry| entry.event.to_line()).collect();
    bencher.bench_local(|| tokens::estimate(black_box(&text)));
}

/// A reply of 2 000 chunks, as a server sends it.
#[divan::bench]
fn take_a_reply(bencher: Bencher) {
    const CHUNK: &str = "{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\" word\"},\"done\":false}\n";
    const LAST: &str =
        "{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true}\n";
    let reply = CHUNK.repeat(2000) + LAST;
    bencher.bench_local(|| {
        let mut decoder = Decoder::default();
        for bytes in black_box(reply.as_bytes()).chunks(1448) {
            decoder.push(bytes, &mut |_| {}).expect("a reply");
        }
        decoder.finish(&mut |_| {}).expect("finished");
        assert!(decoder.is_done());
    });
}
