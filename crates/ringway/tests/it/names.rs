//! Servers that DNS knows the addresses of, asked of a small name server of the test's own.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::backend::{Backend, body, expect_event, proxy, run, try_run};
use crate::server::{Ended, Io, Server, eventually, on_both_drivers};

on_both_drivers!(
    names_that_move,
    names_with_several_addresses,
    addresses_of_both_families,
    failing_name_servers,
    names_that_lead_nowhere,
    services,
);

/// What can be asked for (RFC 1035 §3.2.2, RFC 3596, RFC 2782).
const A: u16 = 1;
const AAAA: u16 = 28;
const SRV: u16 = 33;

/// A name server that knows what it is told. Its thread ends with the process of the tests.
struct NameServer {
    address: SocketAddr,
    shared: Arc<Zone>,
}

/// The data of records, by their name and kind.
type Records = HashMap<(String, u16), Vec<Vec<u8>>>;

#[derive(Default)]
struct Zone {
    records: Mutex<Records>,
    is_failing: AtomicBool,
    questions: AtomicUsize,
}

impl NameServer {
    fn start() -> NameServer {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (address, shared) = (socket.local_addr().unwrap(), Arc::<Zone>::default());
        let zone = Arc::clone(&shared);
        thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((count, peer)) = socket.recv_from(&mut buffer) {
                let answer = zone.answer(&buffer[..count]);
                let _ = socket.send_to(&answer, peer);
                // When it can have been heard.
                zone.questions.fetch_add(1, SeqCst);
            }
        });
        NameServer { address, shared }
    }

    /// From now on the name has these addresses, and none of the other family's.
    fn set(&self, name: &str, addresses: &[IpAddr]) {
        let mut records = self.shared.records.lock().unwrap();
        for kind in [A, AAAA] {
            let those = addresses.iter().filter_map(|ip| match (ip, kind) {
                (IpAddr::V4(ip), A) => Some(ip.octets().to_vec()),
                (IpAddr::V6(ip), AAAA) => Some(ip.octets().to_vec()),
                _ => None,
            });
            records.insert((name.to_owned(), kind), those.collect());
        }
    }

    /// From now on the service has these servers: priority, weight, port, name.
    fn set_service(&self, name: &str, servers: &[(u16, u16, u16, &str)]) {
        let record = |&(priority, weight, port, target): &(u16, u16, u16, &str)| {
            let numbers = [priority, weight, port].map(u16::to_be_bytes).concat();
            [numbers, wire_name(target)].concat()
        };
        let records = servers.iter().map(record).collect();
        let mut zone = self.shared.records.lock().unwrap();
        zone.insert((name.to_owned(), SRV), records);
    }

    fn fail(&self, is_failing: bool) {
        self.shared.is_failing.store(is_failing, SeqCst);
    }

    /// Waits until it has been asked so often again.
    fn await_questions(&self, count: usize) {
        let before = self.shared.questions.load(SeqCst);
        eventually("the name is asked for again", || {
            (self.shared.questions.load(SeqCst) >= before + count).then_some(())
        });
    }

    /// The configuration of a proxy that asks it, for one server.
    fn toml(&self, servers: &str) -> String {
        let address = self.address;
        proxy(&format!(
            "servers = [{servers}]\nresolver = \"{address}\"\nbalance = \"round_robin\""
        ))
        .replace("workers = 2", "workers = 1")
    }
}

impl Zone {
    /// RFC 1035 §4.1. The question is the first and only one.
    fn answer(&self, query: &[u8]) -> Vec<u8> {
        let mut at = 12;
        let mut labels = Vec::new();
        while query[at] > 0 {
            let length = usize::from(query[at]);
            let label = &query[at + 1..at + 1 + length];
            labels.push(String::from_utf8(label.to_ascii_lowercase()).unwrap());
            at += 1 + length;
        }
        let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
        let (name, end) = (labels.join("."), at + 5);
        let records = self.records.lock().unwrap();
        let is_known = records.keys().any(|(known, _)| *known == name);
        let found = records.get(&(name, kind)).cloned().unwrap_or_default();
        let (code, found) = match (self.is_failing.load(SeqCst), is_known) {
            (true, _) => (2, Vec::new()),
            (false, true) => (0, found),
            (false, false) => (3, Vec::new()),
        };
        // An authoritative answer to a question that wished for recursion.
        let mut answer = [
            &query[..2],
            &[0x85, 0x80 | code, 0, 1, 0, found.len() as u8, 0, 0, 0, 0],
        ]
        .concat();
        answer.extend_from_slice(&query[12..end]);
        for record in found {
            // The name of the question, the internet's class, and a second to live.
            answer.extend([0xc0, 12]);
            answer.extend(kind.to_be_bytes());
            answer.extend([0, 1, 0, 0, 0, 1]);
            answer.extend((record.len() as u16).to_be_bytes());
            answer.extend(record);
        }
        answer
    }
}

fn wire_name(name: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in name.split('.') {
        wire.push(label.len() as u8);
        wire.extend(label.as_bytes());
    }
    wire.push(0);
    wire
}

fn start(io: Io, toml: &str) -> Server {
    let directory = tempfile::tempdir().unwrap();
    run(io, directory.path(), toml)
}

