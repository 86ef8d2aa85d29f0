//! Files on a file system that takes its time (FUSE): whoever wants them waits, and nobody else.
//!
//! Every operation that such a file system can hold up is held up in turn, on a server with one
//! worker, while others ask for what is on the disk. A worker that waited would answer nobody.

use std::path::Path;
use std::time::Duration;

use crate::client::{Client, request};
use crate::fuse::{Fuse, Memory, Operation, body_of, mount_point};
use crate::server::{Io, Server, eventually, on_both_drivers};
use crate::tree::{HELLO, Tree, content};

on_both_drivers!(
    below_a_root,
    below_a_root_with_names_remembered,
    as_a_root_of_its_own,
    a_crowd_that_waits,
    by_every_method,
    a_listing,
    one_that_never_answers,
    one_that_stops_in_the_middle,
);

/// Asks for what is on the disk: from memory, open, and never seen before.
#[track_caller]
fn expect_others_served(client: &mut Client, tree: &Tree, round: &str) {
    let name = format!("fresh-{round}.txt");
    tree.write(&name, &name);
    assert_eq!(client.get("/hello.txt").body, HELLO);
    assert_eq!(client.get(&format!("/{name}")).body, name.as_bytes());
    let large = client.get("/photo.jpg");
    assert!(large.body == content(5, 700_000));
    assert_eq!(client.get(&format!("/missing-{round}")).status, 404);
}

/// Holds up each operation once, for a small file and a large one that nobody has asked for before.
fn check_every_operation(fuse: &Fuse, tree: &Tree, slow: &Server, prefix: &str, others: &Server) {
    let operations = [
        Operation::Lookup,
        Operation::GetAttributes,
        Operation::Open,
        Operation::Read,
        Operation::Flush,
    ];
    let mut other = others.connect();
    let mut held_count = 0;
    for operation in operations {
        for kind in ["small", "large"] {
            let round = format!("{kind}-{operation:?}");
            let name = format!("{round}.bin");
            fuse.hold(operation);
            let mut client = slow.connect();
            client.send(request("GET", &format!("{prefix}/{name}"), &[]));
            // Not every operation is needed: with names remembered there may be none to hold.
            let mut is_answered = || client.is_answered_within(Duration::from_millis(5));
            let is_held = eventually("it waits, or is answered", || {
                match (fuse.waiting(), is_answered()) {
                    (0, false) => None,
                    (waiting, _) => Some(waiting > 0),
                }
            });
            held_count += usize::from(is_held);
            expect_others_served(&mut other, tree, &round);
            fuse.release();
            let response = client.response();
            assert_eq!(response.status, 200, "{round}");
            assert!(response.body == body_of(&name).unwrap(), "{round}");
        }
    }
    assert!(held_count >= 4, "only {held_count} were held up");
}

fn tree_with_others() -> Tree {
    let tree = Tree::new();
    tree.write("photo.jpg", content(5, 700_000));
    tree
}

/// A server with one worker, and a file system that is mounted at `far` below its root.
fn serve_far(io: Io, memory: Memory, flags: &[&str]) -> Option<(Tree, Fuse, Server)> {
    let tree = tree_with_others();
    let fuse = Fuse::mount(&mount_point(&tree.root(), "far"), memory)?;
    let server = Server::serve(io, &tree.root(), &[&["--workers", "1"], flags].concat());
    Some((tree, fuse, server))
}

fn check_below(io: Io, memory: Memory) {
    let Some((tree, fuse, server)) = serve_far(io, memory, &[]) else {
        return;
    };
    check_every_operation(&fuse, &tree, &server, "/far", &server);
    server.stop();
}

fn below_a_root(io: Io) {
    check_below(io, Memory::None);
}

/// Then the kernel finds the file in its own cache, and a call that was to fail rather than wait
/// for a name waits for the file to be opened.
fn below_a_root_with_names_remembered(io: Io) {
    check_below(io, Memory::Long);
}

/// Two roots on one worker.
fn serve_beside(io: Io, tree: &Tree, far: &Path, keys: &str) -> Server {
    let file = tree.outside().join("ringway.toml");
    let (near, far) = (tree.root(), far.display());
    let near = near.display();
    let text = format!(
        "workers = 1\n{keys}\n\
         [listen.near]\naddress = \"127.0.0.1:0\"\nfiles = \"near\"\n\
         [listen.far]\naddress = \"127.0.0.1:0\"\nfiles = \"far\"\n\
         [files.near]\nroot = \"{near}\"\n\
         [files.far]\nroot = \"{far}\"\n"
    );
    std::fs::write(&file, text).unwrap();
    let mut run = std::process::Command::new(env!("CARGO_BIN_EXE_ringway"));
    run.args(["run", "--io", io.word(), "--config"]).arg(&file);
    Server::start(run)
}

