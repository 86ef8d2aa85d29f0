//! Requests through the proxy to servers that do as they should: what each side gets, byte for
//! byte, and which connections are used again.

use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use crate::backend::expect_event;
use crate::client::{Client, request};
use crate::server::{Io, Server, eventually, on_both_drivers};
use crate::upstream::{self, Upstream, proxy};

on_both_drivers!(
    answers_and_connections_that_persist,
    pipelined_requests,
    bodies_of_requests,
    bodies_of_responses,
    old_clients,
    long_chunks_for_old_clients,
    heads_without_content,
    interim_answers,
    leave_to_send,
    early_answers,
    early_answers_before_a_reset,
    events_without_delay,
    trailers,
    tunnels,
    refused_upgrades,
    unix_sockets,
    ipv6_on_both_sides,
    dead_servers,
    dead_connections,
    least_connections,
    sticky_cookies,
    full_pools,
    last_hops,
);

/// Content that is nowhere like itself.
fn content(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..bytes).map(next).collect()
}

fn ok(body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// Content in chunks of these sizes, in turns.
fn chunked(content: &[u8], sizes: &[usize]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), content);
    for size in sizes.iter().cycle() {
        let (chunk, more) = rest.split_at((*size).min(rest.len()));
        if chunk.is_empty() {
            break;
        }
        write!(out, "{:x}\r\n", chunk.len()).unwrap();
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
        rest = more;
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

fn answers_and_connections_that_persist(io: Io) {
    let upstream = Upstream::echoing();
    let (command, _folder) = upstream::command(
        io,
        1,
        &upstream::config(&[upstream.address().to_string()], ""),
    );
    let server = Server::start(command);
    let mut client = server.connect();
    for target in ["/a", "/b?c=d", "/x/%2e/../e"] {
        let response = client.ask_through(&request("GET", target, &["X-A: b"]));
        assert_eq!(response.status, 200);
        let head = String::from_utf8(response.body).unwrap();
        let expect = format!(
            "GET {target} HTTP/1.1\r\nHost: test\r\nX-A: b\r\nX-Forwarded-For: 127.0.0.1\r\n\
             X-Forwarded-Proto: http\r\nX-Forwarded-Host: test\n\n"
        );
        assert_eq!(head, expect);
    }
    for _ in 0..20 {
        assert_eq!(server.get("/").status, 200);
    }
    assert_eq!(upstream.accepted(), 1, "its connection is used again");
    server.stop();
}

fn pipelined_requests(io: Io) {
    let upstream = Upstream::echoing();
    let server = proxy(io, &upstream, "");
    let mut client = server.connect();
    let post = "POST /1 HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody";
    let chunks = "PUT /2 HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n\
                  3\r\nabc\r\n0\r\n\r\n";
    client.send(format!(
        "{}{post}{}{chunks}{}",
        request("GET", "/0", &[]),
        request("HEAD", "/h", &[]),
        request("GET", "/3", &["Connection: close"])
    ));
    for (method, line, body) in [
        ("GET", "GET /0 ", ""),
        ("POST", "POST /1 ", "body"),
        ("HEAD", "", ""),
        ("PUT", "PUT /2 ", "abc"),
        ("GET", "GET /3 ", ""),
    ] {
        let response = client.passed_response_to(method);
        let text = String::from_utf8(response.body).unwrap();
        assert!(
            text.starts_with(line) && text.ends_with(body),
            "{line}: {text}"
        );
    }
    client.expect_end();
}

/// Bodies beyond the default limit are let through.
const LARGE_BODIES: &str = "[limits]\nbody_bytes = \"8MiB\"";

fn bodies_of_requests(io: Io) {
    let upstream = Upstream::echoing();
    let server = proxy(io, &upstream, LARGE_BODIES);
    let mut client = server.connect();
    for bytes in [1, 100, 4_096, 65_535, 65_536, 70_000, 1 << 20, 5 << 20] {
        let body = content(bytes);
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {bytes}\r\n\r\n"
        ));
        client.send(&body);
        let response = client.passed_response_to("POST");
        assert!(response.body.ends_with(&body), "{bytes} bytes");
        client.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send(chunked(&body, &[1, 1_000, 7, 100_000, 16]));
        let response = client.passed_response_to("POST");
        assert!(response.body.ends_with(&body), "{bytes} bytes in chunks");
    }
    server.stop();
}

