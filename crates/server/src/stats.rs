//! What each worker counts about its own work.
//!
//! A worker is the only one who writes to its [`WorkerStats`], so a count is a load, an addition
//! and a store: no `lock` prefix, no cache line that two cores fight over. Any thread may take a
//! [`Snapshot`], and sums those of several workers with `+=`.
//!
//! The table below is the one definition of every counter: its variant, its name and label in the
//! metrics, and its help. Nothing is formatted or exported here, and no counter is more than a
//! number: what happened to one request is in the access log.

use crate::admission::Refusal;
use ringway_runtime::TransferMethod;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Whether a number may go down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows; a rate is made of it.
    Total,
    /// It goes up and down; it is read as it is.
    Level,
}

macro_rules! counters {
    ( $(
        $(#[doc = $help:literal])*
        $variant:ident = $kind:ident, $name:literal $(, $label:literal: $value:literal)?;
    )* ) => {
        /// One number that a worker keeps.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Counter { $( $(#[doc = $help])* $variant, )* }

        impl Counter {
            /// All of them. Those that share a name stand together.
            pub const ALL: &'static [Counter] = &[ $( Counter::$variant, )* ];

            /// The name, without a prefix and without what an export format appends to it.
            pub const fn name(self) -> &'static str {
                match self { $( Counter::$variant => $name, )* }
            }

            /// The label and its value that tell apart what shares a name.
            pub const fn label(self) -> Option<(&'static str, &'static str)> {
                match self { $( Counter::$variant => counters!(@label $($label, $value)?), )* }
            }

            /// What it counts, in a sentence or two.
            pub const fn help(self) -> &'static str {
                match self { $( Counter::$variant => concat!($($help),*), )* }
            }

            /// Whether it may go down.
            pub const fn kind(self) -> Kind {
                match self { $( Counter::$variant => Kind::$kind, )* }
            }
        }
    };
    (@label) => { None };
    (@label $label:literal, $value:literal) => { Some(($label, $value)) };
}

