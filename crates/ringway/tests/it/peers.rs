//! What the tests need beside the program: other programs, rights, the kernel's features.
//!
//! What isn't here isn't installed or changed: the test says so and is counted as skipped.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use crate::server::within;

/// Says that this test can't run here. It has to be the last thing that the test does.
pub(crate) fn skip(reason: &str) {
    let thread = std::thread::current();
    let line = format!("SKIP {}: {reason}", thread.name().unwrap_or("it"));
    eprintln!("{line}");
    // The harness swallows what a passing test prints; `cargo xtask test` reads this file.
    let Some(path) = std::env::var_os("RINGWAY_SKIP_LOG") else {
        return;
    };
    let log = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path);
    log.and_then(|mut log| writeln!(log, "{line}")).unwrap();
}

/// Whether `program` is installed; if not, the test is skipped.
pub(crate) fn has(program: &str) -> bool {
    let found = find(program).is_some();
    if !found {
        skip(&format!("{program} isn't installed"));
    }
    found
}

/// Where `program` is on the path, which for other users than root lacks where nginx is.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// A browser without a screen, which keeps what it keeps in `folder`; if none is installed, the test
/// is skipped.
pub(crate) fn browser(folder: &Path) -> Option<Command> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let Some(program) = names.into_iter().find_map(find) else {
        skip("chromium isn't installed");
        return None;
    };
    let mut command = Command::new(program);
    command.args(["--headless", "--no-sandbox", "--disable-gpu"]);
    command.args(["--disable-dev-shm-usage", "--no-first-run"]);
    command.arg("--disable-background-networking");
    let profile = folder.join("profile");
    command.arg(format!("--user-data-dir={}", profile.display()));
    Some(command)
}

/// Whether this is root; if not, the test is skipped.
pub(crate) fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skip("needs root");
    }
    root
}

/// Runs a peer to its end, or kills it.
pub(crate) fn run(command: &mut Command, time: Duration) -> Output {
    let piped = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = piped
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let pid = rustix::process::Pid::from_child(&child);
    let output = std::thread::spawn(move || child.wait_with_output().unwrap());
    if within(time, || output.is_finished().then_some(())).is_none() {
        _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        let output = output.join().unwrap();
        panic!("{command:?} took longer than {time:?}: {output:?}");
    }
    output.join().unwrap()
}

/// A program that runs another one without some system calls: `refuse_calls io_uring,splice
/// COMMAND...`; without a command it tries to make a ring. Built with the C compiler that Rust links with.
pub(crate) fn refuse_calls() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        // Where cargo cleans up. Another run at the same time may need it as well: it appears whole.
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/refuse_calls.c");
        let (new, program) = (
            folder.join(format!("refuse_calls.{}", std::process::id())),
            folder.join("refuse_calls"),
        );
        let mut compiler = Command::new("cc");
        compiler
            .args(["-Wall", "-Werror", "-o"])
            .arg(&new)
            .arg(&source);
        let output = run(&mut compiler, Duration::from_secs(60));
        assert!(output.status.success(), "{output:?}");
        std::fs::rename(new, &program).unwrap();
        program
    })
}

/// Why the kernel gives no ring, or none that is good enough.
pub(crate) fn io_uring_refused() -> Option<String> {
    let output = run(&mut Command::new(refuse_calls()), Duration::from_secs(10));
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Some(format!("no io_uring here: {}", why.trim()));
    }
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let major: u32 = release.split('.').next().unwrap().parse().unwrap();
    (major < 6).then(|| format!("io_uring of Linux {} is too old", release.trim()))
}
