//! Servers behind the proxy that fail in every way there is, and clients that leave at every stage.
//!
//! The same is expected each time: the right status or an honest cut, never a clean-looking end of
//! a cut body and never a byte of one answer in another; no socket and no place in the pool is left
//! behind, and whoever asks next is served.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;

use crate::client::{Client, find, request};
use crate::server::{Io, Server, eventually, limited, on_both_drivers};
use crate::slowness::thin_client;
use crate::upstream::{self, Peer, Upstream, proxy};

on_both_drivers!(
    servers_that_leave_at_every_byte,
    answers_that_are_none,
    more_than_was_announced,
    more_after_the_answer,
    content_that_is_malformed,
    servers_that_say_nothing,
    servers_that_are_slower_than_clients_may_be,
    servers_that_stop,
    answers_that_take_too_long,
    servers_that_are_not_there,
    one_byte_at_a_time,
    servers_that_do_not_read,
    clients_that_send_too_little,
    readers_that_do_not_read,
    clients_that_leave,
    failures_are_not_repeated_without_end,
    servers_that_come_back,
    no_descriptors_for_servers,
    reset_storms,
);

/// Few places and no idle connections: what isn't given back is missed at once.
const FEW: &str = "idle_connections = 0\nmax_connections = 2\nqueue_timeout = \"10s\"\n\
                   retries = 0\nfailures = 0\n";

const GOOD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood";

/// A proxy, and how many sockets it has when nothing goes on.
struct Watched {
    server: Server,
    sockets: usize,
}

impl Watched {
    fn start(io: Io, upstream: &Upstream, keys: &str) -> Watched {
        let server = proxy(io, upstream, &format!("{FEW}{keys}"));
        Watched {
            sockets: server.sockets(),
            server,
        }
    }

    /// That nothing is left of what happened, and service is what it was.
    #[track_caller]
    fn expect_recovered(self) {
        let Watched { server, sockets } = self;
        // As many at once as there are places, twice.
        for _ in 0..2 {
            let mut clients = [server.connect(), server.connect()];
            clients
                .iter_mut()
                .for_each(|client| client.send(request("GET", "/good", &[])));
            for client in &mut clients {
                assert_eq!(client.response().body, b"good", "{}", server.errors());
            }
        }
        eventually("its sockets are closed", || {
            (server.sockets() == sockets).then_some(())
        });
        server.stop();
    }
}

/// The parts of the path of the next request; `good` was answered.
fn asked(peer: &mut Peer) -> Option<Vec<String>> {
    loop {
        let request = peer.request()?;
        let path = request.head.split(' ').nth(1).unwrap();
        if path != "/good" {
            return Some(path.split('/').skip(1).map(str::to_owned).collect());
        }
        peer.send(GOOD);
    }
}

const SIZED: &str = "HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 10\r\n\r\n0123456789";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                       3\r\nabc\r\n7;x=y\r\ndefghij\r\n0\r\nX-A: 1\r\n\r\n";
const INTERIM: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
                       HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";

fn servers_that_leave_at_every_byte(io: Io) {
    let upstream = Upstream::start(|mut peer| {
        let Some(path) = asked(&mut peer) else { return };
        let [answer, how, at] = &path[..] else {
            panic!("{path:?}")
        };
        let answer = [SIZED, CHUNKED, INTERIM][answer.parse::<usize>().unwrap()];
        peer.send(&answer[..at.parse().unwrap()]);
        if how == "reset" {
            peer.reset();
        }
    });
    let watched = Watched::start(io, &upstream, "");
    let server = &watched.server;
    let mut kept = server.connect();
    for (index, answer) in [SIZED, CHUNKED, INTERIM].into_iter().enumerate() {
        let content_at = answer.rfind("\r\n\r\n").unwrap() + 4;
        let head_end = answer
            .find("OK")
            .and_then(|ok| answer[ok..].find("\r\n\r\n").map(|at| ok + at + 4));
        let head_end = head_end.unwrap().min(content_at);
        for at in 0..=answer.len() {
            for how in ["close", "reset"] {
                let target = format!("/{index}/{how}/{at}");
                check_cut(server, &mut kept, &target, at, head_end, answer.len());
            }
            if index == 1 && at >= head_end && at < answer.len() {
                check_old_cut(server, &format!("/1/close/{at}"));
            }
        }
    }
    drop(kept);
    watched.expect_recovered();
}

