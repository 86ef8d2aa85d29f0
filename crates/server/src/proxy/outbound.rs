//! A request that is ready to be sent to any server of its upstream, and what is noted of it on the way.
//!
//! It outlives the attempts to have it answered: each server that is asked gets it as it is, and what
//! the client and the access log are to hear comes of the last one. Nothing here sends.

use super::balance::Wanted;
use super::fault::ServerFault;
use super::request::Written;
use super::upstream::Upstream;
use crate::answer::Frame;
use crate::connection::{LogLine, Passing, ResponseEdits};
use crate::hooks::Active;
use ringway_http::head::Framing;
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A request that is ready to be sent to any server of its upstream.
pub(crate) struct Outbound {
    /// Who is asked: the upstream as it was when the request came.
    pub(crate) upstream: Rc<Upstream>,
    /// The head, and the body if all of it was at hand.
    pub(crate) written: Written,
    /// The body that is still to come from the client.
    pub(crate) framing: Framing,
    pub(crate) expects_continue: bool,
    pub(crate) is_upgrade: bool,
    /// Whether doing it twice is doing it once (RFC 9110 §9.2.2).
    pub(crate) is_idempotent: bool,
    /// How the client has to be answered.
    pub(crate) frame: Frame,
    /// Which server it should get.
    pub(crate) wanted: Wanted,
    /// What its route does to the answer's fields.
    pub(crate) edits: Option<ResponseEdits>,
    /// The program's own hooks that look at the answer.
    pub(crate) hooks: Option<Rc<dyn Active>>,
    /// The cookie that keeps the client with the server it got, as a value of `Set-Cookie`.
    pub(crate) set_cookie: Option<Vec<u8>>,
    /// When all of it had been sent, as far as it will be.
    pub(crate) sent_at: Cell<Instant>,
    /// When the first byte of an answer had come.
    pub(crate) heard_at: Cell<Option<Instant>>,
    /// Whether the client got some of an answer, for whoever ends the exchange from outside.
    pub(crate) is_answered: Cell<bool>,
    /// The status of that answer; 0 where there is none yet.
    pub(crate) status: Cell<u16>,
    /// Bytes of that answer's content that were handed over, where not all of it was at hand.
    pub(crate) passed_bytes: Cell<u64>,
    /// How long the last attempt waited for its connection; `None` where one was there.
    pub(crate) connected_after: Cell<Option<Duration>>,
    /// What the access log will want of it.
    pub(crate) log: Option<LogLine>,
}

impl Outbound {
    /// From the end of the request to the first byte of the answer, if there was one.
    pub(crate) fn first_byte_after(&self) -> Option<Duration> {
        let heard_at = self.heard_at.get()?;
        Some(heard_at.saturating_duration_since(self.sent_at.get()))
    }

    fn passing(&mut self) -> Option<&mut Passing> {
        self.log.as_mut()?.passing.as_mut()
    }

    /// This server is asked: what the access log will want of an attempt isn't the one's before.
    pub(crate) fn note_attempt(&mut self, server: usize) {
        self.connected_after.set(None);
        self.heard_at.set(None);
        self.status.set(0);
        if let Some(passing) = self.passing() {
            passing.server = Some(server);
            passing.attempts += 1;
        }
    }

    /// For the access log: there is no answer, or not all of it, and why, where that is the server's
    /// fault.
    pub(crate) fn note_failure(&mut self, fault: Option<&ServerFault>) {
        let connected_after = self.connected_after.get();
        let first_byte_after = self.first_byte_after();
        let status = self.status.get();
        if let Some(passing) = self.passing() {
            passing.connect = connected_after;
            passing.first_byte = first_byte_after;
            passing.status = (status != 0).then_some(status);
            passing.fault = fault.map(ServerFault::kind);
        }
    }
}
