//! `ringway bench load` from outside: what it says of peers that are there, aren't, break off or answer
//! garbage, and of flags that make no sense. What it counts is tested where it is counted.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::thread;

use serde_json::Value;

use crate::peers::{find, skip};

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
    command.args(["bench", "load"]).args(arguments);
    command.stdin(Stdio::null());
    command
}

fn load(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// As JSON, of a run that went as it should.
fn report(arguments: &[&str]) -> Value {
    let output = load(&[arguments, &["--json", "--warm-up", "0s"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", error(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Fails with this code and nothing but this line.
fn check_error(arguments: &[&str], code: i32, expect: &str) {
    let output = load(arguments);
    assert_eq!(error(&output), format!("ringway: {expect}\n"));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert_eq!(output.status.code(), Some(code), "{arguments:?}");
}

/// A peer with a thread for each connection.
fn peer(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let serve = serve.clone();
            thread::spawn(move || serve(stream.unwrap()));
        }
    });
    address
}

fn echo(mut stream: TcpStream) {
    let mut piece = [0; 4096];
    while let Ok(count) = stream.read(&mut piece)
        && count > 0
    {
        if stream.write_all(&piece[..count]).is_err() {
            return;
        }
    }
}

/// An address that nobody listens on.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

#[test]
fn bytes_go_back_and_forth_without_http() {
    for io in ["uring", "epoll"] {
        let url = format!("tcp://{}", peer(echo));
        let report = report(&[
            &url,
            "--ping-pong",
            "1KiB",
            "-n",
            "100",
            "-c",
            "4",
            "--io",
            io,
        ]);
        assert_eq!(
            (&report["answers"], &report["talk_bytes"]),
            (&100.into(), &1024.into())
        );
        assert_eq!(
            (&report["driver"], &report["talk"]),
            (&io.into(), &"ping_pong".into())
        );
        assert_eq!(report["failures"], Value::Array(vec![]));
    }
}

#[test]
fn bytes_are_poured_into_a_peer_without_http() {
    for io in ["uring", "epoll"] {
        let url = format!(
            "tcp://{}",
            peer(|mut stream| _ = stream.read_to_end(&mut Vec::new()))
        );
        let report = report(&[&url, "--bulk", "64KiB", "-n", "100", "-c", "4", "--io", io]);
        let sent = report["sent_bytes_per_second"].as_f64().unwrap();
        let sent = sent * report["seconds"].as_f64().unwrap();
        assert_eq!(sent.round(), 100.0 * 65536.0);
        assert_eq!(
            (&report["driver"], &report["talk"]),
            (&io.into(), &"bulk".into())
        );
    }
}

#[test]
fn a_target_that_nobody_listens_on_is_one_line_at_once() {
    let address = nobody();
    let refused = format!("{address}: connection refused");
    // Far longer than any patience: it ends because nobody is there.
    let long = ["--duration", "1h", "--warm-up", "1h"];
    for (url, talk) in [
        (format!("http://{address}/"), &[][..]),
        (format!("tcp://{address}"), &["--ping-pong", "8"]),
        (format!("tcp://{address}"), &["--bulk", "8"]),
    ] {
        check_error(&[&[url.as_str()], talk, &long].concat(), 1, &refused);
    }
}

#[test]
fn a_peer_that_goes_away_is_told_apart_from_what_it_answered() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let answering = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        drop(listener);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
    });
    let report = report(&[&url, "-c", "1", "-n", "3"]);
    answering.join().unwrap();
    assert_eq!(
        (&report["answers"], &report["statuses"][1]),
        (&1.into(), &1.into())
    );
    let failures = serde_json::json!([["connection refused", 2]]);
    assert_eq!(report["failures"], failures);
}

