//! The least that a relayed request costs with epoll.
//!
//! Each client has a connection to the upstream for as long as it stays. Level-triggered, so that a
//! message is one receive and one send, and neither ever meets EAGAIN. For messages of one buffer: a
//! send that doesn't take all of it ends the pair.

use super::ends::{self, Ends};
use rustix::event::epoll;
use rustix::net::{RecvFlags, SendFlags};
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

const EVENTS_LIMIT: usize = 1024;

/// Hands on what clients and the server at `upstream_port` of loopback send each other, for as long as
/// the process lives.
///
/// # Errors
/// As `epoll_wait(2)`.
pub fn relay_epoll(listener: TcpListener, upstream_port: u16) -> io::Result<()> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut relay = Relay {
        listener,
        upstream_port,
        poll,
        ends: Ends::new(),
    };
    relay.turn_forever()
}

struct Relay {
    listener: TcpListener,
    upstream_port: u16,
    poll: OwnedFd,
    /// A socket, and the number of the other side's.
    ends: Ends<(OwnedFd, usize)>,
}

impl Relay {
    fn turn_forever(&mut self) -> io::Result<()> {
        self.listener.set_nonblocking(true)?;
        watch(&self.poll, &self.listener)?;
        let listener = self.listener.as_raw_fd() as usize;
        let mut events = Vec::with_capacity(EVENTS_LIMIT);
        let mut message = [0_u8; 16 << 10];
        loop {
            events.clear();
            let spare = rustix::buffer::spare_capacity(&mut events);
            epoll::wait(&self.poll, spare, None)?;
            for event in &events {
                match event.data.u64() as usize {
                    index if index == listener => self.accept_all()?,
                    index => self.pass_on(index, &mut message),
                }
            }
        }
    }

    fn accept_all(&mut self) -> io::Result<()> {
        while let Ok((client, _)) = self.listener.accept() {
            // Where there is no upstream, the client is closed.
            let Ok(pair) = ends::connect(client.into(), self.upstream_port) else {
                continue;
            };
            for socket in &pair {
                watch(&self.poll, socket)?;
            }
            self.ends.add(pair, |socket, other| (socket, other));
        }
        Ok(())
    }

    fn pass_on(&mut self, number: usize, message: &mut [u8]) {
        let Some((socket, other)) = self.ends.of(number) else {
            return;
        };
        let other = *other;
        let Some((to, _)) = self.ends.of(other) else {
            return;
        };
        // There is something to receive, and all of a message fits: blocking sockets do.
        let is_passed = match rustix::net::recv(socket, &mut *message, RecvFlags::empty()) {
            Ok((bytes @ 1.., _)) => {
                rustix::net::send(to, &message[..bytes], SendFlags::NOSIGNAL) == Ok(bytes)
            }
            _ => false,
        };
        if !is_passed {
            self.ends.remove(number);
            self.ends.remove(other);
        }
    }
}

fn watch(poll: &OwnedFd, socket: &impl AsFd) -> rustix::io::Result<()> {
    let name = epoll::EventData::new_u64(socket.as_fd().as_raw_fd() as u64);
    epoll::add(poll, socket, name, epoll::EventFlags::IN)
}
