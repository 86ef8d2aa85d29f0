//! The load generator: connections that ask, and a tally of the answers.
//!
//! In reading order: [`plan`] says what to do, [`run`] starts a thread for each share of the
//! connections, `connection` asks and reads the answers (or, of plain TCP, sends in bulk), `tally` counts,
//! [`report`] tells.

mod connection;
pub mod plan;
pub mod report;
mod tally;

pub use plan::{Pace, Plan, Request, Talk, Target};
pub use report::Report;

use connection::{Shared, open_all};
use ringway_runtime::{Runtime, RuntimeOptions, sleep};
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;
use tally::Tally;

/// How often a thread looks whether it is to end.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// What can be seen, and decided, while a run is under way. Each count is up to date at any moment, so
/// that what a server used between two of them belongs to what it answered between them.
#[derive(Debug, Default)]
pub struct Progress {
    /// Answers so far, those of the warm-up included.
    pub answers: AtomicU64,
    /// Bytes received so far, those of answers that aren't whole yet included.
    pub bytes: AtomicU64,
    /// Connections opened so far.
    pub connects: AtomicU64,
    /// Failures so far.
    pub failures: AtomicU64,
    /// Set to end the run early: the report covers what was done.
    pub stop: AtomicBool,
}

/// Puts load on a server as `plan` says, and tells what became of it.
///
/// Blocks until the plan's time is over or `progress.stop` is set. A server that can't be reached
/// isn't an error: every failure is counted in the report by its kind.
///
/// # Errors
/// When a thread or a driver can't be started.
pub fn run(plan: &Arc<Plan>, progress: &Arc<Progress>) -> io::Result<Report> {
    let threads: Vec<_> = (0..plan.threads)
        .map(|index| {
            let (plan, progress) = (Arc::clone(plan), Arc::clone(progress));
            std::thread::Builder::new()
                .name(format!("load-{index}"))
                .spawn(move || share(index, plan, &progress))
        })
        .collect::<io::Result<_>>()?;
    let mut total = Tally::new();
    let mut driver = None;
    let mut failed = None;
    for thread in threads {
        match thread.join() {
            Ok(Ok((tally, name))) => {
                total.add(&tally);
                driver = Some(name);
            }
            Ok(Err(error)) => failed = Some(error),
            Err(_) => failed = Some(io::Error::other("a load thread panicked")),
        }
    }
    match failed {
        Some(error) => Err(error),
        None => Ok(Report::new(plan, &total, driver.unwrap_or("none"))),
    }
}

/// The part of `count` things that falls to one of `threads` threads.
fn part(count: usize, index: usize, threads: usize) -> Range<usize> {
    index * count / threads..(index + 1) * count / threads
}

/// Receive buffers: as much memory as a server's, in fewer and larger pieces. An answer of 100 KiB in
/// pieces of 4 KiB took half as much CPU again (`cargo xtask bench-load --body 100k`).
const RECEIVE_BUFFERS: u16 = 64;
const RECEIVE_BUFFER_BYTES: usize = 16 << 10;

/// One thread's share of the load.
fn share(
    index: usize,
    plan: Arc<Plan>,
    progress: &Arc<Progress>,
) -> io::Result<(Tally, &'static str)> {
    let mut runtime = Runtime::new(&RuntimeOptions {
        io: plan.io,
        receive_buffers: RECEIVE_BUFFERS,
        receive_buffer_bytes: RECEIVE_BUFFER_BYTES,
        ..RuntimeOptions::default()
    })?;
    let driver = runtime.driver().map_or("none", |driver| driver.kind.name());
    let progress = Arc::clone(progress);
    let tally = runtime.block_on(async move {
        let connections = part(plan.connections, index, plan.threads);
        let requests = match plan.request_count {
            Some(count) => part(count as usize, index, plan.threads).len() as u64,
            None => u64::MAX,
        };
        let shared = Shared::new(Arc::clone(&plan), progress, connections.len(), requests);
        let shared = Rc::new(shared);
        open_all(connections, &shared).await;
        while !shared.is_over() {
            sleep(LOOK_INTERVAL).await;
            shared.look();
        }
        shared.finish()
    })?;
    Ok((tally, driver))
}

#[cfg(test)]
mod tests;
