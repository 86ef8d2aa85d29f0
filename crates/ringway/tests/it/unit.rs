//! `docs/ringway.service` is a unit that systemd takes, and lets the server have what it needs.

use crate::peers;
use crate::server::PATIENCE;
use std::path::Path;
use std::process::Command;

fn unit() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/ringway.service");
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn systemd_takes_it() {
    if !peers::has("systemd-analyze") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("ringway.service");
    // It looks for the program.
    let text = unit().replace("/usr/local/bin/ringway", env!("CARGO_BIN_EXE_ringway"));
    std::fs::write(&file, text).unwrap();
    let mut verify = Command::new("systemd-analyze");
    let output = peers::run(verify.args(["verify", "--man=no"]).arg(&file), PATIENCE);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    // What it doesn't know it only remarks on.
    assert!(!said.contains("ringway.service"), "{said}");
}

/// Its calls are those of a set of systemd's, and the rings' are in that.
#[test]
fn io_uring_is_let_in() {
    if !peers::has("systemd-analyze") {
        return;
    }
    assert!(unit().contains("\nSystemCallFilter=@system-service\n"));
    let calls = |set: &str| {
        let mut list = Command::new("systemd-analyze");
        let output = peers::run(list.args(["syscall-filter", set]), PATIENCE);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let service = calls("@system-service");
    let has = |text: &str, word: &str| text.lines().any(|line| line.trim() == word);
    for word in ["@aio", "@network-io", "@file-system", "sendfile", "splice"] {
        assert!(has(&service, word), "{word}");
    }
    let rings = calls("@aio");
    for call in ["io_uring_setup", "io_uring_enter", "io_uring_register"] {
        assert!(has(&rings, call), "{call}");
    }
}
