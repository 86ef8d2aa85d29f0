//! How operations go on: each is tried when something may have changed for it, does what it can,
//! and posts what came of it.

use super::endpoint::EndpointId;
use super::memory::{self, OpenMemory, SendMemory};
use super::operation::{Kind, Operation, OperationKey};
use super::state::{Cargo, Event, State};
use super::table::Resource;
use crate::driver::{Interest, NOTIFIED_COPIED};
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;

/// Completions that a multishot operation posts at one time, at most.
const BURST: u64 = 8;

/// Between two bursts, in nanoseconds.
const BURST_PAUSE: u64 = 1_000;

impl State {
    /// Tries an operation; nothing happens when it is over, or has to wait on.
    pub(super) fn attempt(&mut self, key: OperationKey, serial: u64) {
        let Some(operation) = self.operation(key, serial) else {
            return;
        };
        let number = operation.descriptor.unwrap_or(-1);
        match operation.kind {
            Kind::Accept => self.attempt_accept(key, serial, number),
            Kind::Receive { once } => self.attempt_receive(key, serial, number, once),
            Kind::Send(memory) => self.attempt_send(key, number, memory),
            Kind::Ready(interest) => self.attempt_ready(key, number, interest),
            Kind::Connect(memory) => {
                self.attempt_connect(key, serial, number, memory.destination());
            }
            Kind::Open(memory) => self.attempt_open(key, memory),
            Kind::Read(memory) => self.attempt_read(key, || memory.read()),
            Kind::Warm(memory) => self.attempt_read(key, || memory.read()),
            Kind::ReadBlock(memory) => self.attempt_read(key, || memory.read()),
            Kind::ZeroCopy(memory) => self.attempt_zero_copy(key, number, memory),
        }
    }

    /// The operation, while it can still do something.
    pub(super) fn operation(&mut self, key: OperationKey, serial: u64) -> Option<&mut Operation> {
        let operation = self.operations.get_mut(&key)?;
        if operation.serial == serial && !operation.is_finished {
            Some(operation)
        } else {
            None
        }
    }

    /// Tries whatever waits on a descriptor, because something about it has changed.
    pub(super) fn poke(&mut self, number: RawFd) {
        let Some(descriptor) = self.table.get(number) else {
            return;
        };
        for key in descriptor.operations.clone() {
            let operation = self.operations[&key];
            if !matches!(operation.kind, Kind::Connect(_)) {
                self.schedule(0, Event::Attempt(key, operation.serial));
            }
        }
    }

    pub(super) fn stream_of(&self, number: RawFd) -> Option<EndpointId> {
        match self.table.get(number)?.resource {
            Resource::Stream(endpoint) => Some(endpoint),
            Resource::Listener(_) => None,
        }
    }

    fn attempt_accept(&mut self, key: OperationKey, serial: u64, number: RawFd) {
        for _ in 0..1 + self.random.below(BURST) {
            let is_full = self.table.len() >= self.options.descriptor_limit;
            let Some(Resource::Listener(listener)) = self
                .table
                .get_mut(number)
                .map(|descriptor| &mut descriptor.resource)
            else {
                return;
            };
            if listener.is_shut {
                return self.finish(key, -libc::EINVAL);
            }
            let Some(&endpoint) = listener.queue.front() else {
                // io_uring takes a descriptor before it looks for a connection.
                if is_full && self.random.chance(0.5) {
                    self.finish(key, -libc::EMFILE);
                }
                return;
            };
            if is_full || self.random.chance(self.options.emfile) {
                return self.finish(key, -libc::EMFILE);
            }
            listener.queue.pop_front();
            let accepted = self.table.insert(Resource::Stream(endpoint));
            if let Some(endpoint) = self.endpoints.get_mut(&endpoint) {
                endpoint.descriptor = Some(accepted);
            }
            let more = !self.random.chance(self.options.multishot_end);
            self.post(key, accepted, None, more, Cargo::Socket(accepted), 0);
            if !more {
                return;
            }
        }
        self.schedule(BURST_PAUSE, Event::Attempt(key, serial));
    }

    fn attempt_receive(&mut self, key: OperationKey, serial: u64, number: RawFd, once: bool) {
        let Some(pool) = self.workers[key.worker]
            .as_ref()
            .map(|it| Rc::clone(&it.buffers))
        else {
            return;
        };
        let Some(id) = self.stream_of(number) else {
            return;
        };
        for _ in 0..1 + self.random.below(BURST) {
            // Taken before there is anything to put into it, as io_uring does: armed on an empty
            // pool, a receive fails at once.
            let Some(buffer) = pool.take() else {
                return self.finish(key, -libc::ENOBUFS);
            };
            let Some(endpoint) = self.endpoints.get_mut(&id) else {
                return pool.untake(buffer);
            };
            if !endpoint.is_readable() {
                return pool.untake(buffer);
            }
            if endpoint.inbox.is_empty() {
                let result = endpoint.take_end();
                return self.finish_receive(key, result, buffer);
            }
            if self.random.chance(self.options.enobufs) {
                pool.untake(buffer);
                return self.finish(key, -libc::ENOBUFS);
            }
            let most = endpoint.inbox.len().min(pool.buffer_bytes());
            let count = self.random.shorten(self.options.short_read, most);
            memory::fill(&pool, buffer, &mut endpoint.inbox, count);
            if let Some(peer) = endpoint.peer {
                let latency = self.latency();
                self.schedule(latency, Event::Acknowledge(peer, count));
            }
            let more = !once && !self.random.chance(self.options.multishot_end);
            self.post(key, count as i32, Some(buffer), more, Cargo::Nothing, 0);
            if !more {
                return;
            }
        }
        self.schedule(BURST_PAUSE, Event::Attempt(key, serial));
    }

