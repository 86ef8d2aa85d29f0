//! A real browser talks WebSocket (RFC 6455) through the proxy: messages of all sizes, in both
//! directions at once, and an end in good order.
//!
//! The server is the test's own: it serves the page and sends every message back. It looks at each
//! frame on the way: that it is masked, as those of clients are.

use std::process::Stdio;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use crate::peers;
use crate::proxy_peers::Program;
use crate::server::{Io, on_both_drivers};
use crate::upstream::{Peer, Upstream, proxy};

on_both_drivers!(echo);

/// How long a browser may take on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// Sends messages of every kind of length, two at a time, compares what comes back, and tells.
const PAGE: &str = "<!doctype html><title>Echo</title><script>
    const tell = text => fetch('/told?' + encodeURIComponent(text), { cache: 'no-store' });
    const sizes = [0, 1, 125, 126, 65535, 65536, 1000000];
    const bytes = size => Uint8Array.from({ length: size }, (_, at) => at * 7 + size);
    const socket = new WebSocket('ws://' + location.host + '/echo', ['echo']);
    socket.binaryType = 'arraybuffer';
    let heard = 0, wrong = 0;
    socket.onopen = () => {
        for (const size of sizes) { socket.send(bytes(size)); socket.send('\\u00fc'.repeat(size / 2)); }
    };
    socket.onmessage = ({ data }) => {
        const size = sizes[heard >> 1];
        const is_same = heard % 2
            ? data === '\\u00fc'.repeat(size / 2)
            : data.byteLength === size && new Uint8Array(data).every((it, at) => it === bytes_of[heard >> 1][at]);
        if (!is_same) wrong++;
        if (++heard === 2 * sizes.length) socket.close(4000, 'enough');
    };
    const bytes_of = sizes.map(bytes);
    socket.onclose = ({ code, reason, wasClean }) =>
        tell([heard, wrong, code, reason, wasClean, socket.protocol].join(' '));
    </script>";

fn echo(io: Io) {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut command) = peers::browser(folder.path()) else {
        return;
    };
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    let upstream = Upstream::start(move |mut peer| {
        while let Some(request) = peer.request() {
            let target = request.head.split(' ').nth(1).unwrap().to_owned();
            if let Some(key) = field(&request.head, "sec-websocket-key") {
                return talk(&mut peer, &request.head, key);
            }
            if let Some(text) = target.strip_prefix("/told?") {
                let _ = tell.lock().unwrap().send(text.to_owned());
            }
            let (kind, page) = match &*target {
                "/" => ("text/html", PAGE),
                _ => ("text/plain", ""),
            };
            peer.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{page}",
                page.len()
            ));
        }
    });
    let server = proxy(io, &upstream, "");
    command.arg("--remote-debugging-port=0");
    command.arg(format!("http://{}/", server.address()));
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
    let browser = Program::start(quiet.stderr(Stdio::null()));
    let told = told.recv_timeout(LONG);
    drop(browser);
    assert_eq!(told.as_deref(), Ok("14%200%204000%20enough%20true%20echo"));
    server.stop();
}

/// The value of a field.
fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let mut lines = head.split("\r\n").filter_map(|line| line.split_once(": "));
    let named = lines.find(|(sent, _)| sent.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value)
}

/// Agrees to the upgrade (RFC 6455 §4.2.2) and sends every frame back, until one closes.
fn talk(peer: &mut Peer, head: &str, key: &str) {
    assert_eq!(field(head, "upgrade"), Some("websocket"), "{head}");
    let accept = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = base64(&sha1(accept.as_bytes()));
    peer.send(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: echo\r\n\r\n"
    ));
    loop {
        let Some(frame) = Frame::receive(peer) else {
            return;
        };
        peer.send(frame.unmasked());
        if frame.is_close() {
            return;
        }
    }
}

/// A frame (RFC 6455 §5.2).
struct Frame {
    first: u8,
    payload: Vec<u8>,
}

impl Frame {
    /// `None` at the end of the connection.
    fn receive(peer: &mut Peer) -> Option<Frame> {
        let head = peer.take(2)?;
        assert!(head[1] & 0x80 != 0, "a client masks its frames");
        let length = match head[1] & 0x7f {
            126 => u64::from(u16::from_be_bytes(peer.take(2)?.try_into().unwrap())),
            127 => u64::from_be_bytes(peer.take(8)?.try_into().unwrap()),
            short => short.into(),
        };
        let mask = peer.take(4)?;
        let mut payload = peer.take(length as usize)?;
        for (at, byte) in payload.iter_mut().enumerate() {
            *byte ^= mask[at % 4];
        }
        Some(Frame {
            first: head[0],
            payload,
        })
    }

    fn is_close(&self) -> bool {
        self.first & 0x0f == 8
    }

    /// The same as a server sends it.
    fn unmasked(&self) -> Vec<u8> {
        let length = self.payload.len();
        let mut bytes = vec![self.first];
        match length {
            0..=125 => bytes.push(length as u8),
            126..=0xffff => {
                bytes.push(126);
                bytes.extend((length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend(&self.payload);
        bytes
    }
}

/// RFC 3174.
fn sha1(message: &[u8]) -> [u8; 20] {
    let mut state: [u32; 5] = [
        0x6745_2301,
        0xefcd_ab89,
        0x98ba_dcfe,
        0x1032_5476,
        0xc3d2_e1f0,
    ];
    let mut padded = message.to_vec();
    padded.push(0x80);
    while padded.len() % 64 != 56 {
        padded.push(0);
    }
    padded.extend((message.len() as u64 * 8).to_be_bytes());
    for block in padded.chunks(64) {
        let mut words: Vec<u32> = block
            .chunks(4)
            .map(|word| u32::from_be_bytes(word.try_into().unwrap()))
            .collect();
        for at in 16..80 {
            let mixed = words[at - 3] ^ words[at - 8] ^ words[at - 14] ^ words[at - 16];
            words.push(mixed.rotate_left(1));
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (at, word) in words.iter().enumerate() {
            let (mixed, constant) = match at / 20 {
                0 => ((b & c) | (!b & d), 0x5a82_7999),
                1 => (b ^ c ^ d, 0x6ed9_eba1),
                2 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6_u32),
            };
            let next = a
                .rotate_left(5)
                .wrapping_add(mixed)
                .wrapping_add(e)
                .wrapping_add(*word)
                .wrapping_add(constant);
            (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
        }
        for (sum, part) in state.iter_mut().zip([a, b, c, d, e]) {
            *sum = sum.wrapping_add(part);
        }
    }
    state.map(u32::to_be_bytes).concat().try_into().unwrap()
}

/// RFC 4648 §4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let mut padded = [0; 4];
        padded[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(padded);
        for digit in 0..4 {
            text.push(match digit <= group.len() {
                true => DIGITS[(bits >> (18 - 6 * digit) & 63) as usize] as char,
                false => '=',
            });
        }
    }
    text
}

/// The example of RFC 6455 §1.3.
#[test]
fn the_handshake_is_that_of_the_rfc() {
    let accept = b"dGhlIHNhbXBsZSBub25jZQ==258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    assert_eq!(base64(&sha1(accept)), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}
