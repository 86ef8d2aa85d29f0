//! One question to a server: whether it takes a connection, or answers a request as it should.
//!
//! Each question has a connection of its own, as a client would that has none yet. The answer's head is
//! read by the same strict rules as those to clients' requests; its content isn't read.

use crate::config::{ActiveHealth, HostPolicy, Probe};
use crate::proxy::KnownServer;
use ringway_http::head::{HeadScan, Method};
use ringway_http::received::{ReceivedLimits, parse_received};
use ringway_runtime::Destination;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// More than any sound answer has before its content; `parse_received` refuses longer heads.
const ANSWER_BYTES: usize = 64 << 10;

/// Asks a server.
///
/// # Errors
/// Why it isn't well, for the event log.
pub(super) async fn ask(
    health: &ActiveHealth,
    host: &HostPolicy,
    server: &KnownServer,
) -> Result<(), String> {
    match timeout(health.timeout, exchange(health, host, server)).await {
        Ok(answered) => answered,
        Err(_) => Err("no answer in time (health_timeout)".to_owned()),
    }
}

async fn exchange(
    health: &ActiveHealth,
    host: &HostPolicy,
    server: &KnownServer,
) -> Result<(), String> {
    let mut last = "no address".to_owned();
    for destination in &server.destinations {
        let asked = match destination {
            Destination::Tcp(address) => match TcpStream::connect(address).await {
                Ok(stream) => ask_on(stream, health, host, server).await,
                Err(error) => {
                    last = no_connection(&error);
                    continue;
                }
            },
            Destination::Unix(path) => match UnixStream::connect(path).await {
                Ok(stream) => ask_on(stream, health, host, server).await,
                Err(error) => {
                    last = no_connection(&error);
                    continue;
                }
            },
        };
        return asked;
    }
    Err(last)
}

fn no_connection(error: &io::Error) -> String {
    format!("no connection: {error}")
}

async fn ask_on(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    health: &ActiveHealth,
    host: &HostPolicy,
    server: &KnownServer,
) -> Result<(), String> {
    let Probe::Http(target) = &health.probe else {
        return Ok(());
    };
    let host = match host {
        HostPolicy::Text(host) => host,
        // Nobody has asked for anything, so that it is the server's own.
        HostPolicy::Client | HostPolicy::Upstream => &server.host,
    };
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: ringway-health\r\n\
         Accept: */*\r\nConnection: close\r\n\r\n"
    );
    let broken = |error: io::Error| format!("the connection failed: {error}");
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    let mut received = Vec::with_capacity(4 << 10);
    loop {
        if let Some(status) = read_status(&mut received)? {
            let mut ranges = health.status.iter();
            return match ranges.any(|range| (range.first..=range.last).contains(&status)) {
                true => Ok(()),
                false => Err(format!("it answered {status}")),
            };
        }
        if received.len() > ANSWER_BYTES {
            return Err("its answer has no end".to_owned());
        }
        if stream.read_buf(&mut received).await.map_err(broken)? == 0 {
            return Err("it closed the connection without an answer".to_owned());
        }
    }
}

/// The status of the final answer, when its head is all there. Interim ones are taken out.
fn read_status(received: &mut Vec<u8>) -> Result<Option<u16>, String> {
    loop {
        let limits = ReceivedLimits::default();
        let parsed = parse_received(received, &mut HeadScan::default(), &limits, Method::Get);
        let Some((head, length)) = parsed.map_err(|error| error.to_string())? else {
            return Ok(None);
        };
        if !head.is_interim() {
            return Ok(Some(head.status));
        }
        received.drain(..length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(received: &str, expect: Result<Option<u16>, &str>) {
        let status = read_status(&mut received.as_bytes().to_vec());
        assert_eq!(
            status.as_ref().map_err(|error| &error[..]),
            expect.as_ref().map_err(|text| *text)
        );
    }

    #[test]
    fn the_final_answer_counts() {
        check("HTTP/1.1 204 No Content\r\n\r\n", Ok(Some(204)));
        check(
            "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy",
            Ok(Some(503)),
        );
        let early = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
        check(
            &format!("{early}{early}HTTP/1.0 200 OK\r\n\r\n"),
            Ok(Some(200)),
        );
        check(early, Ok(None));
        check("", Ok(None));
        check("HTTP/1.1 200 OK\r\nServer: x", Ok(None));
    }

    #[test]
    fn what_is_no_answer_is_a_failure() {
        assert!(read_status(&mut b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec()).is_err());
    }
}
