//! Response heads, written straight into the buffer that will be sent.
//!
//! Nothing is formatted and nothing is allocated as long as the buffer has room. What can't stand
//! in a head can't get into one: names are checked when they are made, values when they are
//! written, and a head with a bad value is taken back whole.

use std::fmt;

use http::StatusCode;

use crate::date::HttpDate;
use crate::field::{is_token_byte, is_value_byte};
use crate::head::{Headers, Version};
use crate::range::ByteRange;
use crate::received::ReceivedHead;

/// The name of a response field, checked at compile time; made by [`header_name!`](crate::header_name).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderName {
    /// End of the line before, name, colon and space, so that one copy writes it all.
    lead: &'static str,
}

impl HeaderName {
    /// For [`header_name!`](crate::header_name).
    #[doc(hidden)]
    pub const fn from_lead(lead: &'static str) -> Self {
        let bytes = lead.as_bytes();
        assert!(bytes.len() > 4, "a header name can't be empty");
        let mut at = 2;
        while at < bytes.len() - 2 {
            let byte = bytes[at];
            assert!(
                byte.is_ascii_alphanumeric() || byte == b'-',
                "not a header name"
            );
            at += 1;
        }
        HeaderName { lead }
    }

    /// The name.
    pub fn as_str(self) -> &'static str {
        &self.lead[2..self.lead.len() - 2]
    }
}

/// Makes a [`HeaderName`](crate::response::HeaderName) of a literal; a bad name doesn't compile
/// in a constant.
///
/// ```
/// use ringway_http::{header_name, response::HeaderName};
///
/// const SERVER_TIMING: HeaderName = header_name!("Server-Timing");
/// assert_eq!(SERVER_TIMING.as_str(), "Server-Timing");
/// ```
#[macro_export]
macro_rules! header_name {
    ($name:literal) => {
        $crate::response::HeaderName::from_lead(concat!("\r\n", $name, ": "))
    };
}

macro_rules! names {
    ($($constant:ident = $name:literal),* $(,)?) => {
        $(
            #[doc = concat!("`", $name, "`")]
            pub const $constant: HeaderName = header_name!($name);
        )*
    };
}

/// The names of the fields a server sends most.
pub mod name {
    use super::HeaderName;

    names! {
        ACCEPT_RANGES = "Accept-Ranges",
        ALLOW = "Allow",
        CACHE_CONTROL = "Cache-Control",
        CONNECTION = "Connection",
        CONTENT_ENCODING = "Content-Encoding",
        CONTENT_LENGTH = "Content-Length",
        CONTENT_RANGE = "Content-Range",
        CONTENT_TYPE = "Content-Type",
        DATE = "Date",
        ETAG = "ETag",
        LAST_MODIFIED = "Last-Modified",
        LOCATION = "Location",
        RETRY_AFTER = "Retry-After",
        SERVER = "Server",
        TRANSFER_ENCODING = "Transfer-Encoding",
        VARY = "Vary",
        WWW_AUTHENTICATE = "WWW-Authenticate",
    }
}

/// The interim answer to `Expect: 100-continue` (RFC 9110 §15.2.1), ready to send.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A name or a value that can't stand in a head; nothing of the head was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidHeader;

impl fmt::Display for InvalidHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("response header with a control character")
    }
}

impl std::error::Error for InvalidHeader {}

/// A response head being written.
///
/// ```
/// use ringway_http::head::Version;
/// use ringway_http::response::{ResponseHead, name};
/// use ringway_http::StatusCode;
///
/// let mut out = Vec::with_capacity(512);
/// ResponseHead::new(&mut out, StatusCode::OK, Version::Http11)
///     .header(name::CONTENT_TYPE, b"text/plain; charset=utf-8")
///     .content_length(5)
///     .finish()?;
/// out.extend_from_slice(b"hello");
/// # Ok::<(), ringway_http::response::InvalidHeader>(())
/// ```
#[derive(Debug)]
#[must_use = "a head is complete only after `finish`"]
pub struct ResponseHead<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
    valid: bool,
}

impl<'o> ResponseHead<'o> {
    /// Writes the status line behind what `out` has already (RFC 9112 §4). The reason is the
    /// registered one, or empty.
    #[inline]
    pub fn new(out: &'o mut Vec<u8>, status: StatusCode, version: Version) -> Self {
        let start = out.len();
        if status == StatusCode::OK && version == Version::Http11 {
            out.extend_from_slice(b"HTTP/1.1 200 OK");
        } else {
            status_line(out, status, version);
        }
        ResponseHead {
            out,
            start,
            valid: true,
        }
    }

