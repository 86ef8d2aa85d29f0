//! How ends are counted, of connections and of workers.

// Without, no fault can be injected.
#![cfg(debug_assertions)]

use super::*;
use ringway_runtime::{BlockingPool, ListenOptions, Sender, mailbox};
use std::io::{Read, Write};
use std::net::TcpStream as Client;
use std::thread::JoinHandle;

struct Running {
    address: SocketAddr,
    stats: Arc<WorkerStats>,
    orders: Sender<Order>,
    thread: JoinHandle<Ending>,
}

/// A worker on epoll whose fault is asked for by `/fault`.
fn start() -> Running {
    let text = "[listen.main]\naddress = \"127.0.0.1:0\"\n[files.site]\nroot = \"/\"";
    let mut config = Config::from_toml(text).unwrap();
    config.workers = 1;
    config.panic_path = Some("/fault".to_owned());
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut sockets = ListenSocket::bind_group(any, 1, &ListenOptions::default()).unwrap();
    let address = sockets[0].local_address().unwrap();
    let stats: Arc<WorkerStats> = Arc::default();
    let spec = Spec {
        extensions: Extensions::new(),
        upstreams: Vec::new(),
        index: 0,
        cpu: None,
        directories: vec![Directory::open("/".as_ref()).unwrap()],
        files: Arc::default(),
        passwords: vec![None],
        listeners: vec![(sockets.remove(0), 0)],
        options: RuntimeOptions {
            io: ringway_runtime::Io::Epoll,
            blocking: BlockingPool::new(1, 1),
            ..RuntimeOptions::default()
        },
        admission: Admission::new(100, 0),
        log: None,
        stats: Arc::clone(&stats),
        config: Arc::new(config),
    };
    let (orders, mail) = mailbox(1);
    let thread = std::thread::spawn(move || run(spec, mail, |_| {}));
    Running {
        address,
        stats,
        orders,
        thread,
    }
}

impl Running {
    /// Asks, and reads until the connection ends or there is an answer without a body.
    fn ask(&self, request: &str) -> (Client, String) {
        let mut client = Client::connect(self.address).unwrap();
        write!(client, "{request} HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        while !answer.ends_with(b"\r\n\r\n") {
            match client.read(&mut piece) {
                Ok(0) | Err(_) => break,
                Ok(count) => answer.extend_from_slice(&piece[..count]),
            }
        }
        (client, String::from_utf8(answer).unwrap())
    }

    /// The counters that aren't 0, but for those of requests and answers.
    fn connections(&self) -> Vec<(Counter, u64)> {
        let counts = self.stats.snapshot();
        let is_told = |(counter, value): &(Counter, u64)| {
            let name = counter.name();
            *value > 0 && (name.starts_with("conn") || name.starts_with("worker"))
        };
        counts.iter().filter(is_told).collect()
    }
}

#[test]
fn a_connection_that_panics_is_counted_once_and_out() {
    let worker = start();
    let (_open, answer) = worker.ask("OPTIONS /");
    assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
    assert_eq!(worker.ask("GET /fault").1, "");
    worker.orders.send(Order::Drain(Duration::ZERO)).unwrap();
    while !worker.thread.is_finished() {
        std::thread::yield_now();
    }
    let expected = [
        (Counter::Accepted, 2),
        (Counter::ClosedShutdown, 1),
        (Counter::ClosedUs, 1),
        (Counter::Panics, 1),
    ];
    assert_eq!(worker.connections(), expected);
    let ending = worker.thread.join().unwrap();
    assert!(matches!(
        ending,
        Ending::Drained(Drained {
            idle: 1,
            busy: 0,
            cut: 0
        })
    ));
}

#[test]
fn the_connections_of_a_worker_that_goes_down_did_not_panic() {
    for (fault, is_panic) in [("GET /fault/failure", false), ("GET /fault/worker", true)] {
        let worker = start();
        let (_open, answer) = worker.ask("OPTIONS /");
        assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
        let (_cut, _) = worker.ask(fault);
        while !worker.thread.is_finished() {
            std::thread::yield_now();
        }
        let expected = [(Counter::Accepted, 2), (Counter::ClosedUs, 2)];
        assert_eq!(worker.connections(), expected);
        let ending = worker.thread.join().unwrap();
        assert_eq!(matches!(ending, Ending::Panicked), is_panic, "{ending}");
    }
}
