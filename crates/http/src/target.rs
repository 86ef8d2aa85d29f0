//! Request targets: which of the four forms, and which path beneath the root.
//!
//! Decoding happens once, and dot segments are removed after it, so that no spelling of `..`
//! survives. What remains ambiguous between programs is refused rather than interpreted: a slash
//! or backslash that was percent-encoded, a backslash as such, NUL. The kernel confines the open
//! as well (`openat2` with `RESOLVE_BENEATH`); this is the first of the two fences, and the one
//! that routes and logs rely on.

use std::borrow::Cow;
use std::fmt;

use http::StatusCode;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use crate::field::decimal;
use crate::head::Method;

/// What of a path is percent-encoded when we write one: everything but RFC 3986's `pchar`, where
/// the sub-delimiters that mean something in HTML or in a shell are encoded too.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// Why a target was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetError {
    /// None of the forms that the method allows (RFC 9112 §3.2).
    Form,
    /// The authority isn't a host with an optional port.
    Authority,
    /// `%` without two hexadecimal digits.
    Encoding,
    /// A fragment, or a control character or space.
    Character,
    /// NUL, decoded.
    Nul,
    /// A slash that was percent-encoded: no file has one in its name, and whoever decodes first
    /// sees another path.
    EncodedSlash,
    /// A backslash, encoded or not: a slash to some programs and to browsers.
    Backslash,
    /// `..` leads above the root.
    AboveRoot,
}

