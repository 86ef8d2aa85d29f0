//! Request heads: the request line and the header fields, from bytes to meaning.
//!
//! [`parse_head`] is the hottest function of the server: one pass, eight bytes at a time where
//! bytes only have to be skipped, which keeps what a server asks of nearly every request and
//! leaves the rest where it is. It doesn't look inside the target (see
//! [`target`](crate::target)), and it knows nothing of responses.
//!
//! The parser is our own because being strict on top of `httparse` (it takes LF for a line end, and
//! knows nothing of framing) means walking twice: a request line and `Host` took 1,011
//! instructions that way and take 552 this way (callgrind, release build, x86-64). `httparse` is
//! the oracle of the fuzz target instead, which the tests replay: what is accepted here, it
//! accepts too, and finds the same fields.

mod error;
mod fields;
mod parse;

pub use error::HeadError;
pub use parse::{HeadScan, parse_head};
pub(crate) use parse::{fault, line};

use crate::condition::Preconditions;
use crate::field::trim;

/// Bounds of a request head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the whole head, its final empty line included; beyond it [431](HeadError).
    pub head_bytes: usize,
    /// Number of header fields; beyond it 431. Browsers send 10 to 20, proxies add a handful.
    pub header_count: usize,
    /// Bytes of the request target; beyond it 414. RFC 9112 §3 recommends at least 8,000.
    pub target_bytes: usize,
}

impl Default for HeadLimits {
    /// 16 KiB, 100 fields, a target of 8 KiB.
    fn default() -> Self {
        HeadLimits {
            head_bytes: 16 << 10,
            header_count: 100,
            target_bytes: 8 << 10,
        }
    }
}

/// The request method (RFC 9110 §9). Methods are case-sensitive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method<'a> {
    /// GET (§9.3.1): the representation.
    Get,
    /// HEAD (§9.3.2): the same without its content.
    Head,
    /// POST (§9.3.3): to be processed.
    Post,
    /// PUT (§9.3.4): to be stored.
    Put,
    /// DELETE (§9.3.5): to be removed.
    Delete,
    /// CONNECT (§9.3.6): a tunnel.
    Connect,
    /// OPTIONS (§9.3.7): what can be done.
    Options,
    /// TRACE (§9.3.8): an echo.
    Trace,
    /// PATCH (RFC 5789): to be changed in part.
    Patch,
    /// Any other token of at most 32 bytes.
    Other(&'a str),
}

impl<'a> Method<'a> {
    /// The method as it stands in the request line.
    pub fn as_str(self) -> &'a str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Connect => "CONNECT",
            Method::Options => "OPTIONS",
            Method::Trace => "TRACE",
            Method::Patch => "PATCH",
            Method::Other(token) => token,
        }
    }
}

/// The protocol version of a message (RFC 9112 §2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1, or a later one of the same major version, which is answered alike (RFC 9110 §2.5).
    Http11,
}

impl Version {
    /// The version as it stands in a message.
    pub fn as_str(self) -> &'static str {
        match self {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
        }
    }
}

/// How the body that follows a head is delimited (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// A body of exactly so many bytes, never zero.
    Length(u64),
    /// A body in chunks (RFC 9112 §7.1).
    Chunked,
}

/// A sound request head. It borrows everything from the input.
///
/// A field that may be sent once only and came more often has an empty value here, which is
/// malformed, as its lines taken together would be (RFC 9110 §5.3). Of `User-Agent` and `Referer`,
/// which decide nothing, the first counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHead<'a> {
    /// The method.
    pub method: Method<'a>,
    /// The target as it was sent; it has no byte below `!` and no DEL. To be understood by
    /// [`Target::parse`](crate::target::Target::parse).
    pub target: &'a [u8],
    /// The protocol version.
    pub version: Version,
    /// How the body is delimited.
    pub framing: Framing,
    /// Whether the client wants the connection to persist (RFC 9112 §9.3).
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body (RFC 9110 §10.1.1).
    /// Never without a body, never in HTTP/1.0.
    pub expect_continue: bool,
    /// Whether `Connection` has options beside `close` and `keep-alive`: names of fields that
    /// concern this connection alone, or `upgrade` (RFC 9110 §7.6.1).
    pub has_connection_options: bool,
    /// `Host`: present in HTTP/1.1, valid, perhaps empty (RFC 9112 §3.2). A target in absolute
    /// form overrides it.
    pub host: Option<&'a [u8]>,
    /// `If-Modified-Since`
    pub if_modified_since: Option<&'a [u8]>,
    /// `If-Unmodified-Since`
    pub if_unmodified_since: Option<&'a [u8]>,
    /// `If-Range`
    pub if_range: Option<&'a [u8]>,
    /// `Range`
    pub range: Option<&'a [u8]>,
    /// `Authorization`
    pub authorization: Option<&'a [u8]>,
    /// `User-Agent`
    pub user_agent: Option<&'a [u8]>,
    /// `Referer`
    pub referer: Option<&'a [u8]>,
    /// The first line of `If-Match`.
    if_match: Option<&'a [u8]>,
    /// The first line of `If-None-Match`.
    if_none_match: Option<&'a [u8]>,
    /// The first line of `Accept-Encoding`.
    accept_encoding: Option<&'a [u8]>,
    /// One of those three has more than one line.
    has_split_list: bool,
    /// The lines behind the request line, each with its CRLF, without the empty one.
    lines: &'a [u8],
}

