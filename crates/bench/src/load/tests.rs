//! The load generator against servers whose behaviour is known.

mod tcp;

use super::*;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::Ordering;

/// A server on a thread of its own for each connection; `serve` gets the connection and its number.
fn server(serve: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || serve(number, stream.unwrap()));
        }
    });
    address
}

/// Reads one request's head; `None` at the end of the connection.
fn read_head(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

/// Answers each request with `answer`.
fn answers(answer: &'static str) -> SocketAddr {
    server(move |_, stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        while read_head(&mut reader).is_some() {
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    })
}

fn plan(address: SocketAddr) -> Plan {
    let target = Target::parse(&format!("http://{address}/")).unwrap();
    Plan {
        talk: Talk::Http,
        requests: vec![Request::new("GET", &target, "/", &[], b"", true).unwrap()],
        target,
        connections: 4,
        threads: 2,
        pace: Pace::Closed,
        pipeline: 1,
        keep_alive: true,
        duration: Duration::from_secs(60),
        request_count: Some(100),
        warm_up: Duration::ZERO,
        timeout: Duration::from_secs(30),
        io: ringway_runtime::Io::Auto,
    }
}

fn run_plan(plan: Plan) -> Report {
    run(&Arc::new(plan), &Arc::default()).unwrap()
}

const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

#[test]
fn every_request_is_answered_and_counted() {
    for io in [ringway_runtime::Io::Auto, ringway_runtime::Io::Epoll] {
        let report = run_plan(Plan {
            io,
            ..plan(answers(HELLO))
        });
        assert_eq!((report.answers, report.statuses), (100, [0, 100, 0, 0, 0]));
        assert_eq!(
            (report.connects, report.failure_count(), report.late),
            (4, 0, 0)
        );
        assert_eq!(
            report.bytes_per_second * report.seconds,
            100.0 * HELLO.len() as f64
        );
    }
}

/// However many were sent before.
#[test]
fn a_number_of_requests_is_without_those_of_the_warm_up() {
    for pace in [Pace::Closed, Pace::Open(2000.0)] {
        let report = run_plan(Plan {
            pace,
            warm_up: Duration::from_millis(100),
            ..plan(answers(HELLO))
        });
        assert_eq!(
            (report.answers, report.failure_count()),
            (100, 0),
            "{pace:?}"
        );
    }
}

#[test]
fn bodies_of_every_framing_are_read_to_their_end() {
    for (answer, status, connects) in [
        (
            "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\n",
            4,
            4,
        ),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
            5,
            4,
        ),
        (
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n",
            3,
            4,
        ),
    ] {
        let report = run_plan(plan(answers(answer)));
        assert_eq!(report.statuses[status - 1], 100, "{answer:?}");
        assert_eq!(
            (report.connects, report.failure_count()),
            (connects, 0),
            "{answer:?}"
        );
    }
}

#[test]
fn a_connection_for_each_request() {
    let mut plan = plan(answers(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    ));
    plan.keep_alive = false;
    plan.requests = vec![Request::new("GET", &plan.target, "/", &[], b"", false).unwrap()];
    let report = run_plan(plan);
    assert_eq!(
        (report.answers, report.connects, report.failure_count()),
        (100, 100, 0)
    );
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    // The answer tells how long its body is by the path, so that confused answers wouldn't fit.
    let address = server(|_, stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        while let Some(head) = read_head(&mut reader) {
            let is_head = head.starts_with("HEAD");
            let body = if is_head { "" } else { "x" };
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{body}").unwrap();
        }
    });
    let mut plan = plan(address);
    plan.pipeline = 7;
    plan.request_count = Some(700);
    plan.requests = ["GET", "HEAD", "GET"]
        .map(|method| Request::new(method, &plan.target, "/", &[], b"", true).unwrap())
        .into();
    let report = run_plan(plan);
    assert_eq!((report.answers, report.failure_count()), (700, 0));
}

