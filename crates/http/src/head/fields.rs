//! The one walk over the fields of a head: the checks that `httparse` leaves to us, and the
//! meaning of the fields that decide about framing, persistence and the answer.

use super::error::{bare_line_feed, too_long};
use super::{Framing, HeadError, HeadLimits, MAX_METHOD_BYTES, Method, RequestHead, Version};
use crate::field::{decimal, elements, name_is};
use crate::target;

/// Turns what `httparse` found in `head`, which ends where the head ends, into a request head.
#[inline]
pub(super) fn read<'a>(
    head: &'a [u8],
    request: httparse::Request<'a, 'a>,
    limits: &HeadLimits,
) -> Result<RequestHead<'a>, HeadError> {
    let (Some(method), Some(target), Some(version)) =
        (request.method, request.path, request.version)
    else {
        return Err(HeadError::RequestLine);
    };
    if method.len() > MAX_METHOD_BYTES || target.len() > limits.target_bytes {
        return Err(too_long(head, limits).unwrap_or(HeadError::RequestLine));
    }
    let version = if version == 0 {
        Version::Http10
    } else {
        Version::Http11
    };
    let mut result = RequestHead {
        method: Method::from_token(method),
        target: target.as_bytes(),
        version,
        framing: Framing::None,
        // RFC 9112 §9.3: HTTP/1.1 persists unless told otherwise, HTTP/1.0 only when told so.
        keep_alive: version == Version::Http11,
        expect_continue: false,
        host: None,
        if_match: None,
        if_none_match: None,
        if_modified_since: None,
        if_unmodified_since: None,
        if_range: None,
        range: None,
        accept_encoding: None,
        authorization: None,
        user_agent: None,
        referer: None,
        headers: request.headers,
    };
    match walk(head, &mut result) {
        Ok(()) => Ok(result),
        Err(error) => Err(first_fault(head, error)),
    }
}

/// A bare LF is always the first fault, because a head that arrives in pieces is refused for it
/// before its fields are looked at.
#[cold]
fn first_fault(head: &[u8], error: HeadError) -> HeadError {
    if bare_line_feed(head).is_some() {
        HeadError::BareLineFeed
    } else {
        error
    }
}

#[inline]
fn walk<'a>(head: &'a [u8], result: &mut RequestHead<'a>) -> Result<(), HeadError> {
    let mut coding = Coding::default();
    let mut length = None;
    let mut close = false;
    for header in result.headers {
        // `httparse` takes LF for a line end; RFC 9112 §2.2 leaves it to us, and we don't. What
        // stands before a name is the end of the line before it.
        let at = header.name.as_ptr().addr() - head.as_ptr().addr();
        if head[at - 2] != b'\r' {
            return Err(HeadError::BareLineFeed);
        }
        let value = header.value;
        match Known::of(header.name.as_bytes()) {
            Known::Other => {}
            Known::Host => host(result, value)?,
            Known::ContentLength => content_length(&mut length, value)?,
            Known::TransferEncoding => coding.read(value),
            Known::Connection => connection(result, &mut close, value),
            Known::Expect => expect(result, value)?,
            Known::IfMatch => keep(&mut result.if_match, value),
            Known::IfNoneMatch => keep(&mut result.if_none_match, value),
            Known::IfModifiedSince => keep(&mut result.if_modified_since, value),
            Known::IfUnmodifiedSince => keep(&mut result.if_unmodified_since, value),
            Known::IfRange => keep(&mut result.if_range, value),
            Known::Range => keep(&mut result.range, value),
            Known::AcceptEncoding => keep(&mut result.accept_encoding, value),
            Known::Authorization => keep(&mut result.authorization, value),
            Known::UserAgent => keep(&mut result.user_agent, value),
            Known::Referer => keep(&mut result.referer, value),
        }
    }
    if !head.ends_with(b"\r\n\r\n") {
        return Err(HeadError::BareLineFeed);
    }
    // RFC 9112 §3.2: a 1.1 request without Host is answered with 400.
    if result.host.is_none() && result.version == Version::Http11 {
        return Err(HeadError::HostMissing);
    }
    if length.is_some() || coding.seen {
        result.framing = framing(result.version, length, coding)?;
    }
    if result.expect_continue {
        // RFC 9110 §10.1.1: ignored in HTTP/1.0; without a body there is nothing to wait for.
        result.expect_continue =
            result.version == Version::Http11 && result.framing != Framing::None;
    }
    Ok(())
}

/// The fields the walk looks for.
#[derive(Clone, Copy)]
enum Known {
    Other,
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    Expect,
    IfMatch,
    IfNoneMatch,
    IfModifiedSince,
    IfUnmodifiedSince,
    IfRange,
    Range,
    AcceptEncoding,
    Authorization,
    UserAgent,
    Referer,
}

