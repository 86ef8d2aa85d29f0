//! The world behind all handles: clock, events, workers, and the way of a completion to its worker.

use super::endpoint::{Endpoint, EndpointId};
use super::operation::{Operation, OperationKey};
use super::options::SimOptions;
use super::random::Random;
use super::table::DescriptorTable;
use super::transfer::Notices;
use crate::buffers::BufferPool;
use crate::driver::{Completion, Strays, Token};
use crate::wake::WakeHandle;
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

/// Where a world's wall clock begins, since 1970: 2100, when every real file has long been there.
const WALL_EPOCH: Duration = Duration::from_secs(4_102_444_800);

/// After so many turns that wait, in which no other worker had one and nobody moved the clock, a
/// worker means it: it is being drained, and whoever should move the clock waits for that.
const PATIENCE_TURNS: u32 = 100;

/// Something that happens by itself at its time.
pub(super) enum Event {
    /// An operation is tried (again). With its serial, in case it is over.
    Attempt(OperationKey, u64),
    /// A cancel reaches its operation.
    Cancel(OperationKey, u64),
    Arrive(EndpointId, Segment),
    /// The kernel has done with the bytes of a numbered zero-copy send.
    Notify(EndpointId, u32),
    /// The peer has received this many bytes.
    Acknowledge(EndpointId, usize),
}

/// What travels from one end of a stream to the other.
pub(super) enum Segment {
    Bytes(Vec<u8>),
    End,
    Reset,
}

pub(super) struct Worker {
    pub(super) buffers: Rc<BufferPool>,
    wake: WakeHandle,
    /// Completions by the time from which they can be delivered.
    posted: BTreeMap<(u64, u64), Posted>,
    /// Its last turn brought something, so it may have something new to submit in the next one.
    wants_turn: bool,
}

struct Posted {
    completion: Completion,
    cargo: Cargo,
}

/// What would leak if a completion were never delivered.
pub(super) enum Cargo {
    Nothing,
    Socket(RawFd),
    File(OwnedFd),
}

pub(super) struct State {
    pub(super) options: SimOptions,
    pub(super) random: Random,
    /// Nanoseconds since the world began.
    pub(super) now: u64,
    /// What the wall clock showed then, if nobody has set it since.
    pub(super) wall_epoch: SystemTime,
    pub(super) is_auto_advancing: bool,
    /// Who had the last turn, and how many in a row waited since the clock was last moved.
    lone_worker: usize,
    pub(super) lone_turns: u32,
    pub(super) table: DescriptorTable,
    /// What was dropped while no worker had it, and is still to be closed.
    pub(super) strays: Strays,
    pub(super) endpoints: BTreeMap<EndpointId, Endpoint>,
    pub(super) operations: BTreeMap<OperationKey, Operation>,
    /// By number; none where the driver is gone.
    pub(super) workers: Vec<Option<Worker>>,
    pub(super) notices: BTreeMap<EndpointId, Notices>,
    /// What is in each pipe.
    pub(super) pipes: BTreeMap<u64, VecDeque<u8>>,
    pub(super) last_port: u16,
    pub(super) trace: Trace,
    events: BTreeMap<(u64, u64), Event>,
    serial: u64,
}

impl State {
    pub(super) fn new(seed: u64, options: SimOptions) -> State {
        State {
            options,
            random: Random::new(seed),
            now: 0,
            wall_epoch: SystemTime::UNIX_EPOCH + WALL_EPOCH,
            is_auto_advancing: false,
            lone_worker: 0,
            lone_turns: 0,
            table: DescriptorTable::default(),
            strays: Strays::default(),
            endpoints: BTreeMap::new(),
            operations: BTreeMap::new(),
            workers: Vec::new(),
            notices: BTreeMap::new(),
            pipes: BTreeMap::new(),
            last_port: 0,
            trace: Trace::from_environment(seed),
            events: BTreeMap::new(),
            serial: 0,
        }
    }

    pub(super) fn add_worker(&mut self, buffers: Rc<BufferPool>, wake: WakeHandle) -> usize {
        self.workers.push(Some(Worker {
            buffers,
            wake,
            posted: BTreeMap::new(),
            wants_turn: false,
        }));
        self.workers.len() - 1
    }

