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

use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// Connections that may wait to be accepted: as many as the kernel grants (`net.core.somaxconn`).
const BACKLOG: i32 = i32::MAX;

/// Listens on `port` of 127.0.0.1, with as much room for clients that come at once as there can be. The
/// standard library asks for 128 (1.95), and who finds no room is told nothing and tries again a second later.
///
/// # Errors
/// As `bind(2)` and `listen(2)`.
pub fn listen(port: u16) -> io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    // On a socket that listens already it changes the room alone.
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(listener)
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;
    use std::time::Duration;

    #[test]
    fn clients_that_come_at_once_find_room() {
        // More than the standard library's 128 and fewer than what a machine may have descriptors for.
        const CLIENTS: usize = 300;
        let granted = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
        if granted.trim().parse::<usize>().unwrap() < CLIENTS {
            println!("SKIP clients_that_come_at_once_find_room: net.core.somaxconn is {granted}");
            return;
        }
        let listener = listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        // Whoever finds no room is connected after a second at the earliest, and only when there is some.
        let patience = Duration::from_secs(5);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| TcpStream::connect_timeout(&address, patience).unwrap())
            .collect();
        let accepted = listener.incoming().take(clients.len());
        assert_eq!(accepted.filter_map(Result::ok).count(), CLIENTS);
    }
}