/// What comes of an answer that ends at a byte: before its head is whole a 502, on a connection that
/// goes on; then a cut, or all of it.
#[track_caller]
fn check_cut(
    server: &Server,
    kept: &mut Client,
    target: &str,
    at: usize,
    head_end: usize,
    whole: usize,
) {
    let is_reset = target.contains("reset");
    if at < head_end {
        let response = kept.ask_through(&request("GET", target, &[]));
        assert_eq!(response.status, 502, "{target}");
        return;
    }
    let mut client = server.connect();
    client.send(request("GET", target, &[]));
    if at == whole && !is_reset {
        let response = client.passed_response_to("GET");
        assert!(
            matches!(&response.body[..], b"0123456789" | b"abcdefghij" | b"abc"),
            "{target}"
        );
        return;
    }
    // By a reset the server's last bytes may be lost, and its head with them.
    let (received, is_honest) = all_of(&mut client);
    let text = String::from_utf8(received).unwrap();
    let is_whole = ["0123456789", "X-A: 1\r\n\r\n", "\r\n\r\nabc"]
        .iter()
        .any(|end| text.ends_with(end));
    let is_refused = text.contains("HTTP/1.1 502 ");
    assert!(
        is_honest || (is_reset && (is_whole || is_refused)),
        "{target}: {text}"
    );
    assert!(
        is_reset || (text.contains("HTTP/1.1 200 OK") && !is_whole),
        "{target}: {text}"
    );
}

/// HTTP/1.0 knows the end of such content by the end of the connection: that has to be a reset.
#[track_caller]
fn check_old_cut(server: &Server, target: &str) {
    let mut client = server.connect();
    client.send(format!("GET {target} HTTP/1.0\r\n\r\n"));
    let (received, is_honest) = all_of(&mut client);
    assert!(
        is_honest,
        "{target}: {}",
        String::from_utf8_lossy(&received)
    );
}

/// All that comes in half a second or until the end, and whether that is a reset.
fn all_of(client: &mut Client) -> (Vec<u8>, bool) {
    let mut received = Vec::new();
    loop {
        client
            .stream()
            .set_read_timeout(Some(Duration::from_secs(2)))
            .unwrap();
        match client.sip(1 << 16) {
            Ok(bytes) if bytes.is_empty() => return (received, false),
            Ok(bytes) => {
                received.extend(bytes);
                // Whole: nothing more is to come.
                if received.ends_with(b"</html>\n") {
                    return (received, false);
                }
            }
            Err(error) => {
                return (
                    received,
                    error.kind() == std::io::ErrorKind::ConnectionReset,
                );
            }
        }
    }
}

