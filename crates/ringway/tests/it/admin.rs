//! The admin listener, and the active checks that show there.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;

use crate::backend::{Backend, body, connect, expect_event, proxy, run, try_run};
use crate::server::{Io, PATIENCE, Server, eventually, on_both_drivers};

on_both_drivers!(
    health_and_readiness,
    metrics_and_status,
    bad_requests,
    slow_clients,
    stale_sockets,
    sockets_in_use,
    loopback_addresses,
    readiness_while_ending,
    checks_by_http,
    checks_by_connecting,
    floods_of_failures,
);

/// A directory with an admin socket in it.
struct Place {
    directory: tempfile::TempDir,
    socket: PathBuf,
}

impl Place {
    fn new() -> Place {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("admin.sock");
        Place { directory, socket }
    }

    /// A proxy with an upstream of these lines, and an admin socket.
    #[track_caller]
    fn run(&self, io: Io, upstream: &str) -> Server {
        run(io, self.path(), &self.toml(upstream))
    }

    fn toml(&self, upstream: &str) -> String {
        proxy(upstream) + "[admin]\naddress = \"unix:admin.sock\"\nmode = \"0640\"\n"
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    #[track_caller]
    fn get(&self, path: &str) -> Answer {
        ask(
            self.connect(),
            &format!("GET {path} HTTP/1.1\r\nHost: admin\r\n\r\n"),
        )
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.get("/status").body).unwrap()
    }

    /// The value of a metric with these labels.
    #[track_caller]
    fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").body;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let line = line.unwrap_or_else(|| panic!("no {name} in {text}"));
        line.parse().unwrap()
    }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

/// The answer to `request`, with which the connection ends.
#[track_caller]
fn ask(mut stream: impl Read + Write, request: &str) -> Answer {
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").expect("an answer");
    Answer {
        status: head[9..12].parse().unwrap(),
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}

/// Where nobody listens.
fn nobodys_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

fn servers(backend: &Backend) -> String {
    format!("servers = \"{}\"", backend.address)
}

fn health_and_readiness(io: Io) {
    let (place, backend) = (Place::new(), Backend::start());
    let server = place.run(io, &servers(&backend));
    let mode = std::fs::metadata(&place.socket)
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o640);
    for path in ["/healthz", "/readyz", "/readyz?verbose"] {
        let answer = place.get(path);
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.head.contains("cache-control: no-store"));
    }
    let answer = ask(place.connect(), "HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((answer.status, &*answer.body), (200, ""));
    server.stop();
    assert!(!place.socket.exists(), "the file goes with the server");
}

fn metrics_and_status(io: Io) {
    let (place, backend) = (Place::new(), Backend::start());
    let server = place.run(io, &servers(&backend));
    for _ in 0..3 {
        assert_eq!(body(&server), backend.address.to_string());
    }
    let labels = format!("upstream=\"app\",server=\"{}\"", backend.address);
    assert_eq!(place.metric("ringway_requests_total"), 3.0);
    assert_eq!(place.metric("ringway_answers_total{class=\"2xx\"}"), 3.0);
    assert_eq!(place.metric("ringway_worker_running{worker=\"1\"}"), 1.0);
    assert_eq!(
        place.metric("ringway_completion_queue_overflows_total"),
        0.0
    );
    assert_eq!(
        place.metric(&format!("ringway_upstream_server_usable{{{labels}}}")),
        1.0
    );
    let created = place.metric(&format!(
        "ringway_upstream_connections_created_total{{{labels}}}"
    ));
    assert!(
        (1.0..=2.0).contains(&created),
        "one for each worker at most: {created}"
    );
    let answer = place.get("/metrics");
    assert!(
        answer
            .head
            .contains("content-type: application/openmetrics-text; version=1.0.0")
    );
    check_exposition(&answer.body);

    let status = place.status();
    assert_eq!(status["is_ready"], true);
    assert_eq!(status["counters"]["requests"], 3);
    assert_eq!(status["workers"].as_array().unwrap().len(), 2);
    let driver = status["workers"][0]["driver"].as_str().unwrap();
    assert!(driver.starts_with(io.word()), "{driver}");
    let listener = &status["listeners"][0];
    assert_eq!(listener["addresses"][0], server.address().to_string());
    assert_eq!(listener["catch_all"], "upstream.app");
    let upstream = &status["upstreams"][0];
    assert_eq!(upstream["name"], "app");
    let pool = &upstream["servers"][0]["pool"];
    let number = |name: &str| pool[name].as_f64().unwrap();
    let reused = number("reused_local") + number("reused_exchange");
    assert_eq!(number("created") + reused, 3.0);
    assert_eq!(number("reuse_ratio"), reused / 3.0);
    assert_eq!(number("created"), created);
}

