//! `MSG_ZEROCOPY`: sends whose bytes stay where they are until the kernel says that it has done
//! with them, in the socket's error queue.
//!
//! Each successful send has a number, counted by the kernel from 0 for each socket; a notification
//! covers a range of them (`Documentation/networking/msg_zerocopy.rst`).

use rustix::io::Errno;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The kernel has done with the bytes of some sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Notification {
    pub(crate) first: u32,
    /// The last one, included; less than `first` when the numbers have wrapped in between.
    pub(crate) last: u32,
    /// The bytes were copied after all (`SO_EE_CODE_ZEROCOPY_COPIED`), as on the loopback always.
    pub(crate) was_copied: bool,
}

impl Notification {
    pub(crate) fn covers(&self, number: u32) -> bool {
        number.wrapping_sub(self.first) <= self.last.wrapping_sub(self.first)
    }
}

/// Allows `MSG_ZEROCOPY` on a socket (`SO_ZEROCOPY`, Linux 4.14).
pub(crate) fn allow(socket: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `on` lives across the call, and `size` is its size; the kernel only reads it.
    let result = unsafe {
        let value = (&raw const on).cast();
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ZEROCOPY,
            value,
            size,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Sends at once what fits, without copying it.
///
/// # Safety
/// `count` bytes from `start` stay valid and unchanged until a notification covers this send.
pub(crate) unsafe fn send(
    socket: BorrowedFd<'_>,
    start: *const u8,
    count: usize,
) -> io::Result<usize> {
    let flags = libc::MSG_ZEROCOPY | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the caller keeps the bytes valid; the kernel only reads them.
    let sent = unsafe { libc::send(socket.as_raw_fd(), start.cast(), count, flags) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Sends at once what fits of memory that may vanish while it is read: `EFAULT` instead of a signal,
/// because only the kernel touches it.
pub(crate) fn send_unowned(
    socket: BorrowedFd<'_>,
    start: *const u8,
    count: usize,
) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the kernel copies from the address space with faults handled; an address that isn't
    // mapped (any more) is an error of the call, and nothing is written.
    let sent = unsafe { libc::send(socket.as_raw_fd(), start.cast(), count, flags) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Room for one control message with a `sock_extended_err` and an address behind it.
const CONTROL_BYTES: usize = 128;

/// `struct sock_extended_err` of `linux/errqueue.h`.
#[repr(C)]
#[derive(Clone, Copy)]
struct ExtendedError {
    errno: u32,
    origin: u8,
    kind: u8,
    code: u8,
    pad: u8,
    info: u32,
    data: u32,
}

/// Takes one notification off the error queue; `None` when there is none.
pub(crate) fn take_notification(socket: BorrowedFd<'_>) -> io::Result<Option<Notification>> {
    #[repr(C, align(8))]
    struct Control([u8; CONTROL_BYTES]);
    let mut control = Control([0; CONTROL_BYTES]);
    loop {
        // SAFETY: all-zero bytes are a valid msghdr: null pointers and zero lengths.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = CONTROL_BYTES as _;
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        // SAFETY: the header points to `control` alone, which is as long as it says.
        let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
        if received < 0 {
            let error = io::Error::last_os_error();
            return match Errno::from_io_error(&error) {
                Some(Errno::AGAIN) => Ok(None),
                Some(Errno::INTR) => continue,
                _ => Err(error),
            };
        }
        let length = (message.msg_controllen as usize).min(CONTROL_BYTES);
        if let Some(notification) = parse(&control.0[..length]) {
            return Ok(Some(notification));
        }
        // Some other report (an ICMP error): not ours to act on.
    }
}

/// The notification in a control message (`struct cmsghdr`, then the error), if it is one.
fn parse(control: &[u8]) -> Option<Notification> {
    const HEADER_BYTES: usize = size_of::<libc::cmsghdr>();
    let (header, error) = control.split_at_checked(HEADER_BYTES)?;
    if error.len() < size_of::<ExtendedError>() {
        return None;
    }
    // SAFETY: `header` is as long as the structure, of which every bit pattern is valid.
    let header: libc::cmsghdr = unsafe { header.as_ptr().cast::<libc::cmsghdr>().read_unaligned() };
    // SAFETY: `error` is at least as long as the structure, of which every bit pattern is valid.
    let error = unsafe { error.as_ptr().cast::<ExtendedError>().read_unaligned() };
    let is_error_message = matches!(
        (header.cmsg_level, header.cmsg_type),
        (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR)
    );
    let is_ours = error.origin == SO_EE_ORIGIN_ZEROCOPY && error.errno == 0;
    (is_error_message && is_ours).then_some(Notification {
        first: error.info,
        last: error.data,
        was_copied: error.code & SO_EE_CODE_ZEROCOPY_COPIED != 0,
    })
}

/// `linux/errqueue.h`.
const SO_EE_ORIGIN_ZEROCOPY: u8 = 5;
const SO_EE_CODE_ZEROCOPY_COPIED: u8 = 1;

/// Breaks a connection off so that the kernel lets go of its bytes: the peer gets a reset, what was
/// not sent is dropped, and notifications for it follow. The descriptor stays open.
pub(crate) fn break_off(socket: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::net::connect_unspec(socket)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::time::{Duration, Instant};

    #[test]
    fn a_range_may_wrap() {
        let range = |first, last| Notification {
            first,
            last,
            was_copied: false,
        };
        for (notification, number, expect) in [
            (range(3, 3), 3, true),
            (range(3, 3), 4, false),
            (range(3, 7), 2, false),
            (range(3, 7), 7, true),
            (range(u32::MAX, 1), 0, true),
            (range(u32::MAX, 1), u32::MAX, true),
            (range(u32::MAX, 1), 2, false),
        ] {
            assert_eq!(
                notification.covers(number),
                expect,
                "{notification:?} {number}"
            );
        }
    }

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().unwrap().0, client)
    }

    /// All numbers that are notified within a generous time, until `count` are.
    fn notified(socket: BorrowedFd<'_>, count: usize) -> Vec<(u32, bool)> {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut numbers = Vec::new();
        while numbers.len() < count && Instant::now() < deadline {
            match take_notification(socket).unwrap() {
                None => std::thread::yield_now(),
                Some(it) => numbers.extend((it.first..=it.last).map(|n| (n, it.was_copied))),
            }
        }
        numbers
    }

    #[test]
    fn the_loopback_copies_and_says_so() {
        use std::io::Read;
        let (server, mut client) = pair();
        let socket = server.as_fd();
        allow(socket).unwrap();
        let bytes = vec![5u8; 30_000];
        for _ in 0..3 {
            // SAFETY: the bytes live until the test's end, after all notifications.
            let sent = unsafe { send(socket, bytes.as_ptr(), bytes.len()) };
            assert_eq!(sent.unwrap(), bytes.len());
        }
        client.read_exact(&mut vec![0; 90_000]).unwrap();
        assert_eq!(notified(socket, 3), [(0, true), (1, true), (2, true)]);
    }

    #[test]
    fn breaking_off_lets_go_of_bytes_that_nobody_takes() {
        use std::io::Read;
        let (server, mut client) = pair();
        let socket = server.as_fd();
        allow(socket).unwrap();
        server.set_nonblocking(true).unwrap();
        let bytes = vec![5u8; 1 << 20];
        let mut sends = 0;
        loop {
            // SAFETY: the bytes live until the test's end, after all notifications.
            match unsafe { send(socket, bytes.as_ptr(), bytes.len()) } {
                Ok(_) => sends += 1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        break_off(socket).unwrap();
        assert_eq!(notified(socket, sends).len(), sends);
        let mut received = Vec::new();
        let error = client.read_to_end(&mut received).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
