//! Response heads as a client receives them: the status line, the fields, and how the body is
//! framed. What a proxy and a load generator read from a server.
//!
//! As strict as the parser of requests ([`head`](crate::head)), and with its helpers: a response
//! that two programs could read differently is refused, because the next one on the same connection
//! might belong to somebody else (response splitting).

use crate::field::{decimal, elements, name_is};
use crate::head::{HeadScan, Headers, Method, Version, fault, line};
use std::fmt;
use std::ops::Range;

/// Bounds of a response head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceivedLimits {
    /// Bytes of the whole head, its final empty line included.
    pub head_bytes: usize,
    /// Number of header fields.
    pub header_count: usize,
}

impl Default for ReceivedLimits {
    /// 64 KiB and 128 fields: a server's cookies and policies are larger than a browser's requests,
    /// and its operator is better known than its clients.
    fn default() -> Self {
        ReceivedLimits {
            head_bytes: 64 << 10,
            header_count: 128,
        }
    }
}

/// How the content behind a response head is delimited (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceivedFraming {
    /// There is no content, whatever the fields say of it.
    None,
    /// So many bytes, perhaps zero.
    Length(u64),
    /// Chunks (RFC 9112 §7.1).
    Chunked,
    /// Everything until the server closes the connection.
    UntilClose,
}

/// A sound response head. It borrows everything from the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedHead<'a> {
    /// The protocol version.
    pub version: Version,
    /// The status code, 100 to 599.
    pub status: u16,
    /// The reason phrase, perhaps empty.
    pub reason: &'a [u8],
    /// How the content is delimited.
    pub framing: ReceivedFraming,
    /// What `Content-Length` says; of a response without content too (RFC 9110 §8.6).
    pub content_length: Option<u64>,
    /// Whether the connection can be used again after this response (RFC 9112 §9.3). Never when
    /// the content goes on until the close.
    pub keep_alive: bool,
    /// Whether `Connection` has options beside `close` and `keep-alive` (RFC 9110 §7.6.1).
    pub has_connection_options: bool,
    /// Whether there is a `Date`.
    pub has_date: bool,
    lines: &'a [u8],
    apart: Apart,
}

impl<'a> ReceivedHead<'a> {
    #[inline(always)]
    fn new(version: Version, status: u16, reason: &'a [u8]) -> Self {
        ReceivedHead {
            version,
            status,
            reason,
            framing: ReceivedFraming::None,
            content_length: None,
            keep_alive: version == Version::Http11,
            has_connection_options: false,
            has_date: false,
            lines: &[],
            apart: Apart::default(),
        }
    }

    /// All fields in the order they were sent: name as sent, value without whitespace around it.
    pub fn headers(&self) -> Headers<'a> {
        Headers::of(self.lines)
    }

    /// The values of all fields called `name`, whatever its case.
    pub fn header<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let named = move |(sent, _): &(&[u8], _)| sent.eq_ignore_ascii_case(name.as_bytes());
        self.headers().filter(named).map(|(_, value)| value)
    }

    /// Appends the fields that go on to another connection whatever it is: all but `Content-Length`
    /// and those that concern this connection alone, each as a line with its CRLF. `None`, and
    /// nothing appended, where they have to be looked at one by one, by [`ReceivedHead::headers`].
    ///
    /// The same bytes as [`Headers::copy_to`] gives, without a second walk.
    #[inline]
    pub fn copy_to(&self, out: &mut Vec<u8>) -> Option<()> {
        if self.has_connection_options {
            return None;
        }
        let apart = self.apart.ranges.get(..self.apart.count)?;
        let mut from = 0;
        for range in apart {
            out.extend_from_slice(&self.lines[from..range.start as usize]);
            from = range.end as usize;
        }
        out.extend_from_slice(&self.lines[from..]);
        Some(())
    }

    /// Whether another head follows this one: a status of 1xx, but for 101, which ends HTTP on the
    /// connection (RFC 9110 §15.2).
    pub fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }
}

