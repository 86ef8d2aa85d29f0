//! What the yardsticks share: their command line, and the one response that those give which serve.
//!
//! A yardstick is the least work that a server or a relay can do on this kernel: it parses nothing
//! and checks nothing, so no real one beats it by much. The benchmarks divide by it; nothing else uses
//! it. The response carries the header set of a static file server, since a shorter one would flatter
//! the yardstick by bytes that a real server has to send.

use std::net::{Ipv4Addr, TcpListener};
use std::process::ExitCode;

/// How a yardstick ends: at once and with a reason, or never.
pub(crate) fn report(outcome: Result<(), String>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// Ends with a clear line unless the first argument is a port that can be bound on loopback.
pub(crate) fn listen(usage: &str) -> Result<TcpListener, String> {
    let port = argument(1)
        .and_then(|word| word.parse::<u16>().ok())
        .ok_or_else(|| format!("usage: {usage}"))?;
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .map_err(|error| format!("cannot listen on 127.0.0.1:{port}: {error}"))
}

/// The argument at `index`, where 0 is the program.
pub(crate) fn argument(index: usize) -> Option<String> {
    std::env::args().nth(index)
}

/// The head of a response whose body has `body_bytes`.
#[allow(dead_code, reason = "the relays answer nothing")]
pub(crate) fn head(body_bytes: u64) -> Vec<u8> {
    let lines = [
        "HTTP/1.1 200 OK",
        "Server: bench",
        "Date: Sun, 01 Nov 2026 12:00:00 GMT",
        "Content-Type: text/html",
        &format!("Content-Length: {body_bytes}"),
        "Last-Modified: Sun, 01 Nov 2026 12:00:00 GMT",
        "ETag: \"6a1-400\"",
        "Accept-Ranges: bytes",
        "",
        "",
    ];
    lines.join("\r\n").into_bytes()
}

/// Head and body in one piece; the body's size is the second argument, 1024 without one.
#[allow(
    dead_code,
    reason = "the relays answer nothing, and sendfile sends a file"
)]
pub(crate) fn response(usage: &str) -> Result<Vec<u8>, String> {
    let body_bytes = match argument(2) {
        None => 1024,
        Some(word) => word.parse().map_err(|_| format!("usage: {usage}"))?,
    };
    let mut bytes = head(body_bytes as u64);
    bytes.resize(bytes.len() + body_bytes, b'.');
    Ok(bytes)
}