    /// Writes the status line of a response that is passed on, with its own reason.
    #[inline]
    pub fn relayed(out: &'o mut Vec<u8>, status: u16, reason: &[u8]) -> Self {
        let start = out.len();
        if status == 200 && reason == b"OK" {
            out.extend_from_slice(b"HTTP/1.1 200 OK");
            let valid = true;
            return ResponseHead { out, start, valid };
        }
        out.extend_from_slice(b"HTTP/1.1 ");
        push_decimal(out, status.into());
        out.push(b' ');
        let mut head = ResponseHead {
            out,
            start,
            valid: (100..1000).contains(&status),
        };
        head.checked(reason);
        head
    }

    /// Adds a field. A value with a control character other than HTAB makes [`finish`] fail.
    ///
    /// [`finish`]: ResponseHead::finish
    #[inline]
    pub fn header(mut self, name: HeaderName, value: &[u8]) -> Self {
        self.out.extend_from_slice(name.lead.as_bytes());
        self.checked(value);
        self
    }

    /// Adds a field whose name isn't known beforehand: for relaying.
    pub fn named(mut self, name: &[u8], value: &[u8]) -> Self {
        self.valid &= !name.is_empty() && name.iter().all(|&byte| is_token_byte(byte));
        self.out.extend_from_slice(b"\r\n");
        self.out.extend_from_slice(name);
        self.out.extend_from_slice(b": ");
        self.checked(value);
        self
    }

    /// Adds those fields of a head that was parsed that `keeps` says yes to: they were checked then.
    #[inline]
    pub fn passed_on(self, fields: Headers<'_>, keeps: impl FnMut(&[u8], &[u8]) -> bool) -> Self {
        self.out.extend_from_slice(b"\r\n");
        fields.copy_to(self.out, keeps);
        // Here it is the next line that ends the one before.
        self.out.truncate(self.out.len() - 2);
        self
    }

    /// Adds the fields of an answer that go on whatever the next connection is
    /// ([`ReceivedHead::copy_to`]); the head as it was, where they have to be looked at one by one.
    ///
    /// # Errors
    ///
    /// That is the error.
    #[inline]
    pub fn passed_on_whole(self, head: &ReceivedHead<'_>) -> Result<Self, Self> {
        self.out.extend_from_slice(b"\r\n");
        let copied = head.copy_to(self.out);
        // Here it is the next line that ends the one before.
        self.out.truncate(self.out.len() - 2);
        match copied {
            Some(()) => Ok(self),
            None => Err(self),
        }
    }

    /// Adds fields that were written before, each a line with its CRLF; their values are checked as
    /// all are, their names not again.
    pub fn lines(mut self, lines: &[u8]) -> Self {
        for line in lines.split_inclusive(|&byte| byte == b'\n') {
            let Some(line) = line.strip_suffix(b"\r\n") else {
                self.valid = false;
                return self;
            };
            self.out.extend_from_slice(b"\r\n");
            self.checked(line);
        }
        self
    }

    /// Adds `Date`.
    #[inline]
    pub fn date(self, date: &HttpDate) -> Self {
        self.out.extend_from_slice(name::DATE.lead.as_bytes());
        self.out.extend_from_slice(date.as_bytes());
        self
    }

    /// Adds `Last-Modified`.
    #[inline]
    pub fn last_modified(self, date: &HttpDate) -> Self {
        self.out
            .extend_from_slice(name::LAST_MODIFIED.lead.as_bytes());
        self.out.extend_from_slice(date.as_bytes());
        self
    }

    /// Adds `Content-Length`.
    #[inline]
    pub fn content_length(self, bytes: u64) -> Self {
        self.out
            .extend_from_slice(name::CONTENT_LENGTH.lead.as_bytes());
        push_decimal(self.out, bytes);
        self
    }

    /// Adds `Content-Range` of a 206 (RFC 9110 §14.4).
    pub fn content_range(self, range: ByteRange, length: u64) -> Self {
        self.out
            .extend_from_slice(name::CONTENT_RANGE.lead.as_bytes());
        self.out.extend_from_slice(b"bytes ");
        push_decimal(self.out, range.first);
        self.out.push(b'-');
        push_decimal(self.out, range.last);
        self.out.push(b'/');
        push_decimal(self.out, length);
        self
    }

    /// Adds `Content-Range` of a 416 (RFC 9110 §14.4).
    pub fn unsatisfied_range(self, length: u64) -> Self {
        self.out
            .extend_from_slice(name::CONTENT_RANGE.lead.as_bytes());
        self.out.extend_from_slice(b"bytes */");
        push_decimal(self.out, length);
        self
    }

