//! What goes wrong with servers: told apart, counted by kind, and said in words.

use ringway_http::StatusCode;
use ringway_http::body::BodyError;
use ringway_http::received::ReceivedError;
use rustix::io::Errno;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Declares the kinds with the word of each.
macro_rules! kinds {
    ( $( $(#[doc = $doc:literal])* $variant:ident = $word:literal, )* ) => {
        /// What kind of a fault it is, for logs and metrics.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum FaultKind { $( $(#[doc = $doc])* $variant, )* }

        impl FaultKind {
            /// All of them.
            pub(crate) const ALL: &'static [FaultKind] = &[ $( FaultKind::$variant, )* ];

            /// One word.
            pub(crate) fn word(self) -> &'static str {
                match self { $( FaultKind::$variant => $word, )* }
            }
        }
    };
}

kinds! {
    /// None of the upstream's servers can be used.
    NoServer = "no_server",
    /// As many requests as may wait for a connection do so.
    QueueFull = "queue_full",
    /// No connection became free in time.
    QueueTimeout = "queue_timeout",
    /// There was no socket for a connection here.
    NoSocket = "no_socket",
    /// No connection could be made.
    Connect = "connect",
    /// No connection was made in time.
    ConnectTimeout = "connect_timeout",
    /// The server ended the connection before its answer.
    Closed = "closed",
    /// The server ended the connection within its answer.
    ClosedWithin = "closed_within",
    /// The connection failed.
    Broken = "broken",
    /// No answer began in time.
    FirstByteTimeout = "first_byte_timeout",
    /// An answer, or the taking of a request, stood still for too long.
    Stalled = "stalled",
    /// The whole took too long.
    TotalTimeout = "total_timeout",
    /// What the server sent is no answer.
    Malformed = "malformed",
    /// The server sent one interim answer after the other.
    InterimFlood = "interim_flood",
    /// The server changed to another protocol without having been asked to.
    UnexpectedUpgrade = "unexpected_upgrade",
}

/// How many kinds there are.
pub(crate) const KIND_COUNT: usize = FaultKind::ALL.len();

/// How often each kind of fault has been, in one worker, which alone writes it; anybody may read.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct FaultCounts([AtomicU64; KIND_COUNT]);

impl FaultCounts {
    /// One more.
    pub(crate) fn count(&self, kind: FaultKind) {
        let number = &self.0[kind as usize];
        // Nobody else writes, so nothing can come in between.
        number.store(number.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// How often each kind has been over several workers, in the order of [`FaultKind::ALL`].
    pub(crate) fn sum(workers: &[FaultCounts]) -> [u64; KIND_COUNT] {
        let mut sum = [0; KIND_COUNT];
        for counts in workers {
            for (total, number) in sum.iter_mut().zip(&counts.0) {
                *total += number.load(Relaxed);
            }
        }
        sum
    }
}

/// Why a server didn't answer a request, or not to the end.
#[derive(Debug)]
pub(crate) enum ServerFault {
    /// None of the upstream's servers can be used.
    NoServer,
    /// As many requests as may wait for a connection do so.
    QueueFull,
    /// No connection became free in time.
    QueueTimeout,
    /// There was no socket for a connection, or no local port: that is this machine's lack.
    NoSocket(io::Error),
    /// No connection could be made.
    Connect(io::Error),
    /// No connection was made in time.
    ConnectTimeout,
    /// It ended the connection before its answer.
    Closed,
    /// It ended the connection within its answer.
    ClosedWithin,
    /// The connection failed.
    Broken(io::Error),
    /// No answer began in time.
    FirstByteTimeout,
    /// An answer, or the taking of a request, stood still for too long.
    Stalled,
    /// The whole took too long.
    TotalTimeout,
    /// Its answer's head isn't one.
    Malformed(ReceivedError),
    /// Its answer's content isn't delimited as it should be.
    MalformedBody(BodyError),
    /// It sent one interim answer after the other.
    InterimFlood,
    /// It changed to another protocol without having been asked to.
    UnexpectedUpgrade,
}

impl ServerFault {
    /// What the client is told: 503 where no server could be asked, 504 where one took too long,
    /// 502 for what one did wrong (RFC 9110 §15.6).
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            ServerFault::NoServer
            | ServerFault::QueueFull
            | ServerFault::QueueTimeout
            | ServerFault::NoSocket(_) => StatusCode::SERVICE_UNAVAILABLE,
            ServerFault::ConnectTimeout
            | ServerFault::FirstByteTimeout
            | ServerFault::Stalled
            | ServerFault::TotalTimeout => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::BAD_GATEWAY,
        }
    }

    /// What kind of a fault it is.
    pub(crate) fn kind(&self) -> FaultKind {
        match self {
            ServerFault::NoServer => FaultKind::NoServer,
            ServerFault::QueueFull => FaultKind::QueueFull,
            ServerFault::QueueTimeout => FaultKind::QueueTimeout,
            ServerFault::NoSocket(_) => FaultKind::NoSocket,
            ServerFault::Connect(_) => FaultKind::Connect,
            ServerFault::ConnectTimeout => FaultKind::ConnectTimeout,
            ServerFault::Closed => FaultKind::Closed,
            ServerFault::ClosedWithin => FaultKind::ClosedWithin,
            ServerFault::Broken(_) => FaultKind::Broken,
            ServerFault::FirstByteTimeout => FaultKind::FirstByteTimeout,
            ServerFault::Stalled => FaultKind::Stalled,
            ServerFault::TotalTimeout => FaultKind::TotalTimeout,
            ServerFault::Malformed(_) | ServerFault::MalformedBody(_) => FaultKind::Malformed,
            ServerFault::InterimFlood => FaultKind::InterimFlood,
            ServerFault::UnexpectedUpgrade => FaultKind::UnexpectedUpgrade,
        }
    }

    /// Whether it says something against the server that was asked.
    pub(crate) fn is_failure_of_server(&self) -> bool {
        !matches!(
            self,
            ServerFault::NoServer
                | ServerFault::QueueFull
                | ServerFault::QueueTimeout
                | ServerFault::NoSocket(_)
                | ServerFault::TotalTimeout
        )
    }

    /// What an error of connecting says: without a descriptor, memory or local port (`EADDRNOTAVAIL`
    /// of connect(2)) no server was asked.
    pub(crate) fn of_connecting(error: io::Error) -> ServerFault {
        match Errno::from_io_error(&error) {
            Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
            | Some(Errno::ADDRNOTAVAIL) => ServerFault::NoSocket(error),
            _ => ServerFault::Connect(error),
        }
    }

    /// What an error of its connection says, before its answer or within it.
    pub(crate) fn of_connection(error: io::Error) -> ServerFault {
        match error.kind() {
            io::ErrorKind::TimedOut => ServerFault::Stalled,
            io::ErrorKind::UnexpectedEof => ServerFault::ClosedWithin,
            _ => ServerFault::Broken(error),
        }
    }
}

impl fmt::Display for ServerFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerFault::NoServer => out.write_str("none of the servers can be used"),
            ServerFault::QueueFull => {
                out.write_str("as many requests as may wait for a connection do so (queue)")
            }
            ServerFault::QueueTimeout => {
                out.write_str("no connection became free in time (queue_timeout)")
            }
            ServerFault::NoSocket(error) => {
                write!(out, "no socket for a connection here: {error}")
            }
            ServerFault::Connect(error) => write!(out, "no connection: {error}"),
            ServerFault::ConnectTimeout => out.write_str("no connection in time (connect_timeout)"),
            ServerFault::Closed => out.write_str("it closed the connection without an answer"),
            ServerFault::ClosedWithin => {
                out.write_str("it closed the connection in the middle of its answer")
            }
            ServerFault::Broken(error) => write!(out, "the connection failed: {error}"),
            ServerFault::FirstByteTimeout => {
                out.write_str("no answer in time (first_byte_timeout)")
            }
            ServerFault::Stalled => {
                out.write_str("nothing went on for too long (between_bytes_timeout)")
            }
            ServerFault::TotalTimeout => out.write_str("it took too long (total_timeout)"),
            ServerFault::Malformed(error) => error.fmt(out),
            ServerFault::MalformedBody(error) => write!(out, "malformed response: {error}"),
            ServerFault::InterimFlood => out.write_str("too many interim answers (1xx)"),
            ServerFault::UnexpectedUpgrade => {
                out.write_str("it changed to a protocol that nobody asked for (101)")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateway_errors_are_told_apart() {
        let error = || io::Error::from(io::ErrorKind::ConnectionRefused);
        for (fault, status) in [
            (ServerFault::NoServer, 503),
            (ServerFault::QueueFull, 503),
            (ServerFault::QueueTimeout, 503),
            (ServerFault::NoSocket(error()), 503),
            (ServerFault::Connect(error()), 502),
            (ServerFault::ConnectTimeout, 504),
            (ServerFault::Closed, 502),
            (ServerFault::Broken(error()), 502),
            (ServerFault::FirstByteTimeout, 504),
            (ServerFault::Stalled, 504),
            (ServerFault::TotalTimeout, 504),
            (ServerFault::InterimFlood, 502),
            (ServerFault::UnexpectedUpgrade, 502),
        ] {
            assert_eq!(fault.status().as_u16(), status, "{fault}");
        }
    }

    #[test]
    fn what_this_machine_lacks_isn_t_held_against_a_server() {
        for (errno, is_own) in [
            (Errno::MFILE, true),
            (Errno::NFILE, true),
            (Errno::NOBUFS, true),
            (Errno::NOMEM, true),
            (Errno::ADDRNOTAVAIL, true),
            (Errno::CONNREFUSED, false),
            (Errno::HOSTUNREACH, false),
            (Errno::AGAIN, false),
        ] {
            let fault = ServerFault::of_connecting(errno.into());
            assert_eq!(fault.is_failure_of_server(), !is_own, "{fault}");
            let status = if is_own { 503 } else { 502 };
            assert_eq!(fault.status().as_u16(), status, "{fault}");
        }
    }

    #[test]
    fn faults_are_counted_by_kind_over_all_workers() {
        let workers: Vec<FaultCounts> = (0..2).map(|_| FaultCounts::default()).collect();
        for (index, &kind) in FaultKind::ALL.iter().enumerate() {
            assert_eq!(kind as usize, index);
            for _ in 0..index {
                workers[index % 2].count(kind);
            }
        }
        workers[1].count(FaultKind::NoServer);
        let mut expect: [u64; KIND_COUNT] = std::array::from_fn(|index| index as u64);
        expect[0] = 1;
        assert_eq!(FaultCounts::sum(&workers), expect);
    }
}
