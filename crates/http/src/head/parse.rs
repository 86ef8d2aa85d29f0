//! From bytes to a head: the request line, the lines of the fields, and the end.
//!
//! [`read`] names the first fault it meets and never looks behind it. So it doesn't matter how
//! much of a bad head had arrived when it was looked at, and there is one answer for every way the
//! input can be cut.

use super::fields::{Fields, Known};
use super::{Framing, HeadError, HeadLimits, Method, RequestHead, Version};
use crate::field::{is_token, is_token_byte};

/// Longest method accepted; the longest registered one (`UPDATEREDIRECTREF`) has 17 bytes.
const MAX_METHOD_BYTES: usize = 32;

/// Empty lines accepted before a request line. RFC 9112 §2.2 wants at least one ignored; a second
/// is for clients that end a body with CRLF and begin the next request with another.
const MAX_EMPTY_LINES: usize = 2;

/// Something that was read, or nothing while it isn't all there.
type Parsed<T> = Result<Option<T>, HeadError>;

/// How far an unfinished head has been searched for its end, so that a head that arrives byte by
/// byte costs no more than one that arrives at once. Make a new one for each request.
#[derive(Debug, Default, Clone, Copy)]
pub struct HeadScan {
    /// Bytes in which no end was found, counted after the skipped empty lines.
    pub(super) searched: usize,
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
    /// Whether a search was begun, and found no end yet.
    pub(crate) fn has_begun(&self) -> bool {
        self.searched > 0
    }

    /// Whether `window` has all of a head, or what makes one impossible.
    pub(crate) fn ends_in(&mut self, window: &[u8]) -> bool {
        !matches!(self.advance(window), Found::Nothing)
    }

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

/// Parses the head at the beginning of `input`.
///
/// `Ok(None)` means that more bytes are needed: call again with the same bytes and more behind
/// them, and the same `scan`. `Ok(Some((head, bytes)))` says how many bytes of `input` the head
/// took; the body, or the next request, begins there.
///
/// However the input is cut into calls, a head that ends is accepted or refused alike. A bad head
/// that hasn't ended may be refused sooner or later, depending on the cuts, but for a bad request line
/// not beyond its end, and never beyond [`HeadLimits::head_bytes`].
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
) -> Result<Option<(RequestHead<'a>, usize)>, HeadError> {
    // The usual case: all of it is there at once.
    if scan.searched == 0 && input.len() <= limits.head_bytes {
        match read(input, limits) {
            Ok(None) => {}
            // Handed on as it is: taking it apart would copy it.
            done => return done,
        }
    }
    resume(input, scan, limits)
}

/// The unusual cases: empty lines come first, the input is larger than a head may be, or the head
/// comes in pieces.
#[cold]
fn resume<'a>(
    input: &'a [u8],
    scan: &mut HeadScan,
    limits: &HeadLimits,
) -> Result<Option<(RequestHead<'a>, usize)>, HeadError> {
    let Some(skipped) = empty_lines(input)? else {
        return Ok(None);
    };
    let input = &input[skipped..];
    let window = &input[..input.len().min(limits.head_bytes)];
    // As without empty lines: what can't become a head isn't waited for.
    if skipped > 0
        && scan.searched == 0
        && let Some((head, bytes)) = read(window, limits)?
    {
        return Ok(Some((head, skipped + bytes)));
    }
    let was_in_request_line = scan.line_start == 0;
    let (end, fault) = match scan.advance(window) {
        Found::End(end) => (end, HeadError::RequestLine),
        Found::BareLineFeed => (window.len(), HeadError::BareLineFeed),
        Found::Nothing if is_too_long(window, scan, limits) => {
            (window.len(), HeadError::HeadTooLarge)
        }
        // HTTP/0.9 ends with its request line: whoever speaks that is told, and doesn't wait for it.
        Found::Nothing if was_in_request_line && scan.line_start > 0 => {
            read(window, limits)?;
            return Ok(None);
        }
        Found::Nothing => return Ok(None),
    };
    match read(&window[..end], limits)? {
        Some((head, bytes)) => Ok(Some((head, skipped + bytes))),
        None => Err(fault),
    }
}

/// Whether a head without an end is too long already, as a whole or in its request line.
fn is_too_long(window: &[u8], scan: &HeadScan, limits: &HeadLimits) -> bool {
    let request_line_bytes =
        (MAX_METHOD_BYTES + "  HTTP/1.1\r".len()).saturating_add(limits.target_bytes);
    let in_request_line = scan.line_start == 0;
    window.len() >= limits.head_bytes || (in_request_line && window.len() > request_line_bytes)
}

