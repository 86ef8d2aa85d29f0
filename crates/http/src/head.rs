//! Request heads: the request line and the header fields, from bytes to meaning.
//!
//! [`parse_head`] is the hottest function of the server. It costs one walk by `httparse` and one
//! walk over the fields it found, which checks what `httparse` is lenient about and keeps what a
//! server asks of nearly every request. It doesn't look inside the target (see
//! [`target`](crate::target)), and it knows nothing of responses.

mod error;
mod fields;

use std::mem::MaybeUninit;

pub use error::HeadError;

use crate::condition::Preconditions;

/// The most header fields a head can have, whatever [`HeadLimits::header_count`] says: it is the
/// number of slots in [`HeaderSlots`]. Browsers send 10 to 20, proxies add a handful.
pub const MAX_HEADERS: usize = 100;

/// Longest method accepted; the longest registered one (`UPDATEREDIRECTREF`) has 17 bytes.
const MAX_METHOD_BYTES: usize = 32;

/// Empty lines accepted before a request line. RFC 9112 §2.2 wants at least one ignored; a second
/// is for clients that end a body with CRLF and begin the next request with another.
const MAX_EMPTY_LINES: usize = 2;

/// Bounds of a request head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the whole head, its final empty line included; beyond it [431](HeadError).
    pub head_bytes: usize,
    /// Number of header fields, at most [`MAX_HEADERS`]; beyond it 431.
    pub header_count: usize,
    /// Bytes of the request target; beyond it 414. RFC 9112 §3 recommends at least 8,000.
    pub target_bytes: usize,
}

impl Default for HeadLimits {
    /// 16 KiB, [`MAX_HEADERS`] fields, a target of 8 KiB.
    fn default() -> Self {
        HeadLimits {
            head_bytes: 16 << 10,
            header_count: MAX_HEADERS,
            target_bytes: 8 << 10,
        }
    }
}

impl HeadLimits {
    /// A request line longer than this is wrong, whatever comes after.
    fn request_line_bytes(&self) -> usize {
        MAX_METHOD_BYTES
            .saturating_add(self.target_bytes)
            .saturating_add(" ".len() * 2 + 9)
    }
}

/// Room for the fields of one head, on the caller's stack and not initialised.
///
/// It takes 3.2 KiB, so it must not live across an `await`: parse, decide, and let go of it.
#[derive(Debug)]
pub struct HeaderSlots<'a>([MaybeUninit<httparse::Header<'a>>; MAX_HEADERS]);

impl HeaderSlots<'_> {
    /// Empty slots; costs nothing.
    #[inline(always)]
    pub const fn new() -> Self {
        HeaderSlots([const { MaybeUninit::uninit() }; MAX_HEADERS])
    }
}

impl Default for HeaderSlots<'_> {
    fn default() -> Self {
        HeaderSlots::new()
    }
}

/// How far an unfinished head has been searched for its end, so that a head that arrives byte by
/// byte costs no more than one that arrives at once. Make a new one for each request.
#[derive(Debug, Default, Clone, Copy)]
pub struct HeadScan {
    /// Bytes in which no end was found, counted after the skipped empty lines.
    searched: usize,
    /// Where the unfinished line begins; zero while that is the request line.
    line_start: usize,
}

/// What a search for the end of a head came upon.
enum Found {
    End(usize),
    BareLineFeed,
    Nothing,
}

impl HeadScan {
    /// Continues the search; `window` begins with the bytes that were searched before.
    fn advance(&mut self, window: &[u8]) -> Found {
        while let Some(offset) = window
            .get(self.searched..)
            .and_then(|w| memchr::memchr(b'\n', w))
        {
            let at = self.searched + offset;
            if at == 0 || window[at - 1] != b'\r' {
                return Found::BareLineFeed;
            }
            let line_bytes = at - self.line_start - 1;
            self.searched = at + 1;
            self.line_start = at + 1;
            if line_bytes == 0 {
                return Found::End(at + 1);
            }
        }
        self.searched = window.len();
        Found::Nothing
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
    #[inline]
    fn from_token(token: &'a str) -> Self {
        match token {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            "PUT" => Method::Put,
            "DELETE" => Method::Delete,
            "CONNECT" => Method::Connect,
            "OPTIONS" => Method::Options,
            "TRACE" => Method::Trace,
            "PATCH" => Method::Patch,
            other => Method::Other(other),
        }
    }

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
    /// HTTP/1.1
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

/// A sound request head. It borrows everything from the input and from the [`HeaderSlots`].
///
/// Of a well-known field that is sent more than once although it may not be, the first counts.
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
    /// `Host`: present in HTTP/1.1, valid, perhaps empty (RFC 9112 §3.2). A target in absolute
    /// form overrides it.
    pub host: Option<&'a [u8]>,
    /// `If-Match`
    pub if_match: Option<&'a [u8]>,
    /// `If-None-Match`
    pub if_none_match: Option<&'a [u8]>,
    /// `If-Modified-Since`
    pub if_modified_since: Option<&'a [u8]>,
    /// `If-Unmodified-Since`
    pub if_unmodified_since: Option<&'a [u8]>,
    /// `If-Range`
    pub if_range: Option<&'a [u8]>,
    /// `Range`
    pub range: Option<&'a [u8]>,
    /// `Accept-Encoding`
    pub accept_encoding: Option<&'a [u8]>,
    /// `Authorization`
    pub authorization: Option<&'a [u8]>,
    /// `User-Agent`
    pub user_agent: Option<&'a [u8]>,
    /// `Referer`
    pub referer: Option<&'a [u8]>,
    headers: &'a [httparse::Header<'a>],
}

