//! From a file and a request to the answer: conditions, ranges, the head.

use super::entry::{Source, Variant};
use super::headers::FileHeaders;
use super::{Hit, Moment, tags};
use crate::answer::{Answer, FilePart, Frame, SERVER, Segment, begin, explain};
use crate::clock::Clock;
use ringway_http::StatusCode;
use ringway_http::condition::{EntityTag, Validators, Verdict, range_applies};
use ringway_http::date::HttpDate;
use ringway_http::head::{Method, RequestHead, Version};
use ringway_http::multipart::{Boundary, Multipart};
use ringway_http::negotiate::Coding;
use ringway_http::range::{ByteRange, RangeAnswer, resolve};
use ringway_http::response::{ResponseHead, name};
use ringway_runtime::{Chunk, Metadata, Outgoing};
use std::hash::{BuildHasher as _, Hasher as _};
use std::ops::Range;
use std::time::Instant;

/// Room for any head of a file response.
const HEAD_BYTES: usize = 512;

/// What a response says of a file, however its bytes are sent.
pub(super) struct Representation {
    content_type: String,
    coding: Option<Coding>,
    /// With its quotes. Strong: no other bytes of this path have it, in whatever coding ([`tags`]).
    etag: String,
    last_modified: Option<u64>,
    bytes: u64,
    headers: FileHeaders,
    /// How many ranges of it one answer may have.
    ranges: usize,
}

impl Representation {
    /// The file as it is, before it is read.
    pub(super) fn new(
        metadata: &Metadata,
        content_type: String,
        headers: FileHeaders,
        ranges: usize,
    ) -> Representation {
        Representation {
            content_type,
            coding: None,
            etag: tags::of_file(metadata, None),
            last_modified: tags::last_modified(metadata),
            bytes: metadata.bytes,
            headers,
            ranges,
        }
    }

    /// What the server has made itself, and keeps in memory: no time would say when it changed.
    pub(super) fn made(content_type: &str, headers: FileHeaders) -> Representation {
        Representation {
            content_type: content_type.to_owned(),
            coding: None,
            etag: String::new(),
            last_modified: None,
            // A part of it is of no use to anybody.
            ranges: 0,
            bytes: 0,
            headers,
        }
    }

    /// The same in a coding, from a file beside it, before that is read. The time of modification
    /// stays the source's, which is what a client that knows no codings would compare with.
    pub(super) fn precompressed(&self, coding: Coding, sibling: &Metadata) -> Representation {
        Representation {
            etag: tags::of_file(sibling, Some(coding)),
            bytes: sibling.bytes,
            ..self.coded(coding)
        }
    }

    /// The same in a coding that is made of it, and kept in memory.
    pub(super) fn coded(&self, coding: Coding) -> Representation {
        Representation {
            content_type: self.content_type.clone(),
            coding: Some(coding),
            etag: String::new(),
            last_modified: self.last_modified,
            bytes: 0,
            headers: self.headers.clone(),
            // Of several, clients would decode the multipart body itself.
            ranges: self.ranges.min(1),
        }
    }

    /// The same with these bytes, which decide its tag whatever the file's times say. What was made
    /// has its tag of them alone: another version of this program may make others of the same file.
    pub(super) fn with_bytes(self, bytes: &[u8]) -> Representation {
        Representation {
            etag: tags::of_bytes(bytes, self.coding),
            bytes: bytes.len() as u64,
            ..self
        }
    }