fn bodies_of_responses(io: Io) {
    let upstream = Upstream::start(|mut peer| {
        while let Some(request) = peer.request() {
            let mut path = request.head.split(' ').nth(1).unwrap()[1..].split('/');
            let (kind, bytes) = (path.next().unwrap(), path.next().unwrap());
            let body = content(bytes.parse().unwrap());
            match kind {
                "sized" => peer.send(ok(&body)),
                "chunked" => {
                    peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                    peer.send(chunked(&body, &[3, 70_000, 1, 20]));
                }
                _ => {
                    peer.send("HTTP/1.1 200 OK\r\n\r\n");
                    peer.send(&body);
                    peer.finish_sending();
                    return peer.wait_for_end();
                }
            }
        }
    });
    for splice in [true, false] {
        let server = proxy(io, &upstream, &format!("splice = {splice}"));
        let mut client = server.connect();
        for bytes in [
            0,
            1,
            1_000,
            16_384,
            65_535,
            65_536,
            65_537,
            200_000,
            3 << 20,
            20 << 20,
        ] {
            for kind in ["sized", "chunked", "until-close"] {
                // Chunks are made one by one in a build without optimisation.
                if bytes > 4 << 20 && kind != "sized" {
                    continue;
                }
                let target = format!("/{kind}/{bytes}");
                let response = client.ask_through(&request("GET", &target, &[]));
                assert!(response.body == content(bytes), "{target}");
                assert_eq!(response.field("Content-Length").is_some(), kind == "sized");
            }
        }
        server.stop();
    }
}

fn old_clients(io: Io) {
    let body = content(100_000);
    let chunks = chunked(&body, &[1, 30_000]);
    let answer = [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        &chunks[..],
    ]
    .concat();
    let upstream = Upstream::answering(answer);
    let server = proxy(io, &upstream, "");
    let mut client = server.connect();
    client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let response = client.passed_response_to("GET");
    assert_eq!(response.field("Transfer-Encoding"), None);
    assert_eq!(
        response.field("Connection"),
        None,
        "it ends with the connection"
    );
    assert!(response.body == body);
    let upstream = Upstream::answering(ok(b"abc"));
    let server = proxy(io, &upstream, "");
    let mut client = server.connect();
    for _ in 0..2 {
        client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let response = client.passed_response_to("GET");
        assert_eq!(response.field("Connection"), Some("keep-alive"));
        assert_eq!(response.body, b"abc");
    }
}

/// A chunk is under way when all that was received has been passed on: what is left of the chunk isn't
/// what is left of the content, however much it is.
fn long_chunks_for_old_clients(io: Io) {
    let (go_on, went_on) = mpsc::channel::<()>();
    let went_on = Mutex::new(went_on);
    let upstream = Upstream::start(move |mut peer| {
        while let Some(request) = peer.request() {
            let length = request.head.split(' ').nth(1).unwrap()[1..].parse();
            let body = content(length.unwrap());
            let chunks = chunked(&body, &[body.len() / 2]);
            let begun = chunks.iter().position(|&byte| byte == b'\n').unwrap() + 2;
            peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            peer.send(&chunks[..begun]);
            went_on.lock().unwrap().recv().unwrap();
            peer.send(&chunks[begun..]);
        }
    });
    let servers = [upstream.address().to_string()];
    let (command, _folder) = upstream::command(io, 1, &upstream::config(&servers, ""));
    let server = Server::start(command);
    for length in [65_535, 65_536, 65_537, 70_000, 200_000].map(|chunk| 2 * chunk) {
        let mut client = server.connect();
        client.send(format!("GET /{length} HTTP/1.0\r\n\r\n"));
        assert_eq!(client.head().status, 200);
        let mut body = client.take(1);
        go_on.send(()).unwrap();
        body.extend(client.rest().unwrap());
        assert!(body == content(length), "{length}: {} bytes", body.len());
    }
    // None of them was left half read for whoever came next.
    assert_eq!(upstream.accepted(), 1);
}

