//! The scripted server held to its script, by a client that is nothing but a socket.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Gate, NOBODY_LISTENS, PATIENCE, Reply, Server};

#[test]
fn without_a_script_the_last_user_message_is_said_back_and_counted() {
    let server = Server::start();
    let reply = ask(&server, &["one two three", "and", "four five"]);
    let lines = lines(&reply);
    let said: String = lines
        .iter()
        .filter_map(|l| l["message"]["content"].as_str())
        .collect();
    assert_eq!(said, "reply to: four five");
    assert!(lines.len() > 2, "it is streamed: {lines:?}");
    let last = lines.last().expect("a line");
    assert_eq!(last["done"], true);
    assert_eq!(last["prompt_eval_count"], 6);
    assert_eq!(last["eval_count"], 4);
}

#[test]
fn a_request_is_kept_as_it_was_sent() {
    let server = Server::start();
    ask(&server, &["first", "second", "third"]);
    let request = server.last_request();
    assert_eq!(request.roles(), ["user", "assistant", "user"]);
    assert_eq!(request.contents(), ["first", "second", "third"]);
    assert_eq!(request.last_user(), "third");
    assert_eq!(request.option("num_ctx"), 4096);
    assert_eq!(request.option("seed"), &Value::Null);
    assert_eq!(request.header("AUTHORIZATION"), Some("Bearer key"));
    assert_eq!(request.body, body(&["first", "second", "third"]).as_bytes());
    assert_eq!(server.request_count(), 1);
}

