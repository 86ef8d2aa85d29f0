//! Sockets of the real kernel: making them, their options, and the calls that never wait.
//!
//! Shared by the `uring` and `epoll` drivers. What waits (accept, receive, send, connect) is an
//! operation of the driver instead.

use crate::driver::SendParts;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long binding is tried again while the port is in use: a killed io_uring process lets go of
/// its listener some milliseconds after its end.
const BIND_PATIENCE: Duration = Duration::from_millis(1500);

/// When the kernel probes a silent peer (`SO_KEEPALIVE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe (`TCP_KEEPIDLE`); whole seconds, at least one.
    pub idle: Duration,
    /// Between probes (`TCP_KEEPINTVL`); whole seconds, at least one.
    pub interval: Duration,
    /// Unanswered probes until the connection is given up (`TCP_KEEPCNT`).
    pub count: u32,
}

/// Options of a stream socket. Accepted connections inherit those of their listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// Send small segments at once (`TCP_NODELAY`). Default: on.
    pub nodelay: bool,
    /// Report writability only below this many unsent bytes (`TCP_NOTSENT_LOWAT`).
    pub notsent_lowat: Option<u32>,
    /// Probe silent peers.
    pub keepalive: Option<Keepalive>,
    /// Give up when sent data stays unacknowledged for this long (`TCP_USER_TIMEOUT`).
    pub user_timeout: Option<Duration>,
    /// Congestion control by name (`TCP_CONGESTION`), such as `cubic`.
    pub congestion: Option<String>,
    /// Fixed send buffer in bytes (`SO_SNDBUF`). Default: none, the kernel tunes it.
    pub send_buffer: Option<usize>,
    /// Fixed receive buffer in bytes (`SO_RCVBUF`). Default: none, the kernel tunes it.
    pub receive_buffer: Option<usize>,
}

impl Default for SocketOptions {
    fn default() -> SocketOptions {
        SocketOptions {
            nodelay: true,
            notsent_lowat: None,
            keepalive: None,
            user_timeout: None,
            congestion: None,
            send_buffer: None,
            receive_buffer: None,
        }
    }
}

/// Options of a listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenOptions {
    /// Connections that may wait to be accepted (`listen(2)`); the kernel caps it at
    /// `net.core.somaxconn`. Default: 4,096.
    pub backlog: u32,
    /// An IPv6 wildcard doesn't accept IPv4 as well (`IPV6_V6ONLY`). Default: off (dual stack).
    pub only_v6: bool,
    /// TCP Fast Open with this many pending requests (`TCP_FASTOPEN`).
    pub fast_open: Option<u32>,
    /// Wake only when data has arrived, or after this time (`TCP_DEFER_ACCEPT`; whole seconds).
    pub defer_accept: Option<Duration>,
    /// What every accepted connection starts with.
    pub socket: SocketOptions,
}

impl Default for ListenOptions {
    fn default() -> ListenOptions {
        ListenOptions {
            backlog: 4096,
            only_v6: false,
            fast_open: None,
            defer_accept: None,
            socket: SocketOptions::default(),
        }
    }
}

/// A listening socket on its way to the worker that will accept from it.
#[derive(Debug)]
pub struct ListenSocket {
    descriptor: OwnedFd,
}

