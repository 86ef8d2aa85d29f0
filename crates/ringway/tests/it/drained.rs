//! Requests that servers have when the proxy is told to end: whoever is answered learns that it is the
//! last answer, and whoever isn't has a line in the access log.

use std::sync::mpsc;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::backend::{proxy, run};
use crate::client::{Client, request};
use crate::log_formats::objects;
use crate::server::{Io, Server, on_both_drivers};
use crate::upstream::Upstream;

on_both_drivers!(
    answers_that_come_meanwhile_are_the_last,
    what_takes_too_long_is_logged,
);

/// A proxy with one worker before this upstream, which ends after `patience` at the latest.
fn start(io: Io, upstream: &Upstream, patience: Duration) -> Server {
    let directory = tempfile::tempdir().unwrap();
    let servers = format!("servers = \"{}\"", upstream.address());
    let toml = proxy(&servers).replace("workers = 2", "workers = 1");
    let patience = format!("shutdown_timeout = \"{}ms\"\n", patience.as_millis());
    let log = "[log]\naccess = \"-\"\naccess_format = \"json\"\n";
    run(io, directory.path(), &format!("{patience}{toml}{log}"))
}

fn ask(server: &Server, target: &str) -> Client {
    let mut client = server.connect();
    client.send(request("GET", target, &[]));
    client
}

/// Who isn't told sends the next request into a connection that is being closed.
fn answers_that_come_meanwhile_are_the_last(io: Io) {
    let (asked, is_asked) = mpsc::channel();
    let (answer, may_answer) = mpsc::channel::<()>();
    let may_answer = std::sync::Mutex::new(may_answer);
    let upstream = Upstream::start(move |mut peer| {
        while let Some(request) = peer.request() {
            if request.head.starts_with("GET /held ") {
                asked.send(()).unwrap();
                may_answer.lock().unwrap().recv().unwrap();
            }
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc");
        }
    });
    let mut server = start(io, &upstream, Duration::from_secs(60));
    let mut idle = server.connect();
    assert!(!idle.get("/").closes());
    let mut held = ask(&server, "/held");
    is_asked.recv().unwrap();
    server.signal(Signal::TERM);
    // The drain has begun.
    idle.expect_end();
    answer.send(()).unwrap();
    let last = held.response();
    assert_eq!((last.status, &last.body[..]), (200, &b"abc"[..]));
    assert!(last.closes(), "{last:?}");
    held.expect_end();
    assert_eq!(server.wait().code(), Some(0));
}

fn what_takes_too_long_is_logged(io: Io) {
    let (asked, is_asked) = mpsc::channel();
    let upstream = Upstream::start(move |mut peer| {
        let request = peer.request().expect("a request");
        if request.head.starts_with("GET /begun ") {
            peer.send("HTTP/1.1 203 Other\r\nContent-Length: 10\r\n\r\nabc");
        }
        asked.send(()).unwrap();
        peer.wait_for_end();
    });
    let server = start(io, &upstream, Duration::from_millis(500));
    let mut begun = ask(&server, "/begun");
    assert_eq!(begun.head().status, 203);
    assert_eq!(begun.take(3), b"abc");
    let mut unanswered = ask(&server, "/unanswered");
    (0..2).for_each(|_| is_asked.recv().unwrap());
    let mut lines = objects(server);
    begun.expect_cut();
    unanswered.expect_cut();
    lines.sort_by_key(|line| line["target"].to_string());
    let of = ["target", "status", "upstream_status", "body_bytes"];
    let shown: Vec<Value> = lines
        .iter()
        .map(|line| json!(of.map(|name| line[name].clone())))
        .collect();
    let expect = json!([["/begun", 203, 203, 3], ["/unanswered", 444, null, 0]]);
    assert_eq!(json!(shown), expect);
}