/// Why a response head was refused. The connection can't be used any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceivedError {
    /// The status line isn't version, status code of three digits and reason.
    StatusLine,
    /// A version other than HTTP/1.0 and HTTP/1.1.
    Version,
    /// A field line is malformed, folded, or not ended by CRLF.
    Field,
    /// `Content-Length` isn't one number.
    ContentLength,
    /// Both `Content-Length` and `Transfer-Encoding`.
    LengthAndCoding,
    /// `Transfer-Encoding` is anything but `chunked`, or stands in HTTP/1.0.
    Coding,
    /// More bytes or fields than [`ReceivedLimits`].
    TooLarge,
}

impl ReceivedError {
    /// One line for the log.
    pub fn reason(self) -> &'static str {
        match self {
            ReceivedError::StatusLine => "malformed status line",
            ReceivedError::Version => "unsupported HTTP version in the response",
            ReceivedError::Field => "malformed header field in the response",
            ReceivedError::ContentLength => "malformed or repeated Content-Length in the response",
            ReceivedError::LengthAndCoding => {
                "both Content-Length and Transfer-Encoding in the response"
            }
            ReceivedError::Coding => "unknown Transfer-Encoding in the response",
            ReceivedError::TooLarge => "response head too large",
        }
    }
}

impl fmt::Display for ReceivedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for ReceivedError {}

/// Something that was read, or nothing while it isn't all there.
type Parsed<T> = Result<Option<T>, ReceivedError>;

/// Parses the response head at the beginning of `input`, which answers a request of this method.
///
/// `Ok(None)` means that more bytes are needed: call again with the same bytes and more behind
/// them, and the same `scan`. `Ok(Some((head, bytes)))` says how many bytes the head took.
///
/// # Errors
///
/// See [`ReceivedError`].
pub fn parse_received<'a>(
    input: &'a [u8],
    scan: &mut HeadScan,
    limits: &ReceivedLimits,
    method: Method<'_>,
) -> Parsed<(ReceivedHead<'a>, usize)> {
    let window = &input[..input.len().min(limits.head_bytes)];
    // A head that comes in pieces is read when its end is there, and not before: reading it anew for
    // each piece would cost the square of its length.
    let has_begun = scan.has_begun();
    let ends = has_begun && scan.ends_in(window);
    if has_begun && !ends {
        return incomplete(window, limits);
    }
    match read(window, limits, method)? {
        Some(done) => Ok(Some(done)),
        // It ends before its status line could: what comes behind it won't make it one.
        None if ends || scan.ends_in(window) => Err(ReceivedError::StatusLine),
        None => incomplete(window, limits),
    }
}

fn incomplete<T>(window: &[u8], limits: &ReceivedLimits) -> Parsed<T> {
    if window.len() >= limits.head_bytes {
        return Err(ReceivedError::TooLarge);
    }
    Ok(None)
}

fn read<'a>(
    window: &'a [u8],
    limits: &ReceivedLimits,
    method: Method<'_>,
) -> Parsed<(ReceivedHead<'a>, usize)> {
    let Some((mut head, lines_start)) = status_line(window)? else {
        return Ok(None);
    };
    let lines = &window[lines_start..];
    let mut fields = Fields::default();
    let mut left = limits.header_count;
    let mut rest = lines;
    while rest.first_chunk() != Some(b"\r\n") {
        let Some((known, value)) = line(rest, Known::of) else {
            return fault(rest).map_err(|_| ReceivedError::Field);
        };
        left = left.checked_sub(1).ok_or(ReceivedError::TooLarge)?;
        let goes_on = match known {
            None | Some(Known::GoesOn) => true,
            Some(Known::Date) => {
                head.has_date = true;
                true
            }
            Some(known) => {
                fields.read(known, value.bytes)?;
                false
            }
        };
        if !goes_on {
            let start = lines.len() - rest.len();
            head.apart.add(start..lines.len() - value.next.len());
        } else if !value.is_plain {
            head.apart.give_up();
        }
        rest = value.next;
    }
    let lines_bytes = lines.len() - rest.len();
    head.lines = &lines[..lines_bytes];
    fields.finish(&mut head, method)?;
    Ok(Some((head, lines_start + lines_bytes + 2)))
}

