//! What the relays share: one connection to the upstream for each client, kept as long as that stays.

use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};

/// The client with its connection to the upstream, neither of which gathers small messages.
pub(super) fn connect(client: OwnedFd, upstream_port: u16) -> std::io::Result<[OwnedFd; 2]> {
    let upstream = TcpStream::connect((Ipv4Addr::LOCALHOST, upstream_port))?;
    let pair = [client, upstream.into()];
    for socket in &pair {
        rustix::net::sockopt::set_tcp_nodelay(socket, true)?;
    }
    Ok(pair)
}

/// Both sides of each pair, by the number of its descriptor.
pub(super) struct Ends<T>(Vec<Option<T>>);

impl<T> Ends<T> {
    pub(super) fn new() -> Ends<T> {
        Ends(Vec::new())
    }

    /// Keeps the two sides of a pair; each is made of its socket and the other's number.
    pub(super) fn add(&mut self, pair: [OwnedFd; 2], make: impl Fn(OwnedFd, usize) -> T) {
        let numbers = [pair[0].as_raw_fd() as usize, pair[1].as_raw_fd() as usize];
        for (index, socket) in pair.into_iter().enumerate() {
            let at = numbers[index];
            if self.0.len() <= at {
                self.0.resize_with(at + 1, || None);
            }
            self.0[at] = Some(make(socket, numbers[1 - index]));
        }
    }

    pub(super) fn of(&self, number: usize) -> Option<&T> {
        self.0.get(number)?.as_ref()
    }

    pub(super) fn of_mut(&mut self, number: usize) -> Option<&mut T> {
        self.0.get_mut(number)?.as_mut()
    }

    pub(super) fn remove(&mut self, number: usize) -> Option<T> {
        self.0.get_mut(number)?.take()
    }
}
