//! What the access log says of requests that were passed on.

use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use serde_json::{Value, json};

use crate::backend::{Backend, proxy, run};
use crate::client::request;
use crate::log_formats::{lines, objects};
use crate::server::{Io, Server, eventually, on_both_drivers};
use crate::slowness::thin_client;
use crate::upstream::Upstream;

on_both_drivers!(
    json_lines,
    a_format_of_ones_own,
    failures,
    cuts,
    clients_that_leave,
    clients_that_leave_before_it,
    second_attempts
);

/// A proxy with one worker and an upstream of these lines, which logs in this format.
fn start(io: Io, upstream: &str, format: &str) -> Server {
    let directory = tempfile::tempdir().unwrap();
    let toml = proxy(upstream).replace("workers = 2", "workers = 1");
    let log = format!("[log]\naccess = \"-\"\naccess_format = '{format}'\n");
    let more = "[[route]]\npath = \"/own\"\nstatus = 200\n";
    run(io, directory.path(), &format!("{toml}{log}{more}"))
}

fn json_lines(io: Io) {
    let backend = Backend::start();
    let server = start(io, &format!("servers = \"{}\"", backend.address), "json");
    let mut client = server.connect();
    assert_eq!(client.get("/").status, 200);
    backend.answer(404);
    assert_eq!(client.get("/").status, 404);
    assert_eq!(client.get("/own").status, 200);
    drop(client);
    let lines = objects(server);
    let [first, second, own] = &lines[..] else {
        panic!("three lines: {lines:?}")
    };
    for (line, status) in [(first, 200), (second, 404)] {
        assert_eq!(line["upstream"], backend.address.to_string());
        assert_eq!(line["upstream_status"], status);
        assert_eq!(line["upstream_attempts"], 1);
        assert_eq!(line["upstream_fault"], Value::Null);
        let whole = line["duration_seconds"].as_f64().unwrap();
        let first_byte = line["upstream_first_byte_seconds"].as_f64().unwrap();
        assert!((0.0..=whole).contains(&first_byte), "{line}");
    }
    assert!(first["upstream_connect_seconds"].as_f64().unwrap() >= 0.0);
    assert_eq!(
        second["upstream_connect_seconds"],
        Value::Null,
        "it was there"
    );
    let fields = own.as_object().unwrap();
    assert!(
        fields.keys().all(|name| !name.starts_with("upstream")),
        "{own}"
    );
}

fn a_format_of_ones_own(io: Io) {
    let backend = Backend::start();
    let format = "> $status $upstream $upstream_status $upstream_fault $upstream_attempts";
    let server = start(io, &format!("servers = \"{}\"", backend.address), format);
    backend.answer(503);
    assert_eq!(server.get("/").status, 503);
    assert_eq!(server.get("/own").status, 200);
    let expect = [
        format!("> 503 {} 503 - 1", backend.address),
        "> 200 - - - -".to_owned(),
    ];
    assert_eq!(lines(server, "> "), expect);
}

fn nobodys_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

fn failures(io: Io) {
    let (address, retries) = (nobodys_address(), "retries = 0");
    let server = start(io, &format!("servers = \"{address}\"\n{retries}"), "json");
    assert_eq!(server.get("/").status, 502);
    let line = objects(server).swap_remove(0);
    let passed = |name: &str| line[format!("upstream{name}")].clone();
    let shown = ["", "_status", "_first_byte_seconds", "_fault", "_attempts"].map(passed);
    assert_eq!(json!(shown), json!([address, null, null, "connect", 1]));
}