#[test]
fn a_peer_that_answers_garbage_is_an_error_with_the_reason() {
    let url = format!("http://{}/", peer(echo));
    let output = load(&[&url, "-n", "4", "-c", "1", "--warm-up", "0s"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        error(&output),
        "ringway: no request was answered: malformed answer\n"
    );
    // What was counted all the same.
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("4  malformed answer"), "{told}");

    let url = format!("tcp://{}", peer(drop));
    let output = load(&[
        &url,
        "--ping-pong",
        "8",
        "-n",
        "1",
        "-c",
        "1",
        "--warm-up",
        "0s",
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        error(&output).starts_with("ringway: no request was answered: "),
        "{}",
        error(&output)
    );
}

/// Bytes had been handed to the kernel all the same.
#[test]
fn a_peer_that_breaks_every_connection_off_is_an_error_with_the_reason() {
    let breaking = peer(|mut stream| {
        // Closed with most of it unread, which is a reset.
        _ = stream.read_exact(&mut [0; 1000]);
    });
    let url = format!("tcp://{breaking}");
    let output = load(&[
        &url,
        "--bulk",
        "64KiB",
        "-c",
        "1",
        "-d",
        "300ms",
        "--warm-up",
        "0s",
    ]);
    let told = error(&output);
    let is_told = told.starts_with("ringway: every connection was broken off: ");
    assert!(is_told, "{told}");
    assert_eq!(output.status.code(), Some(1));
    let counted = String::from_utf8(output.stdout).unwrap();
    let first = "1 connection on 1 thread (";
    assert!(counted.starts_with(first), "{counted}");
}

#[test]
fn what_is_to_be_said_has_to_suit_the_target() {
    let what = "tcp://127.0.0.1:1: what is to be said there? --ping-pong SIZE or --bulk SIZE";
    check_error(&["tcp://127.0.0.1:1"], 1, what);
    let other = "http://127.0.0.1:1/: --ping-pong and --bulk are for tcp://127.0.0.1:1";
    check_error(&["http://127.0.0.1:1/", "--bulk", "8"], 1, other);
    let port = "tcp://127.0.0.1: not a port such as tcp://127.0.0.1:7000";
    check_error(&["tcp://127.0.0.1", "--bulk", "8"], 1, port);
    let scheme = "https://127.0.0.1/: https:// isn't spoken here yet, only http:// and tcp://";
    check_error(&["https://127.0.0.1/"], 1, scheme);
}

#[test]
fn flags_that_exclude_each_other_or_are_out_of_range_are_wrong_usage() {
    let check = |arguments: &[&str], expect: &str| {
        let output = load(&[&["tcp://127.0.0.1:1"], arguments].concat());
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert!(error(&output).contains(expect), "{}", error(&output));
    };
    check(&["--bulk", "8", "--ping-pong", "8"], "cannot be used with");
    check(&["--bulk", "8", "--rate", "9"], "cannot be used with");
    check(&["--bulk", "8", "--no-keep-alive"], "cannot be used with");
    check(&["--ping-pong", "8", "--body", "x"], "cannot be used with");
    check(
        &["--ping-pong", "8", "--pipeline", "2"],
        "cannot be used with",
    );
    check(&["--ping-pong", "0"], "out of range: from 1B to 16MiB");
    check(&["--bulk", "17MiB"], "out of range: from 1B to 16MiB");
    check(&["--bulk", "much"], "isn't a size");
    check(&["--bulk", "8k"], "8KiB");
    for rate in ["0", "1e-300", "inf", "NaN", "-1"] {
        check(
            &[&format!("--rate={rate}")],
            "out of range: from 0.001 to 1000000000",
        );
    }
    check(&["--rate", "fast"], "isn't a number, such as");
    for flag in ["--connections", "--threads", "--pipeline"] {
        check(&[flag, "0"], "\"0\" is out of range: from 1");
        check(&[flag, "many"], "\"many\" isn't a count, such as 64");
        check(&[&format!("{flag}=-1")], "\"-1\" isn't a count");
    }
    check(&["-c", "0"], "\"0\" is out of range: from 1");
    check(&["-t", "0"], "\"0\" is out of range: from 1");
    check(&["--pipeline", "1025"], "out of range: from 1 to 1024");
    check(&["--requests", "0"], "0 is not in 1..");
    check(&["--duration", "0s"], "\"0s\" is out of range: from 1ms");
    check(&["--timeout", "0ms"], "\"0ms\" is out of range: from 1ms");
}

#[test]
fn more_connections_than_descriptors_are_refused_before_the_run() {
    let Some(prlimit) = find("prlimit") else {
        return skip("prlimit isn't installed");
    };
    let run = command(&["http://127.0.0.1:1/", "-c", "300"]);
    let mut limited = Command::new(prlimit);
    limited
        .args(["--nofile=200:200", "--"])
        .arg(run.get_program());
    let output = limited.args(run.get_args()).output().unwrap();
    let expect = "ringway: 300 connections need as many descriptors, and this process may have 200: `ulimit -n` \
                  or systemd's LimitNOFILE\n";
    if error(&output).ends_with("connection refused\n") {
        return skip("this user may raise the limit of descriptors again");
    }
    assert_eq!(error(&output), expect);
    assert_eq!(output.status.code(), Some(1));
}
