//! The programs that tests talk to and measure with, as Debian packages.

use anyhow::{Result, bail};
use std::process::{Command, Stdio};

/// Without these, whole parts of the tests do not run: CI does not pass when they cannot be had.
const REQUIRED: &[&str] = &[
    "ca-certificates",
    "curl",
    "iproute2",
    "nginx",
    "procps",
    "wget",
];

/// Each of these serves a few tests or a benchmark, which say so when it is missing.
const OPTIONAL: &[&str] = &[
    "aria2",
    "busybox-static",
    "chromium",
    "faketime",
    "haproxy",
    "nftables",
    "nghttp2-client",
    "nodejs",
    "python3",
    "qemu-system-x86",
    "slowhttptest",
    "strace",
    "valgrind",
    "varnish",
    "wrk",
];

/// Installs what is missing. What cannot be had is said, and fails only under `CI=true`.
pub(super) fn install() -> Result<()> {
    let missing: Vec<&str> = REQUIRED
        .iter()
        .chain(OPTIONAL)
        .copied()
        .filter(|package| !installed(package))
        .collect();
    if missing.is_empty() {
        println!("every peer is installed");
        return Ok(());
    }
    let names = missing.join(" ");
    if !rustix::process::geteuid().is_root() {
        println!(
            "not root, so nothing is installed; tests skip where one of these is missing: {names}"
        );
        return Ok(());
    }
    if !answers("apt-get", &["--version"]) {
        println!("no apt-get here; tests skip where one of these is missing: {names}");
        return Ok(());
    }
    println!("installing {names}");
    if !apt(&["update"]) {
        println!("apt-get update failed; going on with the package lists that are here");
    }
    if !apt_install(&missing) {
        // One package that this release does not have must not keep the others away.
        for package in &missing {
            apt_install(&[package]);
        }
    }
    let absent: Vec<&str> = missing
        .into_iter()
        .filter(|package| !installed(package))
        .collect();
    if absent.is_empty() {
        return Ok(());
    }
    println!(
        "could not install, so tests that need them skip: {}",
        absent.join(" ")
    );
    let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    if in_ci && absent.iter().any(|package| REQUIRED.contains(package)) {
        bail!("CI needs each of: {}", REQUIRED.join(" "));
    }
    Ok(())
}

fn installed(package: &str) -> bool {
    let query = Command::new("dpkg-query")
        .args(["--show", "--showformat=${db:Status-Status}", package])
        .stderr(Stdio::null())
        .output();
    query.is_ok_and(|output| output.stdout == b"installed")
}

fn answers(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn apt_install(packages: &[&str]) -> bool {
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(packages);
    apt(&arguments)
}

fn apt(arguments: &[&str]) -> bool {
    let mut command = Command::new("apt-get");
    command
        .args(["--quiet", "--option", "DPkg::Lock::Timeout=120"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
