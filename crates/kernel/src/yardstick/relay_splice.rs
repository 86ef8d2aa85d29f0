//! The least that a relayed body costs.
//!
//! Each client has a connection to the upstream, and each direction a pipe of its own, for as long as
//! it stays: bytes go from socket to pipe to socket and never come here. Edge-triggered: whatever an
//! event says, both directions are pushed until neither moves.

use super::ends::{self, Ends};
use rustix::event::epoll;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};

const EVENTS_LIMIT: usize = 1024;
/// What an unprivileged process may ask for: pipe(7), `pipe-max-size`.
const PIPE_BYTES: usize = 1 << 20;

/// Hands on what clients and the server at `upstream_port` of loopback send each other, for as long as
/// the process lives.
///
/// # Errors
/// As `epoll_wait(2)` and `pipe2(2)`.
pub fn relay_splice(listener: TcpListener, upstream_port: u16) -> io::Result<()> {
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
    ends: Ends<End>,
}

/// One side of a pair, and the pipe for what comes from it.
struct End {
    socket: OwnedFd,
    other: usize,
    into_pipe: OwnedFd,
    out_of_pipe: OwnedFd,
    /// How much is in the pipe.
    held_bytes: usize,
}

/// What became of a push.
#[derive(PartialEq, Eq)]
enum Moved {
    Some,
    Nothing,
    Ended,
}

impl Relay {
    fn turn_forever(&mut self) -> io::Result<()> {
        self.listener.set_nonblocking(true)?;
        let listener = self.listener.as_raw_fd() as usize;
        let name = epoll::EventData::new_u64(listener as u64);
        epoll::add(&self.poll, &self.listener, name, epoll::EventFlags::IN)?;
        let mut events = Vec::with_capacity(EVENTS_LIMIT);
        loop {
            events.clear();
            let spare = rustix::buffer::spare_capacity(&mut events);
            epoll::wait(&self.poll, spare, None)?;
            for event in &events {
                match event.data.u64() as usize {
                    number if number == listener => self.accept_all()?,
                    number => self.push_both(number),
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
            let pipes = [pipe()?, pipe()?].map(|pipe| std::cell::Cell::new(Some(pipe)));
            let events = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
            for socket in &pair {
                rustix::io::ioctl_fionbio(socket, true)?;
                let name = epoll::EventData::new_u64(socket.as_raw_fd() as u64);
                epoll::add(&self.poll, socket, name, events)?;
            }
            self.ends.add(pair, |socket, other| {
                let (out_of_pipe, into_pipe) = pipes
                    .iter()
                    .find_map(std::cell::Cell::take)
                    .expect("one for each of the two");
                End {
                    socket,
                    other,
                    into_pipe,
                    out_of_pipe,
                    held_bytes: 0,
                }
            });
        }
        Ok(())
    }

    fn push_both(&mut self, number: usize) {
        let Some(other) = self.ends.of(number).map(|end| end.other) else {
            return;
        };
        for (from, to) in [(number, other), (other, number)] {
            loop {
                match self.push(from, to) {
                    Moved::Some => {}
                    Moved::Nothing => break,
                    Moved::Ended => {
                        self.ends.remove(from);
                        self.ends.remove(to);
                        return;
                    }
                }
            }
        }
    }

    /// Moves what can be moved without a wait from one socket to the other.
    fn push(&mut self, from: usize, to: usize) -> Moved {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let Some(source) = self.ends.of(from) else {
            return Moved::Ended;
        };
        let taken = splice(
            &source.socket,
            None,
            &source.into_pipe,
            None,
            PIPE_BYTES,
            flags,
        );
        let held = source.held_bytes + taken.unwrap_or(0);
        let Some(destination) = self.ends.of(to) else {
            return Moved::Ended;
        };
        let given = match held {
            0 => Ok(0),
            held => splice(
                &source.out_of_pipe,
                None,
                &destination.socket,
                None,
                held,
                flags,
            ),
        };
        let given = given.unwrap_or(0);
        if let Some(source) = self.ends.of_mut(from) {
            source.held_bytes = held - given;
        }
        match taken {
            Ok(0) if held == given => Moved::Ended,
            Ok(1..) => Moved::Some,
            Err(rustix::io::Errno::AGAIN) | Ok(0) if given > 0 => Moved::Some,
            Err(rustix::io::Errno::AGAIN) | Ok(0) => Moved::Nothing,
            Err(_) => Moved::Ended,
        }
    }
}

fn pipe() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    let (out_of_pipe, into_pipe) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
    fcntl_setpipe_size(&into_pipe, PIPE_BYTES)?;
    Ok((out_of_pipe, into_pipe))
}