/// Heads that are none, or that two programs could read differently.
fn bad_heads() -> Vec<String> {
    let mut heads: Vec<String> = [
        "\0\0\0\0",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 600 OK\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 200 O\0K\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ]
    .map(str::to_owned)
    .into();
    for fields in [
        "Content-Length: 1\r\nContent-Length: 2",
        "Content-Length: 1\r\nContent-Length: 1",
        "Content-Length: 1, 1",
        "Content-Length: -1",
        "Content-Length: +1",
        "Content-Length: 0x1",
        "Content-Length: 1 1",
        "Content-Length:",
        "Content-Length: 99999999999999999999",
        "Content-Length: 1\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding : chunked",
        "X Y: 1",
        "X: 1\r\n folded: 2",
        ": nameless",
        "no colon",
        "X: a\rb",
        "X: a\0b",
    ] {
        heads.push(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\na"));
    }
    heads.push(format!(
        "HTTP/1.1 200 OK\r\nX: {}\r\n\r\n",
        "x".repeat(100 << 10)
    ));
    heads.push(format!(
        "HTTP/1.1 200 OK\r\n{}\r\n",
        "X: y\r\n".repeat(1_000)
    ));
    heads.push("HTTP/1.1 102 Processing\r\n\r\n".repeat(1_000));
    heads.push(format!("HTTP/1.1 200 {}", "x".repeat(100 << 10)));
    heads
}

fn answers_that_are_none(io: Io) {
    let upstream = Upstream::start(|mut peer| {
        let Some(path) = asked(&mut peer) else { return };
        peer.send(&bad_heads()[path[0].parse::<usize>().unwrap()]);
        // It doesn't go by itself.
        peer.wait_for_end();
    });
    let watched = Watched::start(io, &upstream, "first_byte_timeout = \"5s\"");
    let mut client = watched.server.connect();
    for (index, head) in bad_heads().iter().enumerate() {
        let shown = &head[..head.len().min(80)];
        let response = client.ask_through(&request("GET", &format!("/{index}"), &[]));
        assert_eq!(response.status, 502, "{shown:?}");
        assert!(!response.closes(), "{shown:?}");
    }
    drop(client);
    watched.expect_recovered();
}

/// A whole answer of somebody else's, behind the end of the first.
const SMUGGLED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";

fn more_than_was_announced(io: Io) {
    let upstream = Upstream::start(|mut peer| {
        while let Some(path) = asked(&mut peer) {
            peer.send(match &*path[0] {
                "sized" => format!("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc{SMUGGLED}"),
                "chunked" => format!(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n{SMUGGLED}"
                ),
                "204" => format!("HTTP/1.1 204 No Content\r\n\r\n{SMUGGLED}"),
                "304" => format!("HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n{SMUGGLED}"),
                _ => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{SMUGGLED}", SMUGGLED.len()),
            });
        }
    });
    // Idle connections are kept: one that had more to say must not be.
    let server = proxy(io, &upstream, "");
    let mut client = server.connect();
    for _ in 0..5 {
        for (method, target, status) in [
            ("GET", "/sized", 200),
            ("GET", "/chunked", 200),
            ("GET", "/204", 204),
            ("GET", "/304", 304),
            ("HEAD", "/head", 200),
        ] {
            let response = client.ask_through(&request(method, target, &[]));
            assert_eq!(response.status, status, "{method} {target}");
            assert!(
                matches!(&response.body[..], b"abc" | b""),
                "{target}: {:?}",
                response.body
            );
            assert_eq!(
                client.ask_through(&request("GET", "/good", &[])).body,
                b"good"
            );
        }
    }
}

fn more_after_the_answer(io: Io) {
    let (speak, told) = mpsc::channel::<()>();
    let (spoken, heard) = mpsc::channel::<()>();
    let told = Mutex::new(told);
    let upstream = Upstream::start(move |mut peer| {
        while let Some(path) = asked(&mut peer) {
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc");
            if path[0] == "more" {
                told.lock().unwrap().recv().unwrap();
                peer.send(SMUGGLED);
                spoken.send(()).unwrap();
            }
        }
    });
    let server = proxy(io, &upstream, "");
    for _ in 0..10 {
        let mut client = server.connect();
        assert_eq!(client.get("/more").body, b"abc");
        speak.send(()).unwrap();
        heard.recv().unwrap();
        for _ in 0..4 {
            assert_eq!(client.get("/good").body, b"good");
        }
    }
}

fn content_that_is_malformed(io: Io) {
    let upstream = Upstream::start(|mut peer| {
        let Some(path) = asked(&mut peer) else { return };
        let chunks = BAD_CHUNKS[path[0].parse::<usize>().unwrap()];
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
        peer.send(chunks);
        peer.wait_for_end();
    });
    let watched = Watched::start(io, &upstream, "");
    for (index, chunks) in BAD_CHUNKS.iter().enumerate() {
        let mut client = watched.server.connect();
        client.send(request("GET", &format!("/{index}"), &[]));
        let (received, is_honest) = all_of(&mut client);
        let text = String::from_utf8_lossy(&received);
        // Where it comes with the head, nothing has been promised yet.
        let is_told = text.starts_with("HTTP/1.1 502 ");
        assert!(
            is_told || (is_honest && !text.ends_with("0\r\n\r\n")),
            "{chunks:?}: {text}"
        );
    }
    watched.expect_recovered();
}

const BAD_CHUNKS: [&str; 8] = [
    "xyz\r\n",
    "-1\r\n",
    "3\nabc\r\n",
    "3\r\nabcd\r\n",
    "ffffffffffffffffff\r\n",
    "\r\n",
    "0\r\nno colon\r\n\r\n",
    "0\r\n folded: x\r\n\r\n",
];

fn servers_that_say_nothing(io: Io) {
    let upstream = Upstream::start(|mut peer| {
        let Some(path) = asked(&mut peer) else { return };
        peer.send(match &*path[0] {
            "nothing" => "",
            "interim" => "HTTP/1.1 103 Early Hints\r\n\r\n",
            _ => "HTTP/1.1 200 OK\r\nContent-Le",
        });
        peer.wait_for_end();
    });
    let watched = Watched::start(io, &upstream, "first_byte_timeout = \"200ms\"");
    let mut client = watched.server.connect();
    for target in ["/nothing", "/interim", "/part"] {
        for method in ["GET", "POST"] {
            let began = Instant::now();
            let body = ["Content-Length: 0"];
            let response = client.ask_through(&request(method, target, &body));
            assert_eq!(response.status, 504, "{target}");
            assert!(began.elapsed() >= Duration::from_millis(200), "{target}");
            assert!(!response.closes(), "{target}");
        }
    }
    assert!(watched.server.errors().contains("first_byte_timeout"));
    drop(client);
    watched.expect_recovered();
}

/// A client that waits for its answer is neither idle nor slow.
fn servers_that_are_slower_than_clients_may_be(io: Io) {
    let upstream = Upstream::start(|mut peer| {
        while asked(&mut peer).is_some() {
            peer.expect_nothing_for(Duration::from_millis(600));
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n");
            peer.expect_nothing_for(Duration::from_millis(600));
            peer.send("slow");
        }
    });
    let limits = "[limits]\nidle_timeout = \"300ms\"\nhead_deadline = \"300ms\"\n\
                  body_stall_timeout = \"300ms\"\nwrite_stall_timeout = \"300ms\"";
    let watched = Watched::start(io, &upstream, limits);
    for request in [
        request("GET", "/slow", &[]),
        "POST /slow HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc".to_owned(),
        "POST /slow HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
    ] {
        let mut client = watched.server.connect();
        assert_eq!(client.ask_through(&request).body, b"slow", "{request}");
    }
    watched.expect_recovered();
}

fn servers_that_stop(io: Io) {
    let upstream = Upstream::start(|mut peer| {
        let Some(path) = asked(&mut peer) else { return };
        match &*path[0] {
            "sized" => peer.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234"),
            "large" => {
                peer.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
                peer.send(vec![b'x'; 500_000]);
            }
            _ => peer.send(&CHUNKED[..CHUNKED.len() - 12]),
        }
        peer.wait_for_end();
    });
    let watched = Watched::start(io, &upstream, "between_bytes_timeout = \"200ms\"");
    for target in ["/sized", "/large", "/chunked"] {
        let mut client = watched.server.connect();
        client.send(request("GET", target, &[]));
        assert_eq!(client.head().status, 200);
        assert!(client.rest().is_err(), "{target}: a cut is no end");
    }
    watched.expect_recovered();
}

/// The time for all of it ends whatever goes on, and says so only where that can still be said.
fn answers_that_take_too_long(io: Io) {
    let upstream = Upstream::start(|mut peer| {
        let Some(path) = asked(&mut peer) else { return };
        match &*path[0] {
            "nothing" => {}
            "start" => peer.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nthe beginning"),
            _ => peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
        }
        peer.wait_for_end();
    });
    let watched = Watched::start(io, &upstream, "total_timeout = \"300ms\"");
    let mut client = watched.server.connect();
    for _ in 0..2 {
        let response = client.ask_through(&request("GET", "/nothing", &[]));
        assert_eq!((response.status, response.closes()), (504, false));
    }
    for target in ["/start", "/chunks"] {
        client.send(request("GET", target, &[]));
        assert_eq!(client.head().status, 200);
        let (received, is_honest) = all_of(&mut client);
        let text = String::from_utf8(received).unwrap();
        assert!(is_honest && !text.contains("HTTP/1.1"), "{target}: {text}");
        client = watched.server.connect();
    }
    drop(client);
    watched.expect_recovered();
}

/// A socket that listens and whose queue is full: who connects hears nothing.
fn servers_that_are_not_there(io: Io) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address = listener.local_addr().unwrap();
    let connect = || std::net::TcpStream::connect_timeout(&address, Duration::from_millis(300));
    let queued: Vec<_> = std::iter::from_fn(|| connect().ok()).take(8).collect();
    assert!(queued.len() < 8, "the queue has no end");
    let keys = "connect_timeout = \"200ms\"\nretries = 0";
    let server = upstream::run(io, &upstream::config(&[address.to_string()], keys));
    let sockets = server.sockets();
    let mut client = server.connect();
    for _ in 0..2 {
        let began = Instant::now();
        assert_eq!(client.get("/").status, 504);
        assert!(began.elapsed() >= Duration::from_millis(200));
    }
    assert!(
        server.errors().contains("connect_timeout"),
        "{}",
        server.errors()
    );
    drop(client);
    eventually("its sockets are closed", || {
        (server.sockets() == sockets).then_some(())
    });
}