/// Each sample follows the type of its family, and the text its end.
#[track_caller]
fn check_exposition(text: &str) {
    let (mut family, mut names) = (String::new(), Vec::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(!names.contains(&name.to_owned()), "{name} twice");
            names.push(name.to_owned());
            family = name.to_owned() + if kind == "counter" { "_total" } else { "" };
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            assert_eq!(name, family);
            let value = line.rsplit(' ').next().unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
    assert!(text.ends_with("# EOF\n"));
}

fn bad_requests(io: Io) {
    let (place, backend) = (Place::new(), Backend::start());
    let server = place.run(io, &servers(&backend));
    let check = |request: &str, status: u16| {
        let answer = ask(place.connect(), request);
        assert_eq!(answer.status, status, "{request:.40}");
        answer
    };
    let refused = check(
        "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        405,
    );
    assert!(refused.head.contains("allow: get, head"));
    check("DELETE /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", 404);
    let missing = check("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 404);
    assert!(missing.body.contains("/status"), "{}", missing.body);
    check("GET /healthz/ HTTP/1.1\r\nHost: x\r\n\r\n", 404);
    check("this is no request\r\n\r\n", 400);
    let long = "x".repeat(10_000);
    check(&format!("GET /healthz HTTP/1.1\r\nLong: {long}"), 431);
    let many = "a: b\r\n".repeat(100);
    check(&format!("GET /healthz HTTP/1.1\r\n{many}\r\n"), 431);
    assert_eq!(place.get("/healthz").status, 200);
    server.stop();
}

/// As many as may be connected say nothing: they are cut off, and whoever waits is answered then.
fn slow_clients(io: Io) {
    let (place, backend) = (Place::new(), Backend::start());
    let server = place.run(io, &servers(&backend));
    let mut silent: Vec<UnixStream> = (0..16).map(|_| place.connect()).collect();
    silent[0].write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
    assert_eq!(place.get("/healthz").status, 200);
    for client in &mut silent {
        let mut rest = Vec::new();
        // However it is cut.
        let _ = client.read_to_end(&mut rest);
        assert!(!rest.starts_with(b"HTTP/1.1 2"));
    }
    assert_eq!(body(&server), backend.address.to_string());
}

fn stale_sockets(io: Io) {
    let (place, backend) = (Place::new(), Backend::start());
    place.run(io, &servers(&backend)).kill();
    assert!(place.socket.exists(), "nobody could remove it");
    let server = place.run(io, &servers(&backend));
    assert_eq!(place.get("/healthz").status, 200);
    server.stop();
}

fn sockets_in_use(io: Io) {
    let (place, backend) = (Place::new(), Backend::start());
    let server = place.run(io, &servers(&backend));
    let second = try_run(io, place.path(), &place.toml(&servers(&backend)));
    let ended = second.map(|_| ()).expect_err("the socket is in use");
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    assert!(
        ended.stderr.contains("another process listens there"),
        "{ended:#?}"
    );
    assert_eq!(
        place.get("/healthz").status,
        200,
        "the first one's is untouched"
    );
    server.stop();
}

fn loopback_addresses(io: Io) {
    let (place, backend) = (Place::new(), Backend::start());
    let toml = proxy(&servers(&backend)) + "[admin]\naddress = \"127.0.0.1:0\"\n";
    let server = run(io, place.path(), &toml);
    let admin = server.addresses(2)[1];
    let check = |host: &str, status: u16| {
        let request = format!("GET /healthz HTTP/1.1\r\n{host}\r\n");
        let answer = ask(connect(admin.ip(), admin.port()), &request);
        assert_eq!(answer.status, status, "{host}");
    };
    check("Host: 127.0.0.1:9090\r\n", 200);
    check("Host: [::1]\r\n", 200);
    check("Host: LocalHost:9090\r\n", 200);
    check("Host: rebound.example:9090\r\n", 421);
    check("Host: 127.0.0.1.example\r\n", 421);
    server.stop();
}

fn readiness_while_ending(io: Io) {
    let (place, backend) = (Place::new(), Backend::start());
    let mut server = place.run(io, &servers(&backend));
    backend.hold(true);
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually("the request is there", || {
        (backend.held() == 1).then_some(())
    });
    assert_eq!(place.get("/readyz").status, 200);
    server.signal(Signal::TERM);
    let answer = eventually("it says that it is ending", || {
        Some(place.get("/readyz")).filter(|answer| answer.status == 503)
    });
    assert_eq!(answer.body, "the server is ending\n");
    assert_eq!(place.get("/healthz").status, 200);
    backend.hold(false);
    assert_eq!(client.response().status, 200);
    assert_eq!(server.wait().code(), Some(0));
    assert!(!place.socket.exists());
}

/// As often as a busy machine can answer in time.
const OFTEN: &str = "health_interval = \"500ms\"\nhealth_timeout = \"500ms\"\nunhealthy_after = 2\n\
                     healthy_after = 1\npanic_threshold = 0\n";

fn checks_by_http(io: Io) {
    let (place, [first, second]) = (Place::new(), [Backend::start(), Backend::start()]);
    let server = place.run(
        io,
        &format!(
            "servers = [\"{}\", \"{}\"]\nhealth = \"http /up?now\"\nhealth_status = \"200\"\n\
             host = \"app.test\"\n{OFTEN}",
            first.address, second.address
        ),
    );
    let labels = format!("{{upstream=\"app\",server=\"{}\"}}", first.address);
    let check_is = |word: &str| {
        eventually(&format!("the first server is {word}"), || {
            let status = place.status();
            (status["upstreams"][0]["servers"][0]["check"] == word).then_some(())
        });
    };
    check_is("healthy");
    assert_eq!(
        place.metric(&format!("ringway_upstream_server_healthy{labels}")),
        1.0
    );
    let head = first.heads().swap_remove(0);
    assert!(
        head.starts_with("GET /up?now HTTP/1.1\r\nHost: app.test\r\n"),
        "{head}"
    );

    // Still an answer, but not a 200.
    first.answer(204);
    check_is("unhealthy");
    let address = first.address.to_string();
    expect_event(
        &server,
        &["left out by its checks", &address, "it answered 204"],
    );
    assert_eq!(
        place.metric(&format!("ringway_upstream_server_healthy{labels}")),
        0.0
    );
    for _ in 0..8 {
        assert_eq!(body(&server), second.address.to_string());
    }
    assert_eq!(place.get("/readyz").status, 200, "there is another");
    second.answer(500);
    eventually("none is left", || {
        (place.get("/readyz").status == 503).then_some(())
    });
    let refused = place.get("/readyz").body;
    assert_eq!(refused, "upstream.app has no server that can be used\n");
    assert_eq!(server.get("/").status, 503);

    first.answer(200);
    check_is("healthy");
    expect_event(&server, &["well again by its checks", &address]);
    assert_eq!(place.get("/readyz").status, 200);
    assert_eq!(body(&server), address);
    let errors = server.stop().stderr;
    let told = |what: &str| errors.lines().filter(|line| line.contains(what)).count();
    assert_eq!(
        told("left out by its checks"),
        2,
        "one for each change: {errors}"
    );
    assert_eq!(told("well again"), 1, "{errors}");
}

fn checks_by_connecting(io: Io) {
    let (place, backend) = (Place::new(), Backend::start());
    let dead = nobodys_address();
    let server = place.run(
        io,
        &format!(
            "servers = [\"{}\", \"{dead}\"]\nhealth = \"tcp\"\n{OFTEN}",
            backend.address
        ),
    );
    let dead = dead.to_string();
    expect_event(&server, &["left out by its checks", &dead, "no connection"]);
    for _ in 0..8 {
        assert_eq!(body(&server), backend.address.to_string());
    }
    assert!(
        backend
            .heads()
            .iter()
            .all(|head| head.starts_with("GET / "))
    );
}

fn floods_of_failures(io: Io) {
    let place = Place::new();
    let address = nobodys_address();
    let server = place.run(io, &format!("servers = \"{address}\"\nretries = 0"));
    let mut client = server.connect();
    for _ in 0..200 {
        assert_eq!(client.get("/").status, 502);
    }
    let fault = "ringway_upstream_unanswered_total{upstream=\"app\",fault=\"connect\"}";
    assert_eq!(place.metric(fault), 200.0);
    let labels = format!("{{upstream=\"app\",server=\"{address}\",fault=\"connect\"}}");
    let attempts = format!("ringway_upstream_server_faults_total{labels}");
    assert_eq!(place.metric(&attempts), 200.0);
    drop(client);
    let ended = server.stop();
    let told = |line: &&str| line.contains("no answer from the upstream");
    let lines: Vec<&str> = ended.stderr.lines().filter(told).collect();
    let count = |line: &str| -> u64 {
        let (_, rest) = line.split_once("count=").unwrap();
        rest.split(' ').next().unwrap().parse().unwrap()
    };
    assert!(
        lines.iter().all(|line| line.contains("fault=\"connect\"")),
        "{lines:?}"
    );
    assert!(
        lines.len() < 50,
        "a few lines, however slow this machine is: {}",
        lines.len()
    );
    assert!(lines.iter().map(|line| count(line)).sum::<u64>() <= 200);
}