    /// The driver is gone: what it left in flight ends without an answer, and what its last
    /// completions carried is closed.
    pub(super) fn remove_worker(&mut self, worker: usize) {
        let keys: Vec<OperationKey> = self
            .operations
            .keys()
            .filter(|key| key.worker == worker)
            .copied()
            .collect();
        for key in keys {
            if let Some(operation) = self.operations.remove(&key) {
                self.detach(key, operation.descriptor);
            }
        }
        let Some(gone) = self.workers[worker].take() else {
            return;
        };
        for posted in gone.posted.into_values() {
            if let Cargo::Socket(number) = posted.cargo {
                self.close(number);
            }
        }
        self.note(|| format!("worker {worker} is gone"));
    }

    pub(super) fn fresh_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        if self.trace.is_on() {
            self.trace.push(self.now, &line());
        }
    }

    /// How much longer than it should something takes: usually not at all.
    pub(super) fn lateness(&mut self) -> u64 {
        if self.random.chance(self.options.late) {
            self.random.nanoseconds(&self.options.late_by)
        } else {
            0
        }
    }

    pub(super) fn latency(&mut self) -> u64 {
        self.random.nanoseconds(&self.options.latency)
    }

    pub(super) fn schedule(&mut self, delay: u64, event: Event) {
        self.schedule_at(self.now.saturating_add(delay), event);
    }

    pub(super) fn schedule_at(&mut self, time: u64, event: Event) {
        let serial = self.fresh_serial();
        self.events.insert((time, serial), event);
    }

    /// Moves the clock, with everything that happens on the way. It never goes back.
    pub(super) fn advance(&mut self, to: u64) {
        while let Some(entry) = self.events.first_entry()
            && entry.key().0 <= to
        {
            let ((time, _), event) = entry.remove_entry();
            self.now = self.now.max(time);
            match event {
                Event::Attempt(key, serial) => self.attempt(key, serial),
                Event::Cancel(key, serial) => self.carry_out_cancel(key, serial),
                Event::Arrive(endpoint, segment) => self.arrive(endpoint, segment),
                Event::Notify(endpoint, number) => self.notify(endpoint, number),
                Event::Acknowledge(endpoint, bytes) => self.acknowledge(endpoint, bytes),
            }
        }
        self.now = self.now.max(to);
    }

    /// A worker begins a turn, which may be one that waits.
    pub(super) fn note_turn(&mut self, worker: usize, waits: bool) {
        if self.lone_worker != worker {
            self.lone_worker = worker;
            self.lone_turns = 0;
        }
        self.lone_turns += u32::from(waits);
    }

    /// Whether a worker goes on waiting, turn after turn, while nobody else does anything.
    pub(super) fn insists(&self, worker: usize) -> bool {
        self.lone_worker == worker && self.lone_turns > PATIENCE_TURNS
    }

    /// Remembers whether a worker's turn brought something.
    pub(super) fn note_outcome(&mut self, worker: usize, is_fruitful: bool) {
        if let Some(worker) = &mut self.workers[worker] {
            worker.wants_turn = is_fruitful;
        }
    }

    /// When something can next be seen to happen: an event, a completion to deliver, or at once
    /// when a worker was woken or has just been given something.
    pub(super) fn next_event(&self) -> Option<u64> {
        let event = self.events.keys().next().map(|(time, _)| *time);
        let posted = self.workers.iter().flatten().filter_map(|worker| {
            let due = worker.posted.keys().next().map(|(time, _)| *time);
            if worker.wants_turn || worker.wake.is_pending() {
                Some(self.now)
            } else {
                due
            }
        });
        let next = posted.chain(event).min()?;
        Some(next.max(self.now))
    }

    /// The same for one worker, whatever the others have to do.
    pub(super) fn next_event_of(&self, worker: usize) -> Option<u64> {
        let event = self.events.keys().next();
        let posted = self.workers[worker]
            .as_ref()
            .and_then(|it| it.posted.keys().next());
        let (next, _) = [event, posted].into_iter().flatten().min()?;
        Some((*next).max(self.now))
    }

    /// Sends a completion on its way: it can be delivered after `travel`, or late, but not before
    /// an earlier one of the same operation. One without `more` finishes the operation.
    pub(super) fn post(
        &mut self,
        key: OperationKey,
        result: i32,
        buffer: Option<u16>,
        more: bool,
        cargo: Cargo,
        travel: u64,
    ) {
        let lateness = self.lateness();
        let serial = self.fresh_serial();
        let Some(operation) = self.operations.get_mut(&key) else {
            return;
        };
        let due = self
            .now
            .saturating_add(travel)
            .saturating_add(lateness)
            .max(operation.last_due);
        operation.last_due = due;
        operation.is_finished = !more;
        let completion = Completion {
            token: key.token,
            result,
            buffer,
            more,
        };
        if let Some(worker) = &mut self.workers[key.worker] {
            worker
                .posted
                .insert((due, serial), Posted { completion, cargo });
        }
    }

    /// Posts the last completion of an operation that carries nothing.
    pub(super) fn finish(&mut self, key: OperationKey, result: i32) {
        self.post(key, result, None, false, Cargo::Nothing, 0);
    }

    /// Posts the last completion of an open: the descriptor stays owned until it is delivered.
    pub(super) fn finish_open(&mut self, key: OperationKey, file: OwnedFd) {
        self.post(key, file.as_raw_fd(), None, false, Cargo::File(file), 0);
    }

    /// Hands a worker the completions that are due.
    pub(super) fn deliver(&mut self, worker: usize, completions: &mut Vec<Completion>) -> usize {
        let Some(posted) = self.workers[worker].as_mut().map(|it| &mut it.posted) else {
            return 0;
        };
        let later = posted.split_off(&(self.now.saturating_add(1), 0));
        let mut due: Vec<Posted> = std::mem::replace(posted, later).into_values().collect();
        if due.len() > 1 && self.random.chance(self.options.reorder) {
            due = self.reorder(due);
        }
        let count = due.len();
        for Posted { completion, cargo } in due {
            self.note(|| trace_line(worker, &completion));
            if !completion.more {
                self.retire(OperationKey {
                    worker,
                    token: completion.token,
                });
            }
            if let Cargo::File(file) = cargo {
                // The completion's result is this number: ownership passes with it.
                let _ = file.into_raw_fd();
            }
            completions.push(completion);
        }
        count
    }

    /// Another order among operations, the same order within each.
    fn reorder(&mut self, due: Vec<Posted>) -> Vec<Posted> {
        let mut order: Vec<Token> = due.iter().map(|posted| posted.completion.token).collect();
        self.random.shuffle(&mut order);
        let mut queues: BTreeMap<Token, VecDeque<Posted>> = BTreeMap::new();
        for posted in due {
            queues
                .entry(posted.completion.token)
                .or_default()
                .push_back(posted);
        }
        let next = |token: &Token| queues.get_mut(token).and_then(VecDeque::pop_front);
        order.iter().filter_map(next).collect()
    }
}