fn one_byte_at_a_time(io: Io) {
    let upstream = Upstream::start(|mut peer| {
        while let Some(path) = asked(&mut peer) {
            for byte in [SIZED, CHUNKED, INTERIM][path[0].parse::<usize>().unwrap()].bytes() {
                peer.send([byte]);
            }
        }
    });
    let watched = Watched::start(io, &upstream, "");
    let mut client = watched.server.connect();
    for (index, body) in ["0123456789", "abcdefghij", "abc"].into_iter().enumerate() {
        for byte in request("GET", &format!("/{index}"), &[]).bytes() {
            client.send([byte]);
        }
        let response = client.passed_response_to("GET");
        assert_eq!(String::from_utf8(response.body).unwrap(), body);
    }
    drop(client);
    watched.expect_recovered();
}

/// Megabytes that the proxy may take more for all that is under way.
const MEMORY_KIB: u64 = 24 << 10;

fn servers_that_do_not_read(io: Io) {
    let (leave, stays) = mpsc::channel::<()>();
    let stays = Mutex::new(stays);
    let upstream = Upstream::start(move |mut peer| {
        if peer
            .head()
            .is_some_and(|head| head.starts_with("GET /good"))
        {
            return peer.send(GOOD);
        }
        let _ = stays.lock().unwrap().recv();
    });
    let keys = "between_bytes_timeout = \"500ms\"\n[limits]\nbody_bytes = \"1GiB\"";
    let watched = Watched::start(io, &upstream, keys);
    let before = watched.server.resident_kib();
    for framing in ["Content-Length: 1000000000", "Transfer-Encoding: chunked"] {
        let mut client = watched.server.connect();
        client.send(format!("POST / HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n"));
        let piece = [b"100000\r\n", &vec![b'x'; 1 << 20][..], b"\r\n"].concat();
        // It goes on until the proxy says something, or ends the connection.
        for _ in 0..500 {
            if client.try_send(&piece).is_err() {
                break;
            }
        }
        let grown = watched.server.resident_kib().saturating_sub(before);
        assert!(grown < MEMORY_KIB, "{grown} KiB");
        let (received, _) = all_of(&mut client);
        let text = String::from_utf8_lossy(&received);
        assert!(
            text.is_empty() || text.starts_with("HTTP/1.1 504 "),
            "{text}"
        );
        leave.send(()).unwrap();
    }
    watched.expect_recovered();
}

