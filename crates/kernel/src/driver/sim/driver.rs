//! One worker's driver in a simulated world.

use super::memory::{self, ConnectMemory, OpenMemory, ReadMemory, SendMemory};
use super::operation::{Kind, OperationKey};
use super::state::State;
use super::table::Resource;
use super::{SimWorld, nanoseconds, violation};
use crate::buffers::BufferPool;
use crate::driver::{
    Completion, Descriptor, Driver, DriverKind, Interest, SendParts, Strays, Token,
};
use crate::file::{OpenRequest, ReadRequest};
use crate::socket::{ConnectAddress, Destination, ListenOptions, SocketOptions};
use crate::wake::WakeHandle;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{BorrowedFd, RawFd};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

/// The most that one `send_file` moves.
const SEND_FILE_BYTES: usize = 1 << 16;

pub(super) struct SimDriver {
    world: SimWorld,
    /// Its number in the world.
    worker: usize,
    buffers: Rc<BufferPool>,
    wake: WakeHandle,
}

impl SimDriver {
    pub(super) fn new(world: SimWorld, buffer_count: u16, buffer_bytes: usize) -> SimDriver {
        let buffers = BufferPool::new(buffer_count, buffer_bytes)
            .expect("a simulation asks for little memory");
        let wake = WakeHandle::simulated();
        let worker = world
            .state
            .borrow_mut()
            .add_worker(Rc::clone(&buffers), wake.clone());
        SimDriver {
            world,
            worker,
            buffers,
            wake,
        }
    }

    pub(super) fn world(&self) -> &SimWorld {
        &self.world
    }

    pub(super) fn begin(&self, token: Token, descriptor: Option<RawFd>, kind: Kind) {
        let mut state = self.world.state.borrow_mut();
        // What has to travel, or to ask a disk, before there can be an answer.
        let travel = match kind {
            Kind::Connect(_)
            | Kind::Open(_)
            | Kind::Read(_)
            | Kind::Warm(_)
            | Kind::ReadBlock(_) => state.latency(),
            _ => 0,
        };
        state.begin(self.key(token), descriptor, kind, travel);
    }

    fn key(&self, token: Token) -> OperationKey {
        OperationKey {
            worker: self.worker,
            token,
        }
    }

    /// Moves the clock to the next event, but not past `deadline`; false when time must not, or
    /// can't, go on.
    fn let_time_pass(&self, state: &mut State, deadline: Option<u64>) -> io::Result<bool> {
        let next = if state.insists(self.worker) {
            state.next_event_of(self.worker)
        } else {
            state.next_event()
        };
        let next = match (next, deadline) {
            (Some(next), Some(deadline)) => next.min(deadline),
            (Some(next), None) => next,
            (None, Some(deadline)) => deadline,
            (None, None) => return Err(self.deadlock(state)),
        };
        // What is there now, and isn't ours, is another worker's: that one has to take its turn.
        if next <= state.now {
            return Ok(false);
        }
        state.advance(next);
        Ok(true)
    }

    fn deadlock(&self, state: &State) -> io::Error {
        let mut text = format!(
            "simulated deadlock {:?} into seed {}: worker {} waits without a limit, and nothing \
             will ever happen; in flight:",
            Duration::from_nanos(state.now),
            self.world.seed,
            self.worker
        );
        for (key, operation) in &state.operations {
            text.push_str(&format!(" {key} on {:?};", operation.descriptor));
        }
        io::Error::new(io::ErrorKind::Deadlock, text)
    }

    /// What a direct send may take now: its end of the stream, and how many bytes.
    pub(super) fn room(&self, state: &mut State, socket: RawFd) -> io::Result<(u64, usize)> {
        if state.has_send(socket) {
            violation(format_args!(
                "bytes sent on {socket} while a send is in flight"
            ));
        }
        let Some(id) = state.stream_of(socket) else {
            violation(format_args!(
                "bytes sent on {socket}, which is not an open stream"
            ));
        };
        let endpoint = state.endpoints.get_mut(&id);
        let room = endpoint.map_or(Err(libc::EPIPE), |endpoint| endpoint.take_room());
        match room {
            Err(errno) => Err(io::Error::from_raw_os_error(errno)),
            Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
            Ok(room) => Ok((id, room)),
        }
    }
}

impl Driver for SimDriver {
    fn kind(&self) -> DriverKind {
        DriverKind::Sim
    }

    fn describe(&self) -> String {
        format!("sim of seed {}", self.world.seed)
    }

    fn accept(&mut self, token: Token, listener: &Descriptor) {
        self.begin(token, Some(listener.number()), Kind::Accept);
    }

    fn receive(&mut self, token: Token, socket: &Descriptor) {
        self.begin(token, Some(socket.number()), Kind::Receive { once: false });
    }

