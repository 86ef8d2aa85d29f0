//! The proxy on bad lines: packets are lost, the line is narrow, packets are small, one direction is
//! dead, and no local port is left.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;
use rustix::net::{bind, connect};

use crate::client::{Client, ipv4_socket, request};
use crate::network::{drop_packets, in_own_network, mend, set};
use crate::server::{Io, Server, eventually, on_both_drivers};
use crate::tree::content;
use crate::upstream::{self, Upstream, proxy};

on_both_drivers!(
    lost_packets,
    a_narrow_line_of_small_packets,
    answers_that_are_lost,
    requests_that_are_lost,
    connections_that_are_never_made,
    no_local_ports,
);

const LARGE_BYTES: usize = 400_000;

/// Answers with the content of `/large`, or with the length of what was sent.
fn measuring() -> Upstream {
    Upstream::start(|mut peer| {
        while let Some(request) = peer.request() {
            let body = if request.head.starts_with("GET /large") {
                content(7, LARGE_BYTES)
            } else {
                assert!(request.body == content(8, request.body.len()));
                request.body.len().to_string().into_bytes()
            };
            peer.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                body.len()
            ));
            peer.send(body);
        }
    })
}

/// Small requests, and a large body each way: exact, whatever the line.
#[track_caller]
fn expect_exact(server: &Server) {
    let mut client = server.connect();
    for _ in 0..5 {
        assert_eq!(client.get("/").body, b"0");
    }
    assert!(client.get("/large").body == content(7, LARGE_BYTES));
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {LARGE_BYTES}\r\n\r\n"
    ));
    client.send(content(8, LARGE_BYTES));
    assert_eq!(client.response().body, LARGE_BYTES.to_string().into_bytes());
}

fn lost_packets(io: Io) {
    in_own_network(|| {
        let upstream = measuring();
        let server = proxy(io, &upstream, "");
        // Each direction of each connection, handshakes and ends included.
        drop_packets("tcp dport 1-65535 numgen inc mod 12 == 0");
        for _ in 0..2 {
            expect_exact(&server);
        }
        mend();
        expect_exact(&server);
        server.stop();
    });
}

fn a_narrow_line_of_small_packets(io: Io) {
    in_own_network(|| {
        let upstream = measuring();
        let server = proxy(io, &upstream, "");
        set("ip link set lo mtu 576");
        set("tc qdisc add dev lo root tbf rate 12mbit burst 8kb latency 100ms");
        expect_exact(&server);
        set("tc qdisc del dev lo root");
        server.stop();
    });
}

/// A proxy before a server whose deadlines are short, and the port of that.
fn hasty(io: Io) -> (Upstream, Server, u16) {
    let upstream = Upstream::start(|mut peer| {
        while let Some(request) = peer.request() {
            let halves = request.head.starts_with("GET /halves");
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngo");
            if halves && peer.request().is_none() {
                return;
            }
            peer.send("od");
        }
    });
    let keys = "retries = 0\nfailures = 0\nconnect_timeout = \"400ms\"\n\
                first_byte_timeout = \"400ms\"\nbetween_bytes_timeout = \"400ms\"";
    let server = proxy(io, &upstream, keys);
    let port = upstream.address().port();
    (upstream, server, port)
}

/// Each is answered 504 in its time, and what comes after the line is mended is served.
#[track_caller]
fn expect_timeouts(server: &Server, rule: &str) {
    let sockets = server.sockets();
    let mut kept = server.connect();
    assert_eq!(kept.get("/").body, b"good");
    drop_packets(rule);
    for _ in 0..2 {
        let began = Instant::now();
        assert_eq!(kept.get("/").status, 504);
        assert!(began.elapsed() >= Duration::from_millis(400));
    }
    mend();
    eventually("the line is good", || {
        (kept.get("/").status == 200).then_some(())
    });
    drop(kept);
    eventually("its sockets are closed", || {
        (server.sockets() <= sockets + 1).then_some(())
    });
}

fn answers_that_are_lost(io: Io) {
    in_own_network(|| {
        let (upstream, server, port) = hasty(io);
        expect_timeouts(&server, &format!("tcp sport {port}"));
        // In the middle of one there is a cut.
        let mut client = server.connect();
        client.send(request("GET", "/halves", &[]));
        assert_eq!(client.head().status, 200);
        assert_eq!(client.take(2), b"go");
        drop_packets(&format!("tcp sport {port}"));
        assert!(client.rest().is_err(), "a cut is no end");
        mend();
        drop((server, upstream));
    });
}

fn requests_that_are_lost(io: Io) {
    in_own_network(|| {
        let (upstream, server, port) = hasty(io);
        // A connection that is there takes requests without a word; then none can be made.
        expect_timeouts(&server, &format!("tcp dport {port}"));
        drop((server, upstream));
    });
}

fn connections_that_are_never_made(io: Io) {
    in_own_network(|| {
        let (upstream, server, port) = hasty(io);
        drop_packets(&format!("tcp dport {port} tcp flags syn"));
        let mut client = server.connect();
        let began = Instant::now();
        assert_eq!(client.get("/").status, 504);
        assert!(began.elapsed() >= Duration::from_millis(400));
        eventually("it is told", || {
            server.errors().contains("connect_timeout").then_some(())
        });
        mend();
        assert_eq!(client.get("/").body, b"good");
        drop((server, upstream));
    });
}

/// A client whose own port isn't one of the few: it has another address.
fn client_of(address: SocketAddr, number: usize) -> Client {
    let socket = ipv4_socket().unwrap();
    let own: SocketAddr = format!("127.0.1.{}:0", number + 1).parse().unwrap();
    bind(&socket, &own).unwrap();
    connect(&socket, &address).unwrap();
    Client::over(TcpStream::from(socket))
}

/// That is the proxy's lack, and no server is left out for it.
fn no_local_ports(io: Io) {
    const RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
    in_own_network(|| {
        let before = std::fs::read_to_string(RANGE).unwrap();
        let upstream = Upstream::start(|mut peer| {
            if peer
                .head()
                .is_some_and(|head| head.starts_with("GET /hold"))
            {
                peer.wait_for_end();
            } else {
                peer.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ngood");
            }
        });
        let servers = [upstream.address().to_string()];
        let keys = "failures = 1\nretries = 0\n[admin]\naddress = \"127.0.0.1:0\"";
        let server = upstream::run(io, &upstream::config(&servers, keys));
        std::fs::write(RANGE, "50000 50003").unwrap();
        let mut holding: Vec<Client> = (0..4).map(|it| client_of(server.address(), it)).collect();
        for client in &mut holding {
            client.send(request("GET", "/hold", &[]));
        }
        let mut other = client_of(server.address(), 4);
        eventually("no port is left", || {
            let status = other.get("/").status;
            assert!(matches!(status, 200 | 503), "{status}");
            (status == 503).then_some(())
        });
        eventually("it is told", || {
            server.errors().contains("no_socket").then_some(())
        });
        assert!(!server.errors().contains("left out"), "{}", server.errors());
        // The four go (by a reset: else they would still wait), and the next has a port.
        for client in holding {
            set_socket_linger(client.stream(), Some(Duration::ZERO)).unwrap();
        }
        eventually("there is a port again", || {
            (other.get("/").status == 200).then_some(())
        });
        std::fs::write(RANGE, before).unwrap();
        drop((server, upstream));
    });
}
