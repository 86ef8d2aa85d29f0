//! How a connection ends: by whose doing, and in good order if that can be.

use super::{Connection, Flow};

/// How a connection ended, by whose doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The client was done, or the last answer said that it would be the last.
    Orderly,
    /// The client went away in the middle of something.
    Broken,
    /// Silent for too long between requests.
    Idle,
    /// What it sent was refused, or went beyond a limit.
    Refused,
    /// A head came too slowly.
    SlowHead,
    /// A body came too slowly.
    SlowBody,
    /// The client took no byte of an answer for too long.
    WriteStall,
    /// The file that was being sent changed or shrank: the rest would not have been what its head
    /// promised.
    FileChanged,
    /// The server is ending.
    Shutdown,
}

impl Connection {
    /// Ends a connection in good order: everything sent, then a half-close, and what the client
    /// still sends is read for a while, so that no reset destroys the answer on its way.
    pub(super) async fn finish(&mut self, flow: Flow) -> Result<(), End> {
        self.flush().await?;
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
