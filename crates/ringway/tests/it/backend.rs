//! Servers behind the proxy whose answers a test changes while they run, and the proxy before them
//! with what watches over it.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::client::find;
use crate::server::{Ended, Io, PATIENCE, Server, eventually};

/// A server that answers each request with a status that can be changed and its own address.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    status: AtomicU16,
    /// Requests aren't answered while this is so.
    is_held: AtomicBool,
    /// Connections that are open.
    open: AtomicUsize,
    /// Requests that wait to be answered.
    held: AtomicUsize,
    /// The heads of all requests.
    heads: Mutex<Vec<String>>,
}

impl Backend {
    pub(crate) fn start() -> Backend {
        Backend::on(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    /// Two with the same port, at 127.0.0.1 and 127.0.0.2.
    pub(crate) fn pair() -> [Backend; 2] {
        let at = |last, port| TcpListener::bind((Ipv4Addr::new(127, 0, 0, last), port));
        eventually("a port that is free at both addresses", || {
            let first = at(1, 0).unwrap();
            let second = at(2, first.local_addr().unwrap().port()).ok()?;
            Some([Backend::on(first), Backend::on(second)])
        })
    }

    pub(crate) fn on(listener: TcpListener) -> Backend {
        let shared = Arc::new(Shared {
            status: AtomicU16::new(200),
            ..Shared::default()
        });
        let (address, ours) = (listener.local_addr().unwrap(), Arc::clone(&shared));
        // It ends with the process of the tests.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&ours);
                shared.open.fetch_add(1, SeqCst);
                thread::spawn(move || {
                    shared.serve(stream, address);
                    shared.open.fetch_sub(1, SeqCst);
                });
            }
        });
        Backend { address, shared }
    }

    pub(crate) fn answer(&self, status: u16) {
        self.shared.status.store(status, SeqCst);
    }

    pub(crate) fn hold(&self, is_held: bool) {
        self.shared.is_held.store(is_held, SeqCst);
    }

    pub(crate) fn open(&self) -> usize {
        self.shared.open.load(SeqCst)
    }

    pub(crate) fn held(&self) -> usize {
        self.shared.held.load(SeqCst)
    }

    pub(crate) fn heads(&self) -> Vec<String> {
        self.shared.heads.lock().unwrap().clone()
    }
}

impl Shared {
    /// Answers until the other side closes.
    fn serve(&self, mut stream: TcpStream, address: SocketAddr) {
        let mut input = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            while let Some(end) = find(&input, b"\r\n\r\n") {
                let head: Vec<u8> = input.drain(..end + 4).collect();
                let head = String::from_utf8(head).unwrap();
                self.heads.lock().unwrap().push(head);
                self.held.fetch_add(1, SeqCst);
                eventually("an answer is wanted", || {
                    (!self.is_held.load(SeqCst)).then_some(())
                });
                self.held.fetch_sub(1, SeqCst);
                let (status, body) = (self.status.load(SeqCst), address.to_string());
                let length = body.len();
                let answer =
                    format!("HTTP/1.1 {status} x\r\nContent-Length: {length}\r\n\r\n{body}");
                if stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
            match stream.read(&mut buffer) {
                Ok(count) if count > 0 => input.extend_from_slice(&buffer[..count]),
                _ => return,
            }
        }
    }
}

/// `ringway run` with this configuration, which is written into `directory`.
pub(crate) fn try_run(io: Io, directory: &Path, toml: &str) -> Result<Server, Ended> {
    let file = directory.join("ringway.toml");
    std::fs::write(&file, toml).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
    command
        .args(["run", "--io", io.word(), "--config"])
        .arg(file);
    Server::try_start(command)
}

#[track_caller]
pub(crate) fn run(io: Io, directory: &Path, toml: &str) -> Server {
    match try_run(io, directory, toml) {
        Ok(server) => server,
        Err(ended) => panic!("the server didn't start: {ended:#?}"),
    }
}

/// What a listener of the kernel's choice passes on to an upstream of these lines.
pub(crate) fn proxy(upstream: &str) -> String {
    format!(
        "workers = 2\n[listen.main]\naddress = \"127.0.0.1:0\"\nproxy = \"app\"\n\
         [upstream.app]\n{upstream}\n"
    )
}

/// The body of the answer to a GET, which is a 200.
#[track_caller]
pub(crate) fn body(server: &Server) -> String {
    let response = server.get("/");
    assert_eq!(response.status, 200);
    String::from_utf8(response.body).unwrap()
}

/// Waits until the server has said this on standard error.
#[track_caller]
pub(crate) fn expect_event(server: &Server, parts: &[&str]) {
    eventually(&format!("an event: {parts:?}"), || {
        let errors = server.errors();
        let mut lines = errors.lines();
        let has_all = |line: &str| parts.iter().all(|part| line.contains(part));
        lines.any(has_all).then_some(())
    });
}

/// A connection that gives up in time.
pub(crate) fn connect(ip: IpAddr, port: u16) -> TcpStream {
    let stream = TcpStream::connect((ip, port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}