/// The lines that aren't copied when a head is passed on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Apart {
    ranges: [Range<u32>; APART_LINES],
    /// More than there is room for when there are too many, or when one that goes on can't be copied
    /// as it is.
    count: usize,
}

/// `Content-Length`, `Connection`, `Keep-Alive` and one more.
const APART_LINES: usize = 4;

impl Apart {
    #[inline(never)]
    fn add(&mut self, line: Range<usize>) {
        // A head is smaller than 4 GiB; a larger one would be walked.
        let place = self.ranges.get_mut(self.count);
        if let (Some(place), Ok(start), Ok(end)) =
            (place, u32::try_from(line.start), u32::try_from(line.end))
        {
            *place = start..end;
            self.count += 1;
        } else {
            self.give_up();
        }
    }

    /// From now on the fields have to be looked at one by one.
    fn give_up(&mut self) {
        self.count = APART_LINES + 1;
    }
}

/// The status line (RFC 9112 §4), and where the fields begin.
#[inline(always)]
fn status_line(window: &[u8]) -> Parsed<(ReceivedHead<'_>, usize)> {
    const USUAL: &[u8; 17] = b"HTTP/1.1 200 OK\r\n";
    if window.first_chunk() == Some(USUAL) {
        let head = ReceivedHead::new(Version::Http11, 200, &window[13..15]);
        return Ok(Some((head, USUAL.len())));
    }
    other_status_line(window)
}

fn other_status_line(window: &[u8]) -> Parsed<(ReceivedHead<'_>, usize)> {
    const FIXED_BYTES: usize = "HTTP/1.1 200".len();
    let Some(fixed) = window.first_chunk::<FIXED_BYTES>() else {
        let is_begun = b"HTTP/1.".iter().zip(window).all(|(a, b)| a == b);
        return if is_begun {
            Ok(None)
        } else {
            Err(ReceivedError::StatusLine)
        };
    };
    let version = match &fixed[..9] {
        b"HTTP/1.0 " => Version::Http10,
        // RFC 9110 §2.5: a later minor version is to be taken for the latest known one.
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9', b' '] => Version::Http11,
        [b'H', b'T', b'T', b'P', b'/', ..] => return Err(ReceivedError::Version),
        _ => return Err(ReceivedError::StatusLine),
    };
    let status = match decimal(&fixed[9..]) {
        // RFC 9110 §15: the other classes aren't defined, and nothing could be made of them.
        Some(status @ 100..=599) => status as u16,
        _ => return Err(ReceivedError::StatusLine),
    };
    let rest = &window[FIXED_BYTES..];
    let Some(end) = memchr::memchr(b'\n', rest) else {
        return Ok(None);
    };
    // The space before an empty reason is left out by so many servers that refusing it would
    // refuse them (RFC 9112 §4 lets a client ignore the reason altogether).
    let reason = match &rest[..end] {
        [b'\r'] => &rest[..0],
        [b' ', reason @ .., b'\r'] => reason,
        _ => return Err(ReceivedError::StatusLine),
    };
    // Without an early end: reasons are short and sound.
    let is_sound = |sound, &byte| sound & crate::field::is_value_byte(byte);
    if reason != b"OK" && !reason.iter().fold(true, is_sound) {
        return Err(ReceivedError::StatusLine);
    }
    let head = ReceivedHead::new(version, status, reason);
    Ok(Some((head, FIXED_BYTES + end + 1)))
}

/// The fields that are known by their names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    Connection,
    ContentLength,
    Date,
    TransferEncoding,
    /// Another one that concerns this connection alone (RFC 9110 §7.6.1).
    HopByHop,
    /// One that many answers have and that says nothing here: its name needs no look at each byte.
    GoesOn,
}

