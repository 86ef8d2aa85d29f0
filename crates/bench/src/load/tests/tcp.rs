//! The load generator over plain TCP, against peers that send back, take, or do neither.

use super::super::*;
use super::{plan, run_plan, server};
use ringway_runtime::Io;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::channel;

fn tcp_plan(address: SocketAddr, talk: Talk) -> Plan {
    Plan {
        talk,
        requests: talk.requests(),
        target: Target::parse(&format!("tcp://{address}")).unwrap(),
        ..plan(address)
    }
}

/// Sends back what it gets, as `change` makes it.
fn echo(change: impl Fn(&mut Vec<u8>) + Send + Sync + 'static) -> SocketAddr {
    server(move |_, mut stream| {
        let mut piece = [0; 5000];
        while let Ok(count) = stream.read(&mut piece)
            && count > 0
        {
            let mut bytes = piece[..count].to_vec();
            change(&mut bytes);
            if stream.write_all(&bytes).is_err() {
                return;
            }
        }
    })
}

/// Where nobody listens, nor can for as long as the connection lives whose own address it is.
fn unreachable() -> (TcpStream, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let address = taken.local_addr().unwrap();
    (taken, address)
}

#[test]
fn every_ping_has_its_pong() {
    for io in [Io::Auto, Io::Epoll] {
        for count in [1, 64, 100_000] {
            let report = run_plan(Plan {
                io,
                ..tcp_plan(echo(|_| ()), Talk::PingPong(count))
            });
            assert_eq!((report.answers, report.failure_count()), (100, 0));
            assert_eq!((report.statuses, report.connects), ([0; 5], 4));
            let received = report.bytes_per_second * report.seconds;
            assert!((received - 100.0 * count as f64).abs() < 1.0, "{report}");
            assert_eq!(report.latency.percentiles[0].0, 50.0);
        }
    }
}

#[test]
fn a_connection_for_each_ping() {
    let report = run_plan(Plan {
        keep_alive: false,
        ..tcp_plan(echo(|_| ()), Talk::PingPong(10))
    });
    assert_eq!((report.answers, report.connects), (100, 100));
}

#[test]
fn pings_by_the_clock_count_from_when_they_were_due() {
    let report = run_plan(Plan {
        pace: Pace::Open(1000.0),
        ..tcp_plan(echo(|_| ()), Talk::PingPong(10))
    });
    assert_eq!((report.answers, report.rate), (100, Some(1000.0)));
}

#[test]
fn failures_of_ping_pong_are_told_apart() {
    let changed = "other bytes came back than were sent";
    let check = |address: SocketAddr, kind: &str| {
        let report = run_plan(Plan {
            request_count: Some(4),
            connections: 1,
            threads: 1,
            timeout: Duration::from_millis(50),
            ..tcp_plan(address, Talk::PingPong(8))
        });
        let told: Vec<_> = report.failures.iter().map(|(name, _)| *name).collect();
        assert!(told.contains(&kind), "{kind}: {report}");
    };
    let (_taken, address) = unreachable();
    check(address, "connection refused");
    check(echo(|bytes| bytes.reverse()), changed);
    check(echo(|bytes| bytes.push(0)), changed);
    // Twice the same, once the exchange is over.
    check(echo(|bytes| bytes.extend_from_within(..)), changed);
    check(echo(|bytes| bytes.truncate(7)), "not answered in time");
    check(echo(Vec::clear), "not answered in time");
    let closing = server(|_, mut stream| {
        // Ends in order, having read everything.
        stream.read_exact(&mut [0; 8]).unwrap();
    });
    check(closing, "closed before the answer was whole");
}

#[test]
fn bulk_arrives_to_the_last_byte() {
    for io in [Io::Auto, Io::Epoll] {
        for count in [1, 10_000, 1 << 20] {
            let (to_us, counts) = channel();
            let to_us = Mutex::new(to_us);
            let address = server(move |_, mut stream| {
                let mut bytes = Vec::new();
                stream.read_to_end(&mut bytes).unwrap();
                let expect = Talk::Bulk(count).requests().remove(0).bytes;
                assert!(bytes.chunks(count).all(|part| part == expect));
                to_us.lock().unwrap().send(bytes.len()).unwrap();
            });
            let report = run_plan(Plan {
                io,
                request_count: Some(20),
                ..tcp_plan(address, Talk::Bulk(count))
            });
            let arrived: usize = counts.iter().take(4).sum();
            assert_eq!((arrived, report.failure_count()), (20 * count, 0));
            let sent = report.sent_bytes_per_second.unwrap() * report.seconds;
            assert!((sent - 20.0 * count as f64).abs() < 1.0, "{report}");
            assert!(report.has_anything() && report.answers == 0);
            assert_eq!(report.holding, Some(4));
        }
    }
}

#[test]
fn what_comes_back_from_bulk_is_read_over() {
    let report = run_plan(Plan {
        request_count: Some(200),
        ..tcp_plan(echo(|_| ()), Talk::Bulk(100_000))
    });
    assert_eq!(report.failure_count(), 0);
    let received = report.bytes_per_second * report.seconds;
    assert!((received - 200.0 * 100_000.0).abs() < 1.0, "{report}");
}

#[test]
fn failures_of_bulk_are_told_apart() {
    let check = |address: SocketAddr, kinds: &[&str]| {
        let report = run_plan(Plan {
            request_count: Some(1000),
            duration: Duration::from_millis(300),
            connections: 1,
            threads: 1,
            timeout: Duration::from_millis(50),
            ..tcp_plan(address, Talk::Bulk(1 << 20))
        });
        let told: Vec<_> = report.failures.iter().map(|(name, _)| *name).collect();
        assert!(
            kinds.iter().any(|kind| told.contains(kind)),
            "{kinds:?}: {report}"
        );
        report
    };
    let (_taken, address) = unreachable();
    let report = check(address, &["connection refused"]);
    assert!(!report.has_anything());
    // It takes nothing, and what the buffers hold isn't all of it.
    let silent = server(|_, stream| {
        std::thread::park();
        drop(stream);
    });
    let report = check(silent, &["not answered in time"]);
    assert!(!report.has_anything(), "{report}");
    let breaking = server(|_, mut stream: TcpStream| {
        stream.read_exact(&mut [0; 1000]).unwrap();
    });
    let kinds = ["reset by the server", "closed before the answer was whole"];
    let report = check(breaking, &kinds);
    assert!(
        report.holding == Some(0) && !report.has_anything(),
        "{report}"
    );
}

#[test]
fn bulk_ends_when_its_time_is_over() {
    let address = server(|_, mut stream| {
        _ = io::copy(&mut stream, &mut io::sink());
    });
    let report = run_plan(Plan {
        request_count: None,
        duration: Duration::from_millis(100),
        ..tcp_plan(address, Talk::Bulk(1 << 16))
    });
    assert!(
        report.has_anything() && report.failure_count() == 0,
        "{report}"
    );
    let text = report.to_string();
    for part in ["bulk, 65536 bytes at a time", "sent  ", "received  "] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(
        (&json["talk"], &json["talk_bytes"]),
        (&"bulk".into(), &65536.into())
    );
}