    fn validators(&self, date: u64) -> Validators<'_> {
        let opaque = &self.etag.as_bytes()[1..self.etag.len() - 1];
        Validators {
            etag: Some(EntityTag {
                weak: false,
                opaque,
            }),
            // A time in the future is no validator (RFC 9110 §8.8.2.1).
            last_modified: self.last_modified.filter(|modified| *modified <= date),
        }
    }

    /// What a 304 says as well (RFC 9110 §15.4.5).
    fn describe<'o>(&self, head: ResponseHead<'o>, date: u64) -> ResponseHead<'o> {
        // RFC 9110 §8.8.2.1: never later than the message's own date.
        let modified = self.last_modified.map(|modified| modified.min(date));
        let head = head.header(name::ETAG, self.etag.as_bytes());
        let head = match modified {
            Some(seconds) => head.last_modified(&HttpDate::from_unix_seconds(seconds)),
            None => head,
        };
        self.headers.add_caching(head)
    }

    /// The plain 200 of HTTP/1.1 with its body, and where in it the head ends and the date begins.
    pub(super) fn whole(
        &self,
        body: &[u8],
        clock: &Clock,
        now: Instant,
    ) -> (Vec<u8>, usize, usize) {
        let mut out = Vec::with_capacity(HEAD_BYTES + body.len());
        let frame = Frame {
            version: Version::Http11,
            keep_alive: true,
            is_head: false,
            origin: None,
        };
        let date_at = b"HTTP/1.1 200 OK\r\nServer: ".len() + SERVER.len() + b"\r\nDate: ".len();
        self.emit(&mut out, &Content::Whole, frame, clock, now);
        let head_bytes = out.len();
        out.extend_from_slice(body);
        debug_assert_eq!(&out[date_at..date_at + 29], clock.date(now).as_bytes());
        (out, head_bytes, date_at)
    }

    /// Writes the head, and for several parts what goes before the first.
    fn emit(
        &self,
        out: &mut Vec<u8>,
        content: &Content<'_>,
        frame: Frame,
        clock: &Clock,
        now: Instant,
    ) {
        let date = clock.seconds(now);
        let head = begin(out, content.status(), frame, clock, now);
        let head = self.headers.add(head, frame);
        let head = match content {
            Content::Unsatisfiable => head.unsatisfied_range(self.bytes).content_length(0),
            Content::Failed => head.content_length(0),
            // RFC 9110 §15.4.5: what a 200 would say that helps the cache; no content, no length.
            Content::NotModified => self.describe(head, date),
            Content::Whole => self.present(head, date).content_length(self.bytes),
            Content::Part(part) => self
                .present(head, date)
                .content_length(part.len())
                .content_range(*part, self.bytes),
            // RFC 9110 §15.3.7.2: the ranges are told with the parts alone.
            Content::Parts(parts) => self
                .describe(head, date)
                .header(name::ACCEPT_RANGES, b"bytes")
                .header(name::CONTENT_TYPE, &parts.multipart.content_type())
                .content_length(parts.body_bytes),
        };
        head.finish()
            .expect("the values are numbers, dates, media types, and checked when they were read");
    }

    /// What a 200 and a 206 say of the content.
    fn present<'o>(&self, head: ResponseHead<'o>, date: u64) -> ResponseHead<'o> {
        let ranges: &[u8] = if self.ranges > 0 { b"bytes" } else { b"none" };
        let head = self
            .describe(head, date)
            .header(name::ACCEPT_RANGES, ranges)
            .header(name::CONTENT_TYPE, self.content_type.as_bytes());
        match self.coding {
            Some(coding) => head.header(name::CONTENT_ENCODING, coding.token().as_bytes()),
            None => head,
        }
    }

    /// RFC 9110 §13.2.2, and ranges after it.
    fn decide(&self, head: &RequestHead<'_>, date: u64) -> Content<'_> {
        let validators = self.validators(date);
        match head.preconditions().evaluate(validators) {
            Verdict::Proceed => {}
            Verdict::NotModified => return Content::NotModified,
            Verdict::Failed => return Content::Failed,
        }
        // RFC 9110 §14.2: ranges are defined for GET alone.
        let range = head.range.filter(|_| head.method == Method::Get);
        let Some(range) = range.filter(|_| range_applies(head.if_range, validators, date)) else {
            return Content::Whole;
        };
        match resolve(range, self.bytes, self.ranges) {
            RangeAnswer::Whole => Content::Whole,
            RangeAnswer::Part(part) => Content::Part(part),
            RangeAnswer::Parts(ranges) => self.parts(ranges).map_or(Content::Whole, Content::Parts),
            RangeAnswer::Unsatisfiable => Content::Unsatisfiable,
        }
    }

    fn parts(&self, ranges: Vec<ByteRange>) -> Option<Parts<'_>> {
        let multipart =
            Multipart::new(boundary(), self.content_type.as_bytes(), self.bytes).ok()?;
        let body_bytes = multipart.body_bytes(&ranges)?;
        Some(Parts {
            multipart,
            ranges,
            body_bytes,
        })
    }
}

