//! The admin listener's socket: bound without a gap in which others could connect, put in the place of
//! one that a killed process has left, removed at the end.

use crate::config::AdminAddress;
use rustix::fs::{Mode, fchmod};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};
use std::fs;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 16;

/// A bound socket.
#[derive(Debug)]
pub(super) enum AdminSocket {
    Unix(UnixListener, SocketFile),
    Tcp(std::net::TcpListener, SocketAddr),
}

/// The file of a socket; it is removed when this is dropped, unless it is another's by then.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl AdminSocket {
    /// Listens on the address.
    ///
    /// # Errors
    /// Why it can't be, with the address and what helps.
    pub(super) fn bind(address: &AdminAddress) -> io::Result<AdminSocket> {
        let bound = match address {
            AdminAddress::Unix { path, mode } => bind_unix(path, *mode),
            AdminAddress::Tcp(socket) => bind_tcp(*socket),
        };
        bound.map_err(|error| {
            let hint = match error.kind() {
                ErrorKind::AddrInUse => "; another process listens there",
                ErrorKind::PermissionDenied => "; this user may not create it there",
                ErrorKind::NotFound => "; its directory doesn't exist",
                _ => "",
            };
            io::Error::new(error.kind(), format!("{address}: {error}{hint}"))
        })
    }

    /// As one can reach it.
    pub(super) fn shown(&self) -> String {
        match self {
            AdminSocket::Unix(_, file) => format!("unix:{}", file.path.display()),
            AdminSocket::Tcp(_, address) => format!("http://{address}/"),
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<AdminSocket> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok(AdminSocket::Tcp(listener, address))
}

fn bind_unix(path: &Path, mode: u32) -> io::Result<AdminSocket> {
    remove_stale(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // Linux gives the file the mode of the socket but for the umask: nobody else can connect in
    // between (`unix_bind_bsd`, since 2.6).
    fchmod(&socket, Mode::from_raw_mode(mode))?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    let metadata = fs::symlink_metadata(path)?;
    let file = SocketFile {
        path: path.to_owned(),
        identity: (metadata.dev(), metadata.ino()),
    };
    // What the umask has taken away.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    listen(&socket, BACKLOG)?;
    Ok(AdminSocket::Unix(UnixListener::from(socket), file))
}

/// Removes the socket file of a process that is no more.
///
/// # Errors
/// Somebody listens there, or what is there is no socket.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            let text = "what is there isn't a socket; remove it, or choose another name";
            return Err(io::Error::new(ErrorKind::AlreadyExists, text));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        // Its backlog may be full (EAGAIN): all the more it is in use.
        Ok(_) => Err(ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(ErrorKind::AddrInUse.into()),
        Err(error) => Err(error),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = |metadata: &fs::Metadata| (metadata.dev(), metadata.ino()) == self.identity;
        if fs::symlink_metadata(&self.path).is_ok_and(|metadata| ours(&metadata)) {
            // What can't be removed is stale from now on, and replaced by the next process.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unix(path: &Path, mode: u32) -> AdminAddress {
        AdminAddress::Unix {
            path: path.to_owned(),
            mode,
        }
    }

    #[test]
    fn the_file_has_its_mode_and_goes_with_the_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        for mode in [0o600, 0o660, 0o666] {
            let socket = AdminSocket::bind(&unix(&path, mode)).unwrap();
            let permissions = fs::metadata(&path).unwrap().permissions();
            assert_eq!(permissions.mode() & 0o7777, mode);
            assert_eq!(socket.shown(), format!("unix:{}", path.display()));
            drop(socket);
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_stale_file_is_replaced_and_one_in_use_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "std leaves the file behind, as a kill does");
        let first = AdminSocket::bind(&unix(&path, 0o600)).unwrap();
        let error = AdminSocket::bind(&unix(&path, 0o600)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(error.to_string().ends_with("another process listens there"));
        drop(UnixStream::connect(&path).unwrap());
        drop(first);
    }

    #[test]
    fn what_is_no_socket_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        fs::write(&path, "precious").unwrap();
        let error = AdminSocket::bind(&unix(&path, 0o600)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn the_file_of_another_process_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let ours = AdminSocket::bind(&unix(&path, 0o600)).unwrap();
        fs::remove_file(&path).unwrap();
        let _theirs = UnixListener::bind(&path).unwrap();
        // A file system may give the number to the next file; then it can't be told.
        let same = matches!(&ours, AdminSocket::Unix(_, file)
            if fs::metadata(&path).unwrap().ino() == file.identity.1);
        drop(ours);
        assert!(same || path.exists());
    }
}