counters! {
    /// Connections that were accepted and admitted.
    Accepted = Total, "connections_accepted";
    /// Connections open now.
    Open = Level, "connections_open";
    /// Connections refused because the limit of all connections was reached.
    RefusedTotal = Total, "connections_refused", "limit": "total";
    /// Connections refused because their address had as many as one may have.
    RefusedAddress = Total, "connections_refused", "limit": "address";
    /// Connections that came in on the CPU of the worker that accepted them.
    ArrivedOwn = Total, "connections_arrived", "cpu": "own";
    /// Connections that came in on another CPU than that of the worker that accepted them.
    ArrivedOther = Total, "connections_arrived", "cpu": "other";
    /// Failures to accept a connection, such as for want of descriptors.
    AcceptErrors = Total, "accept_errors";
    /// Connections that ended in good order.
    ClosedOrderly = Total, "connections_closed", "fault": "none";
    /// Connections that the client cut in the middle of something, or used for what is no HTTP.
    ClosedClient = Total, "connections_closed", "fault": "client";
    /// Connections that a limit ended, such as the size of a head.
    ClosedLimit = Total, "connections_closed", "fault": "limit";
    /// Connections that a deadline ended.
    ClosedDeadline = Total, "connections_closed", "fault": "deadline";
    /// Connections that the shutdown ended.
    ClosedShutdown = Total, "connections_closed", "fault": "shutdown";
    /// Connections that a server of an upstream ended, by failing in the middle of its answer.
    ClosedUpstream = Total, "connections_closed", "fault": "upstream";
    /// Connections that the server's own failure ended.
    ClosedUs = Total, "connections_closed", "fault": "us";

    /// Requests with a sound head.
    Requests = Total, "requests";
    /// What came in a request's place, or its body's, and wasn't one.
    Malformed = Total, "requests_malformed";
    /// Final answers with a status from 200 to 299.
    Answers2xx = Total, "answers", "class": "2xx";
    /// Final answers with a status from 300 to 399.
    Answers3xx = Total, "answers", "class": "3xx";
    /// Final answers with a status from 400 to 499.
    Answers4xx = Total, "answers", "class": "4xx";
    /// Final answers with a status from 500 to 599.
    Answers5xx = Total, "answers", "class": "5xx";
    /// Bytes of the answers' bodies.
    BodyBytes = Total, "answer_body_bytes";
    /// Bytes of files that were sent from the page cache or a disk by `sendfile(2)`.
    FileSendFile = Total, "file_bytes", "method": "sendfile";
    /// Those that were sent by `splice(2)`.
    FileSplice = Total, "file_bytes", "method": "splice";
    /// Those that were read into memory and sent.
    FileCopy = Total, "file_bytes", "method": "copy";
    /// Those that were read into 8 KiB of memory and sent.
    FileNaiveCopy = Total, "file_bytes", "method": "naive-copy";
    /// Those that were read into memory that the ring knows, and sent.
    FileRegistered = Total, "file_bytes", "method": "registered";
    /// Those that were sent from a mapping.
    FileMap = Total, "file_bytes", "method": "mmap";
    /// Those that were sent with `MSG_ZEROCOPY`.
    FileNoticedZeroCopy = Total, "file_bytes", "method": "msg-zerocopy";
    /// Those that were sent by io_uring's `SEND_ZC`.
    FileZeroCopy = Total, "file_bytes", "method": "send-zc";

    /// Request heads that were not complete in time.
    TimeoutHead = Total, "timeouts", "wait": "head";
    /// Connections that were silent for too long between requests.
    TimeoutIdle = Total, "timeouts", "wait": "idle";
    /// Request bodies that came too slowly.
    TimeoutBodyStall = Total, "timeouts", "wait": "body_stall";
    /// Clients that took no byte of their answer for too long.
    TimeoutWriteStall = Total, "timeouts", "wait": "write_stall";

    /// Turns that found io_uring's completion queue overflowed: completions came late.
    CompletionOverflows = Total, "completion_queue_overflows";
    /// Completions that the kernel had no memory to keep: what waits for them never ends.
    CompletionsLost = Total, "completions_lost";

    /// Panics caught in this worker.
    Panics = Total, "worker_panics";
    /// Times this worker was started again after it had failed.
    Restarts = Total, "worker_restarts";
}

const COUNT: usize = Counter::ALL.len();

/// A worker's counters, on cache lines of their own (x86-64 fetches lines in pairs).
///
/// There may be one writer at a time: the worker, or the control thread while the worker isn't
/// running. Two at once would lose counts, and nothing worse. Everybody may read.
///
/// ```
/// use ringway_server::stats::{Counter, WorkerStats};
/// use std::sync::Arc;
///
/// let stats = Arc::new(WorkerStats::default());
/// stats.count(Counter::Requests);
/// stats.count_answer(404, 1_024);
/// assert_eq!(stats.snapshot().value(Counter::Answers4xx), 1);
/// ```
#[derive(Debug)]
#[repr(align(128))]
pub struct WorkerStats([AtomicU64; COUNT]);

impl Default for WorkerStats {
    /// All zero.
    fn default() -> WorkerStats {
        WorkerStats([const { AtomicU64::new(0) }; COUNT])
    }
}

