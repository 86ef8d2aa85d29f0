//! The self-test of a ring: whether this kernel does what every connection depends on.
//!
//! A kernel that knows an operation may still answer it wrongly (one that is emulated, say, or one
//! with a flaw), so all that a connection's life takes is done once and looked at: a multishot
//! accept, a multishot receive into a provided buffer, sends of one run and of two, a wait for room,
//! a cancel, and the end of the stream. Opening and reading files, connecting and what else a
//! connection may do are only looked up: where the above works, they have been there for longer.
//! Files are sent by plain calls (`sendfile`, `splice`), which need no ring.

use super::uring::Uring;
use super::{Completion, Descriptor, Driver, Interest, Lane, Token, probe};
use crate::buffers::Buffer;
use crate::outgoing::{Chunk, Gather, Outgoing};
use crate::slots::SlotKey;
use io_uring::opcode;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How long the kernel may take for what it is asked.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a driver may submit that isn't tried here.
const LOOKED_UP: [u8; 5] = [
    opcode::Connect::CODE,
    opcode::OpenAt2::CODE,
    opcode::Read::CODE,
    opcode::ReadFixed::CODE,
    opcode::SendZc::CODE,
];

/// What the peer sends, and what it is sent: as one run, and as two.
const PING: &[u8] = b"ping";
const ONE_RUN: &[u8] = b"pong";
const TWO_RUNS: [&[u8]; 2] = [b"po", b"ng"];

/// Leads a connection through `ring`; what went wrong, for people. A ring that failed is kept for
/// ever, for the kernel may still have something in flight.
pub(super) fn self_test(ring: Uring) -> Result<(), String> {
    let mut trial = Trial {
        ring,
        early: Vec::new(),
        two_runs: Outgoing::gathered(TWO_RUNS[0], Chunk::from(TWO_RUNS[1])),
        gather: None,
    };
    let tried = trial.run();
    match &tried {
        Ok(()) => drop(trial),
        Err(_) => std::mem::forget(trial),
    }
    tried
}

struct Trial {
    ring: Uring,
    /// Completions that nobody has asked for yet.
    early: Vec<Completion>,
    /// What the kernel reads for the gathered send.
    two_runs: Outgoing,
    gather: Option<Box<Gather>>,
}

impl Trial {
    fn run(&mut self) -> Result<(), String> {
        let known = self.ring.has_operations(&LOOKED_UP);
        if !known.map_err(|error| probe::explain("IORING_REGISTER_PROBE", &error))? {
            return Err("IORING_REGISTER_PROBE: this kernel lacks an operation".to_owned());
        }
        let (listener, address) = listen().map_err(|error| format!("a local socket: {error}"))?;
        let listener = Descriptor::from(listener);
        self.ring.accept(token(Lane::Accept), &listener);
        let peer = connect(&address).map_err(|error| format!("a local connection: {error}"))?;
        let accepted = self.next("multishot accept", Lane::Accept)?;
        if accepted.result < 0 || !accepted.more {
            return Err(unexpected("multishot accept", accepted));
        }
        // SAFETY: an accept's completion hands over a new descriptor, and it is taken once.
        let socket = unsafe { Descriptor::from_raw(accepted.result) };
        self.receive(&socket, &peer)?;
        self.send(&socket, &peer)?;
        self.ring
            .ready(token(Lane::Ready), &socket, Interest::Writable);
        self.expect("poll", Lane::Ready, |result| result > 0)?;
        self.ring.cancel(token(Lane::Accept), Some(&listener));
        self.expect("cancel", Lane::Accept, |result| result == -libc::ECANCELED)?;
        drop(peer);
        self.expect("end of a stream", Lane::Receive, |result| result == 0)?;
        self.ring.close(socket);
        self.ring.close(listener);
        Ok(())
    }

    /// Receives once, and then until the end: takes what the peer sends.
    fn receive(&mut self, socket: &Descriptor, peer: &OwnedFd) -> Result<(), String> {
        self.ring.receive_once(token(Lane::Receive), socket);
        self.take_ping("receive", peer, false)?;
        self.ring.receive(token(Lane::Receive), socket);
        self.take_ping("multishot receive", peer, true)
    }

