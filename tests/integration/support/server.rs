//! A scripted Ollama server inside the test process: real sockets, replies a test writes down.
//!
//! Every request is kept. A chat is answered by the next reply in the queue, else by the
//! handler, else with an echo; the other paths by what was set for them. When the server is
//! dropped its connections break, its threads end, and what went wrong in them fails the test.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::json;

use super::connection::converse;
use super::gate::Gate;
use super::reply::Reply;
use super::request::Request;
use super::{HOLD, PATIENCE};

/// A server of its own for one test.
pub(crate) struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

type Handler = Arc<dyn Fn(&Request) -> Reply + Send + Sync>;

/// What the threads of a server have in common.
#[derive(Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    stopped: bool,
    requests: Vec<Arc<Request>>,
    queue: VecDeque<Reply>,
    handler: Option<Handler>,
    paths: BTreeMap<String, Reply>,
    /// What is open now, to be broken when the server is dropped.
    connections: BTreeMap<u64, TcpStream>,
    accepted: u64,
    gates: Vec<Gate>,
    panics: Vec<String>,
}

impl Server {
    /// Starts a server at a free port of the loopback address.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let shared = Arc::new(Shared::default());
        let server = Self {
            address,
            shared: Arc::clone(&shared),
            listener: Some(thread::spawn(move || listen(&listener, &shared))),
        };
        server.answer_path("/api/version", Reply::json(&json!({"version": "0.32.15"})));
        server.answer_path("/api/tags", Reply::json(&json!({"models": []})));
        server.set_context_length(32_768);
        server
    }

    /// Returns what `OLLAMA_HOST` is set to.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers one more chat with `reply`, after those queued before.
    pub(crate) fn enqueue(&self, reply: Reply) {
        self.shared.state().queue.push_back(reply);
    }

    /// Answers every chat for which no reply is queued.
    pub(crate) fn handle(&self, handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
        self.shared.state().handler = Some(Arc::new(handler));
    }

    /// Answers every request for `path` with `reply`, e.g. `/api/show`.
    pub(crate) fn answer_path(&self, path: &str, reply: Reply) {
        self.shared.state().paths.insert(path.to_owned(), reply);
    }

    /// Lets `/api/show` tell of a model with a context window of so many tokens.
    pub(crate) fn set_context_length(&self, tokens: u64) {
        let model = json!({
            "details": {"format": "gguf", "family": "gemma3"},
            "model_info": {"general.architecture": "gemma3", "gemma3.context_length": tokens},
            "capabilities": ["completion"],
        });
        self.answer_path("/api/show", Reply::json(&model));
    }

    /// Returns the chats asked for, in the order of arrival.
    pub(crate) fn requests(&self) -> Vec<Arc<Request>> {
        self.shared.state().chats().cloned().collect()
    }

    /// Returns the chat asked for last.
    #[track_caller]
    pub(crate) fn last_request(&self) -> Arc<Request> {
        let last = self.shared.state().chats().last().cloned();
        last.expect("a chat was asked for")
    }

    /// Returns how many chats were asked for.
    pub(crate) fn request_count(&self) -> usize {
        self.shared.state().chats().count()
    }

    /// Returns how many requests came for `path`, e.g. `/api/show`.
    pub(crate) fn count_of(&self, path: &str) -> usize {
        let state = self.shared.state();
        state.requests.iter().filter(|r| r.path == path).count()
    }

    /// Returns how many requests came whose target has `part` in it: of a proxy that is the host
    /// as well.
    pub(crate) fn count_with(&self, part: &str) -> usize {
        let state = self.shared.state();
        let with = state.requests.iter().filter(|r| r.path.contains(part));
        with.count()
    }

    /// Waits until so many chats were asked for since the server was started.
    #[track_caller]
    pub(crate) fn wait_for_requests(&self, chats: usize) {
        assert!(
            self.wait_briefly_for_requests(chats, PATIENCE),
            "{} of {chats} chats were asked for within {PATIENCE:?}",
            self.request_count()
        );
    }

    /// Waits until so many chats were asked for; false when that took longer than `time`.
    pub(super) fn wait_briefly_for_requests(&self, chats: usize, time: Duration) -> bool {
        self.shared.wait(time, |s| s.chats().count() >= chats)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop();
        // The listener is waiting in `accept`: one more client wakes it.
        drop(TcpStream::connect(self.address));
        let listened = self.listener.take().map(JoinHandle::join);
        let ended = self.shared.wait(PATIENCE, |s| s.connections.is_empty());
        let panics = std::mem::take(&mut self.shared.state().panics);
        if !thread::panicking() {
            assert!(matches!(listened, Some(Ok(()))), "the listener panicked");
            assert!(ended, "a connection of the server does not end");
            assert!(panics.is_empty(), "in the server: {}", panics.join("; "));
        }
    }
}