    /// Adds what has to be said about the fate of the connection, which is nothing where the
    /// client expects it: `Connection: close` to HTTP/1.1, `keep-alive` to HTTP/1.0 (RFC 9112
    /// §9.3). `client` is the version of the request.
    #[inline]
    pub fn persistence(self, client: Version, keep_alive: bool) -> Self {
        match (client, keep_alive) {
            (Version::Http11, true) | (Version::Http10, false) => {}
            (Version::Http11, false) => self.out.extend_from_slice(b"\r\nConnection: close"),
            (Version::Http10, true) => self.out.extend_from_slice(b"\r\nConnection: keep-alive"),
        }
        self
    }

    /// Ends the head.
    ///
    /// # Errors
    ///
    /// A name or a value wasn't valid; `out` is as it was before the head.
    #[inline]
    pub fn finish(self) -> Result<(), InvalidHeader> {
        if !self.valid {
            self.out.truncate(self.start);
            return Err(InvalidHeader);
        }
        self.out.extend_from_slice(b"\r\n\r\n");
        Ok(())
    }

    #[inline]
    fn checked(&mut self, value: &[u8]) {
        self.valid &= is_value(value);
        self.out.extend_from_slice(value);
    }
}

/// RFC 9110 §5.5. Without an early end, so that the compiler checks many bytes at a time.
#[inline]
fn is_value(value: &[u8]) -> bool {
    value
        .iter()
        .fold(true, |valid, &byte| valid & is_value_byte(byte))
}

fn status_line(out: &mut Vec<u8>, status: StatusCode, version: Version) {
    out.extend_from_slice(version.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' '); // RFC 9112 §4: the space stays when there is no reason
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
}

/// Appends a number in decimal digits.
#[inline]
pub fn push_decimal(out: &mut Vec<u8>, number: u64) {
    if number < 10_000 {
        push_short_decimal(out, number as u32);
    } else {
        push_long_decimal(out, number);
    }
}

/// Up to four digits, as one word: most lengths and ports, and every status.
#[inline]
fn push_short_decimal(out: &mut Vec<u8>, number: u32) {
    let digits = [
        number / 1000,
        number / 100 % 10,
        number / 10 % 10,
        number % 10,
    ];
    let word = u32::from_le_bytes(digits.map(|digit| b'0' + digit as u8));
    let leading_zeros = match number {
        0..10 => 3,
        10..100 => 2,
        100..1000 => 1,
        _ => 0,
    };
    out.extend_from_slice(&(word >> (8 * leading_zeros)).to_le_bytes());
    out.truncate(out.len() - leading_zeros);
}

