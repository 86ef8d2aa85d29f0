//! What a rule makes of a request that it passes on, and the answers that it gives itself.
//!
//! Targets and fields are written anew from what was understood of the request: what a client
//! sends gets there percent-encoded, or as a token or an authority that the parser let through.

use std::net::IpAddr;
use std::time::Instant;

use ringway_http::StatusCode;
use ringway_http::head::{RequestHead, Version};
use ringway_http::response::{ResponseHead, name};
use ringway_http::target::{Target, encode_path};

use super::pattern::beneath;
use super::table::authority_of;
use super::{FixedAnswer, HeaderEdit, Operation, Redirect, Rule, Values, Variable};
use crate::answer::{self, Answer, Frame, SERVER};
use crate::clock::Clock;

impl<'a> Values<'a> {
    /// What the variables are worth for a request of this client.
    pub fn of(head: &'a RequestHead<'a>, target: &'a Target<'a>, client_ip: IpAddr) -> Values<'a> {
        let (path, query) = match target {
            Target::Resource(resource) => (resource.path.as_bytes(), resource.query),
            Target::Authority(_) | Target::Asterisk => (&b"/"[..], None),
        };
        Values {
            client_ip,
            scheme: "http",
            host: authority_of(head, target),
            method: head.method.as_str(),
            path,
            query,
            is_asterisk: matches!(target, Target::Asterisk),
        }
    }
}

impl Rule {
    /// Whether the request goes on with another target than it came with.
    pub fn changes_target(&self) -> bool {
        self.strip_prefix.is_some() || self.rewrite.is_some()
    }

    /// The path that is left of `path` without the prefix.
    pub fn stripped<'p>(&self, path: &'p [u8]) -> &'p [u8] {
        let Some(prefix) = &self.strip_prefix else {
            return path;
        };
        match beneath(path, prefix) {
            Some([]) => b"/",
            Some(rest) => rest,
            None => path,
        }
    }

    /// Appends the target that the request goes on with: its path without the prefix, rewritten,
    /// and its query. What is asked of the server as a whole has no path to rewrite.
    pub fn emit_target(&self, values: &Values<'_>, out: &mut Vec<u8>) {
        if values.is_asterisk {
            out.push(b'*');
            return;
        }
        let path = self.stripped(values.path);
        let mut has_query = false;
        match &self.rewrite {
            None => encode_path(path, out),
            Some(template) => {
                template.emit_target(&Values { path, ..*values }, out);
                has_query = template.as_str().contains('?');
            }
        }
        if let Some(query) = values.query {
            out.push(if has_query { b'&' } else { b'?' });
            out.extend_from_slice(query);
        }
    }
}

/// The head of a request with another target: for whoever reads the target from the head, such as
/// `files`. `raw` is the head that `head` was parsed from.
pub fn retargeted(raw: &[u8], head: &RequestHead<'_>, target: &[u8]) -> Vec<u8> {
    let start = head.target.as_ptr() as usize - raw.as_ptr() as usize;
    let end = start + head.target.len();
    [&raw[..start], target, &raw[end..]].concat()
}

/// A message with these edits made to its head, for an answer that was made without them. `lines` is
/// what they set and add ([`emit_fields`]). What follows the head stays as it is.
pub fn edited(message: &[u8], edits: &[HeaderEdit], lines: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 256);
    let mut rest = message;
    let mut is_first = true;
    while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
        let (line, behind) = rest.split_at(end + 1);
        if line == b"\r\n" {
            break;
        }
        let name = line.split(|&byte| byte == b':').next().unwrap_or(line);
        // The status line has no name.
        if is_first || !takes_away(edits, name) {
            out.extend_from_slice(line);
        }
        is_first = false;
        rest = behind;
    }
    out.extend_from_slice(lines);
    out.extend_from_slice(rest);
    out
}

/// A redirect with this prefix put before the path that it leads to: a root knows nothing of what was
/// taken off its paths.
pub(crate) fn relocated(message: &[u8], prefix: &str) -> Vec<u8> {
    const FIELD: &[u8] = b"\r\nLocation: /";
    let find = |text: &[u8]| message.windows(text.len()).position(|found| found == text);
    let head_bytes = find(b"\r\n\r\n").unwrap_or(0);
    let Some(at) = find(FIELD).filter(|at| *at < head_bytes) else {
        return message.to_vec();
    };
    let path = at + FIELD.len() - 1;
    [&message[..path], prefix.as_bytes(), &message[path..]].concat()
}

/// Whether a field is replaced or removed by these edits: then it isn't sent as it came.
pub fn takes_away(edits: &[HeaderEdit], name: &[u8]) -> bool {
    edits.iter().any(|edit| {
        !matches!(edit.operation, Operation::Add(_))
            && edit.name.as_bytes().eq_ignore_ascii_case(name)
    })
}

