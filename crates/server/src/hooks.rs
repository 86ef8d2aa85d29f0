//! Hooks of a program's own in what is passed on: before a server is asked, in the choice of one,
//! in its answer, and at the end.
//!
//! What hooks set goes into heads that are written anew, as a route's own edits do: they can't touch
//! how a message is framed, and no value breaks a line. How they are called is here, too; where from
//! is in `service/hooked.rs` (the request) and `proxy/exchange.rs` (the answer).

use crate::extensions::UpstreamId;
use crate::route::{HeaderEdit, Operation, Side, Template};
use crate::service::{Failure, InvalidMessage, Reply, Request, check_field};
use ringway_http::received::ReceivedHead;
use std::cell::Cell;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::rc::Rc;

/// Looks at requests that are passed on, and at their answers. One is made for each worker, and
/// stays there: neither it nor its futures need be `Send`.
///
/// Its functions are called in this order, each once for a request. A panic ends the connection that
/// it happened on, and no other.
pub trait Hooks {
    /// What is kept of a request from the first call to the last.
    type Context: 'static;

    /// Begins. The request is looked at where it lies, so this doesn't wait.
    fn begin(&self, request: &Request<'_>) -> Self::Context;

    /// Before a server is asked: may change the request's fields, wait for others, or answer in the
    /// server's place.
    ///
    /// # Errors
    /// A [`Reply`] that the client gets instead, or whatever went wrong, which is a 500.
    #[expect(
        async_fn_in_trait,
        reason = "a worker's futures stay on it, so no bound is missing"
    )]
    async fn request(
        &self,
        context: &mut Self::Context,
        request: &mut PassedRequest<'_>,
    ) -> Result<(), Denial> {
        let _ = (context, request);
        Ok(())
    }

    /// Which upstream or server is asked, if not what the route says.
    fn upstream(&self, context: &mut Self::Context, request: &Request<'_>) -> Choice {
        let _ = (context, request);
        Choice::default()
    }

    /// The head of a server's final answer, before the client gets it.
    ///
    /// # Errors
    /// Whatever went wrong; the client gets a 500 instead.
    fn response(
        &self,
        context: &mut Self::Context,
        response: &mut PassedResponse<'_>,
    ) -> Result<(), Failure> {
        let _ = (context, response);
        Ok(())
    }

    /// At the end. What it returns is `$note` in the access log, and `note` in lines of JSON. Not
    /// for requests that are under way when the worker ends.
    fn log(&self, context: &mut Self::Context, outcome: &Outcome) -> Option<String> {
        let _ = (context, outcome);
        None
    }
}

/// Why a request isn't passed on.
#[derive(Debug)]
pub enum Denial {
    /// The client is told this.
    Reply(Reply),
    /// The hooks failed: 500, and an event.
    Failed(Failure),
}

impl From<Reply> for Denial {
    fn from(reply: Reply) -> Denial {
        Denial::Reply(reply)
    }
}

impl<E: std::error::Error + 'static> From<E> for Denial {
    fn from(error: E) -> Denial {
        Denial::Failed(error.into())
    }
}

/// Who is asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Choice {
    pub(crate) upstream: Option<UpstreamId>,
    pub(crate) server: Option<String>,
}

impl Choice {
    /// A server of this upstream, by its own balancing.
    pub fn of(upstream: UpstreamId) -> Choice {
        Choice {
            upstream: Some(upstream),
            server: None,
        }
    }

    /// Of its servers the one with this address, such as `10.0.0.1:8080`, as long as it can be used.
    /// One that isn't there is a failure of the hooks.
    #[must_use]
    pub fn preferring(self, server: impl Into<String>) -> Choice {
        Choice {
            server: Some(server.into()),
            ..self
        }
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// The status that the client got; `None` where it has gone before.
    pub status: Option<u16>,
    /// Bytes of content that it got.
    pub body_bytes: u64,
}

/// A request that is about to be passed on. It is read as a [`Request`] is; what is set is for the
/// server.
pub struct PassedRequest<'r> {
    request: &'r Request<'r>,
    edits: Edits,
}

impl<'r> Deref for PassedRequest<'r> {
    type Target = Request<'r>;

    fn deref(&self) -> &Request<'r> {
        self.request
    }
}

/// A server's answer that is about to be passed on.
pub struct PassedResponse<'r> {
    head: &'r ReceivedHead<'r>,
    edits: Edits,
}

impl<'r> PassedResponse<'r> {
    /// Its status.
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// The values of all its fields called `name`, whatever its case, as the server sent them.
    pub fn header<'n>(&self, name: &'n str) -> impl Iterator<Item = &'r [u8]> + use<'r, 'n> {
        self.head.header(name)
    }
}

