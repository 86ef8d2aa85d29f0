//! Why a head is refused.

use std::fmt;

use http::StatusCode;

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
    /// The target is longer than [`target_bytes`](super::HeadLimits::target_bytes).
    TargetTooLong,
    /// An expectation other than `100-continue`.
    Expectation,
    /// The head is longer than [`head_bytes`](super::HeadLimits::head_bytes).
    HeadTooLarge,
    /// More fields than [`header_count`](super::HeadLimits::header_count).
    TooManyHeaders,
    /// The method is longer than any that exists.
    MethodTooLong,
    /// A transfer coding other than `chunked`.
    UnknownCoding,
    /// Another major version than 1.
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

    /// Whether a bound was exceeded, by a head that may be sound otherwise.
    pub fn is_limit(self) -> bool {
        matches!(
            self,
            HeadError::TargetTooLong
                | HeadError::HeadTooLarge
                | HeadError::TooManyHeaders
                | HeadError::MethodTooLong
        )
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
