//! The access log's formats: what a line says, and what a client can't make it say.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::client::{Client, request};
use crate::server::{Io, Server, eventually, on_every_driver};
use crate::slowness::thin_client;
use crate::tree::{HELLO, Tree, content};

on_every_driver!(
    json_lines,
    hostile_values,
    a_format_of_ones_own,
    duration,
    downloads_that_are_cut,
    a_download_that_the_end_cuts,
    a_download_that_a_second_signal_cuts,
    requests_that_are_cut_before_their_answer,
    standard_output_is_the_logs_alone,
    events_as_json
);

/// Larger than what is kept in memory.
const LARGE: usize = 1 << 20;

/// Larger than what sockets hold.
const LONG: usize = 16 << 20;

/// What of it is read.
const TAKEN: usize = 1 << 20;

/// The server's access log, once it has ended.
pub(crate) fn lines(server: Server, begin: &str) -> Vec<String> {
    let output = server.stop().stdout;
    let lines = output.lines().filter(|line| line.starts_with(begin));
    lines.map(str::to_owned).collect()
}

pub(crate) fn objects(server: Server) -> Vec<Value> {
    lines(server, "{").iter().map(|line| object(line)).collect()
}

fn object(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))
}

fn serve_json(io: Io, tree: &Tree) -> Server {
    let flags = ["--access-log", "-", "--access-format", "json"];
    Server::serve(io, &tree.root(), &flags)
}

fn json_lines(io: Io) {
    let tree = Tree::new();
    tree.write("large.bin", content(1, LARGE));
    let server = serve_json(io, &tree);
    let mut client = server.connect();
    client.ask(&request("GET", "/hello.txt?q", &["User-Agent: one"]));
    // From memory, now.
    client.ask(&request("GET", "/hello.txt", &["Referer: http://r/"]));
    client.ask(&request("HEAD", "/nothing", &[]));
    client.ask(&request("GET", "/large.bin", &[]));
    client.send("BAD\r\n\r\n");
    client.response();
    let mut lines = objects(server);
    for line in &mut lines {
        let fields = line.as_object_mut().unwrap();
        assert_eq!(fields.len(), 12, "{fields:?}");
        let time = fields.remove("time").unwrap();
        assert_eq!(
            time.as_str().unwrap().len(),
            "2026-11-22T10:00:00.000Z".len()
        );
        let duration = fields.remove("duration_seconds").unwrap();
        assert_eq!(duration.is_null(), fields["method"].is_null());
    }
    let line = |method: &str, target: &str, status: u16, bytes: usize| {
        json!({
            "peer": "127.0.0.1", "user": null, "method": method, "target": target,
            "version": "HTTP/1.1", "host": "test", "status": status, "body_bytes": bytes,
            "referer": null, "user_agent": null,
        })
    };
    let mut expect = [
        line("GET", "/hello.txt?q", 200, HELLO.len()),
        line("GET", "/hello.txt", 200, HELLO.len()),
        line("HEAD", "/nothing", 404, 0),
        line("GET", "/large.bin", 200, LARGE),
        line("", "", 400, 0),
    ];
    expect[0]["user_agent"] = "one".into();
    expect[1]["referer"] = "http://r/".into();
    for key in ["method", "target", "version", "host"] {
        expect[4][key] = Value::Null;
    }
    assert_eq!(lines, expect);
}

/// Everything that a head may carry, in fields that are logged: one line each, and in it just
/// what was sent.
fn hostile_values(io: Io) {
    let tree = Tree::new();
    let server = serve_json(io, &tree);
    let mut client = server.connect();
    let mut agents: Vec<Vec<u8>> = (0x80..=0xff).map(|byte| vec![byte, b'x']).collect();
    agents.push(b"\",\"status\":999,\"x\":\"".to_vec());
    agents.push(b"\\u0000\\\"\t}{".to_vec());
    agents.push("\u{9b}31m\u{202e}\u{2028}".as_bytes().to_vec());
    for agent in &agents {
        let head = [
            b"GET /hello.txt HTTP/1.1\r\nHost: a\r\nUser-Agent: ",
            &agent[..],
            b"\r\n\r\n",
        ];
        client.send(head.concat());
        assert_eq!(client.response().status, 200, "{agent:?}");
    }
    client.send("GET /\"}' HTTP/1.1\r\nHost: a\r\n\r\n");
    client.response();
    let lines = objects(server);
    assert_eq!(lines.len(), agents.len() + 1);
    for (line, agent) in lines.iter().zip(&agents) {
        assert_eq!(line["user_agent"], *String::from_utf8_lossy(agent));
        assert_eq!(line["status"], 200);
    }
}