/// A body of which some comes all the time, but less than it has to, in the kernel's hands or ours.
fn clients_that_send_too_little(io: Io) {
    let upstream = Upstream::start(|mut peer| {
        if peer
            .head()
            .is_some_and(|head| head.starts_with("GET /good"))
        {
            return peer.send(GOOD);
        }
        peer.wait_for_end();
    });
    let limits = "body_stall_timeout = \"400ms\"\nbody_stall_bytes = \"1KiB\"";
    for splice in [true, false] {
        let keys = format!("splice = {splice}\n[limits]\n{limits}");
        let watched = Watched::start(io, &upstream, &keys);
        let mut client = watched.server.connect();
        client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n");
        let began = Instant::now();
        while !client.is_answered_within(Duration::from_millis(20)) {
            assert!(began.elapsed() < Duration::from_secs(10), "it goes on");
            let _ = client.try_send("x");
        }
        assert_eq!(client.passed_response_to("POST").status, 408, "{splice}");
        drop(client);
        watched.expect_recovered();
    }
}

fn readers_that_do_not_read(io: Io) {
    let upstream = Upstream::start(|mut peer| {
        let Some(path) = asked(&mut peer) else { return };
        let chunk = [b"100000\r\n", &vec![b'x'; 1 << 20][..], b"\r\n"].concat();
        peer.send(match &*path[0] {
            "sized" => "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n",
            _ => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        });
        while peer.try_send(&chunk).is_ok() {}
    });
    for splice in [true, false] {
        let server = proxy(
            io,
            &upstream,
            &format!("idle_connections = 0\nsplice = {splice}"),
        );
        let (sockets, before) = (server.sockets(), server.resident_kib());
        let mut clients: Vec<Client> = (0..60).map(|_| thin_client(&server)).collect();
        for (index, client) in clients.iter_mut().enumerate() {
            client.send(request("GET", ["/sized", "/chunks"][index % 2], &[]));
            assert_eq!(client.head().status, 200);
        }
        // Until nothing goes on any more.
        let mut last = u64::MAX;
        eventually("it has what it takes", || {
            let now = server.resident_kib();
            std::thread::park_timeout(Duration::from_millis(100));
            (std::mem::replace(&mut last, now).abs_diff(now) <= 64).then_some(())
        });
        let grown = last.saturating_sub(before);
        assert!(
            grown < 2 * MEMORY_KIB,
            "{grown} KiB for {} readers",
            clients.len()
        );
        assert_eq!(server.get("/good").body, b"good");
        drop(clients);
        eventually("its sockets are closed", || {
            (server.sockets() == sockets).then_some(())
        });
    }
}

