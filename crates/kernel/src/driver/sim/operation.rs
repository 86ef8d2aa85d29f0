//! Operations in flight: what they are, and the rules for beginning one.

use super::memory::{BlockMemory, ConnectMemory, OpenMemory, ReadMemory, SendMemory, WarmMemory};
use super::state::{Event, State};
use super::table::Resource;
use super::violation;
use crate::driver::{Interest, Lane, Token};
use std::fmt;
use std::os::fd::RawFd;

/// An operation by the worker it belongs to and that worker's name for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OperationKey {
    pub(super) worker: usize,
    pub(super) token: Token,
}

impl fmt::Display for OperationKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slot = self.token.key();
        let lane = self.token.lane();
        write!(
            out,
            "worker {} {lane:?} {}.{}",
            self.worker, slot.index, slot.generation
        )
    }
}

#[derive(Clone, Copy)]
pub(super) enum Kind {
    Accept,
    Receive {
        /// Over with the first bytes.
        once: bool,
    },
    Send(SendMemory),
    Ready(Interest),
    Connect(ConnectMemory),
    Open(OpenMemory),
    Read(ReadMemory),
    Warm(WarmMemory),
    ReadBlock(BlockMemory),
    /// A send until it was counted, then a notification on its way.
    ZeroCopy(SendMemory),
}

impl Kind {
    /// Whether one descriptor can't have both in flight.
    fn excludes(&self, other: &Kind) -> bool {
        match (self, other) {
            (Kind::Ready(one), Kind::Ready(another)) => one == another,
            (Kind::Send(_) | Kind::ZeroCopy(_), Kind::Send(_) | Kind::ZeroCopy(_)) => true,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }

    fn belongs_on(&self, resource: &Resource) -> bool {
        match self {
            Kind::Accept => matches!(resource, Resource::Listener(_)),
            Kind::Ready(_) => true,
            _ => matches!(resource, Resource::Stream(_)),
        }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Operation {
    pub(super) kind: Kind,
    /// None for a file operation.
    pub(super) descriptor: Option<RawFd>,
    /// Tells it apart from a later operation under the same key.
    pub(super) serial: u64,
    /// Its last completion is posted, and waits to be delivered.
    pub(super) is_finished: bool,
    /// A cancel was asked for.
    pub(super) is_cancelled: bool,
    /// Its next completion is delivered no earlier than its last one.
    pub(super) last_due: u64,
    /// Handshakes that met a full backlog.
    pub(super) attempts: u32,
}

impl State {
    /// Puts an operation in flight; it is tried for the first time when it has travelled for
    /// `travel` nanoseconds.
    pub(super) fn begin(
        &mut self,
        key: OperationKey,
        descriptor: Option<RawFd>,
        kind: Kind,
        travel: u64,
    ) {
        if key.token.lane() == Lane::None {
            violation(format_args!("{key} has no lane"));
        }
        if self.operations.contains_key(&key) {
            violation(format_args!("two operations in flight are {key}"));
        }
        if let Some(number) = descriptor {
            self.attach(key, number, &kind);
        }
        let serial = self.fresh_serial();
        let operation = Operation {
            kind,
            descriptor,
            serial,
            is_finished: false,
            is_cancelled: false,
            last_due: 0,
            attempts: 0,
        };
        self.operations.insert(key, operation);
        self.note(|| format!("{key} begins on {descriptor:?}"));
        let submission = self.random.nanoseconds(&self.options.submission);
        self.schedule(
            submission.saturating_add(travel),
            Event::Attempt(key, serial),
        );
    }

    fn attach(&mut self, key: OperationKey, number: RawFd, kind: &Kind) {
        let Some(descriptor) = self.table.get(number) else {
            violation(format_args!(
                "{key} names {number}, which is not an open socket"
            ));
        };
        if !descriptor.adopters.contains(&key.worker) {
            violation(format_args!(
                "{key} names {number}, which its worker never adopted"
            ));
        }
        if !kind.belongs_on(&descriptor.resource) {
            violation(format_args!("{key} doesn't go with what {number} is"));
        }
        for other in &descriptor.operations {
            let operation = &self.operations[other];
            // What was counted is no longer on its way out.
            let is_counted = matches!(operation.kind, Kind::ZeroCopy(_)) && operation.is_finished;
            if !is_counted && operation.kind.excludes(kind) {
                violation(format_args!(
                    "{key} begins on {number} while {other} is in flight"
                ));
            }
        }
        if let Some(descriptor) = self.table.get_mut(number) {
            descriptor.operations.push(key);
        }
    }

    /// Forgets an operation whose last completion is being delivered.
    pub(super) fn retire(&mut self, key: OperationKey) {
        let Some(operation) = self.operations.remove(&key) else {
            return;
        };
        if let Kind::Send(memory) | Kind::ZeroCopy(memory) = operation.kind
            && !memory.is_unchanged()
        {
            violation(format_args!(
                "the bytes of {key} changed while it was in flight"
            ));
        }
        self.detach(key, operation.descriptor);
    }

    /// Takes an operation off its descriptor.
    pub(super) fn detach(&mut self, key: OperationKey, descriptor: Option<RawFd>) {
        if let Some(entry) = descriptor.and_then(|number| self.table.get_mut(number)) {
            entry.operations.retain(|other| *other != key);
        }
    }

    /// Asks for an operation's end, which comes now or a little later.
    pub(super) fn cancel(&mut self, key: OperationKey, descriptor: RawFd) {
        let Some(operation) = self.operations.get_mut(&key) else {
            return;
        };
        if operation.descriptor.unwrap_or(-1) != descriptor {
            violation(format_args!(
                "{key} is not on the descriptor its cancel names"
            ));
        }
        if operation.is_finished || std::mem::replace(&mut operation.is_cancelled, true) {
            return;
        }
        let serial = operation.serial;
        self.note(|| format!("{key} is to be cancelled"));
        let travel = self.random.nanoseconds(&self.options.submission);
        let lateness = self.lateness();
        self.schedule(travel.saturating_add(lateness), Event::Cancel(key, serial));
    }

    pub(super) fn is_adopted(&self, number: RawFd, worker: usize) -> bool {
        self.table
            .get(number)
            .is_some_and(|entry| entry.adopters.contains(&worker))
    }

    /// Whether a send names this descriptor.
    pub(super) fn has_send(&self, number: RawFd) -> bool {
        let Some(descriptor) = self.table.get(number) else {
            return false;
        };
        descriptor
            .operations
            .iter()
            .any(|key| match self.operations[key] {
                Operation {
                    kind: Kind::Send(_),
                    ..
                } => true,
                Operation {
                    kind: Kind::ZeroCopy(_),
                    is_finished,
                    ..
                } => !is_finished,
                _ => false,
            })
    }
}