impl Known {
    /// Length and first letter leave one candidate, or two.
    #[inline(always)]
    fn of(name: &[u8]) -> Option<Known> {
        let first = name.first().map_or(0, |byte| byte | 0x20);
        Some(match (name.len(), first) {
            (2, b't') if name_is(name, b"te") => Known::HopByHop,
            (4, b'd') if name_is(name, b"date") => Known::Date,
            (4, b'e') if name_is(name, b"etag") => Known::GoesOn,
            (4, b'v') if name_is(name, b"vary") => Known::GoesOn,
            (6, b's') if name_is(name, b"server") => Known::GoesOn,
            (7, b'u') if name_is(name, b"upgrade") => Known::HopByHop,
            (7, b'e') if name_is(name, b"expires") => Known::GoesOn,
            (10, b'c') if name_is(name, b"connection") => Known::Connection,
            (10, b'k') if name_is(name, b"keep-alive") => Known::HopByHop,
            (10, b's') if name_is(name, b"set-cookie") => Known::GoesOn,
            (12, b'c') if name_is(name, b"content-type") => Known::GoesOn,
            (13, b'a') if name_is(name, b"accept-ranges") => Known::GoesOn,
            (13, b'c') if name_is(name, b"cache-control") => Known::GoesOn,
            (13, b'l') if name_is(name, b"last-modified") => Known::GoesOn,
            (14, b'c') if name_is(name, b"content-length") => Known::ContentLength,
            (16, b'c') if name_is(name, b"content-encoding") => Known::GoesOn,
            (16, b'p') if name_is(name, b"proxy-connection") => Known::HopByHop,
            (17, b't') if name_is(name, b"transfer-encoding") => Known::TransferEncoding,
            _ => return None,
        })
    }
}

/// What has to be remembered from field to field until all of them have been seen.
#[derive(Default)]
struct Fields {
    length: Option<u64>,
    is_chunked: bool,
    close: bool,
    keep_alive: bool,
    has_options: bool,
}

impl Fields {
    /// Takes in a field. Not a part of the walk over the lines: few of them come here, and what this
    /// needs would be in the way of the others.
    #[inline(never)]
    fn read(&mut self, known: Known, value: &[u8]) -> Result<(), ReceivedError> {
        match known {
            Known::HopByHop | Known::Date | Known::GoesOn => {}
            Known::Connection => {
                for option in elements(value) {
                    if option.eq_ignore_ascii_case(b"close") {
                        self.close = true;
                    } else if option.eq_ignore_ascii_case(b"keep-alive") {
                        self.keep_alive = true;
                    } else if !option.is_empty() {
                        self.has_options = true;
                    }
                }
            }
            Known::ContentLength => {
                // RFC 9112 §6.3.5 would let equal ones pass for one; who sends two is confused.
                let length = decimal(value).filter(|_| self.length.is_none());
                self.length = Some(length.ok_or(ReceivedError::ContentLength)?);
            }
            Known::TransferEncoding => {
                if self.is_chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(ReceivedError::Coding);
                }
                self.is_chunked = true;
            }
        }
        Ok(())
    }

    /// RFC 9112 §6.3, for responses, and §9.3.
    fn finish(self, head: &mut ReceivedHead<'_>, method: Method<'_>) -> Result<(), ReceivedError> {
        if self.is_chunked && self.length.is_some() {
            // §6.3.3: it might be an attempt at response splitting.
            return Err(ReceivedError::LengthAndCoding);
        }
        if self.is_chunked && head.version == Version::Http10 {
            return Err(ReceivedError::Coding);
        }
        head.content_length = self.length;
        head.has_connection_options = self.has_options;
        head.framing = match (head.status, self.length) {
            (100..=199 | 204 | 304, _) => ReceivedFraming::None,
            _ if method == Method::Head => ReceivedFraming::None,
            (200..=299, _) if method == Method::Connect => ReceivedFraming::None,
            _ if self.is_chunked => ReceivedFraming::Chunked,
            (_, Some(bytes)) => ReceivedFraming::Length(bytes),
            (_, None) => ReceivedFraming::UntilClose,
        };
        // RFC 9112 §6.1, RFC 9110 §8.6: it must not announce content, so whoever does may send some.
        let is_sound = head.status != 204 || (!self.is_chunked && self.length.unwrap_or(0) == 0);
        head.keep_alive = !self.close
            && (head.version == Version::Http11 || self.keep_alive)
            && head.framing != ReceivedFraming::UntilClose
            && is_sound;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
