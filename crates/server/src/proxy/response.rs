//! A server's response head as its client gets it: written anew from what was parsed.
//!
//! How the content is delimited is decided here, for each side by what that side can read. Nothing
//! here sends or receives.

use crate::answer::Frame;
use crate::route::{HeaderEdit, takes_away};
use ringway_http::date::HttpDate;
use ringway_http::head::Version;
use ringway_http::hop::HopByHop;
use ringway_http::received::{ReceivedFraming, ReceivedHead};
use ringway_http::response::{InvalidHeader, ResponseHead, name};
use std::cell::Cell;

/// Memory that one answer after the other is written into: most are sent at once, and leave it empty.
#[derive(Default)]
pub(crate) struct Scratch(Cell<Vec<u8>>);

impl Scratch {
    /// Beyond a usual answer it isn't worth keeping.
    const KEPT_BYTES: usize = 32 << 10;

    /// An empty vector with room for so many bytes.
    pub(crate) fn take(&self, room_bytes: usize) -> Vec<u8> {
        let mut bytes = self.0.take();
        bytes.reserve(room_bytes);
        bytes
    }

    /// Keeps a vector's memory for the next.
    pub(crate) fn put_back(&self, mut bytes: Vec<u8>) {
        if bytes.capacity() <= Scratch::KEPT_BYTES {
            bytes.clear();
            self.0.set(bytes);
        }
    }
}

/// How content is delimited for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delimited {
    /// There is none.
    Nothing,
    /// By its length.
    Length(u64),
    /// In chunks, which are made here.
    Chunks,
    /// By the end of the connection: for HTTP/1.0, where no length is known.
    Close,
}

impl Delimited {
    /// For content that comes from the server like this.
    pub(crate) fn of(framing: ReceivedFraming, client: Version) -> Delimited {
        match (framing, client) {
            (ReceivedFraming::None, _) => Delimited::Nothing,
            (ReceivedFraming::Length(bytes), _) => Delimited::Length(bytes),
            (ReceivedFraming::Chunked | ReceivedFraming::UntilClose, Version::Http11) => {
                Delimited::Chunks
            }
            (ReceivedFraming::Chunked | ReceivedFraming::UntilClose, Version::Http10) => {
                Delimited::Close
            }
        }
    }
}

/// Writes a final head behind what `out` has. `date` is for servers that send none (RFC 9110
/// §6.6.1). `edits` are what the route does to the fields, and the lines that come of it;
/// `set_cookie` is a cookie of our own.
pub(crate) fn write(
    out: &mut Vec<u8>,
    head: &ReceivedHead<'_>,
    frame: Frame,
    date: &HttpDate,
    edits: Option<(&[HeaderEdit], &[u8])>,
    set_cookie: Option<&[u8]>,
) -> Result<(), InvalidHeader> {
    let mut written = ResponseHead::relayed(out, head.status, head.reason);
    written = match edits {
        Some((edits, _)) => pass_on_each(written, head, edits),
        None => match written.passed_on_whole(head) {
            Ok(written) => written,
            Err(written) => pass_on_each(written, head, &[]),
        },
    };
    let sets_date = edits.is_some_and(|(edits, _)| takes_away(edits, b"Date"));
    if !head.has_date && !sets_date {
        written = written.date(date);
    }
    written = match Delimited::of(head.framing, frame.version) {
        Delimited::Length(bytes) => written.content_length(bytes),
        Delimited::Chunks => written.header(name::TRANSFER_ENCODING, b"chunked"),
        Delimited::Close => written,
        // Of HEAD and 304 it tells the length that a GET would have had (RFC 9110 §8.6).
        Delimited::Nothing => match head.content_length {
            Some(bytes) if head.status != 204 => written.content_length(bytes),
            _ => written,
        },
    };
    if let Some((_, lines)) = edits {
        written = written.lines(lines);
    }
    if let Some(cookie) = set_cookie {
        written = written.named(b"Set-Cookie", cookie);
    }
    written
        .persistence(frame.version, frame.keep_alive)
        .finish()
}

/// Passes on the fields one by one: some are named by `Connection`, or taken away by the route.
fn pass_on_each<'o>(
    written: ResponseHead<'o>,
    head: &ReceivedHead<'_>,
    edits: &[HeaderEdit],
) -> ResponseHead<'o> {
    let hop = HopByHop::of_response(head);
    written.passed_on(head.headers(), |field, _| {
        let is_length = field.len() == 14 && field.eq_ignore_ascii_case(b"content-length");
        !is_length && !takes_away(edits, field) && !hop.keeps_back(field)
    })
}

/// Writes an interim head (1xx), or that of an upgrade (101).
pub(crate) fn write_interim(
    out: &mut Vec<u8>,
    head: &ReceivedHead<'_>,
) -> Result<(), InvalidHeader> {
    let hop = HopByHop::of_response(head);
    let mut written = ResponseHead::relayed(out, head.status, head.reason);
    written = written.passed_on(head.headers(), |field, _| {
        !field.eq_ignore_ascii_case(b"content-length") && !hop.keeps_back(field)
    });
    if head.status == 101 {
        written = written.header(name::CONNECTION, b"Upgrade");
        for protocol in head.header("Upgrade") {
            written = written.named(b"Upgrade", protocol);
        }
    }
    written.finish()
}

#[cfg(test)]
mod tests;
