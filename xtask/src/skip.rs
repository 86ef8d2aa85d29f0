//! What could not run here, and why: one `SKIP name: reason` line each.
//!
//! The harness of Rust's tests swallows what a passing test prints. So `cargo xtask test` names a
//! file in the environment variable `RINGWAY_SKIP_LOG`, tests append their line to it, and the
//! lines are printed and counted at the end.

use std::fs::OpenOptions;
use std::io::Write;

/// Names the file that takes the lines.
pub(crate) const LOG_VARIABLE: &str = "RINGWAY_SKIP_LOG";

/// Says that `name` does not run here, on standard output and in the log where there is one.
pub(crate) fn skip(name: &str, reason: &str) {
    let line = format!("SKIP {name}: {reason}");
    println!("{line}");
    let Some(path) = std::env::var_os(LOG_VARIABLE) else {
        return;
    };
    let log = OpenOptions::new().append(true).create(true).open(path);
    if let Err(error) = log.and_then(|mut log| writeln!(log, "{line}")) {
        eprintln!("cannot write to the file that {LOG_VARIABLE} names: {error}");
    }
}
