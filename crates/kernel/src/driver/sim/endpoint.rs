//! The two kinds of simulated socket: a listener, and one end of a stream. State only; what they
//! do to each other is in `network`.

use crate::socket::{ListenOptions, SocketOptions};
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Names one end of a stream for the whole life of a world.
pub(super) type EndpointId = u64;

pub(super) struct Listener {
    pub(super) address: SocketAddr,
    pub(super) options: ListenOptions,
    /// Connected, and waiting to be accepted.
    pub(super) queue: VecDeque<EndpointId>,
    /// It was shut down: an accept fails, and nobody finds it.
    pub(super) is_shut: bool,
}

impl Listener {
    /// Whether a connection to this address ends up here.
    pub(super) fn answers(&self, target: SocketAddr) -> bool {
        if self.is_shut || target.port() != self.address.port() {
            return false;
        }
        let same_family = self.address.is_ipv4() == target.is_ipv4();
        let is_wildcard = self.address.ip().is_unspecified();
        if same_family {
            // A connect to the unspecified address goes to the loopback one.
            return is_wildcard || reachable(target.ip()) == self.address.ip();
        }
        is_wildcard && self.address.is_ipv6() && !self.options.only_v6
    }

    /// An IPv4 address as a dual-stack socket shows it.
    pub(super) fn as_seen_here(&self, address: SocketAddr) -> SocketAddr {
        match address {
            SocketAddr::V4(v4) if self.address.is_ipv6() => {
                SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port())
            }
            other => other,
        }
    }
}

/// The loopback address for the unspecified one, any other as it is.
pub(super) fn reachable(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    }
}

/// One end of a stream.
pub(super) struct Endpoint {
    pub(super) options: SocketOptions,
    /// None before it is accepted and after it was closed.
    pub(super) descriptor: Option<i32>,
    /// None until it is connected.
    pub(super) peer: Option<EndpointId>,
    pub(super) local: SocketAddr,
    pub(super) remote: Option<SocketAddr>,
    /// Arrived, and not received yet.
    pub(super) inbox: VecDeque<u8>,
    /// The peer's end of stream has arrived behind the inbox.
    pub(super) has_ended: bool,
    /// Reported once, by whichever call comes first (`sk_err` in Linux).
    pub(super) error: Option<i32>,
    /// Reset: nothing goes in or out any more.
    pub(super) is_broken: bool,
    pub(super) is_read_shut: bool,
    pub(super) is_write_shut: bool,
    pub(super) is_closed: bool,
    pub(super) resets_on_close: bool,
    /// Bytes that may be under way to the peer, or unread there.
    pub(super) window_bytes: usize,
    /// Bytes that are.
    pub(super) outstanding_bytes: usize,
    /// Bytes that the peer has read, ever.
    pub(super) acknowledged_bytes: u64,
    /// When the last segment to the peer arrives: the next one doesn't overtake it.
    pub(super) last_arrival: u64,
}

impl Endpoint {
    pub(super) fn new(local: SocketAddr, options: SocketOptions) -> Endpoint {
        Endpoint {
            options,
            descriptor: None,
            peer: None,
            local,
            remote: None,
            inbox: VecDeque::new(),
            has_ended: false,
            error: None,
            is_broken: false,
            is_read_shut: false,
            is_write_shut: false,
            is_closed: false,
            resets_on_close: false,
            window_bytes: 0,
            outstanding_bytes: 0,
            acknowledged_bytes: 0,
            last_arrival: 0,
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.peer.is_some() && !self.is_broken
    }

    /// Whether a receive has something to say: bytes, the end of the stream, or an error.
    pub(super) fn is_readable(&self) -> bool {
        !self.inbox.is_empty()
            || self.has_ended
            || self.error.is_some()
            || self.is_broken
            || self.is_read_shut
            || self.peer.is_none()
    }

    pub(super) fn is_writable(&self) -> bool {
        self.error.is_some() || self.is_broken || self.is_write_shut || self.room_bytes() > 0
    }

    fn room_bytes(&self) -> usize {
        self.window_bytes.saturating_sub(self.outstanding_bytes)
    }

    /// What a receive returns when the inbox is empty.
    pub(super) fn take_end(&mut self) -> i32 {
        match self.error.take() {
            Some(errno) => -errno,
            None if self.peer.is_none() => -libc::ENOTCONN,
            None => 0,
        }
    }

    /// How many bytes a send may take now, or its error.
    pub(super) fn take_room(&mut self) -> Result<usize, i32> {
        if let Some(errno) = self.error.take() {
            return Err(errno);
        }
        if !self.is_connected() || self.is_write_shut {
            return Err(libc::EPIPE);
        }
        Ok(self.room_bytes())
    }

    /// A reset has arrived. Linux says `EPIPE` when the end of the stream had come before
    /// (`tcp_reset`).
    pub(super) fn break_off(&mut self, loses_inbox: bool) {
        if self.is_broken {
            return;
        }
        self.error = Some(if self.has_ended {
            libc::EPIPE
        } else {
            libc::ECONNRESET
        });
        self.is_broken = true;
        if loses_inbox {
            self.inbox.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(listener: &str, only_v6: bool, target: &str, expect: bool) {
        let options = ListenOptions {
            only_v6,
            ..ListenOptions::default()
        };
        let address = listener.parse().unwrap();
        let listener = Listener {
            address,
            options,
            queue: VecDeque::new(),
            is_shut: false,
        };
        assert_eq!(
            listener.answers(target.parse().unwrap()),
            expect,
            "{address} {target}"
        );
    }

    #[test]
    fn a_listener_answers_for_its_address() {
        check("127.0.0.1:80", false, "127.0.0.1:80", true);
        check("127.0.0.1:80", false, "127.0.0.1:81", false);
        check("127.0.0.1:80", false, "127.0.0.2:80", false);
        check("127.0.0.1:80", false, "0.0.0.0:80", true);
        check("0.0.0.0:80", false, "127.0.0.2:80", true);
        check("0.0.0.0:80", false, "[::1]:80", false);
        check("[::]:80", false, "[::1]:80", true);
        check("[::]:80", false, "127.0.0.1:80", true);
        check("[::]:80", true, "127.0.0.1:80", false);
    }
}
