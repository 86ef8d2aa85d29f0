//! A reply of a program's own: status, fields and, if it is short, the body.
//!
//! How a message is framed and what belongs to its connection isn't the service's to say, so two
//! lengths can't be. What can't stand in a head is refused when the reply is sent, whole: the client
//! gets a 500, and an event names the reason.

use crate::answer::{Answer, Frame, SERVER};
use crate::clock::Clock;
use crate::route::edit::is_framing;
use ringway_http::StatusCode;
use ringway_http::head::Version;
use ringway_http::response::{ResponseHead, name};
use std::fmt;
use std::time::Instant;

/// A status with fields and a body.
///
/// `Date` and `Server` are added unless the reply has its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    status: StatusCode,
    /// The fields, each as a line.
    lines: Vec<u8>,
    body: Vec<u8>,
    has_server: bool,
    has_date: bool,
    /// The first thing that is wrong with it.
    problem: Option<InvalidMessage>,
}

/// What is wrong with a reply, or with a field.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidMessage {
    /// The status is an interim one (1xx).
    Interim(u16),
    /// That status has no body (RFC 9110 §6.4.1).
    Bodiless(u16),
    /// The name isn't one: letters, digits and a few marks.
    Name(String),
    /// The field of this name says how a message is framed, or belongs to its connection.
    Framing(String),
    /// The field of this name has a place of its own: `Host` and `Expect` of a request, what says
    /// how an answer's content is coded.
    Kept(String),
    /// The value of the field of this name has a control character.
    Value(String),
}

impl fmt::Display for InvalidMessage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InvalidMessage::Interim(status) => write!(out, "{status} isn't a final status"),
            InvalidMessage::Bodiless(status) => write!(out, "{status} has no body"),
            InvalidMessage::Name(name) => write!(out, "{name:?} isn't a header name"),
            InvalidMessage::Framing(name) => {
                write!(
                    out,
                    "{name} says how the message is sent, which is decided there"
                )
            }
            InvalidMessage::Kept(name) => write!(out, "{name} isn't to be changed here"),
            InvalidMessage::Value(name) => write!(out, "control character in the value of {name}"),
        }
    }
}

impl std::error::Error for InvalidMessage {}

/// Whether a field may be set by a program's own code.
///
/// # Errors
/// See [`InvalidMessage`].
pub fn check_field(name: &str, value: &[u8]) -> Result<(), InvalidMessage> {
    let is_control = |byte: &u8| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f;
    if !crate::files::headers::is_token(name) {
        Err(InvalidMessage::Name(name.to_owned()))
    } else if is_framing(name) {
        Err(InvalidMessage::Framing(name.to_owned()))
    } else if value.iter().any(is_control) {
        Err(InvalidMessage::Value(name.to_owned()))
    } else {
        Ok(())
    }
}

impl Reply {
    /// A reply without fields and body.
    pub fn new(status: StatusCode) -> Reply {
        let is_interim = status.is_informational();
        Reply {
            status,
            lines: Vec::new(),
            body: Vec::new(),
            has_server: false,
            has_date: false,
            problem: is_interim.then(|| InvalidMessage::Interim(status.as_u16())),
        }
    }

