//! What is told of a request: counted and logged once, by whoever lets go of it.
//!
//! A request may end where no code of its own runs any more: when the server's end drops the task
//! that waits for its answer. So what is known of it lies in an [`Underway`], whose drop tells
//! it. It doesn't decide what that is: each way to answer has a [`Tell`] of its own.

use super::{Connection, LogLine};
use ringway_http::StatusCode;

/// What is known of a request that is being answered.
pub(super) trait Tell {
    /// Counts it and writes its line, unless that was done before. It is called for each request,
    /// also for one that came to its end in good order.
    fn tell(&mut self, connection: &Connection);
}

/// A request on a connection, which is told of however it ends. (But not in a panic: it may come from
/// what would be asked, and a second one would end the process.)
pub(super) struct Underway<'c, T: Tell> {
    connection: &'c mut Connection,
    told: T,
}

impl<'c, T: Tell> Underway<'c, T> {
    pub(super) fn new(connection: &'c mut Connection, told: T) -> Underway<'c, T> {
        Underway { connection, told }
    }

    /// What to go on with.
    pub(super) fn parts(&mut self) -> (&mut Connection, &mut T) {
        (self.connection, &mut self.told)
    }
}

impl<T: Tell> Drop for Underway<'_, T> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.told.tell(self.connection);
        }
    }
}

/// An answer that is made, and on its way.
pub(super) struct Sending {
    pub(super) status: StatusCode,
    /// Bytes of its body that were handed over.
    pub(super) body_bytes: u64,
    pub(super) log: Option<LogLine>,
}

impl Tell for Sending {
    fn tell(&mut self, connection: &Connection) {
        connection.count_answered(self.log.take(), self.status, self.body_bytes);
    }
}

/// What the access log says of a request whose client left before it got anything: no answer has it, and
/// other servers' logs have the same number.
pub(super) fn client_left() -> StatusCode {
    StatusCode::from_u16(499).expect("a number that a status may have")
}

/// The same of a request that the server's own end cut before its client got anything.
pub(super) fn server_ended() -> StatusCode {
    StatusCode::from_u16(444).expect("a number that a status may have")
}

impl Connection {
    /// Counts an answer and writes it to the access log.
    pub(super) fn count_answered(&self, log: Option<LogLine>, status: StatusCode, body_bytes: u64) {
        self.worker.stats.count_answer(status.as_u16(), body_bytes);
        self.write_log(log, status, body_bytes);
    }
}
