//! A request as it goes out to a server: written anew from what was parsed, never copied through,
//! so that the server can't read another request out of it than was routed here.
//!
//! What concerns the client's connection alone stays behind, and what the server is to know about
//! the client is added. Nothing here sends, and nothing decides where to.

use crate::config::{Forward, Forwarded, HostPolicy};
use crate::route::{HeaderEdit, Values, emit_fields, takes_away};
use ringway_http::head::{Framing, Method, RequestHead, Version};
use ringway_http::hop::HopByHop;
use ringway_http::response::push_decimal;
use std::io::Write;
use std::net::IpAddr;
use std::ops::Range;

/// What a request is passed on with, beside its own head.
#[derive(Clone, Copy)]
pub(crate) struct Passage<'a> {
    /// The client's address.
    pub(crate) peer: IpAddr,
    /// The target as the server is to see it: in origin form, or `*`.
    pub(crate) target: &'a [u8],
    /// Whom the client asked: `Host`, or the authority of a target in absolute form, which replaces
    /// that (RFC 9112 §3.2.2).
    pub(crate) host: &'a [u8],
    /// What the upstream's servers are told about the client.
    pub(crate) forward: &'a Forward,
    /// Whether a tunnel may come of it: the client has asked for an upgrade.
    pub(crate) is_upgrade: bool,
    /// How often it may be passed on from here, where that is bounded.
    pub(crate) max_forwards: Option<u32>,
    /// What the route does to the fields.
    pub(crate) edits: &'a [HeaderEdit],
    /// For the variables in what it sets.
    pub(crate) values: &'a Values<'a>,
}

impl Passage<'_> {
    /// Whether the route sets or removes the field of this name, whatever is said in it elsewhere.
    fn sets(&self, name: &[u8]) -> bool {
        !self.edits.is_empty() && takes_away(self.edits, name)
    }
}

/// A head that was written, and where the server's own name goes into it, if it does.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) bytes: Vec<u8>,
    /// The place of `Host`'s value, empty as yet.
    pub(crate) host: Option<Range<usize>>,
}

/// Whether the client asks for its connection to become a tunnel (RFC 9110 §7.8).
pub(crate) fn asks_for_upgrade(head: &RequestHead<'_>, hop: &HopByHop<'_>) -> bool {
    head.has_connection_options
        && head.version == Version::Http11
        && head.framing == Framing::None
        && hop.names(b"upgrade")
        && head.header("Upgrade").next().is_some()
        && !head.header("Upgrade").any(names_http)
}

/// Whether another HTTP is among these protocols: what is asked for behind an upgrade to that would
/// pass by every route.
fn names_http(protocols: &[u8]) -> bool {
    protocols.split(|&byte| byte == b',').any(|protocol| {
        let name = protocol.trim_ascii().split(|&byte| byte == b'/').next();
        let is = |other: &&[u8]| name.is_some_and(|name| name.eq_ignore_ascii_case(other));
        [&b"h2c"[..], b"h2", b"h3", b"http"].iter().any(is)
    })
}

