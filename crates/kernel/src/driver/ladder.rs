//! Setting a ring up: the flags that a kernel may lack, best first, and the threads of a ring.
//!
//! Which flags there are is found by asking for them. What a ring is worth then, the self-test finds.

use io_uring::{Builder, IoUring};
use std::io;

/// A set of setup flags; each but the last spares work, and none changes what a ring does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rung {
    /// Like `Deferred`, and no array between the submission queue and its entries (Linux 6.6).
    Newest,
    /// The kernel does its part when the worker enters the ring, and at no other time (Linux 6.1).
    Deferred,
    /// It does so at the worker's next system call (Linux 5.19).
    Cooperative,
    /// It interrupts the worker.
    Plain,
}

impl Rung {
    /// From the best down.
    pub(crate) const ALL: [Rung; 4] =
        [Rung::Newest, Rung::Deferred, Rung::Cooperative, Rung::Plain];

    /// The flags' names, and what a lower rung lacks, for people.
    pub(crate) const fn describe(self) -> &'static str {
        match self {
            Rung::Newest => "DEFER_TASKRUN, NO_SQARRAY",
            Rung::Deferred => "DEFER_TASKRUN",
            Rung::Cooperative => "COOP_TASKRUN, for want of DEFER_TASKRUN (Linux 6.1)",
            Rung::Plain => "no flags, for want of COOP_TASKRUN (Linux 5.19)",
        }
    }

    fn builder(self, completions: u32) -> Builder {
        let mut builder = IoUring::builder();
        builder.setup_clamp().setup_cqsize(completions);
        match self {
            Rung::Newest | Rung::Deferred => {
                builder.setup_single_issuer().setup_defer_taskrun();
            }
            Rung::Cooperative => {
                builder.setup_coop_taskrun();
            }
            Rung::Plain => return builder,
        }
        builder.setup_taskrun_flag().setup_submit_all();
        if self == Rung::Newest {
            builder.setup_no_sqarray();
        }
        builder
    }
}

/// A ring of the best rung that `build` doesn't refuse with `EINVAL`, which is what a kernel says to
/// flags that it doesn't know. Anything else won't get better further down.
pub(super) fn set_up(
    completions: u32,
    mut build: impl FnMut(Rung, &Builder) -> io::Result<IoUring>,
) -> io::Result<(IoUring, Rung)> {
    let mut refused = io::Error::from_raw_os_error(libc::EINVAL);
    for rung in Rung::ALL {
        match build(rung, &rung.builder(completions)) {
            Ok(ring) => return Ok((ring, rung)),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refused = error,
            Err(error) => return Err(error),
        }
    }
    Err(refused)
}

/// Bounds the threads that the kernel runs for what it can't do at once, and keeps them near the
/// worker (Linux 5.15 and 5.14). A kernel that doesn't know this, or a CPU set that doesn't allow it,
/// leaves them as they are: they are a bound, and should hardly ever run.
pub(super) fn limit_threads(ring: &IoUring, count: u32, cpus: &[usize]) {
    let submitter = ring.submitter();
    if count > 0 {
        let _ = submitter.register_iowq_max_workers(&mut [count, count]);
    }
    // SAFETY: a set of CPUs is bits, all of which may be zero.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    let bits = 8 * size_of::<libc::cpu_set_t>();
    for &cpu in cpus.iter().filter(|&&cpu| cpu < bits) {
        // SAFETY: `cpu` is below the number of bits in the set.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    if !cpus.is_empty() {
        let _ = submitter.register_iowq_aff(&set);
    }
}

#[cfg(test)]
mod tests {
    use super::super::probe;
    use super::super::self_test::self_test;
    use super::super::uring::Uring;
    use super::*;

    fn refuse(errno: i32) -> io::Result<IoUring> {
        Err(io::Error::from_raw_os_error(errno))
    }

    /// A driver on the first rung from `first` on that this kernel has.
    fn driver_from(first: Rung) -> io::Result<Uring> {
        let options = probe::tiny();
        Uring::built_by(&options, |rung, builder| match rung < first {
            true => refuse(libc::EINVAL),
            false => builder.build(options.ring_entries),
        })
    }

    #[test]
    fn every_rung_carries() {
        for first in Rung::ALL {
            let driver = match driver_from(first) {
                Ok(driver) => driver,
                Err(error) => return eprintln!("SKIP uring: {error}"),
            };
            let reached = driver.rung();
            assert!(reached >= first, "{reached:?} from {first:?}");
            assert_eq!(self_test(driver), Ok(()), "{reached:?}");
        }
        // The last one has no flag that a kernel could lack.
        assert_eq!(driver_from(Rung::Plain).unwrap().rung(), Rung::Plain);
    }

    /// Which rungs are tried when `build` answers each with `errno`, and the error in the end.
    fn tried(errno: i32) -> (Vec<Rung>, Option<i32>) {
        let mut tried = Vec::new();
        let refused = set_up(16, |rung, _| {
            tried.push(rung);
            refuse(errno)
        });
        let error = refused.err().expect("every rung was refused");
        (tried, error.raw_os_error())
    }

    #[test]
    fn a_kernel_without_the_flags_is_asked_for_fewer() {
        assert_eq!(
            tried(libc::EINVAL),
            (Rung::ALL.to_vec(), Some(libc::EINVAL))
        );
    }

    #[test]
    fn who_is_refused_is_not_asked_again() {
        for errno in [libc::EPERM, libc::ENOSYS, libc::ENOMEM, libc::EMFILE] {
            assert_eq!(tried(errno), (vec![Rung::Newest], Some(errno)));
        }
    }
}