    /// Ends a receive without bytes, sometimes with the buffer that was taken for it.
    fn finish_receive(&mut self, key: OperationKey, result: i32, buffer: u16) {
        if self.random.chance(self.options.empty_buffer) {
            return self.post(key, result, Some(buffer), false, Cargo::Nothing, 0);
        }
        if let Some(worker) = &self.workers[key.worker] {
            worker.buffers.untake(buffer);
        }
        self.finish(key, result);
    }

    fn attempt_send(&mut self, key: OperationKey, number: RawFd, memory: SendMemory) {
        if let Some(result) = self.push(number, &memory) {
            self.finish(key, result);
        }
    }

    fn attempt_zero_copy(&mut self, key: OperationKey, number: RawFd, memory: SendMemory) {
        match self.push(number, &memory) {
            None => {}
            Some(result @ ..=0) => self.finish(key, result),
            Some(count) => {
                self.post(key, count, None, true, Cargo::Nothing, 0);
                let was_copied = self.random.chance(self.options.copied);
                let notice = if was_copied { NOTIFIED_COPIED } else { 0 };
                let delay = self.random.nanoseconds(&self.options.notice);
                self.post(key, notice, None, false, Cargo::Nothing, delay);
            }
        }
    }

    /// Sends what fits of a send's bytes: a count or `-errno`, or nothing while there is no room.
    pub(super) fn push(&mut self, number: RawFd, memory: &SendMemory) -> Option<i32> {
        let id = self.stream_of(number)?;
        match self.endpoints.get_mut(&id)?.take_room() {
            Err(errno) => Some(-errno),
            Ok(_) if memory.len() == 0 => Some(0),
            Ok(0) => None,
            Ok(room) => {
                let most = memory.len().min(room);
                let count = self.random.shorten(self.options.short_write, most);
                self.transmit(id, &memory.copy(count));
                Some(count as i32)
            }
        }
    }

    fn attempt_ready(&mut self, key: OperationKey, number: RawFd, interest: Interest) {
        let Some(descriptor) = self.table.get(number) else {
            return;
        };
        let is_ready = match &descriptor.resource {
            Resource::Listener(listener) => !listener.queue.is_empty() || listener.is_shut,
            Resource::Stream(id) => self
                .endpoints
                .get(id)
                .is_none_or(|endpoint| match interest {
                    Interest::Readable => endpoint.is_readable(),
                    Interest::Writable => endpoint.is_writable(),
                    Interest::Notice => self.has_notice(*id),
                }),
        };
        if is_ready {
            let events = match interest {
                Interest::Readable => libc::POLLIN,
                Interest::Writable => libc::POLLOUT,
                Interest::Notice => libc::POLLERR,
            };
            let more = interest == Interest::Notice;
            self.post(key, i32::from(events), None, more, Cargo::Nothing, 0);
        } else if self.random.chance(self.options.spurious_ready) {
            self.finish(key, 0);
        }
    }

    fn attempt_open(&mut self, key: OperationKey, memory: OpenMemory) {
        if self.random.chance(self.options.emfile) {
            return self.finish(key, -libc::EMFILE);
        }
        if self.random.chance(self.options.eio) {
            return self.finish(key, -libc::EIO);
        }
        match memory.open() {
            Ok(file) => self.finish_open(key, file),
            Err(error) => self.finish(key, failure(&error)),
        }
    }

    fn attempt_read(&mut self, key: OperationKey, read: impl FnOnce() -> io::Result<usize>) {
        if self.random.chance(self.options.eio) {
            return self.finish(key, -libc::EIO);
        }
        match read() {
            Ok(count) => {
                let count = self.random.shorten(self.options.short_read, count);
                self.finish(key, count as i32);
            }
            Err(error) => self.finish(key, failure(&error)),
        }
    }

    /// A cancel reaches its operation: that does what it still can, or nothing, and ends.
    pub(super) fn carry_out_cancel(&mut self, key: OperationKey, serial: u64) {
        let Some(operation) = self.operation(key, serial) else {
            return;
        };
        let (kind, number) = (operation.kind, operation.descriptor.unwrap_or(-1));
        if self.random.chance(self.options.cancel_too_late) {
            match kind {
                // The bytes go out, and the completion may still say that they did not.
                Kind::Send(memory) if self.random.chance(0.5) => {
                    let _ = self.push(number, &memory);
                }
                Kind::Connect(_) => {}
                _ => self.attempt(key, serial),
            }
        }
        if self.operation(key, serial).is_some() {
            self.note(|| format!("{key} is cancelled"));
            self.finish(key, -libc::ECANCELED);
        }
    }
}

/// `-errno`, as a completion has it.
fn failure(error: &io::Error) -> i32 {
    -error.raw_os_error().unwrap_or(libc::EIO)
}
