//! Large files by every way there is, asked for with the hidden flag `--transfer`.

use crate::client::request;
use crate::server::{Io, Server, on_every_driver};
use crate::tree::{Tree, content};

on_every_driver!(
    every_method_serves_the_same_bytes,
    unknown_methods_are_refused
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

fn unknown_methods_are_refused(io: Io) {
    let tree = Tree::new();
    let command = crate::server::command(io, &tree.root(), &["--transfer", "magic"]);
    let ended = Server::try_start(command).err().expect("no such method");
    assert_eq!(ended.code, Some(64));
    assert!(ended.stderr.contains("one of auto, "), "{}", ended.stderr);
}
