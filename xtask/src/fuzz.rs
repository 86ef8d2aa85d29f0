//! `cargo xtask fuzz`: the fuzz targets in `fuzz/`, one after the other, for a while each.
//!
//! It needs neither cargo-fuzz nor another toolchain: the compiler is the usual one, told to take the
//! flags that cargo-fuzz gives it, and libFuzzer comes with the crate `libfuzzer-sys`, which a C++
//! compiler builds. What was found to be of interest is kept beside the build for the next run; the
//! corpora in `fuzz/` are read, and only a person adds to them.

use crate::build::{INSTRUMENTED_TARGET, instrumented_cargo, metadata, root};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Run the fuzz targets for a while, and fail when one finds something
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Which targets; all of them unless some are named
    targets: Vec<String>,

    /// How long each
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    seconds: u64,
}

/// What libFuzzer is told by: counters of edges, and what is compared with what. As cargo-fuzz has it,
/// without a sanitizer: nothing that is fuzzed has unsafe code of ours.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions=yes -Coverflow-checks=yes \
    -Ccodegen-units=1";

/// An input that takes longer than so many seconds, or more MiB, is a finding.
const BOUNDS: [&str; 2] = ["-timeout=10", "-rss_limit_mb=2048"];

/// Builds in a folder of its own, and runs each target.
pub(crate) fn run(options: &Options) -> Result<()> {
    let known = targets()?;
    for name in &options.targets {
        ensure!(
            known.contains(name),
            "no target {name}; there are {}",
            known.join(", ")
        );
    }
    let chosen = match options.targets.is_empty() {
        true => &known,
        false => &options.targets,
    };
    let folder = metadata()?.target_directory.join("fuzz");
    build(&folder)?;
    let mut found = Vec::new();
    for name in chosen {
        if !fuzz(name, options.seconds, &folder)? {
            found.push(name.as_str());
        }
    }
    if !found.is_empty() {
        let (found, inputs) = (found.join(", "), folder.join("found"));
        bail!(
            "{found}: the inputs are in {}; one that is mended goes into fuzz/corpus",
            inputs.display()
        );
    }
    Ok(())
}

/// The names of all targets, in order.
fn targets() -> Result<Vec<String>> {
    let mut names = Vec::new();
    let folder = root().join("fuzz/fuzz_targets");
    for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = PathBuf::from(entry?.file_name());
        names.extend(
            path.file_stem()
                .map(|name| name.to_string_lossy().into_owned()),
        );
    }
    names.sort();
    Ok(names)
}

fn build(folder: &Path) -> Result<()> {
    let mut build = instrumented_cargo(FLAGS, folder)?;
    build
        .args(["build", "--release", "--locked", "--bins"])
        .args(["--manifest-path", "fuzz/Cargo.toml"]);
    let status = build.status().context("cannot run cargo build")?;
    ensure!(status.success(), "cargo build failed");
    Ok(())
}

/// Runs a target, which tells what it did; whether it found nothing.
fn fuzz(name: &str, seconds: u64, folder: &Path) -> Result<bool> {
    let (work, found) = (folder.join("corpus").join(name), folder.join("found"));
    for folder in [&work, &found] {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let output = Command::new(folder.join(INSTRUMENTED_TARGET).join("release").join(name))
        .args([&work, &root().join("fuzz/corpus").join(name)])
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/{name}-", found.display()))
        .arg("-print_final_stats=1")
        .args(BOUNDS)
        .output()
        .with_context(|| format!("cannot run the target {name}"))?;
    // Each new input has a line: only the end is of interest.
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let fault = said.find("panicked at").or_else(|| said.find("ERROR: "));
        println!("{}", &said[fault.unwrap_or_default()..]);
        println!("{name}: found something");
        return Ok(false);
    }
    let count = |key: &str| {
        let value = said.lines().find_map(|line| line.strip_prefix(key));
        value.map_or("?", str::trim)
    };
    let (executions, new) = (
        count("stat::number_of_executed_units:"),
        count("stat::new_units_added:"),
    );
    println!("{name}: {executions} executions, {new} new inputs, nothing found");
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_target_has_a_corpus() {
        let targets = targets().unwrap();
        assert!(targets.iter().any(|name| name == "head"), "{targets:?}");
        for name in targets {
            let corpus = root().join("fuzz/corpus").join(&name);
            assert!(corpus.read_dir().unwrap().next().is_some(), "{name}");
        }
    }

    #[test]
    fn a_target_that_is_none_is_refused() {
        let targets = vec!["heads".to_owned()];
        let problem = run(&Options {
            targets,
            seconds: 1,
        })
        .unwrap_err()
        .to_string();
        assert!(
            problem.contains("no target heads; there are body, "),
            "{problem}"
        );
    }
}
