//! Files that are there and can't be read: the client is told a status, the log which file and why.
//!
//! Any client can ask for such a file again and again, so one event in a few seconds names the first
//! of them and counts the rest. What isn't there at all is no event, and neither is what went short
//! of descriptors for a moment: that is told where it is waited for.

use super::Root;
use super::find::status_of;
use crate::log::Throttle;
use ringway_http::StatusCode;
use ringway_runtime::errno;
use std::io;
use std::time::{Duration, Instant};

/// How often a root tells of such files.
const INTERVAL: Duration = Duration::from_secs(5);

/// What one worker has to tell of one root.
#[derive(Debug)]
pub(super) struct Unreadable {
    throttle: Throttle,
    /// The first that is still to be told: where, relative to the root, and why not.
    first: Option<(Vec<u8>, String)>,
}

impl Default for Unreadable {
    fn default() -> Unreadable {
        Unreadable {
            throttle: Throttle::new(INTERVAL),
            first: None,
        }
    }
}

impl Unreadable {
    /// Counts one, and keeps it if it is the first.
    fn add(&mut self, name: &[u8], error: &io::Error) {
        self.throttle.add(1);
        self.first
            .get_or_insert_with(|| (name.to_vec(), reason(error)));
    }

    /// How many are to be told now, and the first of them.
    fn due(&mut self, now: Instant) -> Option<(u64, Vec<u8>, String)> {
        let count = self.throttle.due(now)?;
        let (name, reason) = self.first.take().unwrap_or_default();
        Some((count, name, reason))
    }
}

impl Root {
    /// `result`, whose error is told if it says that the file `name`, relative to the root, is there
    /// and can't be read.
    pub(super) fn telling<T>(&self, name: &[u8], result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|error| {
            let status = status_of(error);
            if matches!(
                status,
                StatusCode::FORBIDDEN | StatusCode::INTERNAL_SERVER_ERROR
            ) {
                self.add_unreadable(name, error);
            }
        })
    }

    /// The same for a look that came to no end: too many wait for the file system, or it took too
    /// long. `path` is as it was asked for.
    pub(super) fn tell_unanswered(&self, path: &[u8], error: &io::Error) {
        if status_of(error) == StatusCode::SERVICE_UNAVAILABLE {
            self.add_unreadable(path.strip_prefix(b"/").unwrap_or(path), error);
        }
    }

    fn add_unreadable(&self, name: &[u8], error: &io::Error) {
        self.unreadable.borrow_mut().add(name, error);
        self.tell_unreadable(ringway_runtime::now());
    }

    /// Tells what is due.
    pub(crate) fn tell_unreadable(&self, now: Instant) {
        let due = self.unreadable.borrow_mut().due(now);
        let Some((count, name, reason)) = due else {
            return;
        };
        let path = self.config.root.join(&*String::from_utf8_lossy(&name));
        let path = path.display().to_string();
        tracing::warn!(count, path, reason, "can't be read");
    }
}

/// What the system said; what isn't the system's words is our own.
fn reason(error: &io::Error) -> String {
    match (error.raw_os_error(), error.kind()) {
        (None, io::ErrorKind::PermissionDenied) => "neither a file nor a directory".to_owned(),
        (None, io::ErrorKind::TimedOut) => {
            "the file system took longer than limits.file_timeout".to_owned()
        }
        (None, io::ErrorKind::ResourceBusy) => {
            "too many wait for the file system: limits.blocking_queue".to_owned()
        }
        // What a file's owner and mode forbid is EACCES.
        (Some(errno::EPERM | errno::ENOSYS), _) => {
            format!(
                "{error}; most likely the container's seccomp profile refuses openat2 or getdents64"
            )
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_named_and_the_rest_are_counted() {
        let start = Instant::now();
        let mut unreadable = Unreadable::default();
        let denied = io::Error::from_raw_os_error(13);
        let failed = io::Error::from_raw_os_error(5);
        let first = "Permission denied (os error 13)".to_owned();
        unreadable.add(b"a", &denied);
        assert_eq!(unreadable.due(start), Some((1, b"a".to_vec(), first)));
        unreadable.add(b"b", &failed);
        unreadable.add(b"c", &denied);
        assert_eq!(unreadable.due(start), None);
        let second = "Input/output error (os error 5)".to_owned();
        let due = unreadable.due(start + INTERVAL);
        assert_eq!(due, Some((2, b"b".to_vec(), second)));
        assert_eq!(unreadable.due(start + INTERVAL * 2), None);
    }

    #[test]
    fn what_the_system_did_not_say_has_words_of_its_own() {
        let special: io::Error = io::ErrorKind::PermissionDenied.into();
        assert_eq!(reason(&special), "neither a file nor a directory");
        let late: io::Error = io::ErrorKind::TimedOut.into();
        assert!(reason(&late).contains("limits.file_timeout"));
        let busy: io::Error = io::ErrorKind::ResourceBusy.into();
        assert!(reason(&busy).contains("limits.blocking_queue"));
    }
}