macro_rules! editing {
    ($side:expr) => {
        /// Has a field say this, in place of all that it said.
        ///
        /// # Errors
        /// The name isn't one or isn't to be changed, or the value has a control character.
        pub fn set(&mut self, name: &str, value: &str) -> Result<(), InvalidMessage> {
            self.edits.set(name, value, $side)
        }

        /// Has a field say this as well, on a line of its own.
        ///
        /// # Errors
        /// The same.
        pub fn add(&mut self, name: &str, value: &str) -> Result<(), InvalidMessage> {
            self.edits.add(name, value, $side)
        }

        /// Takes a field away.
        ///
        /// # Errors
        /// The same.
        pub fn remove(&mut self, name: &str) -> Result<(), InvalidMessage> {
            self.edits.remove(name, $side)
        }
    };
}

impl PassedRequest<'_> {
    editing!(Side::Request);
}

impl PassedResponse<'_> {
    editing!(Side::Response);
}

/// What hooks do to fields.
#[derive(Debug, Default)]
pub(crate) struct Edits(Vec<HeaderEdit>);

impl Edits {
    fn set(&mut self, name: &str, value: &str, side: Side) -> Result<(), InvalidMessage> {
        self.replace(name, value, side, Operation::Set)
    }

    fn remove(&mut self, name: &str, side: Side) -> Result<(), InvalidMessage> {
        self.replace(name, "", side, |_| Operation::Remove)
    }

    fn replace(
        &mut self,
        name: &str,
        value: &str,
        side: Side,
        operation: impl FnOnce(Template) -> Operation,
    ) -> Result<(), InvalidMessage> {
        let edit = edit(name, value, side, operation)?;
        self.0
            .retain(|other| !other.name.eq_ignore_ascii_case(name));
        self.0.push(edit);
        Ok(())
    }

    fn add(&mut self, name: &str, value: &str, side: Side) -> Result<(), InvalidMessage> {
        self.0.push(edit(name, value, side, Operation::Add)?);
        Ok(())
    }

    /// Together with what the route does, over which they have the last word.
    pub(crate) fn over(self, of_route: &[HeaderEdit]) -> Vec<HeaderEdit> {
        let is_kept = |edit: &&HeaderEdit| !self.takes_away(edit.name.as_bytes());
        let kept: Vec<HeaderEdit> = of_route.iter().filter(is_kept).cloned().collect();
        kept.into_iter().chain(self.0).collect()
    }

    /// The same with the lines that come of it.
    #[cold]
    pub(crate) fn over_both(self, of_route: (&[HeaderEdit], &[u8])) -> (Vec<HeaderEdit>, Vec<u8>) {
        let lines = self.lines_over(of_route.1);
        (self.over(of_route.0), lines)
    }

    /// What is left of the route's lines, and those that come of these.
    fn lines_over(&self, of_route: &[u8]) -> Vec<u8> {
        let mut lines = Vec::with_capacity(of_route.len() + 128);
        for line in of_route.split_inclusive(|&byte| byte == b'\n') {
            let name = line.split(|&byte| byte == b':').next().unwrap_or(line);
            if !self.takes_away(name) {
                lines.extend_from_slice(line);
            }
        }
        for edit in &self.0 {
            if let Operation::Set(value) | Operation::Add(value) = &edit.operation {
                let (name, value) = (edit.name.as_bytes(), value.as_str().as_bytes());
                for part in [name, b": ", value, b"\r\n"] {
                    lines.extend_from_slice(part);
                }
            }
        }
        lines
    }

    fn takes_away(&self, name: &[u8]) -> bool {
        crate::route::takes_away(&self.0, name)
    }
}

fn edit(
    name: &str,
    value: &str,
    side: Side,
    operation: impl FnOnce(Template) -> Operation,
) -> Result<HeaderEdit, InvalidMessage> {
    check_field(name, value.as_bytes())?;
    if side.keeps(name) {
        return Err(InvalidMessage::Kept(name.to_owned()));
    }
    Ok(HeaderEdit {
        name: name.into(),
        operation: operation(Template::literal(value)),
    })
}

