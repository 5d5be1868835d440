//! The client against a server that says exactly these bytes.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use super::*;
use crate::ollama::fixtures;

const PATIENCE: Duration = Duration::from_secs(10);

/// What a server does with its one connection after it has read the request.
enum Act {
    Say(Vec<u8>),
    Wait(Duration),
    /// Waits until the client is gone.
    Hang,
    /// Resets the connection, as a killed process does.
    Reset,
}
use Act::{Hang, Reset, Say, Wait};

struct Server {
    port: u16,
    request: Receiver<String>,
}

impl Server {
    fn at(address: &str, acts: Vec<Act>) -> Self {
        let listener = TcpListener::bind((address, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (send, request) = channel();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let resets = acts.iter().any(|act| matches!(act, Reset));
            // A socket closed with bytes nobody read is reset rather than ended.
            let text = read_request(&mut stream, resets);
            let _ = send.send(text);
            for act in acts {
                match act {
                    Say(bytes) => {
                        let _ = stream.write_all(&bytes);
                    }
                    Wait(time) => thread::sleep(time),
                    Hang => {
                        let _ = stream.read(&mut [0; 64]);
                    }
                    Reset => {
                        thread::sleep(Duration::from_millis(50));
                        return;
                    }
                }
            }
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.read(&mut [0; 64]);
        });
        Self { port, request }
    }

    fn new(acts: Vec<Act>) -> Self {
        Self::at("127.0.0.1", acts)
    }

    fn host(&self) -> Host {
        Host::parse(&format!("127.0.0.1:{}", self.port)).expect("a host")
    }

    fn client(&self) -> Client {
        Client::new(&self.host(), None, PATIENCE).expect("a client")
    }

    fn fails(&self) -> Failure {
        fails(&self.client())
    }
}

/// Reads head and body, or all but the last byte of them.
fn read_request(stream: &mut TcpStream, leave_one: bool) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    let mut wanted = usize::MAX;
    while bytes.len() < wanted && stream.read(&mut byte).expect("a request") == 1 {
        bytes.push(byte[0]);
        if wanted == usize::MAX && bytes.ends_with(b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes).to_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse::<usize>().expect("a length"));
            wanted = bytes.len() + length - usize::from(leave_one);
        }
    }
    String::from_utf8(bytes).expect("a request in UTF-8")
}

fn fails(client: &Client) -> Failure {
    *client
        .chat(b"{}".to_vec(), &mut |_| ())
        .expect_err("a failure was expected")
}