impl<'a> RequestHead<'a> {
    /// All fields in the order they were sent: name as sent, value without whitespace around it.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = (&'a str, &'a [u8])> + use<'a> {
        self.headers
            .iter()
            .map(|header| (header.name, header.value))
    }

    /// The values of all fields called `name`, whatever its case.
    pub fn header<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let named = move |header: &&httparse::Header<'a>| header.name.eq_ignore_ascii_case(name);
        self.headers.iter().filter(named).map(|header| header.value)
    }

    /// The fields that make the request conditional, for [`condition`](crate::condition).
    #[inline]
    pub fn preconditions(&self) -> Preconditions<'a> {
        Preconditions {
            if_match: self.if_match,
            if_unmodified_since: self.if_unmodified_since,
            if_none_match: self.if_none_match,
            if_modified_since: self.if_modified_since,
        }
    }
}

/// Parses the head at the beginning of `input`.
///
/// `Ok(None)` means that more bytes are needed: call again with the same bytes and more behind
/// them, and the same `scan`. `Ok(Some((head, bytes)))` says how many bytes of `input` the head
/// took; the body, or the next request, begins there.
///
/// However the input is cut into calls, a head that ends is accepted or refused alike. A bad head
/// that hasn't ended may be refused sooner or later, depending on the cuts, but not beyond
/// [`HeadLimits::head_bytes`].
///
/// # Errors
///
/// The head is malformed, too large, or asks for what HTTP/1 servers don't do; the connection
/// can't be used any further. See [`HeadError::status`].
#[inline]
pub fn parse_head<'a>(
    input: &'a [u8],
    scan: &mut HeadScan,
    limits: &HeadLimits,
    slots: &'a mut HeaderSlots<'a>,
) -> Result<Option<(RequestHead<'a>, usize)>, HeadError> {
    let mut skipped = 0;
    if let Some(b'\r' | b'\n') = input.first() {
        match empty_lines(input)? {
            Some(bytes) => skipped = bytes,
            None => return Ok(None),
        }
    }
    let mut window = &input[skipped..];
    if window.len() > limits.head_bytes {
        window = &window[..limits.head_bytes];
    }
    if scan.searched != 0 {
        match search(window, scan, limits)? {
            Some(bytes) => window = &window[..bytes],
            None => return Ok(None),
        }
    }

    let count = limits.header_count.min(MAX_HEADERS);
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(window, &mut slots.0[..count]) {
        Ok(httparse::Status::Complete(bytes)) => {
            let head = fields::read(&window[..bytes], request, limits)?;
            Ok(Some((head, skipped + bytes)))
        }
        Ok(httparse::Status::Partial) => {
            search(window, scan, limits)?;
            Ok(None)
        }
        Err(_) => Err(error::refuse(window, limits)),
    }
}

/// Counts the bytes of the empty lines before a request line (RFC 9112 §2.2); `None` while it
/// isn't clear yet whether they are over.
#[cold]
fn empty_lines(input: &[u8]) -> Result<Option<usize>, HeadError> {
    let mut rest = input;
    for _ in 0..=MAX_EMPTY_LINES {
        rest = match rest {
            [] | [b'\r'] => return Ok(None),
            [b'\r', b'\n', rest @ ..] => rest,
            [b'\n', ..] => return Err(HeadError::BareLineFeed),
            [b'\r', ..] => return Err(HeadError::RequestLine),
            _ => return Ok(Some(input.len() - rest.len())),
        };
    }
    Err(HeadError::EmptyLines)
}

/// Looks for the end of a head that didn't arrive at once, without parsing it, and refuses early
/// what can't become sound any more.
#[cold]
fn search(
    window: &[u8],
    scan: &mut HeadScan,
    limits: &HeadLimits,
) -> Result<Option<usize>, HeadError> {
    match scan.advance(window) {
        Found::End(bytes) => Ok(Some(bytes)),
        Found::BareLineFeed => Err(error::refuse(window, limits)),
        Found::Nothing => {
            let in_request_line = scan.line_start == 0;
            let too_long = window.len() >= limits.head_bytes
                || (in_request_line && window.len() > limits.request_line_bytes());
            if too_long {
                Err(error::refuse(window, limits))
            } else {
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
mod tests;