/// Counts the bytes of the empty lines before a request line (RFC 9112 §2.2); `None` while it
/// isn't clear yet whether they are over.
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

/// Reads a whole head without empty lines before it; `None` when `window` ends before it does, or
/// begins with an empty line.
#[inline]
fn read<'a>(window: &'a [u8], limits: &HeadLimits) -> Parsed<(RequestHead<'a>, usize)> {
    let Some((method, target_start)) = method(window)? else {
        return Ok(None);
    };
    let target_end = target_start + target_bytes(&window[target_start..]);
    // RFC 9112 §3: 414 for a target longer than one is willing to parse.
    if target_end - target_start > limits.target_bytes {
        return Err(HeadError::TargetTooLong);
    }
    let Some((version, lines_start)) = version(window, target_start, target_end)? else {
        return Ok(None);
    };
    let mut head = RequestHead::new(method, &window[target_start..target_end], version);
    let lines = &window[lines_start..];
    let Some(lines_bytes) = fields(lines, &mut head, limits)? else {
        return Ok(None);
    };
    head.lines = &lines[..lines_bytes];
    Ok(Some((head, lines_start + lines_bytes + 2)))
}

/// The method, and where the target begins.
#[inline]
fn method(window: &[u8]) -> Parsed<(Method<'_>, usize)> {
    if window.first_chunk() == Some(b"GET ") {
        return Ok(Some((Method::Get, 4)));
    }
    other_method(window)
}

fn other_method(window: &[u8]) -> Parsed<(Method<'_>, usize)> {
    let Some(end) = window.iter().position(|&byte| !is_token_byte(byte)) else {
        // RFC 9112 §3: a method longer than any implemented is answered with 501.
        let too_long = window.len() > MAX_METHOD_BYTES;
        return if too_long {
            Err(HeadError::MethodTooLong)
        } else {
            Ok(None)
        };
    };
    if end > MAX_METHOD_BYTES {
        return Err(HeadError::MethodTooLong);
    }
    if end == 0 && matches!(window[0], b'\r' | b'\n') {
        return Ok(None); // `empty_lines` decides
    }
    // RFC 9112 §3: exactly one space; whitespace of other kinds could be tolerated and isn't.
    if end == 0 || window[end] != b' ' {
        return Err(HeadError::RequestLine);
    }
    let method = match &window[..end] {
        b"GET" => Method::Get,
        b"HEAD" => Method::Head,
        b"POST" => Method::Post,
        b"PUT" => Method::Put,
        b"DELETE" => Method::Delete,
        b"CONNECT" => Method::Connect,
        b"OPTIONS" => Method::Options,
        b"TRACE" => Method::Trace,
        b"PATCH" => Method::Patch,
        token => Method::Other(str::from_utf8(token).map_err(|_| HeadError::RequestLine)?),
    };
    Ok(Some((method, end + 1)))
}

/// The space behind the target, the version, CRLF; and where the fields begin.
#[inline]
fn version(window: &[u8], target_start: usize, target_end: usize) -> Parsed<(Version, usize)> {
    const LINE_END_BYTES: usize = " HTTP/1.1\r\n".len();
    if target_start != target_end
        && let Some(rest) = window[target_end..].first_chunk::<LINE_END_BYTES>()
    {
        if rest == b" HTTP/1.1\r\n" {
            return Ok(Some((Version::Http11, target_end + LINE_END_BYTES)));
        }
        if rest == b" HTTP/1.0\r\n" {
            return Ok(Some((Version::Http10, target_end + LINE_END_BYTES)));
        }
    }
    let version = other_version(&window[target_end..], target_start == target_end)?;
    Ok(version.map(|version| (version, target_end + LINE_END_BYTES)))
}

/// A version that isn't spelled as nearly everybody does, or the first byte that makes it none;
/// there may not be enough of it yet.
#[cold]
fn other_version(rest: &[u8], target_is_empty: bool) -> Parsed<Version> {
    for (index, (&byte, expect)) in rest.iter().zip(b" HTTP/1.1\r\n").enumerate() {
        let fault = match (index, byte) {
            (0, _) if target_is_empty => HeadError::RequestLine,
            (6 | 8, b'0'..=b'9') => continue,
            // RFC 9110 §15.6.6: 505 for another major version, once it is clear that it is one.
            (9, b'\r') if rest[6] != b'1' => HeadError::UnsupportedVersion,
            _ if byte == *expect => continue,
            // RFC 9112 §2.2: a bare LF may be taken for a line end; not here.
            (9, b'\n') => HeadError::BareLineFeed,
            (10, _) => HeadError::LineEnd,
            _ => HeadError::RequestLine,
        };
        return Err(fault);
    }
    // RFC 9110 §2.5: a higher minor version is taken for the highest that is known, because it may
    // add, but not change. HTTP/1.0 was looked for before.
    let is_whole = rest.len() >= b" HTTP/1.1\r\n".len();
    Ok(is_whole.then_some(Version::Http11))
}