impl Known {
    /// The length leaves at most two candidates.
    #[inline(always)]
    fn of(name: &[u8]) -> Known {
        match name.len() {
            4 if name_is(name, b"host") => Known::Host,
            5 if name_is(name, b"range") => Known::Range,
            6 if name_is(name, b"expect") => Known::Expect,
            7 if name_is(name, b"referer") => Known::Referer,
            8 if name_is(name, b"if-match") => Known::IfMatch,
            8 if name_is(name, b"if-range") => Known::IfRange,
            10 if name_is(name, b"connection") => Known::Connection,
            10 if name_is(name, b"user-agent") => Known::UserAgent,
            13 if name_is(name, b"if-none-match") => Known::IfNoneMatch,
            13 if name_is(name, b"authorization") => Known::Authorization,
            14 if name_is(name, b"content-length") => Known::ContentLength,
            15 if name_is(name, b"accept-encoding") => Known::AcceptEncoding,
            17 if name_is(name, b"if-modified-since") => Known::IfModifiedSince,
            17 if name_is(name, b"transfer-encoding") => Known::TransferEncoding,
            19 if name_is(name, b"if-unmodified-since") => Known::IfUnmodifiedSince,
            _ => Known::Other,
        }
    }
}

#[inline(always)]
fn keep<'a>(slot: &mut Option<&'a [u8]>, value: &'a [u8]) {
    if slot.is_none() {
        *slot = Some(value);
    }
}

/// RFC 9112 §3.2: exactly one Host, and a valid one, else 400. Empty is valid: it is what a
/// client sends whose target has no authority.
#[inline]
fn host<'a>(result: &mut RequestHead<'a>, value: &'a [u8]) -> Result<(), HeadError> {
    if result.host.is_some() {
        return Err(HeadError::HostRepeated);
    }
    if !value.is_empty() && !target::is_authority(value) {
        return Err(HeadError::HostMalformed);
    }
    result.host = Some(value);
    Ok(())
}

/// RFC 9110 §8.6 lets a recipient take `5, 5` or two equal fields for one; it needn't, nobody
/// honest sends it, and whoever takes the other choice can be played against us: refused.
fn content_length(length: &mut Option<u64>, value: &[u8]) -> Result<(), HeadError> {
    if length.is_some() {
        return Err(HeadError::ContentLengthRepeated);
    }
    *length = Some(decimal(value).ok_or(HeadError::ContentLength)?);
    Ok(())
}

/// RFC 9112 §9.3: `close` in any of the fields wins, whatever the order.
fn connection(result: &mut RequestHead<'_>, close: &mut bool, value: &[u8]) {
    for option in elements(value) {
        if option.eq_ignore_ascii_case(b"close") {
            *close = true;
        } else if option.eq_ignore_ascii_case(b"keep-alive") {
            result.keep_alive = true;
        }
    }
    if *close {
        result.keep_alive = false;
    }
}

/// RFC 9110 §10.1.1: `100-continue` is the only expectation there is; 417 for any other.
fn expect(result: &mut RequestHead<'_>, value: &[u8]) -> Result<(), HeadError> {
    if !value.eq_ignore_ascii_case(b"100-continue") {
        return Err(HeadError::Expectation);
    }
    result.expect_continue = true;
    Ok(())
}

/// What the `Transfer-Encoding` fields list, taken together (RFC 9112 §6.1).
#[derive(Default, Clone, Copy)]
struct Coding {
    seen: bool,
    chunked: bool,
    unknown: bool,
    malformed: bool,
}

impl Coding {
    #[cold]
    fn read(&mut self, value: &[u8]) {
        self.seen = true;
        for coding in elements(value) {
            // Nothing may follow `chunked`, itself included. An empty element could be ignored
            // (RFC 9110 §5.6.1.2), but not where it decides about framing.
            self.malformed |= self.chunked || coding.is_empty();
            if coding.eq_ignore_ascii_case(b"chunked") {
                self.chunked = true;
            } else {
                self.unknown = true;
            }
        }
    }
}

/// RFC 9112 §6.3, for requests.
#[cold]
fn framing(version: Version, length: Option<u64>, coding: Coding) -> Result<Framing, HeadError> {
    if coding.seen {
        if length.is_some() {
            // §6.3.3: it ought to be handled as an error.
            return Err(HeadError::LengthAndCoding);
        }
        if version == Version::Http10 {
            // §6.1: its framing must be taken for faulty.
            return Err(HeadError::CodingInHttp10);
        }
        if coding.malformed {
            return Err(HeadError::Coding);
        }
        if coding.unknown {
            // §6.1: 501 for a coding the server doesn't understand.
            return Err(HeadError::UnknownCoding);
        }
        return Ok(Framing::Chunked);
    }
    match length {
        None | Some(0) => Ok(Framing::None),
        Some(bytes) => Ok(Framing::Length(bytes)),
    }
}
