//! Choosing a driver: by trying it, never by the kernel's version.

use super::epoll::Epoll;
use super::ladder::Rung;
use super::self_test::self_test;
use super::uring::Uring;
use super::{Driver, DriverKind};
use crate::reactor::ReactorOptions;
use std::io;
use std::sync::OnceLock;

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

/// Makes the driver that `options` ask for.
pub(crate) fn choose(options: &ReactorOptions) -> io::Result<(Box<dyn Driver>, DriverChoice)> {
    let refused = match options.io {
        Io::Epoll => "asked for".to_owned(),
        Io::Auto | Io::Uring => match uring(options) {
            Ok(driver) => {
                let choice = DriverChoice {
                    kind: DriverKind::Uring,
                    reason: reason_for(options.io, driver.rung()),
                };
                return Ok((Box::new(driver), choice));
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
fn uring(options: &ReactorOptions) -> Result<Uring, String> {
    static SELF_TEST: OnceLock<Result<Rung, String>> = OnceLock::new();
    SELF_TEST.get_or_init(try_out).clone()?;
    Uring::new(options).map_err(|error| explain("io_uring_setup", &error))
}

/// Why io_uring, and what an older kernel's ring has to do without.
fn reason_for(io: Io, rung: Rung) -> String {
    let asked = match io {
        Io::Uring => "asked for, and ",
        _ => "",
    };
    let lacking = match rung {
        Rung::Newest | Rung::Deferred => String::new(),
        Rung::Cooperative | Rung::Plain => format!(" with {}", rung.describe()),
    };
    format!("{asked}the self-test passed{lacking}")
}

/// Tries a ring out; the flags that it could have.
fn try_out() -> Result<Rung, String> {
    let ring = Uring::new(&tiny()).map_err(|error| explain("io_uring_setup", &error))?;
    let rung = ring.rung();
    self_test(ring).map(|()| rung)
}

/// What an error of the ring most likely means.
pub(super) fn explain(operation: &str, error: &io::Error) -> String {
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    explain_where(&disabled.unwrap_or_default(), operation, error)
}

/// The same where `kernel.io_uring_disabled` reads as `disabled`; empty on a kernel without it.
fn explain_where(disabled: &str, operation: &str, error: &io::Error) -> String {
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
        // Another call than the ring's, which it names.
        None => return error.to_string(),
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

/// What this kernel offers, as names and findings, for `version --verbose`.
pub fn describe_kernel() -> Vec<(&'static str, String)> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let ring = match try_out() {
        Ok(rung) => format!("works ({})", rung.describe()),
        Err(why) => why,
    };
    vec![("kernel", release.trim().to_owned()), ("io_uring", ring)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_names_what_an_older_kernel_lacks() {
        let reasons = Rung::ALL.map(|rung| reason_for(Io::Auto, rung));
        let passed = "the self-test passed";
        let expected = [
            passed.to_owned(),
            passed.to_owned(),
            format!("{passed} with COOP_TASKRUN, for want of DEFER_TASKRUN (Linux 6.1)"),
            format!("{passed} with no flags, for want of COOP_TASKRUN (Linux 5.19)"),
        ];
        assert_eq!(reasons, expected);
        let asked = reason_for(Io::Uring, Rung::Newest);
        assert_eq!(asked, "asked for, and the self-test passed");
    }

    /// All three say `EPERM`; only this tells whom to ask.
    #[test]
    fn a_refusal_names_who_refused() {
        let refused = io::Error::from_raw_os_error(libc::EPERM);
        for (disabled, reason) in [
            ("2\n", "kernel.io_uring_disabled is 2"),
            (
                "1\n",
                "kernel.io_uring_disabled is 1, and this process lacks CAP_SYS_ADMIN",
            ),
            ("0\n", "most likely the container's seccomp profile"),
            ("", "most likely the container's seccomp profile"),
        ] {
            let told = explain_where(disabled, "io_uring_setup", &refused);
            assert_eq!(told, format!("io_uring_setup: EPERM, {reason}"));
        }
    }
}
