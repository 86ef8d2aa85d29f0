//! Of the process as a whole: its limits, and the signals that ask it to end.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;
use std::mem::MaybeUninit;

/// Raises the soft limit of open descriptors to the hard one, and returns it.
///
/// # Errors
/// As `setrlimit(2)`.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    raise_descriptor_limit_to(0)
}

/// The same, and raises the hard limit to `wanted` where that is more and this process has the
/// right (`CAP_SYS_RESOURCE`).
///
/// # Errors
/// As `setrlimit(2)`.
pub fn raise_descriptor_limit_to(wanted: u64) -> io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raise_to = |maximum| {
        let raised = Rlimit {
            current: maximum,
            maximum,
        };
        setrlimit(Resource::Nofile, raised)
    };
    if let Some(maximum) = limit.maximum
        && maximum < wanted
        && raise_to(Some(wanted)).is_ok()
    {
        return Ok(wanted);
    }
    if limit.current != limit.maximum {
        raise_to(limit.maximum)?;
    }
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// A signal that asks the process to do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// `SIGINT` or `SIGTERM`: end, after what is under way.
    Terminate,
    /// `SIGHUP`: open the logs anew.
    Reopen,
}

/// The process's signals, taken one by one by a thread instead of by interrupting all of them.
#[derive(Debug)]
pub struct Signals {
    set: libc::sigset_t,
}

impl Signals {
    /// Blocks the signals for the calling thread and all that it starts from now on, so that
    /// [`Signals::wait`] gets them. To be called before the first thread is started.
    ///
    /// # Errors
    /// As `pthread_sigmask(3)`.
    pub fn block() -> io::Result<Signals> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: `set` is memory for one signal set, which this call initialises.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: initialised by sigemptyset, which can't fail on valid memory.
        let mut set = unsafe { set.assume_init() };
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            // SAFETY: `set` is an initialised set, and the number that of a signal.
            unsafe { libc::sigaddset(&raw mut set, signal) };
        }
        // SAFETY: `set` is an initialised set; the old mask isn't asked for.
        let errno =
            unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        if errno == 0 {
            Ok(Signals { set })
        } else {
            Err(io::Error::from_raw_os_error(errno))
        }
    }

    /// Waits for the next one.
    pub fn wait(&self) -> Signal {
        loop {
            let mut signal = 0;
            // SAFETY: the set is initialised, and `signal` is memory for one number.
            let errno = unsafe { libc::sigwait(&raw const self.set, &raw mut signal) };
            match (errno, signal) {
                (0, libc::SIGINT | libc::SIGTERM) => return Signal::Terminate,
                (0, libc::SIGHUP) => return Signal::Reopen,
                _ => {}
            }
        }
    }
}
