//! The proxy under attack: servers that are killed, a crowd before a dead server, requests that are to
//! write fields of others' into what a server or a client gets.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use crate::client::{Client, request};
use crate::server::{Io, Server, command_on, eventually, on_both_drivers};
use crate::tree::{HELLO, Tree};
use crate::upstream::{self, Upstream};

on_both_drivers!(
    a_server_is_killed_in_the_middle,
    servers_are_killed_under_load,
    a_crowd_before_a_dead_server,
    injection,
);

/// A part isn't taken for the whole, the others go on, and what is asked next is served by who is left.
fn a_server_is_killed_in_the_middle(io: Io) {
    let tree = Tree::new();
    let large = std::fs::File::create(tree.path("large.bin")).unwrap();
    large.set_len(64 << 20).unwrap();
    let victim = Server::serve(io, &tree.root(), &[]);
    let servers = [victim.address().to_string()];
    let survivor = Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood");
    let backup = format!("{} backup", survivor.address());
    let keys = "failures = 1\nmax_ejected = 100\nconnect_timeout = \"2s\"";
    let server = upstream::run(
        io,
        &upstream::config(&[&servers[..], &[backup]].concat(), keys),
    );
    let sockets = server.sockets();
    let mut clients: Vec<Client> = (0..8).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(request("GET", "/large.bin", &[]));
        let head = client.head();
        assert_eq!(
            (head.status, head.field("Content-Length")),
            (200, Some("67108864"))
        );
    }
    victim.kill();
    for client in &mut clients {
        assert!(client.rest().is_err(), "a cut is no end");
    }
    drop(clients);
    // Nothing has been sent where no connection can be made: all go on to who is left.
    for _ in 0..20 {
        assert_eq!(server.get("/hello.txt").body, b"good");
    }
    eventually("its sockets are closed", || {
        // One idle connection to who is left for each worker.
        (server.sockets() <= sockets + 2).then_some(())
    });
    server.stop();
    let alone = Server::serve(io, &tree.root(), &[]);
    alone.expect_alive("/hello.txt", HELLO);
}

/// What each of the two servers calls itself.
const NAMES: [&[u8]; 2] = [b"the one", b"the other"];

/// One of two servers is killed again and again while clients ask. What was under way there is asked of
/// the other one: no client sees any of it.
fn servers_are_killed_under_load(io: Io) {
    let trees = NAMES.map(|name| {
        let tree = Tree::new();
        tree.write("name.txt", name);
        tree
    });
    let mut servers = trees
        .each_ref()
        .map(|tree| Some(Server::serve(io, &tree.root(), &[])));
    let addresses = servers.each_ref().map(|server| {
        let server = server.as_ref().expect("both are there");
        server.address().to_string()
    });
    let keys = "balance = \"round_robin\"\nretries = 3\nretry_budget = 100\nfailures = 1\n\
                max_ejected = 50\nejection_time = \"100ms\"";
    let proxy = upstream::run(io, &upstream::config(&addresses, keys));
    let (stop, answers) = (AtomicBool::new(false), [const { AtomicUsize::new(0) }; 2]);
    let ask = || {
        let mut client = proxy.connect();
        while !stop.load(Ordering::Relaxed) {
            let response = client.get("/name.txt");
            assert_eq!(response.status, 200);
            let who = NAMES.iter().position(|name| response.body == *name);
            answers[who.expect("one of the two")].fetch_add(1, Ordering::Relaxed);
        }
    };
    let has_answered = |who: usize, what: &str| {
        let before = answers[who].load(Ordering::Relaxed);
        eventually(what, || {
            (answers[who].load(Ordering::Relaxed) >= before + 20).then_some(())
        });
    };
    std::thread::scope(|scope| {
        let clients = [(); 4].map(|()| scope.spawn(ask));
        let killing = scope.spawn(|| {
            for round in 0..10 {
                let (victim, other) = (round % 2, (round + 1) % 2);
                has_answered(victim, "it is asked before it is killed");
                servers[victim].take().expect("it is there").kill();
                has_answered(other, "the other one goes on");
                let root = trees[victim].root();
                let again = command_on(io, &root, &addresses[victim], &[]);
                servers[victim] = Some(Server::start(again));
                has_answered(victim, "it is asked again");
            }
        });
        let killed = killing.join();
        stop.store(true, Ordering::Relaxed);
        killed.expect("every one comes back");
        for client in clients {
            client.join().expect("no client sees any of it");
        }
    });
    proxy.stop();
}

/// The port of nobody.
fn dead() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

const CLIENTS: usize = 1_000;