fn heads_without_content(io: Io) {
    let upstream = Upstream::start(|mut peer| {
        while let Some(request) = peer.request() {
            let status = request.head.split(' ').nth(1).unwrap()[1..].to_owned();
            peer.send(format!(
                "HTTP/1.1 {status} X\r\nETag: \"a\"\r\nContent-Length: 7\r\n\r\n"
            ));
        }
    });
    let server = proxy(io, &upstream, "");
    let mut client = server.connect();
    for (method, status, length) in [
        ("HEAD", 200, Some("7")),
        ("GET", 204, None),
        ("GET", 304, Some("7")),
        ("HEAD", 404, Some("7")),
    ] {
        let response = client.ask_through(&request(method, &format!("/{status}"), &[]));
        assert_eq!(response.status, status);
        assert_eq!(
            response.field("Content-Length"),
            length,
            "{method} {status}"
        );
        assert_eq!(response.field("ETag"), Some("\"a\""));
    }
    assert!(!client.has_input());
}

fn interim_answers(io: Io) {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n";
    let upstream = Upstream::answering(format!(
        "HTTP/1.1 100 Continue\r\n\r\n{hints}HTTP/1.1 102 Processing\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"
    ));
    let server = proxy(io, &upstream, "");
    let mut client = server.connect();
    client.send(request("GET", "/", &[]));
    let first = client.head();
    assert_eq!((first.status, first.field("Link")), (103, Some("</a.css>")));
    assert_eq!(client.head().status, 102);
    assert_eq!(client.response().body, b"a");
    // HTTP/1.0 knows none (RFC 9110 §15.2).
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.head().status, 200);
}

