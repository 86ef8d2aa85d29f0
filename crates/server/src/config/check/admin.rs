//! Reads the admin listener: where it is, and who could reach it there.

use super::{report_idle_keys, report_written};
use crate::config::keys::AdminKeys;
use crate::config::node::Place;
use crate::config::problem::{Problem, quote};
use crate::config::read::Section;
use crate::config::server::UNIX_PATH_BYTES;
use crate::config::source::Sources;
use crate::config::{Admin, AdminAddress};
use std::fmt;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "such as \"unix:/run/ringway/admin.sock\" or \"127.0.0.1:9090\"";

pub(super) fn read_admin(section: &mut Section<'_>, sources: &Sources) -> Option<Admin> {
    let keys = AdminKeys::read(section);
    let Some(text) = &keys.address else {
        let hint = format!("add address, {EXAMPLES}");
        report_idle_keys(
            section,
            &["mode", "allow_remote"],
            "without an address",
            &hint,
        );
        return None;
    };
    let place = section.place("address")?;
    let read = match text.strip_prefix("unix:") {
        Some(path) => {
            let without = "at a Unix socket, which no other machine reaches";
            report_idle_keys(section, &["allow_remote"], without, "leave it out");
            let mode = read_mode(section, &keys.mode);
            read_path(&sources.resolve(Path::new(path), &place), path.is_empty())
                .map(|path| AdminAddress::Unix { path, mode })
        }
        None => {
            let without = "where there is no socket file";
            report_idle_keys(section, &["mode"], without, "leave it out");
            let is_flag = matches!(place, Place::Flag(_));
            read_socket(text, keys.allow_remote, is_flag).map(AdminAddress::Tcp)
        }
    };
    match read {
        Ok(address) => Some(Admin {
            address,
            allow_remote: keys.allow_remote,
        }),
        Err((message, hint)) => {
            section.report(problem(place, message, hint));
            None
        }
    }
}

fn problem(place: Place, message: String, hint: &str) -> Problem {
    Problem::new(place, message).hint(hint)
}

/// A message and a hint.
type Fault = (String, &'static str);

fn read_path(path: &Path, is_empty: bool) -> Result<PathBuf, Fault> {
    let shown = path.display();
    if is_empty {
        return Err(("unix: without a path".to_owned(), EXAMPLES));
    }
    if path.as_os_str().len() > UNIX_PATH_BYTES {
        let message = format!(
            "the path of the socket has {} bytes",
            path.as_os_str().len()
        );
        return Err((message, "the kernel takes at most 107"));
    }
    if let Ok(metadata) = std::fs::symlink_metadata(path)
        && !metadata.file_type().is_socket()
    {
        return Err((
            format!("{shown} is there, and isn't a socket"),
            "choose another name, or remove it",
        ));
    }
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() && !parent.is_dir() => Err((
            format!("the directory {} doesn't exist", parent.display()),
            "create it; systemd does with RuntimeDirectory=ringway",
        )),
        _ => Ok(path.to_owned()),
    }
}

/// `is_flag` where it is said on the command line, which has no word for allowing it.
fn read_socket(text: &str, allow_remote: bool, is_flag: bool) -> Result<SocketAddr, Fault> {
    let Ok(socket) = text.parse::<SocketAddr>() else {
        return Err((format!("{} isn't an address", quote(text)), EXAMPLES));
    };
    if socket.ip().to_canonical().is_loopback() || allow_remote {
        return Ok(socket);
    }
    Err((
        format!("other machines could reach {socket}"),
        match is_flag {
            true => {
                "take 127.0.0.1 or a Unix socket; only a file allows it (ringway run --config \
                 FILE), with allow_remote = true in [admin]"
            }
            false => "take 127.0.0.1 or a Unix socket, or add allow_remote = true",
        },
    ))
}

/// Octal, as chmod has it.
fn read_mode(section: &mut Section<'_>, text: &str) -> u32 {
    let is_octal = text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    match u32::from_str_radix(text, 8) {
        Ok(mode @ 0..=0o777) if is_octal => mode,
        _ => {
            let message = format!("{} isn't the mode of a socket", quote(text));
            let hint = "octal digits as chmod has them, such as \"0660\"";
            report_written(section, "mode", &message, hint);
            0
        }
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdminAddress::Unix { path, .. } => write!(out, "unix:{}", path.display()),
            AdminAddress::Tcp(socket) => socket.fmt(out),
        }
    }
}
