//! System calls denied to the program, one at a time and together: what it sends goes another way,
//! byte for byte the same, and the log, the status and the metrics say which.

use crate::client::request;
use crate::peers;
use crate::server::{Io, Server, command, eventually, on_both_drivers, run_by};
use crate::steering::ask;
use crate::tree::{Tree, content};
use serde_json::{Map, Value, json};
use std::path::Path;

on_both_drivers!(
    without_sendfile,
    without_splice,
    without_either,
    without_zero_copy_sends,
    without_looks_into_memory,
    with_everything,
);

/// Checks files, large and small, and parts of them, of a server that is denied `calls` and told to
/// send by `method`; that its log and its status tell just `told`, pairs of what is refused and what takes
/// its place; and that everything went by `used`.
fn check(io: Io, calls: &str, method: &str, told: &[(&str, &str)], used: &str) {
    let tree = Tree::new();
    let sizes = [20_000, 300_000, (3 << 20) + 4321];
    let bodies = sizes.map(|size| content(size as u64, size));
    for (size, body) in std::iter::zip(sizes, &bodies) {
        tree.write(format!("{size}.bin"), body);
    }
    let socket = tree.outside().join("admin.sock");
    let admin = format!("unix:{}", socket.display());
    let flags = [
        "--transfer",
        method,
        "--cache-bytes",
        "0",
        "--admin",
        &admin,
    ];
    let serve = command(io, &tree.root(), &flags);
    let server = Server::start(run_by(peers::refuse_calls(), &[calls], &serve));
    let mut client = server.connect();
    for _ in 0..2 {
        for (size, body) in std::iter::zip(sizes, &bodies) {
            let target = format!("/{size}.bin");
            assert!(client.get(&target).body == *body, "{target}");
            let range = request("GET", &target, &["Range: bytes=1001-18000"]);
            assert!(client.ask(&range).body == body[1001..=18_000], "{target}");
        }
    }
    let event = |(method, instead): &(&str, &str)| format!("method={method} instead={instead}");
    eventually("what takes the place of what is refused is told", || {
        let errors = server.errors();
        told.iter()
            .all(|pair| errors.contains(&event(pair)))
            .then_some(())
    });
    let sent = 2 * (sizes.iter().sum::<usize>() + sizes.len() * 17_000);
    check_told(&socket, method, told, (used, sent));
    let errors = server.stop().stderr;
    for pair in told {
        // Once for the process, not for each worker or request.
        assert_eq!(errors.matches(&event(pair)).count(), 1, "{errors}");
    }
    let count = errors.matches("seccomp profile").count();
    let of_driver = usize::from(errors.contains("io_uring_setup"));
    assert_eq!(count, told.len() + of_driver, "{errors}");
}

/// Checks the admin listener's status and metrics: what is refused, and what all bytes went by.
fn check_told(
    socket: &Path,
    method: &str,
    told: &[(&str, &str)],
    (used, sent_bytes): (&str, usize),
) {
    // The client has the last bytes before they are counted.
    let status = eventually("all bytes are counted", || {
        let status: Value = serde_json::from_str(&ask(socket, "/status")).unwrap();
        (status["counters"]["file_bytes"][used] == sent_bytes).then_some(status)
    });
    let refused: Map<_, _> = told
        .iter()
        .map(|(method, instead)| ((*method).to_owned(), json!(instead)))
        .collect();
    let transfer = json!({ "method": method, "in_use": [used], "refused": refused });
    assert_eq!(status["transfer"], transfer);
    let metrics = ask(socket, "/metrics");
    let sent = format!("ringway_file_bytes_total{{method=\"{used}\"}} {sent_bytes}\n");
    assert!(metrics.contains(&sent), "no {sent} in {metrics}");
    for (method, instead) in told {
        let labels = format!("method=\"{method}\",instead=\"{instead}\"");
        let line = format!("ringway_transfer_refused{{{labels}}} 1\n");
        assert!(metrics.contains(&line), "no {line} in {metrics}");
    }
    let count = metrics.matches("ringway_transfer_refused{").count();
    assert_eq!(count, told.len(), "{metrics}");
}

fn with_everything(io: Io) {
    check(io, "none", "auto", &[], "sendfile");
}

fn without_sendfile(io: Io) {
    check(io, "sendfile", "auto", &[("sendfile", "splice")], "splice");
}

fn without_splice(io: Io) {
    // What nobody wants isn't missed.
    check(io, "splice", "auto", &[], "sendfile");
    check(io, "splice", "splice", &[("splice", "copy")], "copy");
}

fn without_either(io: Io) {
    check(
        io,
        "sendfile,splice",
        "auto",
        &[("sendfile", "copy"), ("splice", "copy")],
        "copy",
    );
}

fn without_zero_copy_sends(io: Io) {
    let told = [("msg-zerocopy", "copy")];
    check(io, "zerocopy", "msg-zerocopy", &told, "copy");
}

/// Where it can't be asked what is in memory, it is read ahead.
fn without_looks_into_memory(io: Io) {
    check(io, "cachestat", "auto", &[], "sendfile");
    check(io, "preadv2", "auto", &[], "sendfile");
    check(io, "cachestat,preadv2", "auto", &[], "sendfile");
    check(io, "preadv2", "copy", &[], "copy");
}

/// Both at once: the driver and the way to send.
#[test]
fn without_io_uring_and_more() {
    let told = [("sendfile", "splice")];
    check(Io::Refused, "sendfile", "auto", &told, "splice");
    check(
        Io::Refused,
        "sendfile,splice",
        "auto",
        &[("sendfile", "copy"), ("splice", "copy")],
        "copy",
    );
}
