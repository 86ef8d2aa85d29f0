//! What a request costs in allocations, by an allocator that counts, on both drivers.
//!
//! The server runs on the test's thread and a client on another, so the thread's count is the
//! server's. The client tells by letters when to look at the counter; a letter costs the receiving
//! thread nothing (it lies in a queue of fixed size, and wakers are reference counts), and the
//! answer to one is an atomic flag and an unpark.

#![allow(clippy::unwrap_used, reason = "a test's failure is a panic")]

use ringway_http::head::{HeadLimits, HeadScan, parse_head};
use ringway_http::target::Target;
use ringway_kernel::counting::{CountingAllocator, thread_allocations};
use ringway_runtime::{Io, Runtime, RuntimeOptions, Sender, mailbox};
use ringway_server::config::Config;
use ringway_server::route::Table;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const WARM_UP: usize = 200;
const REQUESTS: usize = 1_000;
/// Only a hang takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// The client stands at a point where the counter is to be read, and waits.
struct Letter {
    client: Thread,
    is_read: Arc<AtomicBool>,
}

/// What the requests after the warm-up cost together.
struct Cost {
    allocations: u64,
    /// How often the wall clock's second changed meanwhile, at most.
    new_seconds: u64,
}

fn cost(name: &str, io: Io, request: &'static str, status: &'static str) -> Option<Cost> {
    let options = RuntimeOptions {
        io,
        ..RuntimeOptions::default()
    };
    let mut runtime = match Runtime::new(&options) {
        Ok(runtime) => runtime,
        Err(error) if io == Io::Uring => {
            skip(name, &error.to_string());
            return None;
        }
        Err(error) => panic!("no driver: {error}"),
    };
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("file.txt"), [b'x'; 1024]).unwrap();
    // Within an hour the file isn't looked at again, which would be once a second by default.
    let config = format!(
        "[listen.main]\naddress = \"127.0.0.1:0\"\n\
         [files.site]\nroot = \"{}\"\nrevalidate_interval = \"1h\"\n",
        directory.path().display()
    );
    let config = Config::from_toml(&config).unwrap();
    let address = ringway_server::serve_on(&runtime, config).unwrap().address;
    let (sender, mut letters) = mailbox(1);
    let client = thread::spawn(move || drive(address, &sender, request, status));
    let counted = runtime.block_on(async move {
        let mut counted = Vec::with_capacity(2);
        while let Some(letter) = letters.receive().await {
            counted.push((thread_allocations(), unix_seconds()));
            let Letter { client, is_read } = letter;
            is_read.store(true, Ordering::Release);
            client.unpark();
        }
        counted
    });
    client.join().unwrap();
    let [(before, began), (after, ended)] = counted.unwrap()[..] else {
        panic!("not two letters");
    };
    Some(Cost {
        allocations: after - before,
        // The server's clock lags by up to a tenth of a second: one more may fall into the time.
        new_seconds: ended - began + 1,
    })
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// The client: warms up, has the counter read, sends the requests, has it read again.
fn drive(address: SocketAddr, letters: &Sender<Letter>, request: &str, status: &str) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut ask = |count| {
        for _ in 0..count {
            stream.write_all(request.as_bytes()).unwrap();
            receive_answer(&mut stream, request, status);
        }
    };
    ask(WARM_UP);
    tell(letters);
    ask(REQUESTS);
    tell(letters);
}

fn tell(letters: &Sender<Letter>) {
    let is_read = Arc::new(AtomicBool::new(false));
    let letter = Letter {
        client: thread::current(),
        is_read: Arc::clone(&is_read),
    };
    assert!(letters.send(letter).is_ok(), "the mailbox is full");
    while !is_read.load(Ordering::Acquire) {
        thread::park_timeout(PATIENCE);
    }
}

/// One answer, and nothing behind it.
fn receive_answer(stream: &mut TcpStream, request: &str, status: &str) {
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    loop {
        let count = stream.read(&mut part).unwrap();
        assert!(count > 0, "an early end");
        answer.extend_from_slice(&part[..count]);
        let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let has_content = status == "200" && request.starts_with("GET");
        let length = if has_content {
            content_length(&answer[..end])
        } else {
            0
        };
        let expected = end + 4 + length;
        assert!(answer.len() <= expected, "more than one answer");
        if answer.len() == expected {
            let is_coded = answer
                .windows(16)
                .any(|window| window == b"Content-Encoding");
            assert_eq!(is_coded, request.contains("Accept-Encoding"));
            let line = format!("HTTP/1.1 {status} ");
            return assert!(answer.starts_with(line.as_bytes()), "not {status}");
        }
    }
}

fn content_length(head: &[u8]) -> usize {
    let head = std::str::from_utf8(head).unwrap();
    let mut lines = head.split("\r\n");
    let length = lines.find_map(|line| line.strip_prefix("Content-Length: "));
    length.unwrap().parse().unwrap()
}