impl TargetError {
    /// The status to answer with: 400 for what is malformed, 403 for a path above the root, 404
    /// for a path that is sound but that nothing here can have.
    pub fn status(self) -> StatusCode {
        match self {
            TargetError::AboveRoot => StatusCode::FORBIDDEN,
            TargetError::EncodedSlash | TargetError::Backslash => StatusCode::NOT_FOUND,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// One line for the log.
    pub fn reason(self) -> &'static str {
        match self {
            TargetError::Form => "request target of a form the method doesn't allow",
            TargetError::Authority => "malformed authority in the request target",
            TargetError::Encoding => "malformed percent-encoding in the path",
            TargetError::Character => "character in the request target that must be encoded",
            TargetError::Nul => "NUL in the path",
            TargetError::EncodedSlash => "encoded slash in the path",
            TargetError::Backslash => "backslash in the path",
            TargetError::AboveRoot => "path leads above the root",
        }
    }
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for TargetError {}

/// A request target, understood (RFC 9112 §3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target<'a> {
    /// `/path?query`, or the same behind `http://authority`.
    Resource(Resource<'a>),
    /// `host:port`, for CONNECT and nothing else (§3.2.3).
    Authority(&'a [u8]),
    /// `*`, for OPTIONS and nothing else (§3.2.4): the server as a whole.
    Asterisk,
}

/// A path with its query, and the authority if the target was in absolute form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource<'a> {
    /// The authority of a target in absolute form. It replaces the `Host` field, whatever that
    /// says (RFC 9112 §3.2.2).
    pub authority: Option<&'a [u8]>,
    /// The path, decoded and normalised.
    pub path: Path<'a>,
    /// What follows the first `?`, as sent. Not decoded, because only its reader knows how.
    pub query: Option<&'a [u8]>,
}

/// A decoded, normalised path: it begins with `/`, has no empty, `.` or `..` segment, no NUL and
/// no backslash. It is bytes, not UTF-8. A final `/` is kept; what follows a final dot segment is
/// a directory, so it ends with `/` as well (RFC 3986 §5.2.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path<'a>(Cow<'a, [u8]>);

impl<'a> Target<'a> {
    /// Parses a target as it stands in a request head.
    ///
    /// Non-ASCII bytes ought to be encoded, but tools that pass on what their user typed don't;
    /// they mean nothing to the grammar and are accepted as they are.
    ///
    /// # Errors
    ///
    /// See [`TargetError`].
    #[inline]
    pub fn parse(method: Method<'_>, target: &'a [u8]) -> Result<Self, TargetError> {
        if let [b'/', ..] = target
            && method != Method::Connect
        {
            let (path, query) = split(target)?;
            return Ok(Target::Resource(Resource {
                authority: None,
                path,
                query,
            }));
        }
        unusual_form(method, target)
    }
}

#[cold]
fn unusual_form<'a>(method: Method<'_>, target: &'a [u8]) -> Result<Target<'a>, TargetError> {
    if method == Method::Connect {
        // RFC 9112 §3.2.3: CONNECT takes the authority form only; the port isn't optional.
        let colon = memchr::memrchr(b':', target).ok_or(TargetError::Form)?;
        let has_port = decimal(&target[colon + 1..]).is_some();
        if !has_port || !is_authority(target) {
            return Err(TargetError::Authority);
        }
        return Ok(Target::Authority(target));
    }
    if target == b"*" && method == Method::Options {
        return Ok(Target::Asterisk);
    }
    absolute_form(method, target)
}

/// RFC 9112 §3.2.2. Schemes other than ours are no business of an origin server.
fn absolute_form<'a>(method: Method<'_>, target: &'a [u8]) -> Result<Target<'a>, TargetError> {
    let colon = memchr::memchr(b':', target).ok_or(TargetError::Form)?;
    let (scheme, rest) = target.split_at(colon);
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return Err(TargetError::Form);
    }
    let rest = rest.strip_prefix(b"://").ok_or(TargetError::Form)?;
    let end = memchr::memchr3(b'/', b'?', b'#', rest).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    // RFC 9110 §4.2.1: an http URI with an empty host is invalid; §4.2.4: userinfo is an error.
    if matches!(authority, [] | [b':', ..]) || !is_authority(authority) {
        return Err(TargetError::Authority);
    }
    if rest.is_empty() && method == Method::Options {
        // RFC 9112 §3.2.4: how OPTIONS * travels through a proxy.
        return Ok(Target::Asterisk);
    }
    let (path, query) = match rest {
        // RFC 9110 §4.2.3: an empty path is the same as `/`.
        [] => (Path(Cow::Borrowed(b"/")), None),
        [b'?', query @ ..] => (Path(Cow::Borrowed(b"/")), Some(checked_query(query)?)),
        _ => split(rest)?,
    };
    Ok(Target::Resource(Resource {
        authority: Some(authority),
        path,
        query,
    }))
}

/// A target as an origin server gets it from a proxy (RFC 9112 §3.2.1): without the scheme and the
/// authority of the absolute form, which are checked before ([`Target::parse`]).
pub fn origin_form<'t>(method: Method<'_>, target: &'t [u8]) -> Cow<'t, [u8]> {
    if matches!(target, [b'/', ..] | b"*") {
        return Cow::Borrowed(target);
    }
    let authority = memchr::memmem::find(target, b"://").map_or(0, |at| at + 3);
    let rest = &target[authority..];
    match memchr::memchr2(b'/', b'?', rest) {
        Some(at) if rest[at] == b'/' => Cow::Borrowed(&rest[at..]),
        // An empty path is sent as a slash.
        Some(at) => Cow::Owned([b"/", &rest[at..]].concat()),
        // RFC 9112 §3.2.4: what else would name the server as a whole.
        None if method == Method::Options => Cow::Borrowed(b"*"),
        None => Cow::Borrowed(b"/"),
    }
}

/// What a byte of a raw path can mean.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Plain,
    Slash,
    Query,
    Percent,
    Backslash,
    Refused,
}

static CLASS: [Class; 256] = {
    let mut class = [Class::Plain; 256];
    let mut byte = 0;
    while byte <= b' ' as usize {
        class[byte] = Class::Refused;
        byte += 1;
    }
    class[0x7f] = Class::Refused;
    class[b'#' as usize] = Class::Refused;
    class[b'/' as usize] = Class::Slash;
    class[b'?' as usize] = Class::Query;
    class[b'%' as usize] = Class::Percent;
    class[b'\\' as usize] = Class::Backslash;
    class
};