fn names_that_move(io: Io) {
    let (names, [old, new]) = (NameServer::start(), Backend::pair());
    names.set("app.test", &[old.address.ip()]);
    let server = start(
        io,
        &names.toml(&format!("\"app.test:{}\"", old.address.port())),
    );
    assert_eq!(body(&server), old.address.to_string());
    assert_eq!(old.open(), 1, "kept for the next request");
    names.set("app.test", &[new.address.ip()]);
    expect_event(
        &server,
        &["the name leads elsewhere now", &new.address.to_string()],
    );
    // Not reused, but closed.
    eventually("the old connection ends", || {
        (old.open() == 0).then_some(())
    });
    let asked = old.heads().len();
    for _ in 0..4 {
        assert_eq!(body(&server), new.address.to_string());
    }
    assert_eq!((old.heads().len(), new.open()), (asked, 1));
    server.stop();
}

fn names_with_several_addresses(io: Io) {
    let (names, [one, other]) = (NameServer::start(), Backend::pair());
    names.set("app.test", &[one.address.ip(), other.address.ip()]);
    let server = start(
        io,
        &names.toml(&format!("\"App.Test:{}\"", one.address.port())),
    );
    let mut answers: Vec<String> = (0..4).map(|_| body(&server)).collect();
    answers.sort();
    let [one_at, other_at] = [&one, &other].map(|backend| backend.address.to_string());
    assert_eq!(answers, [&*one_at, &one_at, &other_at, &other_at]);
    // Who stays goes on with what it has.
    names.set("app.test", &[one.address.ip()]);
    expect_event(&server, &["the name leads elsewhere now"]);
    eventually("the other one's connection ends", || {
        (other.open() == 0).then_some(())
    });
    assert_eq!(one.open(), 1);
    assert_eq!(body(&server), one_at);
    assert_eq!(one.open(), 1, "the same connection");
    server.stop();
}

fn addresses_of_both_families(io: Io) {
    let names = NameServer::start();
    let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else {
        return crate::peers::skip("there is no IPv6");
    };
    let backend = Backend::on(listener);
    let both = [
        Ipv4Addr::new(127, 0, 0, 3).into(),
        Ipv6Addr::LOCALHOST.into(),
    ];
    names.set("app.test", &both);
    let server = start(
        io,
        &names.toml(&format!("\"app.test:{}\"", backend.address.port())),
    );
    for _ in 0..3 {
        assert_eq!(body(&server), backend.address.to_string());
    }
    let errors = server.stop().stderr;
    assert!(!errors.contains("WARN"), "two ways to one server: {errors}");
}

fn failing_name_servers(io: Io) {
    let (names, [backend, new]) = (NameServer::start(), Backend::pair());
    names.set("app.test", &[backend.address.ip()]);
    let server = start(
        io,
        &names.toml(&format!("\"app.test:{}\"", backend.address.port())),
    );
    names.fail(true);
    expect_event(&server, &["the name can't be looked up", "app.test"]);
    assert_eq!(body(&server), backend.address.to_string());
    // Nor does an answer without an address take anything away.
    names.set("app.test", &[]);
    names.fail(false);
    names.await_questions(2);
    assert_eq!(body(&server), backend.address.to_string());
    names.set("app.test", &[new.address.ip()]);
    expect_event(&server, &["the name can be looked up again", "app.test"]);
    eventually("the new address is used", || {
        (body(&server) == new.address.to_string()).then_some(())
    });
    let errors = server.stop().stderr;
    assert_eq!(errors.matches("can't be looked up").count(), 1, "{errors}");
}

fn names_that_lead_nowhere(io: Io) {
    let (names, backend) = (NameServer::start(), Backend::start());
    let directory = tempfile::tempdir().unwrap();
    let alone = try_run(io, directory.path(), &names.toml("\"app.test:80\""));
    let ended: Ended = alone.map(|_| ()).expect_err("it has no server");
    assert_eq!(ended.code, Some(1));
    let said = "app.test:80: there is no such name; check how the name is written";
    assert!(ended.stderr.contains(said), "{ended:#?}");

    let port = backend.address.port();
    let servers = format!("\"{}\", \"late.test:{port} weight=3\"", backend.address);
    let server = start(io, &names.toml(&servers));
    expect_event(&server, &["a name leads nowhere", "late.test"]);
    assert_eq!(body(&server), backend.address.to_string());
    // It is the same server, and so changes nothing but that it is found.
    names.set("late.test", &[backend.address.ip()]);
    expect_event(
        &server,
        &["the name leads elsewhere now", &backend.address.to_string()],
    );
    assert_eq!(body(&server), backend.address.to_string());
    server.stop();
}

fn services(io: Io) {
    let names = NameServer::start();
    let [much, little, spare] = [Backend::start(), Backend::start(), Backend::start()];
    let ip = much.address.ip();
    names.set("one.test", &[ip]);
    names.set("spare.test", &[ip]);
    let port = |backend: &Backend| backend.address.port();
    let (first, second) = (
        (10, 3, port(&much), "one.test"),
        (10, 1, port(&little), "one.test"),
    );
    let last = (20, 5, port(&spare), "spare.test");
    names.set_service("_http._tcp.test", &[first, last, second]);
    let server = start(io, &names.toml("\"srv:_http._tcp.test\""));
    let answers: Vec<String> = (0..20).map(|_| body(&server)).collect();
    let count = |backend: &Backend| {
        let address = backend.address.to_string();
        answers.iter().filter(|answer| **answer == address).count()
    };
    assert_eq!((count(&much), count(&little), count(&spare)), (15, 5, 0));
    names.set_service("_http._tcp.test", &[last]);
    expect_event(
        &server,
        &["the name leads elsewhere now", &spare.address.to_string()],
    );
    eventually("the last one is used", || {
        (body(&server) == spare.address.to_string()).then_some(())
    });
    server.stop();
}
