//! The end of the process, where going on would not be sound.
//!
//! A panic half-way through this crate may leave an operation in flight without the slot that has
//! to keep its memory. Whoever catches it (the executor does, around a task's turn) would go on
//! with that. So it doesn't get out of here: the process ends, and says where.

use std::fmt;
use std::io::Write;

/// Says what happened on standard error, and ends the process.
#[cold]
pub(crate) fn abort(what: fmt::Arguments<'_>) -> ! {
    // Not by a macro, whose output a test harness would keep to itself.
    let _ = writeln!(std::io::stderr(), "ringway: {what}; the process ends here");
    std::process::abort()
}

/// Ends the process when it is dropped: a panic came through. [`AbortOnUnwind::disarm`] it when
/// what it stood guard over is done; that costs nothing.
pub(crate) struct AbortOnUnwind<'a, W: fmt::Debug>(pub(crate) &'a W);

impl<W: fmt::Debug> AbortOnUnwind<'_, W> {
    pub(crate) fn disarm(self) {
        std::mem::forget(self);
    }
}

impl<W: fmt::Debug> Drop for AbortOnUnwind<'_, W> {
    fn drop(&mut self) {
        abort(format_args!("a panic inside of {:?}", self.0));
    }
}

#[cfg(test)]
pub(crate) use tests::check_aborts;

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    /// Set in a process that runs one test alone.
    const CHILD_VARIABLE: &str = "RINGWAY_TEST_ALONE";

    /// Runs `work` in a process of its own, which is to abort and to say `reason` on standard
    /// error. `test` is the calling test's path, without the crate.
    pub(crate) fn check_aborts(test: &str, reason: &str, work: impl FnOnce()) {
        if std::env::var_os(CHILD_VARIABLE).is_some() {
            return work();
        }
        let output = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact"])
            .env(CHILD_VARIABLE, "1")
            .output()
            .unwrap();
        assert_eq!(
            output.status.signal(),
            Some(libc::SIGABRT),
            "{}",
            output.status
        );
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(reason), "{said}");
    }
}