/// What an answer carries.
enum Content<'r> {
    Whole,
    Part(ByteRange),
    Parts(Parts<'r>),
    NotModified,
    Failed,
    Unsatisfiable,
}

/// Several ranges in one answer.
struct Parts<'r> {
    multipart: Multipart<'r>,
    ranges: Vec<ByteRange>,
    body_bytes: u64,
}

impl Content<'_> {
    fn status(&self) -> StatusCode {
        match self {
            Content::Whole => StatusCode::OK,
            Content::Part(_) | Content::Parts(_) => StatusCode::PARTIAL_CONTENT,
            Content::NotModified => StatusCode::NOT_MODIFIED,
            Content::Failed => StatusCode::PRECONDITION_FAILED,
            Content::Unsatisfiable => StatusCode::RANGE_NOT_SATISFIABLE,
        }
    }
}

impl Parts<'_> {
    /// The body after its first part's head, which goes out with the answer's: each range with the
    /// bytes behind it, which belong to the next one, if there is one.
    fn segments(&self) -> impl Iterator<Item = (ByteRange, Vec<u8>, Option<ByteRange>)> {
        let next = self.ranges.iter().skip(1).copied().map(Some).chain([None]);
        std::iter::zip(&self.ranges, next).map(|(range, next)| {
            let mut behind = Vec::new();
            match next {
                Some(next) => self.multipart.push_part_head(&mut behind, next),
                None => self.multipart.push_end(&mut behind),
            }
            (*range, behind, next)
        })
    }
}

/// One that nobody can have foreseen: the standard library's tables have keys of the system's
/// randomness, and another one for each table.
fn boundary() -> Boundary {
    let random = || u128::from(std::hash::RandomState::new().build_hasher().finish());
    Boundary::new(random() << 64 | random())
}

/// The answer to a GET or HEAD, from a representation.
pub(super) fn answer(
    variant: &Variant,
    head: &RequestHead<'_>,
    frame: Frame,
    moment: Moment<'_>,
) -> Answer {
    let is_plain = frame.version == Version::Http11
        && frame.keep_alive
        && frame.origin.is_none()
        && head.range.is_none()
        && !head.is_conditional();
    let hit = is_plain.then(|| variant.hit(frame.is_head, moment));
    match hit.flatten() {
        Some(Hit {
            message,
            body_bytes,
        }) => Answer {
            status: StatusCode::OK,
            message,
            body_bytes,
            file: None,
            keep_alive: true,
        },
        None => special(variant, head, frame, moment),
    }
}

impl Variant {
    /// The whole response as it lies in memory, if it does.
    #[inline(always)]
    pub(super) fn hit(&self, is_head: bool, moment: Moment<'_>) -> Option<Hit> {
        let Source::Memory(whole) = &self.source else {
            return None;
        };
        let response = whole.response(moment);
        let (message, body_bytes) = match is_head {
            true => (Chunk::part(response, 0..whole.head_bytes), 0),
            false => (response.into(), self.representation.bytes),
        };
        Some(Hit {
            message: message.into(),
            body_bytes,
        })
    }
}