/// Returns a response whose body ends with the connection.
fn response(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn ok(body: &str) -> Vec<u8> {
    response("200 OK", "", body.as_bytes())
}

const LINE: &str = "{\"message\":{\"content\":\"a\"}}\n";
const DONE: &str = "{\"message\":{\"content\":\"z\"},\"done\":true}\n";

#[test]
fn a_recorded_stream_is_read_as_it_was_sent() {
    let raw = fixtures::raw("chat-stream");
    let server = Server::new(vec![Say(raw)]);
    let mut streamed = String::new();
    let reply = server
        .client()
        .chat(b"{\"model\":\"m\"}".to_vec(), &mut |chunk| {
            streamed.push_str(chunk.content());
        })
        .expect("a reply");
    assert_eq!(reply.done_reason.as_deref(), Some("length"));
    assert_eq!(reply.usage.eval_count, Some(24));
    assert!(reply.content.ends_with(" yellow."), "{}", reply.content);
    assert_eq!(streamed, reply.content);
    let request = server.request.recv().expect("a request");
    assert!(
        request.starts_with("POST /api/chat HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(
        request.contains("\r\ncontent-type: application/json\r\n"),
        "{request}"
    );
    assert!(request.ends_with("\r\n\r\n{\"model\":\"m\"}"), "{request}");
    assert!(
        !request.to_lowercase().contains("authorization"),
        "{request}"
    );
}

#[test]
fn every_way_a_stream_can_end_has_its_code_and_keeps_the_text() {
    let rows = [
        (
            "error line",
            fixtures::raw("runner-dies-mid-stream"),
            Code::ServerError,
            "14,",
        ),
        (
            "killed server",
            fixtures::raw("server-killed-mid-stream"),
            Code::StreamInterrupted,
            "[",
        ),
        (
            "clean end without done",
            ok(LINE),
            Code::StreamInterrupted,
            "a",
        ),
        ("nothing at all", ok(""), Code::StreamInterrupted, ""),
        (
            "cut line",
            ok(&format!("{LINE}{{\"mess")),
            Code::StreamInterrupted,
            "a",
        ),
        (
            "page",
            ok(&format!("{LINE}<html>\n")),
            Code::BadResponse,
            "a",
        ),
        (
            "short body",
            response("200 OK", "Content-Length: 99\r\n", LINE.as_bytes()),
            Code::StreamInterrupted,
            "a",
        ),
        (
            "cut chunk",
            response(
                "200 OK",
                "Transfer-Encoding: chunked\r\n",
                format!("ff\r\n{LINE}").as_bytes(),
            ),
            Code::StreamInterrupted,
            "a",
        ),
        (
            "bad chunk size",
            response(
                "200 OK",
                "Transfer-Encoding: chunked\r\n",
                format!("1c\r\n{LINE}\r\nxyz\r\n").as_bytes(),
            ),
            Code::StreamInterrupted,
            "a",
        ),
    ];
    for (name, bytes, code, text) in rows {
        let failure = Server::new(vec![Say(bytes)]).fails();
        assert_eq!(failure.error.code, code, "{name}: {}", failure.error);
        let got = &failure.partial.content;
        assert!(got.ends_with(text), "{name}: {got}");
        assert_eq!(got.is_empty(), text.is_empty(), "{name}: {got}");
        assert!(!failure.partial.done, "{name}");
    }
}

#[test]
fn a_reply_is_whole_with_its_last_line_whatever_follows() {
    let chunked = format!("{:x}\r\n{LINE}{DONE}", LINE.len() + DONE.len());
    let rows = [
        (
            "the connection stays open",
            vec![Say(ok(&format!("{LINE}{DONE}"))), Hang],
        ),
        (
            "the last chunk is missing",
            vec![Say(response(
                "200 OK",
                "Transfer-Encoding: chunked\r\n",
                chunked.as_bytes(),
            ))],
        ),
        (
            "no newline",
            vec![Say(ok(&format!("{LINE}{}", DONE.trim_end())))],
        ),
        (
            "one document",
            vec![Say(ok(r#"{"message":{"content":"az"},"done":true}"#))],
        ),
    ];
    for (name, acts) in rows {
        let reply = Server::new(acts).client().chat(Vec::new(), &mut |_| ());
        assert_eq!(reply.expect(name).content, "az", "{name}");
    }
}

#[test]
fn a_recorded_refusal_says_what_the_server_said() {
    let rows = [
        ("chat-unknown-model", Code::ModelNotFound, None),
        ("server-busy", Code::RateLimited, None),
        ("foreign-host-header", Code::BadResponse, None),
        ("double-slash-path", Code::BadResponse, None),
        ("unknown-path", Code::BadResponse, None),
        (
            "ctx-truncate-false",
            Code::ContextOverflow,
            Some((406, 256)),
        ),
    ];
    for (case, code, overflow) in rows {
        let failure = Server::new(vec![Say(fixtures::response(case)), Hang]).fails();
        assert_eq!(failure.error.code, code, "{case}: {}", failure.error);
        let got = failure.overflow.map(|o| (o.prompt_tokens, o.num_ctx));
        assert_eq!(got, overflow, "{case}");
        assert_eq!(failure.partial, Reply::default(), "{case}");
    }
}

#[test]
fn an_endless_refusal_is_read_to_its_limit() {
    let long = vec![b'x'; 4 * BODY_LIMIT];
    let failure = Server::new(vec![Say(response("400 Bad Request", "", &long)), Hang]).fails();
    assert_eq!(failure.error.code, Code::BadResponse);
    assert!(failure.error.to_string().len() < 400, "{}", failure.error);
}

#[test]
fn a_redirect_is_not_followed() {
    let elsewhere = Server::new(vec![Say(ok(DONE))]);
    let location = format!("Location: http://127.0.0.1:{}/api/chat\r\n", elsewhere.port);
    let failure = Server::new(vec![Say(response(
        "307 Temporary Redirect",
        &location,
        b"",
    ))])
    .fails();
    assert_eq!(failure.error.code, Code::BadResponse);
    let hint = failure.error.report().hint.expect("a hint");
    assert!(
        hint.contains(&format!("http://127.0.0.1:{} ", elsewhere.port)),
        "{hint}"
    );
    assert!(elsewhere.request.try_recv().is_err());
}

#[test]
fn what_happens_before_the_status_line_has_its_code() {
    let rows = [
        ("closed", vec![], Code::StreamInterrupted),
        ("reset", vec![Reset], Code::StreamInterrupted),
        (
            "half a status line",
            vec![Say(b"HTTP/1.1 2".to_vec())],
            Code::StreamInterrupted,
        ),
        (
            "another protocol",
            vec![Say(b"220 mail.example ESMTP\r\n\r\n".to_vec())],
            Code::BadResponse,
        ),
    ];
    for (name, acts, code) in rows {
        let server = Server::new(acts);
        let error = server.fails().error;
        assert_eq!(error.code, code, "{name}: {error}");
        let place = format!("http://127.0.0.1:{}", server.port);
        assert!(error.to_string().contains(&place), "{name}: {error}");
    }
}

#[test]
fn a_reset_in_the_middle_keeps_the_text() {
    let failure = Server::new(vec![Say(ok(LINE)), Reset]).fails();
    assert_eq!(
        failure.error.code,
        Code::StreamInterrupted,
        "{}",
        failure.error
    );
    assert_eq!(failure.partial.content, "a");
}

#[test]
fn nobody_there_is_unreachable_and_named() {
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address").port()
    };
    for address in ["127.0.0.1", "localhost", "[::1]", "http://nobody.invalid"] {
        let host = Host::parse(&format!("{address}:{port}")).expect(address);
        let error = fails(&Client::new(&host, None, PATIENCE).expect("a client")).error;
        assert_eq!(error.code, Code::ServerUnreachable, "{address}: {error}");
        assert!(error.to_string().contains(&host.to_string()), "{error}");
        assert!(error.report().hint.expect("a hint").contains("OLLAMA_HOST"));
    }
}

#[test]
fn silence_ends_a_call_and_each_byte_restarts_its_clock() {
    let silence = Duration::from_millis(200);
    let chat = |acts| {
        let server = Server::new(acts);
        let client = Client::new(&server.host(), None, silence).expect("a client");
        client.chat(Vec::new(), &mut |_| ())
    };
    let before = chat(vec![Hang]).expect_err("silence");
    assert_eq!(before.error.code, Code::Timeout);
    assert!(
        before
            .error
            .to_string()
            .ends_with(" said nothing for 0.2 s"),
        "{}",
        before.error
    );
    let within = chat(vec![Say(ok(LINE)), Hang]).expect_err("silence");
    assert_eq!(
        (within.error.code, within.partial.content.as_str()),
        (Code::Timeout, "a")
    );
    let slowly = std::iter::repeat_with(|| [Wait(silence / 4), Say(b"\n".to_vec())])
        .take(8)
        .flatten();
    let acts = std::iter::once(Say(ok(LINE))).chain(slowly);
    let acts = acts.chain([Say(DONE.as_bytes().to_vec())]).collect();
    assert_eq!(chat(acts).expect("a reply").content, "az");
}

#[test]
fn localhost_is_this_machine_in_either_family() {
    for address in ["127.0.0.1", "::1"] {
        let server = Server::at(address, vec![Say(ok(DONE))]);
        let host = Host::parse(&format!("localhost:{}", server.port)).expect("a host");
        let client = Client::new(&host, None, PATIENCE).expect("a client");
        let reply = client.chat(Vec::new(), &mut |_| ()).expect(address);
        assert_eq!(reply.content, "z", "{address}");
    }
}

#[test]
fn a_key_is_sent_and_not_shown() {
    let server = Server::new(vec![Say(ok(DONE))]);
    let key = ApiKey::parse("s3cret").expect("a key");
    let client = Client::new(&server.host(), Some(&key), PATIENCE).expect("a client");
    assert!(!format!("{client:?}").contains("s3cret"), "{client:?}");
    client.chat(Vec::new(), &mut |_| ()).expect("a reply");
    let request = server.request.recv().expect("a request");
    assert!(
        request.contains("\r\nauthorization: Bearer s3cret\r\n"),
        "{request}"
    );
}

#[test]
fn a_password_in_the_address_is_sent_and_not_shown() {
    let server = Server::new(vec![Reset]);
    let host = Host::parse(&format!("http://me:s3cret@127.0.0.1:{}/p/", server.port));
    let client = Client::new(&host.expect("a host"), None, PATIENCE).expect("a client");
    let error = fails(&client).error;
    let request = server.request.recv().expect("a request");
    assert!(
        request.starts_with("POST /p/api/chat HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(
        request.contains("\r\nauthorization: Basic bWU6czNjcmV0\r\n"),
        "{request}"
    );
    assert!(
        !format!("{client:?} {error}").contains("s3cret"),
        "{client:?} {error}"
    );
}

#[test]
fn https_to_a_plain_server_is_no_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let _ = stream.write_all(&response("400 Bad Request", "", b""));
        let _ = stream.read(&mut [0; 1024]);
    });
    let host = Host::parse(&format!("https://127.0.0.1:{port}")).expect("a host");
    let error = match Client::new(&host, None, PATIENCE) {
        Ok(client) => fails(&client).error,
        // A machine without certificates is told so.
        Err(error) => return assert_eq!(error.code, Code::Config, "{error}"),
    };
    assert_eq!(error.code, Code::BadResponse, "{error}");
    let hint = error.report().hint.expect("a hint");
    assert!(hint.starts_with("is it a server for https"), "{hint}");
}

/// The answer to the first call is not waited for by the second: a client can be used again.
#[test]
fn a_client_can_be_used_again() {
    let server = Server::new(vec![Say(ok(DONE))]);
    let client = server.client();
    client.chat(Vec::new(), &mut |_| ()).expect("a reply");
    let start = Instant::now();
    let error = fails(&client).error;
    assert!(error.code.retryable(), "{error}");
    assert!(start.elapsed() < PATIENCE);
}

/// What a signal does to a whole process is tried on one: this test binary, running
/// `in_a_process_of_its_own` with a proxy in its environment that must not be asked.
struct Caller {
    process: std::process::Child,
    server: Server,
}

impl Caller {
    fn start(acts: Vec<Act>, prefix: &str, stuck: bool) -> Self {
        use crate::platform::Signal;

        // What the tests were told to ignore, the caller would ignore as well; what is handled it does not inherit.
        let heard: Vec<Signal> = Signal::unignored().collect();
        for signal in Signal::ALL.iter().filter(|signal| !heard.contains(signal)) {
            signal.sets(&Arc::default()).expect("a handler");
        }
        let server = Server::new(acts);
        let process = std::process::Command::new("sh")
            .args(["-c", &format!("{prefix} exec \"$@\""), "sh"])
            .arg(std::env::current_exe().expect("a test binary"))
            .args(["--exact", "--ignored", "--nocapture"])
            .arg("ollama::client::tests::in_a_process_of_its_own")
            .env("TEST_PORT", server.port.to_string())
            .env("TEST_STUCK", if stuck { "1" } else { "" })
            .env("HTTP_PROXY", "http://127.0.0.1:1")
            .env("http_proxy", "http://127.0.0.1:1")
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("a process");
        server.request.recv_timeout(PATIENCE).expect("a request");
        Self { process, server }
    }

    /// Sends a signal once the piece of the reply that came first is surely read.
    fn signal(&self, signal: rustix::process::Signal) {
        thread::sleep(Duration::from_millis(200));
        let id = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(id, signal).expect("the process is there");
    }

    fn ends(self) -> (String, std::process::ExitStatus) {
        let output = self.process.wait_with_output().expect("an end");
        drop(self.server);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = text.lines().find_map(|l| l.split_once("outcome: "));
        (
            said.map_or_else(String::new, |(_, s)| s.to_owned()),
            output.status,
        )
    }
}

#[test]
#[ignore = "the tests of signals run it in a process of its own"]
#[expect(
    clippy::disallowed_methods,
    reason = "it is told by the environment what to do"
)]
fn in_a_process_of_its_own() {
    let host = Host::parse(&std::env::var("TEST_PORT").map_or(String::new(), |p| format!(":{p}")));
    let is_stuck = std::env::var("TEST_STUCK").is_ok_and(|s| !s.is_empty());
    let client = Client::new(&host.expect("a host"), None, PATIENCE).expect("a client");
    let outcome = match client.chat(Vec::new(), &mut |_| {
        if is_stuck {
            thread::sleep(PATIENCE);
        }
    }) {
        Ok(reply) => format!("ok {}", reply.content),
        Err(failure) => format!("{} {}", failure.error.code.name(), failure.partial.content),
    };
    writeln!(std::io::stdout(), "outcome: {outcome}").expect("stdout");
}