/// Reads the lines of the fields up to the empty one that ends them; says how many bytes they take
/// without it.
#[inline]
fn fields<'a>(lines: &'a [u8], head: &mut RequestHead<'a>, limits: &HeadLimits) -> Parsed<usize> {
    let mut fields = Fields::default();
    let mut left = limits.header_count;
    let mut rest = lines;
    loop {
        if rest.first_chunk() == Some(b"\r\n") {
            fields.finish(head)?;
            return Ok(Some(lines.len() - rest.len()));
        }
        let Some((known, value)) = line(rest, Known::of) else {
            return fault(rest);
        };
        if left == 0 {
            return Err(HeadError::TooManyHeaders);
        }
        left -= 1;
        if let Some(known) = known {
            fields.read(head, known, value.bytes)?;
        }
        rest = value.next;
    }
}

/// One line: what its name is known as, and its value; `None` where that isn't one, or not all there.
/// `known` recognises names, all of them tokens.
///
/// Why it is none is found out by [`fault`]: a result that could say so would be taken apart and put
/// together again for each line.
#[inline(always)]
pub(crate) fn line<K>(
    rest: &[u8],
    known: impl FnOnce(&[u8]) -> Option<K>,
) -> Option<(Option<K>, Value<'_>)> {
    let (name, [_, after @ ..]) = rest.split_at_checked(name_bytes(rest))? else {
        return None;
    };
    let known = known(name);
    if known.is_none() && !is_token(name) {
        return None;
    }
    Some((known, value(after)?))
}

/// Why the lines don't begin with one, or `None` while it isn't all there. The name comes first, since
/// the value may not be there yet.
#[cold]
pub(crate) fn fault<T>(lines: &[u8]) -> Parsed<T> {
    match lines.split_at_checked(name_bytes(lines)) {
        Some((name, [_, after @ ..])) if is_token(name) => value_fault(after),
        _ => name_fault(lines),
    }
}

/// What follows a name and its colon.
pub(crate) struct Value<'a> {
    /// The value without whitespace around it.
    pub(crate) bytes: &'a [u8],
    /// Whether its line is written as nearly everybody does: one space before the value, none behind
    /// it. An empty value isn't said to be.
    pub(crate) is_plain: bool,
    /// The lines behind it.
    pub(crate) next: &'a [u8],
}

/// The value of a field, from behind the colon.
#[inline(always)]
fn value(mut rest: &[u8]) -> Option<Value<'_>> {
    let mut is_plain = true;
    match rest {
        [b' ', first, ..] if *first > b' ' => rest = &rest[1..],
        _ => {
            is_plain = false;
            while let [b' ' | b'\t', tail @ ..] = rest {
                rest = tail;
            }
        }
    }
    let mut end = value_bytes(rest);
    while rest.get(end) == Some(&b'\t') {
        end += 1 + value_bytes(&rest[end + 1..]);
    }
    let (mut bytes, rest) = rest.split_at(end);
    let [b'\r', b'\n', next @ ..] = rest else {
        return None;
    };
    while let [shorter @ .., b' ' | b'\t'] = bytes {
        bytes = shorter;
        is_plain = false;
    }
    Some(Value {
        bytes,
        is_plain,
        next,
    })
}

/// A line that doesn't begin with a name and a colon: malformed, or not all there.
///
/// RFC 9112 §5.1 refuses whitespace before the colon, §5.2 a folded line; both are names that
/// aren't tokens.
fn name_fault<T>(line: &[u8]) -> Parsed<T> {
    match line {
        [b'\r'] => Ok(None),
        [b'\r', ..] => Err(HeadError::LineEnd),
        [b'\n', ..] => Err(HeadError::BareLineFeed),
        [b':', ..] => Err(HeadError::HeaderName),
        _ if line.iter().all(|&byte| is_token_byte(byte)) => Ok(None),
        _ => Err(HeadError::HeaderName),
    }
}

