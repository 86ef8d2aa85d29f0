//! The least that a request costs with several threads, in the two ways to share the work out: each
//! with a listener and an epoll instance of its own, or all with one of each.

use super::BACKLOG;
use super::epoll::serve;
use crate::cpu;
use rustix::event::epoll;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

const EVENTS_LIMIT: usize = 64;

/// Answers every receive at `port` of loopback with `response` on `count` threads, for as long as the
/// process lives. Nothing is shared: the kernel spreads the connections over the listeners
/// (`SO_REUSEPORT`), and each thread stays on a CPU of its own.
///
/// # Errors
/// As `bind(2)` and `epoll_wait(2)`.
pub fn serve_per_core(port: u16, count: usize, response: &[u8]) -> io::Result<()> {
    let listeners: Vec<OwnedFd> = (0..count)
        .map(|_| listen(port))
        .collect::<io::Result<_>>()?;
    let work = |listener: OwnedFd| serve(&listener, response);
    on_threads(listeners, &work)
}

/// The same with one listener, one epoll instance and one table of connections for all threads. An
/// event goes to one of them and is off until that has answered (`EPOLLONESHOT`).
///
/// # Errors
/// As `bind(2)` and `epoll_wait(2)`.
pub fn serve_shared(port: u16, count: usize, response: &[u8]) -> io::Result<()> {
    let listener = listen(port)?;
    rustix::io::ioctl_fionbio(&listener, true)?;
    let shared = Shared {
        poll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
        listener,
        connections: Mutex::new(Vec::new()),
    };
    shared.watch(&shared.listener)?;
    let work = |()| shared.turn_forever(response);
    on_threads(vec![(); count], &work)
}

/// Runs `work` for each of `shares` on a thread that stays on one CPU; ends with the first that fails.
fn on_threads<T: Send>(
    shares: Vec<T>,
    work: &(impl Fn(T) -> rustix::io::Result<()> + Sync),
) -> io::Result<()> {
    let cpus = cpu::allowed()?;
    thread::scope(|scope| {
        let mut running = Vec::new();
        for (index, share) in shares.into_iter().enumerate() {
            let cpu = cpus[index % cpus.len()];
            running.push(scope.spawn(move || {
                cpu::pin_current_thread(cpu)?;
                io::Result::Ok(work(share)?)
            }));
        }
        running.into_iter().try_for_each(|thread| {
            let ended = thread.join();
            ended.unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
        })
    })
}

fn listen(port: u16) -> io::Result<OwnedFd> {
    let (family, flags) = (AddressFamily::INET, SocketFlags::CLOEXEC);
    let socket = net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    net::bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

struct Shared {
    poll: OwnedFd,
    listener: OwnedFd,
    /// Indexed by the socket's number.
    connections: Mutex<Vec<Option<Arc<OwnedFd>>>>,
}

impl Shared {
    fn turn_forever(&self, response: &[u8]) -> rustix::io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS_LIMIT);
        let mut request = [0_u8; 4096];
        loop {
            events.clear();
            let spare = rustix::buffer::spare_capacity(&mut events);
            epoll::wait(&self.poll, spare, None)?;
            for event in &events {
                match event.data.u64() as usize {
                    index if index == self.listener.as_raw_fd() as usize => self.accept_all()?,
                    index => self.answer(index, response, &mut request)?,
                }
            }
        }
    }

    fn accept_all(&self) -> rustix::io::Result<()> {
        while let Ok(connection) = net::accept_with(&self.listener, SocketFlags::NONBLOCK) {
            let index = connection.as_raw_fd() as usize;
            let connection = Arc::new(connection);
            let mut connections = self.connections();
            if connections.len() <= index {
                connections.resize_with(index + 1, || None);
            }
            connections[index] = Some(Arc::clone(&connection));
            drop(connections);
            self.watch(&connection)?;
        }
        self.watch_again(&self.listener)
    }

    fn answer(&self, index: usize, response: &[u8], request: &mut [u8]) -> rustix::io::Result<()> {
        let Some(connection) = self.connections().get(index).cloned().flatten() else {
            return Ok(());
        };
        match net::recv(&connection, request, RecvFlags::empty()) {
            Ok((1.., _)) => {
                // A failed send is followed by the end of the connection.
                _ = net::send(&connection, response, SendFlags::NOSIGNAL);
                self.watch_again(&connection)
            }
            _ => {
                // Whoever holds it last closes it, and its event is off until then.
                self.connections()[index] = None;
                Ok(())
            }
        }
    }

    fn connections(&self) -> std::sync::MutexGuard<'_, Vec<Option<Arc<OwnedFd>>>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self, socket: &OwnedFd) -> rustix::io::Result<()> {
        let name = epoll::EventData::new_u64(socket.as_raw_fd() as u64);
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
        epoll::add(&self.poll, socket, name, flags)
    }

    fn watch_again(&self, socket: &OwnedFd) -> rustix::io::Result<()> {
        let name = epoll::EventData::new_u64(socket.as_raw_fd() as u64);
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
        epoll::modify(&self.poll, socket, name, flags)
    }
}
