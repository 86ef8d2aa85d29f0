//! The numbers of errors that others ask for by name, as [`std::io::Error::raw_os_error`] has them.

pub use libc::{
    EBADMSG, EBUSY, EFAULT, EINVAL, EIO, EISDIR, ENOBUFS, ENODATA, ENOSYS, EOPNOTSUPP, EPERM,
    EPIPE, ESTALE, EUCLEAN,
};
