//! Answers on their way from a service to the connection, and those without a service: errors.

use crate::clock::Clock;
use ringway_http::StatusCode;
use ringway_http::head::{Method, RequestHead, Version};
use ringway_http::response::{ResponseHead, name};
use ringway_runtime::{File, Outgoing};
use std::time::Instant;

/// What this program calls itself in responses.
pub(crate) const SERVER: &[u8] = b"ringway";

/// The methods that files can be asked with.
pub(crate) const ALLOWED: &[u8] = b"GET, HEAD, OPTIONS";

/// An answer that only has to be sent.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// The head, and the body unless it comes from `file`.
    pub(crate) message: Outgoing,
    /// Bytes of the body.
    pub(crate) body_bytes: u64,
    /// The rest of the body, too large for memory.
    pub(crate) file: Option<Box<FilePart>>,
    /// Whether the connection persists afterwards; the head says the same.
    pub(crate) keep_alive: bool,
}

impl Answer {
    /// Whether a body that the client has yet to send would be sent for nothing: the request is
    /// refused, or should have gone elsewhere.
    pub(crate) fn spares_body(&self) -> bool {
        !self.status.is_success()
    }
}

/// A part of an open file.
#[derive(Debug)]
pub(crate) struct FilePart {
    pub(crate) file: File,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    /// What the file was when it was looked at last, first when the head was written: another
    /// content under the same promise is never sent to its end.
    pub(crate) metadata: ringway_runtime::Metadata,
    /// What follows, where several parts were asked for.
    pub(crate) more: Vec<Segment>,
}

impl FilePart {
    /// Bytes of all that is to be sent with it.
    pub(crate) fn byte_count(&self) -> u64 {
        let of = |segment: &Segment| segment.before.len() as u64 + segment.bytes;
        self.bytes + self.more.iter().map(of).sum::<u64>()
    }
}

/// Bytes, and then a range of the file, which may be empty.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) before: Vec<u8>,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// How the response has to be framed: what the request and the moment decide.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    pub(crate) version: Version,
    pub(crate) keep_alive: bool,
    pub(crate) is_head: bool,
    /// Which of the origins that may read the answer asks, where that matters.
    pub(crate) origin: Option<u16>,
}

impl Frame {
    pub(crate) fn of(head: &RequestHead<'_>, keep_alive: bool) -> Frame {
        Frame {
            version: head.version,
            keep_alive,
            is_head: head.method == Method::Head,
            origin: None,
        }
    }

    /// For a request that couldn't be understood: the connection ends with the answer.
    pub(crate) fn of_malformed() -> Frame {
        Frame {
            version: Version::Http11,
            keep_alive: false,
            is_head: false,
            origin: None,
        }
    }
}

/// Begins a head: status line, server, date, persistence.
pub(crate) fn begin<'o>(
    out: &'o mut Vec<u8>,
    status: StatusCode,
    frame: Frame,
    clock: &Clock,
    now: Instant,
) -> ResponseHead<'o> {
    // The highest version that we speak, whatever the client's (RFC 9110 §6.2).
    ResponseHead::new(out, status, Version::Http11)
        .header(name::SERVER, SERVER)
        .date(&clock.date(now))
        .persistence(frame.version, frame.keep_alive)
}

/// An answer of a few words, for errors and redirects.
pub(crate) fn brief(status: StatusCode, frame: Frame, clock: &Clock, now: Instant) -> Answer {
    brief_with(status, frame, clock, now, nothing)
}

fn nothing(head: ResponseHead<'_>) -> ResponseHead<'_> {
    head
}

/// The same with what `add` says as well.
pub(crate) fn brief_with(
    status: StatusCode,
    frame: Frame,
    clock: &Clock,
    now: Instant,
    add: impl for<'o> FnOnce(ResponseHead<'o>) -> ResponseHead<'o>,
) -> Answer {
    let body = page(status);
    let mut out = Vec::with_capacity(512 + body.len());
    let head = begin(&mut out, status, frame, clock, now);
    let finished = add(explain(head, status))
        .header(name::CONTENT_TYPE, b"text/html; charset=utf-8")
        .content_length(body.len() as u64)
        .finish();
    if finished.is_err() {
        // What is added was checked or is percent-encoded, so this can't happen.
        return brief(StatusCode::INTERNAL_SERVER_ERROR, frame, clock, now);
    }
    let body_bytes = if frame.is_head { 0 } else { body.len() as u64 };
    if !frame.is_head {
        out.extend_from_slice(body.as_bytes());
    }
    Answer {
        status,
        message: out.into(),
        body_bytes,
        file: None,
        keep_alive: frame.keep_alive,
    }
}

/// Adds what belongs to some statuses whatever the page says.
pub(crate) fn explain(head: ResponseHead<'_>, status: StatusCode) -> ResponseHead<'_> {
    match status {
        StatusCode::METHOD_NOT_ALLOWED => head.header(name::ALLOW, ALLOWED),
        StatusCode::SERVICE_UNAVAILABLE => head.header(name::RETRY_AFTER, b"1"),
        _ => head,
    }
}

/// The answer to OPTIONS: what can be asked (RFC 9110 §9.3.7), and what `add` says as well.
pub(crate) fn options(
    frame: Frame,
    clock: &Clock,
    now: Instant,
    add: impl for<'o> FnOnce(ResponseHead<'o>) -> ResponseHead<'o>,
) -> Answer {
    let mut out = Vec::with_capacity(512);
    let head = begin(&mut out, StatusCode::NO_CONTENT, frame, clock, now);
    if add(head.header(name::ALLOW, ALLOWED)).finish().is_err() {
        // What is added was checked, so this can't happen.
        return brief(StatusCode::INTERNAL_SERVER_ERROR, frame, clock, now);
    }
    Answer {
        status: StatusCode::NO_CONTENT,
        message: out.into(),
        body_bytes: 0,
        file: None,
        keep_alive: frame.keep_alive,
    }
}

/// A page that says what the status is.
pub(crate) fn page(status: StatusCode) -> String {
    let code = status.as_u16();
    let reason = status.canonical_reason().unwrap_or_default();
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <title>{code} {reason}</title>\n\
         <body style=\"font:1rem/1.5 system-ui,sans-serif;max-width:32rem;margin:20vh auto;\
         padding:0 1rem\">\n<h1 style=\"font-size:1.5rem\">{code} {reason}</h1>\n\
         <p style=\"opacity:.6\">ringway</p>\n</html>\n"
    )
}
