//! The least that a request costs with epoll.
//!
//! Level-triggered, so that a request is one receive and one send, and neither ever meets EAGAIN.

use rustix::event::epoll;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

const EVENTS_LIMIT: usize = 1024;

/// Answers every receive with `response`, for as long as the process lives.
///
/// # Errors
/// As `epoll_wait(2)`.
pub fn serve_epoll(listener: TcpListener, response: &[u8]) -> io::Result<()> {
    Ok(serve(&OwnedFd::from(listener), response)?)
}

pub(super) fn serve(listener: &OwnedFd, response: &[u8]) -> rustix::io::Result<()> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(listener, true)?;
    watch(&poll, listener)?;
    let mut connections: Vec<Option<OwnedFd>> = Vec::new();
    let mut events = Vec::with_capacity(EVENTS_LIMIT);
    let mut request = [0_u8; 4096];
    loop {
        events.clear();
        epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in &events {
            let index = event.data.u64() as usize;
            if index == listener.as_raw_fd() as usize {
                accept_all(&poll, listener, &mut connections)?;
                continue;
            }
            let Some(connection) = &connections[index] else {
                continue;
            };
            match rustix::net::recv(connection, &mut request[..], RecvFlags::empty()) {
                Ok((1.., _)) => _ = rustix::net::send(connection, response, SendFlags::NOSIGNAL),
                _ => connections[index] = None,
            }
        }
    }
}

fn accept_all(
    poll: &OwnedFd,
    listener: &OwnedFd,
    connections: &mut Vec<Option<OwnedFd>>,
) -> rustix::io::Result<()> {
    while let Ok(connection) = rustix::net::accept_with(listener, SocketFlags::NONBLOCK) {
        watch(poll, &connection)?;
        let index = connection.as_raw_fd() as usize;
        if connections.len() <= index {
            connections.resize_with(index + 1, || None);
        }
        connections[index] = Some(connection);
    }
    Ok(())
}

fn watch(poll: &OwnedFd, socket: &OwnedFd) -> rustix::io::Result<()> {
    let name = epoll::EventData::new_u64(socket.as_raw_fd() as u64);
    let socket: BorrowedFd<'_> = std::os::fd::AsFd::as_fd(socket);
    epoll::add(poll, socket, name, epoll::EventFlags::IN)
}
