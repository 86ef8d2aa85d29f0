//! The meaning of the fields that decide about framing, persistence and the answer.

use super::{Framing, HeadError, RequestHead, Version};
use crate::field::{decimal, elements, name_is};
use crate::target;

/// What has to be remembered from field to field until all of them have been seen.
#[derive(Default)]
pub(super) struct Fields {
    coding: Coding,
    length: Option<u64>,
    close: bool,
}

impl Fields {
    /// Takes in a field.
    #[inline]
    pub(super) fn read<'a>(
        &mut self,
        head: &mut RequestHead<'a>,
        known: Known,
        value: &'a [u8],
    ) -> Result<(), HeadError> {
        match known {
            Known::Host => host(head, value)?,
            Known::ContentLength => content_length(&mut self.length, value)?,
            Known::TransferEncoding => self.coding.read(value),
            Known::Connection => connection(head, &mut self.close, value),
            Known::Expect => expect(head, value)?,
            Known::IfMatch => list(&mut head.if_match, &mut head.has_split_list, value),
            Known::IfNoneMatch => list(&mut head.if_none_match, &mut head.has_split_list, value),
            Known::AcceptEncoding => {
                list(&mut head.accept_encoding, &mut head.has_split_list, value)
            }
            Known::IfModifiedSince => single(&mut head.if_modified_since, value),
            Known::IfUnmodifiedSince => single(&mut head.if_unmodified_since, value),
            Known::IfRange => single(&mut head.if_range, value),
            Known::Range => single(&mut head.range, value),
            Known::Authorization => single(&mut head.authorization, value),
            Known::UserAgent => first(&mut head.user_agent, value),
            Known::Referer => first(&mut head.referer, value),
        }
        Ok(())
    }

    /// Decides what only all fields together say.
    #[inline]
    pub(super) fn finish(&self, head: &mut RequestHead<'_>) -> Result<(), HeadError> {
        // RFC 9112 §3.2: a 1.1 request without Host is answered with 400.
        if head.host.is_none() && head.version == Version::Http11 {
            return Err(HeadError::HostMissing);
        }
        if self.length.is_some() || self.coding.seen {
            head.framing = framing(head.version, self.length, self.coding)?;
        }
        // RFC 9110 §10.1.1: ignored in HTTP/1.0; without a body there is nothing to wait for.
        head.expect_continue &= head.version == Version::Http11 && head.framing != Framing::None;
        Ok(())
    }
}

/// The fields a head is searched for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
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
    /// Recognises a name, which need not be a token. Length and first letter leave one candidate,
    /// or two.
    #[inline(always)]
    pub(super) fn of(name: &[u8]) -> Option<Known> {
        let first = name.first().map_or(0, |byte| byte | 0x20);
        Some(match (name.len(), first) {
            (4, b'h') if name_is(name, b"host") => Known::Host,
            (5, b'r') if name_is(name, b"range") => Known::Range,
            (6, b'e') if name_is(name, b"expect") => Known::Expect,
            (7, b'r') if name_is(name, b"referer") => Known::Referer,
            (8, b'i') if name_is(name, b"if-match") => Known::IfMatch,
            (8, b'i') if name_is(name, b"if-range") => Known::IfRange,
            (10, b'c') if name_is(name, b"connection") => Known::Connection,
            (10, b'u') if name_is(name, b"user-agent") => Known::UserAgent,
            (13, b'i') if name_is(name, b"if-none-match") => Known::IfNoneMatch,
            (13, b'a') if name_is(name, b"authorization") => Known::Authorization,
            (14, b'c') if name_is(name, b"content-length") => Known::ContentLength,
            (15, b'a') if name_is(name, b"accept-encoding") => Known::AcceptEncoding,
            (17, b'i') if name_is(name, b"if-modified-since") => Known::IfModifiedSince,
            (17, b't') if name_is(name, b"transfer-encoding") => Known::TransferEncoding,
            (19, b'i') if name_is(name, b"if-unmodified-since") => Known::IfUnmodifiedSince,
            _ => return None,
        })
    }
}

/// RFC 9110 §5.3: the lines of a list are one list. Its first line is kept, and whether there are
/// others, which nearly never are.
#[inline(always)]
fn list<'a>(slot: &mut Option<&'a [u8]>, has_others: &mut bool, value: &'a [u8]) {
    match slot {
        None => *slot = Some(value),
        Some(_) => *has_others = true,
    }
}

/// RFC 9110 §5.3: what isn't a list may come once. Several lines joined to one would be malformed,
/// so an empty value, which is malformed too, stands for them: to take the first, where another
/// recipient takes the last, would let the two be played against each other.
#[inline(always)]
fn single<'a>(slot: &mut Option<&'a [u8]>, value: &'a [u8]) {
    *slot = match slot {
        None => Some(value),
        Some(_) => Some(b""),
    };
}

/// For what is only told, and decides nothing.
#[inline(always)]
fn first<'a>(slot: &mut Option<&'a [u8]>, value: &'a [u8]) {
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
        } else if !option.is_empty() {
            result.has_connection_options = true;
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