/// Splits `/path?query` in one pass, which also tells whether the path is normal as it stands.
#[inline]
fn split(target: &[u8]) -> Result<(Path<'_>, Option<&[u8]>), TargetError> {
    let mut normal = true;
    let mut end = target.len();
    for (at, &byte) in target.iter().enumerate() {
        match CLASS[usize::from(byte)] {
            Class::Plain => {}
            Class::Slash => normal &= begins_normal_segment(&target[at + 1..]),
            Class::Percent => normal = false,
            Class::Query => {
                end = at;
                break;
            }
            Class::Backslash => return Err(TargetError::Backslash),
            Class::Refused => return Err(TargetError::Character),
        }
    }
    let (path, rest) = target.split_at(end);
    let query = match rest {
        [] => None,
        [_, query @ ..] => Some(checked_query(query)?),
    };
    let path = if normal {
        Cow::Borrowed(path)
    } else {
        normalize(path)?
    };
    Ok((Path(path), query))
}

/// Whether what follows a slash is neither an empty nor a dot segment.
#[inline(always)]
fn begins_normal_segment(rest: &[u8]) -> bool {
    match rest {
        [b'/', ..] => false,
        [b'.', rest @ ..] => !matches!(
            rest,
            [] | [b'/' | b'?', ..] | [b'.'] | [b'.', b'/' | b'?', ..]
        ),
        _ => true,
    }
}

/// RFC 3986 §3.4: a query has no `#`; whitespace and controls are checked for callers that didn't
/// get their target from a parsed head.
fn checked_query(query: &[u8]) -> Result<&[u8], TargetError> {
    let sound = |&byte: &u8| byte > b' ' && byte != 0x7f && byte != b'#';
    if query.iter().all(sound) {
        Ok(query)
    } else {
        Err(TargetError::Character)
    }
}

impl<'a> Path<'a> {
    /// Decodes and normalises a path that begins with `/` and has no query: for paths that come
    /// from elsewhere than a request, such as a configuration.
    ///
    /// # Errors
    ///
    /// See [`TargetError`].
    pub fn parse(path: &'a [u8]) -> Result<Self, TargetError> {
        match split(path)? {
            (normal, None) if path.first() == Some(&b'/') => Ok(normal),
            _ => Err(TargetError::Form),
        }
    }

    /// The path with its leading slash, for routes and logs.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path without its leading slash, to be opened relative to a directory. Empty for the
    /// root itself, and ending with `/` where the request did.
    #[inline]
    pub fn relative(&self) -> &[u8] {
        &self.0[1..]
    }

    /// Whether the path ends with `/`, so that it can only mean a directory.
    #[inline]
    pub fn is_directory(&self) -> bool {
        self.0.ends_with(b"/")
    }

    /// The segments between the slashes; none of them is empty, `.` or `..`.
    pub fn segments(&self) -> impl Iterator<Item = &[u8]> {
        self.relative()
            .split(|&byte| byte == b'/')
            .filter(|segment| !segment.is_empty())
    }

    /// The bytes, borrowed from the target when nothing had to be changed.
    pub fn into_bytes(self) -> Cow<'a, [u8]> {
        self.0
    }
}

/// Decodes, then merges slashes, then removes dot segments (RFC 3986 §5.2.4), in one pass.
#[cold]
fn normalize(path: &[u8]) -> Result<Cow<'_, [u8]>, TargetError> {
    let mut out = Vec::with_capacity(path.len());
    // The order matters: a segment is looked at when all of it is decoded.
    for (index, segment) in path.split(|&byte| byte == b'/').enumerate() {
        if index == 0 {
            continue; // before the leading slash
        }
        // `out` is empty or ends with the segment before; a slash opens this one.
        if out.last() != Some(&b'/') {
            out.push(b'/');
        }
        let start = out.len();
        decode_segment(segment, &mut out)?;
        match &out[start..] {
            b"." => out.truncate(start),
            b".." => {
                // Drop the slash that opened it and the segment before, but keep that one's.
                let parent = &out[..start - 1];
                // RFC 3986 §5.2.4 would stay at the root; asking for more is never innocent.
                let slash = memchr::memrchr(b'/', parent).ok_or(TargetError::AboveRoot)?;
                out.truncate(slash + 1);
            }
            _ => {}
        }
    }
    Ok(if out == path {
        Cow::Borrowed(path)
    } else {
        Cow::Owned(out)
    })
}

