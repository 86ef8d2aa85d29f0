//! What is ended or interrupted from outside: system calls by signals, connections by whoever
//! administers the machine.

use std::io::ErrorKind;
use std::process::Command;
use std::sync::mpsc;

use rustix::process::Signal;

use crate::client::{Client, request};
use crate::peers;
use crate::server::{Io, PATIENCE, Server, command, eventually, on_both_drivers, run_by};
use crate::slowness::thin_client;
use crate::tree::{HELLO, Tree, content};
use crate::upstream::{self, Upstream};

on_both_drivers!(
    interrupted_calls,
    connections_that_are_killed,
    answers_that_only_the_end_delimits,
    tunnels,
);

/// Calls that each driver waits and moves bytes with. `read` and `openat` aren't among them: the
/// loader, which begins the program, takes no EINTR.
fn calls(io: Io) -> &'static [&'static str] {
    match io {
        Io::Uring => &["io_uring_enter", "sendto", "sendmsg", "sendfile"],
        Io::Epoll | Io::Refused => &[
            "epoll_wait",
            "epoll_pwait",
            "epoll_pwait2",
            "accept4",
            "recvfrom",
            "recvmsg",
            "sendto",
            "sendmsg",
            "sendfile",
            "openat2",
        ],
    }
}

/// System calls fail with EINTR again and again.
fn interrupted_calls(io: Io) {
    if !peers::has("strace") {
        return;
    }
    let mut trial = Command::new("strace");
    trial.args(["-qq", "-o", "/dev/null", "true"]);
    if !peers::run(&mut trial, PATIENCE).status.success() {
        return peers::skip("strace may not trace here");
    }
    let tree = Tree::new();
    let large = content(6, 2 << 20);
    tree.write("large.bin", &large);
    let inner = command(io, &tree.root(), &["--cache-bytes", "0"]);
    let trace = format!("trace={}", calls(io).join(","));
    // `-D`: the server itself is the child, so that signals reach it.
    let mut arguments = vec!["-D", "-f", "-qq", "-o", "/dev/null", "-e", &trace];
    let injections: Vec<String> = calls(io)
        .iter()
        .map(|call| format!("inject={call}:error=EINTR:when=2+3"))
        .collect();
    for injection in &injections {
        arguments.extend(["-e", injection]);
    }
    let server = Server::start(run_by("strace", &arguments, &inner));
    for _ in 0..10 {
        server.expect_alive("/hello.txt", HELLO);
        server.expect_alive("/large.bin", &large);
        let mut client = server.connect();
        client.send(request("GET", "/hello.txt", &[]).repeat(20));
        for _ in 0..20 {
            assert_eq!(client.response().body, HELLO);
        }
    }
    server.stop();
}

/// `ss -K` ends the server's side of connections, whatever they are at: those alone are lost.
fn connections_that_are_killed(io: Io) {
    if !peers::is_root() || !peers::has("ss") {
        return;
    }
    let tree = Tree::new();
    tree.write("large.bin", content(8, 12 << 20));
    let server = Server::serve(io, &tree.root(), &[]);
    server.expect_alive("/hello.txt", HELLO);
    let before = server.descriptors();
    for _ in 0..3 {
        let mut clients: Vec<Client> = (0..16).map(|_| thin_client(&server)).collect();
        for (index, client) in clients.iter_mut().enumerate() {
            // Idle, in the middle of a head, of a body, and of an answer.
            assert_eq!(client.get("/hello.txt").body, HELLO);
            match index % 4 {
                0 => {}
                1 => client.send("GET /hello.txt HT"),
                2 => client.send(request("GET", "/hello.txt", &["Content-Length: 100"])),
                _ => {
                    client.send(request("GET", "/large.bin", &[]));
                    assert_eq!(client.head().status, 200);
                }
            }
        }
        let port = format!(":{}", server.address().port());
        let mut kill = Command::new("ss");
        kill.args(["-K", "state", "established", "sport", "=", &port]);
        let killed = String::from_utf8(peers::run(&mut kill, PATIENCE).stdout).unwrap();
        // It shows what it has killed.
        if !killed.contains(&port) {
            return peers::skip("this kernel lets nobody kill connections");
        }
        for client in &mut clients {
            client.expect_cut();
        }
        server.expect_alive("/hello.txt", HELLO);
    }
    eventually("its descriptors are closed", || {
        // Each of the two workers may have kept the large file open.
        (server.descriptors() <= before + 2).then_some(())
    });
    server.stop();
}

