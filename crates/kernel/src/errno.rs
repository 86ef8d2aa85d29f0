//! The numbers of errors that others ask for by name, as [`std::io::Error::raw_os_error`] has them, and
//! what they most likely mean where any call can fail with them.
//!
//! What only one call means by an error is told where that is called.

use rustix::io::Errno;
use std::io;

pub use libc::{
    EBADMSG, EBUSY, EFAULT, EINVAL, EIO, EISDIR, ENOBUFS, ENODATA, ENOSYS, EOPNOTSUPP, EPERM,
    EPIPE, ESTALE, EUCLEAN,
};

/// Who refuses a call that needs no right.
const PROFILE: &str = "most likely the container's seccomp profile";

/// That this call failed, and what that most likely means; for calls that need no right and that every
/// kernel has which Ringway runs on.
pub fn explain(call: &str, error: &io::Error) -> String {
    let (name, cause) = match error.raw_os_error() {
        Some(EPERM) => ("EPERM", PROFILE),
        Some(ENOSYS) => ("ENOSYS", PROFILE),
        Some(libc::EMFILE) => ("EMFILE", "the limit of open files is reached (ulimit -n)"),
        Some(libc::ENFILE) => (
            "ENFILE",
            "the machine's limit of open files is reached (fs.file-max)",
        ),
        _ => return format!("{call}: {error}"),
    };
    format!("{call}: {name}, {cause}")
}

/// The same as an error, which has no number any more.
pub(crate) fn named(call: &'static str) -> impl FnOnce(Errno) -> io::Error {
    move |errno| {
        let error = io::Error::from(errno);
        io::Error::new(error.kind(), explain(call, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(errno: Errno, expect: &str) {
        assert_eq!(named("accept")(errno).to_string(), expect);
    }

    #[test]
    fn an_error_names_its_call_and_its_cause() {
        let profile = "most likely the container's seccomp profile";
        check(Errno::PERM, &format!("accept: EPERM, {profile}"));
        check(Errno::NOSYS, &format!("accept: ENOSYS, {profile}"));
        let files = "limit of open files is reached";
        check(
            Errno::MFILE,
            &format!("accept: EMFILE, the {files} (ulimit -n)"),
        );
        check(
            Errno::NFILE,
            &format!("accept: ENFILE, the machine's {files} (fs.file-max)"),
        );
        check(Errno::IO, "accept: Input/output error (os error 5)");
    }
}