fn a_format_of_ones_own(io: Io) {
    let tree = Tree::new();
    let format = "=$method|$target|$header_x_forwarded_for|\"$user_agent\"|$status $$$body_bytes";
    let flags = ["--access-log", "-", "--access-format", format];
    let server = Server::serve(io, &tree.root(), &flags);
    let mut client = server.connect();
    let fields = ["X-Forwarded-For: 192.0.2.1", "x-forwarded-for: a|b"];
    client.ask(&request("GET", "/hello.txt", &fields));
    client.ask(&request("GET", "/hello.txt", &["User-Agent: a|\"|200"]));
    client.send("BAD\r\n\r\n");
    client.response();
    let expect = [
        "=GET|/hello.txt|192.0.2.1, a\\x7Cb|\"-\"|200 $14",
        "=GET|/hello.txt|-|\"a|\\x22|200\"|200 $14",
        "=-|-|-|\"-\"|400 $0",
    ];
    assert_eq!(lines(server, "="), expect);
}

/// A request takes at least as long as its body is waited for.
fn duration(io: Io) {
    let tree = Tree::new();
    let server = serve_json(io, &tree);
    let mut client = server.connect();
    client.send(request(
        "GET",
        "/hello.txt",
        &["Content-Length: 1", "Expect: 100-continue"],
    ));
    assert_eq!(client.head().status, 100);
    // From here to there the server has had the head.
    let begun = Instant::now();
    assert!(!client.is_answered_within(Duration::from_millis(20)));
    let least = begun.elapsed();
    client.send("x");
    assert_eq!(client.response().status, 200);
    let lines = objects(server);
    let duration = lines[0]["duration_seconds"].as_f64().unwrap();
    assert!(duration >= least.as_secs_f64(), "{duration}, not {least:?}");
    assert!(duration < 60.0, "{duration}");
}

/// Begins to download, and has read this much when it returns.
fn begin(server: &Server, target: &str, fields: &[&str]) -> Client {
    let mut client = thin_client(server);
    client.send(request("GET", target, fields));
    let status = client.head().status;
    assert!([200, 206].contains(&status), "{status}");
    client.take(TAKEN);
    client
}

/// What of a download went out is neither nothing nor all.
#[track_caller]
fn expect_part(line: &Value, target: &str, status: u16) {
    assert_eq!(
        json!([line["target"], line["status"]]),
        json!([target, status])
    );
    let bytes = line["body_bytes"].as_u64().unwrap() as usize;
    assert!((TAKEN..LONG).contains(&bytes), "{bytes} bytes: {line}");
}

/// However a download ends, its line says how much of it went out.
fn downloads_that_are_cut(io: Io) {
    let tree = Tree::new();
    tree.write("long.bin", content(1, LONG));
    let flags = ["--access-log", "-", "--access-format", "json"];
    let timeouts = ["--write-stall-timeout", "500ms", "--workers", "1"];
    let server = Server::serve(io, &tree.root(), &[&flags[..], &timeouts].concat());
    let logged = |count: usize| {
        eventually("it is logged", || {
            (server.output().lines().count() == count).then_some(())
        });
    };
    // With something unread, which is a reset; in the second of several parts; and by the server.
    drop(begin(&server, "/long.bin?left", &[]));
    logged(1);
    drop(begin(
        &server,
        "/long.bin?parts",
        &["Range: bytes=0-9,100-"],
    ));
    logged(2);
    let _stalled = begin(&server, "/long.bin?stalled", &[]);
    logged(3);
    let mut client = server.connect();
    let whole = client.ask(&request("GET", "/long.bin", &["Range: bytes=0-9,100-199"]));
    let lines = objects(server);
    expect_part(&lines[0], "/long.bin?left", 200);
    expect_part(&lines[1], "/long.bin?parts", 206);
    expect_part(&lines[2], "/long.bin?stalled", 200);
    assert_eq!(lines[3]["body_bytes"], whole.body.len());
}