fn leave_to_send(io: Io) {
    let upstream = Upstream::start(|mut peer| {
        while let Some(head) = peer.head() {
            assert!(head.contains("\r\nExpect: 100-continue"), "{head}");
            if head.starts_with("PUT /no") {
                peer.send("HTTP/1.1 413 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                return;
            }
            peer.send("HTTP/1.1 100 Continue\r\n\r\n");
            let body = peer.take(70_000).unwrap();
            peer.send(ok(&body));
        }
    });
    let server = proxy(io, &upstream, "");
    let mut client = server.connect();
    let fields = "Host: h\r\nExpect: 100-continue\r\nContent-Length: 70000\r\n\r\n";
    for _ in 0..2 {
        client.send(format!("PUT /yes HTTP/1.1\r\n{fields}"));
        assert_eq!(client.head().status, 100);
        let body = content(70_000);
        client.send(&body);
        assert!(client.response().body == body);
    }
    client.send(format!("PUT /no HTTP/1.1\r\n{fields}"));
    let refused = client.response();
    assert_eq!(refused.status, 413);
    assert!(refused.closes(), "nobody knows whether the body comes");
    client.expect_end();
}

fn early_answers(io: Io) {
    let upstream = Upstream::start(|mut peer| {
        if peer.head().is_none() {
            return;
        }
        peer.send("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig");
        peer.finish_sending();
        // As a server that lingers (RFC 9112 §9.6): a reset could overtake its answer.
        peer.wait_for_end();
    });
    let server = proxy(io, &upstream, LARGE_BODIES);
    for _ in 0..5 {
        let mut client = server.connect();
        client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5000000\r\n\r\n");
        let _ = client.try_send(content(200_000));
        let response = client.passed_response_to("POST");
        assert_eq!((response.status, &response.body[..]), (413, &b"big"[..]));
        assert!(response.closes());
    }
    server.stop();
}

/// As a server that doesn't linger: behind its answer and its end there is a reset, because bytes of
/// the request were left unread. What the client is to hear has come all the same.
fn early_answers_before_a_reset(io: Io) {
    let upstream = Upstream::start(|mut peer| {
        if peer.head().is_none() {
            return;
        }
        peer.send("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig");
        peer.finish_sending();
        let _ = peer.take(100_000);
    });
    let server = proxy(io, &upstream, LARGE_BODIES);
    for framing in ["Content-Length: 5000000", "Transfer-Encoding: chunked"] {
        let body = match framing {
            "Transfer-Encoding: chunked" => chunked(&content(1_000_000), &[60_000]),
            _ => content(200_000),
        };
        for _ in 0..20 {
            let mut client = server.connect();
            client.send(format!("POST / HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n"));
            let _ = client.try_send(&body);
            let response = client.passed_response_to("POST");
            assert_eq!((response.status, &response.body[..]), (413, &b"big"[..]));
        }
    }
    server.stop();
}

fn events_without_delay(io: Io) {
    let (next, events) = mpsc::channel::<()>();
    let events = Mutex::new(events);
    let upstream = Upstream::start(move |mut peer| {
        if peer.request().is_none() {
            return;
        }
        peer.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        // The next one only when the last one has been read.
        while events.lock().unwrap().recv().is_ok() {
            peer.send("a\r\ndata: 12\n\n\r\n");
        }
        peer.send("0\r\n\r\n");
    });
    let server = proxy(io, &upstream, "");
    let mut client = server.connect();
    client.send(request("GET", "/", &[]));
    assert_eq!(
        client.head().field("Content-Type"),
        Some("text/event-stream")
    );
    for _ in 0..5 {
        next.send(()).unwrap();
        assert_eq!(client.take(15), b"a\r\ndata: 12\n\n\r\n");
    }
    drop(next);
    assert_eq!(client.take(5), b"0\r\n\r\n");
}

fn trailers(io: Io) {
    let upstream = Upstream::start(|mut peer| {
        while let Some(request) = peer.request() {
            assert!(
                request.head.contains("\r\nTrailer: X-Sum"),
                "{}",
                request.head
            );
            assert!(
                request.head.contains("\r\nTE: trailers"),
                "{}",
                request.head
            );
            assert_eq!(
                request.trailers,
                ["X-Sum: 7"],
                "nothing but what may be one"
            );
            peer.send(
                "HTTP/1.1 200 OK\r\nTrailer: X-Out\r\nTransfer-Encoding: chunked\r\n\r\n\
                 1\r\na\r\n0\r\nX-Out: 8\r\nContent-Length: 3\r\n\r\n",
            );
        }
    });
    let server = proxy(io, &upstream, "");
    let mut client = server.connect();
    for _ in 0..2 {
        client.send(
            "POST / HTTP/1.1\r\nHost: h\r\nConnection: TE\r\nTE: trailers\r\nTrailer: X-Sum\r\n\
             Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX-Sum: 7\r\nHost: evil\r\n\r\n",
        );
        let response = client.passed_response_to("POST");
        assert_eq!(response.body, b"a");
        assert_eq!(response.field("X-Out"), Some("8"));
        assert_eq!(response.field("Content-Length"), None);
    }
}

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\n\
                       Upgrade: echo\r\nX-Key: k\r\n\r\n";

fn tunnels(io: Io) {
    let upstream = Upstream::start(|mut peer| {
        let Some(head) = peer.head() else { return };
        assert!(
            head.contains("\r\nConnection: Upgrade\r\nUpgrade: echo"),
            "{head}"
        );
        // The tunnel's first bytes come with the head.
        peer.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhello",
        );
        while let Some(bytes) = peer.take(5) {
            peer.send(bytes);
        }
        peer.send("bye");
    });
    let server = proxy(io, &upstream, "idle_connections = 0\nmax_connections = 1");
    let before = server.sockets();
    for _ in 0..3 {
        let mut client = server.connect();
        // So do the client's.
        client.send(format!("{UPGRADE}first"));
        let head = client.head();
        assert_eq!((head.status, head.field("Upgrade")), (101, Some("echo")));
        assert_eq!(client.take(10), b"hellofirst");
        for _ in 0..3 {
            client.send("again");
            assert_eq!(client.take(5), b"again");
        }
        let body = content(1 << 20);
        let mut sender = client.stream().try_clone().unwrap();
        let sent = body.clone();
        let sending = thread::spawn(move || sender.write_all(&sent[..sent.len() / 5 * 5]).unwrap());
        assert!(client.take(body.len() / 5 * 5) == body[..body.len() / 5 * 5]);
        sending.join().unwrap();
        client.finish_sending();
        assert_eq!(client.rest().unwrap(), b"bye");
    }
    // (Pipes are kept for the next tunnel.)
    eventually("nothing is left", || {
        (server.sockets() == before).then_some(())
    });
}

