//! The same bytes sent through Ringway, nginx and HAProxy to a server that writes down what it gets.
//!
//! Each row of [`ROWS`] is a request, and all three are held to what stands there: the answer, and
//! what has arrived at the server. `docs/proxy-wire.md` is written from the same rows; after a change
//! `UPDATE_EXPECT=1` rewrites it.
//!
//! A second request follows each on the same connection. So it shows when two programs don't agree
//! where the first one ends: the second is missing, or there are three.

use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use expect_test::expect_file;

use crate::client::find;
use crate::peers;
use crate::proxy_peers::{Program, nginx};
use crate::server::{Io, PATIENCE, eventually, on_both_drivers};
use crate::upstream::{Peer, Request, Upstream, proxy};

mod rows;

use rows::{ROWS, Row};

on_both_drivers!(every_row);

/// What follows every request.
const NEXT: &str = "GET /next HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";

/// What every request arrives with, in the configurations that are compared; only what differs is
/// shown.
const USUAL: [&str; 4] = [
    "host: test",
    "x-forwarded-for: 127.0.0.1",
    "x-forwarded-host: test",
    "x-forwarded-proto: http",
];

/// A server that answers everything alike, and what it has got.
struct Recorder {
    upstream: Upstream,
    record: Arc<Mutex<Record>>,
}

#[derive(Default)]
struct Record {
    requests: Vec<Request>,
    /// What came behind a request before its answer had been read.
    surplus: Vec<u8>,
    connections: usize,
    ended: usize,
}

impl Recorder {
    fn start() -> Recorder {
        let record = Arc::<Mutex<Record>>::default();
        let ours = Arc::clone(&record);
        let upstream = Upstream::start(move |peer| {
            ours.lock().unwrap().connections += 1;
            serve(peer, &ours);
            ours.lock().unwrap().ended += 1;
        });
        Recorder { upstream, record }
    }

    /// What has come, when all connections have ended.
    fn take(&self) -> Record {
        eventually("the server's connections have ended", || {
            let mut record = self.record.lock().unwrap();
            let is_over = record.connections == self.upstream.accepted()
                && record.connections == record.ended;
            is_over.then(|| {
                let (connections, ended) = (record.connections, record.ended);
                std::mem::replace(
                    &mut *record,
                    Record {
                        connections,
                        ended,
                        ..Record::default()
                    },
                )
            })
        })
    }
}

/// One request, its answer, and whatever else comes.
fn serve(mut peer: Peer, record: &Mutex<Record>) {
    let Some(head) = peer.head() else { return };
    if head
        .to_ascii_lowercase()
        .contains("\r\nexpect: 100-continue")
    {
        peer.send("HTTP/1.1 100 Continue\r\n\r\n");
    }
    let Some(request) = peer.rest_of(head) else {
        return;
    };
    record.lock().unwrap().requests.push(request);
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    peer.finish_sending();
    peer.wait_for_end();
    record.lock().unwrap().surplus.extend(peer.unread());
}

/// Sends a row's request and the next one, and says what came of it.
fn run(recorder: &Recorder, mut stream: impl Read + Write, preface: &str, row: &Row) -> String {
    let bytes = [preface, row.request, NEXT].concat();
    stream.write_all(bytes.as_bytes()).unwrap();
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        // Whoever closes while there is something to read resets.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!(
            "{:?}: {error}: {:?}",
            row.request,
            String::from_utf8_lossy(&answer)
        ),
    }
    let Record {
        mut requests,
        surplus,
        ..
    } = recorder.take();
    let mut statuses = statuses(&answer);
    let is_next = |request: &Request| request.head.starts_with("GET /next ");
    let goes_on = requests.last().is_some_and(is_next);
    if goes_on {
        requests.pop();
        statuses.pop();
    }
    let mut text = match statuses.is_empty() {
        true => "no status".to_owned(),
        false => statuses.join(" "),
    };
    for request in &requests {
        let _ = write!(text, " ← {}", summary(request));
    }
    if !surplus.is_empty() {
        let _ = write!(text, " and {}", shown(&surplus));
    }
    if !goes_on {
        text += ", closes";
    }
    text.replace(&recorder.upstream.address().to_string(), "{server}")
}

