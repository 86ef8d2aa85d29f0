//! `cargo xtask bench-pool`: the upstream pool beside a mutex pool and a shared lock-free queue.
//!
//! What is measured, and how, is in the benchmark itself (`crates/server/benches/pool.rs`).

use crate::build::cargo;
use anyhow::{Context, Result, ensure};

/// Compare what the upstream pool costs with a mutex and with one queue for all
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Operations of each thread in one run
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    operations: u32,

    /// Rounds over all pools
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
}

/// Builds the benchmark for release and runs it.
pub(crate) fn run(options: &Options) -> Result<()> {
    let status = cargo()
        .args(["bench", "--quiet", "--package", "ringway-server"])
        .args(["--bench", "pool", "--"])
        .args([options.operations.to_string(), options.rounds.to_string()])
        .status()
        .context("cannot run cargo bench")?;
    ensure!(status.success(), "the benchmark failed ({status})");
    Ok(())
}
