//! By whose fault a connection ends, and what is counted of it.

use crate::machine::Machine;
use crate::site::{BODY_BYTES, HEAD_BYTES, Site, TARGET_BYTES};
use ringway_runtime::{SimOptions, SocketOptions, TcpStream};
use ringway_server::stats::Counter::{self, *};
use std::time::Duration;

/// What is counted when a client sends `input` and waits for the end, apart from bytes.
#[track_caller]
fn check(input: impl Into<Vec<u8>>, expect: &[Counter]) {
    let site = Site::new();
    let config = site.config("", "");
    let mut machine = Machine::new((0, SimOptions::calm()), (&config, 1), [(256, 4096); 2]);
    let (address, input) = (machine.address, input.into());
    let shown = String::from_utf8_lossy(&input[..input.len().min(200)]).into_owned();
    drop(machine.clients[0].spawn(async move {
        let mut stream = TcpStream::connect(address, &SocketOptions::default())
            .await
            .unwrap();
        stream.send(input).await.unwrap();
        while let Ok(Some(_)) = stream.receive().await {}
    }));
    machine.run(Duration::from_secs(600), || false);
    let counts = machine.counts().into_iter();
    let counts: Vec<_> = counts
        .filter(|(counter, _)| *counter != BodyBytes)
        .collect();
    let mut expect: Vec<_> = expect
        .iter()
        .chain(&[Accepted])
        .map(|counter| (*counter, 1))
        .collect();
    expect.sort_by_key(|(counter, _)| *counter as usize);
    assert_eq!(counts, expect, "{shown:?}");
    machine.expect_rest();
}

fn post(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

#[test]
fn a_client_that_is_done() {
    check(
        post("Connection: close\r\n"),
        &[Requests, Answers2xx, ClosedOrderly],
    );
    check(
        "DELETE / HTTP/1.0\r\n\r\n",
        &[Requests, Answers4xx, ClosedOrderly],
    );
}

#[test]
fn what_is_no_request() {
    for input in [
        "GET / HTTP/1.1\r\n\r\n",
        "\x16\x03\x01",
        "GET / HTTP/1.1\nHost: a\n\n",
    ] {
        check(input, &[Malformed, Answers4xx, ClosedClient]);
    }
    check(
        "GET / HTTP/2.0\r\n\r\n",
        &[Malformed, Answers5xx, ClosedClient],
    );
}

#[test]
fn a_body_that_is_none() {
    let chunked = post("Transfer-Encoding: chunked\r\n") + "3\r\nabc\r\nzz\r\n";
    check(chunked, &[Requests, Malformed, Answers4xx, ClosedClient]);
}

#[test]
fn beyond_a_limit() {
    let target = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(TARGET_BYTES));
    check(target, &[Answers4xx, ClosedLimit]);
    let head = post(&format!("A: {}\r\n", "a".repeat(HEAD_BYTES)));
    check(head, &[Answers4xx, ClosedLimit]);
    let length = post(&format!("Content-Length: {}\r\n", BODY_BYTES + 1));
    check(length, &[Requests, Answers4xx, ClosedLimit]);
    let chunk = format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", BODY_BYTES + 1);
    check(post(&chunk), &[Requests, Answers4xx, ClosedLimit]);
}

#[test]
fn beyond_a_deadline() {
    let head = "GET / HTTP/1.1\r\nHost: a\r\n";
    check(head, &[Answers4xx, ClosedDeadline, TimeoutHead]);
    let body = post("Content-Length: 2\r\n") + "1";
    check(
        body,
        &[Requests, Answers4xx, ClosedDeadline, TimeoutBodyStall],
    );
}