/// Any other: its head is written for it.
#[inline(never)]
fn special(variant: &Variant, head: &RequestHead<'_>, frame: Frame, moment: Moment<'_>) -> Answer {
    let representation = &variant.representation;
    let content = representation.decide(head, moment.clock.seconds(moment.now));
    let mut out = Vec::with_capacity(HEAD_BYTES);
    representation.emit(&mut out, &content, frame, moment.clock, moment.now);
    let bytes = match &content {
        _ if frame.is_head => 0..0,
        Content::Whole => 0..representation.bytes,
        Content::Part(part) => part.first..part.last + 1,
        Content::Parts(parts) => return with_parts(variant, out, parts, frame, moment),
        Content::NotModified | Content::Failed | Content::Unsatisfiable => 0..0,
    };
    with_body(variant, content.status(), out, bytes, frame, moment)
}

/// A file in the place of what was asked for: its bytes and its type, with the status of the error
/// and nothing that would make it a file that one could have.
pub(super) fn page(
    variant: &Variant,
    status: StatusCode,
    frame: Frame,
    moment: Moment<'_>,
) -> Answer {
    let representation = &variant.representation;
    let mut out = Vec::with_capacity(HEAD_BYTES);
    let head = begin(&mut out, status, frame, moment.clock, moment.now);
    let headers = &representation.headers;
    let head = headers.explain(explain(head, status), status);
    headers
        .add_uncached(head, frame)
        .header(name::CONTENT_TYPE, representation.content_type.as_bytes())
        .content_length(representation.bytes)
        .finish()
        .expect("the values are media types, and checked when they were read");
    let bytes = if frame.is_head {
        0
    } else {
        representation.bytes
    };
    with_body(variant, status, out, 0..bytes, frame, moment)
}

/// An answer with those bytes of a representation behind its head.
fn with_body(
    variant: &Variant,
    status: StatusCode,
    head: Vec<u8>,
    bytes: Range<u64>,
    frame: Frame,
    moment: Moment<'_>,
) -> Answer {
    let body_bytes = bytes.end - bytes.start;
    let mut file = None;
    let message = match &variant.source {
        _ if body_bytes == 0 => head.into(),
        Source::Memory(whole) => {
            let first = whole.head_bytes + bytes.start as u32;
            let part = first..first + body_bytes as u32;
            Outgoing::gathered(head, Chunk::part(whole.response(moment), part))
        }
        Source::Open(open, metadata) => {
            file = Some(Box::new(FilePart {
                file: open.clone(),
                offset: bytes.start,
                bytes: body_bytes,
                metadata: *metadata,
                more: Vec::new(),
            }));
            head.into()
        }
    };
    Answer {
        status,
        message,
        body_bytes,
        file,
        keep_alive: frame.keep_alive,
    }
}

/// An answer with several parts: copied together from memory, which can't be more than the whole
/// file and some lines; or as segments of a file.
fn with_parts(
    variant: &Variant,
    mut head: Vec<u8>,
    parts: &Parts<'_>,
    frame: Frame,
    moment: Moment<'_>,
) -> Answer {
    let mut file = None;
    parts.multipart.push_part_head(&mut head, parts.ranges[0]);
    match &variant.source {
        Source::Memory(whole) => {
            let response = whole.response(moment);
            let body = &response[whole.head_bytes as usize..];
            head.reserve(parts.body_bytes as usize);
            for (range, behind, _) in parts.segments() {
                head.extend_from_slice(&body[range.first as usize..=range.last as usize]);
                head.extend_from_slice(&behind);
            }
        }
        Source::Open(open, metadata) => {
            let first = parts.ranges[0];
            let more = parts.segments().map(|(_, before, next)| Segment {
                before,
                offset: next.map_or(0, |range| range.first),
                bytes: next.map_or(0, |range| range.len()),
            });
            file = Some(Box::new(FilePart {
                file: open.clone(),
                offset: first.first,
                bytes: first.len(),
                metadata: *metadata,
                more: more.collect(),
            }));
        }
    }
    Answer {
        status: StatusCode::PARTIAL_CONTENT,
        message: head.into(),
        body_bytes: parts.body_bytes,
        file,
        keep_alive: frame.keep_alive,
    }
}
