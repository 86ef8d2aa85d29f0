//! What a running server says of itself on its admin listener: where its workers are, what drives
//! them, and how connections find them. What else `/status` holds is left alone.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// How long a server may take to connect to, and between two pieces of its answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of an answer that are read; a thousand workers take about half of it.
const ANSWER_BYTES: u64 = 1 << 20;

/// A server of ours that runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Server {
    /// Its version.
    pub version: String,
    /// Its workers.
    pub workers: Vec<ServerWorker>,
    /// How it placed them.
    pub placement: ServerPlacement,
    /// How connections are steered to them.
    pub steering: ServerSteering,
}

/// A worker of a server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerWorker {
    /// The processor that it was started for.
    pub cpu: Option<u32>,
    /// `uring` or `epoll`, a colon, and why.
    pub driver: String,
    /// Where its buffers are.
    pub memory: ServerMemory,
}

/// Where a worker's buffers are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerMemory {
    /// Whether they are on the worker's node; `null` when it isn't known.
    pub is_on_its_node: Option<bool>,
    /// Which node was asked of the kernel, or why it refused.
    pub policy: String,
}

/// How a server placed its workers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerPlacement {
    /// Whether each has a processor of its own.
    pub is_pinned: bool,
}

/// How a server's connections are steered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerSteering {
    /// `incoming-cpu`, `bpf` or `hash`.
    pub kind: String,
    /// The share of connections that came in on their worker's processor; `null` before the first.
    pub live: Option<f64>,
    /// Why this kind.
    pub reason: String,
}

/// Where a server's admin listener is: `unix:PATH` or `ADDRESS:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminListener {
    /// A socket in the file system.
    Unix(PathBuf),
    /// A port.
    Tcp(SocketAddr),
}

impl FromStr for AdminListener {
    type Err = String;

    fn from_str(text: &str) -> Result<AdminListener, String> {
        let refused = || "neither unix:PATH nor ADDRESS:PORT".to_owned();
        match text.strip_prefix("unix:") {
            Some("") => Err(refused()),
            Some(path) => Ok(AdminListener::Unix(path.into())),
            None => text.parse().map(AdminListener::Tcp).map_err(|_| refused()),
        }
    }
}

impl fmt::Display for AdminListener {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdminListener::Unix(path) => write!(out, "unix:{}", path.display()),
            AdminListener::Tcp(address) => address.fmt(out),
        }
    }
}

impl Server {
    /// Asks the server at its admin listener.
    ///
    /// # Errors
    /// Why it can't be asked, or that what answers is no server of ours.
    pub fn ask(listener: &AdminListener) -> Result<Server, String> {
        let answer = match listener {
            AdminListener::Unix(path) => UnixStream::connect(path).and_then(|stream| {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                exchange(stream)
            }),
            AdminListener::Tcp(address) => {
                TcpStream::connect_timeout(address, PATIENCE).and_then(|stream| {
                    stream.set_read_timeout(Some(PATIENCE))?;
                    stream.set_write_timeout(Some(PATIENCE))?;
                    exchange(stream)
                })
            }
        };
        let answer = answer.map_err(|error| format!("{listener}: {error}"))?;
        Server::of(&answer).map_err(|why| format!("{listener}: {why}"))
    }

    /// Reads an answer to `GET /status`, head included.
    fn of(answer: &[u8]) -> Result<Server, String> {
        let answer = String::from_utf8_lossy(answer);
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .ok_or("what answers is no admin listener")?;
        let status = head.split(' ').nth(1).unwrap_or("nothing");
        if status != "200" {
            return Err(format!("/status is answered with {status}"));
        }
        serde_json::from_str(body).map_err(|error| format!("/status is not what we write: {error}"))
    }
}

fn exchange(mut stream: impl Read + Write) -> io::Result<Vec<u8>> {
    stream.write_all(b"GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES).read_to_end(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_status_is_told() {
        let check = |answer: &str, expect: &str| {
            let why = Server::of(answer.as_bytes()).expect_err("not what we write");
            assert!(why.contains(expect), "{why}");
        };
        check("", "no admin listener");
        check("SSH-2.0-x\r\n", "no admin listener");
        check("HTTP/1.1 404 Not Found\r\n\r\n", "answered with 404");
        check("HTTP/1.1 200 OK\r\n\r\n<html>", "not what we write");
        check("HTTP/1.1 200 OK\r\n\r\n{}", "not what we write");
    }

    #[test]
    fn who_does_not_answer_is_told() {
        let listener = "unix:/nonexistent/admin.sock".parse().expect("a path");
        let why = Server::ask(&listener).expect_err("nobody is there");
        assert!(
            why.starts_with("unix:/nonexistent/admin.sock: No such file"),
            "{why}"
        );
    }

    #[test]
    fn listeners_are_paths_or_addresses_with_a_port() {
        let good = ["unix:/run/a", "unix:a", "127.0.0.1:9090", "[::1]:9090"];
        for text in good {
            let listener: AdminListener = text.parse().expect(text);
            assert_eq!(listener.to_string(), text);
        }
        let bad = ["", "unix:", "/run/a", "localhost:9090", "127.0.0.1", "9090"];
        for text in bad {
            text.parse::<AdminListener>().expect_err(text);
        }
    }
}