fn refused_upgrades(io: Io) {
    let upstream = Upstream::answering("HTTP/1.1 426 No\r\nContent-Length: 2\r\n\r\nno");
    let server = proxy(io, &upstream, "");
    let mut client = server.connect();
    for _ in 0..2 {
        client.send(UPGRADE);
        let response = client.response();
        assert_eq!((response.status, &response.body[..]), (426, &b"no"[..]));
    }
}

fn unix_sockets(io: Io) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let serving = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            std::io::Read::read_exact(&mut stream, &mut byte).unwrap();
            head.push(byte[0]);
        }
        stream.write_all(&ok(&head)).unwrap();
    });
    let server = upstream::run(
        io,
        &upstream::config(&[format!("unix:{}", path.display())], "host = \"upstream\""),
    );
    let head = String::from_utf8(server.get("/a").body).unwrap();
    assert!(
        head.starts_with("GET /a HTTP/1.1\r\nHost: localhost\r\n"),
        "{head}"
    );
    serving.join().unwrap();
}

fn ipv6_on_both_sides(io: Io) {
    let Ok(listener) = std::net::TcpListener::bind("[::1]:0") else {
        return crate::peers::skip("there is no IPv6");
    };
    let upstream = Upstream::start_on(listener, |mut peer| {
        while let Some(request) = peer.request() {
            peer.send(ok(request.head.as_bytes()));
        }
    });
    let servers = [upstream.address().to_string()];
    let keys = "host = \"upstream\"\nforwarded = \"both\"";
    let config = upstream::config(&servers, keys).replace("127.0.0.1:0", "[::1]:0");
    let server = upstream::run(io, &config);
    assert!(server.address().is_ipv6());
    let head = String::from_utf8(server.get("/a").body).unwrap();
    for line in [
        &*format!("Host: {}", servers[0]),
        "X-Forwarded-For: ::1",
        "Forwarded: for=\"[::1]\";host=\"test\";proto=http",
    ] {
        assert!(head.lines().any(|other| other == line), "{line}: {head}");
    }
}

/// An address that nobody listens on.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

fn dead_servers(io: Io) {
    let upstream = Upstream::echoing();
    let servers = [nobody(), upstream.address().to_string()];
    let server = upstream::run(io, &upstream::config(&servers, "balance = \"round_robin\""));
    for _ in 0..20 {
        assert_eq!(server.get("/").status, 200);
        // Nothing had left, so that this can't be done twice.
        let mut client = server.connect();
        client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc");
        assert!(client.passed_response_to("POST").body.ends_with(b"\n\nabc"));
    }
    // Clients notice nothing: the log tells, of the server that fails and not of the other.
    expect_event(&server, &["a server fails", &servers[0], "count=1"]);
    assert!(!server.errors().contains(&servers[1]));
    let server = upstream::run(io, &upstream::config(&[nobody(), nobody()], ""));
    let mut client = server.connect();
    for _ in 0..3 {
        assert_eq!(client.get("/").status, 502, "and the connection goes on");
    }
}

/// A server that closes every connection after its first answer, without saying so.
fn dead_connections(io: Io) {
    let upstream = Upstream::start(|mut peer| {
        if peer.request().is_some() {
            peer.send(ok(b"a"));
        }
    });
    let server = proxy(io, &upstream, "retries = 0");
    let mut client = server.connect();
    for _ in 0..30 {
        assert_eq!(client.get("/").status, 200);
    }
}

