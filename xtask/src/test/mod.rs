//! `cargo xtask test`: every test of the workspace, with the peers they talk to.
//!
//! The last lines are the tests that could not run here, their number, and the totals. A test that
//! skips itself has passed as far as Rust's harness knows: it is taken off again, so that `passed`
//! never counts what did not run.

mod peers;

use crate::build::cargo;
use crate::icount::guard::{self, Verdict};
use crate::skip::LOG_VARIABLE;
use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

/// Run every test; what cannot run here is named and counted
#[derive(clap::Args)]
pub(crate) struct Options {
    /// First install the programs that tests talk to, from Debian's packages (needs root)
    #[arg(long)]
    install: bool,
}

/// Installs when asked, documents, runs `cargo test --workspace` and the guard of the hot paths, and adds
/// up.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.install {
        peers::install()?;
    }
    document()?;
    let log = tempfile::NamedTempFile::new().context("cannot make a temporary file")?;
    let mut child = cargo()
        .args(["test", "--workspace", "--no-fail-fast"])
        .env(LOG_VARIABLE, log.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run cargo test")?;
    let output = child.stdout.take().context("cargo test has no output")?;
    let mut totals = Totals::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("cannot read what cargo test prints")?;
        let line = String::from_utf8_lossy(&line);
        // A reader that went away (`| head`) is no reason to stop testing.
        _ = writeln!(std::io::stdout(), "{line}");
        totals.add(&line);
    }
    let status = child.wait().context("cannot wait for cargo test")?;
    if !status.success() {
        totals.failed = totals.failed.max(1); // it did not build, or a test ended the process
    }
    let skips = std::fs::read_to_string(log.path()).context("cannot read the list of skips")?;
    let is_told = |line: &&str| !line.trim().is_empty();
    let mut skips: Vec<String> = skips.lines().filter(is_told).map(str::to_owned).collect();
    println!("\ncounting the instructions of the hot paths");
    totals.add_guard(guard::check(), &mut skips);
    totals.report(&skips);
    ensure!(totals.passed > 0, "no test ran");
    if totals.failed > 0 {
        bail!("{} failed ({status})", totals.failed);
    }
    Ok(())
}

/// Builds the workspace's documentation: every link in it has to lead somewhere, and a test serves
/// it as a real site.
fn document() -> Result<()> {
    let status = cargo()
        .args(["doc", "--workspace", "--no-deps", "--quiet"])
        .env("RUSTDOCFLAGS", "-D warnings")
        .stdin(Stdio::null())
        .status()
        .context("cannot run cargo doc")?;
    ensure!(status.success(), "the documentation has faults");
    Ok(())
}

/// What the harnesses' `test result:` lines add up to.
#[derive(Debug, Default, PartialEq)]
struct Totals {
    passed: usize,
    failed: usize,
    ignored: usize,
}

impl Totals {
    fn add(&mut self, line: &str) {
        let Some((_, counts)) = line.split_once("test result:") else {
            return;
        };
        for count in counts.split([';', '.']) {
            let mut words = count.split_whitespace();
            let (Some(number), Some(what)) = (words.next(), words.next()) else {
                continue;
            };
            let number = number.parse().unwrap_or(0);
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }

    /// The hot paths' instructions are one test more.
    fn add_guard(&mut self, verdict: Result<Verdict>, skips: &mut Vec<String>) {
        let told = match verdict {
            Ok(Verdict::Held) => {
                self.passed += 1;
                return;
            }
            Ok(Verdict::Skipped(reason)) => {
                // A skipped test is one of those that passed, see `report`.
                self.passed += 1;
                return skips.push(format!("SKIP icount --check: {reason}"));
            }
            Ok(Verdict::Broken(lines)) => lines,
            Err(problem) => vec![format!("icount --check: {problem:#}")],
        };
        self.failed += 1;
        told.iter().for_each(|line| println!("FAILED {line}"));
    }

    fn report(&self, skips: &[String]) {
        println!();
        for skip in skips {
            println!("{skip}");
        }
        if self.ignored > 0 {
            println!(
                "SKIP documentation: {} examples marked as ignored",
                self.ignored
            );
        }
        let skipped = skips.len() + self.ignored;
        let passed = self.passed.saturating_sub(skips.len());
        println!("skipped: {skipped}");
        println!("{passed} passed, {} failed, {skipped} skipped", self.failed);
    }
}

#[cfg(test)]
mod tests {
    use super::{Totals, Verdict};

    fn check(lines: &[&str], expect: [usize; 3]) {
        let mut totals = Totals::default();
        lines.iter().for_each(|line| totals.add(line));
        let [passed, failed, ignored] = expect;
        assert_eq!(
            totals,
            Totals {
                passed,
                failed,
                ignored
            }
        );
    }

    #[test]
    fn totals_are_the_sum_over_all_harnesses() {
        check(
            &[
                "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; \
                 finished in 0.31s",
                "test result: FAILED. 2 passed; 4 failed; 0 ignored; 0 measured; 0 filtered out",
            ],
            [14, 4, 1],
        );
    }

    #[test]
    fn the_guard_counts_as_one_test() {
        let count = |verdict| {
            let (mut totals, mut skips) = (Totals::default(), Vec::new());
            totals.add_guard(verdict, &mut skips);
            (totals.passed, totals.failed, skips)
        };
        assert_eq!(count(Ok(Verdict::Held)), (1, 0, vec![]));
        assert_eq!(
            count(Ok(Verdict::Broken(vec!["x".to_owned()]))),
            (0, 1, vec![])
        );
        assert_eq!(count(Err(anyhow::anyhow!("no build"))), (0, 1, vec![]));
        let skipped = count(Ok(Verdict::Skipped("no qemu".to_owned())));
        assert_eq!(
            skipped,
            (1, 0, vec!["SKIP icount --check: no qemu".to_owned()])
        );
    }

    #[test]
    fn other_lines_do_not_count() {
        check(
            &["running 7 tests", "test a::b ... ok", "7 passed"],
            [0, 0, 0],
        );
    }
}
