//! A worker that another program embeds: what `serve_on` does without a control thread.

#![allow(clippy::unwrap_used, reason = "a test's failure is a panic")]

use ringway_runtime::{Io, Runtime, RuntimeOptions, spawn_blocking};
use ringway_server::config::Config;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

/// Only a hang takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Kinds of records (RFC 1035 §3.2.2, RFC 2782).
const A: u16 = 1;
const SRV: u16 = 33;

/// A name server for which every service is at this port of `one.test`, and every name at
/// 127.0.0.1. Its thread ends with the process.
fn name_server(port: u16) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((count, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&answer(&buffer[..count], port), peer);
        }
    });
    address
}

/// RFC 1035 §4.1. The question is the first and only one.
fn answer(query: &[u8], port: u16) -> Vec<u8> {
    let name_end = query[12..].iter().position(|&byte| byte == 0).unwrap() + 13;
    let kind = u16::from_be_bytes([query[name_end], query[name_end + 1]]);
    let record = match kind {
        A => Some(Ipv4Addr::LOCALHOST.octets().to_vec()),
        SRV => Some([&[0, 1, 0, 1], &port.to_be_bytes()[..], b"\x03one\x04test\0"].concat()),
        _ => None,
    };
    let count = u8::from(record.is_some());
    let mut answer = [&query[..2], &[0x85, 0x80, 0, 1, 0, count, 0, 0, 0, 0]].concat();
    answer.extend_from_slice(&query[12..name_end + 4]);
    if let Some(record) = record {
        // The name of the question, the internet's class, and a minute to live.
        answer.extend([0xc0, 12]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 60, 0, record.len() as u8]);
        answer.extend(record);
    }
    answer
}

/// A server that says who was asked, once for each connection.
fn backend() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                head.push(byte[0]);
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfound");
        }
    });
    port
}

fn ask(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    stream.write_all(request).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The server is found by the configured name servers, also where it is a service.
fn check(io: Io, server: &str) {
    let options = RuntimeOptions {
        io,
        ..RuntimeOptions::default()
    };
    let mut runtime = match Runtime::new(&options) {
        Ok(runtime) => runtime,
        Err(error) if io == Io::Uring => {
            skip("a worker that is embedded", &error.to_string());
            return;
        }
        Err(error) => panic!("no driver: {error}"),
    };
    let port = backend();
    let server = server.replace("PORT", &port.to_string());
    let config = format!(
        "[listen.main]\naddress = \"127.0.0.1:0\"\nproxy = \"app\"\n\
         [upstream.app]\nservers = [\"{server}\"]\nresolver = \"{}\"\n",
        name_server(port)
    );
    let config = Config::from_toml(&config).unwrap();
    let address = ringway_server::serve_on(&runtime, config).unwrap().address;
    let asked = runtime.block_on(async move { spawn_blocking(move || ask(address)).await });
    let answer = asked.unwrap().unwrap();
    assert!(answer.ends_with("\r\n\r\nfound"), "{answer}");
}

#[test]
fn names_are_asked_of_the_configured_resolver() {
    for io in [Io::Uring, Io::Epoll] {
        check(io, "one.test:PORT");
    }
}

#[test]
fn services_are_looked_up() {
    for io in [Io::Uring, Io::Epoll] {
        check(io, "srv:_http._tcp.test");
    }
}

/// Says that `name` does not run here, on standard error and in the log where there is one.
fn skip(name: &str, reason: &str) {
    let line = format!("SKIP {name}: {reason}");
    eprintln!("{line}");
    if let Some(path) = std::env::var_os("RINGWAY_SKIP_LOG") {
        let log = std::fs::File::options()
            .append(true)
            .create(true)
            .open(path);
        log.and_then(|mut log| writeln!(log, "{line}")).unwrap();
    }
}
