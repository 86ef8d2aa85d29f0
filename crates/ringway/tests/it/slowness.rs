//! Slow clients: they are borne for as long as the limits say, then closed, and nobody else waits.

use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_recv_buffer_size;

use crate::client::{Client, ipv4_socket, request};
use crate::peers;
use crate::server::{Io, PATIENCE, Server, eventually, on_both_drivers};
use crate::tree::{HELLO, Tree, content};

on_both_drivers!(
    slow_heads,
    slow_bodies,
    slow_bodies_that_are_fast_enough,
    idle_connections,
    readers_that_stop,
    readers_that_are_slow,
    slowhttptest,
);

/// A pause in which a client waits for an answer that shouldn't come yet.
const STEP: Duration = Duration::from_millis(10);

/// A client whose receive buffer is small, so that little is under way that it hasn't read.
pub(crate) fn thin_client(server: &Server) -> Client {
    try_thin_client(server).expect("a connection")
}

/// The same, for a server that may refuse.
pub(crate) fn try_thin_client(server: &Server) -> Option<Client> {
    let socket = ipv4_socket().unwrap();
    set_socket_recv_buffer_size(&socket, 32 << 10).unwrap();
    rustix::net::connect(&socket, &server.address()).ok()?;
    Some(Client::over(TcpStream::from(socket)))
}

/// Drips the bytes that `next` gives into many connections until the server has closed each with
/// a 408, and checks that others are served at once meanwhile.
fn drip(server: &Server, start: &str, next: &[u8], at_least: Duration) {
    let began = Instant::now();
    let mut clients: Vec<Client> = (0..30).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(start);
    }
    let mut other = server.connect();
    let mut answered = 0;
    for turn in 0.. {
        assert!(began.elapsed() < PATIENCE, "{} still open", clients.len());
        let slowest = Instant::now();
        assert_eq!(other.get("/hello.txt").body, HELLO);
        assert!(
            slowest.elapsed() < Duration::from_secs(2),
            "{:?}",
            slowest.elapsed()
        );
        clients.retain_mut(|client| {
            let wait = Duration::from_millis(1);
            if !client.is_answered_within(wait)
                && client.try_send([next[turn % next.len()]]).is_ok()
            {
                return true;
            }
            assert!(
                began.elapsed() >= at_least,
                "too soon: {:?}",
                began.elapsed()
            );
            assert_eq!(client.response().status, 408);
            client.expect_cut();
            answered += 1;
            false
        });
        if clients.is_empty() {
            break;
        }
        other.is_answered_within(STEP);
    }
    assert_eq!(answered, 30);
}

fn slow_heads(io: Io) {
    let tree = Tree::new();
    let server = Server::serve(io, &tree.root(), &["--head-deadline", "500ms"]);
    let before = server.descriptors();
    // Bytes keep coming: the deadline is for the whole head.
    drip(
        &server,
        "GET / HTTP/1.1\r\nHost: a\r\n",
        b"A: b\r\n",
        Duration::from_millis(450),
    );
    eventually("its descriptors are closed", || {
        (server.descriptors() <= before + 1).then_some(())
    });
    server.stop();
}

fn slow_bodies(io: Io) {
    let tree = Tree::new();
    let flags = [
        "--body-stall-timeout",
        "500ms",
        "--body-stall-bytes",
        "1KiB",
    ];
    let server = Server::serve(io, &tree.root(), &flags);
    let start = request("GET", "/", &["Content-Length: 100000"]);
    drip(&server, &start, b"x", Duration::from_millis(450));
    let start = request("GET", "/", &["Transfer-Encoding: chunked"]);
    drip(&server, &start, b"1\r\nx\r\n", Duration::from_millis(450));
    server.stop();
}

fn slow_bodies_that_are_fast_enough(io: Io) {
    let tree = Tree::new();
    let flags = ["--body-stall-timeout", "1s", "--body-stall-bytes", "5"];
    let server = Server::serve(io, &tree.root(), &flags);
    let mut client = server.connect();
    client.send(request("GET", "/hello.txt", &["Content-Length: 200"]));
    let began = Instant::now();
    for _ in 0..200 {
        assert!(
            !client.is_answered_within(STEP),
            "answered before the body was over"
        );
        client.send("x");
    }
    assert!(
        began.elapsed() > Duration::from_secs(2),
        "longer than one period"
    );
    assert_eq!(client.response().body, HELLO);
}

fn idle_connections(io: Io) {
    let tree = Tree::new();
    let server = Server::serve(
        io,
        &tree.root(),
        &["--idle-timeout", "400ms", "--head-deadline", "60s"],
    );
    let (mut silent, mut used) = (server.connect(), server.connect());
    let mut busy = server.connect();
    assert_eq!(used.get("/hello.txt").body, HELLO);
    let began = Instant::now();
    // Used again and again, a connection lives longer than that.
    while began.elapsed() < Duration::from_millis(1200) {
        assert_eq!(busy.get("/hello.txt").body, HELLO);
        busy.is_answered_within(STEP);
    }
    // These ended while it was used: there is nothing to wait for.
    let began = Instant::now();
    silent.expect_end();
    used.expect_end();
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    // And it wasn't at once.
    let mut young = server.connect();
    assert!(!young.is_answered_within(Duration::from_millis(100)));
    young.expect_end();
}