fn trace_line(worker: usize, completion: &Completion) -> String {
    let Completion {
        token,
        mut result,
        buffer,
        more,
    } = *completion;
    let key = OperationKey { worker, token };
    // The number of a real file is chance.
    if token.lane() == crate::driver::Lane::Open {
        result = result.min(0);
    }
    format!("{key} delivers {result}, buffer {buffer:?}, more {more}")
}

/// What happened, for people, and to compare two runs.
pub(super) struct Trace {
    prints: bool,
    lines: Option<Vec<String>>,
}

impl Trace {
    fn from_environment(seed: u64) -> Trace {
        let prints = std::env::var_os("RINGWAY_SIM_TRACE").is_some();
        if prints {
            eprintln!("simulated world of seed {seed}");
        }
        Trace {
            prints,
            lines: None,
        }
    }

    pub(super) fn record(&mut self) {
        self.lines.get_or_insert_default();
    }

    pub(super) fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }

    fn is_on(&self) -> bool {
        self.prints || self.lines.is_some()
    }

    fn push(&mut self, now: u64, line: &str) {
        let line = format!("{:>12.6} ms  {line}", now as f64 / 1e6);
        if self.prints {
            eprintln!("{line}");
        }
        if let Some(lines) = &mut self.lines {
            lines.push(line);
        }
    }
}
