//! A request as services see it: understood, and with what its route says of it.

use crate::answer::Frame;
use crate::connection::ResponseEdits;
use crate::files::Moment;
use crate::route::{Action, Rule, Values, emit_fields};
use crate::worker::Worker;
use ringway_http::StatusCode;
use ringway_http::head::{Framing, Method, RequestHead};
use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;

/// A request, where it was received.
pub struct Request<'r> {
    pub(crate) worker: &'r Worker,
    pub(crate) peer: IpAddr,
    pub(crate) head: &'r RequestHead<'r>,
    /// The head as it was sent.
    pub(crate) raw: &'r [u8],
    pub(crate) frame: Frame,
    pub(crate) moment: Moment<'r>,
    pub(crate) rule: &'r Rule,
    /// Which of the configuration's routes the rule is of; `None` for what the listener names.
    pub(crate) route: Option<usize>,
    pub(crate) values: Values<'r>,
    pub(crate) user: RefCell<Option<Rc<str>>>,
}

impl<'r> Request<'r> {
    /// The method.
    pub fn method(&self) -> Method<'r> {
        self.head.method
    }

    /// The target as it was sent.
    pub fn target(&self) -> &'r [u8] {
        self.head.target
    }

    /// The path, decoded, without `.`, `..` and empty names, and without what its route strips off;
    /// a slash where the target has none.
    pub fn path(&self) -> &'r [u8] {
        self.rule.stripped(self.values.path)
    }

    /// What follows the question mark, as it was sent.
    pub fn query(&self) -> Option<&'r [u8]> {
        self.values.query
    }

    /// The authority that is asked, with its port if that was sent; empty if there is none.
    pub fn host(&self) -> &'r [u8] {
        self.values.host
    }

    /// The values of all fields called `name`, whatever its case.
    pub fn header<'n>(&self, name: &'n str) -> impl Iterator<Item = &'r [u8]> + use<'r, 'n> {
        self.head.header(name)
    }

    /// All fields in the order they were sent.
    pub fn headers(&self) -> impl Iterator<Item = (&'r [u8], &'r [u8])> + use<'r> {
        self.head.headers()
    }

    /// The client's address.
    pub fn peer(&self) -> IpAddr {
        self.peer
    }

    /// Whether a body follows the head.
    pub fn has_body(&self) -> bool {
        self.head.framing != Framing::None
    }

    /// How many bytes the body has; `None` where that isn't known beforehand.
    pub fn body_bytes(&self) -> Option<u64> {
        match self.head.framing {
            Framing::None => Some(0),
            Framing::Length(bytes) => Some(bytes),
            Framing::Chunked => None,
        }
    }

    /// Says who was let in, for the access log.
    pub fn name_user(&self, user: &str) {
        self.user.replace(Some(user.into()));
    }

    /// All of it but the body, for later.
    pub fn to_owned(&self) -> OwnedRequest {
        let fields = self
            .headers()
            .map(|(name, value)| (name.into(), value.into()));
        OwnedRequest {
            method: self.method().as_str().into(),
            path: self.path().into(),
            query: self.query().map(Into::into),
            host: self.host().into(),
            peer: self.peer,
            fields: fields.collect(),
        }
    }

    /// The frame of an answer with this status that is made without the body. RFC 9110 §10.1.1: one
    /// that spares the body goes out before it. Whether that follows is up to the client then, so
    /// nobody knows where the next request begins: the connection ends.
    pub(crate) fn frame_of(&self, status: StatusCode) -> Frame {
        let is_last = self.head.expect_continue && !status.is_success();
        Frame {
            keep_alive: self.frame.keep_alive && !is_last,
            ..self.frame
        }
    }

    /// The target that the request goes on with, if its rule changes it.
    pub(crate) fn changed_target(&self) -> Option<Vec<u8>> {
        if !self.rule.changes_target() {
            return None;
        }
        let mut target = Vec::with_capacity(self.head.target.len() + 64);
        self.rule.emit_target(&self.values, &mut target);
        Some(target)
    }

    /// What its route does to the answer, if anything.
    pub(crate) fn response_edits(&self) -> Option<ResponseEdits> {
        let rule = self.rule;
        let is_stripped =
            matches!(rule.action, Action::Files(_)) && self.path() != self.values.path;
        let has_some = is_stripped || !rule.response_headers.is_empty();
        let route = self.route.filter(|_| has_some)?;
        let mut lines = Vec::new();
        emit_fields(&rule.response_headers, &self.values, &mut lines);
        Some(ResponseEdits {
            route,
            lines,
            is_stripped,
        })
    }
}

/// A request that outlives the buffer it came in, without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedRequest {
    method: Box<str>,
    path: Box<[u8]>,
    query: Option<Box<[u8]>>,
    host: Box<[u8]>,
    peer: IpAddr,
    fields: Vec<Field>,
}

/// A name and a value.
type Field = (Box<[u8]>, Box<[u8]>);

impl OwnedRequest {
    /// As [`Request::method`], by its name.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// As [`Request::path`].
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// As [`Request::query`].
    pub fn query(&self) -> Option<&[u8]> {
        self.query.as_deref()
    }

    /// As [`Request::host`].
    pub fn host(&self) -> &[u8] {
        &self.host
    }

    /// As [`Request::peer`].
    pub fn peer(&self) -> IpAddr {
        self.peer
    }

    /// As [`Request::header`].
    pub fn header(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let is_it = move |sent: &[u8]| sent.eq_ignore_ascii_case(name.as_bytes());
        let named = self.fields.iter().filter(move |(sent, _)| is_it(sent));
        named.map(|(_, value)| &**value)
    }
}