#[test]
fn failures_are_told_apart() {
    // A port that nobody listens on: bound here, and let go of.
    let refused = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    for (address, kind) in [
        (refused, "connection refused"),
        (
            server(|_, stream| drop(stream)),
            "closed before the answer was whole",
        ),
        (
            answers("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n"),
            "malformed answer",
        ),
        (answers("220 smtp.example ESMTP\r\n"), "malformed answer"),
    ] {
        let report = run_plan(Plan {
            request_count: Some(4),
            connections: 2,
            threads: 1,
            ..plan(address)
        });
        let told: Vec<_> = report.failures.iter().map(|(name, _)| *name).collect();
        let is_told = told == [kind] || told.contains(&"reset by the server");
        assert!(is_told, "{kind}: {told:?}");
        assert_eq!((report.answers, report.failure_count()), (0, 4), "{kind}");
    }
}

#[test]
fn an_answer_that_never_comes_ends_with_its_deadline() {
    let report = run_plan(Plan {
        request_count: Some(2),
        timeout: Duration::from_millis(20),
        ..plan(server(|_, stream| {
            // Takes the request and holds the connection until the client gives it up.
            let _ = BufReader::new(stream).lines().count();
        }))
    });
    assert_eq!(report.failures, [("not answered in time", 2)]);
}

/// A closed loop would see one slow answer among many; those that waited for it are what a user
/// sees.
#[test]
fn an_open_loop_counts_the_wait_behind_a_stall() {
    const STALL: Duration = Duration::from_millis(200);
    let address = server(|_, stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        let mut is_first = true;
        while read_head(&mut reader).is_some() {
            if std::mem::take(&mut is_first) {
                // Nobody wakes it: the stall is what is tested.
                std::thread::park_timeout(STALL);
            }
            stream.write_all(HELLO.as_bytes()).unwrap();
        }
    });
    let report = run_plan(Plan {
        connections: 1,
        threads: 1,
        pace: Pace::Open(1000.0),
        request_count: Some(400),
        ..plan(address)
    });
    assert_eq!((report.answers, report.failure_count()), (400, 0));
    // 200 requests were due during the stall, the first 100 of them in its first half.
    assert!(report.late >= 190, "{}", report.late);
    let three_quarters = report.latency.percentiles[1];
    assert!(
        three_quarters.0 == 75.0 && three_quarters.1 >= 90_000,
        "{report}"
    );
    assert!(
        report.latency.max >= STALL.as_micros() as u64 - 1000,
        "{report}"
    );
}

#[test]
fn a_run_can_be_ended_early() {
    let progress = Arc::new(Progress::default());
    progress.stop.store(true, Ordering::Relaxed);
    let plan = Plan {
        request_count: None,
        ..plan(answers(HELLO))
    };
    let report = run(&Arc::new(plan), &progress).unwrap();
    assert!(report.seconds < 60.0);
}

#[test]
fn a_report_is_for_people_and_for_programs() {
    let report = run_plan(plan(answers(HELLO)));
    let text = report.to_string();
    for part in [
        "4 connections on 2 threads",
        "closed loop",
        "p99.9",
        "failures             0",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["answers"], 100);
    assert_eq!(json["latency"]["percentiles"][0][0], 50.0);
}

/// Of a server that stalls for a tenth of every second, one in a hundred waits for most of a stall,
/// however few answers a closed loop would have seen late.
#[test]
fn a_stall_in_every_second_shows_at_the_99th_percentile() {
    const STALL: Duration = Duration::from_millis(100);
    const SECOND: Duration = Duration::from_secs(1);
    let begin = std::time::Instant::now();
    let address = server(move |_, stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        while read_head(&mut reader).is_some() {
            let into_second = begin.elapsed().as_nanos() % SECOND.as_nanos();
            let left = STALL.as_nanos().saturating_sub(into_second);
            if left > 0 {
                std::thread::park_timeout(Duration::from_nanos(left as u64));
            }
            if stream.write_all(HELLO.as_bytes()).is_err() {
                return;
            }
        }
    });
    let report = run_plan(Plan {
        connections: 8,
        threads: 1,
        pace: Pace::Open(1000.0),
        request_count: Some(2000),
        ..plan(address)
    });
    assert_eq!((report.answers, report.failure_count()), (2000, 0));
    // Due in the first half of a stall: one request in twenty.
    let late = report.latency.percentiles[3];
    assert!(late.0 == 99.0 && late.1 >= 50_000, "{report}");
}