#[test]
fn replies_come_in_the_order_they_were_queued_then_from_the_handler() {
    let server = Server::start();
    server.handle(|request| Reply::text(format!("handled {}", request.last_user())));
    server.enqueue(Reply::text("first"));
    server.enqueue(Reply::error(503, "busy").delay_before(Duration::from_millis(1)));
    let first = ask(&server, &["a"]);
    assert!(first.contains(r#""content":"first""#), "{first}");
    let second = ask(&server, &["b"]);
    assert!(second.starts_with("HTTP/1.1 503 "), "{second}");
    assert!(second.ends_with("\r\n\r\n{\"error\":\"busy\"}"), "{second}");
    assert!(ask(&server, &["c"]).contains("handled "));
}

#[test]
fn a_model_says_what_the_script_says() {
    let server = Server::start();
    let reply = Reply::text("It is 4.")
        .thinking("two and two")
        .tool_calls(json!([{"function": {"name": "add"}}]))
        .last_text("!")
        .counts(7, 9)
        .done_reason("length");
    server.enqueue(reply);
    let lines = lines(&ask(&server, &["2+2?"]));
    let all = |key: &str| -> String {
        lines
            .iter()
            .filter_map(|l| l["message"][key].as_str())
            .collect()
    };
    assert_eq!(all("thinking"), "two and two");
    assert_eq!(all("content"), "It is 4.!");
    assert!(
        lines
            .iter()
            .any(|l| l["message"]["tool_calls"][0]["function"]["name"] == "add")
    );
    let last = lines.last().expect("a line");
    assert_eq!(last["prompt_eval_count"], 7);
    assert_eq!(last["eval_count"], 9);
    assert_eq!(last["done_reason"], "length");
}

#[test]
fn a_stream_can_end_in_every_way_there_is() {
    let server = Server::start();
    let complete = |reply: &str| reply.ends_with("0\r\n\r\n");

    server.enqueue(Reply::text("a b c").error_mid_stream("the runner died"));
    let reply = ask(&server, &["x"]);
    assert!(
        complete(&reply) && reply.contains(r#"{"error":"the runner died"}"#),
        "{reply}"
    );

    server.enqueue(Reply::text("a b c").no_done());
    let reply = ask(&server, &["x"]);
    assert!(
        complete(&reply) && !reply.contains(r#""done":true"#),
        "{reply}"
    );

    server.enqueue(Reply::text("a b c").cut_after_chunks(2));
    let reply = ask(&server, &["x"]);
    assert!(!complete(&reply), "{reply}");
    assert_eq!(lines(&reply).len(), 2, "{reply}");

    server.enqueue(Reply::text("a b c").reset_after_chunks(1));
    let mut reply = Vec::new();
    let error = send(&server, &["x"])
        .read_to_end(&mut reply)
        .expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_reply_byte_by_byte_arrives_whole() {
    let server = Server::start();
    server.enqueue(Reply::text("grüße 🦀"));
    let at_once = ask(&server, &["x"]);
    server.enqueue(Reply::text("grüße 🦀").byte_by_byte());
    assert_eq!(ask(&server, &["x"]), at_once);
}

#[test]
fn a_recorded_reply_is_the_same_to_the_byte() {
    let server = Server::start();
    let recorded = |file: &str| {
        let path = format!(
            "{}/tests/fixtures/ollama/{file}",
            env!("CARGO_MANIFEST_DIR")
        );
        std::fs::read_to_string(path).expect("a recording")
    };
    for case in ["chat-stream", "server-stops-mid-stream"] {
        server.enqueue(Reply::recorded(case));
        assert_eq!(
            ask(&server, &["x"]),
            recorded(&format!("{case}/response.raw")),
            "{case}"
        );
    }
    server.enqueue(Reply::recorded("chat-unknown-model"));
    let parts = ["headers", "body"].map(|p| recorded(&format!("chat-unknown-model/response.{p}")));
    assert_eq!(ask(&server, &["x"]), parts.concat());
    server.enqueue(Reply::recorded("chat-stream").cut_after_chunks(3));
    assert_eq!(lines(&ask(&server, &["x"])).len(), 3);
}

#[test]
fn a_huge_reply_has_the_size_asked_for() {
    const SIZE: usize = 1_000_001;
    let server = Server::start();
    for (reply, chunks) in [
        (Reply::huge(SIZE), 17),
        (Reply::huge(SIZE).in_one_chunk(), 2),
    ] {
        server.enqueue(reply);
        let lines = lines(&ask(&server, &["x"]));
        let said = lines
            .iter()
            .filter_map(|l| l["message"]["content"].as_str());
        assert_eq!(said.map(str::len).sum::<usize>(), SIZE);
        assert_eq!(lines.len(), chunks);
    }
}

#[test]
fn nobody_is_answered_before_all_have_arrived() {
    let server = Server::start();
    server.handle(|_| Reply::echo().after_arrivals(3));
    let (answered, answers) = mpsc::channel();
    thread::scope(|scope| {
        let ask_again = |prompt: &'static str| {
            let (answered, server) = (answered.clone(), &server);
            scope.spawn(move || answered.send(ask(server, &[prompt])));
        };
        ask_again("a");
        ask_again("b");
        server.wait_for_requests(2);
        assert!(
            answers.try_recv().is_err(),
            "two arrived, and one was answered"
        );
        ask_again("c");
        for _ in 0..3 {
            answers.recv_timeout(PATIENCE).expect("an answer");
        }
    });
}

#[test]
fn a_reply_stops_at_a_closed_gate() {
    let server = Server::start();
    let (first, second) = (Gate::new(), Gate::new());
    server.enqueue(
        Reply::text("one two")
            .held_by(&first)
            .pause_after_chunks(1, &second),
    );
    let mut socket = send(&server, &["x"]);
    first.wait_until_reached();
    socket.set_nonblocking(true).expect("a socket's mode");
    let early = socket.read(&mut [0]).expect_err("nothing was sent");
    assert_eq!(early.kind(), ErrorKind::WouldBlock);
    socket.set_nonblocking(false).expect("a socket's mode");
    first.open();
    second.wait_until_reached();
    let mut reply = Vec::new();
    while !reply.ends_with(b"}\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).expect("the first chunk");
        reply.push(byte[0]);
    }
    socket.set_nonblocking(true).expect("a socket's mode");
    let early = socket.read(&mut [0]).expect_err("one chunk was sent");
    assert_eq!(early.kind(), ErrorKind::WouldBlock);
    socket.set_nonblocking(false).expect("a socket's mode");
    second.open();
    assert_eq!(lines(&read_all(socket)).len(), 2);
}

#[test]
fn a_silent_server_and_a_closed_gate_end_with_the_server() {
    let server = Server::start();
    let gate = Gate::new();
    server.enqueue(Reply::silence());
    server.enqueue(Reply::echo().held_by(&gate));
    let clients = [send(&server, &["x"]), send(&server, &["y"])];
    server.wait_for_requests(2);
    drop(server);
    for mut client in clients {
        let mut reply = Vec::new();
        // Closed or reset, but over.
        let _ = client.read_to_end(&mut reply);
        assert_eq!(reply, b"");
    }
}

#[test]
#[should_panic(expected = "in the server: this is no chat I know")]
fn what_a_handler_asserts_fails_the_test() {
    let server = Server::start();
    server.handle(|_| panic!("this is no chat I know"));
    ask(&server, &["x"]);
}

#[test]
#[should_panic(expected = "the reply has only 3 chunks")]
fn a_script_for_chunks_that_do_not_come_fails_the_test() {
    let server = Server::start();
    server.enqueue(Reply::text("one two").cut_after_chunks(4));
    ask(&server, &["x"]);
}

#[test]
fn nobody_listens_where_nobody_should() {
    let address = NOBODY_LISTENS.strip_prefix("http://").expect("a plain URL");
    let refused = TcpStream::connect(address).expect_err("no connection");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn other_paths_answer_and_are_counted() {
    let server = Server::start();
    server.set_context_length(2048);
    let mut socket = connect(&server);
    for path in ["/api/version", "/api/show", "/api/tags", "/api/show"] {
        let post = format!("POST {path} HTTP/1.1\r\nContent-Length: 2\r\n\r\n{{}}");
        socket
            .write_all(post.as_bytes())
            .expect("one connection takes them all");
    }
    socket.shutdown(Shutdown::Write).expect("no more requests");
    let replies = read_all(socket);
    assert!(replies.contains(r#"{"version":"0.32.15"}"#), "{replies}");
    assert!(
        replies.contains(r#""gemma3.context_length":2048"#),
        "{replies}"
    );
    assert_eq!(server.count_of("/api/show"), 2);
    assert_eq!(server.request_count(), 0);
}

/// Returns all that comes back when these messages are sent, the last of them a user's.
fn ask(server: &Server, messages: &[&str]) -> String {
    read_all(send(server, messages))
}

fn send(server: &Server, messages: &[&str]) -> TcpStream {
    let body = body(messages);
    let length = body.len();
    let mut socket = connect(server);
    let head = format!(
        "POST /api/chat HTTP/1.1\r\nAuthorization: Bearer key\r\nContent-Length: {length}\r\n\r\n"
    );
    socket
        .write_all((head + &body).as_bytes())
        .expect("the server reads");
    socket
}

fn body(messages: &[&str]) -> String {
    let roles = ["user", "assistant"].iter().cycle();
    let messages: Vec<Value> = roles
        .zip(messages)
        .map(|(role, content)| json!({"role": role, "content": content}))
        .collect();
    json!({"model": "m", "messages": messages, "options": {"num_ctx": 4096}}).to_string()
}

fn connect(server: &Server) -> TcpStream {
    let url = server.url();
    let address = url.strip_prefix("http://").expect("a plain URL");
    let socket = TcpStream::connect(address).expect("the server listens");
    socket
        .set_read_timeout(Some(PATIENCE))
        .expect("a socket's mode");
    socket
}

fn read_all(mut socket: TcpStream) -> String {
    let mut reply = String::new();
    // It keeps the connection for more; that there are none is said by closing our side.
    let _ = socket.shutdown(Shutdown::Write);
    socket.read_to_string(&mut reply).expect("a whole reply");
    reply
}

/// Returns the JSON lines of a streamed reply, one a chunk.
fn lines(reply: &str) -> Vec<Value> {
    let lines = reply.lines().filter(|line| line.starts_with('{'));
    lines
        .map(|l| serde_json::from_str(l).expect("a line is JSON"))
        .collect()
}