fn as_a_root_of_its_own(io: Io) {
    let tree = tree_with_others();
    let place = mount_point(tree.outside(), "far");
    let Some(fuse) = Fuse::mount(&place, Memory::Long) else {
        return;
    };
    let server = serve_beside(io, &tree, &place, "");
    let addresses = server.addresses(2);
    let (mut near, mut far) = (Client::connect(addresses[0]), Client::connect(addresses[1]));
    for (operation, kind) in [
        (Operation::Lookup, "small"),
        (Operation::Open, "small"),
        (Operation::Open, "large"),
        (Operation::Read, "small"),
        (Operation::Read, "large"),
        (Operation::Flush, "small"),
    ] {
        let round = format!("{kind}-{operation:?}");
        let name = format!("{round}.bin");
        fuse.hold(operation);
        far.send(request("GET", &format!("/{name}"), &[]));
        fuse.expect_waiting(1);
        expect_others_served(&mut near, &tree, &round);
        fuse.release();
        assert!(far.response().body == body_of(&name).unwrap(), "{round}");
    }
    // Once more, from what is kept.
    for name in ["small-Open.bin", "large-Open.bin"] {
        assert!(far.get(&format!("/{name}")).body == body_of(name).unwrap());
    }
    server.stop();
}

/// More of them than there are threads to wait.
fn a_crowd_that_waits(io: Io) {
    let flags = ["--blocking-threads", "4"];
    let Some((tree, fuse, server)) = serve_far(io, Memory::Long, &flags) else {
        return;
    };
    fuse.hold(Operation::Open);
    let names: Vec<String> = (0..30)
        .map(|number| format!("large-{number}.bin"))
        .collect();
    let mut clients: Vec<Client> = names.iter().map(|_| server.connect()).collect();
    for (client, name) in std::iter::zip(&mut clients, &names) {
        client.send(request("GET", &format!("/far/{name}"), &[]));
    }
    fuse.expect_waiting(4);
    expect_others_served(&mut server.connect(), &tree, "crowd");
    assert_eq!(fuse.waiting(), 4, "no more than there are threads");
    fuse.release();
    for (client, name) in std::iter::zip(&mut clients, &names) {
        assert!(client.response().body == body_of(name).unwrap(), "{name}");
    }
    server.stop();
}

fn by_every_method(io: Io) {
    for method in [
        "naive-copy",
        "sendfile",
        "splice",
        "mmap",
        "msg-zerocopy",
        "send-zc",
        "registered",
    ] {
        let flags = ["--transfer", method];
        let Some((tree, fuse, server)) = serve_far(io, Memory::Long, &flags) else {
            return;
        };
        let name = format!("large-{method}.bin");
        let (mut client, mut other) = (server.connect(), server.connect());
        fuse.hold(Operation::Read);
        client.send(request("GET", &format!("/far/{name}"), &[]));
        fuse.expect_waiting(1);
        expect_others_served(&mut other, &tree, method);
        fuse.release();
        let body = client.response().body;
        assert!(body == body_of(&name).unwrap(), "{method}");
    }
}

/// Of a directory without an end: the work is bounded.
fn a_listing(io: Io) {
    let Some((tree, fuse, server)) =
        serve_far(io, Memory::Long, &["--browse", "--listing-entries", "700"])
    else {
        return;
    };
    fuse.hold(Operation::ReadDirectory);
    let mut client = server.connect();
    client.send(request("GET", "/far/", &["Accept: application/json"]));
    fuse.expect_waiting(1);
    expect_others_served(&mut server.connect(), &tree, "listing");
    fuse.release();
    let body = String::from_utf8(client.response().body).unwrap();
    assert_eq!(body.matches("\"small-").count(), 700, "{body}");
    assert!(body.contains("\"truncated\":true"), "{body}");
    server.stop();
}

fn one_that_never_answers(io: Io) {
    let flags = ["--file-timeout", "200ms"];
    let Some((_tree, fuse, server)) = serve_far(io, Memory::None, &flags) else {
        return;
    };
    let mut client = server.connect();
    assert!(client.get("/far/small-kept.bin").body == body_of("small-kept.bin").unwrap());
    fuse.hold(Operation::Open);
    assert_eq!(client.get("/far/small-new.bin").status, 503);
    // What was right a moment ago still is, as far as anybody knows, though it can't be looked at.
    eventually("it is to be looked at again", || {
        let response = client.get("/far/small-kept.bin");
        assert!(response.body == body_of("small-kept.bin").unwrap());
        (fuse.waiting() > 1).then_some(())
    });
    fuse.release();
    let name = "small-later.bin";
    assert!(client.get(&format!("/far/{name}")).body == body_of(name).unwrap());
    server.stop();
}

fn one_that_stops_in_the_middle(io: Io) {
    let flags = ["--file-timeout", "200ms"];
    let Some((_tree, fuse, server)) = serve_far(io, Memory::None, &flags) else {
        return;
    };
    let name = "large-stuck.bin";
    fuse.hold(Operation::Read);
    let mut client = server.connect();
    client.send(request("GET", &format!("/far/{name}"), &[]));
    assert_eq!(client.head().status, 200);
    assert!(client.expect_cut().len() < body_of(name).unwrap().len());
    fuse.release();
    assert!(server.get(&format!("/far/{name}")).body == body_of(name).unwrap());
    let ended = server.stop();
    assert!(
        ended.stderr.contains("can't be read any further"),
        "{}",
        ended.stderr
    );
}
