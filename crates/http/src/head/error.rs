//! Why a head is refused, and finding the reason that any other cut of the input would find too.

use std::fmt;
use std::mem::MaybeUninit;

use http::StatusCode;

use super::{HeadLimits, MAX_HEADERS, MAX_METHOD_BYTES};
use crate::field::is_token_byte;

/// Why a request head was refused. The connection must be closed after the answer, because
/// nobody can say where the next request would begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadError {
    /// A line ends with LF alone.
    BareLineFeed,
    /// More empty lines before the request line than RFC 9112 §2.2 makes us ignore.
    EmptyLines,
    /// The request line isn't method, target and version with one space between each.
    RequestLine,
    /// A field name is empty or has a byte that isn't allowed, whitespace included.
    HeaderName,
    /// A field value has a control character.
    HeaderValue,
    /// A CR isn't followed by LF.
    LineEnd,
    /// HTTP/1.1 without `Host`.
    HostMissing,
    /// More than one `Host`.
    HostRepeated,
    /// `Host` isn't a host with an optional port.
    HostMalformed,
    /// `Content-Length` isn't one number.
    ContentLength,
    /// More than one `Content-Length`.
    ContentLengthRepeated,
    /// Both `Content-Length` and `Transfer-Encoding`.
    LengthAndCoding,
    /// `Transfer-Encoding` in HTTP/1.0.
    CodingInHttp10,
    /// `Transfer-Encoding` is malformed, or `chunked` isn't last and single.
    Coding,
    /// The target is longer than [`HeadLimits::target_bytes`].
    TargetTooLong,
    /// An expectation other than `100-continue`.
    Expectation,
    /// The head is longer than [`HeadLimits::head_bytes`].
    HeadTooLarge,
    /// More fields than [`HeadLimits::header_count`].
    TooManyHeaders,
    /// The method is longer than any that exists.
    MethodTooLong,
    /// A transfer coding other than `chunked`.
    UnknownCoding,
    /// A version other than HTTP/1.0 and HTTP/1.1.
    UnsupportedVersion,
}

impl HeadError {
    /// The status to answer with.
    pub fn status(self) -> StatusCode {
        match self {
            HeadError::TargetTooLong => StatusCode::URI_TOO_LONG,
            HeadError::Expectation => StatusCode::EXPECTATION_FAILED,
            HeadError::HeadTooLarge | HeadError::TooManyHeaders => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            HeadError::MethodTooLong | HeadError::UnknownCoding => StatusCode::NOT_IMPLEMENTED,
            HeadError::UnsupportedVersion => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// One line for the log.
    pub fn reason(self) -> &'static str {
        match self {
            HeadError::BareLineFeed => "line ends with LF instead of CRLF",
            HeadError::EmptyLines => "too many empty lines before the request line",
            HeadError::RequestLine => "malformed request line",
            HeadError::HeaderName => "malformed header name or folded line",
            HeadError::HeaderValue => "control character in a header value",
            HeadError::LineEnd => "CR without LF",
            HeadError::HostMissing => "HTTP/1.1 without Host",
            HeadError::HostRepeated => "more than one Host",
            HeadError::HostMalformed => "malformed Host",
            HeadError::ContentLength => "malformed Content-Length",
            HeadError::ContentLengthRepeated => "more than one Content-Length",
            HeadError::LengthAndCoding => "both Content-Length and Transfer-Encoding",
            HeadError::CodingInHttp10 => "Transfer-Encoding in HTTP/1.0",
            HeadError::Coding => "malformed Transfer-Encoding",
            HeadError::TargetTooLong => "request target too long",
            HeadError::Expectation => "unknown expectation",
            HeadError::HeadTooLarge => "request head too large",
            HeadError::TooManyHeaders => "too many header fields",
            HeadError::MethodTooLong => "method too long",
            HeadError::UnknownCoding => "unknown transfer coding",
            HeadError::UnsupportedVersion => "unsupported HTTP version",
        }
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for HeadError {}

/// Names what is wrong with a head that is known to be wrong.
///
/// The answer depends on the first fault only, never on bytes behind it, so that it doesn't
/// matter how much had arrived when the fault was noticed.
#[cold]
pub(super) fn refuse(window: &[u8], limits: &HeadLimits) -> HeadError {
    if let Some(error) = too_long(window, limits) {
        return error;
    }
    let bare = bare_line_feed(window);
    let sound = &window[..bare.map_or(window.len(), |at| at + 1)];

    let mut slots = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let count = limits.header_count.min(MAX_HEADERS);
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(sound, &mut slots[..count]) {
        Err(httparse::Error::Version) if names_a_version(window) => HeadError::UnsupportedVersion,
        Err(httparse::Error::HeaderName) => HeadError::HeaderName,
        Err(httparse::Error::HeaderValue) => HeadError::HeaderValue,
        Err(httparse::Error::TooManyHeaders) => HeadError::TooManyHeaders,
        Err(httparse::Error::NewLine) => HeadError::LineEnd,
        Err(_) => HeadError::RequestLine,
        Ok(_) if bare.is_some() => HeadError::BareLineFeed,
        Ok(_) => HeadError::HeadTooLarge,
    }
}

/// Finds a method or a target beyond its bound, whether or not it ends.
pub(super) fn too_long(window: &[u8], limits: &HeadLimits) -> Option<HeadError> {
    let method_bytes = window
        .iter()
        .take_while(|&&byte| is_token_byte(byte))
        .count();
    if method_bytes > MAX_METHOD_BYTES {
        // RFC 9112 §3: a method longer than any implemented is answered with 501.
        return Some(HeadError::MethodTooLong);
    }
    let target = window.get(method_bytes + 1..)?;
    let target_bytes = target
        .iter()
        .take_while(|&&byte| byte > b' ' && byte != 0x7f)
        .count();
    (target_bytes > limits.target_bytes).then_some(HeadError::TargetTooLong)
}

/// The first LF that no CR precedes.
pub(super) fn bare_line_feed(window: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'\n', window).find(|&at| at == 0 || window[at - 1] != b'\r')
}

/// Whether the request line ends in some version, so that 505 is the honest answer. RFC 9110 §2.5
/// would have us treat HTTP/1.2 as 1.1; nobody ever defined it, so nobody honest sends it.
fn names_a_version(window: &[u8]) -> bool {
    let version = window.splitn(3, |&byte| byte == b' ').nth(2);
    matches!(
        version,
        Some([b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', ..])
    )
}