/// A value behind which something else than CRLF stands, or nothing yet.
fn value_fault<T>(after: &[u8]) -> Parsed<T> {
    let end = after
        .iter()
        .position(|byte| *byte != b'\t' && byte.is_ascii_control());
    match &after[end.unwrap_or(after.len())..] {
        [] | [b'\r'] => Ok(None),
        // RFC 9112 §2.2: a bare LF may be taken for a line end; not here.
        [b'\n', ..] => Err(HeadError::BareLineFeed),
        // RFC 9112 §2.2, RFC 9110 §5.5: a bare CR or another control character is invalid.
        _ => Err(HeadError::HeaderValue),
    }
}

/// Eight copies of a byte.
const fn eight(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// Marks, in its highest bit, the first byte of `eight_bytes` that is below `bound` (at most 128),
/// and perhaps bytes behind it. From "Bit Twiddling Hacks", "Determine if a word has a byte less
/// than n".
const fn below(eight_bytes: u64, bound: u8) -> u64 {
    eight_bytes.wrapping_sub(eight(bound)) & !eight_bytes & eight(0x80)
}

/// Like [`below`], for bytes that are equal to `byte`.
const fn equal(eight_bytes: u64, byte: u8) -> u64 {
    below(eight_bytes ^ eight(byte), 1)
}

/// Both at once, for bytes below `bound` and DEL: as `below(eight_bytes, bound) | equal(eight_bytes,
/// 0x7f)`, with the highest bits looked at once. (DEL's own is clear, so to exchange it for zero
/// changes none of them.)
const fn below_or_delete(eight_bytes: u64, bound: u8) -> u64 {
    let lower = eight_bytes.wrapping_sub(eight(bound));
    let delete = (eight_bytes ^ eight(0x7f)).wrapping_sub(eight(1));
    (lower | delete) & !eight_bytes & eight(0x80)
}

/// Counts the bytes before the first that isn't part of a target: whitespace or control.
#[inline(always)]
fn target_bytes(rest: &[u8]) -> usize {
    unmarked(rest, |bytes| below_or_delete(bytes, b'!'))
}

/// Counts the bytes before the first control character, HTAB included.
#[inline(always)]
fn value_bytes(rest: &[u8]) -> usize {
    // Most values are short, dates among them. What isn't over after four steps is long, and goes by
    // blocks, which the compiler turns into vector instructions.
    const SHORT_BYTES: usize = 32;
    const BLOCK_BYTES: usize = 32;
    let is_marked = |bytes| below_or_delete(bytes, b' ');
    let mut plain = unmarked(&rest[..rest.len().min(SHORT_BYTES)], is_marked);
    if plain < SHORT_BYTES {
        return plain;
    }
    while let Some(block) = rest[plain..].first_chunk::<BLOCK_BYTES>()
        && !has_control(block)
    {
        plain += BLOCK_BYTES;
    }
    plain + unmarked(&rest[plain..], is_marked)
}

/// Without an early end, so that it can be done at once.
#[inline(always)]
fn has_control<const N: usize>(block: &[u8; N]) -> bool {
    block
        .iter()
        .fold(false, |found, byte| found | byte.is_ascii_control())
}

/// Counts the bytes of a checked line before its CR, which no value contains.
#[inline(always)]
pub(super) fn line_bytes(rest: &[u8]) -> usize {
    unmarked(rest, |bytes| equal(bytes, b'\r'))
}

/// Counts the bytes before the first colon.
#[inline(always)]
pub(super) fn name_bytes(rest: &[u8]) -> usize {
    unmarked(rest, |bytes| equal(bytes, b':'))
}

/// Counts the bytes before the first that `mark` marks, or all if there is none.
#[inline(always)]
fn unmarked(bytes: &[u8], mark: impl Fn(u64) -> u64) -> usize {
    let mut rest = bytes;
    while let Some((eight, tail)) = rest.split_first_chunk::<8>() {
        let marked = mark(u64::from_le_bytes(*eight));
        if marked != 0 {
            return bytes.len() - rest.len() + (marked.trailing_zeros() / 8) as usize;
        }
        rest = tail;
    }
    // The last few one by one, among bytes that no mark concerns.
    for (index, &byte) in rest.iter().enumerate() {
        if mark(eight(b'A') & !0xff | u64::from(byte)) & 0x80 != 0 {
            return bytes.len() - rest.len() + index;
        }
    }
    bytes.len()
}

impl<'a> RequestHead<'a> {
    #[inline(always)]
    fn new(method: Method<'a>, target: &'a [u8], version: Version) -> Self {
        RequestHead {
            method,
            target,
            version,
            framing: Framing::None,
            // RFC 9112 §9.3: HTTP/1.1 persists unless told otherwise, HTTP/1.0 only when told so.
            keep_alive: version == Version::Http11,
            expect_continue: false,
            has_connection_options: false,
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
            has_split_list: false,
            lines: &[],
        }
    }
}