    fn receive_once(&mut self, token: Token, socket: &Descriptor) {
        self.begin(token, Some(socket.number()), Kind::Receive { once: true });
    }

    unsafe fn send(&mut self, token: Token, socket: &Descriptor, parts: SendParts) -> Option<i32> {
        // SAFETY: the caller keeps what `parts` points to valid and unchanged until the last
        // completion; the memory is used by the operation alone, which ends with that.
        let memory = unsafe { SendMemory::new(parts) };
        {
            let state = &mut *self.world.state.borrow_mut();
            let is_new = !state.operations.contains_key(&self.key(token));
            let at_once = is_new
                && !state.has_send(socket.number())
                && state.is_adopted(socket.number(), self.worker)
                && state.random.chance(state.options.send_at_once);
            if at_once && let Some(result) = state.push(socket.number(), &memory) {
                let number = socket.number();
                state
                    .note(|| format!("worker {} sends at once on {number}: {result}", self.worker));
                return Some(result);
            }
        }
        self.begin(token, Some(socket.number()), Kind::Send(memory));
        None
    }

    unsafe fn connect(
        &mut self,
        token: Token,
        socket: &Descriptor,
        address: *const ConnectAddress,
    ) {
        // SAFETY: the caller keeps the address valid until the last completion; the memory is used
        // by the operation alone, which ends with that.
        let memory = unsafe { ConnectMemory::new(address) };
        self.begin(token, Some(socket.number()), Kind::Connect(memory));
    }

    fn ready(&mut self, token: Token, socket: &Descriptor, interest: Interest) {
        self.begin(token, Some(socket.number()), Kind::Ready(interest));
    }

    unsafe fn open(&mut self, token: Token, request: *const OpenRequest) {
        // SAFETY: the caller keeps the request valid and unchanged until the last completion; the
        // memory is used by the operation alone, which ends with that.
        let memory = unsafe { OpenMemory::new(request) };
        self.begin(token, None, Kind::Open(memory));
    }

    unsafe fn read(&mut self, token: Token, request: *mut ReadRequest) {
        // SAFETY: the caller keeps the request valid, and leaves its buffer alone, until the last
        // completion; the memory is used by the operation alone, which ends with that.
        let memory = unsafe { ReadMemory::new(request) };
        self.begin(token, None, Kind::Read(memory));
    }

    fn cancel(&mut self, token: Token, descriptor: Option<&Descriptor>) {
        self.world
            .state
            .borrow_mut()
            .cancel(self.key(token), descriptor.map_or(-1, Descriptor::number));
    }

    fn turn(
        &mut self,
        wait: Option<Duration>,
        completions: &mut Vec<Completion>,
    ) -> io::Result<()> {
        let mut state = self.world.state.borrow_mut();
        state.close_strays();
        state.note_turn(self.worker, wait != Some(Duration::ZERO));
        if state.is_auto_advancing {
            let cost = nanoseconds(state.options.turn_cost);
            state.now = state.now.saturating_add(cost);
        }
        let deadline = wait.map(|wait| state.now.saturating_add(nanoseconds(wait)));
        loop {
            let now = state.now;
            state.advance(now);
            let delivered = state.deliver(self.worker, completions);
            let is_woken = self.wake.is_pending();
            if is_woken {
                self.wake.clear();
            }
            let is_fruitful = delivered > 0 || is_woken;
            state.note_outcome(self.worker, is_fruitful);
            if is_fruitful || deadline.is_some_and(|end| end <= now) {
                return Ok(());
            }
            let may_wait = state.is_auto_advancing || state.insists(self.worker);
            if !may_wait || !self.let_time_pass(&mut state, deadline)? {
                return Ok(());
            }
        }
    }

    fn now(&self) -> Instant {
        self.world.now()
    }

    fn wall_clock(&self) -> SystemTime {
        self.world.wall_clock()
    }

    fn wake_handle(&self) -> WakeHandle {
        self.wake.clone()
    }

    fn buffers(&self) -> &Rc<BufferPool> {
        &self.buffers
    }

    fn adopt(&mut self, descriptor: &Descriptor) -> io::Result<()> {
        let descriptor = descriptor.number();
        let mut state = self.world.state.borrow_mut();
        let Some(entry) = state.table.get_mut(descriptor) else {
            violation(format_args!(
                "adoption of {descriptor}, which is not an open socket"
            ));
        };
        if entry.adopters.contains(&self.worker) {
            // What epoll says to a second registration.
            return Err(io::Error::from_raw_os_error(libc::EEXIST));
        }
        entry.adopters.push(self.worker);
        Ok(())
    }

    fn release(&mut self, descriptor: &Descriptor) -> io::Result<()> {
        let mut state = self.world.state.borrow_mut();
        state.release(descriptor.number(), self.worker);
        Ok(())
    }

