//! Of the process as a whole: its limits, the signals that ask it to end, and processes that end with
//! it.

use rustix::process::{Resource, Rlimit, Signal as Number, getrlimit, setrlimit};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

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

/// The user that this process acts as; 0 is root.
pub fn user() -> u32 {
    rustix::process::geteuid().as_raw()
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

/// Starts `command` in a process group of its own, with no signal blocked, so that Ctrl-C in the
/// terminal doesn't reach it; and has the kernel end it when the calling thread ends, however that
/// happens (`PR_SET_PDEATHSIG`).
///
/// # Errors
/// As `Command::spawn`.
pub fn spawn_tied(command: &mut Command) -> io::Result<Child> {
    command.process_group(0);
    let tie = || {
        rustix::process::set_parent_process_death_signal(Some(Number::TERM))?;
        unblock_signals()
    };
    // SAFETY: between fork and exec only system calls may be made. `tie` makes two, takes no lock and
    // allocates nothing.
    unsafe { command.pre_exec(tie) };
    command.spawn()
}

fn unblock_signals() -> io::Result<()> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `set` is memory for one signal set, which this call initialises.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: the set was initialised just above; the old mask isn't asked for.
    let errno =
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut()) };
    match errno {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;

    #[test]
    fn a_tied_process_ends_with_the_thread_that_started_it() {
        let start = || spawn_tied(Command::new("sleep").arg("600"));
        let mut child = std::thread::spawn(start).join().unwrap().unwrap();
        let signal = child.wait().unwrap().signal();
        assert_eq!(signal, Some(libc::SIGTERM));
    }

    #[test]
    fn a_tied_process_blocks_no_signal() {
        let blocked = std::thread::spawn(|| {
            let _signals = Signals::block().unwrap();
            let mut command = Command::new("grep");
            command.args(["SigBlk", "/proc/self/status"]);
            command.stdout(std::process::Stdio::piped());
            let output = spawn_tied(&mut command).unwrap().wait_with_output();
            String::from_utf8(output.unwrap().stdout).unwrap()
        });
        assert_eq!(blocked.join().unwrap(), "SigBlk:\t0000000000000000\n");
    }
}