/// Of an answer that is broken off, the line says the status and the bytes that the client got, and
/// why it isn't more.
fn cuts(io: Io) {
    let upstream = Upstream::start(|mut peer| {
        let Some(request) = peer.request() else {
            return;
        };
        let is = |path: &str| request.head.starts_with(&format!("GET {path} "));
        if is("/closed") {
            peer.send("HTTP/1.1 206 Partial Content\r\nContent-Length: 10\r\n\r\n0123");
        } else if is("/slow") {
            peer.send("HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
            peer.wait_for_end();
        } else if is("/malformed") {
            // Nothing of the answer has left then, so it can be another one.
            peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\nno size");
            peer.wait_for_end();
        } else {
            peer.send("HTTP/1.1 203 Other\r\nTransfer-Encoding: chunked\r\n\r\n");
            while peer.try_send("1\r\na\r\n").is_ok() {}
        }
    });
    let timeouts = "between_bytes_timeout = \"500ms\"\ntotal_timeout = \"2s\"";
    let upstream = format!("servers = \"{}\"\n{timeouts}", upstream.address());
    let server = start(io, &upstream, "json");
    let mut client = server.connect();
    assert_eq!(client.get("/malformed").status, 502);
    for (path, status) in [("/closed", 206), ("/slow", 201), ("/endless", 203)] {
        client = server.connect();
        client.send(request("GET", path, &[]));
        assert_eq!(client.head().status, status);
        client.expect_cut();
    }
    client = server.connect();
    client.send(request("GET", "/left", &[]));
    assert_eq!(client.head().status, 203);
    drop(client);
    let lines = objects(server);
    let shown: Vec<Value> = lines
        .iter()
        .map(|line| {
            let of = ["target", "status", "upstream_status", "upstream_fault"];
            json!(of.map(|name| line[name].clone()))
        })
        .collect();
    let expect = json!([
        ["/malformed", 502, 200, "malformed"],
        ["/closed", 206, 206, "closed_within"],
        ["/slow", 201, 201, "stalled"],
        ["/endless", 203, 203, "total_timeout"],
        ["/left", 203, 203, null],
    ]);
    assert_eq!(json!(shown), expect);
    let bytes: Vec<u64> = lines
        .iter()
        .map(|line| line["body_bytes"].as_u64().unwrap())
        .collect();
    assert_eq!(bytes[1..3], [4, 3]);
    assert!(bytes[3] > 0 && bytes[4] > 0, "{bytes:?}");
    assert!(lines.iter().all(|line| line["upstream_attempts"] == 1));
}

/// However a client leaves within an answer, the line says what of it went out.
fn clients_that_leave(io: Io) {
    let upstream = Upstream::start(|mut peer| {
        if peer.request().is_some() {
            peer.send("HTTP/1.1 203 Other\r\nTransfer-Encoding: chunked\r\n\r\n");
            let chunk = format!("4000\r\n{}\r\n", "a".repeat(0x4000));
            while peer.try_send(&chunk).is_ok() {}
        }
    });
    let servers = format!("servers = \"{}\"", upstream.address());
    let limits = "[limits]\nwrite_stall_timeout = \"500ms\"";
    let server = start(io, &format!("{servers}\n{limits}"), "json");
    let begin = |target: &str| {
        let mut client = thin_client(&server);
        client.send(request("GET", target, &[]));
        assert_eq!(client.head().status, 203);
        client
    };
    // It reads slowly, and closes with something unread.
    let mut slow = begin("/slow");
    for _ in 0..10 {
        slow.sip(1 << 10).unwrap();
    }
    drop(slow);
    // It resets whether there is or not.
    let reset = begin("/reset");
    set_socket_linger(reset.stream(), Some(Duration::ZERO)).unwrap();
    drop(reset);
    // It reads no further, until the server has enough of that.
    let _stalled = begin("/stalled");
    eventually("all are logged", || {
        let output = server.output();
        (output.matches("\"target\"").count() == 3).then_some(())
    });
    let mut lines = objects(server);
    lines.sort_by_key(|line| line["target"].to_string());
    for (line, target) in std::iter::zip(&lines, ["/reset", "/slow", "/stalled"]) {
        let of = ["target", "status", "upstream_status", "upstream_fault"];
        let shown = of.map(|name| line[name].clone());
        assert_eq!(json!(shown), json!([target, 203, 203, null]));
        assert!(line["body_bytes"].as_u64().unwrap() > 0, "{line}");
    }
}

/// The server is asked, and nothing has come of its answer.
fn clients_that_leave_before_it(io: Io) {
    let (asked, is_asked) = mpsc::channel();
    let upstream = Upstream::start(move |mut peer| {
        if peer.request().is_some() {
            asked.send(()).unwrap();
            peer.wait_for_end();
        }
    });
    let server = start(io, &format!("servers = \"{}\"", upstream.address()), "json");
    let mut client = server.connect();
    client.send(request("GET", "/asked", &[]));
    is_asked.recv().unwrap();
    set_socket_linger(client.stream(), Some(Duration::ZERO)).unwrap();
    drop(client);
    eventually("it is logged", || {
        server.output().contains("\"target\"").then_some(())
    });
    let lines = objects(server);
    let of = [
        "target",
        "status",
        "upstream_status",
        "upstream_fault",
        "body_bytes",
    ];
    let shown = of.map(|name| lines[0][name].clone());
    assert_eq!(json!(shown), json!(["/asked", 499, null, null, 0]));
}

fn second_attempts(io: Io) {
    let (backend, dead) = (Backend::start(), nobodys_address());
    let servers = format!(
        "servers = [\"{dead}\", \"{}\"]\nbalance = \"round_robin\"",
        backend.address
    );
    let server = start(io, &servers, "json");
    for _ in 0..2 {
        assert_eq!(server.get("/").status, 200);
    }
    let mut attempts = Vec::new();
    for line in objects(server) {
        assert_eq!(line["upstream"], backend.address.to_string());
        assert_eq!(line["upstream_fault"], Value::Null, "it was answered");
        attempts.push(line["upstream_attempts"].as_u64().unwrap());
    }
    attempts.sort_unstable();
    assert_eq!(
        attempts,
        [1, 2],
        "one of the two came to the dead one first"
    );
}
