//! User memory of an idle tunnel: an upgraded connection that nobody says anything on, as a slope
//! between two counts of them.
//!
//! The server behind the proxy is here: it agrees to every upgrade and then holds still, as the
//! clients do.

use super::Setting;
use crate::bench_serve::idle::{connect_from, raise_descriptor_limit, source};
use crate::contestants::proxies::{self, Course};
use crate::process::{Server, free_port};
use anyhow::{Context, Result, ensure};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread::{self, sleep};
use std::time::Duration;

/// The lower end of the slope.
const FIRST_COUNT: usize = 1_000;
/// The upper one, or as many as this process may have.
const COUNT: usize = 10_000;
/// Of the clients, from one address.
const PER_ADDRESS: usize = 1_000;
/// This program has both ends of what the proxy has both ends of, and both have some for themselves.
const SPARE_DESCRIPTORS: u64 = 1_000;
/// For the proxy to put away what the last upgrades used.
const SETTLE: Duration = Duration::from_secs(2);

const ASKED: &str = "GET /chat HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
                     Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                      Upgrade: websocket\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Measures both drivers.
pub(super) fn run(setting: &Setting<'_>) -> Result<()> {
    let allowed = raise_descriptor_limit(2 * COUNT as u64 + SPARE_DESCRIPTORS)?;
    let count = (allowed.saturating_sub(SPARE_DESCRIPTORS) / 2) as usize;
    ensure!(
        count > FIRST_COUNT,
        "a descriptor limit of {allowed} is too low for this"
    );
    println!("\nidle tunnels, from {FIRST_COUNT} to {count}");
    println!(
        "{:20}{:>16}{:>16}",
        "bytes a tunnel", "anonymous", "MiB at the end"
    );
    for driver in ["uring", "epoll"] {
        measure(setting, driver, count).with_context(|| driver.to_owned())?;
    }
    Ok(())
}

fn measure(setting: &Setting<'_>, driver: &str, count: usize) -> Result<()> {
    let upstream = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen")?;
    let upstream_address = upstream.local_addr()?;
    let agreeing = thread::spawn(move || agree_to_all(&upstream));
    let course = Course {
        port: free_port()?,
        upstream_port: upstream_address.port(),
        path: "chat",
        connections: count,
    };
    let proxy = proxies::ringway(&setting.programs, driver, course)
        .context("no program")?
        .argument("--connections")
        .argument((count + 256).to_string());
    let log = setting.scratch.join("proxy.log");
    let server = Server::start(&proxy.command, proxy.port, setting.proxy_cpu, &log)?;
    let mut tunnels = Vec::with_capacity(count);
    let mut open_until = |wanted: usize| -> Result<u64> {
        while tunnels.len() < wanted {
            let tunnel = upgrade(source(tunnels.len(), PER_ADDRESS), proxy.port);
            tunnels.push(tunnel.with_context(|| format!("tunnel {}", tunnels.len() + 1))?);
        }
        sleep(SETTLE);
        server.anonymous_bytes()
    };
    let (first, last) = (open_until(FIRST_COUNT)?, open_until(count)?);
    println!(
        "{:20}{:>16.0}{:>16.1}",
        proxy.name,
        (last as f64 - first as f64) / (count - FIRST_COUNT) as f64,
        last as f64 / f64::from(1 << 20),
    );
    // Those that had been closed would make it look better than it is.
    for tunnel in &mut tunnels {
        tunnel.write_all(b"?")?;
    }
    drop(TcpStream::connect(upstream_address)?);
    let servers = agreeing.join().ok().context("the server panicked")??;
    for mut server in servers {
        let mut byte = [0];
        server.read_exact(&mut byte).context("a tunnel is closed")?;
        ensure!(byte == *b"?", "a tunnel carries something else");
    }
    server.stop()
}

/// Opens a tunnel through the proxy.
fn upgrade(source: Ipv4Addr, port: u16) -> Result<TcpStream> {
    let mut tunnel = connect_from(source, port)?;
    tunnel.write_all(ASKED.as_bytes())?;
    let head = read_head(&mut tunnel)?.context("closed without an answer")?;
    ensure!(head.starts_with("HTTP/1.1 101 "), "answered {head}");
    Ok(tunnel)
}

/// Agrees to one upgrade after the other, and gives all connections back when one ends at once.
fn agree_to_all(listener: &TcpListener) -> Result<Vec<TcpStream>> {
    let mut agreed = Vec::new();
    loop {
        let (mut connection, _) = listener.accept().context("cannot accept")?;
        if read_head(&mut connection)?.is_none() {
            return Ok(agreed);
        }
        connection.write_all(AGREED.as_bytes())?;
        agreed.push(connection);
    }
}

/// Everything up to an empty line, and nothing behind it; `None` where nothing comes.
fn read_head(from: &mut impl Read) -> Result<Option<String>> {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while !head.ends_with(b"\r\n\r\n") {
        let count = from.read(&mut piece)?;
        if count == 0 {
            ensure!(head.is_empty(), "closed in the middle of a head");
            return Ok(None);
        }
        head.extend_from_slice(&piece[..count]);
    }
    Ok(Some(String::from_utf8_lossy(&head).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::read_head;

    #[test]
    fn a_head_is_read_whole_or_not_at_all() {
        let whole = read_head(&mut &b"a\r\n\r\n"[..]).unwrap();
        assert_eq!(whole.as_deref(), Some("a\r\n\r\n"));
        assert_eq!(read_head(&mut &b""[..]).unwrap(), None);
        assert!(read_head(&mut &b"a\r\n"[..]).is_err());
    }
}
