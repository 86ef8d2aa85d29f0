//! `cargo xtask sim SEED`: replays one run of the simulator.

use crate::build::{cargo, root};
use anyhow::{Context, Result, ensure};

/// Replay one seed of the simulator, with its output
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The seed that a failing test printed
    seed: u64,
}

/// Runs the simulator's test of each crate that has one, under the seed.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut ran = 0;
    for folder in ["runtime", "server"] {
        let tests = root().join("crates").join(folder).join("tests");
        if !tests.join("sim.rs").exists() && !tests.join("sim/main.rs").exists() {
            continue;
        }
        let package = format!("ringway-{folder}");
        let status = cargo()
            .args([
                "test",
                "--package",
                &package,
                "--test",
                "sim",
                "--",
                "--nocapture",
            ])
            .env("RINGWAY_SIM_SEED", options.seed.to_string())
            .status()
            .context("cannot run cargo test")?;
        ensure!(status.success(), "{package}: seed {} fails", options.seed);
        ran += 1;
    }
    ensure!(ran > 0, "no crate has a test named sim");
    Ok(())
}