/// RFC 3986 §2.1. A segment has no slash before decoding and must have none after.
fn decode_segment(segment: &[u8], out: &mut Vec<u8>) -> Result<(), TargetError> {
    let mut rest = segment;
    while let Some(percent) = memchr::memchr(b'%', rest) {
        out.extend_from_slice(&rest[..percent]);
        let [_, high, low, tail @ ..] = &rest[percent..] else {
            return Err(TargetError::Encoding);
        };
        let (Some(high), Some(low)) = (hex_digit(*high), hex_digit(*low)) else {
            return Err(TargetError::Encoding);
        };
        match high << 4 | low {
            0 => return Err(TargetError::Nul),
            b'/' => return Err(TargetError::EncodedSlash),
            b'\\' => return Err(TargetError::Backslash),
            byte => out.push(byte),
        }
        rest = tail;
    }
    out.extend_from_slice(rest);
    Ok(())
}

/// The value of a hexadecimal digit.
pub(crate) fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Appends `path` percent-encoded, for `Location` and for links: the inverse of decoding. A query
/// is not part of it.
pub fn encode_path(path: &[u8], out: &mut Vec<u8>) {
    for part in percent_encode(path, PATH) {
        out.extend_from_slice(part.as_bytes());
    }
}

/// What a byte of an authority can be, as bits: in a host nothing, a colon, what can't stand there.
static HOST_BYTE: [u8; 256] = {
    let mut map = [REFUSED; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        // RFC 3986 §3.2.2: unreserved and sub-delimiters. Percent-encoded names exist in the
        // grammar but in no resolver: refused, so that hosts compare as they are.
        if b.is_ascii_alphanumeric()
            || matches!(b, b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'')
            || matches!(b, b'(' | b')' | b'*' | b'+' | b';' | b'=')
        {
            map[byte] = 0;
        }
        byte += 1;
    }
    map[b':' as usize] = COLON;
    map
};
const COLON: u8 = 1;
const REFUSED: u8 = 2;

/// Which kinds of bytes there are, as bits of [`HOST_BYTE`].
#[inline(always)]
fn host_bytes(bytes: &[u8]) -> u8 {
    bytes
        .iter()
        .fold(0, |kinds, &byte| kinds | HOST_BYTE[usize::from(byte)])
}

/// Whether `authority` is `host [":" port]` with a non-empty host (RFC 9112 §3.2, RFC 3986
/// §3.2.2). No userinfo, no comma (a list of hosts is no host), no percent-encoding.
#[inline]
pub(crate) fn is_authority(authority: &[u8]) -> bool {
    let host = without_port(authority);
    match host_bytes(host) {
        0 => !host.is_empty(),
        _ => is_bracketed(host),
    }
}

/// Strips `":" port`, if that is how `authority` ends. RFC 3986 §3.2.3 allows an empty port.
#[inline]
fn without_port(authority: &[u8]) -> &[u8] {
    const LARGEST: &[u8] = b"65535";
    let mut rest = authority;
    while let [shorter @ .., b'0'..=b'9'] = rest {
        rest = shorter;
    }
    let port = &authority[rest.len()..];
    match rest {
        [host @ .., b':'] if port.len() < LARGEST.len() => host,
        [host @ .., b':'] if port.len() == LARGEST.len() && port <= LARGEST => host,
        _ => authority,
    }
}

/// An IP literal in brackets; the address itself is left to whoever needs it.
#[cold]
fn is_bracketed(host: &[u8]) -> bool {
    let [b'[', address @ .., b']'] = host else {
        return false;
    };
    !address.is_empty() && host_bytes(address) <= COLON
}

#[cfg(test)]
mod tests;