    /// Has the peer send, and compares what comes.
    fn take_ping(&mut self, what: &str, peer: &OwnedFd, more: bool) -> Result<(), String> {
        rustix::io::write(peer, PING).map_err(|error| format!("a local connection: {error}"))?;
        let filled = self.next(what, Lane::Receive)?;
        let is_whole = filled.result == PING.len() as i32 && filled.more == more;
        let Some(id) = filled.buffer.filter(|_| is_whole) else {
            return Err(unexpected(what, filled));
        };
        self.ring.buffers().lend(id);
        let buffer = Buffer::from_lent(self.ring.buffers(), id, filled.result as u32);
        match *buffer == *PING {
            true => Ok(()),
            false => Err(format!("{what}: the buffer doesn't hold what was sent")),
        }
    }

    /// Sends to the peer by both operations, and has it compare.
    fn send(&mut self, socket: &Descriptor, peer: &OwnedFd) -> Result<(), String> {
        let one_run = Outgoing::from(ONE_RUN);
        // Not the first of its message: that one might go out by a plain call.
        let parts = [
            one_run.parts(0, false, &mut None),
            self.two_runs.parts(0, false, &mut self.gather),
        ];
        for (name, parts) in ["send", "gathered send"].into_iter().zip(parts) {
            // SAFETY: the bytes are static, and the header is boxed in `gather`, which isn't touched
            // any more, and is freed only when all sends were answered.
            unsafe { self.ring.send(token(Lane::Send), socket, parts) };
            self.expect(name, Lane::Send, |sent| sent == ONE_RUN.len() as i32)?;
            let mut received = [0; ONE_RUN.len()];
            let read = rustix::io::read(peer, &mut received);
            if read != Ok(ONE_RUN.len()) || received != *ONE_RUN {
                return Err(format!("{name}: the peer received something else"));
            }
        }
        Ok(())
    }

    /// The last completion of an operation, whose result has to be right.
    fn expect(
        &mut self,
        what: &str,
        lane: Lane,
        is_right: impl Fn(i32) -> bool,
    ) -> Result<(), String> {
        let completion = self.next(what, lane)?;
        match is_right(completion.result) && !completion.more {
            true => Ok(()),
            false => Err(unexpected(what, completion)),
        }
    }

    /// The next completion of an operation.
    fn next(&mut self, what: &str, lane: Lane) -> Result<Completion, String> {
        let wanted = token(lane);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.early.iter().position(|it| it.token == wanted);
            if let Some(index) = found {
                return Ok(self.early.remove(index));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(format!("{what}: no answer from the kernel"));
            }
            let turned = self.ring.turn(Some(left), &mut self.early);
            turned.map_err(|error| probe::explain("io_uring_enter", &error))?;
        }
    }
}

fn token(lane: Lane) -> Token {
    let key = SlotKey {
        index: 0,
        generation: 0,
    };
    Token::new(lane, key)
}

fn unexpected(what: &str, completion: Completion) -> String {
    match completion.result {
        0.. => format!("{what}: the kernel's answer is not what it should be"),
        errno => probe::explain(what, &io::Error::from_raw_os_error(-errno)),
    }
}

/// A listener that needs no network and leaves nothing behind, under a name that the kernel chooses
/// (`unix(7)`, "Autobind feature"); where such sockets are forbidden, one on the loopback.
fn listen() -> io::Result<(OwnedFd, SocketAddrAny)> {
    let autobind = SocketAddrUnix::new_unnamed();
    listen_at(AddressFamily::UNIX, &autobind).or_else(|_| {
        let loopback = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
        listen_at(AddressFamily::INET, &loopback)
    })
}

fn listen_at(
    family: AddressFamily,
    address: &impl rustix::net::addr::SocketAddrArg,
) -> io::Result<(OwnedFd, SocketAddrAny)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let listener = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&listener, address)?;
    rustix::net::listen(&listener, 1)?;
    let address = rustix::net::getsockname(&listener)?;
    Ok((listener, address))
}

/// The peer: of plain calls that wait, but not for ever.
fn connect(address: &SocketAddrAny) -> io::Result<OwnedFd> {
    let family = address.address_family();
    let peer = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_timeout(&peer, Timeout::Send, Some(PATIENCE))?;
    sockopt::set_socket_timeout(&peer, Timeout::Recv, Some(PATIENCE))?;
    rustix::net::connect(&peer, address)?;
    Ok(peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where only one kind of local socket is allowed, that one is enough.
    #[test]
    fn either_kind_of_socket_carries_the_test() {
        let unnamed = SocketAddrUnix::new_unnamed();
        let loopback = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
        for (_listener, address) in [
            listen_at(AddressFamily::UNIX, &unnamed).unwrap(),
            listen_at(AddressFamily::INET, &loopback).unwrap(),
        ] {
            connect(&address).unwrap();
        }
    }
}
