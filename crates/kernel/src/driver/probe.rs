//! Choosing a driver: by trying it, never by the kernel's version.

use super::epoll::Epoll;
use super::uring::Uring;
use super::{Completion, Descriptor, Driver, DriverKind, Lane, Token};
use crate::reactor::ReactorOptions;
use crate::slots::SlotKey;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Which driver is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Io {
    /// io_uring when it works here, else epoll.
    #[default]
    Auto,
    /// io_uring, or an error.
    Uring,
    /// epoll.
    Epoll,
}

/// Which driver runs, and why; prints as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverChoice {
    /// The driver.
    pub kind: DriverKind,
    /// Why that one, for people.
    pub reason: String,
}

impl std::fmt::Display for DriverChoice {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}: {}", self.kind.name(), self.reason)
    }
}

/// How long the self-test waits for the kernel to do what it is asked.
const SELF_TEST_PATIENCE: Duration = Duration::from_secs(2);

/// Makes the driver that `options` ask for.
pub(crate) fn choose(options: &ReactorOptions) -> io::Result<(Box<dyn Driver>, DriverChoice)> {
    let refused = match options.io {
        Io::Epoll => "asked for".to_owned(),
        Io::Auto | Io::Uring => match uring(options) {
            Ok(driver) => {
                let reason = match options.io {
                    Io::Uring => "asked for, and the self-test passed",
                    _ => "the self-test passed",
                };
                let choice = DriverChoice {
                    kind: DriverKind::Uring,
                    reason: reason.to_owned(),
                };
                return Ok((driver, choice));
            }
            Err(why) if options.io == Io::Uring => return Err(io::Error::other(why)),
            Err(why) => why,
        },
    };
    let driver = Epoll::new(options)?;
    Ok((
        Box::new(driver),
        DriverChoice {
            kind: DriverKind::Epoll,
            reason: refused,
        },
    ))
}

/// A ring for this thread; the self-test runs once in a process, on a ring of its own.
fn uring(options: &ReactorOptions) -> Result<Box<dyn Driver>, String> {
    static SELF_TEST: OnceLock<Result<(), String>> = OnceLock::new();
    SELF_TEST.get_or_init(self_test).clone()?;
    Ok(Box::new(
        Uring::new(options).map_err(|error| explain("io_uring_setup", &error))?,
    ))
}

/// What an error of the ring most likely means.
fn explain(operation: &str, error: &io::Error) -> String {
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    let disabled = disabled.unwrap_or_default();
    let (name, cause) = match error.raw_os_error() {
        Some(libc::EPERM) if disabled.trim() == "2" => ("EPERM", "kernel.io_uring_disabled is 2"),
        Some(libc::EPERM) if disabled.trim() == "1" => (
            "EPERM",
            "kernel.io_uring_disabled is 1, and this process lacks CAP_SYS_ADMIN",
        ),
        Some(libc::EPERM) => ("EPERM", "most likely the container's seccomp profile"),
        Some(libc::ENOSYS) => (
            "ENOSYS",
            "this kernel has no io_uring, or a seccomp profile hides it",
        ),
        Some(libc::ENOMEM) => ("ENOMEM", "most likely the locked-memory limit (ulimit -l)"),
        Some(libc::EMFILE) => ("EMFILE", "the limit of open files is reached (ulimit -n)"),
        Some(libc::EINVAL) => ("EINVAL", "this kernel is too old: 6.0 or later is needed"),
        _ => return format!("{operation}: {error}"),
    };
    format!("{operation}: {name}, {cause}")
}

/// Enough for one connection.
pub(super) fn tiny() -> ReactorOptions {
    ReactorOptions {
        receive_buffers: 4,
        receive_buffer_bytes: 64,
        ring_entries: 8,
        completion_entries: 16,
        ..ReactorOptions::default()
    }
}

/// Sends one message through everything that every connection depends on: a multishot receive
/// into a provided buffer, and the end of a stream.
fn self_test() -> Result<(), String> {
    let options = tiny();
    let mut ring = Uring::new(&options).map_err(|error| explain("io_uring_setup", &error))?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|error| format!("socketpair: {error}"))?;
    let ours = Descriptor::from(ours);
    let received = receive_one(&mut ring, &ours, theirs);
    ring.close(ours);
    received
}

fn receive_one(ring: &mut Uring, ours: &Descriptor, theirs: OwnedFd) -> Result<(), String> {
    let token = Token::new(
        Lane::Receive,
        SlotKey {
            index: 0,
            generation: 0,
        },
    );
    ring.receive(token, ours);
    let first = next_completion(ring, || {
        rustix::io::write(&theirs, b"ping")
            .map_err(io::Error::from)
            .map(drop)
    })?;
    let Some(id) = first.buffer.filter(|_| first.result == 4 && first.more) else {
        return Err(match first.result {
            0.. => "multishot receive: the kernel's answer is not what it should be".to_owned(),
            errno => explain("multishot receive", &io::Error::from_raw_os_error(-errno)),
        });
    };
    ring.buffers().lend(id);
    let buffer = crate::buffers::Buffer::from_lent(ring.buffers(), id, 4);
    if &*buffer != b"ping" {
        return Err("multishot receive: the buffer doesn't hold what was sent".to_owned());
    }
    drop(buffer);
    let last = next_completion(ring, || {
        drop(theirs);
        Ok(())
    })?;
    if last.result != 0 || last.more {
        return Err("multishot receive: the end of the stream was not reported".to_owned());
    }
    Ok(())
}

fn next_completion(
    ring: &mut Uring,
    cause: impl FnOnce() -> io::Result<()>,
) -> Result<Completion, String> {
    let mut completions = Vec::new();
    let mut turn = |ring: &mut Uring, wait| {
        ring.turn(Some(wait), &mut completions)
            .map_err(|error| explain("io_uring_enter", &error))?;
        Ok::<_, String>(completions.pop())
    };
    if let Some(early) = turn(ring, Duration::ZERO)? {
        return Ok(early);
    }
    cause().map_err(|error| format!("io_uring self-test: {error}"))?;
    let deadline = Instant::now() + SELF_TEST_PATIENCE;
    while Instant::now() < deadline {
        if let Some(completion) = turn(ring, Duration::from_millis(100))? {
            return Ok(completion);
        }
    }
    Err("io_uring self-test: no answer from the kernel".to_owned())
}

/// What this kernel offers, as names and findings, for `version --verbose`.
pub fn describe_kernel() -> Vec<(&'static str, String)> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let ring = match self_test() {
        Ok(()) => "works (multishot receive into provided buffers)".to_owned(),
        Err(why) => why,
    };
    vec![("kernel", release.trim().to_owned()), ("io_uring", ring)]
}