impl<'a> RequestHead<'a> {
    /// All fields in the order they were sent: name as sent, value without whitespace around it.
    /// They are found anew by each walk: nearly every request is answered without one.
    pub fn headers(&self) -> Headers<'a> {
        Headers { lines: self.lines }
    }

    /// The values of all fields called `name`, whatever its case.
    pub fn header<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let named = move |(sent, _): &(&[u8], _)| sent.eq_ignore_ascii_case(name.as_bytes());
        self.headers().filter(named).map(|(_, value)| value)
    }

    /// The fields that make the request conditional, for [`condition`](crate::condition).
    #[inline]
    pub fn preconditions(&self) -> Preconditions<'a> {
        Preconditions {
            if_match: self.list(self.if_match, "If-Match"),
            if_unmodified_since: self.if_unmodified_since,
            if_none_match: self.list(self.if_none_match, "If-None-Match"),
            if_modified_since: self.if_modified_since,
        }
    }

    /// Whether any of those fields is there.
    #[inline]
    pub fn is_conditional(&self) -> bool {
        self.if_match.is_some()
            || self.if_none_match.is_some()
            || self.if_modified_since.is_some()
            || self.if_unmodified_since.is_some()
    }

    /// `Accept-Encoding`
    #[inline]
    pub fn accept_encoding(&self) -> Option<ListValue<'a>> {
        self.list(self.accept_encoding, "Accept-Encoding")
    }

    #[inline]
    fn list(&self, first: Option<&'a [u8]>, name: &'static str) -> Option<ListValue<'a>> {
        let all = self.has_split_list.then(|| (name, self.headers()));
        first.map(|first| ListValue { first, all })
    }
}

/// The value of a field that is a list: that of its line, or of several (RFC 9110 §5.3).
#[derive(Debug, Clone)]
pub struct ListValue<'a> {
    first: &'a [u8],
    /// Where to find all lines, when there may be others: the name, and the fields of the head.
    all: Option<(&'static str, Headers<'a>)>,
}

impl<'a> ListValue<'a> {
    /// The values of its lines in their order, at least one. With a comma between each they are
    /// the list; no element goes over the end of a line.
    pub fn lines(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let only = self.all.is_none().then_some(self.first);
        let named = self.all.clone().into_iter().flat_map(|(name, fields)| {
            fields.filter(move |(sent, _)| sent.eq_ignore_ascii_case(name.as_bytes()))
        });
        only.into_iter().chain(named.map(|(_, value)| value))
    }
}

impl<'a> From<&'a [u8]> for ListValue<'a> {
    /// A list of one line.
    fn from(line: &'a [u8]) -> Self {
        ListValue {
            first: line,
            all: None,
        }
    }
}

impl PartialEq for ListValue<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.lines().eq(other.lines())
    }
}

impl Eq for ListValue<'_> {}

/// The fields of a head, as pairs of name and value; made by [`RequestHead::headers`] and
/// [`ReceivedHead::headers`](crate::received::ReceivedHead::headers).
#[derive(Debug, Clone)]
pub struct Headers<'a> {
    lines: &'a [u8],
}

impl<'a> Headers<'a> {
    /// Of lines that were checked.
    pub(crate) fn of(lines: &'a [u8]) -> Headers<'a> {
        Headers { lines }
    }
}

impl Headers<'_> {
    /// Appends those fields that `keeps` says yes to, each as a line with its CRLF: name, colon, one
    /// space, value. Lines that were sent so are copied together, as many as follow each other: the
    /// bytes are the same.
    #[inline]
    pub fn copy_to(mut self, out: &mut Vec<u8>, mut keeps: impl FnMut(&[u8], &[u8]) -> bool) {
        let mut run = self.lines;
        let mut run_bytes = 0;
        loop {
            let before = self.lines;
            let Some((name, value)) = self.next() else {
                break;
            };
            let line_bytes = before.len() - self.lines.len();
            let is_kept = keeps(name, value);
            let is_plain = line_bytes == name.len() + value.len() + 4
                && before.get(name.len() + 1) == Some(&b' ');
            if is_kept && is_plain {
                run_bytes += line_bytes;
                continue;
            }
            if run_bytes > 0 {
                out.extend_from_slice(&run[..run_bytes]);
            }
            if is_kept {
                for part in [name, b": ", value, b"\r\n"] {
                    out.extend_from_slice(part);
                }
            }
            (run, run_bytes) = (self.lines, 0);
        }
        if run_bytes > 0 {
            out.extend_from_slice(&run[..run_bytes]);
        }
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        // The lines were checked when the head was parsed: a name, a colon, a value, CRLF.
        let (name, after) = self.lines.split_at_checked(parse::name_bytes(self.lines))?;
        let after = after.get(1..)?;
        let (value, rest) = after.split_at(parse::line_bytes(after));
        self.lines = rest.get(2..).unwrap_or_default();
        Some((name, trim(value)))
    }
}

#[cfg(test)]
mod tests;