impl WorkerStats {
    /// Adds one.
    #[inline]
    pub fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Adds `amount`.
    #[inline]
    pub fn add(&self, counter: Counter, amount: u64) {
        let number = &self.0[counter as usize];
        // Not one read-modify-write: nobody else writes, so nothing can come in between.
        number.store(number.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    /// Sets a level.
    #[inline]
    pub fn set(&self, counter: Counter, value: u64) {
        debug_assert_eq!(counter.kind(), Kind::Level, "{counter:?} only grows");
        self.0[counter as usize].store(value, Relaxed);
    }

    /// Counts an answer by the class of its status, and the bytes of its body.
    ///
    /// A status below 200 is not final: only its bytes are counted.
    #[inline]
    pub fn count_answer(&self, status: u16, body_bytes: u64) {
        match status {
            200..300 => self.count(Counter::Answers2xx),
            300..400 => self.count(Counter::Answers3xx),
            400..500 => self.count(Counter::Answers4xx),
            500.. => self.count(Counter::Answers5xx),
            _ => {}
        }
        self.add(Counter::BodyBytes, body_bytes);
    }

    /// Counts bytes of a file that the kernel has taken, by the way they went.
    pub fn count_file_bytes(&self, method: TransferMethod, bytes: u64) {
        let counter = match method {
            TransferMethod::SendFile => Counter::FileSendFile,
            TransferMethod::Splice => Counter::FileSplice,
            TransferMethod::NaiveCopy => Counter::FileNaiveCopy,
            TransferMethod::Registered => Counter::FileRegistered,
            TransferMethod::Map => Counter::FileMap,
            TransferMethod::NoticedZeroCopy => Counter::FileNoticedZeroCopy,
            TransferMethod::ZeroCopy => Counter::FileZeroCopy,
            // Of a file one gathered send is a copy, and what suits is one of the others.
            TransferMethod::Copy | TransferMethod::Gathered | TransferMethod::Auto => {
                Counter::FileCopy
            }
        };
        self.add(counter, bytes);
    }

    /// Counts a connection that wasn't admitted.
    pub fn count_refusal(&self, refusal: Refusal) {
        self.count(match refusal {
            Refusal::Total => Counter::RefusedTotal,
            Refusal::Address => Counter::RefusedAddress,
        });
    }

    /// The numbers as they are.
    ///
    /// Each is right by itself; two may be an instant apart, so that sums need not agree while
    /// the worker works.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.0.each_ref().map(|number| number.load(Relaxed)))
    }
}

/// What the counters of one worker, or of several in sum, stood at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot([u64; COUNT]);

impl Snapshot {
    /// The value of one counter.
    pub fn value(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }

    /// Every counter with its value, in the order of [`Counter::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Counter, u64)> {
        Counter::ALL.iter().copied().zip(self.0)
    }
}

impl Default for Snapshot {
    /// All zero: where a sum begins.
    fn default() -> Snapshot {
        Snapshot([0; COUNT])
    }
}