/// Leaves as `index` says: in good order or by a reset.
fn leave(client: Client, index: usize) {
    if index % 2 == 1 {
        set_socket_linger(client.stream(), Some(Duration::ZERO)).unwrap();
    }
}

fn clients_that_leave(io: Io) {
    let held = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&held);
    let upstream = Upstream::start(move |mut peer| {
        let Some(path) = asked(&mut peer) else { return };
        match &*path[0] {
            "body" => {
                peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                while peer.try_send("4\r\nabcd\r\n").is_ok() {}
            }
            _ => {
                count.fetch_add(1, Ordering::AcqRel);
                peer.wait_for_end();
            }
        }
    });
    let watched = Watched::start(io, &upstream, "first_byte_timeout = \"500ms\"");
    let server = &watched.server;
    for index in 0..4 {
        // Both places are taken by those who wait for their answer; the others wait for a place.
        let before = held.load(Ordering::Acquire);
        let mut clients: Vec<Client> = (0..6).map(|_| server.connect()).collect();
        clients
            .iter_mut()
            .for_each(|client| client.send(request("GET", "/hold", &[])));
        eventually("two are asked", || {
            (held.load(Ordering::Acquire) >= before + 2).then_some(())
        });
        clients.into_iter().for_each(|client| leave(client, index));
        let mut client = server.connect();
        client.send(request("GET", "/body", &[]));
        assert_eq!(client.head().status, 200);
        client.take(1_000);
        leave(client, index);
        let mut client = server.connect();
        client.send("POST /good HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nabc");
        leave(client, index);
    }
    watched.expect_recovered();
}

/// Neither a request that may have been acted on, nor any of them more often than it may be.
fn failures_are_not_repeated_without_end(io: Io) {
    let (gets, posts) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let serve = || {
        let (gets, posts) = (Arc::clone(&gets), Arc::clone(&posts));
        Upstream::start(move |mut peer| {
            if let Some(request) = peer.request() {
                let count = if request.head.starts_with("POST") {
                    &posts
                } else {
                    &gets
                };
                count.fetch_add(1, Ordering::AcqRel);
                peer.reset();
            }
        })
    };
    let servers = [serve(), serve(), serve()];
    let addresses: Vec<String> = servers
        .iter()
        .map(|one| one.address().to_string())
        .collect();
    let keys = "retries = 2\nretry_budget = 20\nfailures = 0";
    let (command, _folder) = upstream::command(io, 1, &upstream::config(&addresses, keys));
    let server = Server::start(command);
    let mut client = server.connect();
    let mut began = Instant::now();
    assert_eq!(client.get("/").status, 502);
    assert_eq!(gets.load(Ordering::Acquire), 3, "each was asked once");
    for _ in 0..60 {
        let posted = client.ask("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab");
        assert_eq!(posted.status, 502);
    }
    assert_eq!(posts.load(Ordering::Acquire), 60, "never twice");
    let before = gets.load(Ordering::Acquire);
    for _ in 0..100 {
        assert_eq!(client.get("/").status, 502);
    }
    // A fifth of the requests of late, and three each second beside that.
    let asked = gets.load(Ordering::Acquire) - before;
    let allowed = 100 + 161 / 5 + 3 * (10 + began.elapsed().as_secs() as usize);
    assert!(asked <= allowed, "{asked} of {allowed}");
    began = Instant::now();
    assert_eq!(client.get("/").status, 502);
    assert!(began.elapsed() < Duration::from_secs(5));
}

