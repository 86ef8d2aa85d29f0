//! Every place to cut the input: requests sent whole, in two parts cut everywhere, and byte by
//! byte get the same answers.

use crate::machine::Machine;
use crate::site::{BODY_BYTES, HEAD_BYTES, Site, TARGET_BYTES};
use ringway_runtime::{SimOptions, SocketOptions, TcpStream, sleep};
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// Long enough for a part to be received and dealt with before the next, in a calm world.
const BETWEEN: Duration = Duration::from_millis(1);

/// Sends `parts` one after the other and says that nothing more comes; all that is received.
async fn exchange(address: SocketAddr, parts: &[&[u8]]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address, &SocketOptions::default())
        .await
        .unwrap();
    for part in parts {
        stream.send(part.to_vec()).await.unwrap();
        sleep(BETWEEN).await;
    }
    stream.shutdown_write().unwrap();
    let mut received = Vec::new();
    while let Some(buffer) = stream.receive().await.unwrap() {
        received.extend_from_slice(&buffer);
    }
    without_chance(received)
}

/// Without dates, and without `100 Continue`, which depends on whether the body is there already
/// (RFC 9110 §10.1.1).
fn without_chance(mut answers: Vec<u8>) -> Vec<u8> {
    let mut at = 0;
    while let Some(found) = find(&answers[at..], b"\r\nDate: ") {
        at += found + b"\r\nDate: ".len();
        answers[at..at + 29].fill(b'-');
    }
    let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
    while let Some(found) = find(&answers, interim) {
        answers.drain(found..found + interim.len());
    }
    answers
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn statuses(answers: &[u8]) -> Vec<u16> {
    let mut found = Vec::new();
    let mut rest = answers;
    while let Some(at) = find(rest, b"HTTP/1.1 ") {
        rest = &rest[at + 9..];
        found.push(String::from_utf8_lossy(&rest[..3]).parse().unwrap());
    }
    found
}

/// Checks that `input` gets answers with these statuses, wherever it is cut.
fn check(input: &[u8], expected: &[u16]) {
    let site = Site::new();
    let config = site.config("", "");
    let sizes = [(256, 4096); 2];
    let mut machine = Machine::new((0, SimOptions::calm()), (&config, 1), sizes);
    let is_done = Rc::new(Cell::new(false));
    let (input, expected) = (input.to_vec(), expected.to_vec());
    let (address, done) = (machine.address, Rc::clone(&is_done));
    drop(machine.clients[0].spawn(async move {
        let whole = exchange(address, &[&input]).await;
        assert_eq!(
            statuses(&whole),
            expected,
            "{}",
            String::from_utf8_lossy(&whole)
        );
        for cut in 1..input.len() {
            let (one, other) = input.split_at(cut);
            let answers = exchange(address, &[one, other]).await;
            assert!(
                answers == whole,
                "cut at {cut}: {}",
                String::from_utf8_lossy(&answers)
            );
        }
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        let answers = exchange(address, &bytes).await;
        assert!(
            answers == whole,
            "byte by byte: {}",
            String::from_utf8_lossy(&answers)
        );
        done.set(true);
    }));
    // A panic ends the task only.
    let ended = Rc::clone(&is_done);
    machine.run(Duration::from_secs(3_600), move || ended.get());
    assert!(is_done.get(), "see above");
    machine.expect_rest();
}

#[test]
fn a_cached_file() {
    check(
        b"GET /small-3.txt HTTP/1.1\r\nHost: a\r\nUser-Agent: test\r\n\r\n",
        &[200],
    );
}

#[test]
fn a_large_file() {
    check(b"GET /large-0.bin HTTP/1.1\r\nHost: a\r\n\r\n", &[200]);
}

#[test]
fn a_pipelined_burst() {
    let input = b"GET /small-2.txt HTTP/1.1\r\nHost: a\r\n\r\n\
        HEAD /small-3.txt HTTP/1.1\r\nHost: a\r\n\r\n\
        GET /none HTTP/1.1\r\nHost: a\r\n\r\n\
        GET /large-0.bin HTTP/1.1\r\nHost: a\r\nRange: bytes=5-9\r\n\r\n\
        OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n\
        GET /folder HTTP/1.1\r\nHost: a\r\n\r\n";
    check(input, &[200, 200, 404, 206, 204, 301]);
}

#[test]
fn empty_lines_before_a_request() {
    check(
        b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n\r\nHEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
        &[200, 200],
    );
}

#[test]
fn sized_bodies() {
    let input = b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nGET / HTTP/\
        POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12345\
        GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n12345\
        GET /small-1.txt HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n\
        HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n1";
    check(input, &[200, 405, 200, 200, 200]);
}

/// Whether any of its body has come already makes no difference.
#[test]
fn a_body_that_is_refused_before_it_comes() {
    let input = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\
        POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n12345\
        GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    check(input, &[200, 405]);
    let input = b"GET /none HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\
        Expect: 100-continue\r\n\r\n5\r\n12345\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    check(input, &[404]);
}

#[test]
fn chunked_bodies() {
    let input = b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
        5\r\nhello\r\nA;name=\"value\"\r\n0\r\n\r\n45678\r\n000\r\nTrailer: value\r\n\r\n\
        GET /small-1.txt HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    check(input, &[200, 200]);
}

#[test]
fn a_bad_chunk() {
    let input = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\
        GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\naX\r\n0\r\n\r\n\
        GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    check(input, &[200, 400]);
}

#[test]
fn a_bad_head_behind_good_ones() {
    let input =
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nBad Name: b\r\n\r\n\
        GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    check(input, &[200, 400]);
}

#[test]
fn a_bare_line_feed() {
    check(
        b"GET / HTTP/1.1\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        &[400],
    );
}

#[test]
fn two_framings() {
    let input =
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n\
        0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    check(input, &[400]);
}

#[test]
fn the_last_request() {
    let input = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /small-1.txt HTTP/1.0\r\n\r\n\
        GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    check(input, &[200, 200]);
    let input = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n\
        GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    check(input, &[200]);
}

#[test]
fn part_of_a_request() {
    check(
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHo",
        &[200],
    );
    let input = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nHEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n12345678";
    check(input, &[200]);
}

#[test]
fn too_much() {
    let target = format!(
        "GET /{} HTTP/1.1\r\nHost: a\r\n\r\n",
        "a".repeat(TARGET_BYTES)
    );
    check(target.as_bytes(), &[414]);
    let name = "x".repeat(HEAD_BYTES / 4);
    let head = format!(
        "GET / HTTP/1.1\r\n{}\r\n\r\n",
        format!("{name}: 1\r\n").repeat(5)
    );
    check(head.as_bytes(), &[431]);
    let large = BODY_BYTES + 1;
    let body = format!("HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: {large}\r\n\r\nabc");
    check(body.as_bytes(), &[413]);
}