impl AddAssign for Snapshot {
    fn add_assign(&mut self, other: Snapshot) {
        for (sum, value) in self.0.iter_mut().zip(other.0) {
            *sum = sum.wrapping_add(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Counter, Kind, Snapshot, WorkerStats};
    use crate::admission::Refusal;
    use ringway_runtime::TransferMethod;
    use std::collections::HashSet;
    use std::sync::Arc;

    #[test]
    fn counts_are_kept_apart() {
        let stats = WorkerStats::default();
        for (index, counter) in Counter::ALL.iter().enumerate() {
            stats.add(*counter, index as u64);
        }
        let snapshot = stats.snapshot();
        for (index, (counter, value)) in snapshot.iter().enumerate() {
            assert_eq!(counter, Counter::ALL[index]);
            assert_eq!(value, index as u64, "{counter:?}");
            assert_eq!(snapshot.value(counter), value);
        }
    }

    #[test]
    fn a_level_goes_up_and_down() {
        let stats = WorkerStats::default();
        for level in [0, 2, 1, 0] {
            stats.set(Counter::Open, level);
            assert_eq!(stats.snapshot().value(Counter::Open), level);
        }
    }

    fn check_answer(status: u16, class: Option<&str>) {
        let stats = WorkerStats::default();
        stats.count_answer(status, 0);
        let counted: Vec<_> = stats
            .snapshot()
            .iter()
            .filter(|(_, value)| *value > 0)
            .map(|(counter, value)| (counter.label().map(|(_, class)| class), value))
            .collect();
        let expect: Vec<_> = class.map(|class| (Some(class), 1)).into_iter().collect();
        assert_eq!(counted, expect, "{status}");
    }

    #[test]
    fn answers_count_by_class() {
        for (first, class) in [(200, "2xx"), (300, "3xx"), (400, "4xx"), (500, "5xx")] {
            check_answer(first, Some(class));
            check_answer(first + 99, Some(class));
        }
        for interim in [100, 101, 199] {
            check_answer(interim, None);
        }
    }

    #[test]
    fn file_bytes_count_by_the_way_they_went() {
        for method in TransferMethod::ALL {
            let stats = WorkerStats::default();
            stats.count_file_bytes(method, 7);
            let counted: Vec<_> = stats
                .snapshot()
                .iter()
                .filter(|(_, value)| *value > 0)
                .map(|(counter, value)| (counter.name(), counter.label(), value))
                .collect();
            let word = match method {
                TransferMethod::Auto | TransferMethod::Gathered => "copy",
                method => method.name(),
            };
            assert_eq!(counted, [("file_bytes", Some(("method", word)), 7)]);
        }
    }

    #[test]
    fn refusals_count_by_limit() {
        let stats = WorkerStats::default();
        stats.count_refusal(Refusal::Address);
        assert_eq!(stats.snapshot().value(Counter::RefusedAddress), 1);
        assert_eq!(stats.snapshot().value(Counter::RefusedTotal), 0);
        stats.count_refusal(Refusal::Total);
        assert_eq!(stats.snapshot().value(Counter::RefusedTotal), 1);
    }

    #[test]
    fn the_table_names_each_number_once() {
        let mut seen = HashSet::new();
        let mut names = Vec::new();
        for counter in Counter::ALL {
            assert!(
                seen.insert((counter.name(), counter.label())),
                "{counter:?}"
            );
            assert!(counter.help().trim().ends_with('.'), "{counter:?}");
            if names.last() != Some(&counter.name()) {
                names.push(counter.name());
            }
        }
        let distinct: HashSet<_> = names.iter().collect();
        assert_eq!(
            distinct.len(),
            names.len(),
            "a name's numbers stand together"
        );
    }

    #[test]
    fn what_shares_a_name_shares_its_kind_and_label() {
        for pair in Counter::ALL.windows(2) {
            let [one, other] = [pair[0], pair[1]];
            if one.name() == other.name() {
                assert_eq!(one.kind(), other.kind());
                let label = |counter: Counter| counter.label().map(|(label, _)| label);
                assert!(
                    label(one).is_some() && label(one) == label(other),
                    "{one:?}"
                );
            }
        }
        assert_eq!(Counter::Open.kind(), Kind::Level);
    }

    #[test]
    fn snapshots_add_up() {
        let workers = [WorkerStats::default(), WorkerStats::default()];
        workers[0].add(Counter::BodyBytes, 40);
        workers[1].add(Counter::BodyBytes, 2);
        workers[1].count(Counter::Panics);
        let mut sum = Snapshot::default();
        for worker in &workers {
            sum += worker.snapshot();
        }
        assert_eq!(sum.value(Counter::BodyBytes), 42);
        assert_eq!(sum.value(Counter::Panics), 1);
        assert_eq!(sum.value(Counter::Requests), 0);
    }

    #[test]
    fn another_thread_sees_the_worker_counting() {
        const COUNT: u64 = 100_000;
        let stats = Arc::new(WorkerStats::default());
        let reader = Arc::clone(&stats);
        let worker = std::thread::spawn(move || {
            for _ in 0..COUNT {
                stats.count(Counter::Requests);
            }
        });
        let mut last = 0;
        while !worker.is_finished() {
            let now = reader.snapshot().value(Counter::Requests);
            assert!(now >= last, "a total never goes down");
            last = now;
        }
        worker.join().unwrap();
        assert_eq!(reader.snapshot().value(Counter::Requests), COUNT);
    }
}
