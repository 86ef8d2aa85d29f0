//! How hostile a simulated world is: one probability or range for each thing that can go wrong.

use std::ops::RangeInclusive;
use std::time::Duration;

/// The faults of a [`SimWorld`](super::SimWorld). Probabilities go from 0 (never) to 1 (always).
///
/// The default is moderately hostile: everything that a kernel or a network may do happens in
/// nearly every run. [`SimOptions::calm`] does none of it.
#[derive(Clone, Debug, PartialEq)]
pub struct SimOptions {
    /// How long a segment, an acknowledgement or one leg of a handshake travels, and how long a
    /// file operation takes. Segments of one direction of a connection never overtake each other.
    pub latency: RangeInclusive<Duration>,
    /// From a submission until the kernel looks at it. At least a microsecond keeps a program that
    /// submits again and again from stopping the clock.
    pub submission: RangeInclusive<Duration>,
    /// A completion, or a cancel, takes `late_by` longer.
    pub late: f64,
    /// See `late`.
    pub late_by: RangeInclusive<Duration>,
    /// The completions of one turn come in another order. Those of one operation never do.
    pub reorder: f64,
    /// A receive or a file read fills less than it could.
    pub short_read: f64,
    /// A send of any kind takes less than there is room for.
    pub short_write: f64,
    /// A send that can go out does so at once, and is answered by its return value.
    pub send_at_once: f64,
    /// A multishot accept or receive ends with a good completion and has to be armed again.
    pub multishot_end: f64,
    /// A receive finds no buffer although there are some.
    pub enobufs: f64,
    /// An accept, an open or a fresh socket fails with `EMFILE`, below the limit.
    pub emfile: f64,
    /// A file operation fails with `EIO`.
    pub eio: f64,
    /// For each segment sent: the connection is reset on both sides.
    pub reset: f64,
    /// A connect fails with one of the errors that a network has.
    pub connect_failure: f64,
    /// A cancelled operation does as much as it still can before it ends. Of a send, this happens
    /// whether or not its completion then says so.
    pub cancel_too_late: f64,
    /// A failed or ended receive brings an empty buffer along.
    pub empty_buffer: f64,
    /// A wait for readiness ends before the socket is ready.
    pub spurious_ready: f64,
    /// A range of a file isn't in memory, or can't be read without a wait.
    pub cold: f64,
    /// The file system doesn't tell.
    pub untold: f64,
    /// Every `sendfile`, `splice` and zero-copy send is refused with `EPERM`, as a seccomp profile
    /// does.
    pub denies_transfers: bool,
    /// There is an operation for zero-copy sends besides `MSG_ZEROCOPY`.
    pub has_zero_copy_operation: bool,
    /// From a zero-copy send until the kernel has done with its bytes.
    pub notice: RangeInclusive<Duration>,
    /// A `MSG_ZEROCOPY` send is notified only when its connection is broken off.
    pub withheld_notice: f64,
    /// A `MSG_ZEROCOPY` send fails with `ENOBUFS`: too many were not notified yet.
    pub notice_shortage: f64,
    /// A notification says that the bytes were copied after all.
    pub copied: f64,
    /// Sockets and listeners that may be open in the world, as `RLIMIT_NOFILE` has it; more fail
    /// with `EMFILE`.
    pub descriptor_limit: usize,
    /// Of a send buffer and of a receive buffer that no socket option fixes. What a sender may
    /// have under way is the sum of its own send buffer and the peer's receive buffer.
    pub socket_buffer_bytes: RangeInclusive<usize>,
    /// Bytes that travel together.
    pub segment_bytes: RangeInclusive<usize>,
    /// What a turn costs when the clock advances by itself.
    pub turn_cost: Duration,
}

impl Default for SimOptions {
    fn default() -> SimOptions {
        SimOptions {
            latency: Duration::from_micros(20)..=Duration::from_millis(2),
            submission: Duration::from_micros(1)..=Duration::from_micros(20),
            late: 0.1,
            late_by: Duration::from_micros(1)..=Duration::from_millis(10),
            reorder: 0.3,
            short_read: 0.2,
            short_write: 0.2,
            send_at_once: 0.5,
            multishot_end: 0.1,
            enobufs: 0.02,
            emfile: 0.02,
            eio: 0.01,
            reset: 0.001,
            connect_failure: 0.01,
            cancel_too_late: 0.5,
            empty_buffer: 0.2,
            spurious_ready: 0.1,
            cold: 0.2,
            untold: 0.05,
            denies_transfers: false,
            has_zero_copy_operation: true,
            notice: Duration::from_micros(20)..=Duration::from_millis(20),
            withheld_notice: 0.0,
            notice_shortage: 0.05,
            copied: 0.5,
            descriptor_limit: 65_536,
            socket_buffer_bytes: 512..=65_536,
            segment_bytes: 1..=16_384,
            turn_cost: Duration::from_micros(1),
        }
    }
}

impl SimOptions {
    /// A kernel without faults and a network of a constant tenth of a millisecond.
    pub fn calm() -> SimOptions {
        let microsecond = Duration::from_micros(1);
        SimOptions {
            latency: microsecond * 100..=microsecond * 100,
            submission: microsecond..=microsecond,
            late: 0.0,
            late_by: microsecond..=microsecond,
            reorder: 0.0,
            short_read: 0.0,
            short_write: 0.0,
            send_at_once: 1.0,
            multishot_end: 0.0,
            enobufs: 0.0,
            emfile: 0.0,
            eio: 0.0,
            reset: 0.0,
            connect_failure: 0.0,
            cancel_too_late: 0.0,
            empty_buffer: 0.0,
            spurious_ready: 0.0,
            cold: 0.0,
            untold: 0.0,
            denies_transfers: false,
            has_zero_copy_operation: true,
            notice: microsecond * 200..=microsecond * 200,
            withheld_notice: 0.0,
            notice_shortage: 0.0,
            copied: 0.0,
            descriptor_limit: 65_536,
            socket_buffer_bytes: 65_536..=65_536,
            segment_bytes: 16_384..=16_384,
            turn_cost: microsecond,
        }
    }
}
