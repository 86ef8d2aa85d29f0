//! The least work that a server or a relay can do on this kernel, to divide by.
//!
//! A yardstick parses nothing and checks nothing, so no real one beats it by much. The benchmarks use
//! it; nothing else does. What it answers carries the header set of a static file server, since a
//! shorter one would flatter the yardstick by bytes that a real server has to send.

mod ends;
mod epoll;
mod file;
mod relay_epoll;
mod relay_splice;
mod relay_uring;
mod ring;
mod threads;
mod uring;

pub use epoll::serve_epoll;
pub use file::serve_file;
pub use relay_epoll::relay_epoll;
pub use relay_splice::relay_splice;
pub use relay_uring::relay_uring;
pub use threads::{serve_per_core, serve_shared};
pub use uring::serve_uring;

/// The head of a response whose body has `body_bytes`.
pub fn head(body_bytes: u64) -> Vec<u8> {
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

/// Head and body in one piece.
pub fn response(body_bytes: usize) -> Vec<u8> {
    let mut bytes = head(body_bytes as u64);
    bytes.resize(bytes.len() + body_bytes, b'.');
    bytes
}
