//! `cargo xtask asan`: the tests under AddressSanitizer: those of whatever touches memory, and the
//! program's own.
//!
//! The first are the tests that run everything in their own process: the kernel crate's, the runtime's
//! on both drivers and in the simulator, and the server's as a library. The others drive the real
//! program, on both drivers; it is built with the C library's allocator, because the sanitizer watches
//! no other. What it finds in the program it writes into a folder, which has to be empty at the end: a
//! test may have expected that its server ends. The compiler is the usual one, told to take an unstable
//! flag; the standard library isn't instrumented, which is enough to see what this code does to the heap.

use crate::build::{instrumented_cargo, metadata};
use crate::skip::skip;
use anyhow::{Context, Result, bail, ensure};
use std::path::Path;
use std::process::Command;

/// Run the tests of what touches memory, and of the program itself, under AddressSanitizer
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only tests whose path has this in it
    filter: Option<String>,
}

/// What the sanitizer does. Tests of what is leaked on purpose would be told of. And memory that was
/// freed is kept from being used again up to a bound: with the usual one (256 MiB) a server that gives
/// everything back would seem to grow, and tests of that say so.
const SANITIZER: &str = "detect_leaks=0:quarantine_size_mb=1:thread_local_quarantine_size_kb=64";

/// The packages with their tests, and what else cargo is told. Tests that count allocations bring an
/// allocator along, and are left out for that.
const SUITES: [(&str, &[&str]); 4] = [
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
    (
        "ringway",
        &["--features", "system-allocator", "--test", "it"],
    ),
];

/// What of the program's tests can't hold under the sanitizer, and why. Each leaves out what has this in
/// its path.
const LEFT_OUT: &[(&str, &str)] = &[
    (
        "too_little_memory",
        "it limits the address space, of which the sanitizer takes terabytes",
    ),
    (
        "clock_jumps",
        "its library is loaded ahead of the sanitizer's",
    ),
    (
        "a_flood_of_wrong_passwords",
        "checking a password takes seconds",
    ),
    (
        "made_up_paths_take_no_memory",
        "the sanitizer's allocator keeps more than the 8 MiB that it grants",
    ),
    (
        "reset_storms",
        "the sanitizer's allocator keeps more than the 8 MiB that it grants",
    ),
    (
        "restarts_under_load",
        "the program starts too slowly for fifty restarts in a minute",
    ),
];

/// Builds in a folder of its own, and runs each suite.
pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = metadata()?.target_directory.join("asan");
    let reports = tempfile::tempdir().context("cannot make a temporary folder")?;
    for (package, tests) in SUITES {
        let mut command = sanitized_cargo(reports.path(), &folder)?;
        command.args(["test", "--package", package]).args(tests);
        command.arg("--").args(&options.filter);
        if package == "ringway" {
            for (name, reason) in LEFT_OUT {
                skip(name, reason);
                command.args(["--skip", name]);
            }
        }
        let status = command.status().context("cannot run cargo test")?;
        expect_none(reports.path())?;
        ensure!(status.success(), "{package}: {status}");
    }
    Ok(())
}

/// Shows what the sanitizer wrote into this folder.
///
/// # Errors
/// When there is something.
fn expect_none(reports: &Path) -> Result<()> {
    let mut count = 0;
    for entry in std::fs::read_dir(reports).context("cannot look for reports")? {
        let path = entry.context("cannot look for reports")?.path();
        let report = std::fs::read(&path).with_context(|| path.display().to_string())?;
        println!("{}", String::from_utf8_lossy(&report));
        count += 1;
    }
    match count {
        0 => Ok(()),
        _ => bail!("the sanitizer has found something; its reports: {count}"),
    }
}

/// Has cargo, and a cargo that a test runs, build with the sanitizer; and what they run report there.
fn sanitized_cargo(reports: &Path, folder: &Path) -> Result<Command> {
    let mut command = instrumented_cargo("-Zsanitizer=address", folder)?;
    let log_path = reports.join("report");
    command.env(
        "ASAN_OPTIONS",
        format!("{SANITIZER}:log_path={}", log_path.display()),
    );
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::root;

    /// A test that was renamed would be run again, and one that is gone explained for ever.
    #[test]
    fn what_is_left_out_is_a_test() {
        let folder = root().join("crates/ringway/tests/it");
        let mut sources = String::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|it| it == "rs") {
                sources += &std::fs::read_to_string(path).unwrap();
            }
        }
        for (name, _) in LEFT_OUT {
            assert!(sources.contains(&format!("fn {name}(")), "{name}");
        }
    }

    #[test]
    fn a_report_is_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        assert!(expect_none(folder.path()).is_ok());
        std::fs::write(folder.path().join("report.1"), "ERROR: AddressSanitizer").unwrap();
        let problem = expect_none(folder.path()).unwrap_err();
        assert!(problem.to_string().ends_with("reports: 1"), "{problem}");
    }
}