    fn close(&mut self, descriptor: Descriptor) {
        self.world.state.borrow_mut().close(descriptor.number());
    }

    fn strays(&self) -> Option<Strays> {
        Some(Strays::clone(&self.world.state.borrow().strays))
    }

    fn listen(&mut self, address: SocketAddr, options: &ListenOptions) -> io::Result<Descriptor> {
        let number = self.world.state.borrow_mut().listen(address, options)?;
        // SAFETY: the simulator's numbers are above all that the real kernel gives out.
        Ok(unsafe { Descriptor::from_raw(number) })
    }

    fn open_socket(
        &mut self,
        destination: &Destination,
        options: &SocketOptions,
    ) -> io::Result<Descriptor> {
        let Destination::Tcp(address) = destination else {
            // There are no others in the simulated network.
            return Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT));
        };
        let number = self
            .world
            .state
            .borrow_mut()
            .open_socket(address, options)?;
        // SAFETY: as in `listen`.
        Ok(unsafe { Descriptor::from_raw(number) })
    }

    fn shutdown(&mut self, socket: &Descriptor, how: Shutdown) -> io::Result<()> {
        self.world.state.borrow_mut().shutdown(socket.number(), how)
    }

    fn send_now(
        &mut self,
        socket: &Descriptor,
        bytes: &[u8],
        _more_follows: bool,
    ) -> io::Result<usize> {
        let mut state = self.world.state.borrow_mut();
        let (id, room) = self.room(&mut state, socket.number())?;
        let short_write = state.options.short_write;
        let count = state.random.shorten(short_write, bytes.len().min(room));
        state.transmit(id, &bytes[..count]);
        Ok(count)
    }

    fn is_silent(&mut self, socket: &Descriptor) -> bool {
        let state = self.world.state.borrow();
        let endpoint = state
            .stream_of(socket.number())
            .and_then(|id| state.endpoints.get(&id));
        endpoint.is_some_and(|endpoint| !endpoint.is_readable())
    }

    fn send_file(
        &mut self,
        socket: &Descriptor,
        file: BorrowedFd<'_>,
        offset: u64,
        count: usize,
    ) -> io::Result<usize> {
        let mut state = self.world.state.borrow_mut();
        let (id, room) = self.room(&mut state, socket.number())?;
        let short_write = state.options.short_write;
        if state.options.denies_transfers {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        let most = count.min(room).min(SEND_FILE_BYTES);
        let count = state.random.shorten(short_write, most);
        let bytes = memory::read_file(file, offset, count)?;
        state.transmit(id, &bytes);
        Ok(bytes.len())
    }

    fn acknowledged_bytes(&self, socket: &Descriptor) -> io::Result<u64> {
        let state = self.world.state.borrow();
        let endpoint = state
            .stream_of(socket.number())
            .and_then(|id| state.endpoints.get(&id));
        Ok(endpoint.map_or(0, |endpoint| endpoint.acknowledged_bytes))
    }

    fn peer_address(&self, socket: &Descriptor) -> io::Result<SocketAddr> {
        let state = self.world.state.borrow();
        let endpoint = state
            .stream_of(socket.number())
            .and_then(|id| state.endpoints.get(&id));
        let connected = endpoint.filter(|endpoint| endpoint.is_connected());
        let remote = connected.and_then(|endpoint| endpoint.remote);
        remote.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOTCONN))
    }

    fn incoming_cpu(&self, _socket: &Descriptor) -> io::Result<u32> {
        // There are no CPUs in this world.
        Err(io::ErrorKind::Unsupported.into())
    }

    fn local_address(&self, socket: &Descriptor) -> io::Result<SocketAddr> {
        let state = self.world.state.borrow();
        let bad_descriptor = || io::Error::from_raw_os_error(libc::EBADF);
        match &state
            .table
            .get(socket.number())
            .ok_or_else(bad_descriptor)?
            .resource
        {
            Resource::Listener(listener) => Ok(listener.address),
            Resource::Stream(id) => state
                .endpoints
                .get(id)
                .map(|endpoint| endpoint.local)
                .ok_or_else(bad_descriptor),
        }
    }

    fn reset_on_close(&mut self, socket: &Descriptor, is_on: bool) -> io::Result<()> {
        let mut state = self.world.state.borrow_mut();
        let endpoint = state
            .stream_of(socket.number())
            .and_then(|id| state.endpoints.get_mut(&id));
        let Some(endpoint) = endpoint else {
            violation(format_args!(
                "reset_on_close of {}, which is not an open stream",
                socket.number()
            ));
        };
        endpoint.resets_on_close = is_on;
        Ok(())
    }
}

impl Drop for SimDriver {
    fn drop(&mut self) {
        self.world.state.borrow_mut().remove_worker(self.worker);
    }
}