/// Says that a test does not run here, on standard error and in the log where there is one.
fn skip(name: &str, reason: &str) {
    let line = format!("SKIP {name}: {reason}");
    eprintln!("{line}");
    if let Some(path) = std::env::var_os("RINGWAY_SKIP_LOG") {
        let log = std::fs::File::options()
            .append(true)
            .create(true)
            .open(path);
        log.and_then(|mut log| writeln!(log, "{line}")).unwrap();
    }
}

/// Checks what each request costs. A new second means a new `Date`: it is written over the last one
/// in place, unless that response is still on its way, when it is copied: one allocation.
fn check(name: &str, io: Io, (request, status): (&'static str, &'static str), each: u64) {
    let Some(cost) = cost(name, io, request, status) else {
        return;
    };
    let requests = each * REQUESTS as u64;
    let allowed = requests..=requests + cost.new_seconds;
    assert!(
        allowed.contains(&cost.allocations),
        "{} allocations for {REQUESTS} requests",
        cost.allocations
    );
}

const GET: (&str, &str) = (
    "GET /file.txt HTTP/1.1\r\nHost: localhost\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n",
    "200",
);
const HEAD: (&str, &str) = ("HEAD /file.txt HTTP/1.1\r\nHost: localhost\r\n\r\n", "200");
/// As browsers send it: the file is compressed once, and kept.
const CODED: (&str, &str) = (
    "GET /file.txt HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\r\n",
    "200",
);
const NOT_MODIFIED: (&str, &str) = (
    "GET /file.txt HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: *\r\n\r\n",
    "304",
);

#[test]
fn a_cached_file_costs_nothing_on_uring() {
    check("a_cached_file_costs_nothing_on_uring", Io::Uring, GET, 0);
}

#[test]
fn a_cached_file_costs_nothing_on_epoll() {
    check("a_cached_file_costs_nothing_on_epoll", Io::Epoll, GET, 0);
}

#[test]
fn a_cached_file_s_head_costs_nothing_on_uring() {
    check(
        "a_cached_file_s_head_costs_nothing_on_uring",
        Io::Uring,
        HEAD,
        0,
    );
}

#[test]
fn a_cached_file_s_head_costs_nothing_on_epoll() {
    check(
        "a_cached_file_s_head_costs_nothing_on_epoll",
        Io::Epoll,
        HEAD,
        0,
    );
}

#[test]
fn a_cached_file_in_a_coding_costs_nothing_on_uring() {
    check(
        "a_cached_file_in_a_coding_costs_nothing_on_uring",
        Io::Uring,
        CODED,
        0,
    );
}

#[test]
fn a_cached_file_in_a_coding_costs_nothing_on_epoll() {
    check(
        "a_cached_file_in_a_coding_costs_nothing_on_epoll",
        Io::Epoll,
        CODED,
        0,
    );
}

/// Its head is made for the request: one buffer.
#[test]
fn not_modified_costs_its_head_on_uring() {
    check(
        "not_modified_costs_its_head_on_uring",
        Io::Uring,
        NOT_MODIFIED,
        1,
    );
}

#[test]
fn not_modified_costs_its_head_on_epoll() {
    check(
        "not_modified_costs_its_head_on_epoll",
        Io::Epoll,
        NOT_MODIFIED,
        1,
    );
}

/// Among a thousand sites, with every kind of condition.
#[test]
fn finding_a_route_costs_nothing() {
    let mut text = "[[route]]\nhost = \"*.wild.example\"\npath = [\"/a\", \"/b/**/*.png\"]\n\
                    header = \"Accept: *html*\"\nquery = \"q=*1\"\nstatus = 200\n"
        .to_owned();
    for site in 0..1000 {
        text += &format!(
            "[[route]]\nhost = \"{site}.example\"\npath = \"/x/*\"\nmethod = \"GET\"\nstatus = 200\n"
        );
    }
    let table = Table::new(&Config::from_toml(&text).unwrap(), 0);
    for (host, path, expect) in [
        ("417.EXAMPLE:80", "/x/y", Some(418)),
        ("417.example.", "/y", None),
        ("a.wild.example", "/b/c/d.png?p&q=%31", Some(0)),
        ("[::1]", "/x", None),
        ("nobody.example", "/", None),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/html\r\n\r\n");
        let mut scan = HeadScan::default();
        let parsed = parse_head(request.as_bytes(), &mut scan, &HeadLimits::default());
        let (head, _) = parsed.unwrap().unwrap();
        let target = Target::parse(head.method, head.target).unwrap();
        let before = thread_allocations();
        let found = table.find_route(&head, &target);
        let allocations = thread_allocations() - before;
        assert_eq!(found, expect, "{request}");
        assert_eq!(allocations, 0, "{request}");
    }
}