/// A third of all begin at a server that refuses. Each goes on to another one, as far as the budget
/// goes; none is tried without end, and soon nobody is sent there any more.
fn a_crowd_before_a_dead_server(io: Io) {
    let asked = Arc::new(AtomicUsize::new(0));
    let (open, is_open) = mpsc::channel::<()>();
    let gate = Arc::new(std::sync::Mutex::new(is_open));
    let serve = || {
        let (asked, gate) = (Arc::clone(&asked), Arc::clone(&gate));
        Upstream::start(move |mut peer| {
            while peer.request().is_some() {
                if asked.fetch_add(1, Ordering::AcqRel) == 0 {
                    // So that the crowd is one.
                    let _ = gate.lock().unwrap().recv();
                }
                peer.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood");
            }
        })
    };
    let (one, other) = (serve(), serve());
    let servers = [
        dead(),
        one.address().to_string(),
        other.address().to_string(),
    ];
    let keys = "balance = \"round_robin\"\nretries = 2\nretry_budget = 20\nmax_connections = 64\n\
                queue = 2000\nejection_time = \"60s\"\n[log]\naccess = \"-\"\n\
                access_format = '> $upstream_attempts \"$request\"'";
    let server = upstream::run(io, &upstream::config(&servers, keys));
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(request("GET", "/crowd", &[]));
    }
    open.send(()).unwrap();
    let mut failed = 0;
    for client in &mut clients {
        match client.response().status {
            200 => {}
            502 => failed += 1,
            status => panic!("{status}"),
        }
    }
    let asked = asked.load(Ordering::Acquire);
    assert_eq!(asked, CLIENTS - failed, "no request was answered twice");
    // From now on nobody is sent to the dead one.
    for client in clients.iter_mut().take(200) {
        assert_eq!(client.get("/later").status, 200);
    }
    drop(clients);
    let output = server.stop().stdout;
    let attempts = |path: &str| -> Vec<usize> {
        let lines = output.lines().filter(|line| line.contains(path));
        let counts = lines.filter_map(|line| line.strip_prefix("> ")?.split(' ').next());
        counts.map(|count| count.parse().unwrap()).collect()
    };
    let (crowd, later) = (attempts(" /crowd "), attempts(" /later "));
    assert_eq!(crowd.len(), CLIENTS);
    let retries: usize = crowd.iter().map(|attempts| attempts - 1).sum();
    // A fifth of the requests, and three in each of ten seconds for each of two workers.
    let allowed = CLIENTS / 5 + 2 * 3 * 10;
    assert!(retries <= allowed, "{retries} retries of {allowed}");
    assert!(crowd.iter().all(|attempts| *attempts <= 3));
    assert_eq!(later, [1].repeat(200), "the dead one is still asked");
}

const INJECTION: &str = r#"
[listen.main]
address = "127.0.0.1:0"
[[route]]
path = "/redirect/*"
redirect = "http://{host}{path}"
status = 302
response_headers = "X-Seen: {path}{query}"
[[route]]
path = "/*"
proxy = "app"
strip_prefix = "/strip"
request_headers = ["X-Path: {path}", "X-Query: {query}", "X-Method: {method}", "X-Host: {host}"]
response_headers = ["X-Seen: {path}{query} {method} {host}"]
"#;

/// What a request says gets into fields only as what it is: a value within its line.
fn injection(io: Io) {
    let upstream = Upstream::echoing();
    let config = format!(
        "{INJECTION}[upstream.app]\nservers = \"{}\"\nforwarded = \"both\"\n",
        upstream.address()
    );
    let server = upstream::run(io, &config);
    let targets = [
        "/strip/%0d%0aX-Evil:%201",
        "/strip/%0D%0A%0D%0AGET%20/evil%20HTTP/1.1%0D%0A",
        "/%0aX-Evil:1",
        "/%0dX-Evil:1",
        "/a?b=%0d%0aX-Evil:1",
        "/a?\"};X-Evil:1",
        "/%e5%98%8a%e5%98%8dX-Evil:1",
        "/redirect/%0d%0aX-Evil:%201",
        "/redirect/?%0d%0aX-Evil:%201",
        "/{host}/{client_ip}",
        "/a%7f%1b%5b2J",
    ];
    for target in targets {
        let mut client = server.connect();
        let response = client.ask_through(&request("GET", target, &["X-A: b"]));
        assert!(
            matches!(response.status, 200 | 302),
            "{target}: {}",
            response.status
        );
        let lasting = response.lasting_fields();
        let names: BTreeSet<&str> = lasting.iter().map(|(name, _)| name.as_str()).collect();
        let allowed = [
            "Content-Length",
            "Content-Type",
            "Location",
            "X-Seen",
            "Server",
        ];
        assert!(
            names.iter().all(|name| allowed.contains(name)),
            "{target}: {names:?}"
        );
        let head = String::from_utf8(response.body).unwrap();
        if response.status == 200 {
            expect_own_fields(target, head.trim_end());
        }
        // The connection is where it should be.
        assert_eq!(client.ask_through(&request("GET", "/", &[])).status, 200);
    }
    // Those that a host may have (RFC 3986 §3.2.2) stay within its quotes.
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a;proto=https\r\n\r\n");
    let echoed = String::from_utf8(client.response().body).unwrap();
    let told = "\r\nForwarded: for=127.0.0.1;host=\"a;proto=https\";proto=http";
    assert!(echoed.contains(told), "{echoed}");
    for host in ["test\r\n X-Evil: 1", "a\"b", "a, for=10.0.0.1", "a\u{b}b"] {
        let mut client = server.connect();
        client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(client.passed_response_to("GET").status, 400, "{host:?}");
        client.expect_end();
    }
}

/// That these are the fields of a request, and each on one line.
#[track_caller]
fn expect_own_fields(target: &str, head: &str) {
    let mut names: Vec<&str> = head
        .split("\r\n")
        .skip(1)
        .map(|line| line.split(':').next().unwrap())
        .collect();
    names.sort_unstable();
    let expect = [
        "Forwarded",
        "Host",
        "X-A",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Host",
        "X-Method",
        "X-Path",
        "X-Query",
    ];
    assert_eq!(names, expect, "{target}: {head}");
    assert!(
        !head.contains(char::is_control) || !head.replace("\r\n", "").contains(char::is_control)
    );
}