fn servers_that_come_back(io: Io) {
    let is_down = Arc::new(AtomicBool::new(true));
    let serve = || {
        let is_down = Arc::clone(&is_down);
        Upstream::start(move |mut peer| {
            while !is_down.load(Ordering::Acquire) && peer.request().is_some() {
                peer.send(GOOD);
                if is_down.load(Ordering::Acquire) {
                    return;
                }
            }
        })
    };
    let servers = [serve(), serve()];
    let addresses: Vec<String> = servers
        .iter()
        .map(|one| one.address().to_string())
        .collect();
    let keys = "failures = 2\nejection_time = \"100ms\"\nmax_ejected = 100\npanic_threshold = 0";
    let server = upstream::run(io, &upstream::config(&addresses, keys));
    let mut client = server.connect();
    for _ in 0..3 {
        is_down.store(true, Ordering::Release);
        eventually("all are down", || {
            (client.get("/").status != 200).then_some(())
        });
        for _ in 0..20 {
            let began = Instant::now();
            let status = client.get("/").status;
            assert!(matches!(status, 502 | 503), "{status}");
            assert!(began.elapsed() < Duration::from_secs(5), "at once");
        }
        is_down.store(false, Ordering::Release);
        eventually("they are back", || {
            (client.get("/").status == 200).then_some(())
        });
        let mut good = 0;
        eventually("all is well", || {
            good = if client.get("/").status == 200 {
                good + 1
            } else {
                0
            };
            (good == 50).then_some(())
        });
    }
}

fn no_descriptors_for_servers(io: Io) {
    let (free, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let upstream = Upstream::start(move |mut peer| {
        if let Some(path) = asked(&mut peer) {
            if path[0] == "hold" {
                let _ = held.lock().unwrap().recv();
            }
            peer.send(GOOD);
        }
    });
    let config = upstream::config(
        &[upstream.address().to_string()],
        "idle_connections = 0\nretries = 0\nfailures = 1\n[limits]\nconnections = 1000",
    );
    let (command, _folder) = upstream::command(io, 2, &config);
    let server = Server::start(limited("-n 64", &command));
    let mut inside: Vec<Client> = (0..4).map(|_| server.connect()).collect();
    for client in &mut inside {
        assert_eq!(client.get("/good").status, 200);
    }
    let (sockets, mut stuck) = (server.sockets(), Vec::new());
    let mut ask = || {
        let mut client = server.try_connect().ok()?;
        client.try_send(request("GET", "/hold", &[])).ok()?;
        stuck.push(client);
        Some(())
    };
    eventually("no descriptor is left", || {
        ask();
        (server.descriptors() >= 63).then_some(())
    });
    for client in &mut inside {
        let response = client.get("/good");
        // It is the proxy that lacks something, and the server isn't left out for it.
        assert!(matches!(response.status, 200 | 503), "{}", response.status);
    }
    drop(free);
    drop(stuck);
    eventually("its sockets are closed", || {
        (server.sockets() <= sockets).then_some(())
    });
    for client in &mut inside {
        assert_eq!(client.get("/good").status, 200);
    }
}

fn reset_storms(io: Io) {
    let upstream = Upstream::start(|mut peer| {
        while let Some(path) = asked(&mut peer) {
            match &*path[0] {
                "large" => {
                    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 8000000\r\n\r\n");
                    peer.send(vec![b'x'; 8_000_000]);
                }
                _ => return peer.reset(),
            }
        }
    });
    let server = proxy(
        io,
        &upstream,
        "idle_connections = 0\nretries = 0\nfailures = 0",
    );
    let sockets = server.sockets();
    let storm = |count: usize| {
        for index in 0..count {
            let mut client = server.connect();
            match index % 6 {
                0 => client.send("GET /good HT"),
                1 => client.send(request("POST", "/good", &["Content-Length: 100000"])),
                2 => client.send(request("GET", "/good", &[]).repeat(20)),
                3 => {
                    client.send(request("GET", "/large", &[]));
                    client.head();
                }
                4 => {
                    let _ = client.ask_through(&request("GET", "/reset", &[]));
                }
                _ => client.send(request("GET", "/large", &[])),
            }
            leave(client, 1);
        }
    };
    storm(120);
    let settled = || {
        eventually("its sockets are closed", || {
            (server.sockets() == sockets).then_some(())
        });
        server.resident_kib()
    };
    let before = settled();
    storm(240);
    let grown = settled().saturating_sub(before);
    assert!(grown < 8 << 10, "{grown} KiB");
    assert_eq!(server.get("/good").body, b"good");
    assert!(find(server.errors().as_bytes(), b"panicked").is_none());
}
