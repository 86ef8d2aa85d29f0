//! The least that a large file costs.
//!
//! The head goes first and waits in the socket (`MSG_MORE`) for the file, so that both share a
//! segment. Then `sendfile` until the socket is full or the file has gone, and epoll in between.

use super::head;
use rustix::event::epoll;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};
use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};

const EVENTS_LIMIT: usize = 1024;

/// Answers every receive with a head and `file`, for as long as the process lives.
///
/// # Errors
/// As `fstat(2)` and `epoll_wait(2)`.
pub fn serve_file(listener: TcpListener, file: File) -> io::Result<()> {
    let listener = OwnedFd::from(listener);
    let length = file.metadata()?.len();
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let head = head(length);
    let mut server = Server {
        listener,
        poll,
        file,
        length,
        head,
        connections: Vec::new(),
    };
    Ok(server.turn_forever()?)
}

struct Server {
    listener: OwnedFd,
    poll: OwnedFd,
    file: File,
    length: u64,
    head: Vec<u8>,
    /// Indexed by the socket's number.
    connections: Vec<Option<Connection>>,
}

struct Connection {
    socket: OwnedFd,
    /// How much of the file has gone, while a response is under way.
    sent: Option<u64>,
}

/// What a connection waits for next.
enum Next {
    Readable,
    Writable,
    Nothing,
}

impl Server {
    fn turn_forever(&mut self) -> rustix::io::Result<()> {
        rustix::io::ioctl_fionbio(&self.listener, true)?;
        let listener = self.listener.as_raw_fd() as usize;
        epoll::add(
            &self.poll,
            &self.listener,
            name(listener),
            epoll::EventFlags::IN,
        )?;
        let mut events = Vec::with_capacity(EVENTS_LIMIT);
        loop {
            events.clear();
            epoll::wait(
                &self.poll,
                rustix::buffer::spare_capacity(&mut events),
                None,
            )?;
            for event in &events {
                match event.data.u64() as usize {
                    index if index == listener => self.accept_all()?,
                    index => self.advance(index)?,
                }
            }
        }
    }

    fn accept_all(&mut self) -> rustix::io::Result<()> {
        while let Ok(socket) = rustix::net::accept_with(&self.listener, SocketFlags::NONBLOCK) {
            let index = socket.as_raw_fd() as usize;
            epoll::add(&self.poll, &socket, name(index), epoll::EventFlags::IN)?;
            if self.connections.len() <= index {
                self.connections.resize_with(index + 1, || None);
            }
            self.connections[index] = Some(Connection { socket, sent: None });
        }
        Ok(())
    }

    fn advance(&mut self, index: usize) -> rustix::io::Result<()> {
        let Some(connection) = &mut self.connections[index] else {
            return Ok(());
        };
        let was_sending = connection.sent.is_some();
        let events = match connection.advance(&self.head, &self.file, self.length) {
            Next::Readable if was_sending => epoll::EventFlags::IN,
            Next::Writable if !was_sending => epoll::EventFlags::OUT,
            Next::Readable | Next::Writable => return Ok(()),
            Next::Nothing => {
                self.connections[index] = None;
                return Ok(());
            }
        };
        epoll::modify(&self.poll, &connection.socket, name(index), events)
    }
}

impl Connection {
    fn advance(&mut self, head: &[u8], file: &File, length: u64) -> Next {
        let mut sent = match self.sent {
            Some(sent) => sent,
            None => {
                let mut request = [0_u8; 4096];
                match rustix::net::recv(&self.socket, &mut request[..], RecvFlags::empty()) {
                    Ok((1.., _)) => {}
                    _ => return Next::Nothing,
                }
                let flags = SendFlags::NOSIGNAL | SendFlags::MORE;
                if rustix::net::send(&self.socket, head, flags) != Ok(head.len()) {
                    return Next::Nothing;
                }
                0
            }
        };
        while sent < length {
            let wanted = (length - sent) as usize;
            match rustix::fs::sendfile(&self.socket, file, Some(&mut sent), wanted) {
                Ok(1..) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    self.sent = Some(sent);
                    return Next::Writable;
                }
                Ok(0) | Err(_) => return Next::Nothing, // the file shrank, or the client left
            }
        }
        self.sent = None;
        Next::Readable
    }
}

fn name(index: usize) -> epoll::EventData {
    epoll::EventData::new_u64(index as u64)
}
