//! A network of one's own: a namespace with nothing in it but loopback, where neither the host's
//! settings nor its traffic count.
//!
//! For measurements, not for serving.

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use std::io;
use std::os::fd::AsRawFd as _;

/// Moves the calling thread, and the threads and processes that it starts from now on, into a new
/// network namespace whose loopback device is up. Sockets that are open stay where they are.
///
/// # Errors
/// As `unshare(2)`: `EPERM` without `CAP_SYS_ADMIN`, `ENOSPC` above the limit of namespaces.
pub fn enter_network() -> io::Result<()> {
    // SAFETY: takes flags alone; a thread may change its network namespace at any time.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        return Err(io::Error::last_os_error());
    }
    bring_loopback_up()
}

fn bring_loopback_up() -> io::Result<()> {
    let (family, flags) = (AddressFamily::INET, SocketFlags::CLOEXEC);
    let socket = socket_with(family, SocketType::DGRAM, flags, None)?;
    let mut name = [0; libc::IFNAMSIZ];
    name[0] = b'l' as libc::c_char;
    name[1] = b'o' as libc::c_char;
    let request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_flags: (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short,
        },
    };
    // SAFETY: the socket is open, and SIOCSIFFLAGS reads an `ifreq`, which `request` is.
    let result = unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS as _,
            &raw const request,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_namespace_has_a_loopback_of_its_own() {
        let outside = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = outside.local_addr().unwrap();
        let seen = std::thread::spawn(move || {
            enter_network()?;
            // The same port is free in here, and what listens on it is reached.
            let inside = TcpListener::bind(address)?;
            TcpStream::connect(address)?;
            io::Result::Ok(inside.accept()?.1.ip() == address.ip())
        });
        match seen.join().unwrap() {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                println!("SKIP a_namespace_has_a_loopback_of_its_own: {error}");
            }
            seen => assert!(seen.unwrap()),
        }
    }
}