/// Writes the head of the request as the server gets it.
pub(crate) fn write(head: &RequestHead<'_>, hop: &HopByHop<'_>, passage: Passage<'_>) -> Written {
    let trusts = passage.forward.trusted.iter();
    let is_trusted = trusts.clone().any(|range| range.contains(passage.peer));
    let mut out = Vec::with_capacity(512);
    for part in [head.method.as_str().as_bytes(), b" ", passage.target] {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    let host = write_host(&mut out, head, passage);
    head.headers().copy_to(&mut out, |name, _| {
        goes_on(name, hop, passage.forward, is_trusted) && !passage.sets(name)
    });
    match head.framing {
        Framing::None if wants_length(head.method) => {
            out.extend_from_slice(b"Content-Length: 0\r\n")
        }
        Framing::None => {}
        Framing::Length(bytes) => {
            out.extend_from_slice(b"Content-Length: ");
            push_decimal(&mut out, bytes);
            out.extend_from_slice(b"\r\n");
        }
        Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
    }
    if head.expect_continue {
        out.extend_from_slice(b"Expect: 100-continue\r\n");
    }
    if passage.is_upgrade {
        out.extend_from_slice(b"Connection: Upgrade\r\n");
        for protocol in head.header("Upgrade") {
            field(&mut out, b"Upgrade", protocol);
        }
    } else if hop.names(b"te") && accepts_trailers(head) {
        out.extend_from_slice(b"Connection: TE\r\nTE: trailers\r\n");
    }
    tell_of_client(&mut out, head, passage, is_trusted);
    if let Some(via) = &passage.forward.via
        && !passage.sets(b"Via")
    {
        // RFC 9110 §7.6.3: the version that was received, and who passed it on.
        let version = &head.version.as_str()["HTTP/".len()..];
        // Writing to a vector doesn't fail.
        let _ = write!(out, "Via: {version} {via}\r\n");
    }
    if let Some(count) = passage.max_forwards {
        let _ = write!(out, "Max-Forwards: {count}\r\n");
    }
    emit_fields(passage.edits, passage.values, &mut out);
    out.extend_from_slice(b"\r\n");
    Written { bytes: out, host }
}

impl Written {
    /// Puts the server's own name in its place, where there is one; again for another server.
    pub(crate) fn name_server(&mut self, name: &[u8]) {
        if let Some(host) = &mut self.host {
            let end = host.start + name.len();
            self.bytes.splice(host.clone(), name.iter().copied());
            *host = host.start..end;
        }
    }
}

/// Writes the value of `Host`, or says where the server's name is to be.
fn write_host(
    out: &mut Vec<u8>,
    head: &RequestHead<'_>,
    passage: Passage<'_>,
) -> Option<Range<usize>> {
    let host = match &passage.forward.host {
        // A client that speaks HTTP/1.0 need not have named one.
        HostPolicy::Client => {
            (head.host.is_some() || !passage.host.is_empty()).then_some(passage.host)
        }
        HostPolicy::Text(text) => Some(text.as_bytes()),
        HostPolicy::Upstream => None,
    };
    let place = out.len();
    out.extend_from_slice(host.unwrap_or_default());
    out.extend_from_slice(b"\r\n");
    host.is_none().then_some(place..place)
}

fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Whether a field is passed on as it is.
fn goes_on(name: &[u8], hop: &HopByHop<'_>, forward: &Forward, is_trusted: bool) -> bool {
    let is = |lower: &str| name.eq_ignore_ascii_case(lower.as_bytes());
    let first = name.first().map_or(0, |byte| byte | 0x20);
    match (name.len(), first) {
        // Written anew.
        (4, b'h') if is("host") => false,
        (6, b'e') if is("expect") => false,
        (14, b'c') if is("content-length") => false,
        // RFC 9110 §7.6.2: for TRACE and OPTIONS alone, and one less.
        (12, b'm') if is("max-forwards") => false,
        // A variable of CGI programs that nobody but an attacker sets (CVE-2016-5385).
        (5, b'p') if is("proxy") => false,
        (9, b'f') if is("forwarded") => false,
        (15, b'x') if is("x-forwarded-for") => false,
        // Belongs to an upgrade that never goes on (RFC 7540 §3.2.1), named by `Connection` or not.
        (14, b'h') if is("http2-settings") => false,
        (16, b'x') if is("x-forwarded-host") => keeps_claims(forward, is_trusted),
        (17, b'x') if is("x-forwarded-proto") => keeps_claims(forward, is_trusted),
        (16, b'x') if is("x-forwarded-port") => keeps_claims(forward, is_trusted),
        (9, b'x') if is("x-real-ip") => keeps_claims(forward, is_trusted),
        _ => !hop.keeps_back(name),
    }
}

/// Whether what the client says of somebody before it is passed on.
fn keeps_claims(forward: &Forward, is_trusted: bool) -> bool {
    is_trusted && matches!(forward.forwarded, Forwarded::X | Forwarded::Both)
}

/// RFC 9110 §8.6: a request that means to have content, and has none, says so.
fn wants_length(method: Method<'_>) -> bool {
    matches!(method, Method::Post | Method::Put | Method::Patch)
}

fn accepts_trailers(head: &RequestHead<'_>) -> bool {
    head.header("TE").any(|value| {
        let mut codings = value.split(|&byte| byte == b',');
        codings.any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    })
}

/// Adds who the client is.
fn tell_of_client(
    out: &mut Vec<u8>,
    head: &RequestHead<'_>,
    passage: Passage<'_>,
    is_trusted: bool,
) {
    let (x, standard) = match passage.forward.forwarded {
        Forwarded::Off => (false, false),
        Forwarded::X => (true, false),
        Forwarded::Rfc7239 => (false, true),
        Forwarded::Both => (true, true),
    };
    let host = passage.host;
    if x {
        if !passage.sets(b"X-Forwarded-For") {
            out.extend_from_slice(b"X-Forwarded-For: ");
            if is_trusted {
                claimed(out, head, "X-Forwarded-For");
            }
            push_address(out, passage.peer);
            out.extend_from_slice(b"\r\n");
        }
        let is_told = |name: &str| {
            passage.sets(name.as_bytes()) || (is_trusted && head.header(name).next().is_some())
        };
        if !is_told("X-Forwarded-Proto") {
            out.extend_from_slice(b"X-Forwarded-Proto: http\r\n");
        }
        if !host.is_empty() && !is_told("X-Forwarded-Host") {
            field(out, b"X-Forwarded-Host", host);
        }
    }
    if standard && !passage.sets(b"Forwarded") {
        out.extend_from_slice(b"Forwarded: ");
        if is_trusted {
            claimed(out, head, "Forwarded");
        }
        // RFC 7239 §6: an IPv6 address is in brackets, and so in quotes.
        let is_v6 = passage.peer.to_canonical().is_ipv6();
        out.extend_from_slice(if is_v6 { b"for=\"[" } else { b"for=" });
        push_address(out, passage.peer);
        out.extend_from_slice(if is_v6 { b"]\"" } else { b"" });
        if !host.is_empty() {
            // A host has no character that would need an escape (RFC 3986 §3.2.2).
            out.extend_from_slice(b";host=\"");
            out.extend_from_slice(host);
            out.push(b'"');
        }
        out.extend_from_slice(b";proto=http\r\n");
    }
}

/// The digits of each byte, and how many there are.
static OCTETS: [([u8; 3], usize); 256] = {
    let mut octets = [([0; 3], 0); 256];
    let mut byte = 0;
    while byte < octets.len() {
        let digits = [byte / 100, byte / 10 % 10, byte % 10];
        let count = if byte < 10 {
            1
        } else if byte < 100 {
            2
        } else {
            3
        };
        let mut at = 0;
        while at < count {
            octets[byte].0[at] = b'0' + digits[3 - count + at] as u8;
            at += 1;
        }
        octets[byte].1 = count;
        byte += 1;
    }
    octets
};

/// Writes an address; of IPv4 by hand, because formatting costs a thousand instructions.
fn push_address(out: &mut Vec<u8>, address: IpAddr) {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let mut text = [0; "255.255.255.255.".len()];
            let mut end = 0;
            for byte in v4.octets() {
                let (digits, count) = &OCTETS[usize::from(byte)];
                text[end..end + 3].copy_from_slice(digits);
                text[end + count] = b'.';
                end += count + 1;
            }
            out.extend_from_slice(&text[..end - 1]);
        }
        IpAddr::V6(v6) => {
            // Writing to a vector doesn't fail.
            let _ = write!(out, "{v6}");
        }
    }
}

/// Writes what was sent under this name, to be added to.
fn claimed(out: &mut Vec<u8>, head: &RequestHead<'_>, name: &str) {
    for value in head.header(name).filter(|value| !value.is_empty()) {
        out.extend_from_slice(value);
        out.extend_from_slice(b", ");
    }
}

/// How often a request may still be passed on (RFC 9110 §7.6.2: of TRACE and OPTIONS alone).
pub(crate) fn max_forwards(head: &RequestHead<'_>) -> Option<u32> {
    if !matches!(head.method, Method::Options | Method::Trace) {
        return None;
    }
    let value = head.header("Max-Forwards").next()?;
    str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
