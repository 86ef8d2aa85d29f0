//! The simulated network: handshakes, segments on their way, ends and resets.

use super::endpoint::{self, Endpoint, EndpointId, Listener};
use super::operation::OperationKey;
use super::state::{Cargo, Event, Segment, State};
use super::table::Resource;
use super::violation;
use std::collections::VecDeque;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::RawFd;

use crate::socket::{ListenOptions, SocketOptions};

/// Linux's default range (`ip_local_port_range`).
const EPHEMERAL_PORTS: std::ops::RangeInclusive<u16> = 32_768..=60_999;

/// Handshakes until a connect gives up (`tcp_syn_retries`), the first repeated after a second and
/// each later one after twice the time.
const HANDSHAKES: u32 = 7;
const SECOND: u64 = 1_000_000_000;

/// What a network answers to a connect besides a refusal.
const CONNECT_ERRORS: [i32; 3] = [libc::ETIMEDOUT, libc::EHOSTUNREACH, libc::ENETUNREACH];

impl State {
    pub(super) fn listen(
        &mut self,
        mut address: SocketAddr,
        options: &ListenOptions,
    ) -> io::Result<RawFd> {
        if self.table.len() >= self.options.descriptor_limit {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        if address.port() == 0 {
            address.set_port(self.fresh_port());
        }
        let options = options.clone();
        let listener = Listener {
            address,
            options,
            queue: VecDeque::new(),
            is_shut: false,
        };
        let number = self.table.insert(Resource::Listener(Box::new(listener)));
        self.note(|| format!("{number} listens on {address}"));
        Ok(number)
    }

    pub(super) fn open_socket(
        &mut self,
        address: &SocketAddr,
        options: &SocketOptions,
    ) -> io::Result<RawFd> {
        let is_full = self.table.len() >= self.options.descriptor_limit;
        if is_full || self.random.chance(self.options.emfile) {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        let local = SocketAddr::new(unspecified_like(address), 0);
        let id = self.fresh_serial();
        let number = self.table.insert(Resource::Stream(id));
        let mut endpoint = Endpoint::new(local, options.clone());
        endpoint.descriptor = Some(number);
        self.endpoints.insert(id, endpoint);
        Ok(number)
    }

    fn fresh_port(&mut self) -> u16 {
        loop {
            let next = self.last_port.wrapping_add(1);
            self.last_port = if EPHEMERAL_PORTS.contains(&next) {
                next
            } else {
                *EPHEMERAL_PORTS.start()
            };
            let port = self.last_port;
            let is_taken = self
                .table
                .iter()
                .any(|(_, descriptor)| match &descriptor.resource {
                    Resource::Listener(listener) => listener.address.port() == port,
                    Resource::Stream(_) => false,
                });
            if !is_taken {
                return port;
            }
        }
    }

    /// A handshake arrives where it was sent.
    pub(super) fn attempt_connect(
        &mut self,
        key: OperationKey,
        serial: u64,
        number: RawFd,
        target: SocketAddr,
    ) {
        let back = self.latency();
        let refuse = |state: &mut State, errno: i32| {
            state.post(key, -errno, None, false, Cargo::Nothing, back);
        };
        let Some(client) = self.stream_of(number) else {
            return;
        };
        if self.endpoints[&client].peer.is_some() {
            return refuse(self, libc::EISCONN);
        }
        if self.random.chance(self.options.connect_failure) {
            let which = self.random.below(CONNECT_ERRORS.len() as u64);
            return refuse(self, CONNECT_ERRORS[which as usize]);
        }
        let Some((listener, has_room)) = self.find_listener(target) else {
            return refuse(self, libc::ECONNREFUSED);
        };
        if has_room {
            self.establish(client, listener, target);
            return self.post(key, 0, None, false, Cargo::Nothing, back);
        }
        let Some(operation) = self.operation(key, serial) else {
            return;
        };
        operation.attempts += 1;
        if operation.attempts == HANDSHAKES {
            return refuse(self, libc::ETIMEDOUT);
        }
        let pause = SECOND << (operation.attempts - 1);
        self.schedule(pause, Event::Attempt(key, serial));
    }

    /// One of the listeners that answer for an address, and whether its backlog has room.
    fn find_listener(&mut self, target: SocketAddr) -> Option<(RawFd, bool)> {
        let listeners = self.table.iter().filter_map(|(number, descriptor)| {
            let Resource::Listener(listener) = &descriptor.resource else {
                return None;
            };
            let backlog = listener.options.backlog.max(1) as usize;
            let has_room = listener.queue.len() < backlog;
            listener.answers(target).then_some((number, has_room))
        });
        let group: Vec<(RawFd, bool)> = listeners.collect();
        if group.is_empty() {
            return None;
        }
        Some(group[self.random.below(group.len() as u64) as usize])
    }

    /// Makes the other end of a stream and queues it to be accepted.
    fn establish(&mut self, client: EndpointId, listener_number: RawFd, target: SocketAddr) {
        let target = SocketAddr::new(endpoint::reachable(target.ip()), target.port());
        let source = SocketAddr::new(target.ip(), self.fresh_port());
        let server = self.fresh_serial();
        let Some(Resource::Listener(listener)) = self
            .table
            .get_mut(listener_number)
            .map(|descriptor| &mut descriptor.resource)
        else {
            return;
        };
        let options = listener.options.socket.clone();
        let mut accepted = Endpoint::new(listener.as_seen_here(target), options);
        accepted.remote = Some(listener.as_seen_here(source));
        accepted.peer = Some(client);
        listener.queue.push_back(server);

        let mut buffer = |fixed: Option<usize>| {
            fixed
                .unwrap_or_else(|| self.random.size(&self.options.socket_buffer_bytes))
                .max(1)
        };
        let Some(connecting) = self.endpoints.get_mut(&client) else {
            return;
        };
        connecting.window_bytes =
            buffer(connecting.options.send_buffer) + buffer(accepted.options.receive_buffer);
        accepted.window_bytes =
            buffer(accepted.options.send_buffer) + buffer(connecting.options.receive_buffer);
        connecting.peer = Some(server);
        connecting.local = source;
        connecting.remote = Some(target);
        self.endpoints.insert(server, accepted);
        self.note(|| format!("{source} connects to {target}, in the queue of {listener_number}"));
        self.poke(listener_number);
    }

    /// Sends bytes that there is room for, in segments. One of them may be fatal.
    pub(super) fn transmit(&mut self, from: EndpointId, bytes: &[u8]) {
        if let Some(endpoint) = self.endpoints.get_mut(&from) {
            endpoint.outstanding_bytes += bytes.len();
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let most = self.random.size(&self.options.segment_bytes).max(1);
            let (segment, after) = rest.split_at(most.min(rest.len()));
            rest = after;
            if self.random.chance(self.options.reset) {
                return self.reset_both(from);
            }
            self.launch(from, Segment::Bytes(segment.to_vec()));
        }
    }

    /// Puts a segment on its way, behind those that are.
    fn launch(&mut self, from: EndpointId, segment: Segment) {
        let arrival = self.now.saturating_add(self.latency());
        let Some(endpoint) = self.endpoints.get_mut(&from) else {
            return;
        };
        let Some(peer) = endpoint.peer else {
            return;
        };
        endpoint.last_arrival = endpoint.last_arrival.max(arrival);
        let arrival = endpoint.last_arrival;
        self.schedule_at(arrival, Event::Arrive(peer, segment));
    }

    /// A segment is there. Whoever has gone or was reset doesn't notice it.
    pub(super) fn arrive(&mut self, to: EndpointId, segment: Segment) {
        let Some(endpoint) = self.endpoints.get_mut(&to) else {
            return;
        };
        if endpoint.is_broken {
            return;
        }
        match segment {
            // Nobody will ever read it: Linux answers with a reset.
            Segment::Bytes(_) if endpoint.is_closed => return self.launch(to, Segment::Reset),
            Segment::Bytes(bytes) => endpoint.inbox.extend(bytes),
            Segment::End => endpoint.has_ended = true,
            Segment::Reset => return self.break_off(to),
        }
        if let Some(number) = endpoint.descriptor {
            self.poke(number);
        }
    }

    /// The peer has received bytes: there is room for more.
    pub(super) fn acknowledge(&mut self, to: EndpointId, bytes: usize) {
        let Some(endpoint) = self.endpoints.get_mut(&to) else {
            return;
        };
        endpoint.outstanding_bytes = endpoint.outstanding_bytes.saturating_sub(bytes);
        endpoint.acknowledged_bytes += bytes as u64;
        if let Some(number) = endpoint.descriptor {
            self.poke(number);
        }
    }

    /// The network ends a connection for both sides at once.
    fn reset_both(&mut self, id: EndpointId) {
        let peer = self.endpoints.get(&id).and_then(|endpoint| endpoint.peer);
        for id in [Some(id), peer].into_iter().flatten() {
            self.break_off(id);
        }
    }

    /// One side gives up: the other gets a reset, and this one can't be used any more.
    pub(super) fn abort_stream(&mut self, id: EndpointId) {
        let Some(endpoint) = self.endpoints.get(&id) else {
            return;
        };
        let (is_broken, number) = (endpoint.is_broken, endpoint.descriptor);
        if !is_broken {
            self.launch(id, Segment::Reset);
        }
        if let Some(endpoint) = self.endpoints.get_mut(&id) {
            endpoint.break_off(true);
        }
        if let Some(number) = number {
            self.poke(number);
        }
    }

    /// A reset arrives. Linux keeps what is in the receive queue, others don't.
    fn break_off(&mut self, id: EndpointId) {
        let loses_inbox = self.random.chance(0.5);
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            return;
        };
        endpoint.break_off(loses_inbox);
        let (local, remote, number) = (endpoint.local, endpoint.remote, endpoint.descriptor);
        self.note(|| format!("{local} is reset, its peer was {remote:?}"));
        if let Some(number) = number {
            self.poke(number);
        }
    }

    pub(super) fn shutdown(&mut self, number: RawFd, how: Shutdown) -> io::Result<()> {
        let Some(descriptor) = self.table.get_mut(number) else {
            violation(format_args!(
                "shutdown of {number}, which is not an open socket"
            ));
        };
        let id = match &mut descriptor.resource {
            Resource::Stream(id) => *id,
            Resource::Listener(listener) => {
                listener.is_shut |= how != Shutdown::Write;
                self.poke(number);
                return Ok(());
            }
        };
        let endpoint = self
            .endpoints
            .get_mut(&id)
            .filter(|endpoint| endpoint.is_connected());
        let Some(endpoint) = endpoint else {
            return Err(io::Error::from_raw_os_error(libc::ENOTCONN));
        };
        endpoint.is_read_shut |= how != Shutdown::Write;
        let sends_end = how != Shutdown::Read && !endpoint.is_write_shut;
        endpoint.is_write_shut |= how != Shutdown::Read;
        self.note(|| format!("{number} is shut down: {how:?}"));
        if sends_end {
            self.launch(id, Segment::End);
        }
        self.poke(number);
        Ok(())
    }

    /// A worker lets go of a descriptor without closing it.
    pub(super) fn release(&mut self, number: RawFd, worker: usize) {
        let Some(descriptor) = self.table.get_mut(number) else {
            violation(format_args!(
                "release of {number}, which is not an open socket"
            ));
        };
        if let [key, ..] = descriptor.operations.as_slice() {
            violation(format_args!("release of {number}, which {key} names"));
        }
        descriptor.adopters.retain(|adopter| *adopter != worker);
    }

    /// Closes what was dropped while no worker had it.
    pub(super) fn close_strays(&mut self) {
        let strays = self
            .strays
            .lock()
            .map(|mut strays| std::mem::take(&mut *strays));
        for number in strays.unwrap_or_default() {
            self.close(number);
        }
    }

    pub(super) fn close(&mut self, number: RawFd) {
        let operations = self
            .table
            .get(number)
            .map(|descriptor| descriptor.operations.as_slice());
        match operations {
            // A second panic would end the process, and hide the first one.
            _ if std::thread::panicking() => {}
            None => violation(format_args!(
                "close of {number}, which is not an open socket"
            )),
            Some([]) => {}
            Some([key, ..]) => violation(format_args!("close of {number}, which {key} names")),
        }
        self.forget_notices(number);
        let Some(descriptor) = self.table.remove(number) else {
            return;
        };
        self.note(|| format!("{number} is closed"));
        match descriptor.resource {
            Resource::Stream(id) => self.hang_up(id),
            Resource::Listener(listener) => {
                for id in listener.queue {
                    if let Some(endpoint) = self.endpoints.get_mut(&id) {
                        endpoint.resets_on_close = true;
                    }
                    self.hang_up(id);
                }
            }
        }
    }

    /// The last descriptor of an end of a stream is gone: the peer gets an end, or a reset when
    /// bytes were left unread, or when that was asked for.
    fn hang_up(&mut self, id: EndpointId) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            return;
        };
        endpoint.descriptor = None;
        endpoint.is_closed = true;
        let resets = endpoint.resets_on_close || !endpoint.inbox.is_empty();
        let (is_broken, is_write_shut) = (endpoint.is_broken, endpoint.is_write_shut);
        let peer = endpoint.peer;
        let has_peer =
            peer.is_some_and(|id| self.endpoints.get(&id).is_some_and(|peer| !peer.is_closed));
        if !has_peer {
            self.endpoints.remove(&id);
            if let Some(peer) = peer {
                self.endpoints.remove(&peer);
            }
        } else if is_broken {
            // The peer was reset too, or did it.
        } else if resets {
            self.launch(id, Segment::Reset);
        } else if !is_write_shut {
            self.launch(id, Segment::End);
        }
    }
}

fn unspecified_like(address: &SocketAddr) -> std::net::IpAddr {
    if address.is_ipv6() {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv4Addr::UNSPECIFIED.into()
    }
}
