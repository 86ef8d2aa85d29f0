//! System calls denied to the program that it can't do without: it says which, and who most likely
//! denies them. (What takes the place of others is in `transfer_denied`.)

use crate::peers;
use crate::server::{Ended, Io, Server, command, eventually, on_both_drivers, run_by};
use crate::tree::Tree;

on_both_drivers!(a_denied_timer_is_named);

const WHY: &str = "most likely the container's seccomp profile";

/// A server of this tree without these calls, or how it has ended.
fn start_without(io: Io, calls: &str, tree: &Tree) -> Result<Server, Ended> {
    let serve = command(io, &tree.root(), &[]);
    Server::try_start(run_by(peers::refuse_calls(), &[calls], &serve))
}

/// It was told as one of io_uring's calls, or not at all.
fn a_denied_timer_is_named(io: Io) {
    let Err(ended) = start_without(io, "timerfd_create", &Tree::new()) else {
        panic!("no driver can do without");
    };
    let expect = format!("can't run: timerfd_create: EPERM, {WHY}");
    assert!(ended.stderr.contains(&expect), "{}", ended.stderr);
    assert_eq!(ended.code, Some(1));
}

/// It was told as a want of descriptors.
#[test]
fn a_denied_accept_is_told_as_what_it_is() {
    let Ok(server) = start_without(Io::Epoll, "accept4", &Tree::new()) else {
        panic!("it can start");
    };
    let _connection = server.connect();
    let expect = format!("accept: EPERM, {WHY}");
    eventually("why it doesn't accept is told", || {
        server.errors().contains(&expect).then_some(())
    });
}

/// Every file was told as one that can't be read, as if something were wrong with it.
#[test]
fn a_denied_open_is_told_with_its_cause() {
    let tree = Tree::new();
    tree.write("file", b"a");
    let Ok(server) = start_without(Io::Epoll, "openat2", &tree) else {
        panic!("it can start");
    };
    assert_eq!(server.get("/file").status, 403);
    let expect = format!("{WHY} refuses openat2");
    eventually("why it can't be read is told", || {
        server.errors().contains(&expect).then_some(())
    });
}
