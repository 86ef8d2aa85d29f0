//! A program with extensions, as far as that goes in a thread: one worker, which a test talks to by
//! plain sockets.

use ringway_runtime::{Io, Runtime, RuntimeOptions, Sender, mailbox};
use ringway_server::config::Config;
use ringway_server::extensions::Extensions;
use ringway_server::stats::{Counter, WorkerStats};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a test waits for what has to happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Makes two tests of each function, which takes the driver.
macro_rules! on_both_drivers {
    ($($name:ident),+ $(,)?) => {
        mod uring {
            $(#[test] fn $name() { $crate::program::on(ringway_runtime::Io::Uring, super::$name) })+
        }
        mod epoll {
            $(#[test] fn $name() { $crate::program::on(ringway_runtime::Io::Epoll, super::$name) })+
        }
    };
}
pub(crate) use on_both_drivers;

/// Small, because many tests run at once within one limit of locked memory.
pub(crate) fn options(io: Io) -> RuntimeOptions {
    RuntimeOptions {
        io,
        receive_buffers: 32,
        ring_entries: 32,
        completion_entries: 128,
        ..RuntimeOptions::default()
    }
}

/// Runs a test, or says why it can't run here.
pub(crate) fn on(io: Io, test: fn(Io)) {
    match Runtime::new(&options(io)) {
        Ok(runtime) => drop(runtime),
        Err(error) if io == Io::Uring => return skip(&error.to_string()),
        Err(error) => panic!("no driver: {error}"),
    }
    test(io);
}

fn skip(reason: &str) {
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    let line = format!("SKIP {name}: {reason}");
    eprintln!("{line}");
    if let Some(path) = std::env::var_os("RINGWAY_SKIP_LOG") {
        let options = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path);
        options.and_then(|mut log| writeln!(log, "{line}")).unwrap();
    }
}

/// A worker in a thread. Dropping it ends it.
pub(crate) struct Program {
    pub(crate) address: SocketAddr,
    stats: Arc<WorkerStats>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Program {
    pub(crate) fn start(io: Io, config: Config, extensions: Extensions) -> Program {
        let (stop, mut stopped) = mailbox(1);
        let (started, starting) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut runtime = Runtime::new(&options(io)).unwrap();
            let served = extensions.serve_on(&runtime, config).unwrap();
            started.send((served.address, served.stats)).unwrap();
            runtime
                .block_on(async move { stopped.receive().await })
                .unwrap();
        });
        let (address, stats) = starting.recv_timeout(PATIENCE).unwrap();
        Program {
            address,
            stats,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    pub(crate) fn count(&self, counter: Counter) -> u64 {
        self.stats.snapshot().value(counter)
    }

    /// Everything that comes for these bytes, until the connection ends; and whether in good order.
    pub(crate) fn ask(&self, request: impl AsRef<[u8]>) -> (String, bool) {
        let mut client = self.connect();
        client.write_all(request.as_ref()).unwrap();
        let mut answer = Vec::new();
        let is_orderly = client.read_to_end(&mut answer).is_ok();
        (String::from_utf8(answer).unwrap(), is_orderly)
    }

    /// The same of a connection that ends in good order.
    #[track_caller]
    pub(crate) fn answer(&self, request: impl AsRef<[u8]>) -> String {
        let (answer, is_orderly) = self.ask(request);
        assert!(is_orderly, "cut after {answer:?}");
        answer
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(self.address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            ended.unwrap().unwrap();
        }
    }
}

/// A server that answers each request with its head and its body, in a thread for each connection; `name` is its
/// own.
pub(crate) fn start_server(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // It ends with the process.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer_all(stream, name));
        }
    });
    address
}

fn answer_all(mut stream: TcpStream, name: &str) {
    let mut received = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut piece) {
        received.extend_from_slice(&piece[..count]);
        let is_end = |part: &[u8]| part == b"\r\n\r\n";
        while let Some(at) = received.windows(4).position(is_end) {
            let head: Vec<u8> = received.drain(..at + 4).collect();
            let text = String::from_utf8(head).unwrap();
            let length = text
                .lines()
                .find_map(|line| line.strip_prefix("Content-Length: "));
            let length = length.map_or(0, |length| length.parse().unwrap());
            while received.len() < length {
                let Ok(count @ 1..) = stream.read(&mut piece) else {
                    return;
                };
                received.extend_from_slice(&piece[..count]);
            }
            let head: Vec<u8> = text
                .into_bytes()
                .into_iter()
                .chain(received.drain(..length))
                .collect();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nServer: {name}\r\nX-Own: 1\r\nContent-Length: {}\r\n\r\n",
                head.len()
            );
            let answer = [answer.as_bytes(), &head].concat();
            if stream.write_all(&answer).is_err() {
                return;
            }
        }
    }
}

/// Without `Date`, whose value is the clock's.
pub(crate) fn without_date(answer: &str) -> String {
    let lines = answer.split_inclusive("\r\n");
    lines.filter(|line| !line.starts_with("Date: ")).collect()
}