#[test]
fn a_signal_ends_a_call_which_keeps_the_text() {
    use rustix::process::Signal;
    let rows = [
        (Signal::HUP, "hangup a"),
        (Signal::INT, "interrupted a"),
        (Signal::TERM, "terminated a"),
    ];
    for (signal, expected) in rows {
        let caller = Caller::start(vec![Say(ok(LINE)), Hang], "", false);
        caller.signal(signal);
        let (outcome, status) = caller.ends();
        assert_eq!(
            (outcome.as_str(), status.success()),
            (expected, true),
            "{signal:?}"
        );
    }
}

#[test]
fn a_second_signal_ends_the_process() {
    use rustix::process::Signal;
    let caller = Caller::start(vec![Say(ok(LINE)), Hang], "", true);
    caller.signal(Signal::INT);
    caller.signal(Signal::INT);
    let (_, status) = caller.ends();
    let of_the_table = Code::Interrupted.exit_status().into();
    assert_eq!(status.code(), Some(of_the_table), "{status}");
}

#[test]
fn a_signal_that_was_ignored_stays_so() {
    let acts = vec![
        Say(ok(LINE)),
        Wait(Duration::from_millis(500)),
        Say(DONE.as_bytes().to_vec()),
    ];
    let caller = Caller::start(acts, "trap '' HUP;", false);
    caller.signal(rustix::process::Signal::HUP);
    assert_eq!(caller.ends().0, "ok az");
}
