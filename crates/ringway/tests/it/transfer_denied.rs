//! System calls denied to the program, one at a time and together: what it sends goes another way,
//! byte for byte the same, and the log says which.

use crate::client::request;
use crate::peers;
use crate::server::{Io, Server, command, eventually, on_both_drivers, run_by};
use crate::tree::{Tree, content};

on_both_drivers!(
    without_sendfile,
    without_splice,
    without_either,
    without_zero_copy_sends,
);

/// Checks files, large and small, and parts of them, of a server that is denied `calls` and told to
/// send by `method`; and that it tells just `told`, pairs of what is refused and what takes its place.
fn check(io: Io, calls: &str, method: &str, told: &[(&str, &str)]) {
    let tree = Tree::new();
    let sizes = [20_000, 300_000, (3 << 20) + 4321];
    let bodies = sizes.map(|size| content(size as u64, size));
    for (size, body) in std::iter::zip(sizes, &bodies) {
        tree.write(format!("{size}.bin"), body);
    }
    let flags = ["--transfer", method, "--cache-bytes", "0"];
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
    let errors = server.stop().stderr;
    for pair in told {
        // Once for the process, not for each worker or request.
        assert_eq!(errors.matches(&event(pair)).count(), 1, "{errors}");
    }
    let count = errors.matches("seccomp profile").count();
    let of_driver = usize::from(errors.contains("io_uring_setup"));
    assert_eq!(count, told.len() + of_driver, "{errors}");
}

fn without_sendfile(io: Io) {
    check(io, "sendfile", "auto", &[("sendfile", "splice")]);
}

fn without_splice(io: Io) {
    // What nobody wants isn't missed.
    check(io, "splice", "auto", &[]);
    check(io, "splice", "splice", &[("splice", "copy")]);
}

fn without_either(io: Io) {
    check(
        io,
        "sendfile,splice",
        "auto",
        &[("sendfile", "copy"), ("splice", "copy")],
    );
}

fn without_zero_copy_sends(io: Io) {
    check(io, "zerocopy", "msg-zerocopy", &[("msg-zerocopy", "copy")]);
}

/// Both at once: the driver and the way to send.
#[test]
fn without_io_uring_and_more() {
    check(Io::Refused, "sendfile", "auto", &[("sendfile", "splice")]);
    check(
        Io::Refused,
        "sendfile,splice",
        "auto",
        &[("sendfile", "copy"), ("splice", "copy")],
    );
}