    /// Adds a field; once more for another line of the same name.
    #[must_use]
    pub fn field(mut self, name: &str, value: impl AsRef<[u8]>) -> Reply {
        let value = value.as_ref();
        if let Err(problem) = check_field(name, value) {
            self.problem.get_or_insert(problem);
            return self;
        }
        self.has_server |= name.eq_ignore_ascii_case("Server");
        self.has_date |= name.eq_ignore_ascii_case("Date");
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            self.lines.extend_from_slice(part);
        }
        self
    }

    /// Gives it a body of this media type.
    #[must_use]
    pub fn body(mut self, media_type: &str, body: impl Into<Vec<u8>>) -> Reply {
        if has_no_content(self.status) {
            let status = self.status.as_u16();
            self.problem.get_or_insert(InvalidMessage::Bodiless(status));
        }
        self.body = body.into();
        self.field("Content-Type", media_type)
    }

    /// Gives it a text.
    #[must_use]
    pub fn text(self, text: impl Into<String>) -> Reply {
        self.body("text/plain; charset=utf-8", text.into())
    }

    /// Gives it a body that is JSON already.
    #[must_use]
    pub fn json(self, json: impl Into<Vec<u8>>) -> Reply {
        self.body("application/json", json)
    }

    /// What it has for a body.
    pub(crate) fn into_body(self) -> Vec<u8> {
        self.body
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The whole answer.
    pub(crate) fn answer(
        self,
        frame: Frame,
        clock: &Clock,
        now: Instant,
    ) -> Result<Answer, InvalidMessage> {
        let length = (!has_no_content(self.status)).then_some(self.body.len() as u64);
        let mut out = Vec::with_capacity(256 + self.lines.len() + self.body.len());
        self.emit_head(&mut out, frame, clock, now, |head| match length {
            Some(bytes) => head.content_length(bytes),
            None => head,
        })?;
        let body_bytes = match frame.is_head {
            true => 0,
            false => {
                out.extend_from_slice(&self.body);
                self.body.len() as u64
            }
        };
        Ok(Answer {
            status: self.status,
            message: out.into(),
            body_bytes,
            file: None,
            keep_alive: frame.keep_alive,
        })
    }

    /// Writes its head, with what `delimit` says of the body that follows.
    pub(crate) fn emit_head(
        &self,
        out: &mut Vec<u8>,
        frame: Frame,
        clock: &Clock,
        now: Instant,
        delimit: impl for<'o> FnOnce(ResponseHead<'o>) -> ResponseHead<'o>,
    ) -> Result<(), InvalidMessage> {
        if let Some(problem) = &self.problem {
            return Err(problem.clone());
        }
        let mut head = ResponseHead::new(out, self.status, Version::Http11);
        if !self.has_server {
            head = head.header(name::SERVER, SERVER);
        }
        if !self.has_date {
            head = head.date(&clock.date(now));
        }
        head = head.persistence(frame.version, frame.keep_alive);
        let finished = delimit(head).lines(&self.lines).finish();
        // Each line was checked when it was added.
        finished.map_err(|_| InvalidMessage::Value("a field".to_owned()))
    }
}

/// RFC 9110 §6.4.1: whatever is said of its length.
pub(crate) fn has_no_content(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Frame = Frame {
        version: Version::Http11,
        keep_alive: true,
        is_head: false,
        origin: None,
    };

    fn written(reply: Reply, frame: Frame) -> Result<String, InvalidMessage> {
        let now = Instant::now();
        let answer = reply.answer(frame, &Clock::new(), now)?;
        let mut out = Vec::new();
        answer.message.append_to(&mut out);
        let text = String::from_utf8(out).unwrap();
        let date = text.find("\r\nDate: ").unwrap();
        // What the clock says is the clock's.
        Ok(format!("{}{}", &text[..date], &text[date + 37..]))
    }

    #[test]
    fn a_reply_is_framed_by_its_body() {
        let reply = Reply::new(StatusCode::CREATED).field("X-A", "b").text("hi");
        let head = "HTTP/1.1 201 Created\r\nServer: ringway\r\nContent-Length: 2\r\nX-A: b\r\n\
                    Content-Type: text/plain; charset=utf-8\r\n\r\n";
        assert_eq!(written(reply.clone(), FRAME).unwrap(), format!("{head}hi"));
        let of_head = Frame {
            is_head: true,
            ..FRAME
        };
        assert_eq!(written(reply, of_head).unwrap(), head);
        let empty = written(Reply::new(StatusCode::NO_CONTENT), FRAME).unwrap();
        assert_eq!(empty, "HTTP/1.1 204 No Content\r\nServer: ringway\r\n\r\n");
    }

    #[track_caller]
    fn check_refused(reply: Reply, expect: &str) {
        let error = written(reply, FRAME).unwrap_err();
        assert_eq!(error.to_string(), expect);
    }

    #[test]
    fn what_cannot_stand_in_a_head_is_refused() {
        let ok = || Reply::new(StatusCode::OK);
        let framed = "says how the message is sent, which is decided there";
        for name in [
            "Content-Length",
            "transfer-encoding",
            "Connection",
            "Upgrade",
        ] {
            check_refused(ok().field(name, "1"), &format!("{name} {framed}"));
        }
        for value in ["a\r\nSet-Cookie: b", "a\nb", "a\0", "\x7f"] {
            let expect = "control character in the value of X-A";
            check_refused(ok().field("X-A", value), expect);
        }
        check_refused(ok().field("X A", "b"), "\"X A\" isn't a header name");
        check_refused(ok().field("", "b"), "\"\" isn't a header name");
        check_refused(
            ok().body("text/\nplain", "a"),
            "control character in the value of Content-Type",
        );
        let no_content = Reply::new(StatusCode::NO_CONTENT).text("a");
        check_refused(no_content, "204 has no body");
        check_refused(Reply::new(StatusCode::CONTINUE), "100 isn't a final status");
    }

    #[test]
    fn a_reply_may_name_its_own_server() {
        let text = written(Reply::new(StatusCode::OK).field("server", "mine"), FRAME).unwrap();
        assert!(
            !text.contains("ringway") && text.contains("server: mine\r\n"),
            "{text}"
        );
    }
}