/// An address at which connections are refused: the port of a service nobody runs, and not one
/// that was free a moment ago, which another test may get.
pub(crate) const NOBODY_LISTENS: &str = "http://127.0.0.1:1";

fn listen(listener: &TcpListener, shared: &Arc<Shared>) {
    for socket in listener.incoming() {
        let Ok(socket) = socket else { continue };
        let Some(number) = shared.register(&socket) else {
            return;
        };
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            let ended = catch_unwind(AssertUnwindSafe(|| converse(socket, &shared)));
            shared.unregister(number, ended.err());
        });
    }
}

/// Returns what a thread said when it panicked.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").to_owned()
}

impl Shared {
    /// Keeps a request and chooses its reply.
    pub(super) fn receive(&self, request: Request) -> (Arc<Request>, Reply) {
        let request = Arc::new(request);
        let mut state = self.state();
        state.requests.push(Arc::clone(&request));
        self.changed.notify_all();
        if !request.is_chat() {
            let set = state.paths.get(&request.path).cloned();
            let reply = set.unwrap_or_else(|| Reply::error(404, "no such path"));
            return (request, reply);
        }
        if let Some(reply) = state.queue.pop_front() {
            return (request, reply);
        }
        let handler = state.handler.clone();
        drop(state);
        let reply = handler.map_or_else(Reply::echo, |handle| handle(&request));
        (request, reply)
    }

    /// Lets time pass, less when the server stops.
    pub(super) fn linger(&self, time: Duration) {
        self.wait(time, |s| s.stopped);
    }

    /// Waits until so many chats were asked for.
    pub(super) fn wait_for_arrivals(&self, chats: usize) {
        let came = self.wait(HOLD, |s| s.stopped || s.chats().count() >= chats);
        assert!(came, "fewer than {chats} chats arrived within {HOLD:?}");
    }

    /// Waits at a gate, which opens by itself when the server stops.
    pub(super) fn pass(&self, gate: &Gate) {
        let mut state = self.state();
        state.gates.push(gate.clone());
        let stopped = state.stopped;
        drop(state);
        if !stopped {
            gate.pass();
        }
    }

    /// Keeps a hold of a new connection; `None` when the server has stopped.
    fn register(&self, socket: &TcpStream) -> Option<u64> {
        let mut state = self.state();
        if state.stopped {
            return None;
        }
        state.accepted += 1;
        let number = state.accepted;
        let socket = socket.try_clone().expect("a descriptor is left");
        state.connections.insert(number, socket);
        Some(number)
    }

    fn unregister(&self, number: u64, panic: Option<Box<dyn Any + Send>>) {
        let mut state = self.state();
        state.connections.remove(&number);
        state.panics.extend(panic.as_deref().map(message));
        self.changed.notify_all();
    }

    fn stop(&self) {
        let mut state = self.state();
        state.stopped = true;
        for connection in state.connections.values() {
            // The client may have closed it already.
            let _ = connection.shutdown(Shutdown::Both);
        }
        for gate in state.gates.drain(..) {
            gate.open();
        }
        self.changed.notify_all();
    }

    /// Waits until the state is as wanted; false when it took too long.
    fn wait(&self, time: Duration, wanted: impl Fn(&State) -> bool) -> bool {
        let waited = self
            .changed
            .wait_timeout_while(self.state(), time, |state| !wanted(state));
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn chats(&self) -> impl DoubleEndedIterator<Item = &Arc<Request>> {
        self.requests.iter().filter(|request| request.is_chat())
    }
}
