//! The example configurations, run: with real requests, and upstreams that tell what they were
//! sent.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use crate::client::{Client, Response};
use crate::server::{Io, PATIENCE, Server, on_both_drivers};

on_both_drivers!(a_site, a_proxy, an_application, flags_alone);

fn example(name: &str) -> PathBuf {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples");
    examples.join(name)
}

/// `ringway run` with an example, on ports of the kernel's choice.
fn run(io: Io, name: &str, environment: &[(&str, String)]) -> Server {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
    command.args(["run", "--workers", "2", "--io", io.word()]);
    command.arg("--config").arg(example(name));
    command.env("RINGWAY_LISTEN", "127.0.0.1:0");
    command.env("RINGWAY_ADMIN_LISTEN", "127.0.0.1:0");
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    Server::start(command)
}

/// The answer to a request; each of `fields` is a line.
fn ask(address: SocketAddr, request: &str, fields: &[&str]) -> Response {
    let mut client = Client::connect(address);
    let fields: String = fields.iter().map(|line| format!("{line}\r\n")).collect();
    client.send(format!(
        "{request} HTTP/1.1\r\n{fields}Connection: close\r\n\r\n"
    ));
    client.response()
}

/// A server that answers each request with the head that it got.
struct Echo {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    fn start() -> Echo {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if ends.load(Ordering::Acquire) {
                    break;
                }
                // Who connects and leaves was only looking; the others fail the test themselves.
                thread::spawn(move || echo(stream));
            }
        });
        Echo {
            address,
            is_over,
            thread: Some(thread),
        }
    }
}

fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut head = Vec::new();
    let mut part = [0; 1024];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut part)? {
            0 => return Ok(()),
            count => head.extend_from_slice(&part[..count]),
        }
    }
    let length = head.len();
    let answer = format!(
        "HTTP/1.1 200 OK\r\nServer: echo\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(answer.as_bytes())?;
    stream.write_all(&head)
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address);
        let ended = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            assert!(matches!(ended, Some(Ok(()))), "the upstream failed");
        }
    }
}

/// The lines of the head that an upstream says it got.
fn lines(response: &Response) -> Vec<String> {
    assert_eq!(response.status, 200, "{response:?}");
    let text = String::from_utf8(response.body.clone()).unwrap();
    text.lines().map(str::to_ascii_lowercase).collect()
}

#[track_caller]
fn has(lines: &[String], line: &str) {
    assert!(lines.iter().any(|one| one == line), "{line}: {lines:#?}");
}

fn a_site(io: Io) {
    let server = run(io, "site.toml", &[]);
    let page = server.get("/");
    assert_eq!(page.status, 200);
    assert_eq!(
        page.body,
        std::fs::read(example("public/index.html")).unwrap()
    );
    assert_eq!(page.field("X-Content-Type-Options"), Some("nosniff"));
    assert_eq!(server.get("/nothing").status, 404);
    server.stop();
}

fn a_proxy(io: Io) {
    let (first, second) = (Echo::start(), Echo::start());
    let environment = [
        ("APP_1", first.address.to_string()),
        ("APP_2", second.address.to_string()),
    ];
    let server = run(io, "proxy.toml", &environment);
    let answer = ask(
        server.address(),
        "GET /cart?x=%41",
        &["Host: shop.example", "X-A: b"],
    );
    let sent = lines(&answer);
    assert_eq!(sent[0], "get /cart?x=%41 http/1.1");
    has(&sent, "host: shop.example");
    has(&sent, "x-forwarded-for: 127.0.0.1");
    has(&sent, "x-a: b");
    server.stop();
}

fn an_application(io: Io) {
    let upstream = Echo::start();
    let at = upstream.address.to_string();
    let other = Echo::start();
    let environment = [
        ("API_1", at.clone()),
        ("API_2", other.address.to_string()),
        ("ADMIN", at.clone()),
    ];
    let server = run(io, "application.toml", &environment);
    let [web, admin] = server.addresses(2)[..] else {
        panic!("two addresses")
    };
    let host = "Host: app.example";

    let answer = ask(web, "GET /api/users?page=2", &[host]);
    assert_eq!(answer.field("Server"), None);
    let sent = lines(&answer);
    assert_eq!(sent[0], "get /v1/users?page=2 http/1.1");
    has(&sent, "x-client: 127.0.0.1");

    // Whatever the spelling.
    for path in ["/api/debug", "/api/%64ebug/heap", "//api/x/../debug/"] {
        let answer = ask(web, &format!("GET {path}"), &[host]);
        assert_eq!(
            (answer.status, &*answer.body),
            (404, &b"Not here.\n"[..]),
            "{path}"
        );
    }
    let answer = ask(web, "GET /pricing?a=b", &["Host: WWW.app.example:80"]);
    assert_eq!(answer.status, 308);
    assert_eq!(
        answer.field("Location"),
        Some("http://app.example/pricing?a=b")
    );

    let page = std::fs::read(example("public/index.html")).unwrap();
    let answer = ask(web, "GET /settings/profile", &[host, "Accept: text/html"]);
    assert_eq!((answer.status, answer.body), (200, page));
    assert_eq!(ask(web, "GET /", &["Host: other.example"]).status, 404);

    let sent = lines(&ask(admin, "GET /", &["Host: a"]));
    has(&sent, &format!("host: {at}"));
    server.stop();
}

fn flags_alone(io: Io) {
    let upstream = Echo::start();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
    command.args(["proxy", "--workers", "2", "--io", io.word()]);
    command.args(["--listen", "127.0.0.1:0", "--lb", "round_robin"]);
    command.args(["--to", &upstream.address.to_string()]);
    let server = Server::start(command);
    let sent = lines(&ask(server.address(), "GET /a", &["Host: b"]));
    assert_eq!(sent[0], "get /a http/1.1");
    server.stop();
}