/// The statuses of all answers, interim ones too.
fn statuses(mut answer: &[u8]) -> Vec<String> {
    let mut statuses = Vec::new();
    while let Some(at) = find(answer, b"HTTP/1.") {
        let line = &answer[at..];
        statuses.push(String::from_utf8_lossy(&line[9..12.min(line.len())]).into_owned());
        answer = &line[12.min(line.len())..];
    }
    statuses
}

/// A request in one line: what is usual is left out, and what is missing of it is told.
fn summary(request: &Request) -> String {
    let mut lines = request.head.split("\r\n");
    let mut text = shown(lines.next().unwrap().as_bytes());
    let mut fields: Vec<String> = lines
        .map(|line| {
            let (name, value) = line.split_once(": ").unwrap_or((line, ""));
            format!("{}: {value}", name.to_ascii_lowercase())
        })
        .collect();
    fields.sort_by(|one, other| one.split(':').next().cmp(&other.split(':').next()));
    for usual in USUAL {
        match fields.iter().position(|field| field == usual) {
            Some(at) => _ = fields.remove(at),
            None => {
                let name = usual.split(':').next().unwrap();
                let prefix = format!("{name}:");
                if !fields.iter().any(|field| field.starts_with(&prefix)) {
                    let _ = write!(text, " · no {name}");
                }
            }
        }
    }
    for field in fields {
        let _ = write!(text, " · {}", shown(field.trim_end().as_bytes()));
    }
    for part in [&request.body[..], request.trailers.join(" · ").as_bytes()] {
        if !part.is_empty() {
            let _ = write!(text, " ¶ {}", shown(part));
        }
    }
    text
}

/// Bytes as a line of text: a line's end is shown as one character, and what can't be seen is escaped.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).replace("\r\n", "⏎");
    let mut shown = String::new();
    for character in text.chars() {
        match character.is_control() {
            true => shown.extend(character.escape_default()),
            false => shown.push(character),
        }
    }
    shown
}

/// What comes of the rows otherwise than they say.
fn differences(expect: impl Fn(&Row) -> &str, run: impl Fn(&Row) -> String) -> String {
    let mut text = String::new();
    for row in ROWS {
        let got = run(row);
        if got != expect(row) {
            let (about, expected) = (row.about, expect(row));
            let request = shown(row.request.as_bytes());
            let _ = writeln!(text, "{about}: {request}\n  {got}\n  not {expected}");
        }
    }
    text
}

fn every_row(io: Io) {
    let recorder = Recorder::start();
    let server = proxy(io, &recorder.upstream, "");
    let different = differences(
        |row| row.ours,
        |row| {
            let stream = TcpStream::connect(server.address()).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            run(&recorder, stream, "", row)
        },
    );
    assert!(different.is_empty(), "\n{different}");
    server.stop();
}

/// How the others hear the client's address over a Unix socket, which needs no port.
const PREFACE: &str = "PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n";

fn run_over(recorder: &Recorder, socket: &str, row: &Row) -> String {
    let stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    run(recorder, stream, PREFACE, row)
}

#[test]
fn through_nginx() {
    if !peers::has("nginx") {
        return;
    }
    let (recorder, folder) = (Recorder::start(), tempfile::tempdir().unwrap());
    let directives = format!(
        "set_real_ip_from unix:; real_ip_header proxy_protocol;\n\
         location / {{ proxy_pass http://{}; proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\"; proxy_set_header Host $http_host;\n\
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n\
         proxy_set_header X-Forwarded-Proto $scheme;\n\
         proxy_set_header X-Forwarded-Host $http_host; }}",
        recorder.upstream.address()
    );
    let (_nginx, socket) = nginx(folder.path(), "proxy_protocol", &directives);
    let socket = socket.strip_prefix("unix:").unwrap();
    let different = differences(Row::through_nginx, |row| run_over(&recorder, socket, row));
    assert!(different.is_empty(), "\n{different}");
}

