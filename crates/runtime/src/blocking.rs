//! Work that waits, off the worker: the blocking pool, awaited.

use crate::mailbox::mailbox;
use crate::worker::Worker;
use ringway_kernel::{BlockingPool, PoolFull};
use std::fmt;

/// Why blocking work has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockingError {
    /// The pool's queue is at its bound; the work was not begun.
    Full,
    /// The work panicked.
    Panicked,
}

impl fmt::Display for BlockingError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BlockingError::Full => PoolFull.fmt(out),
            BlockingError::Panicked => out.write_str("the blocking work panicked"),
        }
    }
}

impl std::error::Error for BlockingError {}

/// Runs `work` on the blocking pool and waits for its result. When the future is dropped, the work
/// is still done, and its result thrown away. In a simulation the work is done in place.
///
/// # Errors
/// [`BlockingError`].
///
/// # Panics
/// Outside of a runtime.
pub async fn spawn_blocking<T, F>(work: F) -> Result<T, BlockingError>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let Some(pool) = Worker::current().blocking.clone() else {
        return Ok(work());
    };
    run_on(&pool, work).await
}

/// As [`spawn_blocking`], on a pool of the caller's: for work that mustn't take the place of other
/// work. In a simulation it is done in place, too.
///
/// # Errors
/// [`BlockingError`].
///
/// # Panics
/// Outside of a runtime.
pub async fn spawn_blocking_on<T, F>(pool: &BlockingPool, work: F) -> Result<T, BlockingError>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    if Worker::current().blocking.is_none() {
        return Ok(work());
    }
    run_on(pool, work).await
}

async fn run_on<T, F>(pool: &BlockingPool, work: F) -> Result<T, BlockingError>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let (sender, mut receiver) = mailbox(1);
    pool.submit(move || {
        // Nobody else posts here, so there is room; the receiver may be gone.
        let _ = sender.send(work());
    })
    .map_err(|PoolFull| BlockingError::Full)?;
    receiver.receive().await.ok_or(BlockingError::Panicked)
}
