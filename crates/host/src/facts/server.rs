//! What a running server says of itself on its admin listener: where its workers are, what drives
//! them, and how connections find them. What else `/status` holds is left alone.

use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
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

impl Server {
    /// Asks the admin listener at `unix:PATH` or `ADDRESS:PORT`.
    ///
    /// # Errors
    /// Why it can't be asked, or that what answers is no server of ours.
    pub fn ask(listener: &str) -> Result<Server, String> {
        let answer = match listener.strip_prefix("unix:") {
            Some(path) => UnixStream::connect(path).and_then(|stream| {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                exchange(stream)
            }),
            None => connect(listener).and_then(exchange),
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

fn connect(address: &str) -> io::Result<TcpStream> {
    let address = address
        .parse()
        .map_err(|_| io::Error::other("neither unix:PATH nor ADDRESS:PORT"))?;
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
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
        let check = |listener: &str, expect: &str| {
            let why = Server::ask(listener).expect_err("nobody is there");
            assert!(why.starts_with(listener) && why.contains(expect), "{why}");
        };
        check("unix:/nonexistent/admin.sock", "No such file");
        check("localhost", "neither unix:PATH nor ADDRESS:PORT");
    }
}
