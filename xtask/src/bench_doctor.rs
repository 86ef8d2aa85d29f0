//! `cargo xtask bench-doctor`: how long the doctor takes on a machine with 128 processors.

use crate::build::cargo;
use anyhow::{Context, Result, ensure};

/// Time the doctor on a tree of 128 processors
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How often it looks
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
}

/// Builds the benchmark (`crates/host/benches/doctor.rs`) for release and runs it.
pub(crate) fn run(options: &Options) -> Result<()> {
    let status = cargo()
        .args(["bench", "--quiet", "--package", "ringway-host"])
        .args(["--bench", "doctor", "--", &options.rounds.to_string()])
        .status()
        .context("cannot run cargo bench")?;
    ensure!(status.success(), "the benchmark failed ({status})");
    Ok(())
}
