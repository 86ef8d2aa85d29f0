//! Large files by every way there is, asked for with the hidden flag `--transfer`.

use crate::client::request;
use crate::server::{Io, Server, on_every_driver};
use crate::slowness::thin_client;
use crate::tree::{Tree, content};

on_every_driver!(
    every_method_serves_the_same_bytes,
    unknown_methods_are_refused,
    slow_readers_keep_nobody_from_zero_copy_sends,
);

const METHODS: [&str; 10] = [
    "auto",
    "naive-copy",
    "copy",
    "gathered",
    "sendfile",
    "splice",
    "mmap",
    "msg-zerocopy",
    "send-zc",
    "registered",
];

fn every_method_serves_the_same_bytes(io: Io) {
    let tree = Tree::new();
    // Too large for the cache, and no multiple of anything.
    let whole = content(9, (5 << 20) + 4321);
    tree.write("large.bin", &whole);
    for method in METHODS {
        let server = Server::serve(io, &tree.root(), &["--transfer", method]);
        let mut client = server.connect();
        // On one connection, so that what a transfer leaves behind shows in the next.
        for _ in 0..3 {
            let response = client.get("/large.bin");
            assert!(response.body == whole, "{method}");
        }
        let range = "Range: bytes=1234567-4000000";
        let response = client.ask(&request("GET", "/large.bin", &[range]));
        assert!(response.body == whole[1_234_567..=4_000_000], "{method}");
        drop(client);
        let ended = server.stop();
        assert_eq!(ended.code, Some(0), "{method}: {ended:?}");
    }
}

/// A few slow clients had all the memory that zero-copy sends are made from, and whoever came later was
/// cut when `file_timeout` was over.
fn slow_readers_keep_nobody_from_zero_copy_sends(io: Io) {
    let tree = Tree::new();
    let whole = content(9, (1 << 20) + 654_321);
    tree.write("large.bin", &whole);
    for method in ["send-zc", "msg-zerocopy"] {
        let flags = ["--transfer", method, "--workers", "1"];
        let flags = [&flags[..], &["--file-timeout", "1s"]].concat();
        let server = Server::serve(io, &tree.root(), &flags);
        let mut clients: Vec<_> = (0..12).map(|_| thin_client(&server)).collect();
        for client in &mut clients {
            client.send(request("GET", "/large.bin", &[]));
            assert_eq!(client.head().status, 200);
        }
        // Each has something of the body before anybody takes more.
        let mut bodies: Vec<_> = clients.iter_mut().map(|one| one.take(1000)).collect();
        // Those who had the memory, and those who had to do without.
        let last = clients.len() - 1;
        for index in [0, last] {
            let left = whole.len() - bodies[index].len();
            bodies[index].extend(clients[index].take(left));
            assert!(bodies[index] == whole, "{method}");
        }
        drop(clients);
        server.stop();
    }
}

fn unknown_methods_are_refused(io: Io) {
    let tree = Tree::new();
    let command = crate::server::command(io, &tree.root(), &["--transfer", "magic"]);
    let ended = Server::try_start(command).err().expect("no such method");
    assert_eq!(ended.code, Some(64));
    assert!(ended.stderr.contains("one of auto, "), "{}", ended.stderr);
}