/// HAProxy on a socket in `folder`, before a server.
fn haproxy(folder: &Path, server: &str) -> (Program, String) {
    let socket = folder.join("haproxy.socket");
    let at = socket.display().to_string();
    let config = format!(
        "defaults\n mode http\n timeout connect 9s\n timeout client 19s\n timeout server 19s\n \
         option forwardfor\n\
         frontend client\n bind unix@{at} accept-proxy\n \
         http-request set-header X-Forwarded-Proto http\n \
         http-request set-header X-Forwarded-Host %[req.hdr(host)]\n default_backend server\n\
         backend server\n server one {server}\n"
    );
    let file = folder.join("haproxy.cfg");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(peers::find("haproxy").unwrap());
    command.args(["-db", "-f"]).arg(&file);
    let program = Program::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
    eventually("HAProxy listens", || UnixStream::connect(&socket).ok());
    (program, at)
}

#[test]
fn through_haproxy() {
    if !peers::has("haproxy") {
        return;
    }
    let (recorder, folder) = (Recorder::start(), tempfile::tempdir().unwrap());
    let (_haproxy, socket) = haproxy(folder.path(), &recorder.upstream.address().to_string());
    let different = differences(Row::through_haproxy, |row| {
        run_over(&recorder, &socket, row)
    });
    assert!(different.is_empty(), "\n{different}");
}

#[test]
fn where_they_differ_it_is_said_why() {
    for row in ROWS {
        let differs = row.through_nginx() != row.ours || row.through_haproxy() != row.ours;
        assert_eq!(differs, !row.why.is_empty(), "{}: {}", row.group, row.about);
    }
}

const HEAD: &str = "\
# What a server gets through Ringway, nginx and HAProxy

<!-- Written from crates/ringway/tests/it/wire/rows.rs. After a change there:
     UPDATE_EXPECT=1 cargo test -p ringway --test it wire -->

Each line is a request that is sent, byte for byte, through Ringway (on both drivers), nginx (seen: 1.22.1) and HAProxy (seen: 2.6.12) to
a server that writes down what it gets, and what all three are held to: `cargo test -p ringway --test it wire`. Behind each request the
same connection asks for `/next`; where that isn't answered the line says `closes`. Before the arrow stand the answers' statuses, behind
it what has arrived: with names in small letters and in their order, the body and trailers behind a `¶`; `{server}` is the server's address. An empty cell
means the same as Ringway's.

nginx and HAProxy are configured as is usual: HTTP/1.1 and kept connections to the server, the client's `Host`, and `X-Forwarded-For`,
`-Proto` and `-Host` set. What each request arrives with (`host: test`, `x-forwarded-for: 127.0.0.1`, `x-forwarded-host: test`,
`x-forwarded-proto: http`) is left out, and told where it is missing. [proxy.md](proxy.md) says what the rules are.
";

/// In a table a bar would end the cell.
fn cell(text: &str) -> String {
    match text {
        "" => String::new(),
        text => format!("`{}`", text.replace('|', "\\|").replace('`', "'")),
    }
}

#[test]
fn the_document_says_the_same() {
    let mut page = HEAD.to_owned();
    let mut group = "";
    for row in ROWS {
        if row.group != group {
            group = row.group;
            let _ = write!(
                page,
                "\n## {group}\n\n| what | request | Ringway | nginx | HAProxy | why they differ |\n\
                 | --- | --- | --- | --- | --- | --- |\n"
            );
        }
        let _ = writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} |",
            row.about,
            cell(&shown(row.request.as_bytes())),
            cell(row.ours),
            cell(row.nginx.unwrap_or_default()),
            cell(row.haproxy.unwrap_or_default()),
            row.why
        );
    }
    expect_file!["../../../../docs/proxy-wire.md"].assert_eq(&page);
}