impl ListenSocket {
    /// Binds `count` sockets to one address, among which the kernel spreads the connections
    /// (`SO_REUSEPORT`). Port 0 is chosen by the kernel, once for all of them.
    ///
    /// The first is bound without that option, so that a second instance is refused instead of
    /// quietly taking a share of the connections; then its siblings may join. While the port is in
    /// use it is tried again for a second and a half: a killed process lets go of it a little late.
    ///
    /// # Errors
    /// As `socket(2)`, `setsockopt(2)`, `bind(2)` and `listen(2)`.
    pub fn bind_group(
        address: SocketAddr,
        count: usize,
        options: &ListenOptions,
    ) -> io::Result<Vec<ListenSocket>> {
        let first = bind_patiently(address, options)?;
        let bound = local_address(first.as_fd())?;
        let mut sockets = vec![first];
        if count > 1 {
            set_int(sockets[0].as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
        }
        for _ in 1..count {
            sockets.push(sibling(&bound, options)?);
        }
        for socket in &sockets {
            rustix::net::listen(socket, backlog(options))?;
        }
        Ok(sockets
            .into_iter()
            .map(|descriptor| ListenSocket { descriptor })
            .collect())
    }

    /// Binds one more socket beside those of a group that is in use.
    ///
    /// # Errors
    /// As [`ListenSocket::bind_group`].
    pub fn bind_sibling(address: SocketAddr, options: &ListenOptions) -> io::Result<ListenSocket> {
        let descriptor = sibling(&address, options)?;
        rustix::net::listen(&descriptor, backlog(options))?;
        Ok(ListenSocket { descriptor })
    }

    /// Binds the first socket of a group anew, when none of its sockets is left: exclusively, as
    /// [`ListenSocket::bind_group`] does but only once; then siblings may join.
    ///
    /// # Errors
    /// As [`ListenSocket::bind_group`].
    pub fn bind_first(address: SocketAddr, options: &ListenOptions) -> io::Result<ListenSocket> {
        let descriptor = listening_socket(&address, options)?;
        rustix::net::bind(&descriptor, &address)?;
        set_int(descriptor.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
        rustix::net::listen(&descriptor, backlog(options))?;
        Ok(ListenSocket { descriptor })
    }

    /// The address it is bound to, with the port that the kernel chose for port 0.
    ///
    /// # Errors
    /// As `getsockname(2)`.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        local_address(self.descriptor.as_fd())
    }

    /// The same socket by another descriptor.
    pub(crate) fn try_clone(&self) -> io::Result<ListenSocket> {
        let descriptor = self.descriptor.try_clone()?;
        Ok(ListenSocket { descriptor })
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    pub(crate) fn into_descriptor(self) -> OwnedFd {
        self.descriptor
    }
}

fn sibling(address: &SocketAddr, options: &ListenOptions) -> io::Result<OwnedFd> {
    let socket = listening_socket(address, options)?;
    set_int(socket.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    rustix::net::bind(&socket, address)?;
    Ok(socket)
}

fn backlog(options: &ListenOptions) -> i32 {
    clamp(options.backlog)
}

fn bind_patiently(address: SocketAddr, options: &ListenOptions) -> io::Result<OwnedFd> {
    let started = Instant::now();
    loop {
        let socket = listening_socket(&address, options)?;
        match rustix::net::bind(&socket, &address) {
            Ok(()) => return Ok(socket),
            Err(Errno::ADDRINUSE) if started.elapsed() < BIND_PATIENCE => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn listening_socket(address: &SocketAddr, options: &ListenOptions) -> io::Result<OwnedFd> {
    let socket = stream_socket(address)?;
    let fd = socket.as_fd();
    // Connections of a server that has just ended may linger in TIME_WAIT on this port.
    set_int(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    if address.is_ipv6() {
        set_int(
            fd,
            libc::IPPROTO_IPV6,
            libc::IPV6_V6ONLY,
            i32::from(options.only_v6),
        )?;
    }
    if let Some(queue) = options.fast_open {
        set_int(fd, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, clamp(queue))?;
    }
    if let Some(wait) = options.defer_accept {
        set_int(fd, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, seconds(wait))?;
    }
    apply(fd, &options.socket)?;
    Ok(socket)
}

/// Where a connection goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Destination {
    /// To a port, over IPv4 or IPv6.
    Tcp(SocketAddr),
    /// To a socket of this machine's file system (`unix(7)`); at most 107 bytes of path.
    Unix(PathBuf),
}

impl From<SocketAddr> for Destination {
    fn from(address: SocketAddr) -> Destination {
        Destination::Tcp(address)
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Destination::Tcp(address) => address.fmt(out),
            Destination::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

/// A stream socket to connect with. Of the options, a Unix socket has the buffers alone.
pub(crate) fn connecting_socket(
    destination: &Destination,
    options: &SocketOptions,
) -> io::Result<OwnedFd> {
    match destination {
        Destination::Tcp(address) => {
            let socket = stream_socket(address)?;
            apply(socket.as_fd(), options)?;
            Ok(socket)
        }
        Destination::Unix(_) => {
            let socket = open_stream(AddressFamily::UNIX)?;
            apply_buffers(socket.as_fd(), options)?;
            Ok(socket)
        }
    }
}

fn stream_socket(address: &SocketAddr) -> io::Result<OwnedFd> {
    open_stream(if address.is_ipv6() {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    })
}

fn open_stream(family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(
        family,
        SocketType::STREAM,
        flags,
        None,
    )?)
}

fn apply(fd: BorrowedFd<'_>, options: &SocketOptions) -> io::Result<()> {
    let tcp = |name, value| set_int(fd, libc::IPPROTO_TCP, name, value);
    tcp(libc::TCP_NODELAY, i32::from(options.nodelay))?;
    if let Some(bytes) = options.notsent_lowat {
        tcp(libc::TCP_NOTSENT_LOWAT, clamp(bytes))?;
    }
    if let Some(keepalive) = options.keepalive {
        set_int(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)?;
        tcp(libc::TCP_KEEPIDLE, seconds(keepalive.idle))?;
        tcp(libc::TCP_KEEPINTVL, seconds(keepalive.interval))?;
        tcp(libc::TCP_KEEPCNT, clamp(keepalive.count))?;
    }
    if let Some(timeout) = options.user_timeout {
        tcp(
            libc::TCP_USER_TIMEOUT,
            timeout.as_millis().min(i32::MAX as u128) as i32,
        )?;
    }
    if let Some(name) = &options.congestion {
        rustix::net::sockopt::set_tcp_congestion(fd, name)?;
    }
    apply_buffers(fd, options)
}

fn apply_buffers(fd: BorrowedFd<'_>, options: &SocketOptions) -> io::Result<()> {
    for (name, bytes) in [
        (libc::SO_SNDBUF, options.send_buffer),
        (libc::SO_RCVBUF, options.receive_buffer),
    ] {
        if let Some(bytes) = bytes {
            set_int(
                fd,
                libc::SOL_SOCKET,
                name,
                bytes.min(i32::MAX as usize) as i32,
            )?;
        }
    }
    Ok(())
}

fn clamp(value: u32) -> i32 {
    value.min(i32::MAX as u32) as i32
}

/// Whole seconds, at least one: the kernel refuses zero.
fn seconds(duration: Duration) -> i32 {
    duration.as_secs().clamp(1, i32::MAX as u64) as i32
}

fn set_int(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    let size = size_of::<i32>() as libc::socklen_t;
    // SAFETY: `value` lives across the call and `size` is its size; the kernel only reads it.
    let result =
        unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), size) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

pub(crate) fn local_address(fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let address = rustix::net::getsockname(fd)?;
    SocketAddr::try_from(address).map_err(io::Error::from)
}

pub(crate) fn peer_address(fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let Some(address) = rustix::net::getpeername(fd)? else {
        return Err(io::ErrorKind::NotConnected.into());
    };
    SocketAddr::try_from(address).map_err(io::Error::from)
}

/// The CPU that received the connection's last packet.
pub(crate) fn incoming_cpu(fd: BorrowedFd<'_>) -> io::Result<u32> {
    Ok(rustix::net::sockopt::socket_incoming_cpu(fd)?)
}

/// Where `tcpi_bytes_acked` lies in `struct tcp_info` (linux/tcp.h; since Linux 4.1, and what comes
/// before it never changes): behind 8 bytes, 24 numbers of 4, and two of 8.
const BYTES_ACKED_AT: usize = 8 + 24 * 4 + 2 * 8;

pub(crate) fn acknowledged_bytes(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let mut info = [0u8; BYTES_ACKED_AT + 8];
    let mut length = info.len() as libc::socklen_t;
    let (place, size) = (info.as_mut_ptr().cast(), &raw mut length);
    // SAFETY: the kernel writes at most `length` bytes to `info`, which is that long.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            place,
            size,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let bytes = info[BYTES_ACKED_AT..]
        .first_chunk()
        .expect("eight bytes are left");
    Ok(u64::from_ne_bytes(*bytes))
}

pub(crate) fn shutdown(fd: BorrowedFd<'_>, how: Shutdown) -> io::Result<()> {
    let how = match how {
        Shutdown::Read => rustix::net::Shutdown::Read,
        Shutdown::Write => rustix::net::Shutdown::Write,
        Shutdown::Both => rustix::net::Shutdown::Both,
    };
    Ok(rustix::net::shutdown(fd, how)?)
}

pub(crate) fn reset_on_close(fd: BorrowedFd<'_>, is_on: bool) -> io::Result<()> {
    let linger = is_on.then_some(Duration::ZERO);
    Ok(rustix::net::sockopt::set_socket_linger(fd, linger)?)
}

pub(crate) fn send_now(fd: BorrowedFd<'_>, bytes: &[u8], more_follows: bool) -> io::Result<usize> {
    Ok(send_raw(fd, bytes, more_follows)?)
}

/// Sends at once what fits of one message.
///
/// # Safety
/// The pointers in `parts` are valid for the duration of the call.
pub(crate) unsafe fn send_parts(fd: BorrowedFd<'_>, parts: &SendParts) -> io::Result<usize> {
    if !parts.is_gathered() {
        let (start, length) = (parts.first.iov_base.cast::<u8>(), parts.first.iov_len);
        // SAFETY: the caller keeps the bytes valid for the duration of the call.
        let bytes = unsafe { std::slice::from_raw_parts(start, length) };
        return rustix::io::retry_on_intr(|| send_raw(fd, bytes, parts.more_follows))
            .map_err(io::Error::from);
    }
    let mut flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    if parts.more_follows {
        flags |= libc::MSG_MORE;
    }
    loop {
        // SAFETY: the caller keeps the message and what it points to valid.
        let count = unsafe { libc::sendmsg(fd.as_raw_fd(), parts.message, flags) };
        if count >= 0 {
            return Ok(count as usize);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

fn send_raw(fd: BorrowedFd<'_>, bytes: &[u8], more_follows: bool) -> rustix::io::Result<usize> {
    let mut flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    if more_follows {
        flags |= SendFlags::MORE;
    }
    rustix::net::send(fd, bytes, flags)
}

pub(crate) fn receive_now(fd: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<usize> {
    let (count, _) = rustix::net::recv(fd, bytes, RecvFlags::DONTWAIT)?;
    Ok(count)
}

/// Whether a receive would have to wait.
pub(crate) fn is_silent(fd: BorrowedFd<'_>) -> bool {
    let mut byte = [0];
    let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
    matches!(
        rustix::net::recv(fd, &mut byte, flags),
        Err(Errno::AGAIN | Errno::INTR)
    )
}

/// Whether there is room to send, or an error to be told of. When there is none, the kernel notes that
/// somebody wants to hear of the next (`tcp_poll` sets `SOCK_NOSPACE`, seen in Linux 6.18), and an
/// edge-triggered epoll is told.
pub(crate) fn is_writable(fd: BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::new(&fd, PollFlags::OUT)];
    // Where nothing can be learnt, whoever sends will see.
    !matches!(poll(&mut polled, Some(&Timespec::default())), Ok(0))
}

pub(crate) fn send_file(
    fd: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    offset: u64,
    count: usize,
) -> io::Result<usize> {
    let mut offset = offset;
    Ok(rustix::fs::sendfile(fd, file, Some(&mut offset), count)?)
}

/// An address in the form that `connect(2)` reads, kept in a slot while it does.
pub(crate) struct ConnectAddress {
    storage: libc::sockaddr_storage,
    length: libc::socklen_t,
    /// The same as it was given, for the simulator.
    pub(crate) tcp: Option<SocketAddr>,
}

impl ConnectAddress {
    /// # Errors
    /// `InvalidInput` for the path of a socket that no address can hold: empty, longer than 107
    /// bytes, or with a NUL.
    pub(crate) fn new(destination: &Destination) -> io::Result<ConnectAddress> {
        // SAFETY: all-zero bytes are a valid sockaddr_storage (family AF_UNSPEC).
        let storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
        let mut address = ConnectAddress {
            storage,
            length: 0,
            tcp: None,
        };
        match destination {
            Destination::Tcp(tcp) => address.set_tcp(*tcp),
            Destination::Unix(path) => address.set_unix(path.as_os_str().as_bytes())?,
        }
        Ok(address)
    }

    fn set_tcp(&mut self, address: SocketAddr) {
        self.tcp = Some(address);
        match address {
            SocketAddr::V4(v4) => self.set(libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(v4.ip().octets()),
                },
                sin_zero: [0; 8],
            }),
            SocketAddr::V6(v6) => self.set(libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr {
                    s6_addr: v6.ip().octets(),
                },
                sin6_scope_id: v6.scope_id(),
            }),
        }
    }

    fn set_unix(&mut self, path: &[u8]) -> io::Result<()> {
        let mut raw = libc::sockaddr_un {
            sun_family: libc::AF_UNIX as libc::sa_family_t,
            sun_path: [0; 108],
        };
        // The last byte stays NUL, and a first one would name something outside of the file system.
        let fits = !path.is_empty() && path.len() < raw.sun_path.len() && !path.contains(&0);
        if !fits {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        for (place, byte) in raw.sun_path.iter_mut().zip(path) {
            *place = *byte as libc::c_char;
        }
        self.set(raw);
        Ok(())
    }

    /// Keeps a `sockaddr` of any family.
    fn set<T>(&mut self, raw: T) {
        const { assert!(size_of::<T>() <= size_of::<libc::sockaddr_storage>()) };
        const { assert!(align_of::<T>() <= align_of::<libc::sockaddr_storage>()) };
        // SAFETY: a sockaddr_storage is large and aligned enough, as was just asserted.
        unsafe { (&raw mut self.storage).cast::<T>().write(raw) };
        self.length = size_of::<T>() as libc::socklen_t;
    }

    pub(crate) fn as_ptr(&self) -> *const libc::sockaddr {
        (&raw const self.storage).cast()
    }

    pub(crate) fn length(&self) -> libc::socklen_t {
        self.length
    }
}

/// `connect(2)`, which doesn't wait: most likely it is `EINPROGRESS`.
pub(crate) fn connect_now(fd: BorrowedFd<'_>, address: &ConnectAddress) -> io::Result<()> {
    // SAFETY: the address is a whole sockaddr of `length` bytes, which the kernel only reads.
    let result = unsafe { libc::connect(fd.as_raw_fd(), address.as_ptr(), address.length()) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    const ANY_PORT: &str = "127.0.0.1:0";

    #[test]
    fn siblings_share_the_port_and_a_stranger_is_refused() {
        let options = ListenOptions::default();
        let group = ListenSocket::bind_group(ANY_PORT.parse().unwrap(), 3, &options).unwrap();
        let address = group[0].local_address().unwrap();
        assert!(
            group
                .iter()
                .all(|socket| socket.local_address().unwrap() == address)
        );
        let second = ListenSocket::bind_group(address, 3, &options);
        assert_eq!(second.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_group_begun_anew_lets_siblings_in_and_joins_nobody() {
        let options = ListenOptions::default();
        let first = ListenSocket::bind_first(ANY_PORT.parse().unwrap(), &options).unwrap();
        let address = first.local_address().unwrap();
        let _sibling = ListenSocket::bind_sibling(address, &options).unwrap();
        let second = ListenSocket::bind_first(address, &options);
        assert_eq!(second.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn options_reach_the_socket() {
        let socket = SocketOptions {
            keepalive: Some(Keepalive {
                idle: Duration::from_secs(30),
                interval: Duration::from_secs(5),
                count: 4,
            }),
            user_timeout: Some(Duration::from_secs(20)),
            notsent_lowat: Some(16384),
            ..SocketOptions::default()
        };
        let options = ListenOptions {
            // What the kernel makes of other numbers are times at which it would repeat its answer.
            defer_accept: Some(Duration::from_secs(3)),
            fast_open: Some(17),
            socket: socket.clone(),
            ..ListenOptions::default()
        };
        let group = ListenSocket::bind_group(ANY_PORT.parse().unwrap(), 1, &options).unwrap();
        let fd = &group[0].descriptor;
        assert_eq!(tcp_option(fd, libc::TCP_DEFER_ACCEPT), 3);
        assert_eq!(tcp_option(fd, libc::TCP_FASTOPEN), 17);
        assert_eq!(tcp_option(fd, libc::TCP_NOTSENT_LOWAT), 16384);
        let address = group[0].local_address().unwrap();
        let connecting = connecting_socket(&address.into(), &socket).unwrap();
        assert_eq!(tcp_option(&connecting, libc::TCP_NOTSENT_LOWAT), 16384);
        use rustix::net::sockopt;
        assert!(sockopt::tcp_nodelay(fd).unwrap());
        assert_eq!(sockopt::tcp_keepidle(fd).unwrap(), Duration::from_secs(30));
        assert_eq!(sockopt::tcp_keepcnt(fd).unwrap(), 4);
        assert_eq!(sockopt::tcp_user_timeout(fd).unwrap(), 20_000);
    }

    /// Neither std nor rustix asks for these.
    fn tcp_option(socket: &OwnedFd, name: i32) -> i32 {
        let mut value = 0_i32;
        let mut length = size_of::<i32>() as libc::socklen_t;
        let (place, size) = ((&raw mut value).cast(), &raw mut length);
        // SAFETY: the kernel writes at most `length` bytes to `value`, which is that long.
        let result =
            unsafe { libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, name, place, size) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
        value
    }

    /// Those of the direction to the peer, which the kernel copies from the listener.
    #[test]
    fn an_accepted_socket_has_its_listener_s_limit_of_unsent_bytes() {
        let mut options = ListenOptions::default();
        options.socket.notsent_lowat = Some(12_345);
        let group = ListenSocket::bind_group(ANY_PORT.parse().unwrap(), 1, &options).unwrap();
        let listener = &group[0].descriptor;
        rustix::io::ioctl_fionbio(listener, false).unwrap();
        let _client = std::net::TcpStream::connect(group[0].local_address().unwrap()).unwrap();
        let accepted = rustix::net::accept(listener).unwrap();
        assert_eq!(tcp_option(&accepted, libc::TCP_NOTSENT_LOWAT), 12_345);
    }

    #[test]
    fn a_path_that_no_address_can_hold_is_refused() {
        let check = |path: Vec<u8>| {
            let path = std::ffi::OsString::from_vec(path);
            ConnectAddress::new(&Destination::Unix(path.into())).map(|address| address.length())
        };
        assert_eq!(check(vec![b'a'; 107]).unwrap(), 110);
        for path in [vec![], vec![b'a'; 108], b"a\0b".to_vec()] {
            let refused = check(path).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn an_unknown_congestion_control_is_an_error() {
        let mut options = ListenOptions::default();
        options.socket.congestion = Some("no-such-thing".to_owned());
        assert!(ListenSocket::bind_group(ANY_PORT.parse().unwrap(), 1, &options).is_err());
    }
}
