//! The processors that this process may use, and pinning a thread to one.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::io;

/// The processors that the calling thread may run on, in ascending order (affinity mask; a
/// container's cpuset shows in it).
///
/// # Errors
/// As `sched_getaffinity(2)`.
pub fn allowed() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .collect())
}

/// Keeps the calling thread on one processor.
///
/// # Errors
/// As `sched_setaffinity(2)`: the processor is offline or not allowed.
pub fn pin_current_thread(cpu: usize) -> io::Result<()> {
    keep_current_thread_on(&[cpu])
}

/// Keeps the calling thread on these processors, and the threads and processes that it starts from
/// now on.
///
/// # Errors
/// As `sched_setaffinity(2)`: none of them is online and allowed.
pub fn keep_current_thread_on(cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        if cpu >= CpuSet::MAX_CPU {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        set.set(cpu);
    }
    Ok(sched_setaffinity(None, &set)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_is_allowed_one_processor() {
        let last = *allowed().unwrap().last().unwrap();
        let pinned = std::thread::spawn(move || {
            pin_current_thread(last).unwrap();
            allowed().unwrap()
        });
        assert_eq!(pinned.join().unwrap(), [last]);
    }
}