fn least_connections(io: Io) {
    let (free, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let slow = Upstream::start(move |mut peer| {
        while peer.request().is_some() {
            let _ = held.lock().unwrap().recv();
            peer.send(ok(b"slow"));
        }
    });
    let fast = Upstream::answering(ok(b"fast"));
    let servers = [slow.address().to_string(), fast.address().to_string()];
    let config = upstream::config(&servers, "balance = \"least_connections\"");
    let (command, _folder) = upstream::command(io, 1, &config);
    let server = Server::start(command);
    let mut clients: Vec<Client> = Vec::new();
    // One request gets to the slow one, whichever it is; all others have to go past it.
    let mut waits = 0;
    for _ in 0..12 {
        let mut client = server.connect();
        client.send(request("GET", "/", &[]));
        if client.is_answered_within(Duration::from_millis(if waits == 0 { 300 } else { 5_000 })) {
            assert_eq!(client.response().body, b"fast");
        } else {
            waits += 1;
            clients.push(client);
        }
    }
    assert_eq!(waits, 1);
    drop(free);
    for mut client in clients {
        assert_eq!(client.response().body, b"slow");
    }
}

fn sticky_cookies(io: Io) {
    let servers: Vec<Upstream> = (0..3)
        .map(|n| Upstream::answering(ok(format!("{n}").as_bytes())))
        .collect();
    let addresses: Vec<String> = servers
        .iter()
        .map(|one| one.address().to_string())
        .collect();
    let keys = "sticky_cookie = \"at\"\nbalance = \"round_robin\"";
    let server = upstream::run(io, &upstream::config(&addresses, keys));
    for _ in 0..4 {
        let mut client = server.connect();
        let first = client.get("/");
        let cookie = first.field("Set-Cookie").expect("a cookie");
        assert!(
            cookie.starts_with("at=") && cookie.contains("HttpOnly"),
            "{cookie}"
        );
        let pair = cookie.split(';').next().unwrap();
        for _ in 0..5 {
            let mut other = server.connect();
            let line = format!("Cookie: a=b; {pair}");
            let response = other.ask(&request("GET", "/", &[&line]));
            assert_eq!(response.body, first.body, "the same server");
            assert_eq!(response.field("Set-Cookie"), None);
        }
    }
    let forged = server
        .connect()
        .ask(&request("GET", "/", &["Cookie: at=0"]));
    assert!(
        forged.field("Set-Cookie").is_some(),
        "what isn't ours binds to nobody"
    );
}

fn full_pools(io: Io) {
    let (free, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let upstream = Upstream::start(move |mut peer| {
        while let Some(request) = peer.request() {
            if request.head.starts_with("GET /hold") {
                let _ = held.lock().unwrap().recv();
            }
            peer.send(ok(b"a"));
        }
    });
    let keys = "max_connections = 1\nqueue = 1\nqueue_timeout = \"300ms\"";
    let (command, _folder) = upstream::command(
        io,
        1,
        &upstream::config(&[upstream.address().to_string()], keys),
    );
    let server = Server::start(command);
    let mut holder = server.connect();
    holder.send(request("GET", "/hold", &[]));
    eventually("it is asked", || (upstream.accepted() == 1).then_some(()));
    let mut waiter = server.connect();
    waiter.send(request("GET", "/", &[]));
    let waited = waiter.response();
    assert_eq!(
        (waited.status, waited.field("Retry-After")),
        (503, Some("1"))
    );
    eventually("it is said why", || {
        server.errors().contains("queue_timeout").then_some(())
    });
    // One waits, and one more can't.
    waiter.send(request("GET", "/", &[]));
    let statuses = [server.get("/").status, waiter.response().status];
    assert_eq!(statuses, [503, 503]);
    eventually("it is said why", || {
        server.errors().contains("queue_full").then_some(())
    });
    waiter.send(request("GET", "/", &[]));
    free.send(()).unwrap();
    assert_eq!(
        (holder.response().status, waiter.response().status),
        (200, 200)
    );
    assert_eq!(upstream.accepted(), 1);
}

fn last_hops(io: Io) {
    let upstream = Upstream::echoing();
    let server = proxy(io, &upstream, "");
    let mut client = server.connect();
    let here = client.ask_through(&request("OPTIONS", "/", &["Max-Forwards: 0"]));
    assert_eq!(here.status, 204);
    let there = client.ask_through(&request("OPTIONS", "/", &["Max-Forwards: 3"]));
    let head = String::from_utf8(there.body).unwrap();
    assert!(head.contains("\r\nMax-Forwards: 2"), "{head}");
    assert_eq!(
        client
            .ask_through(&request("TRACE", "/", &["Max-Forwards: 0"]))
            .status,
        405
    );
    assert_eq!(
        client
            .ask_through("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")
            .status,
        405
    );
}
