//! `cargo xtask asan`: the tests of whatever touches memory, under AddressSanitizer.
//!
//! Of the program itself it would see little: that has an allocator of its own, which the sanitizer
//! doesn't watch. So these are the tests that run everything in their own process: the kernel crate's,
//! the runtime's on both drivers and in the simulator, and the server's as a library. The compiler is
//! the usual one, told to take an unstable flag; the standard library isn't instrumented, which is
//! enough to see what this code does to the heap.

use crate::build::{cargo, metadata};
use anyhow::{Context, Result, ensure};
use std::process::Command;

/// Run the tests of the kernel, runtime and server crates under AddressSanitizer
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only tests whose path has this in it
    filter: Option<String>,
}

/// The only one whose sanitizer is tried.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Each package with its tests. Those that count allocations bring an allocator along, and are left
/// out for that.
const SUITES: [(&str, &[&str]); 3] = [
    ("ringway-kernel", &["--lib"]),
    (
        "ringway-runtime",
        &["--lib", "--test", "drivers", "--test", "sim"],
    ),
    (
        "ringway-server",
        &[
            "--test",
            "extensions",
            "--test",
            "sim",
            "--test",
            "embedded",
        ],
    ),
];

/// Builds in a folder of its own, and runs each suite.
pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(
        cfg!(all(target_arch = "x86_64", target_env = "gnu")),
        "this is for {TARGET} alone"
    );
    let folder = metadata()?.target_directory.join("asan");
    for (package, tests) in SUITES {
        let mut command = sanitized(cargo());
        command.env("CARGO_TARGET_DIR", &folder);
        command.args(["test", "--package", package]).args(tests);
        if let Some(filter) = &options.filter {
            command.arg("--").arg(filter);
        }
        let status = command.status().context("cannot run cargo test")?;
        ensure!(status.success(), "{package}: {status}");
    }
    Ok(())
}

/// Has cargo, and a cargo that a test runs, build with the sanitizer.
fn sanitized(mut command: Command) -> Command {
    command
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", "-Zsanitizer=address")
        // Named, so that the compiler's own helpers are built without it.
        .env("CARGO_BUILD_TARGET", TARGET)
        // Tests of what is leaked on purpose would be told of.
        .env("ASAN_OPTIONS", "detect_leaks=0");
    command
}
