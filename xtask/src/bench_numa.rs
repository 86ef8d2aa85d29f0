//! `cargo xtask bench-numa`: large buffers from the default allocator and from a `NumaPool`.
//!
//! What is measured, and how, is in the benchmark itself (`crates/runtime/benches/numa.rs`).

use crate::build::cargo;
use anyhow::{Context, Result, ensure};

/// Compare large buffers of the default allocator with those of a NumaPool
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Buffers of a mebibyte, all of which are held at once
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    buffers: u32,

    /// Rounds over both
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
}

/// Builds the benchmark for release and runs it.
pub(crate) fn run(options: &Options) -> Result<()> {
    let status = cargo()
        .args(["bench", "--quiet", "--package", "ringway-runtime"])
        .args(["--bench", "numa", "--"])
        .args([options.buffers.to_string(), options.rounds.to_string()])
        .status()
        .context("cannot run cargo bench")?;
    ensure!(status.success(), "the benchmark failed ({status})");
    Ok(())
}