/// There is a line, too, where the server's own end cuts it.
fn a_download_that_the_end_cuts(io: Io) {
    let tree = Tree::new();
    tree.write("long.bin", content(1, LONG));
    let flags = ["--access-log", "-", "--access-format", "json"];
    let timeout = ["--shutdown-timeout", "100ms"];
    let server = Server::serve(io, &tree.root(), &[&flags[..], &timeout].concat());
    let _client = begin(&server, "/long.bin", &[]);
    let lines = objects(server);
    assert_eq!(lines.len(), 1);
    expect_part(&lines[0], "/long.bin", 200);
}

/// And where there is no waiting for that end either.
fn a_download_that_a_second_signal_cuts(io: Io) {
    let tree = Tree::new();
    tree.write("long.bin", content(1, LONG));
    let mut server = serve_json(io, &tree);
    let mut idle = server.connect();
    assert_eq!(idle.get("/hello.txt").body, HELLO);
    let _clients = ["/long.bin?one", "/long.bin?two"].map(|target| begin(&server, target, &[]));
    server.signal(Signal::TERM);
    // The first one was understood.
    idle.expect_end();
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(1));
    let output = server.all_output();
    let lines = output.lines().filter(|line| line.starts_with('{'));
    let mut lines: Vec<_> = lines.map(object).collect();
    lines.sort_by_key(|line| line["target"].to_string());
    assert_eq!(lines.len(), 3, "{output}");
    expect_part(&lines[1], "/long.bin?one", 200);
    expect_part(&lines[2], "/long.bin?two", 200);
}

/// By their client, and by the server: each is waited for with half a body.
fn requests_that_are_cut_before_their_answer(io: Io) {
    let tree = Tree::new();
    let flags = ["--access-log", "-", "--access-format", "json"];
    let timeout = ["--shutdown-timeout", "100ms"];
    let server = Server::serve(io, &tree.root(), &[&flags[..], &timeout].concat());
    let ask = |target: &str| {
        let mut client = server.connect();
        let mut bytes = request("POST", target, &["Content-Length: 10"]);
        bytes.push_str("half");
        client.send(bytes);
        client
    };
    drop(ask("/left"));
    eventually("it is logged", || {
        server.output().contains("/left").then_some(())
    });
    let _client = ask("/kept");
    let lines = objects(server);
    let shown = |line: &Value| json!([line["target"], line["status"], line["body_bytes"]]);
    let shown: Vec<_> = lines.iter().map(shown).collect();
    assert_eq!(json!(shown), json!([["/left", 499, 0], ["/kept", 444, 0]]));
}

fn standard_output_is_the_logs_alone(io: Io) {
    let tree = Tree::new();
    let server = Server::serve(io, &tree.root(), &["--access-log", "-"]);
    server.expect_alive("/hello.txt", HELLO);
    let ended = server.stop();
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("\"GET /hello.txt HTTP/1.1\" 200"));
    assert!(ended.stderr.starts_with("serving "), "{}", ended.stderr);
    // Without a log there, standard output has what a person reads.
    let ended = Server::serve(io, &tree.root(), &[]).stop();
    assert!(ended.stdout.starts_with("serving "), "{}", ended.stdout);
    assert!(!ended.stderr.contains("serving "), "{}", ended.stderr);
}

/// With `--log-format json` no line is anything else, from the first to the last.
fn events_as_json(io: Io) {
    let tree = Tree::empty();
    tree.write("hello.txt", HELLO);
    let flags = ["--log-format", "json", "--access-log", "-"];
    let flags = [&flags[..], &["--access-format", "json"]].concat();
    let server = Server::serve(io, &tree.root(), &flags);
    let address = server.address();
    server.expect_alive("/hello.txt", HELLO);
    let ended = server.stop();
    let read = |text: &str| -> Vec<Value> {
        let read = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        text.lines().map(read).collect()
    };
    assert_eq!(read(&ended.stdout).len(), 1);
    let events = read(&ended.stderr);
    assert_eq!(events[0]["url"], format!("http://{address}/"));
    assert_eq!(events[0]["level"], "INFO");
    let is_note = |event: &&Value| event["message"].as_str().unwrap().contains("no index.html");
    assert_eq!(events.iter().filter(is_note).count(), 1, "{events:?}");
    assert_eq!(events.last().unwrap()["message"], "ended");
}