/// Appends the fields that these edits set and add, each as a line.
pub fn emit_fields(edits: &[HeaderEdit], values: &Values<'_>, out: &mut Vec<u8>) {
    for edit in edits {
        if let Operation::Set(value) | Operation::Add(value) = &edit.operation {
            out.extend_from_slice(edit.name.as_bytes());
            out.extend_from_slice(b": ");
            value.emit(values, out);
            out.extend_from_slice(b"\r\n");
        }
    }
}

impl Redirect {
    /// Appends the value of `Location`; `path` in the values is what is left of the path without
    /// the rule's prefix. Nothing, if the template needs a host and the request names none.
    pub(crate) fn emit_location(&self, values: &Values<'_>, out: &mut Vec<u8>) -> bool {
        if values.host.is_empty() && self.to.has(Variable::Host) {
            return false;
        }
        self.to.emit(values, out);
        true
    }
}

/// The answer of a rule that redirects.
pub(crate) fn redirect(
    redirect: &Redirect,
    rule: &Rule,
    values: &Values<'_>,
    frame: Frame,
    clock: &Clock,
    now: Instant,
) -> Answer {
    let path = rule.stripped(values.path);
    let mut location = Vec::with_capacity(256);
    if !redirect.emit_location(&Values { path, ..*values }, &mut location) {
        // HTTP/1.0 without Host: there is nowhere to send it to.
        return answer::brief(StatusCode::BAD_REQUEST, frame, clock, now);
    }
    let fixed = FixedAnswer {
        status: redirect.status,
        body: None,
    };
    own_answer(&fixed, Some(&location), rule, values, frame, clock, now)
}

/// The answer of a rule that has one of its own.
pub(crate) fn fixed(
    fixed: &FixedAnswer,
    rule: &Rule,
    values: &Values<'_>,
    frame: Frame,
    clock: &Clock,
    now: Instant,
) -> Answer {
    own_answer(fixed, None, rule, values, frame, clock, now)
}

fn own_answer(
    fixed: &FixedAnswer,
    location: Option<&[u8]>,
    rule: &Rule,
    values: &Values<'_>,
    frame: Frame,
    clock: &Clock,
    now: Instant,
) -> Answer {
    let failed = || answer::brief(StatusCode::INTERNAL_SERVER_ERROR, frame, clock, now);
    let Ok(status) = StatusCode::from_u16(fixed.status) else {
        return failed();
    };
    let edits = &rule.response_headers[..];
    let is_bodiless = matches!(fixed.status, 204 | 205);
    let (body, media_type) = match &fixed.body {
        Some(text) => (text.to_string(), &b"text/plain; charset=utf-8"[..]),
        None if is_bodiless => (String::new(), &b""[..]),
        None => (answer::page(status), &b"text/html; charset=utf-8"[..]),
    };
    let mut out = Vec::with_capacity(512 + body.len());
    let mut head = ResponseHead::new(&mut out, status, Version::Http11);
    if !takes_away(edits, b"Server") {
        head = head.header(name::SERVER, SERVER);
    }
    if !takes_away(edits, b"Date") {
        head = head.date(&clock.date(now));
    }
    head = head.persistence(frame.version, frame.keep_alive);
    if let Some(location) = location
        && !takes_away(edits, b"Location")
    {
        head = head.header(name::LOCATION, location);
    }
    if !media_type.is_empty() && !takes_away(edits, b"Content-Type") {
        head = head.header(name::CONTENT_TYPE, media_type);
    }
    head = add_fields(head, edits, values);
    // RFC 9110 §8.6: a 204 has none; a 205 says that it is empty.
    if fixed.status != 204 {
        head = head.content_length(body.len() as u64);
    }
    if head.finish().is_err() {
        // Values were checked or are percent-encoded, so this can't happen.
        return failed();
    }
    let body_bytes = match frame.is_head {
        true => 0,
        false => {
            out.extend_from_slice(body.as_bytes());
            body.len() as u64
        }
    };
    Answer {
        status,
        message: out.into(),
        body_bytes,
        file: None,
        keep_alive: frame.keep_alive,
    }
}

/// Adds to a head what these edits set and add.
pub(crate) fn add_fields<'o>(
    head: ResponseHead<'o>,
    edits: &[HeaderEdit],
    values: &Values<'_>,
) -> ResponseHead<'o> {
    let mut value = Vec::new();
    edits.iter().fold(head, |head, edit| match &edit.operation {
        Operation::Set(template) | Operation::Add(template) => {
            value.clear();
            template.emit(values, &mut value);
            head.named(edit.name.as_bytes(), &value)
        }
        Operation::Remove => head,
    })
}