fn readers_that_stop(io: Io) {
    let tree = Tree::new();
    tree.write("large.bin", content(1, 32 << 20));
    tree.write("kept.bin", content(2, 200 << 10));
    let flags = [
        "--write-stall-timeout",
        "700ms",
        "--cache-file-bytes",
        "256KiB",
    ];
    let server = Server::serve(io, &tree.root(), &flags);
    assert_eq!(server.get("/hello.txt").body, HELLO);
    assert_eq!(server.get("/kept.bin").body.len(), 200 << 10);
    let (descriptors, memory) = (server.descriptors(), server.resident_kib());
    let mut stuck: Vec<Client> = (0..60).map(|_| thin_client(&server)).collect();
    for (index, client) in stuck.iter_mut().enumerate() {
        // Some by sendfile, some from memory, each more than the sockets' buffers hold.
        match index % 2 {
            0 => client.send(request("GET", "/large.bin", &[])),
            _ => client.send(request("GET", "/kept.bin", &[]).repeat(200)),
        }
    }
    let mut other = server.connect();
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(500) {
        assert_eq!(other.get("/hello.txt").body, HELLO);
    }
    let grown = server.resident_kib().saturating_sub(memory);
    assert!(
        grown < 32 << 10,
        "{grown} KiB more for 60 clients that don't read"
    );
    eventually("they are cut", || {
        assert_eq!(other.get("/hello.txt").body, HELLO);
        // Each of the two workers keeps the large file open.
        (server.descriptors() <= descriptors + 3).then_some(())
    });
    // Nor does the kernel keep what nobody will read.
    eventually("their queues are empty", || {
        (server.queued_bytes() == 0).then_some(())
    });
    for client in &mut stuck {
        let length = client.expect_cut().len();
        assert!(length < 32 << 20, "the end of a cut body looks clean");
    }
    server.stop();
}

fn readers_that_are_slow(io: Io) {
    let tree = Tree::new();
    let whole = content(3, 12 << 20);
    tree.write("large.bin", &whole);
    let server = Server::serve(io, &tree.root(), &["--write-stall-timeout", "1s"]);
    let mut client = thin_client(&server);
    client.send(request("GET", "/large.bin", &[]));
    assert_eq!(client.head().status, 200);
    let began = Instant::now();
    let mut body = Vec::new();
    let mut clock = server.connect();
    while began.elapsed() < Duration::from_millis(2500) && body.len() < whole.len() / 2 {
        body.extend_from_slice(&client.sip(16 << 10).unwrap());
        clock.is_answered_within(STEP);
    }
    body.extend_from_slice(&client.take(whole.len() - body.len()));
    assert!(body == whole);
    assert_eq!(client.get("/hello.txt").body, HELLO);
}

/// The tool that these attacks are known by; it probes the server's availability itself.
fn slowhttptest(io: Io) {
    if !peers::has("slowhttptest") {
        return;
    }
    let tree = Tree::new();
    tree.write("large.bin", content(4, 8 << 20));
    let flags = [
        "--head-deadline",
        "1s",
        "--body-stall-timeout",
        "1s",
        "--write-stall-timeout",
        "1s",
    ];
    let server = Server::serve(io, &tree.root(), &flags);
    let before = server.descriptors();
    let url = |path: &str| format!("http://{}/{path}", server.address());
    let attacks: [(&[&str], String); 3] = [
        (&["-H", "-i", "1", "-x", "24"], url("hello.txt")),
        (
            &["-B", "-i", "1", "-s", "100000", "-x", "10"],
            url("hello.txt"),
        ),
        (
            &["-X", "-n", "1", "-y", "512", "-w", "256", "-z", "16"],
            url("large.bin"),
        ),
    ];
    std::thread::scope(|scope| {
        for (arguments, url) in &attacks {
            scope.spawn(move || {
                let mut command = Command::new("slowhttptest");
                command
                    .args(*arguments)
                    .args(["-c", "150", "-r", "150", "-l", "4", "-p", "3", "-u", url]);
                let output = peers::run(&mut command, Duration::from_secs(60));
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                let last = text.rfind("service available").map(|at| &text[at..]);
                assert!(
                    last.is_some_and(|text| text.lines().next().unwrap().contains("YES")),
                    "{text}"
                );
            });
        }
    });
    eventually("its descriptors are closed", || {
        // Each of the two workers keeps the large file open.
        (server.descriptors() <= before + 3).then_some(())
    });
    server.expect_alive("/hello.txt", HELLO);
    server.stop();
}