fn push_long_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A head as a client reads it, by rules written down a second time.
    fn read(head: &[u8]) -> (String, Vec<(String, Vec<u8>)>) {
        let head = head
            .strip_suffix(b"\r\n\r\n")
            .expect("ends with an empty line");
        let lines: Vec<&[u8]> = head.split(|&byte| byte == b'\n').collect();
        let (last, others) = lines.split_last().unwrap();
        let mut lines: Vec<_> = others
            .iter()
            .map(|line| line.strip_suffix(b"\r").expect("ends with CRLF"))
            .collect();
        lines.push(last);
        let fields = lines[1..].iter().map(|line| {
            let colon = line
                .windows(2)
                .position(|pair| pair == b": ")
                .expect("has a colon");
            let name = String::from_utf8(line[..colon].to_vec()).unwrap();
            (name, line[colon + 2..].to_vec())
        });
        (
            String::from_utf8(lines[0].to_vec()).unwrap(),
            fields.collect(),
        )
    }

    #[track_caller]
    fn check(expect: &str, build: impl FnOnce(ResponseHead<'_>) -> ResponseHead<'_>) {
        let mut out = b"before".to_vec();
        let head = ResponseHead::new(&mut out, StatusCode::OK, Version::Http11);
        build(head).finish().unwrap();
        let expect = format!("beforeHTTP/1.1 200 OK\r\n{expect}\r\n");
        assert_eq!(String::from_utf8(out).unwrap(), expect);
    }

    #[track_caller]
    fn check_refused(build: impl FnOnce(ResponseHead<'_>) -> ResponseHead<'_>) {
        let mut out = b"before".to_vec();
        let head = ResponseHead::new(&mut out, StatusCode::OK, Version::Http11);
        assert_eq!(
            build(head.content_length(1)).content_length(2).finish(),
            Err(InvalidHeader)
        );
        assert_eq!(out, b"before");
    }

    #[test]
    fn fields() {
        let date = HttpDate::from_unix_seconds(784_111_777);
        let range = ByteRange { first: 5, last: 10 };
        check("", |head| head);
        check("Content-Length: 0\r\n", |head| head.content_length(0));
        check("Content-Type: text/html\r\n", |head| {
            head.header(name::CONTENT_TYPE, b"text/html")
        });
        check("Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", |head| {
            head.date(&date)
        });
        check("Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n", |head| {
            head.last_modified(&date)
        });
        check("Content-Range: bytes 5-10/11\r\n", |head| {
            head.content_range(range, 11)
        });
        check("Content-Range: bytes */11\r\n", |head| {
            head.unsatisfied_range(11)
        });
        check("X-A: b\tc\r\n", |head| head.named(b"X-A", b"b\tc"));
    }

    #[test]
    fn persistence_is_said_where_it_is_not_the_default() {
        use Version::{Http10, Http11};
        check("", |head| head.persistence(Http11, true));
        check("Connection: close\r\n", |head| {
            head.persistence(Http11, false)
        });
        check("Connection: keep-alive\r\n", |head| {
            head.persistence(Http10, true)
        });
        check("", |head| head.persistence(Http10, false));
    }

    #[test]
    fn status_lines() {
        let line = |code, version| {
            let mut out = Vec::new();
            let status = StatusCode::from_u16(code).unwrap();
            ResponseHead::new(&mut out, status, version)
                .finish()
                .unwrap();
            read(&out).0
        };
        assert_eq!(line(404, Version::Http11), "HTTP/1.1 404 Not Found");
        assert_eq!(line(200, Version::Http10), "HTTP/1.0 200 OK");
        assert_eq!(line(599, Version::Http11), "HTTP/1.1 599 ");
        for code in 100..1000 {
            assert!(line(code, Version::Http11).starts_with(&format!("HTTP/1.1 {code} ")));
        }
    }

    #[test]
    fn relayed_status_lines_keep_their_reason() {
        let mut out = Vec::new();
        let relayed = ResponseHead::relayed(&mut out, 200, b"Fine");
        relayed.named(b"A", b"b").finish().unwrap();
        assert_eq!(out, b"HTTP/1.1 200 Fine\r\nA: b\r\n\r\n");
        let mut out = Vec::new();
        assert!(
            ResponseHead::relayed(&mut out, 200, b"a\r\nb")
                .finish()
                .is_err()
        );
        assert!(ResponseHead::relayed(&mut out, 99, b"").finish().is_err());
        assert!(out.is_empty());
    }

    #[test]
    fn every_control_byte_is_refused() {
        for byte in 0..=255u8 {
            let value = [b'a', byte, b'b'];
            if byte == b'\t' || (byte >= b' ' && byte != 0x7f) {
                let mut out = Vec::new();
                let head = ResponseHead::new(&mut out, StatusCode::OK, Version::Http11);
                head.header(name::ETAG, &value).finish().unwrap();
                assert_eq!(read(&out).1, [("ETag".to_owned(), value.to_vec())]);
            } else {
                check_refused(|head| head.header(name::ETAG, &value));
                check_refused(|head| head.named(b"a", &value));
            }
            check_refused(|head| head.named(&[b'a', byte, b' '], b"b"));
        }
        check_refused(|head| head.named(b"", b"b"));
        check_refused(|head| head.named(b"a:", b"b"));
    }

    #[test]
    fn decimals() {
        for number in (0..10_010).chain([1_234_567_890, u64::MAX]) {
            let mut out = Vec::new();
            push_decimal(&mut out, number);
            assert_eq!(out, number.to_string().as_bytes());
        }
    }

    proptest! {
        #[test]
        fn reading_is_the_inverse_of_writing(
            fields in prop::collection::vec(("[!#-'*+.^_`|~0-9A-Za-z-]{1,12}", any::<Vec<u8>>()), 0..6),
            code in 100u16..1000,
        ) {
            let status = StatusCode::from_u16(code).unwrap();
            let mut out = Vec::new();
            let mut head = ResponseHead::new(&mut out, status, Version::Http11);
            for (name, value) in &fields {
                head = head.named(name.as_bytes(), value);
            }
            let sound = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
            if fields.iter().all(|(_, value)| value.iter().all(sound)) {
                head.finish().unwrap();
                let (line, read) = read(&out);
                let expect = format!("HTTP/1.1 {code} ");
                prop_assert!(line.starts_with(&expect));
                prop_assert_eq!(read, fields);
            } else {
                prop_assert_eq!(head.finish(), Err(InvalidHeader));
                prop_assert!(out.is_empty());
            }
        }
    }
}