/// Hooks, whatever their context.
pub(crate) trait Begin {
    fn begin(&self, request: &Request<'_>) -> Rc<dyn Active>;
}

/// Hooks with the context of one request.
pub(crate) trait Active {
    fn request<'a>(&'a self, request: &'a Request<'a>) -> Asking<'a>;
    fn upstream(&self, request: &Request<'_>) -> Choice;
    fn response(&self, head: &ReceivedHead<'_>) -> Result<Edits, Failure>;
    /// Called once; later calls do nothing.
    fn log(&self, outcome: &Outcome) -> Option<String>;
}

/// A request hook under way: what it does to the fields comes of it.
type Asking<'a> = Pin<Box<dyn Future<Output = Result<Edits, Denial>> + 'a>>;

pub(crate) struct HooksOf<H>(pub(crate) Rc<H>);

struct ActiveOf<H: Hooks> {
    hooks: Rc<H>,
    /// Taken out for each call, and not put back by the last.
    context: Cell<Option<H::Context>>,
}

impl<H: Hooks + 'static> Begin for HooksOf<H> {
    fn begin(&self, request: &Request<'_>) -> Rc<dyn Active> {
        Rc::new(ActiveOf {
            context: Cell::new(Some(self.0.begin(request))),
            hooks: Rc::clone(&self.0),
        })
    }
}

impl<H: Hooks> Active for ActiveOf<H> {
    fn request<'a>(&'a self, request: &'a Request<'a>) -> Asking<'a> {
        Box::pin(async move {
            let mut passed = PassedRequest {
                request,
                edits: Edits::default(),
            };
            let Some(mut context) = self.context.take() else {
                return Ok(passed.edits);
            };
            let asked = self.hooks.request(&mut context, &mut passed).await;
            self.context.set(Some(context));
            asked.map(|()| passed.edits)
        })
    }

    fn upstream(&self, request: &Request<'_>) -> Choice {
        let Some(mut context) = self.context.take() else {
            return Choice::default();
        };
        let choice = self.hooks.upstream(&mut context, request);
        self.context.set(Some(context));
        choice
    }

    fn response(&self, head: &ReceivedHead<'_>) -> Result<Edits, Failure> {
        let mut passed = PassedResponse {
            head,
            edits: Edits::default(),
        };
        let Some(mut context) = self.context.take() else {
            return Ok(passed.edits);
        };
        let looked = self.hooks.response(&mut context, &mut passed);
        self.context.set(Some(context));
        looked.map(|()| passed.edits)
    }

    fn log(&self, outcome: &Outcome) -> Option<String> {
        let mut context = self.context.take()?;
        self.hooks.log(&mut context, outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(edits: &[HeaderEdit]) -> Vec<String> {
        edits.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn hooks_have_the_last_word_over_a_route() {
        let of_route = ["X-A: route", "+X-B: route", "-X-C"];
        let of_route: Vec<HeaderEdit> = of_route
            .iter()
            .map(|line| HeaderEdit::parse(line, Side::Response).unwrap())
            .collect();
        let mut edits = Edits::default();
        edits.set("x-a", "first", Side::Response).unwrap();
        edits.set("X-A", "{path}", Side::Response).unwrap();
        edits.add("X-B", "own", Side::Response).unwrap();
        edits.add("X-C", "own", Side::Response).unwrap();
        let lines = edits.lines_over(b"X-A: route\r\nX-B: route\r\n");
        let expect = "X-B: route\r\nX-A: {path}\r\nX-B: own\r\nX-C: own\r\n";
        assert_eq!(String::from_utf8(lines).unwrap(), expect);
        let expect = [
            "+X-B: route",
            "-X-C",
            "X-A: {path}",
            "+X-B: own",
            "+X-C: own",
        ];
        assert_eq!(shown(&edits.over(&of_route)), expect);
    }

    #[track_caller]
    fn check_refused(side: Side, name: &str, value: &str, expect: &str) {
        let mut edits = Edits::default();
        let error = edits.set(name, value, side).unwrap_err();
        assert_eq!(error.to_string(), expect);
        assert!(edits.0.is_empty());
    }

    #[test]
    fn what_hooks_may_not_set_is_refused() {
        let framed = "Content-Length says how the message is sent, which is decided there";
        let value = "control character in the value of X-A";
        for side in [Side::Request, Side::Response] {
            check_refused(side, "Content-Length", "1", framed);
            check_refused(side, "X-A", "a\r\nX-B: c", value);
            check_refused(side, "X-A:", "a", "\"X-A:\" isn't a header name");
        }
        let kept = |name| format!("{name} isn't to be changed here");
        check_refused(Side::Request, "host", "a", &kept("host"));
        check_refused(Side::Request, "Expect", "a", &kept("Expect"));
        let name = "Content-Encoding";
        check_refused(Side::Response, name, "gzip", &kept(name));
    }
}