/// What ends a server while it answers.
#[derive(Clone, Copy, Debug)]
enum Blow {
    /// A drain whose time is up.
    Term,
    SecondSignal,
    Kill,
    Panic,
}

/// HTTP/1.0 takes the end of the connection for the end of the content, so it must not be told of one
/// that is none, whatever it is that cuts it off.
fn answers_that_only_the_end_delimits(io: Io) {
    let blows = Blow::all();
    for head in [
        "Transfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
        "\r\npart",
    ] {
        for blow in &blows {
            check_cut_by(io, *blow, head);
        }
    }
}

/// A server that says the beginning of its answer, and no more.
fn check_cut_by(io: Io, blow: Blow, head: &str) {
    let answer = format!("HTTP/1.1 200 OK\r\n{head}");
    let upstream = Upstream::start(move |mut peer| {
        if peer.request().is_some() {
            peer.send(&answer);
            peer.wait_for_end();
        }
    });
    let server = interruptible(io, &upstream);
    let mut client = server.connect();
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.head().status, 200);
    assert_eq!(client.take(4), b"part");
    blow.fall_on(&server);
    let end = client.rest().map_err(|error| error.kind());
    assert_eq!(end, Err(ErrorKind::ConnectionReset), "{blow:?}");
}

/// A tunnel ends where its ends say so: neither side may take another end for that.
fn tunnels(io: Io) {
    for blow in Blow::all() {
        let (told, ends) = mpsc::channel();
        let upstream = Upstream::start(move |mut peer| {
            let request = peer.request();
            // What makes a worker panic may get here, too.
            if request.is_some_and(|request| request.head.contains("Upgrade: x")) {
                peer.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n");
                peer.send("Upgrade: x\r\n\r\npart");
                let _ = told.send(peer.end());
            }
        });
        let server = interruptible(io, &upstream);
        let mut client = server.connect();
        let upgrade = ["Connection: upgrade", "Upgrade: x"];
        client.send(request("GET", "/", &upgrade));
        assert_eq!(client.head().status, 101);
        assert_eq!(client.take(4), b"part");
        blow.fall_on(&server);
        let end = client.rest().map_err(|error| error.kind());
        assert_eq!(end, Err(ErrorKind::ConnectionReset), "{blow:?}");
        let end = ends.recv_timeout(PATIENCE).expect("the other side's end");
        assert_eq!(end, Err(ErrorKind::ConnectionReset), "{blow:?}");
    }
}

/// A proxy of one worker, which can be told to panic where that is built in.
fn interruptible(io: Io, upstream: &Upstream) -> Server {
    let config = upstream::config(&[upstream.address().to_string()], "");
    let config = format!("shutdown_timeout = \"500ms\"\n{config}");
    let (mut command, _folder) = upstream::command(io, 1, &config);
    if cfg!(debug_assertions) {
        command.args(["--inject-panic", "/fault"]);
    }
    Server::start(command)
}

impl Blow {
    /// All that this build knows.
    fn all() -> Vec<Blow> {
        let mut blows = vec![Blow::Term, Blow::SecondSignal, Blow::Kill];
        match cfg!(debug_assertions) {
            true => blows.push(Blow::Panic),
            false => peers::skip("a release build has no --inject-panic"),
        }
        blows
    }

    fn fall_on(self, server: &Server) {
        match self {
            Blow::Term => server.signal(Signal::TERM),
            Blow::SecondSignal => {
                server.signal(Signal::TERM);
                eventually("it is ending", || {
                    server.errors().contains("ending").then_some(())
                });
                server.signal(Signal::TERM);
            }
            Blow::Kill => server.signal(Signal::KILL),
            Blow::Panic => server.connect().send(request("GET", "/fault/worker", &[])),
        }
    }
}
