//! Exact behaviour on the wire, written down as scripts of `varnishtest`: the client and the server of
//! each are varnishtest's, and the proxy between them is the program under test.
//!
//! The scripts are in `vtc/`. They get the proxy's address as `${ringway}`, and as `${upstream}` the
//! socket where their server has to listen.

use std::process::Command;

use crate::peers;
use crate::server::{Io, PATIENCE, on_both_drivers};
use crate::upstream;

on_both_drivers!(
    pipelining,
    early_answer,
    continue_,
    no_leave,
    interim,
    chunks,
    old_client,
    no_content,
    upgrade,
    refused_upgrade,
    abort,
    reuse,
);

/// Runs one script against a proxy of its own.
#[track_caller]
fn run(io: Io, name: &str) {
    if !peers::has("varnishtest") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s1.socket");
    let server = format!("unix:{}", socket.display());
    let keys = "failures = 0\nretries = 0";
    let (command, _folder) = upstream::command(io, 1, &upstream::config(&[server], keys));
    let proxy = crate::server::Server::start(command);
    let script = format!("{}/tests/it/vtc/{name}.vtc", env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(peers::find("varnishtest").unwrap());
    let address = proxy.address();
    command.arg(format!("-Dringway={} {}", address.ip(), address.port()));
    command.arg(format!("-Dupstream={}", socket.display()));
    // Where it keeps its own files, and for how long it waits at most.
    command.args(["-t", "20", "-n", "1"]).arg(script);
    command.env("TMPDIR", folder.path());
    let output = peers::run(&mut command, 2 * PATIENCE);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", proxy.errors());
    proxy.stop();
}

/// A test for each script.
macro_rules! scripts {
    ($($name:ident = $script:literal),+ $(,)?) => {
        $(fn $name(io: Io) { run(io, $script); })+

        /// A script that nobody runs says nothing.
        #[test]
        fn every_script_is_run() {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/vtc");
            let mut found: Vec<String> = std::fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            found.sort();
            let mut known = [$(concat!($script, ".vtc")),+];
            known.sort_unstable();
            assert_eq!(found, known);
        }
    };
}

scripts!(
    pipelining = "pipelining",
    early_answer = "early_answer",
    continue_ = "continue",
    no_leave = "no_leave",
    interim = "interim",
    chunks = "chunks",
    old_client = "old_client",
    no_content = "no_content",
    upgrade = "upgrade",
    refused_upgrade = "refused_upgrade",
    abort = "abort",
    reuse = "reuse",
);
