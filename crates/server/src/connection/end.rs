//! How a connection ends: by whose doing, and in good order if that can be.

use super::{Connection, Flow};
use ringway_http::StatusCode;
use ringway_http::body::BodyError;
use ringway_http::head::HeadError;

/// How a connection ended, by whose doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The client was done, or the last answer said that it would be the last.
    Orderly,
    /// The client went away in the middle of something.
    Broken,
    /// One of the two sides of a tunnel went away in the middle of something.
    TunnelBroken,
    /// Silent for too long between requests.
    Idle,
    /// What it sent was no request.
    Malformed,
    /// What it sent was beyond a limit.
    Limit,
    /// A head came too slowly.
    SlowHead,
    /// A body came too slowly.
    SlowBody,
    /// The client took no byte of an answer for too long.
    WriteStall,
    /// The file that was being sent changed or shrank: the rest would not have been what its head
    /// promised.
    FileChanged,
    /// The file that was being sent could not be read to its end, or not in time.
    FileFailed,
    /// The upstream's server failed in the middle of its answer.
    ServerFailed,
    /// A service of the program's own failed in the middle of its answer.
    ServiceFailed,
    /// The server is ending.
    Shutdown,
}

/// Why a request isn't taken: what the client is told, and how its connection ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// For the log.
    pub(super) reason: &'static str,
    pub(super) end: End,
}

impl Refusal {
    pub(super) const SLOW_HEAD: Refusal = Refusal {
        status: StatusCode::REQUEST_TIMEOUT,
        reason: "the head was too slow",
        end: End::SlowHead,
    };
    pub(super) const SLOW_BODY: Refusal = Refusal {
        status: StatusCode::REQUEST_TIMEOUT,
        reason: "the body was too slow",
        end: End::SlowBody,
    };

    /// Beyond what the service that is asked takes.
    pub(super) const LARGE_BODY: Refusal = Refusal {
        status: StatusCode::PAYLOAD_TOO_LARGE,
        reason: "the body is larger than its service takes",
        end: End::Limit,
    };

    fn new(status: StatusCode, reason: &'static str, is_limit: bool) -> Refusal {
        Refusal {
            status,
            reason,
            end: if is_limit { End::Limit } else { End::Malformed },
        }
    }
}

impl From<HeadError> for Refusal {
    fn from(error: HeadError) -> Refusal {
        Refusal::new(error.status(), error.reason(), error.is_limit())
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Refusal {
        Refusal::new(error.status(), error.reason(), error.is_limit())
    }
}

impl Connection {
    /// Ends a connection in good order: everything sent, and, if it is this side that ends it, a
    /// half-close, after which what the client still sends is read for a while: a close with
    /// something unread would be a reset, which destroys the answer on its way (RFC 9112 §9.6).
    pub(super) async fn finish(&mut self, flow: Flow) -> Result<(), End> {
        self.flush().await?;
        // The kernel has all of it: from here on an end is one.
        let _ = self.stream.set_reset_on_drop(false);
        let Flow::Last(end) = flow else { return Ok(()) };
        if self.stream.shutdown_write().is_err() {
            return Err(End::Broken);
        }
        let limits = self.worker.limits;
        self.stream
            .set_deadline(Some(self.stream.now() + limits.linger_timeout));
        let mut budget = limits.linger_bytes;
        while let Ok(Some(buffer)) = self.stream.receive().await {
            budget = budget.saturating_sub(buffer.len() as u64);
            if budget == 0 {
                break;
            }
        }
        if end == End::Orderly {
            Ok(())
        } else {
            Err(end)
        }
    }
}
